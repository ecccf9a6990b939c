//! Quotients of long integers, rounded once.
//! Everything before the rounding is exact; nothing here allocates.

use super::{
    float::weight,
    integer::Integer,
    limbs::{self, bits},
};

/// An unsigned integer, lowest limb first. The caller ensures that results fit into `N` limbs; higher limbs are dropped.
#[derive(Clone, Copy)]
pub(super) struct Magnitude<const N: usize>([u64; N]);

impl<const N: usize> Magnitude<N> {
    pub(super) fn of(limbs: &[u64]) -> Self {
        let mut all = [0; N];
        all.iter_mut().zip(limbs).for_each(|(own, limb)| *own = *limb);
        Self(all)
    }

    pub(super) fn square(limbs: &[u64]) -> Self {
        Self(limbs::product(limbs, limbs))
    }

    pub(super) fn limbs(&self) -> [u64; N] {
        self.0
    }

    pub(super) fn multiply(&mut self, factor: u64) {
        self.0 = limbs::product(&[factor], &self.0);
    }

    pub(super) fn shift_left(&mut self, by: u32) {
        limbs::shift_left(&mut self.0, by);
    }

    pub(super) fn add(&mut self, other: &Self) {
        limbs::add(&mut self.0, &other.0);
    }

    /// Subtracts one that is not larger.
    pub(super) fn subtract(&mut self, other: &Self) {
        limbs::subtract(&mut self.0, &other.0);
    }

    /// Divides, and says whether there is a remainder.
    fn divide(&mut self, divisor: u64) -> bool {
        let mut rest = 0u128;
        for limb in self.0.iter_mut().rev() {
            if rest == 0 && *limb == 0 {
                continue;
            }
            let part = (rest << 64) | u128::from(*limb);
            *limb = (part / u128::from(divisor)) as u64;
            rest = part % u128::from(divisor);
        }
        rest != 0
    }

    /// Is it smaller?
    fn is_below(&self, other: &Self) -> bool {
        self.0.iter().rev().lt(other.0.iter().rev())
    }

    /// The number times two to `exponent`, divided by one that is not zero. The longer of both, and the divisor with 64 bits more,
    /// must leave 63 bits free.
    pub(super) fn over(self, exponent: i32, divisor: &Self) -> Positive {
        let (mut rest, mut divisor) = (self, *divisor);
        let (length, divisor_length) = (bits(&rest.0), bits(&divisor.0));
        if length == 0 {
            return Positive::default();
        }
        // The quotient of two numbers whose lengths differ by 64 bits is below 2^65, and has at least 64 bits: more than a float
        // has, and one that marks a remainder.
        rest.shift_left((divisor_length + 64).saturating_sub(length));
        divisor.shift_left(length.saturating_sub(divisor_length + 64));
        // The highest bit of both is the highest of a limb: that makes the estimate of the quotient good.
        let align = bits(&divisor.0).wrapping_neg() % 64;
        rest.shift_left(align);
        divisor.shift_left(align);
        let limbs = bits(&divisor.0) as usize / 64;

        // Long division, with limbs as digits: D. E. Knuth, "The Art of Computer Programming", volume 2, 4.3.1, algorithm D. The
        // first digit is 1 or 0.
        let mut first = divisor;
        first.shift_left(64);
        let is_one = !rest.is_below(&first);
        if is_one {
            rest.subtract(&first);
        }
        let at = |i: usize| rest.0.get(i).copied().unwrap_or(0);
        let (upper, lower, top) = (at(limbs), at(limbs - 1), divisor.0[limbs - 1]);
        let estimate = (u128::from(upper) << 64 | u128::from(lower)) / u128::from(top);
        // At most two more than the digit.
        let mut digit = u64::try_from(estimate).unwrap_or(u64::MAX);
        let mut product = divisor;
        product.multiply(digit);
        while rest.is_below(&product) {
            product.subtract(&divisor);
            digit -= 1;
        }
        rest.subtract(&product);
        let quotient = u128::from(is_one) << 64 | u128::from(digit);
        Positive::of(quotient, bits(&rest.0) > 0, exponent + length as i32 - divisor_length as i32 - 64)
    }

