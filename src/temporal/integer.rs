//! Integers of a fixed width in two's complement. They are wide enough for the sum of any column.
//! They have no scale; the caller knows the value of a unit.

use arrow::datatypes::i256;

/// A signed integer of `N` times 64 bits, the lowest first. Sums wrap, so no order of additions and subtractions can leave one
/// wrong whose true value is in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer<const N: usize>([u64; N]);

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
        Self::square_of(&[magnitude as u64, (magnitude >> 64) as u64])
    }

    /// The square of a number, which must fit.
    pub(super) fn wide_square(value: i256) -> Self {
        let (_, limbs) = Integer::<4>::from(value).magnitude();
        Self::square_of(&limbs)
    }

    fn square_of(magnitude: &[u64]) -> Self {
        let mut square = [0u64; N];
        for (i, &a) in magnitude.iter().enumerate() {
            let mut carry = 0u128;
            for (limb, &b) in square.iter_mut().skip(i).zip(magnitude.iter().chain(std::iter::repeat(&0))) {
                carry += u128::from(*limb) + u128::from(a) * u128::from(b);
                *limb = carry as u64;
                carry >>= 64;
            }
        }
        Self(square)
    }

    /// Adds another.
    #[inline]
    pub(super) fn add(&mut self, other: &Self) {
        let mut carry = false;
        for (own, &limb) in self.0.iter_mut().zip(&other.0) {
            let (sum, first) = own.overflowing_add(limb);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*own, carry) = (sum, first | second);
        }
    }

    /// Subtracts another: the exact inverse of [`Integer::add`].
    #[inline]
    pub(super) fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (own, &limb) in self.0.iter_mut().zip(&other.0) {
            let (rest, first) = own.overflowing_sub(limb);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            (*own, borrow) = (rest, first | second);
        }
    }

    /// Is it below zero, and its absolute value.
    pub(super) fn magnitude(&self) -> (bool, [u64; N]) {
        let is_negative = self.0.last().is_some_and(|&limb| limb >> 63 == 1);
        let mut limbs = self.0;
        if is_negative {
            let mut carry = true;
            for limb in &mut limbs {
                (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
            }
        }
        (is_negative, limbs)
    }
}

impl Integer<5> {
    /// The number if it fits into 256 bits.
    pub(super) fn to_i256(self) -> Option<i256> {
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
    fn signs_squares_and_limits() {
        assert_eq!(Integer::<3>::from(-5i128).magnitude(), (true, [5, 0, 0]));
        assert_eq!(Integer::<3>::from(i128::MIN).magnitude(), (true, [0, 1 << 63, 0]));
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
