//! The slope of the line that fits values over time best, by least squares: from exact sums, and rounded once.
//! It keeps no values. What was added can be subtracted again, whatever its type and size.

use arrow::datatypes::i256;

use super::{
    ExactSum, ExactSums,
    integer::Integer,
    limbs::{self, bits},
    ratio::{Magnitude, powers_of_ten},
    stored::{NumberReader, NumberWriter, Stored},
};

/// The sums over the pairs `(t, x)` of a time and a value that a slope is made of.
pub(crate) trait SlopeSums: ExactSums {
    /// (n Σtx - Σt Σx) / (n Σt² - (Σt)²) of `count` pairs, per second. A second has `per_second` units of time, at most 10^9; values
    /// are in units of `10^-scale`. `None` if all times are equal, NaN if a value is not finite.
    fn slope(&self, count: u64, per_second: u64, scale: i8) -> Option<f64>;
}

/// The sums of times and of their squares.
#[derive(Clone, Copy, Debug, Default)]
struct TimeSums {
    sum: Integer<2>,
    squares: Integer<3>,
}

impl TimeSums {
    #[inline]
    fn add(&mut self, time: i64) {
        self.sum.add(&Integer::from(i128::from(time)));
        self.squares.add(&Integer::square(i128::from(time)));
    }

    fn merge(&mut self, other: &Self) {
        self.sum.add(&other.sum);
        self.squares.add(&other.squares);
    }

    fn unmerge(&mut self, other: &Self) {
        self.sum.subtract(&other.sum);
        self.squares.subtract(&other.squares);
    }

    /// n Σt² - (Σt)², which is not negative; `None` if it is zero, as it is if and only if all times are equal.
    fn spread<const N: usize>(&self, count: u64) -> Option<Magnitude<N>> {
        let ((_, sum), (_, squares)) = (self.sum.magnitude(), self.squares.magnitude());
        let mut spread = Magnitude::<N>::of(&squares);
        spread.multiply(count);
        spread.subtract(&Magnitude::square(&sum));
        (bits(&spread.limbs()) > 0).then_some(spread)
    }
}

impl Stored for TimeSums {
    fn store(&self, to: &mut NumberWriter) {
        self.sum.store(to);
        self.squares.store(to);
    }

    fn load(from: &mut NumberReader<'_>) -> Option<Self> {
        Some(Self { sum: Integer::load(from)?, squares: Integer::load(from)? })
    }
}

/// The bits that n Σtx - Σt Σx needs besides those of Σtx or Σx: the sum of so many times, or the count; the sign of the difference;
/// the units of time in a second; and those by which a division moves it.
const MORE_BITS: u32 = 104 + 1 + 30 + 64;

/// Limbs that most slopes fit into.
const SHORT: usize = 8;

/// The slope, given n, Σt, Σx and Σtx. The last two are in units of two to `exponent` and ten to `-scale`.
fn quotient<const N: usize>(
    times: &TimeSums,
    count: u64,
    sum: Integer<N>,
    mut products: Integer<N>,
    exponent: i32,
    (per_second, scale): (u64, i8),
) -> Option<f64> {
    let mut divisor = times.spread::<N>(count)?;
    products.multiply(count.into());
    let ((times_below_zero, times), (sum_below_zero, sum)) = (times.sum.magnitude(), sum.magnitude());
    let of_sums = limbs::product::<N>(&times, &sum);
    products.subtract(&Integer::of(times_below_zero != sum_below_zero, &of_sums));

    products.multiply(per_second.into());
    for power in powers_of_ten(scale.unsigned_abs().into()) {
        if scale < 0 {
            products.multiply(power.into());
        } else {
            divisor.multiply(power);
        }
    }
    let (is_negative, dividend) = products.magnitude();
    let slope = Magnitude::<N>::of(&dividend).over(exponent, &divisor).value();
    Some(if is_negative { -slope } else { slope })
}