    /// The highest 128 bits, their distance from the lowest bit, and whether a bit below them is set.
    fn head(&self) -> (u128, u32, bool) {
        let above = bits(&self.0).saturating_sub(128);
        let (limbs, by) = ((above / 64) as usize, above % 64);
        let at = |i: usize| u128::from(self.0.get(i).copied().unwrap_or(0));
        let pair = at(limbs) | (at(limbs + 1) << 64);
        let head = if by == 0 { pair } else { (pair >> by) | (at(limbs + 2) << (128 - by)) };
        let rest = self.0.iter().take(limbs).any(|&limb| limb != 0) || at(limbs) & ((1 << by) - 1) != 0;
        (head, above, rest)
    }

    /// The number times two to `exponent` and ten to `-scale`, divided by the product of the divisors, none of which is zero.
    /// There are at most two divisors, and `scale` is at most twice that of a decimal.
    pub(super) fn decimal(mut self, exponent: i32, scale: i32, divisors: &[u64]) -> Positive {
        let mut all = [1u64; 16];
        let mut used = divisors.len();
        all.iter_mut().zip(divisors).for_each(|(own, divisor)| *own = *divisor);
        for power in powers_of_ten(scale.unsigned_abs()) {
            if scale < 0 {
                self.multiply(power);
            } else if let Some(divisor) = all.get_mut(used) {
                *divisor = power;
                used += 1;
            }
        }
        self.divided(exponent, &all[..used])
    }

    /// The number times two to `exponent`, divided by the product of the divisors, none of which is zero.
    fn divided(mut self, exponent: i32, divisors: &[u64]) -> Positive {
        if bits(&self.0) == 0 {
            return Positive::default();
        }
        if let [divisor] = divisors {
            let (mut head, above, rest) = self.head();
            let up = head.leading_zeros();
            head <<= up;
            // The quotient has at least 64 bits: more than a float has, and one that marks a remainder.
            let (quotient, left) = (head / u128::from(*divisor), head % u128::from(*divisor));
            return Positive::of(quotient, rest || left != 0, exponent + above as i32 - up as i32);
        }
        let wanted = 65 + 64 * divisors.len() as u32;
        let up = wanted.saturating_sub(bits(&self.0));
        self.shift_left(up);
        let mut rest = false;
        for &divisor in divisors {
            // The integer part is the same whether a number is divided by all divisors at once or by one after the other.
            rest |= self.divide(divisor);
        }
        let (head, above, lost) = self.head();
        Positive::of(head, rest || lost, exponent + above as i32 - up as i32)
    }
}

/// A number that is not negative: 64 bits of which the highest is set, times a power of two. The lowest bit is also set if the
/// exact number has any bits below it, so that rounding to fewer bits rounds the exact number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Positive {
    bits: u64,
    exponent: i32,
}

impl Positive {
    fn of(value: u128, rest: bool, exponent: i32) -> Self {
        let up = value.leading_zeros();
        let value = value.checked_shl(up).unwrap_or(0);
        let lost = value as u64 != 0 || rest;
        Self { bits: (value >> 64) as u64 | u64::from(lost), exponent: exponent + 64 - up as i32 }
    }

    /// The nearest float, ties to even; beyond the largest an infinity.
    pub(crate) fn value(self) -> f64 {
        let Self { bits, exponent } = self;
        // The lowest bit of the result: that of 53, or of the smallest float.
        let lowest = (exponent + 11).max(-1074);
        if bits == 0 || lowest - exponent > 64 {
            return 0.0;
        }
        if exponent + 63 > 1023 {
            return f64::INFINITY;
        }
        let wide = u128::from(bits);
        let (kept, half) = (wide >> (lowest - exponent), 1u128 << (lowest - exponent - 1));
        let below = wide & (2 * half - 1);
        let up = below > half || (below == half && kept & 1 == 1);
        scaled((kept + u128::from(up)) as f64, lowest)
    }

