//! A short number at a position: what the narrow form holds, and what a value decodes to.
//! It says where it does not fit, and never rounds.

/// The furthest left a 53-bit significand can be shifted and stay below `2^126`.
pub(super) const MAX_SHIFT: u32 = 126 - 53;

/// The highest base of the narrow form. At this base the largest finite `f64` (position 2045) is
/// shifted by exactly [`MAX_SHIFT`], and a non-finite one (which decodes to position 2046) by one
/// more, so the range check that every addition needs anyway also turns away NaN and infinities.
pub(super) const MAX_BASE: u32 = 2046 - (MAX_SHIFT + 1);

/// Bits left free above the highest one when the narrow form picks a base, if the bits below allow:
/// room for the sum to grow, while as much is left for smaller values to come.
const HEADROOM: u32 = 42;

/// The least headroom accepted for the sake of taking further values like the present one without
/// picking a base again; the sum outgrows it at the earliest after `2^16` such values.
const MIN_HEADROOM: u32 = 16;

/// The number `units * 2^(position - 1074)`.
#[derive(Clone, Copy, Default)]
pub(super) struct Term {
    pub(super) units: i128,
    pub(super) position: u32,
}

impl Term {
    /// The number that the fields of [`Form::Narrow`] hold.
    #[inline]
    pub(super) fn narrow(low: u64, high: i64, base: u16) -> Self {
        Self { units: (i128::from(high) << 64) | i128::from(low), position: u32::from(base) }
    }

    /// The exact sum, at a base chosen afresh and within [`MAX_BASE`], or `None` if the narrow form
    /// cannot hold it. `self` is within that base already.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
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
    pub(super) fn lowest(self) -> u32 {
        match self.units {
            0 => u32::MAX,
            units => self.position + units.trailing_zeros(),
        }
    }

    /// The position just above the highest bit set.
    pub(super) fn top(self) -> u32 {
        match self.units.unsigned_abs() {
            0 => 0,
            units => self.position + (u128::BITS - units.leading_zeros()),
        }
    }

    /// The number in units of another base, which is not above [`Term::lowest`]; `None` if they
    /// overflow.
    pub(super) fn units_at(self, base: u32) -> Option<i128> {
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