/// The sums over integers. `S` limbs hold any sum of the values, and `P` limbs any sum of their products with times.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IntegerSlope<const S: usize, const P: usize> {
    times: TimeSums,
    sum: Integer<S>,
    products: Integer<P>,
}

impl<const S: usize, const P: usize> IntegerSlope<S, P> {
    #[inline]
    pub(crate) fn add(&mut self, time: i64, value: i128) {
        self.times.add(time);
        self.sum.add(&Integer::from(value));
        match i128::from(time).checked_mul(value) {
            Some(product) => self.products.add(&Integer::from(product)),
            None => self.add_product(time, Integer::from(value)),
        }
    }

    pub(crate) fn add_wide(&mut self, time: i64, value: i256) {
        self.times.add(time);
        self.sum.add(&Integer::from(value));
        self.add_product(time, Integer::from(value));
    }

    fn add_product(&mut self, time: i64, mut value: Integer<P>) {
        value.multiply(time.unsigned_abs().into());
        if time < 0 {
            self.products.subtract(&value);
        } else {
            self.products.add(&value);
        }
    }
}

impl<const S: usize, const P: usize> ExactSums for IntegerSlope<S, P> {
    fn merge(&mut self, other: &Self) {
        self.times.merge(&other.times);
        self.sum.add(&other.sum);
        self.products.add(&other.products);
    }

    fn unmerge(&mut self, other: &Self) {
        self.times.unmerge(&other.times);
        self.sum.subtract(&other.sum);
        self.products.subtract(&other.products);
    }
}

impl<const S: usize, const P: usize> SlopeSums for IntegerSlope<S, P> {
    fn slope(&self, count: u64, per_second: u64, scale: i8) -> Option<f64> {
        let (sum, products) = (self.sum.magnitude(), self.products.magnitude());
        let needed = bits(&sum.1).max(bits(&products.1)) + MORE_BITS;
        match scale == 0 && needed <= 64 * SHORT as u32 {
            true => self.slope_in::<SHORT>(count, per_second, scale),
            // Decimals have at most 256 bits, and a power of ten at most 426.
            false => self.slope_in::<18>(count, per_second, scale),
        }
    }
}

impl<const S: usize, const P: usize> Stored for IntegerSlope<S, P> {
    fn store(&self, to: &mut NumberWriter) {
        self.times.store(to);
        self.sum.store(to);
        self.products.store(to);
    }

    fn load(from: &mut NumberReader<'_>) -> Option<Self> {
        Some(Self { times: TimeSums::load(from)?, sum: Integer::load(from)?, products: Integer::load(from)? })
    }
}

impl<const S: usize, const P: usize> IntegerSlope<S, P> {
    fn slope_in<const N: usize>(&self, count: u64, per_second: u64, scale: i8) -> Option<f64> {
        let ((sum_below_zero, sum), (products_below_zero, products)) = (self.sum.magnitude(), self.products.magnitude());
        let (sum, products) = (Integer::of(sum_below_zero, &sum), Integer::of(products_below_zero, &products));
        quotient::<N>(&self.times, count, sum, products, 0, (per_second, scale))
    }
}

/// The sums over floats. A product with a time is the sum of products with the lower 32 bits of the time and with the rest, so that
/// it has few enough bits for the narrow form of a sum.
#[derive(Clone, Debug, Default)]
pub(crate) struct FloatSlope {
    times: TimeSums,
    sum: ExactSum,
    lower: ExactSum,
    upper: ExactSum,
}

impl FloatSlope {
    #[inline]
    pub(crate) fn add(&mut self, time: i64, x: f64) {
        self.times.add(time);
        self.sum.add(x);
        // Values that are not finite are known from the sum of the values.
        if x.is_finite() {
            self.lower.add_times(x, time & 0xffff_ffff);
            self.upper.add_times(x, time >> 32);
        }
    }
}