    /// The square root, of the number rounded to 53 bits.
    pub(crate) fn square_root(self) -> f64 {
        if self.bits == 0 {
            return 0.0;
        }
        let Self { bits, exponent } = self;
        let odd = exponent.rem_euclid(2);
        let rounded = bits as f64 * f64::from(1 + odd);
        scaled(rounded.sqrt(), (exponent - odd) / 2)
    }
}

/// A float times a power of two, rounded once at most.
fn scaled(x: f64, exponent: i32) -> f64 {
    let power = |exponent: i32| weight((exponent + 1074) as u32);
    match exponent {
        ..-1074 => x * power(-1000) * power((exponent + 1000).max(-1074)),
        1024.. => x * power(1023) * power((exponent - 1023).min(1023)),
        _ => x * power(exponent),
    }
}

const TENS: u64 = 10u64.pow(19);

/// Factors whose product is ten to this power.
pub(super) fn powers_of_ten(exponent: u32) -> impl Iterator<Item = u64> {
    (0..exponent / 19).map(|_| TENS).chain((!exponent.is_multiple_of(19)).then(|| 10u64.pow(exponent % 19)))
}

/// The largest integer up to which every one is a float.
const EXACT: u64 = 1 << 53;

/// Units of `10^-scale`, divided by a count that is not zero, rounded once.
pub(crate) fn decimal_mean<const N: usize>(units: &Integer<N>, scale: i8, count: u64) -> f64 {
    let (is_negative, limbs) = units.magnitude();
    let signed = |x: f64| if is_negative { -x } else { x };
    let digits = u32::from(scale.unsigned_abs());
    if let Some(divisor) = (0..=15).contains(&scale).then(|| 10u64.pow(digits).checked_mul(count)).flatten()
        && divisor <= EXACT
        && bits(&limbs) <= 53
    {
        return signed(limbs.first().map_or(0.0, |&limb| limb as f64) / divisor as f64);
    }
    signed(Magnitude::<24>::of(&limbs).decimal(0, scale.into(), &[count]).value())
}

