//! One concept: the exact sum of a multiset of `f64`, rounded only when it is read.
//! It refuses to approximate: no rounding, error term or tolerance is ever carried between rows.
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

/// Limbs of the wide form: 2098 bits reach from `2^-1074` to `2^1024`; of the other 78 one is the
/// sign, and 77 are room for carries.
const LIMBS: usize = 34;

/// The furthest left a 53-bit significand can be shifted and stay below `2^126`.
const MAX_SHIFT: u32 = 126 - 53;

/// The highest base of the narrow form. At this base the largest finite `f64` (position 2045) is
/// shifted by exactly [`MAX_SHIFT`], and a non-finite one (which decodes to position 2046) by one
/// more, so the range check that every addition needs anyway also turns away NaN and infinities.
const MAX_BASE: u32 = 2046 - (MAX_SHIFT + 1);

/// Bits left free above the highest one when the narrow form picks a base, if the bits below allow:
/// room for the sum to grow, while as much is left for smaller values to come.
const HEADROOM: u32 = 42;

/// The least headroom accepted for the sake of taking further values like the present one without
/// picking a base again; the sum outgrows it at the earliest after `2^16` such values.
const MIN_HEADROOM: u32 = 16;

/// How many subtractions the wide form takes between two attempts to go back to the narrow one, so
/// that neither the attempt nor an allocation can be due at every row.
const NARROW_EVERY: u32 = 64;

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
    /// The caller keeps `position` within [`MAX_BASE`].
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

    /// Takes out an `x` that was put in before: the exact inverse of [`ExactSum::add`].
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

    /// The sum as an unevaluated sum of two: the rounded value, and what rounding took away, rounded.
    pub(crate) fn parts(&self) -> (f64, f64) {
        let value = self.value();
        if !value.is_finite() {
            return (value, 0.0);
        }
        let mut rest = self.clone();
        rest.subtract(value);
        (value, rest.value())
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

/// `x` as a signed significand and the position of its lowest bit. A zero is `(0, 0)`; a value that
/// is not finite has position 2046, where no finite one is, and a significand without meaning.
#[inline]
fn decode(x: f64) -> (i64, u32) {
    let bits = x.to_bits();
    let exponent = (bits >> 52) & 0x7ff;
    // Subnormals share the position of the smallest normal numbers, and lack the implicit bit.
    let implicit = u64::from(exponent != 0);
    let significand = ((bits & ((1 << 52) - 1)) | (implicit << 52)) as i64;
    // Conditional negation without a branch, as signs are often not predictable.
    let sign = (bits as i64) >> 63;
    ((significand ^ sign) - sign, (exponent - implicit) as u32)
}

/// `2^(position - 1074)`, exactly, for a position of at most 2097.
fn weight(position: u32) -> f64 {
    if position < 52 { f64::from_bits(1 << position) } else { f64::from_bits(u64::from(position - 51) << 52) }
}

/// The number `units * 2^(position - 1074)`.
#[derive(Clone, Copy, Default)]
struct Term {
    units: i128,
    position: u32,
}

impl Term {
    /// The number that the fields of [`Form::Narrow`] hold.
    #[inline]
    fn narrow(low: u64, high: i64, base: u16) -> Self {
        Self { units: (i128::from(high) << 64) | i128::from(low), position: u32::from(base) }
    }

    /// The exact sum, at a base chosen afresh and within [`MAX_BASE`], or `None` if the narrow form
    /// cannot hold it. `self` is within that base already.
    fn plus(self, other: Self) -> Option<Self> {
        if other.units == 0 {
            return Some(self);
        }
        let lowest = self.lowest().min(other.lowest());
        let top = self.top().max(other.top());
        let wanted = top.saturating_sub(126 - HEADROOM).min(other.position).max(top.saturating_sub(126 - MIN_HEADROOM));
        let base = wanted.min(lowest).min(MAX_BASE);
        let units = self.units_at(base)?.checked_add(other.units_at(base)?)?;
        Some(Self { units, position: base })
    }

    /// The position of the lowest bit set; zero has none, and so bounds no base.
    fn lowest(self) -> u32 {
        match self.units {
            0 => u32::MAX,
            units => self.position + units.trailing_zeros(),
        }
    }

    /// The position just above the highest bit set.
    fn top(self) -> u32 {
        match self.units.unsigned_abs() {
            0 => 0,
            units => self.position + (u128::BITS - units.leading_zeros()),
        }
    }

    /// The number in units of another base, which is not above [`Term::lowest`]; `None` if they
    /// overflow.
    fn units_at(self, base: u32) -> Option<i128> {
        if self.units == 0 {
            return Some(0);
        }
        // Zeros at the low end are shed first, as they may be all that does not fit.
        let odd = self.units >> self.units.trailing_zeros();
        let shift = self.lowest().checked_sub(base)?;
        let units = odd.checked_shl(shift)?;
        (units >> shift == odd).then_some(units)
    }
}

/// The wide form: an integer of units of `2^-1074` in two's complement, lowest limb first. All its
/// arithmetic wraps, so no order of additions can leave it wrong once the sum is in range.
#[derive(Clone, Debug)]
struct Wide {
    limbs: [u64; LIMBS],
    nan: i64,
    positive_infinity: i64,
    negative_infinity: i64,
    /// Subtractions of finite values so far, to tell when [`NARROW_EVERY`] have passed.
    removals: u32,
}

impl Wide {
    fn new(term: Term) -> Self {
        let mut wide = Self { limbs: [0; LIMBS], nan: 0, positive_infinity: 0, negative_infinity: 0, removals: 0 };
        wide.add(term);
        wide
    }

    /// Counts a value that is not finite.
    fn count(&mut self, x: f64, times: i64) {
        let counter = if x.is_nan() {
            &mut self.nan
        } else if x > 0.0 {
            &mut self.positive_infinity
        } else {
            &mut self.negative_infinity
        };
        *counter = counter.wrapping_add(times);
    }

    fn add(&mut self, term: Term) {
        self.add_at(i128::from(term.units as u64), term.position);
        self.add_at(term.units >> 64, term.position + 64);
    }

    /// Adds `units` at `position`; `units` is within 64 bits and a sign, so that it can be shifted
    /// to its place within a limb, and `position` leaves two limbs.
    fn add_at(&mut self, units: i128, position: u32) {
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

    fn merge(&mut self, other: &Self) {
        let mut carry = 0;
        for (own, limb) in self.limbs.iter_mut().zip(other.limbs) {
            let sum = u128::from(*own) + u128::from(limb) + carry;
            *own = sum as u64;
            carry = sum >> 64;
        }
        self.nan = self.nan.wrapping_add(other.nan);
        self.positive_infinity = self.positive_infinity.wrapping_add(other.positive_infinity);
        self.negative_infinity = self.negative_infinity.wrapping_add(other.negative_infinity);
    }

    fn unmerge(&mut self, other: &Self) {
        let mut borrow = 0;
        for (own, limb) in self.limbs.iter_mut().zip(other.limbs) {
            let (rest, first) = own.overflowing_sub(limb);
            let (rest, second) = rest.overflowing_sub(borrow);
            *own = rest;
            borrow = u64::from(first | second);
        }
        self.nan = self.nan.wrapping_sub(other.nan);
        self.positive_infinity = self.positive_infinity.wrapping_sub(other.positive_infinity);
        self.negative_infinity = self.negative_infinity.wrapping_sub(other.negative_infinity);
    }

    fn value(&self) -> f64 {
        match (self.nan, self.positive_infinity, self.negative_infinity) {
            (0, 0, 0) => self.finite_value(),
            (0, _, 0) => f64::INFINITY,
            (0, 0, _) => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }

    fn finite_value(&self) -> f64 {
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
    fn narrowed(&self) -> Option<Term> {
        if (self.nan, self.positive_infinity, self.negative_infinity) != (0, 0, 0) {
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
    fn magnitude(&self) -> (bool, [u64; LIMBS]) {
        let mut limbs = self.limbs;
        let negative = limbs.last().is_some_and(|&limb| limb >> 63 == 1);
        if negative {
            let mut carry = true;
            for limb in &mut limbs {
                (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
            }
        }
        (negative, limbs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::num::f64 as class;
    use proptest::prelude::*;

    use super::*;

    /// The smallest positive value.
    const TINY: f64 = f64::from_bits(1);
    /// `2^53`, from where on odd integers are ties.
    const TWO_53: f64 = 9_007_199_254_740_992.0;

    fn sum_of(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        for &x in values {
            sum.add(x);
        }
        sum
    }

    fn bits_of(values: &[f64]) -> u64 {
        sum_of(values).value().to_bits()
    }

    fn is_wide(sum: &ExactSum) -> bool {
        matches!(sum.form, Form::Wide(_))
    }

    /// Values of one magnitude, as columns have them; the narrow form takes these.
    fn ordinary() -> BoxedStrategy<f64> {
        prop_oneof![-1e6..1e6, (-1000..1000_i32).prop_map(f64::from)].boxed()
    }

    /// Few bits at moderately many places: much cancellation, many ties, both forms.
    fn sparse() -> BoxedStrategy<f64> {
        (-3..=3_i32, -70..70_i32).prop_map(|(units, exponent)| f64::from(units) * 2_f64.powi(exponent)).boxed()
    }

    /// Every finite value, over the whole range of exponents.
    fn finite() -> BoxedStrategy<f64> {
        (class::NORMAL | class::SUBNORMAL | class::ZERO | class::POSITIVE | class::NEGATIVE).boxed()
    }

    fn anything() -> BoxedStrategy<f64> {
        prop_oneof![
            8 => ordinary(),
            8 => sparse(),
            8 => finite(),
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
        ]
        .boxed()
    }

    /// Columns of one kind, and columns of all kinds at once.
    fn column() -> impl Strategy<Value = Vec<f64>> {
        prop_oneof![vec(ordinary(), 0..60), vec(sparse(), 0..60), vec(finite(), 0..60), vec(anything(), 0..60),]
    }

    /// The correctly rounded sum by another method: the non-overlapping partial sums of J. R.
    /// Shewchuk, *Adaptive precision floating-point arithmetic* (1997), for values and sums that
    /// stay clear of overflow.
    fn by_expansion(values: &[f64]) -> f64 {
        let mut partials: Vec<f64> = Vec::new();
        for &value in values {
            let mut x = value;
            let mut kept = Vec::new();
            for &partial in &partials {
                let (large, small) = if x.abs() < partial.abs() { (partial, x) } else { (x, partial) };
                let high = large + small;
                let low = small - (high - large);
                if low != 0.0 {
                    kept.push(low);
                }
                x = high;
            }
            kept.push(x);
            partials = kept;
        }
        let mut high = 0.0;
        while let Some(partial) = partials.pop() {
            let before: f64 = high;
            high = before + partial;
            let low = partial - (high - before);
            if low != 0.0 {
                // A tie that the next partial shows to be none goes the way that one points.
                let beyond = partials.last().copied().unwrap_or(0.0);
                let further = high + low * 2.0;
                if low * beyond > 0.0 && further - high == low * 2.0 {
                    high = further;
                }
                break;
            }
        }
        // An expansion can end in a zero of either sign.
        high + 0.0
    }

    proptest! {
        #[test]
        fn agrees_with_expansion(values in prop_oneof![
            vec(ordinary(), 0..60),
            vec(sparse(), 0..60),
            vec(prop_oneof![ordinary(), sparse(), finite().prop_filter(
                "the oracle must not overflow",
                |x| x.abs() < 1e300,
            )], 0..60),
        ]) {
            prop_assert_eq!(bits_of(&values), by_expansion(&values).to_bits());
        }

        #[test]
        fn order_does_not_matter(
            (values, shuffled) in column().prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle()))
        ) {
            prop_assert_eq!(bits_of(&values), bits_of(&shuffled));
        }

        #[test]
        fn form_does_not_matter(values in column()) {
            let mut wide = ExactSum::default();
            wide.widen(|_| ());
            for &x in &values {
                wide.add(x);
            }
            prop_assert!(is_wide(&wide));
            prop_assert_eq!(wide.value().to_bits(), bits_of(&values));
            wide.narrow_if_possible();
            prop_assert_eq!(wide.value().to_bits(), bits_of(&values));
        }

        #[test]
        fn what_came_and_went_leaves_no_trace(kept in column(), passing in column()) {
            let mut sum = sum_of(&kept);
            for &x in &passing {
                sum.add(x);
            }
            for &x in &passing {
                sum.subtract(x);
            }
            prop_assert_eq!(sum.value().to_bits(), bits_of(&kept));
        }

        #[test]
        fn sliding_window_is_the_sum_of_its_rows(values in vec(anything(), 0..200), width in 1..20_usize) {
            let mut sum = ExactSum::default();
            for (end, &x) in values.iter().enumerate() {
                sum.add(x);
                if let Some(start) = end.checked_sub(width) {
                    sum.subtract(values[start]);
                }
                let window = &values[(end + 1).saturating_sub(width)..=end];
                prop_assert_eq!(sum.value().to_bits(), bits_of(window));
            }
        }

        #[test]
        fn merge_is_concatenation(parts in vec(column(), 0..5)) {
            let mut merged = ExactSum::default();
            for part in &parts {
                merged.merge(&sum_of(part));
            }
            prop_assert_eq!(merged.value().to_bits(), bits_of(&parts.concat()));
            let mut backwards = ExactSum::default();
            for part in parts.iter().rev() {
                let mut sum = sum_of(part);
                sum.merge(&backwards);
                backwards = sum;
            }
            prop_assert_eq!(backwards.value().to_bits(), merged.value().to_bits());
        }

        #[test]
        fn one_value_is_itself(x in finite()) {
            // A negative zero is the one value that is not.
            prop_assert_eq!(bits_of(&[x]), (x + 0.0).to_bits());
        }

        #[test]
        fn a_pair_is_rounded_as_one_addition(a in anything(), b in anything()) {
            let expected = a + b;
            let expected = if expected.is_nan() { f64::NAN } else { expected + 0.0 };
            prop_assert_eq!(bits_of(&[a, b]), expected.to_bits());
        }

        #[test]
        fn opposites_cancel_to_positive_zero(values in vec(finite(), 0..60)) {
            let mut both = values.clone();
            both.extend(values.iter().map(|x| -x));
            prop_assert_eq!(bits_of(&both), 0.0_f64.to_bits());
        }
    }

    #[test]
    fn is_small() {
        assert!(size_of::<ExactSum>() <= 24);
        assert!(size_of::<Option<ExactSum>>() <= 24);
        assert!(size_of::<Wide>() <= 304);
    }

    #[test]
    fn zeros_are_positive() {
        for values in [&[][..], &[0.0], &[-0.0], &[-0.0, -0.0], &[1.5, -1.5, -0.0]] {
            assert_eq!(bits_of(values), 0.0_f64.to_bits(), "{values:?}");
        }
    }

    #[test]
    fn ties_go_to_even_and_no_bit_is_too_small_to_break_one() {
        for (values, expected) in [
            (&[TWO_53, 1.0][..], TWO_53),
            (&[TWO_53, 1.0, TINY], TWO_53 + 2.0),
            (&[TWO_53, 1.0, -TINY], TWO_53),
            (&[TWO_53, 3.0], TWO_53 + 4.0),
            (&[TWO_53, 3.0, TINY], TWO_53 + 4.0),
            (&[TWO_53, 3.0, -TINY], TWO_53 + 2.0),
            (&[TWO_53, 0.5, 0.5], TWO_53),
            (&[TWO_53, 0.5, 0.5, 2_f64.powi(-50)], TWO_53 + 2.0),
            (&[TWO_53 - 1.0, 0.5], TWO_53),
        ] {
            let negated: Vec<f64> = values.iter().map(|x| -x).collect();
            assert_eq!(sum_of(values).value(), expected, "{values:?}");
            assert_eq!(sum_of(&negated).value(), -expected, "{negated:?}");
        }
    }

    #[test]
    fn a_sum_may_pass_beyond_the_largest_value_and_come_back() {
        let max = f64::MAX;
        // Half the distance from the largest value to where the next one would be.
        let half = 2_f64.powi(970);
        for (values, expected) in [
            (&[1e308, 1e308, -1e308][..], 1e308),
            (&[max, max, -max], max),
            (&[max, max, max, -max, -max], max),
            (&[max, max], f64::INFINITY),
            (&[-max, -max], f64::NEG_INFINITY),
            (&[max, half], f64::INFINITY),
            (&[max, half, -TINY], max),
            (&[max, half / 2.0], max),
            (&[max, TINY, -max], TINY),
        ] {
            assert_eq!(sum_of(values).value(), expected, "{values:?}");
        }
    }

    #[test]
    fn subnormals_are_exact() {
        assert_eq!(sum_of(&[TINY; 1000]).value(), f64::from_bits(1000));
        let below = f64::MIN_POSITIVE - TINY;
        assert_eq!(sum_of(&[below, TINY]).value(), f64::MIN_POSITIVE);
        assert_eq!(sum_of(&[f64::MIN_POSITIVE, -TINY]).value(), below);
        assert_eq!(sum_of(&[1.0, TINY, -1.0]).value(), TINY);
    }

    #[test]
    fn non_finite_values_come_and_go() {
        let mut sum = sum_of(&[0.1, 0.2]);
        let expected = sum.value();
        sum.add(f64::INFINITY);
        sum.add(f64::INFINITY);
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(f64::NEG_INFINITY);
        assert!(sum.value().is_nan());
        sum.subtract(f64::INFINITY);
        assert!(sum.value().is_nan());
        sum.subtract(f64::INFINITY);
        assert_eq!(sum.value(), f64::NEG_INFINITY);
        sum.add(-f64::NAN);
        sum.subtract(f64::NEG_INFINITY);
        assert_eq!(sum.value().to_bits(), f64::NAN.to_bits());
        assert!(is_wide(&sum));
        sum.subtract(f64::NAN);
        assert_eq!(sum.value(), expected);
        assert!(!is_wide(&sum));
    }

    #[test]
    fn non_finite_values_are_told_from_the_largest_finite_ones() {
        for x in [f64::MAX, f64::MIN, 2_f64.powi(1023)] {
            for special in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut sum = sum_of(&[x, special]);
                assert_eq!(sum.value().to_bits(), special.to_bits());
                sum.subtract(special);
                assert_eq!(sum.value(), x);
            }
        }
    }

    #[test]
    fn ordinary_columns_stay_narrow() {
        let mut sum = ExactSum::default();
        for row in 0..100_000_u32 {
            // Cents, fractions and a timestamp in milliseconds.
            sum.add(f64::from(row) / 100.0);
            sum.add(1.0 / f64::from(row + 1));
            sum.add(1.7e12 + f64::from(row));
        }
        assert!(!is_wide(&sum));
    }

    #[test]
    fn base_follows_the_values_while_they_fit() {
        // Each alone would have a base of its own, and the sum outgrows the first one's.
        let mut sum = sum_of(&[1.0]);
        for _ in 0..10 {
            sum.add(2_f64.powi(42));
        }
        sum.add(2_f64.powi(100));
        sum.add(2_f64.powi(-20));
        assert!(!is_wide(&sum));
        sum.subtract(2_f64.powi(100));
        assert_eq!(sum.value(), 10.0 * 2_f64.powi(42) + 1.0);
        for _ in 0..10 {
            sum.subtract(2_f64.powi(42));
        }
        assert_eq!(sum.value(), 1.0 + 2_f64.powi(-20));
    }

    #[test]
    fn the_wide_form_is_left_when_it_is_no_longer_needed() {
        let mut sum = sum_of(&[1.0, 1e-200]);
        assert!(is_wide(&sum));
        sum.subtract(1e-200);
        for _ in 0..NARROW_EVERY {
            sum.add(0.1);
            sum.subtract(0.1);
        }
        assert!(!is_wide(&sum));
        assert_eq!(sum.value(), 1.0);
    }

    #[test]
    fn narrow_sum_at_its_limit_is_promoted() {
        // Merging with itself reaches what no test could add up: 2^131 - 1, every bit of it set.
        let mut sum = sum_of(&[1.0]);
        for _ in 0..130 {
            sum.merge(&sum.clone());
            sum.add(1.0);
        }
        assert!(is_wide(&sum));
        assert_eq!(sum.value(), 2_f64.powi(131));
        sum.subtract(2_f64.powi(131));
        assert_eq!(sum.value(), -1.0);
    }

    #[test]
    fn mean_divides_the_rounded_sum() {
        assert_eq!(sum_of(&[0.1; 10]).mean(10), 0.1);
        assert_eq!(sum_of(&[1.0, 2.0, 4.0]).mean(3), 7.0 / 3.0);
        assert!(ExactSum::default().mean(0).is_nan());
    }
}
