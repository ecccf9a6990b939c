//! Quantiles of a multiset to which values are added and from which they are removed: exact, and rounded once.
//! Values are given by their ranks. The caller knows the value of a rank.

use super::{
    ExactSum,
    ratio::{quotient, scaled},
};

/// A number as two floats whose exact sum it is.
type Number = (f64, f64);

/// The quantile at `q`, linear between the neighbours of position `q (n - 1)`: the float nearest to the exact number. `value`
/// returns the value of a rank, in units of `10^-scale`.
pub(super) fn quantile(counts: &Fenwick, q: f64, scale: i8, value: impl Fn(usize) -> Number) -> Option<f64> {
    let last = counts.total.checked_sub(1)?;
    let (below, part) = position(q, last);
    let low_rank = counts.rank_at(below);
    let high_rank = if part == [0.0; 3] { low_rank } else { counts.rank_at(below + 1) };
    let (low, high) = (value(low_rank), value(high_rank));
    if low_rank == high_rank {
        // The quantile is a value, or between equal values. This includes infinities.
        return Some(if scale == 0 { added(low) } else { nearest(&sum_of(low), scale) });
    }
    let numbers = [low.0, low.1, high.0, high.1];
    if numbers.iter().any(|x| !x.is_finite()) {
        let part: f64 = part.iter().rev().sum();
        return Some(low.0 * (1.0 - part) + high.0 * part);
    }
    // Products of very small numbers would lose bits below the smallest float.
    if numbers.iter().all(|x| x.abs() < SMALL) {
        let raised = |x: Number| (scaled(x.0, RAISED), scaled(x.1, RAISED));
        return Some(scaled(between(raised(low), raised(high), part).value(), -RAISED));
    }
    Some(nearest(&between(low, high, part), scale))
}

const SMALL: f64 = 1e-200;
const RAISED: i32 = 400;

/// The position of a quantile: after which value it is, and its distance from there as a part of the distance to the next
/// value, as floats whose exact sum it is.
fn position(q: f64, last: u64) -> (u64, [f64; 3]) {
    const CHUNK: u32 = 40;
    let (exponent, fraction) = ((q.to_bits() >> 52) as i32, q.to_bits() & ((1 << 52) - 1));
    // q is `units` times two to `-down`, and at most 1.
    let units = if exponent == 0 { fraction } else { fraction | 1 << 52 };
    let down = (1_075 - exponent.max(1)) as u32;
    let product = u128::from(units) * u128::from(last);
    let whole = product.checked_shr(down).unwrap_or(0);
    let rest = product - whole.checked_shl(down).unwrap_or(0);
    let chunk = |i: u32| ((rest >> (CHUNK * i)) & ((1 << CHUNK) - 1)) as f64;
    let part = [0, 1, 2].map(|i| scaled(chunk(i), (CHUNK * i) as i32 - down as i32));
    ((whole as u64).min(last), part)
}

/// The number that is a part of the way from one number to another.
fn between(low: Number, high: Number, part: [f64; 3]) -> ExactSum {
    let mut sum = sum_of(low);
    for part in part.into_iter().filter(|part| *part != 0.0) {
        for (x, sign) in [(low.0, -1.0), (low.1, -1.0), (high.0, 1.0), (high.1, 1.0)] {
            // The product, and its rounding error.
            let product = x * part;
            sum.add(sign * product);
            sum.add(sign * x.mul_add(part, -product));
        }
    }
    sum
}

fn sum_of(x: Number) -> ExactSum {
    let mut sum = ExactSum::default();
    sum.add(x.0);
    sum.add(x.1);
    sum
}

/// The sum of both floats. A zero keeps its sign.
fn added((high, low): Number) -> f64 {
    if low == 0.0 { high } else { high + low }
}

/// The float nearest to a number of units of `10^-scale`.
fn nearest(units: &ExactSum, scale: i8) -> f64 {
    let value = units.value();
    if scale == 0 || value == 0.0 {
        return value;
    }
    let found = units.units(|limbs, exponent| Some(quotient(limbs, exponent, scale))).unwrap_or(f64::NAN);
    if value < 0.0 { -found } else { found }
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

    /// The rank of the value at this position in the order of values.
    fn rank_at(&self, position: u64) -> usize {
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

    fn of(values: &[i64], q: f64, scale: i8) -> f64 {
        let mut counts = Fenwick::new(values.len());
        (0..values.len()).for_each(|rank| counts.add(rank, 1));
        let number = |rank: usize| {
            let low = values[rank] & 0xffff_ffff;
            ((values[rank] - low) as f64, low as f64)
        };
        quantile(&counts, q, scale, number).unwrap()
    }

    #[test]
    fn quantiles_are_rounded_once() {
        for (values, q, expected) in [
            (&[1, 2, 3][..], 0.1, 1.2),
            (&[1, 2, 3], 0.9, 2.8),
            (&[5, 6, 7, 8], 0.1, 5.3),
            (&[0, 0, 0, 1_000_000_007], 0.99, 970_000_006.79),
            (&[-3, 4], 0.5, 0.5),
            (&[i64::MAX - 1, i64::MAX], 0.5, i64::MAX as f64),
            (&[7], 0.3, 7.0),
            (&[1, 2], 1.0, 2.0),
            (&[1, 2], 5e-324, 1.0),
        ] {
            assert_eq!(of(values, q, 0), expected, "{values:?} at {q}");
        }
        // 0.10 and 0.20, and 0.07 and 0.14: as decimals, not as floats.
        assert_eq!((of(&[10, 20], 0.5, 2), of(&[7, 14], 0.5, 2)), (0.15, 0.105));
        assert_eq!((of(&[-1, -1], 0.7, 1), of(&[3, 4], 0.5, -2)), (-0.1, 350.0));
    }

    #[test]
    fn floats_of_any_size_and_sign_have_exact_quantiles() {
        let of = |values: &[f64], q: f64| {
            let mut counts = Fenwick::new(values.len());
            (0..values.len()).for_each(|rank| counts.add(rank, 1));
            quantile(&counts, q, 0, |rank| (values[rank], 0.0)).unwrap()
        };
        assert_eq!(of(&[-1e308, 1e308], 0.1), -8e307);
        assert_eq!(of(&[-f64::MAX, f64::MAX], 0.5), 0.0);
        assert_eq!(of(&[1e-300, 3e-300], 0.5), 2e-300);
        assert!(of(&[-0.0, 1.0], 0.0).is_sign_negative());
        assert_eq!(of(&[1.0, f64::INFINITY], 0.5), f64::INFINITY);
        assert!(of(&[f64::NEG_INFINITY, f64::INFINITY], 0.5).is_nan());
    }

    #[test]
    fn ranks_are_found_by_position_after_any_changes() {
        let mut counts = Fenwick::new(5);
        for rank in [3, 0, 3, 4] {
            counts.add(rank, 1);
        }
        assert_eq!((0..4).map(|position| counts.rank_at(position)).collect::<Vec<_>>(), [0, 3, 3, 4]);
        counts.add(3, -1);
        assert_eq!((0..3).map(|position| counts.rank_at(position)).collect::<Vec<_>>(), [0, 3, 4]);
    }
}
