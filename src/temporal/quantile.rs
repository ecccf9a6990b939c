//! Quantiles of a multiset that changes value by value.
//! It knows values by their ranks; what a rank stands for is the caller's business.

use super::lanes::pattern;

/// Linear between the neighbours of position q (n - 1).
pub(super) fn quantile(counts: &Fenwick, q: f64, value: impl Fn(usize) -> f64) -> Option<f64> {
    let last = counts.total.checked_sub(1)?;
    let position = q * last as f64;
    let below = (position.floor() as u64).min(last);
    let low = value(counts.rank_at(below));
    let part = position - below as f64;
    if part == 0.0 {
        return Some(low);
    }
    let high = value(counts.rank_at(below + 1));
    // Equal neighbours, infinities too, need no way between them.
    Some(if pattern(low) == pattern(high) { low } else { low * (1.0 - part) + high * part })
}

/// How many values of each rank there are, with prefix sums in logarithmic time: P. M. Fenwick, *A New Data Structure for
/// Cumulative Frequency Tables*, 1994.
pub(super) struct Fenwick {
    sums: Vec<i64>,
    total: u64,
}

impl Fenwick {
    pub(super) fn new(ranks: usize) -> Self {
        Self { sums: vec![0; ranks + 1], total: 0 }
    }

    pub(super) fn add(&mut self, rank: usize, times: i64) {
        self.total = self.total.wrapping_add_signed(times);
        let mut i = rank + 1;
        while i < self.sums.len() {
            self.sums[i] += times;
            i += i & i.wrapping_neg();
        }
    }

    /// The rank of the value at this place in the order of values.
    fn rank_at(&self, place: u64) -> usize {
        let (mut at, mut left) = (0, place as i64);
        let mut step = self.sums.len().next_power_of_two();
        while step > 0 {
            if at + step < self.sums.len() && self.sums[at + step] <= left {
                at += step;
                left -= self.sums[at];
            }
            step /= 2;
        }
        at.min(self.sums.len().saturating_sub(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_found_by_place_after_any_changes() {
        let mut counts = Fenwick::new(5);
        for rank in [3, 0, 3, 4] {
            counts.add(rank, 1);
        }
        assert_eq!((0..4).map(|place| counts.rank_at(place)).collect::<Vec<_>>(), [0, 3, 3, 4]);
        counts.add(3, -1);
        assert_eq!((0..3).map(|place| counts.rank_at(place)).collect::<Vec<_>>(), [0, 3, 4]);
    }
}
