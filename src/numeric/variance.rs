//! The variance of a sample from exact sums of its values and of their squares, rounded once.
//! It keeps no values. What was added can be subtracted again, whatever its type and size.

use arrow::datatypes::i256;

use super::{
    ExactSum, ExactSums,
    integer::Integer,
    limbs::bits,
    ratio::{Magnitude, Positive},
    stored::{NumberReader, NumberWriter, Stored},
};

/// The sums of the values and of the squares of a multiset.
pub(crate) trait Moments: ExactSums {
    /// (n Σx² - (Σx)²) / (n (n - 1)) of `count` values, 2 or more, which are in units of `10^-scale`; `None` where one of them
    /// is not finite.
    fn variance(&self, count: u64, scale: i8) -> Option<Positive>;
}

/// The moments of integers. `S` limbs hold any sum of the values, and `Q` limbs any sum of their squares.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IntegerMoments<const S: usize, const Q: usize> {
    sum: Integer<S>,
    squares: Integer<Q>,
}

impl<const S: usize, const Q: usize> IntegerMoments<S, Q> {
    #[inline]
    pub(crate) fn add(&mut self, value: i128) {
        self.sum.add(&Integer::from(value));
        self.squares.add(&Integer::square(value));
    }

    pub(crate) fn add_wide(&mut self, value: i256) {
        self.sum.add(&Integer::from(value));
        self.squares.add(&Integer::wide_square(value));
    }
}

impl<const S: usize, const Q: usize> ExactSums for IntegerMoments<S, Q> {
    fn merge(&mut self, other: &Self) {
        self.sum.add(&other.sum);
        self.squares.add(&other.squares);
    }

    fn unmerge(&mut self, other: &Self) {
        self.sum.subtract(&other.sum);
        self.squares.subtract(&other.squares);
    }
}

impl<const S: usize, const Q: usize> Moments for IntegerMoments<S, Q> {
    fn variance(&self, count: u64, scale: i8) -> Option<Positive> {
        let ((_, sum), (_, squares)) = (self.sum.magnitude(), self.squares.magnitude());
        Some(match scale == 0 && bits(&squares) <= 320 {
            true => spread::<8>(count, (&sum, 0), (&squares, 0), scale),
            false => spread::<40>(count, (&sum, 0), (&squares, 0), scale),
        })
    }
}

impl<const S: usize, const Q: usize> Stored for IntegerMoments<S, Q> {
    fn store(&self, to: &mut NumberWriter) {
        self.sum.store(to);
        self.squares.store(to);
    }

    fn load(from: &mut NumberReader<'_>) -> Option<Self> {
        Some(Self { sum: Integer::load(from)?, squares: Integer::load(from)? })
    }
}

/// The moments of floats.
#[derive(Clone, Debug, Default)]
pub(crate) struct FloatMoments {
    sum: ExactSum,
    squares: Squares,
}

impl FloatMoments {
    #[inline]
    pub(crate) fn add(&mut self, x: f64) {
        self.sum.add(x);
        self.squares.add(x);
    }
}

impl ExactSums for FloatMoments {
    fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    fn unmerge(&mut self, other: &Self) {
        self.sum.unmerge(&other.sum);
        self.squares.unmerge(&other.squares);
    }
}

impl Moments for FloatMoments {
    fn variance(&self, count: u64, _: i8) -> Option<Positive> {
        self.sum.units(|sum, low| {
            self.squares.units(|squares, square_low| {
                let base = square_low.min(2 * low);
                let above = |bits: u32, low: i32| bits + (low - base) as u32;
                let needed = above(bits(squares) + 64, square_low).max(above(2 * bits(sum), 2 * low));
                Some(match needed <= 320 {
                    true => spread::<8>(count, (sum, low), (squares, square_low), 0),
                    false => spread::<80>(count, (sum, low), (squares, square_low), 0),
                })
            })
        })
    }
}

impl Stored for FloatMoments {
    fn store(&self, to: &mut NumberWriter) {
        self.sum.store(to);
        self.squares.plain.store(to);
        to.unsigned(u64::from(self.squares.extreme.is_some()));
        self.squares.extreme.iter().flat_map(|parts| parts.iter()).for_each(|part| part.store(to));
    }