/// The float nearest to units of `10^-scale`.
pub(crate) fn decimal_value(units: impl Into<Integer<4>>, scale: i8) -> f64 {
    decimal_mean(&units.into(), scale, 1)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::i256;

    use super::*;

    fn ratio(numerator: u128, exponent: i32, divisors: &[u64]) -> f64 {
        Magnitude::<8>::of(&[numerator as u64, (numerator >> 64) as u64]).divided(exponent, divisors).value()
    }

    #[test]
    fn a_quotient_is_rounded_once() {
        for (a, b) in [(1u64, 3u64), (2, 3), (10, 7), ((1 << 53) - 1, 3), (1, (1 << 53) - 1), (5, 1), (12_345_678, 1_000)] {
            assert_eq!(ratio(u128::from(a), 0, &[b]), a as f64 / b as f64, "{a} / {b}");
            assert_eq!(ratio(u128::from(a), 0, &[b, 1]), a as f64 / b as f64, "{a} / {b}");
        }
        // Half way between two floats, and a hair above it.
        assert_eq!(ratio((1 << 53) + 1, 0, &[1]), 9_007_199_254_740_992.0);
        assert_eq!(ratio((1 << 54) + 3, 0, &[2]), 9_007_199_254_740_994.0);
        assert_eq!(ratio(((1 << 53) + 1) << 64 | 1, -64, &[1]), 9_007_199_254_740_994.0);
        assert_eq!(ratio(((1 << 53) + 1) << 64, -64, &[1, 1]), 9_007_199_254_740_992.0);
    }

    #[test]
    fn the_ends_of_the_range_are_reached() {
        assert_eq!(ratio(1, 1023, &[1]), 2f64.powi(1023));
        assert_eq!(ratio(1, 1024, &[1]), f64::INFINITY);
        assert_eq!(ratio(u128::MAX, 1024 - 128, &[1]), f64::INFINITY);
        assert_eq!(ratio(1, -1074, &[1]), 5e-324);
        assert_eq!(ratio(3, -1076, &[1]), 5e-324);
        assert_eq!(ratio(1, -1075, &[1]), 0.0);
        assert_eq!(ratio(3, -1075, &[1]), 1e-323);
        assert_eq!(ratio(1, -1080, &[1]), 0.0);
        assert_eq!(ratio(1, -5000, &[1]), 0.0);
        assert_eq!(ratio((1 << 53) - 1, -1074, &[1]), f64::from_bits((1 << 53) - 1));
    }

    /// The quotient bit by bit: its highest 64 bits, their exponent, and whether anything is left.
    fn divided_bit_by_bit(dividend: &[u64], divisor: &[u64]) -> (u64, i32, bool) {
        let (mut rest, divisor) = (Magnitude::<12>::of(dividend), Magnitude::<12>::of(divisor));
        // Makes the dividend 1 (inclusive) to 2 (exclusive) times the divisor.
        let mut exponent = bits(dividend) as i32 - bits(&divisor.0) as i32;
        let mut scaled = divisor;
        rest.shift_left((-exponent).max(0) as u32);
        scaled.shift_left(exponent.max(0) as u32);
        if rest.is_below(&scaled) {
            rest.shift_left(1);
            exponent -= 1;
        }
        let mut quotient = 0u64;
        for _ in 0..64 {
            let is_one = !rest.is_below(&scaled);
            if is_one {
                rest.subtract(&scaled);
            }
            quotient = quotient << 1 | u64::from(is_one);
            rest.shift_left(1);
        }
        (quotient, exponent - 63, bits(&rest.0) > 0)
    }

    #[test]
    fn long_numbers_are_divided_by_long_ones() {
        let mut word = 5u64;
        let mut next = || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word
        };
        // Limbs of ones and zeros, and neighbours of powers of two, make estimates fail.
        let mut limb = || match next() >> 61 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << 63,
            3 => 1,
            4 => u64::MAX - 1,
            _ => next(),
        };
        for step in 0..5_000 {
            let [dividend, divisor] = [1 + step % 5, 1 + step / 5 % 4].map(|limbs| {
                let mut number: Vec<u64> = (0..limbs).map(|_| limb()).collect();
                number[limbs - 1] = number[limbs - 1].max(1);
                number
            });
            let found = Magnitude::<8>::of(&dividend).over(-40, &Magnitude::of(&divisor));
            let (quotient, exponent, is_inexact) = divided_bit_by_bit(&dividend, &divisor);
            let expected = Positive::of(u128::from(quotient), is_inexact, exponent - 40);
            assert_eq!(found, expected, "{dividend:?} / {divisor:?}");
        }
        assert_eq!(Magnitude::<8>::of(&[0]).over(3, &Magnitude::of(&[7])), Positive::default());
    }

    #[test]
    fn roots_of_numbers_that_are_no_floats() {
        let root = |exponent: i32| Magnitude::<8>::of(&[1]).divided(exponent, &[1]).square_root();
        assert_eq!(root(2000), 2f64.powi(1000));
        assert_eq!(root(-2000), 2f64.powi(-1000));
        assert_eq!(root(-2148), 5e-324);
        assert_eq!(root(1), 2f64.sqrt());
        assert_eq!(Magnitude::<8>::of(&[0]).divided(3, &[1]).square_root(), 0.0);
    }

    #[test]
    fn decimals_are_divided_exactly() {
        let units = |value: i128| Integer::<5>::from(value);
        assert_eq!(decimal_mean(&units(30), 2, 3), 0.1);
        assert_eq!(decimal_mean(&units(-1), 2, 3), -0.01 / 3.0);
        assert_eq!(decimal_mean(&units(5), -3, 2), 2_500.0);
        assert_eq!(decimal_mean(&units(10i128.pow(37)), 38, 1), 0.1);
        assert_eq!(decimal_mean(&units(10i128.pow(37) * 3), 37, 3), 1.0);
        assert_eq!(decimal_value(i256::from_i128(9_007_199_254_740_993), 0), 9_007_199_254_740_992.0);
        assert_eq!(decimal_value(i256::from_i128(12), 76), 1.2e-75);
    }
}
