//! Decodes time columns into ticks: one integer scale for all times of an operator, so that every comparison is exact.
//!
//! A tick is as fine as the spine's instants and never coarser than a microsecond, so instants, windows, delays and max ages
//! are whole ticks. Times of facts may be finer. A fact is therefore represented by the first tick at which it is visible: `x <
//! t` holds exactly for the ticks from `floor(x) + 1` on, and `x <= t` exactly for those from `ceil(x)` on. Facts are ordered
//! among each other in their own unit.

use arrow::{
    array::{Array, ArrayRef, Int64Array},
    buffer::{NullBuffer, ScalarBuffer},
};

use crate::{
    error::{Error, Result},
    time::{Cutoff, TimeScale, TimeUnit, Zone, stored_integers},
};

/// Which way a lookup looks from the instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// To the newest fact before it.
    Backward,
    /// To the next fact after it: only SQL's `ASOF JOIN` with `<` or `<=` asks for that.
    Forward,
}

/// Local times are looked up in the zone's calendar once per period of this length. No zone has two transitions in one period.
const PERIOD_S: i64 = 900;

/// The first and the last tick. They also stand for times before and after all ticks.
pub(crate) const FIRST_TICK: i64 = i64::MIN;
pub(crate) const LAST_TICK: i64 = i64::MAX;

/// How long a tick is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TickUnit {
    Micro,
    Nano,
}

impl TickUnit {
    /// The unit in which a spine's instants are exact.
    pub(crate) fn of(spine: TimeScale) -> Self {
        if spine.unit == TimeUnit::Nanosecond { TickUnit::Nano } else { TickUnit::Micro }
    }

    pub(crate) fn nanos(self) -> i64 {
        match self {
            TickUnit::Micro => 1_000,
            TickUnit::Nano => 1,
        }
    }

    /// A span of microseconds in ticks; beyond the scale it is as long as the scale allows.
    pub(crate) fn ticks(self, span_us: i64) -> i64 {
        span_us.saturating_mul(1_000 / self.nanos())
    }

    /// The length of a window in ticks; one that is longer than the scale holds everything.
    pub(crate) fn length(self, length_us: i64) -> Option<i64> {
        length_us.checked_mul(1_000 / self.nanos())
    }
}

/// The decoder of one time column.
#[derive(Debug, Clone)]
pub(crate) struct TimeDecoder {
    /// The table, for messages.
    pub(crate) subject: String,
    pub(crate) column: String,
    pub(crate) scale: TimeScale,
    pub(crate) unit: TickUnit,
}

/// Times by row, and which rows have none.
pub(crate) type Times = (ScalarBuffer<i64>, Option<NullBuffer>);

/// The first tick at which facts are visible.
pub(crate) enum Visibility {
    /// So many ticks after the (mirrored) floor of their time. A tick beyond the scale means never.
    After(i64),
    /// These ticks. A row without one is never visible.
    From(Times),
}

impl TimeDecoder {
    /// The ticks of the facts' times, rounded down. Times beyond the scale are at its ends.
    pub(crate) fn facts(&self, array: &ArrayRef) -> Result<Times> {
        self.floors(array, self.unit.nanos(), TimeScale::instant_ns, |tick, _| Ok(Some(saturated(tick))))
    }

    /// The first tick at which facts are visible, if they are known a delay after this time. `floors` are from
    /// [`TimeDecoder::facts`]. Ticks are mirrored (`!tick`) if the spine looks forward.
    pub(crate) fn visibility(
        &self,
        array: &ArrayRef,
        floors: &Times,
        direction: Direction,
        cutoff: Cutoff,
        delay_us: i64,
    ) -> Result<Visibility> {
        let tick = i128::from(self.unit.nanos());
        let delay = i128::from(delay_us) * (1_000 / tick);
        let counts_floors = (direction == Direction::Backward) == (cutoff == Cutoff::Exclusive) || !self.is_finer();
        let is_within = || !floors.0.iter().any(|&tick| tick == FIRST_TICK || tick == LAST_TICK);
        if let Ok(after) = i64::try_from(delay + i128::from(cutoff == Cutoff::Exclusive))
            && counts_floors
            && (self.is_in_ticks(self.unit.nanos()) || is_within())
        {
            return Ok(Visibility::After(after));
        }
        let floor = |ns: i128| ns.div_euclid(tick);
        let ceiling = |ns: i128| -(-ns).div_euclid(tick);
        let from = |ns: i128| match (direction, cutoff) {
            (Direction::Backward, Cutoff::Exclusive) => floor(ns) + 1,
            (Direction::Backward, Cutoff::Inclusive) => ceiling(ns),
            (Direction::Forward, Cutoff::Exclusive) => -ceiling(ns),
            (Direction::Forward, Cutoff::Inclusive) => -floor(ns) - 1,
        };
        let beyond = |from: i128, _| Ok((from < 0).then_some(FIRST_TICK));
        Ok(Visibility::From(self.read(&stored_integers(array)?, TimeScale::instant_ns, |ns| from(ns) + delay, beyond)?))
    }