    fn load(from: &mut NumberReader<'_>) -> Option<Self> {
        let (sum, plain) = (ExactSum::load(from)?, ExactSum::load(from)?);
        let extreme = match from.unsigned()? {
            0 => None,
            1 => Some(Box::new([ExactSum::load(from)?, ExactSum::load(from)?])),
            _ => return None,
        };
        Some(Self { sum, squares: Squares { plain, extreme } })
    }
}

/// The variance, given the sums' absolute values and the exponents of their units.
fn spread<const N: usize>(
    count: u64,
    (sum, sum_exponent): (&[u64], i32),
    (squares, squares_exponent): (&[u64], i32),
    scale: i8,
) -> Positive {
    let exponent = squares_exponent.min(2 * sum_exponent);
    let mut spread = Magnitude::<N>::of(squares);
    spread.multiply(count);
    spread.shift_left((squares_exponent - exponent) as u32);
    let mut of_sum = Magnitude::<N>::square(sum);
    of_sum.shift_left((2 * sum_exponent - exponent) as u32);
    spread.subtract(&of_sum);

    // The scale of a square is twice that of its root.
    let scale = 2 * i32::from(scale);
    match count.checked_mul(count - 1) {
        Some(product) => spread.decimal(exponent, scale, &[product]),
        None => spread.decimal(exponent, scale, &[count, count - 1]),
    }
}

/// Biased exponents of the numbers whose squares are exact sums of two floats.
const PLAIN: std::ops::Range<u64> = 1023 - 480..1023 + 500;
/// Others are scaled by two to this power, down or up, so that their squares are, too.
const SCALE: i32 = 600;

/// The exact sum of squares of floats of any size.
#[derive(Clone, Debug, Default)]
struct Squares {
    plain: ExactSum,
    /// The squares of very large numbers and of very small ones, scaled.
    extreme: Option<Box<[ExactSum; 2]>>,
}

/// The square and what rounding takes from it, both exact.
#[inline]
fn add_square(sum: &mut ExactSum, x: f64) {
    let square = x * x;
    sum.add(square);
    sum.add(x.mul_add(x, -square));
}

impl Squares {
    #[inline]
    fn add(&mut self, x: f64) {
        let exponent = (x.to_bits() >> 52) & 0x7ff;
        if PLAIN.contains(&exponent) {
            add_square(&mut self.plain, x);
        } else {
            self.add_extreme(x);
        }
    }

