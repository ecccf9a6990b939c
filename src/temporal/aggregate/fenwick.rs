//! Counts of values by rank, to which values are added and from which they are removed.
//! The value of a rank is known to the caller.

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

    /// How many values there are.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The rank of the value at this position in the order of values.
    pub(super) fn rank_at(&self, position: u64) -> usize {
        let (mut at, mut left) = (0, position as i64);
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
    fn ranks_are_found_by_position_after_any_changes() {
        let mut counts = Fenwick::new(5);
        for rank in [3, 0, 3, 4] {
            counts.add(rank, 1);
        }
        assert_eq!((0..counts.total()).map(|position| counts.rank_at(position)).collect::<Vec<_>>(), [0, 3, 3, 4]);
        counts.add(3, -1);
        assert_eq!((0..counts.total()).map(|position| counts.rank_at(position)).collect::<Vec<_>>(), [0, 3, 4]);
    }
}