    /// After how many ticks each fact becomes visible; `None` if that differs from fact to fact.
    pub(crate) fn constant_delay(&self, cutoff: Cutoff, delay_us: i64) -> Option<i64> {
        // With an inclusive cutoff a finer fact is visible from its ceiling on, while windows count it from its floor on.
        if cutoff == Cutoff::Inclusive && self.is_finer() {
            return None;
        }
        let delay = i128::from(delay_us) * i128::from(1_000 / self.unit.nanos());
        i64::try_from(delay + i128::from(cutoff == Cutoff::Exclusive)).ok()
    }

    /// The ticks of the spine's instants.
    ///
    /// # Errors
    /// [`Error::InvalidTime`] for an instant beyond the scale.
    pub(crate) fn instants(&self, array: &ArrayRef) -> Result<Times> {
        self.floors(array, self.unit.nanos(), TimeScale::earliest_ns, |_, value| {
            Err(Error::InvalidTime {
                text: value.to_string(),
                reason: format!(
                    "these {:?}s in column `{}` of {} are more than 292,000 years from 1970; leave the row out",
                    self.scale.unit, self.column, self.subject
                )
                .to_lowercase(),
            })
        })
    }

    /// The order of the facts' times, as numbers in their own unit; `None` if their ticks have this order already.
    pub(crate) fn order(&self, array: &ArrayRef) -> Result<Option<ScalarBuffer<i64>>> {
        let own_ns = self.order_ns();
        if own_ns == self.unit.nanos() {
            return Ok(None);
        }
        Ok(Some(self.floors(array, own_ns, TimeScale::instant_ns, |number, _| Ok(Some(saturated(number))))?.0))
    }

    /// Can a time lie between two ticks?
    fn is_finer(&self) -> bool {
        self.scale.unit.nanos() < self.unit.nanos()
    }

    /// Are the column's integers ticks of this many nanoseconds as they are?
    fn is_in_ticks(&self, to_ns: i64) -> bool {
        self.scale.zone == Zone::UTC && self.scale.unit.nanos() == to_ns
    }

    /// The nanoseconds of a unit of [`TimeDecoder::order`], or of a tick if ticks have this order.
    pub(crate) fn order_ns(&self) -> i64 {
        match self.scale.unit {
            TimeUnit::Day => TimeUnit::Second.nanos(),
            unit => unit.nanos(),
        }
    }

    /// Instants in units of so many nanoseconds, rounded down. See [`TimeDecoder::read`].
    fn floors(
        &self,
        array: &ArrayRef,
        to_ns: i64,
        instant: fn(TimeScale, i64) -> i128,
        beyond: impl Fn(i128, i64) -> Result<Option<i64>>,
    ) -> Result<Times> {
        let integers = stored_integers(array)?;
        if self.is_in_ticks(to_ns) {
            return Ok((integers.values().clone(), integers.nulls().cloned()));
        }
        self.read(&integers, instant, |ns| ns.div_euclid(i128::from(to_ns)), beyond)
    }