impl ExactSums for FloatSlope {
    fn merge(&mut self, other: &Self) {
        self.times.merge(&other.times);
        self.sum.merge(&other.sum);
        self.lower.merge(&other.lower);
        self.upper.merge(&other.upper);
    }

    fn unmerge(&mut self, other: &Self) {
        self.times.unmerge(&other.times);
        self.sum.unmerge(&other.sum);
        self.lower.unmerge(&other.lower);
        self.upper.unmerge(&other.upper);
    }
}

impl SlopeSums for FloatSlope {
    fn slope(&self, count: u64, per_second: u64, _: i8) -> Option<f64> {
        // Without this a single time would be NaN if a value is not finite.
        self.times.spread::<4>(count)?;
        let slope = self.sum.signed_units(|is_negative, limbs, exponent| {
            let sum = Units { is_negative, limbs, exponent };
            self.lower.signed_units(|is_negative, limbs, exponent| {
                let lower = Units { is_negative, limbs, exponent };
                self.upper.signed_units(|is_negative, limbs, exponent| {
                    let upper = Units { is_negative, limbs, exponent: exponent + 32 };
                    self.slope_of(count, per_second, [sum, lower, upper])
                })
            })
        });
        Some(slope.unwrap_or(f64::NAN))
    }
}

impl Stored for FloatSlope {
    fn store(&self, to: &mut NumberWriter) {
        self.times.store(to);
        [&self.sum, &self.lower, &self.upper].into_iter().for_each(|sum| sum.store(to));
    }

    fn load(from: &mut NumberReader<'_>) -> Option<Self> {
        let times = TimeSums::load(from)?;
        Some(Self { times, sum: ExactSum::load(from)?, lower: ExactSum::load(from)?, upper: ExactSum::load(from)? })
    }
}

impl FloatSlope {
    fn slope_of(&self, count: u64, per_second: u64, [sum, lower, upper]: [Units<'_>; 3]) -> Option<f64> {
        let all = [sum, lower, upper];
        let Some(exponent) = all.iter().filter(|units| !units.is_zero()).map(|units| units.exponent).min() else {
            return Some(0.0);
        };
        let needed = all.iter().map(|units| units.bits_above(exponent)).max().unwrap_or(0) + MORE_BITS;
        match needed <= 64 * SHORT as u32 {
            true => self.slope_in::<SHORT>(count, per_second, [sum, lower, upper], exponent),
            // 2,208 bits reach from the smallest float to the largest product.
            false => self.slope_in::<40>(count, per_second, [sum, lower, upper], exponent),
        }
    }

    fn slope_in<const N: usize>(
        &self,
        count: u64,
        per_second: u64,
        [sum, lower, upper]: [Units<'_>; 3],
        exponent: i32,
    ) -> Option<f64> {
        let mut products = lower.integer::<N>(exponent);
        products.add(&upper.integer(exponent));
        quotient::<N>(&self.times, count, sum.integer(exponent), products, exponent, (per_second, 0))
    }
}

/// An integer of units of two to `exponent`.
#[derive(Clone, Copy)]
struct Units<'a> {
    is_negative: bool,
    limbs: &'a [u64],
    exponent: i32,
}

impl Units<'_> {
    fn is_zero(&self) -> bool {
        bits(self.limbs) == 0
    }

    /// The number of bits above an exponent that is not above its own. A zero has none, whatever its exponent is.
    fn bits_above(&self, exponent: i32) -> u32 {
        if self.is_zero() { 0 } else { bits(self.limbs) + (self.exponent - exponent) as u32 }
    }

