//! The exact sum of a multiset of `f64`, rounded only when it is read.
//! It never approximates: no rounding, error term or tolerance is carried between rows.
//!
//! # Contract
//!
//! [`ExactSum`] holds a multiset of values. [`ExactSum::add`] puts one in, [`ExactSum::subtract`]
//! takes one out that was put in before, [`ExactSum::merge`] puts in all that another one holds,
//! and [`ExactSum::value`] is the sum of what is held, correctly rounded (to nearest, ties to
//! even). All of these but the last are exact, so the value is a function of the multiset alone:
//! the same bits whatever the order, the batches, the partitions, or what came and went before.
//!
//! - Nothing held: `0.0`. Whether an empty window is null is the caller's to say.
//! - An exact sum of zero is `+0.0`, **also when every value held is `-0.0`**, where IEEE 754
//!   addition would give `-0.0`: a zero of either sign leaves no trace here.
//! - A NaN held, or infinities of both signs: the one NaN `f64::NAN`, whichever NaN was added.
//!   Otherwise an infinity held: that infinity. Non-finite values are counted, not summed, so each
//!   can be taken out again.
//! - A finite sum whose rounding is beyond `f64::MAX` is an infinity, as correct rounding has it;
//!   sums on the way there may exceed `f64::MAX` and come back (`1e308 + 1e308 - 1e308 == 1e308`).
//! - Taking out what was never put in is not detected: the sum is then that of the signed
//!   multiset, and a non-finite value owed counts as one held until it is put in.
//!
//! # Method
//!
//! Every finite `f64` is an integer times `2^-1074`, so every sum is one too, and a fixed-point
//! number wide enough for all of them makes addition associative. This is Kulisch's long
//! accumulator (U. Kulisch, *Computer Arithmetic and Validity*, 2nd ed., de Gruyter 2013) and the
//! superaccumulator of R. M. Neal, *Fast exact summation using small and large superaccumulators*,
//! arXiv:1505.05571 (2015). The number is held in one of two forms:
//!
//! - *narrow*: an `i128` times a power of two, exact while the lowest and the highest bit in play
//!   are at most 126 positions apart; 24 bytes, and what nearly every column needs;
//! - *wide*: a boxed two's-complement integer that spans the whole range of `f64` with room for
//!   more than `2^64` additions, beside the counts of non-finite values.
//!
//! Neal's carry-save chunks make a faster wide form than plain two's complement, but take twice the
//! memory, and need the additions counted to know when carries are due.
//!
//! Which form is in use depends on history; the number held, and so the value, does not.
//!
//! A *position* below is the index of a bit above the lowest one: its weight is
//! `2^(position - 1074)`.

mod term;
#[cfg(test)]
mod tests;
mod wide;

use super::{
    float::{decode, weight},
    ratio::Magnitude,
    stored::{NumberReader, NumberWriter, Stored},
};
use term::{MAX_BASE, MAX_SHIFT, Term};
use wide::{NARROW_EVERY, Wide};

/// The exact sum of a multiset of `f64`; see the module's documentation for the contract.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExactSum {
    form: Form,
}

/// How the number is held. The narrow sum is kept as two halves because an `i128` field would
/// align the whole to 16 bytes and so take 32 instead of 24.
#[derive(Clone, Debug)]
enum Form {
    Narrow { low: u64, high: i64, base: u16 },
    Wide(Box<Wide>),
}

impl Default for Form {
    fn default() -> Self {
        Self::from(Term::default())
    }
}

impl From<Term> for Form {
    /// The caller keeps `position` within the highest base.
    #[inline]
    fn from(term: Term) -> Self {
        Self::Narrow { low: term.units as u64, high: (term.units >> 64) as i64, base: term.position as u16 }
    }
}

impl ExactSum {
    /// Puts `x` in.
    #[inline]
    pub(crate) fn add(&mut self, x: f64) {
        if !self.add_in_place(x) {
            self.change(x, 1);
        }
    }

    /// Puts in the exact product of a finite `x` and an integer of at most 33 bits and a sign, which may be no float. After `2^44`
    /// such products of the largest floats the sum would wrap.
    #[inline]
    pub(crate) fn add_times(&mut self, x: f64, times: i64) {
        let (significand, position) = decode(x);
        let units = i128::from(significand) * i128::from(times);
        if units != 0 && !self.add_units_in_place(units, position as u16) {
            self.add_term(Term { units, position });
        }
    }

    /// Takes out an `x` that was put in before: the exact inverse of [`ExactSum::add`].
    #[cfg_attr(not(test), expect(dead_code, reason = "windows subtract whole sums; tests compare them with this"))]
    #[inline]
    pub(crate) fn subtract(&mut self, x: f64) {
        // A NaN or infinity is never added in place, so negation cannot lose its sign here.
        if !self.add_in_place(-x) {
            self.change(x, -1);
        }
    }

