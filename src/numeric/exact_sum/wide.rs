//! The wide form of an exact sum: an integer that spans the whole range of `f64`, and counts of what is not finite.
//! It rounds only when it is read.

use super::term::Term;
use crate::numeric::{float::weight, limbs};

/// Limbs of the wide form: 2098 bits reach from `2^-1074` to `2^1024`; of the other 78 one is the
/// sign, and 77 are room for carries.
const LIMBS: usize = 34;

/// How many subtractions the wide form takes between two attempts to go back to the narrow one, so
/// that neither the attempt nor an allocation can be due at every row.
pub(super) const NARROW_EVERY: u32 = 64;

/// The wide form: an integer of units of `2^-1074` in two's complement, lowest limb first. All its
/// arithmetic wraps, so no order of additions can leave it wrong once the sum is in range.
#[derive(Clone, Debug)]
pub(super) struct Wide {
    pub(super) limbs: [u64; LIMBS],
    pub(super) nan: i64,
    pub(super) positive_infinity: i64,
    pub(super) negative_infinity: i64,
    /// Subtractions of finite values so far, to tell when [`NARROW_EVERY`] have passed.
    pub(super) removals: u32,
}

impl Wide {
    pub(super) fn new(term: Term) -> Self {
        let mut wide = Self { limbs: [0; LIMBS], nan: 0, positive_infinity: 0, negative_infinity: 0, removals: 0 };
        wide.add(term);
        wide
    }

    /// Counts a value that is not finite.
    pub(super) fn count(&mut self, x: f64, times: i64) {
        let counter = if x.is_nan() {
            &mut self.nan
        } else if x > 0.0 {
            &mut self.positive_infinity
        } else {
            &mut self.negative_infinity
        };
        *counter = counter.wrapping_add(times);
    }

    pub(super) fn add(&mut self, term: Term) {
        self.add_at(i128::from(term.units as u64), term.position);
        self.add_at(term.units >> 64, term.position + 64);
    }

    /// Adds `units` at `position`; `units` is within 64 bits and a sign, so that it can be shifted
    /// to its place within a limb, and `position` leaves two limbs.
    pub(super) fn add_at(&mut self, units: i128, position: u32) {
        let shifted = units << (position % 64);
        let start = (position / 64) as usize;
        let Some([first, second, rest @ ..]) = self.limbs.get_mut(start..) else {
            return;
        };
        let pair = (u128::from(*second) << 64) | u128::from(*first);
        let (sum, carry) = pair.overflowing_add(shifted as u128);
        *first = sum as u64;
        *second = (sum >> 64) as u64;
        // To the limbs above, the term is all zeros or, if negative, all ones; with the carry that
        // is 1, 0 or -1, and as a rule 0, or soon taken up.
        let step = i64::from(carry) - i64::from(shifted < 0);
        if step != 0 {
            for limb in rest {
                let (sum, wrapped) = limb.overflowing_add_signed(step);
                *limb = sum;
                if !wrapped {
                    break;
                }
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        limbs::add(&mut self.limbs, &other.limbs);
        self.nan = self.nan.wrapping_add(other.nan);
        self.positive_infinity = self.positive_infinity.wrapping_add(other.positive_infinity);
        self.negative_infinity = self.negative_infinity.wrapping_add(other.negative_infinity);
    }

    pub(super) fn unmerge(&mut self, other: &Self) {
        limbs::subtract(&mut self.limbs, &other.limbs);
        self.nan = self.nan.wrapping_sub(other.nan);
        self.positive_infinity = self.positive_infinity.wrapping_sub(other.positive_infinity);
        self.negative_infinity = self.negative_infinity.wrapping_sub(other.negative_infinity);
    }

    /// Is no value held that is not finite?
    pub(super) fn is_finite(&self) -> bool {
        (self.nan, self.positive_infinity, self.negative_infinity) == (0, 0, 0)
    }

    pub(super) fn value(&self) -> f64 {
        match (self.nan, self.positive_infinity, self.negative_infinity) {
            (0, 0, 0) => self.finite_value(),
            (0, _, 0) => f64::INFINITY,
            (0, 0, _) => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }

    pub(super) fn finite_value(&self) -> f64 {
        let (negative, limbs) = self.magnitude();
        let highest = limbs.iter().rposition(|&limb| limb != 0).unwrap_or(0);
        let (below, head) = limbs.split_at(highest.saturating_sub(1));
        let [first, second, ..] = head else {
            return 0.0;
        };
        // If limbs lie below these two, the upper of the two is not zero, so the lowest bit is
        // beyond the 53 kept and the one that decides a tie: setting it says all there is to say
        // about the limbs below, that the sum is not exactly at or halfway between two values.
        let inexact = below.iter().any(|&limb| limb != 0);
        let pair = (u128::from(*second) << 64) | u128::from(*first) | u128::from(inexact);
        // Rounded once, as in the narrow form.
        let magnitude = pair as f64 * weight(below.len() as u32 * 64);
        if negative { -magnitude } else { magnitude }
    }

    /// The number as the narrow form has it, if it fits there and nothing else is held.
    pub(super) fn narrowed(&self) -> Option<Term> {
        if !self.is_finite() {
            return None;
        }
        let (negative, limbs) = self.magnitude();
        let mut sum = Term::default();
        for (index, &limb) in limbs.iter().enumerate() {
            sum = sum.plus(Term { units: i128::from(limb), position: index as u32 * 64 })?;
        }
        // The narrow form never gets as low as `i128::MIN` here, but need not rely on it.
        if negative {
            sum.units = sum.units.checked_neg()?;
        }
        Some(sum)
    }

    /// Whether the number is below zero, and its absolute value.
    pub(super) fn magnitude(&self) -> (bool, [u64; LIMBS]) {
        limbs::magnitude(&self.limbs)
    }
}