    /// Converts stored values. `instant` gives the instant of a stored value, `number` converts its nanoseconds, and `beyond`
    /// says what to do with a number that does not fit, given the number and the stored value.
    fn read(
        &self,
        integers: &Int64Array,
        instant: fn(TimeScale, i64) -> i128,
        number: impl Fn(i128) -> i128,
        beyond: impl Fn(i128, i64) -> Result<Option<i64>>,
    ) -> Result<Times> {
        let (values, mut nulls) = (integers.values(), integers.nulls().cloned());
        let unit_ns = i128::from(self.scale.unit.nanos());
        let mut memo = OffsetCache { instant, known: None };
        let zone = self.scale.zone;
        let mut without = Vec::new();
        let mut times = Vec::with_capacity(values.len());
        for (row, &value) in values.iter().enumerate() {
            if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                times.push(0);
                continue;
            }
            let ns = if zone == Zone::UTC { i128::from(value) * unit_ns } else { memo.instant_ns(self.scale, value) };
            let wanted = number(ns);
            let time = match i64::try_from(wanted) {
                Ok(time) => Some(time),
                Err(_) => beyond(wanted, value)?,
            };
            if time.is_none() {
                without.push(row);
            }
            times.push(time.unwrap_or_default());
        }
        if !without.is_empty() {
            let mut is_there = vec![true; times.len()];
            without.into_iter().for_each(|row| is_there[row] = false);
            nulls = NullBuffer::union(nulls.as_ref(), Some(&NullBuffer::from(is_there)));
        }
        Ok((times.into(), nulls))
    }
}

fn saturated(number: i128) -> i64 {
    if number < 0 { FIRST_TICK } else { LAST_TICK }
}

/// The period of local time that was looked up last, and its offset if it has a single one.
struct OffsetCache {
    instant: fn(TimeScale, i64) -> i128,
    known: Option<(i64, Option<i128>)>,
}