    /// Puts in all that `other` holds.
    #[inline]
    pub(crate) fn merge(&mut self, other: &Self) {
        match &other.form {
            Form::Narrow { low, high, base } => {
                let term = Term::narrow(*low, *high, *base);
                if !self.add_units_in_place(term.units, *base) {
                    self.add_term(term);
                }
            }
            Form::Wide(wide) => self.widen(|own| own.merge(wide)),
        }
    }

    /// Takes out all that `other` holds, all of which was put in before: the exact inverse of [`ExactSum::merge`].
    #[inline]
    pub(crate) fn unmerge(&mut self, other: &Self) {
        match &other.form {
            Form::Narrow { low, high, base } => {
                // The narrow form keeps a bit free, so its negative fits.
                let term = Term::narrow(*low, *high, *base);
                let negative = Term { units: term.units.wrapping_neg(), position: term.position };
                if !self.add_units_in_place(negative.units, *base) {
                    self.add_term(negative);
                }
            }
            Form::Wide(wide) => {
                self.widen(|own| own.unmerge(wide));
                self.narrow_if_possible();
            }
        }
    }

    /// Calls `to` with the sum as it is held: the absolute value of an integer, lowest limb first, and the power of two that
    /// one of its units is. `None` while a value is held that is not finite.
    pub(crate) fn units<T>(&self, to: impl FnOnce(&[u64], i32) -> Option<T>) -> Option<T> {
        self.signed_units(|_, limbs, exponent| to(limbs, exponent))
    }

    /// As [`ExactSum::units`], with whether the sum is below zero first.
    pub(crate) fn signed_units<T>(&self, to: impl FnOnce(bool, &[u64], i32) -> Option<T>) -> Option<T> {
        match &self.form {
            Form::Narrow { low, high, base } => {
                let signed = Term::narrow(*low, *high, *base).units;
                let units = signed.unsigned_abs();
                to(signed < 0, &[units as u64, (units >> 64) as u64], i32::from(*base) - 1074)
            }
            Form::Wide(wide) if wide.is_finite() => {
                let (is_negative, limbs) = wide.magnitude();
                to(is_negative, &limbs, -1074)
            }
            Form::Wide(_) => None,
        }
    }

    /// The sum of what is held, correctly rounded.
    pub(crate) fn value(&self) -> f64 {
        match &self.form {
            Form::Narrow { low, high, base } => {
                let sum = Term::narrow(*low, *high, *base);
                // The cast rounds to nearest even, and scaling by a power of two does not round
                // again: a sum of 2^53 units or more is a normal number (or overflows, as it
                // should), and a smaller one is cast exactly and is a multiple of 2^-1074.
                sum.units as f64 * weight(sum.position)
            }
            Form::Wide(wide) => wide.value(),
        }
    }

    /// [`ExactSum::value`] divided by `count`.
    ///
    /// Two roundings: that of the sum, which is correct, then that of one IEEE 754 division (a
    /// `count` above `2^53` is itself rounded first). So the mean is a function of the multiset as
    /// the sum is, but may differ from the correctly rounded mean in its last bit, and is infinite
    /// where the sum overflows, even if the true mean would not. A `count` of zero gives NaN or an
    /// infinity; callers handle the empty case.
    pub(crate) fn mean(&self, count: u64) -> f64 {
        self.value() / count as f64
    }

    /// [`ExactSum::mean`] of finite numbers, which is finite, too: where the sum overflows, it is the exact mean, rounded once.
    /// A `count` of zero gives NaN.
    pub(crate) fn finite_mean(&self, count: u64) -> f64 {
        let mean = self.mean(count);
        if mean.is_finite() || count == 0 {
            return mean;
        }
        let exact = self.units(|limbs, exponent| Some(Magnitude::<40>::of(limbs).decimal(exponent, 0, &[count]).value()));
        exact.map_or(mean, |magnitude| magnitude.copysign(mean))
    }

    /// Adds `x` to the narrow form if it fits there with the present base; whether it did.
    #[inline]
    fn add_in_place(&mut self, x: f64) -> bool {
        let Form::Narrow { low, high, base } = &mut self.form else {
            return false;
        };
        let (units, position) = decode(x);
        // A value below the base wraps round to a huge shift. A zero fits at any shift, and is
        // let through here since columns with many zeros are common.
        let shift = position.wrapping_sub(u32::from(*base));
        if (shift > MAX_SHIFT) & (units != 0) {
            return false;
        }
        let sum = Term::narrow(*low, *high, *base).units;
        let Some(sum) = sum.checked_add(i128::from(units).wrapping_shl(shift)) else {
            return false;
        };
        *low = sum as u64;
        *high = (sum >> 64) as i64;
        true
    }

