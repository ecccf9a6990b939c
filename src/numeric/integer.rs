//! Integers of a fixed width in two's complement. They are wide enough for the sum of any column.
//! They have no scale; the caller knows the value of a unit.

use arrow::datatypes::i256;

use super::{
    limbs,
    stored::{NumberReader, NumberWriter, Stored},
};

/// A signed integer of `N` times 64 bits, the lowest first. Sums wrap, so no order of additions and subtractions can leave one
/// wrong whose true value is in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Integer<const N: usize>([u64; N]);

impl<const N: usize> Default for Integer<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> From<i128> for Integer<N> {
    #[inline]
    fn from(value: i128) -> Self {
        let mut limbs = [(value >> 127) as u64; N];
        for (i, limb) in limbs.iter_mut().take(2).enumerate() {
            *limb = (value >> (64 * i)) as u64;
        }
        Self(limbs)
    }
}

impl<const N: usize> From<i256> for Integer<N> {
    #[inline]
    fn from(value: i256) -> Self {
        let (low, high) = value.to_parts();
        let mut limbs = [(high >> 127) as u64; N];
        for (i, limb) in limbs.iter_mut().take(4).enumerate() {
            *limb = if i < 2 { (low >> (64 * i)) as u64 } else { (high >> (64 * (i - 2))) as u64 };
        }
        Self(limbs)
    }
}

impl<const N: usize> Integer<N> {
    /// The number with this sign and this absolute value, which must fit.
    pub(super) fn of(is_negative: bool, magnitude: &[u64]) -> Self {
        let (mut negated, mut number) = (Self::default(), Self::default());
        number.0.iter_mut().zip(magnitude).for_each(|(own, limb)| *own = *limb);
        if !is_negative {
            return number;
        }
        negated.subtract(&number);
        negated
    }

    /// The square of a number, which must fit.
    #[inline]
    pub(super) fn square(value: i128) -> Self {
        let magnitude = value.unsigned_abs();
        if let Ok(short) = u64::try_from(magnitude) {
            let square = u128::from(short) * u128::from(short);
            let mut limbs = [0; N];
            for (i, limb) in limbs.iter_mut().take(2).enumerate() {
                *limb = (square >> (64 * i)) as u64;
            }
            return Self(limbs);
        }
        let limbs = [magnitude as u64, (magnitude >> 64) as u64];
        Self(limbs::product(&limbs, &limbs))
    }

    /// The square of a number, which must fit.
    pub(super) fn wide_square(value: i256) -> Self {
        let (_, limbs) = Integer::<4>::from(value).magnitude();
        Self(limbs::product(&limbs, &limbs))
    }

    /// Adds another.
    #[inline]
    pub(crate) fn add(&mut self, other: &Self) {
        limbs::add(&mut self.0, &other.0);
    }

    /// Subtracts another: the exact inverse of [`Integer::add`].
    #[inline]
    pub(crate) fn subtract(&mut self, other: &Self) {
        limbs::subtract(&mut self.0, &other.0);
    }

    /// Multiplies by two to a power.
    pub(super) fn shift_left(&mut self, by: u32) {
        limbs::shift_left(&mut self.0, by);
    }

    /// Multiplies.
    pub(super) fn multiply(&mut self, factor: u128) {
        self.0 = limbs::product(&[factor as u64, (factor >> 64) as u64], &self.0);
    }

    /// Is it below zero, and its absolute value.
    pub(super) fn magnitude(&self) -> (bool, [u64; N]) {
        limbs::magnitude(&self.0)
    }
}

impl<const N: usize> Stored for Integer<N> {
    fn store(&self, to: &mut NumberWriter) {
        to.limbs(&self.0);
    }

    fn load(from: &mut NumberReader<'_>) -> Option<Self> {
        from.limbs().map(Self)
    }
}

impl Integer<5> {
    /// The number if it fits into 256 bits.
    pub(crate) fn to_i256(self) -> Option<i256> {
        let [a, b, c, d, _] = self.0.map(u128::from);
        let value = i256::from_parts(a | (b << 64), (c | (d << 64)) as i128);
        (Self::from(value) == self).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_taken_out_whatever_lies_between() {
        let values = [i128::MAX, i128::MIN, -1, 1, 0, i128::from(u64::MAX), 10i128.pow(37)];
        let mut sum = Integer::<5>::default();
        for &value in values.iter().cycle().take(700) {
            sum.add(&Integer::from(value));
        }
        for &value in values.iter().cycle().take(699) {
            sum.subtract(&Integer::from(value));
        }
        // The last of the last round is left.
        assert_eq!(sum, Integer::from(10i128.pow(37)));
        assert_eq!(sum.to_i256(), Some(i256::from_i128(10i128.pow(37))));
    }

    #[test]
    fn products_and_shifts_have_the_sign_of_the_number() {
        for (value, factor, shift) in [(-3i128, 5u128, 2), (7, u128::MAX, 3), (-1, 1 << 100, 150), (i128::MIN, 3, 64), (0, 9, 9)]
        {
            let mut found = Integer::<6>::from(value);
            found.multiply(factor);
            found.shift_left(shift);
            let mut expected = Integer::<6>::default();
            for bit in (0..128).filter(|bit| factor >> bit & 1 == 1) {
                let mut part = Integer::<6>::from(value);
                for _ in 0..shift + bit {
                    let same = part;
                    part.add(&same);
                }
                expected.add(&part);
            }
            assert_eq!(found, expected, "{value} {factor} {shift}");
        }
    }

    #[test]
    fn signs_squares_and_limits() {
        assert_eq!(Integer::<3>::from(-5i128).magnitude(), (true, [5, 0, 0]));
        assert_eq!(Integer::<3>::from(i128::MIN).magnitude(), (true, [0, 1 << 63, 0]));
        assert_eq!(Integer::<3>::of(true, &[5]), Integer::from(-5i128));
        assert_eq!(Integer::<2>::of(false, &[5, 0, 0]), Integer::from(5i128));
        assert_eq!(Integer::<3>::square(i128::from(u64::MAX)).magnitude(), (false, [1, u64::MAX - 1, 0]));
        assert_eq!(Integer::<5>::square(i128::MIN).magnitude(), (false, [0, 0, 0, 1 << 62, 0]));
        assert_eq!(Integer::<9>::wide_square(i256::MIN).magnitude().1, [0, 0, 0, 0, 0, 0, 0, 1 << 62, 0]);
        let mut beyond = Integer::<5>::from(i256::MAX);
        assert_eq!(beyond.to_i256(), Some(i256::MAX));
        beyond.add(&Integer::from(1i128));
        assert_eq!(beyond.to_i256(), None);
        beyond.subtract(&Integer::from(1i128));
        assert_eq!(beyond.to_i256(), Some(i256::MAX));
        assert_eq!(Integer::<5>::from(i256::MIN).to_i256(), Some(i256::MIN));
    }
}