impl OffsetCache {
    fn instant_ns(&mut self, scale: TimeScale, value: i64) -> i128 {
        let unit_ns = i128::from(scale.unit.nanos());
        let local_ns = i128::from(value) * unit_ns;
        let period_ns = i128::from(PERIOD_S) * 1_000_000_000;
        let Ok(period) = i64::try_from(local_ns.div_euclid(period_ns)) else { return (self.instant)(scale, value) };
        if self.known.is_none_or(|(known, _)| known != period) {
            let seconds = TimeScale { unit: TimeUnit::Second, zone: scale.zone };
            let offset = |local_s: i64| i128::from(local_s) * 1_000_000_000 - (self.instant)(seconds, local_s);
            let (first, last) = (period.saturating_mul(PERIOD_S), period.saturating_mul(PERIOD_S).saturating_add(PERIOD_S - 1));
            let is_constant = offset(first) == offset(last);
            self.known = Some((period, is_constant.then(|| offset(first))));
        }
        match self.known {
            Some((_, Some(offset))) => local_ns - offset,
            _ => (self.instant)(scale, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::TimestampSecondArray;

    use super::*;

    fn decoder(unit: TimeUnit, zone: &str, tick: TickUnit) -> TimeDecoder {
        let scale = TimeScale { unit, zone: zone.parse().unwrap() };
        TimeDecoder { subject: "table `t`".into(), column: "at".into(), scale, unit: tick }
    }

    /// Every second around both transitions of a year reads as the scale says, whatever was read before it.
    #[test]
    fn a_cached_offset_never_hides_a_transition() {
        for zone in ["America/New_York", "Australia/Lord_Howe", "Europe/Berlin"] {
            let decoder = decoder(TimeUnit::Second, zone, TickUnit::Micro);
            for transition in [1_394_300_000i64, 1_396_100_000, 1_414_900_000, 1_412_300_000, 1_414_250_000] {
                let local: Vec<i64> = (transition - 100_000..transition + 100_000).step_by(7).collect();
                let array: ArrayRef = Arc::new(TimestampSecondArray::from(local.clone()));
                let (facts, _) = decoder.facts(&array).unwrap();
                let (instants, _) = decoder.instants(&array).unwrap();
                for ((fact, instant), &local) in facts.iter().zip(&instants).zip(&local) {
                    assert_eq!(*fact, decoder.scale.instant_us(local), "{zone} {local}");
                    assert_eq!(i128::from(*instant) * 1_000, decoder.scale.earliest_ns(local), "{zone} {local}");
                }
            }
        }
    }

    fn from(decoder: &TimeDecoder, values: Vec<Option<i64>>, direction: Direction, cutoff: Cutoff) -> Vec<Option<i64>> {
        let array: ArrayRef = Arc::new(Int64Array::from(values));
        let floors = decoder.facts(&array).unwrap();
        match decoder.visibility(&array, &floors, direction, cutoff, 0).unwrap() {
            Visibility::From((times, nulls)) => {
                let is_null = |i| nulls.as_ref().is_some_and(|n| n.is_null(i));
                times.iter().enumerate().map(|(i, &time)| (!is_null(i)).then_some(time)).collect()
            }
            Visibility::After(after) => {
                let mirrored = |time: i64| if direction == Direction::Backward { time } else { !time };
                let is_null = |i| floors.1.as_ref().is_some_and(|n| n.is_null(i));
                let from = |(i, &tick): (usize, &i64)| if is_null(i) { None } else { mirrored(tick).checked_add(after) };
                floors.0.iter().enumerate().map(from).collect()
            }
        }
    }

    #[test]
    fn facts_beyond_the_scale_are_never_or_always_visible_and_keep_their_order() {
        let decoder = decoder(TimeUnit::Second, "UTC", TickUnit::Nano);
        let values = vec![Some(1), Some(16_725_225_600), None, Some(-16_725_225_600)];
        let array: ArrayRef = Arc::new(Int64Array::from(values.clone()));
        assert_eq!(decoder.facts(&array).unwrap().0[..], [1_000_000_000, i64::MAX, 0, i64::MIN]);
        assert_eq!(decoder.order(&array).unwrap().unwrap()[..], [1, 16_725_225_600, 0, -16_725_225_600]);
        let backward = from(&decoder, values.clone(), Direction::Backward, Cutoff::Exclusive);
        assert_eq!(backward, [Some(1_000_000_001), None, None, Some(i64::MIN)]);
        let forward = from(&decoder, values, Direction::Forward, Cutoff::Exclusive);
        assert_eq!(forward, [Some(-1_000_000_000), Some(i64::MIN), None, None]);
        let beyond: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        assert!(decoder.instants(&beyond).unwrap_err().to_string().contains("column `at` of table `t`"));
    }

    #[test]
    fn finer_facts_are_visible_from_the_first_tick_that_is_not_before_them() {
        let decoder = decoder(TimeUnit::Nanosecond, "UTC", TickUnit::Micro);
        let values = vec![Some(999), Some(1_000), Some(1_001), Some(-1)];
        let array: ArrayRef = Arc::new(Int64Array::from(values.clone()));
        assert_eq!(decoder.facts(&array).unwrap().0[..], [0, 1, 1, -1]);
        let some = |ticks: [i64; 4]| ticks.map(Some).to_vec();
        assert_eq!(from(&decoder, values.clone(), Direction::Backward, Cutoff::Exclusive), some([1, 2, 2, 0]));
        assert_eq!(from(&decoder, values.clone(), Direction::Backward, Cutoff::Inclusive), some([1, 1, 2, 0]));
        // Forward, ticks are mirrored: a fact is visible at the ticks up to the mirror of these.
        assert_eq!(from(&decoder, values.clone(), Direction::Forward, Cutoff::Exclusive), some([!0, !0, !1, !-1]));
        assert_eq!(from(&decoder, values, Direction::Forward, Cutoff::Inclusive), some([!0, !1, !1, !-1]));
    }

    #[test]
    fn at_the_ends_of_the_scale_a_fact_is_visible_at_its_own_tick_if_that_is_inclusive() {
        let decoder = decoder(TimeUnit::Microsecond, "UTC", TickUnit::Micro);
        let ends = vec![Some(i64::MIN), Some(i64::MAX)];
        assert_eq!(from(&decoder, ends.clone(), Direction::Backward, Cutoff::Inclusive), [Some(i64::MIN), Some(i64::MAX)]);
        assert_eq!(from(&decoder, ends.clone(), Direction::Backward, Cutoff::Exclusive), [Some(i64::MIN + 1), None]);
        assert_eq!(from(&decoder, ends.clone(), Direction::Forward, Cutoff::Inclusive), [Some(i64::MAX), Some(i64::MIN)]);
        assert_eq!(from(&decoder, ends, Direction::Forward, Cutoff::Exclusive), [None, Some(i64::MIN + 1)]);
    }
}