    /// Adds units of this base or a higher one to the narrow form, if both are so and they fit; whether they were.
    #[inline]
    fn add_units_in_place(&mut self, units: i128, other_base: u16) -> bool {
        let Form::Narrow { low, high, base } = &mut self.form else { return false };
        let shift = u32::from(other_base).wrapping_sub(u32::from(*base));
        if shift >= units.unsigned_abs().leading_zeros() {
            return false;
        }
        let Some(sum) = Term::narrow(*low, *high, *base).units.checked_add(units << shift) else { return false };
        *low = sum as u64;
        *high = (sum >> 64) as i64;
        true
    }

    /// Puts `x` in (`times` is 1) or takes it out (`times` is -1), whatever the form.
    #[inline(never)]
    fn change(&mut self, x: f64, times: i64) {
        if !x.is_finite() {
            self.widen(|wide| wide.count(x, times));
            if times < 0 {
                self.narrow_if_possible();
            }
            return;
        }
        let (units, position) = decode(x);
        // A significand has 53 bits, so the product is exact.
        let units = units * times;
        if let Form::Wide(wide) = &mut self.form {
            wide.add_at(i128::from(units), position);
            if times < 0 {
                wide.removals = wide.removals.wrapping_add(1);
                if wide.removals.is_multiple_of(NARROW_EVERY) {
                    self.narrow_if_possible();
                }
            }
        } else {
            self.add_term(Term { units: i128::from(units), position });
        }
    }

    fn add_term(&mut self, term: Term) {
        if let Form::Narrow { low, high, base } = &self.form
            && let Some(sum) = Term::narrow(*low, *high, *base).plus(term)
        {
            self.form = Form::from(sum);
        } else {
            self.widen(|wide| wide.add(term));
        }
    }

    /// Applies `change` to the wide form, made from the narrow one first if need be.
    fn widen(&mut self, change: impl FnOnce(&mut Wide)) {
        match &mut self.form {
            Form::Wide(wide) => change(wide),
            Form::Narrow { low, high, base } => {
                let mut wide = Box::new(Wide::new(Term::narrow(*low, *high, *base)));
                change(&mut wide);
                self.form = Form::Wide(wide);
            }
        }
    }

    /// Goes back to the narrow form, and so frees memory, once what made it too small has left.
    fn narrow_if_possible(&mut self) {
        if let Form::Wide(wide) = &self.form
            && let Some(sum) = wide.narrowed()
        {
            self.form = Form::from(sum);
        }
    }
}

/// How a sum is stored: in its narrow form, or in its wide one.
const NARROW: u64 = 0;
const WIDE: u64 = 1;

impl Stored for ExactSum {
    /// The narrow form is stored without the zeros at its low end. The form may so be another one than before; the number is the same.
    fn store(&self, to: &mut NumberWriter) {
        match &self.form {
            Form::Narrow { low, high, base } => {
                let mut term = Term::narrow(*low, *high, *base);
                let zeros =
                    if term.units == 0 { 0 } else { term.units.trailing_zeros().min(MAX_BASE.saturating_sub(term.position)) };
                term = Term { units: term.units >> zeros, position: if term.units == 0 { 0 } else { term.position + zeros } };
                to.unsigned(NARROW);
                to.limbs(&[term.units as u64, (term.units >> 64) as u64]);
                to.unsigned(u64::from(term.position));
            }
            Form::Wide(wide) => {
                to.unsigned(WIDE);
                to.limbs(&wide.limbs);
                [wide.nan, wide.positive_infinity, wide.negative_infinity].into_iter().for_each(|count| to.signed(count));
            }
        }
    }

    fn load(from: &mut NumberReader<'_>) -> Option<Self> {
        match from.unsigned()? {
            NARROW => {
                let [low, high] = from.limbs()?;
                let position = u32::try_from(from.unsigned()?).ok().filter(|position| *position <= MAX_BASE)?;
                let units = (i128::from(high as i64) << 64) | i128::from(low);
                // The narrow form keeps a bit free.
                units.checked_neg()?;
                Some(Self { form: Form::from(Term { units, position }) })
            }
            WIDE => {
                let mut wide = Wide::new(Term::default());
                wide.limbs = from.limbs()?;
                (wide.nan, wide.positive_infinity, wide.negative_infinity) = (from.signed()?, from.signed()?, from.signed()?);
                Some(Self { form: Form::Wide(Box::new(wide)) })
            }
            _ => None,
        }
    }
}