    /// The number in units of two to an exponent that is not above its own.
    fn integer<const N: usize>(&self, exponent: i32) -> Integer<N> {
        if self.is_zero() {
            return Integer::default();
        }
        let mut integer = Integer::of(self.is_negative, self.limbs);
        integer.shift_left((self.exponent - exponent) as u32);
        integer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROS: u64 = 1_000_000;
    /// 2024-01-01 in microseconds.
    const T: i64 = 1_704_067_200_000_000;

    fn floats(pairs: &[(i64, f64)], per_second: u64) -> Option<f64> {
        let mut sums = FloatSlope::default();
        pairs.iter().for_each(|&(time, x)| sums.add(time, x));
        sums.slope(pairs.len() as u64, per_second, 0)
    }

    fn integers(pairs: &[(i64, i128)], scale: i8) -> Option<f64> {
        let mut sums = IntegerSlope::<2, 3>::default();
        let mut decimals = IntegerSlope::<5, 6>::default();
        for &(time, x) in pairs {
            sums.add(time, x);
            decimals.add_wide(time, i256::from_i128(x));
        }
        let slope = sums.slope(pairs.len() as u64, MICROS, scale);
        assert_eq!(decimals.slope(pairs.len() as u64, MICROS, scale), slope, "{pairs:?}");
        slope
    }

    #[test]
    fn a_line_has_its_slope_wherever_it_lies() {
        let second = MICROS as i64;
        for first in [0, T, -T, i64::MIN, i64::MAX - 3 * second] {
            let pairs = [0, 1, 2, 3].map(|i| (first + i * second, 7.5 - 0.25 * i as f64));
            assert_eq!(floats(&pairs, MICROS), Some(-0.25), "{first}");
            let pairs = [0, 1, 2, 3].map(|i| (first + i * second, i128::from(u64::MAX) - 3 * i128::from(i)));
            assert_eq!(integers(&pairs, 0), Some(-3.0), "{first}");
        }
        // From one end of time to the other.
        assert_eq!(floats(&[(i64::MIN, -1.0), (i64::MAX, 1.0)], 1), Some(2.0 / 2f64.powi(64)));
    }

    #[test]
    fn values_that_lie_on_no_line_have_the_nearest_one() {
        let at = |second: i64| T + second * MICROS as i64;
        assert_eq!(integers(&[(at(0), 0), (at(1), 1), (at(2), 1), (at(3), 4)], 0), Some(1.2));
        assert_eq!(floats(&[(at(0), 0.0), (at(1), 1.0), (at(2), 1.0), (at(3), 4.0)], MICROS), Some(1.2));
        assert_eq!(integers(&[(at(0), 1), (at(0), 3), (at(1), 4)], 0), Some(2.0));
        assert_eq!(integers(&[(at(0), 10), (at(1), 20), (at(2), 30)], 2), Some(0.1));
        assert_eq!(integers(&[(at(0), 10), (at(1), 20), (at(2), 30)], -2), Some(1_000.0));
        // One unit of 10^-76 in a day (the float is from Python's `fractions`), and the largest decimal in a microsecond.
        assert_eq!(integers(&[(at(0), 0), (at(86_400), 1)], 76), Some(1.1574074074074075e-81));
        let mut wide = IntegerSlope::<5, 6>::default();
        let largest = i256::from_string(&"9".repeat(76)).unwrap();
        wide.add_wide(-1, largest.wrapping_neg());
        wide.add_wide(0, largest);
        assert_eq!(wide.slope(2, MICROS, 0), Some(2e82));
        assert_eq!(wide.slope(2, MICROS, 76), Some(2e6));
        assert_eq!(wide.slope(2, MICROS, -128), Some(2e210));
    }

    #[test]
    fn of_one_time_there_is_no_slope() {
        assert_eq!(floats(&[(T, 1.0)], MICROS), None);
        assert_eq!(floats(&[(T, 1.0), (T, 5.0), (T, f64::NAN)], MICROS), None);
        assert_eq!(integers(&[(T, 1), (T, 5)], 0), None);
        assert_eq!(FloatSlope::default().slope(0, MICROS, 0), None);
    }

    #[test]
    fn what_is_not_finite_has_no_slope_and_leaves_no_trace() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(floats(&[(T, 1.0), (T + 1, odd)], MICROS).unwrap().is_nan());
            let mut sums = FloatSlope::default();
            [(T, 1.0), (T + 1, odd), (T + 9, 1e300), (T + 5, -1e-300), (T + 2, 2.0)].iter().for_each(|&(t, x)| sums.add(t, x));
            let mut left = FloatSlope::default();
            [(T + 1, odd), (T + 9, 1e300), (T + 5, -1e-300)].iter().for_each(|&(t, x)| left.add(t, x));
            sums.unmerge(&left);
            assert_eq!(sums.slope(2, MICROS, 0), Some(500_000.0));
            sums.merge(&left);
            assert!(sums.slope(5, MICROS, 0).unwrap().is_nan());
        }
    }

    #[test]
    fn floats_of_any_size_are_rounded_once() {
        assert_eq!(floats(&[(0, 0.0), (3, -0.0)], 1), Some(0.0));
        assert_eq!(floats(&[(0, 0.1), (3, 0.3)], 1), Some((0.3 - 0.1) / 3.0));
        assert_eq!(floats(&[(0, -1.5e308), (2, 1.5e308)], 1), Some(1.5e308));
        assert_eq!(floats(&[(0, -1.5e308), (1, 1.5e308)], 1), Some(f64::INFINITY));
        assert_eq!(floats(&[(0, f64::MAX), (1, f64::MAX), (2, f64::MAX)], 1), Some(0.0));
        assert_eq!(floats(&[(0, 0.0), (1, 5e-324)], 1), Some(5e-324));
        // Half of the smallest float is even zero, and more than half is that float.
        assert_eq!(floats(&[(0, 0.0), (2, 5e-324)], 1), Some(0.0));
        assert_eq!(floats(&[(0, 0.0), (5, 1.5e-323)], 1), Some(5e-324));
        // A float of each end, and one in the middle of the time, which changes nothing.
        let wide = [(T, 5e-324), (T + 1, f64::MAX), (T + 2, 5e-324)];
        assert_eq!(floats(&wide, MICROS), Some(0.0));
        assert_eq!(floats(&[(T, 5e-324), (T + 1, f64::MAX), (T + 2, -f64::MAX)], 1), Some(-f64::MAX / 2.0));
    }

    /// Integers as floats and as integers have one slope.
    #[test]
    fn all_ways_agree() {
        let mut word = 7u64;
        let mut next = || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word >> 33
        };
        for _ in 0..200 {
            let count = 2 + next() as usize % 6;
            let pairs: Vec<(i64, i128)> =
                (0..count).map(|_| (T + (next() % 5_000_000) as i64, i128::from(next() % 1_000) - 500)).collect();
            let as_floats: Vec<(i64, f64)> = pairs.iter().map(|&(time, x)| (time, x as f64)).collect();
            assert_eq!(floats(&as_floats, MICROS).map(f64::to_bits), integers(&pairs, 0).map(f64::to_bits), "{pairs:?}");
            // Computed from the distances to the means, which are exact but for the division by the count.
            let mean = |of: &dyn Fn(&(i64, i128)) -> f64| pairs.iter().map(of).sum::<f64>() / count as f64;
            let (time, value) = (mean(&|pair| (pair.0 - T) as f64), mean(&|pair| pair.1 as f64));
            let (mut products, mut squares) = (0.0, 0.0);
            for &(t, x) in &pairs {
                let far = (t - T) as f64 - time;
                products += far * (x as f64 - value);
                squares += far * far;
            }
            let near = products / squares * MICROS as f64;
            let scale = 1_000.0 * count as f64 / squares.sqrt() * MICROS as f64;
            assert!(integers(&pairs, 0).is_none_or(|slope| (slope - near).abs() <= 1e-12 * scale), "{pairs:?}: {near}");
        }
    }
}