    #[inline(never)]
    fn add_extreme(&mut self, x: f64) {
        // A zero adds nothing. Values that are not finite are known from the sum of the values.
        if x == 0.0 || !x.is_finite() {
            return;
        }
        let [large, small] = &mut **self.extreme.get_or_insert_default();
        if x.abs() > 1.0 {
            add_square(large, x * 2f64.powi(-SCALE));
        } else {
            add_square(small, x * 2f64.powi(SCALE));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.plain.merge(&other.plain);
        if let Some(parts) = &other.extreme {
            self.extreme.get_or_insert_default().iter_mut().zip(parts.iter()).for_each(|(own, part)| own.merge(part));
        }
    }

    fn unmerge(&mut self, other: &Self) {
        self.plain.unmerge(&other.plain);
        if let Some(parts) = &other.extreme {
            self.extreme.get_or_insert_default().iter_mut().zip(parts.iter()).for_each(|(own, part)| own.unmerge(part));
        }
    }

    /// Calls `to` with the sum, an integer, and the exponent of its units.
    fn units<T>(&self, to: impl FnOnce(&[u64], i32) -> Option<T>) -> Option<T> {
        let Some(parts) = &self.extreme else { return self.plain.units(to) };
        const LOWEST: i32 = -1074 - 2 * SCALE;
        let mut all = Magnitude::<80>::of(&[]);
        for (part, shift) in [(&parts[0], 2 * SCALE), (&self.plain, 0), (&parts[1], -2 * SCALE)] {
            part.units(|limbs, exponent| {
                let mut whole = Magnitude::<80>::of(limbs);
                whole.shift_left((exponent + shift - LOWEST) as u32);
                all.add(&whole);
                Some(())
            })?;
        }
        to(&all.limbs(), LOWEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f64]) -> Option<f64> {
        let mut moments = FloatMoments::default();
        values.iter().for_each(|&x| moments.add(x));
        moments.variance(values.len() as u64, 0).map(Positive::value)
    }

    fn integers(values: &[i128]) -> f64 {
        let mut moments = IntegerMoments::<3, 3>::default();
        values.iter().for_each(|&x| moments.add(x));
        moments.variance(values.len() as u64, 0).unwrap().value()
    }

    #[test]
    fn a_variance_survives_a_mean_far_from_zero() {
        assert_eq!(floats(&[1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0, 1e9 + 4.0]), Some(5.0 / 3.0));
        assert_eq!(integers(&[(1 << 60) + 1, (1 << 60) + 2, (1 << 60) + 3]), 1.0);
        let far = 1_700_000_000_000_000_000;
        assert_eq!(integers(&[far, far + 1_000, far + 2_000]), 1e6);
        assert_eq!(integers(&[i128::from(u64::MAX), i128::from(u64::MAX) - 1]), 0.5);
        assert_eq!(integers(&[i128::from(i64::MIN), i128::from(i64::MAX)]), 1.7014118346046923e38);
    }

    #[test]
    fn squares_beyond_the_largest_and_below_the_smallest_float_count() {
        assert_eq!(floats(&[1e154, 0.0]), Some(1e154 * 1e154 / 2.0));
        assert_eq!(floats(&[9e153, -9e153]), Some(9e153 * 9e153 * 2.0));
        assert_eq!(floats(&[f64::MAX, f64::MAX]), Some(0.0));
        assert_eq!(floats(&[1e155, 0.0]), Some(f64::INFINITY));
        let next = f64::from_bits(1e200f64.to_bits() + 1);
        assert_eq!(floats(&[1e200, next]), Some((next - 1e200) * ((next - 1e200) / 2.0)));
        assert_eq!(floats(&[3e-162, 0.0]), Some(5e-324));
        assert_eq!(floats(&[5e-324, 0.0]), Some(0.0));
        assert_eq!(floats(&[f64::INFINITY, 1.0]), None);
        assert_eq!(floats(&[f64::NAN, 1.0]), None);
    }

    #[test]
    fn the_root_is_there_where_the_variance_is_no_float() {
        let mut moments = FloatMoments::default();
        [3e200, -3e200].iter().for_each(|&x| moments.add(x));
        let root = moments.variance(2, 0).unwrap().square_root();
        assert!((root / (3e200 * 2f64.sqrt()) - 1.0).abs() < 1e-15, "{root}");
    }

    #[test]
    fn what_was_taken_out_leaves_no_trace() {
        let values = [1e300, -5e-324, 0.1, 1e-200, 3.5, f64::INFINITY, -1e160, 0.0];
        let mut all = FloatMoments::default();
        for x in values {
            let mut one = FloatMoments::default();
            one.add(x);
            all.merge(&one);
        }
        for x in [1e300, -5e-324, 1e-200, f64::INFINITY, -1e160, 0.0] {
            let mut one = FloatMoments::default();
            one.add(x);
            all.unmerge(&one);
        }
        assert_eq!(all.variance(2, 0).map(Positive::value), floats(&[0.1, 3.5]));
    }

    #[test]
    fn decimals_count_in_their_units() {
        let mut moments = IntegerMoments::<5, 9>::default();
        [10, 10, 40].into_iter().for_each(|x| moments.add(x));
        assert_eq!(moments.variance(3, 2).map(Positive::value), Some(0.03));
        assert_eq!(moments.variance(3, -1).map(Positive::value), Some(30_000.0));
        let mut moments = IntegerMoments::<5, 9>::default();
        let large = 10i128.pow(38) - 1;
        [large, large - 3].into_iter().for_each(|x| moments.add(x));
        assert_eq!(moments.variance(2, 38).map(Positive::value), Some(4.5e-76));
        let mut moments = IntegerMoments::<5, 9>::default();
        let large = i256::from_parts(0, 1 << 120);
        moments.add_wide(large);
        moments.add_wide(large.wrapping_neg());
        assert_eq!(moments.variance(2, 0).map(Positive::value), Some(2f64.powi(2 * 248 + 1)));
    }
}
