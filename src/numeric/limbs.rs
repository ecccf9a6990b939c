//! Long integers as arrays of 64-bit limbs, the lowest first. Results wrap, so the same functions serve unsigned integers and
//! two's complement.

/// Adds another.
#[inline]
pub(super) fn add<const N: usize>(own: &mut [u64; N], other: &[u64; N]) {
    let mut carry = false;
    for (own, &limb) in own.iter_mut().zip(other) {
        let (sum, first) = own.overflowing_add(limb);
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        (*own, carry) = (sum, first | second);
    }
}

/// Subtracts another: the exact inverse of [`add`].
#[inline]
pub(super) fn subtract<const N: usize>(own: &mut [u64; N], other: &[u64; N]) {
    let mut borrow = false;
    for (own, &limb) in own.iter_mut().zip(other) {
        let (rest, first) = own.overflowing_sub(limb);
        let (rest, second) = rest.overflowing_sub(u64::from(borrow));
        (*own, borrow) = (rest, first | second);
    }
}

/// Multiplies by two to a power.
pub(super) fn shift_left<const N: usize>(own: &mut [u64; N], by: u32) {
    let (limbs, by) = ((by / 64) as usize, by % 64);
    for i in (0..N).rev() {
        let at = |i: Option<usize>| i.map_or(0, |i| own[i]);
        let (high, low) = (at(i.checked_sub(limbs)), at(i.checked_sub(limbs + 1)));
        own[i] = if by == 0 { high } else { (high << by) | (low >> (64 - by)) };
    }
}

/// The product of two integers.
pub(super) fn product<const N: usize>(a: &[u64], b: &[u64]) -> [u64; N] {
    let mut product = [0; N];
    let b = significant(b);
    for (i, &a) in significant(a).iter().enumerate() {
        let (mut carry, mut rest) = (0u128, b.iter());
        for limb in product.iter_mut().skip(i) {
            let b = rest.next().copied();
            if b.is_none() && carry == 0 {
                break;
            }
            carry += u128::from(*limb) + u128::from(a) * u128::from(b.unwrap_or(0));
            *limb = carry as u64;
            carry >>= 64;
        }
    }
    product
}

/// Of an integer in two's complement: is it below zero, and its absolute value.
#[inline]
pub(super) fn magnitude<const N: usize>(limbs: &[u64; N]) -> (bool, [u64; N]) {
    let is_negative = limbs.last().is_some_and(|&limb| limb >> 63 == 1);
    let mut magnitude = *limbs;
    if is_negative {
        let mut carry = true;
        for limb in &mut magnitude {
            (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
        }
    }
    (is_negative, magnitude)
}

/// The number of bits up to the highest that is set.
pub(super) fn bits(limbs: &[u64]) -> u32 {
    significant(limbs).split_last().map_or(0, |(top, below)| below.len() as u32 * 64 + 64 - top.leading_zeros())
}

/// The limbs up to the highest that is not zero.
fn significant(limbs: &[u64]) -> &[u64] {
    &limbs[..limbs.iter().rposition(|&limb| limb != 0).map_or(0, |top| top + 1)]
}
