//! Time columns as ticks: the instants of one question on one integer scale, so that every comparison is exact.
//! It never rounds a fact to before an instant: what a tick cannot tell apart is rounded to the side that decides alike.
//!
//! A tick is as fine as the spine's instants and never coarser than a microsecond, so instants, windows, delays and max ages
//! are whole ticks. A finer fact is compared by its floor where it must be before an instant, and by its ceiling where it
//! must be before or at it: `x < t` holds exactly when `floor(x) < t` does, `x <= t` exactly when `ceil(x) <= t` does.
//! Between themselves facts are ordered in their own unit.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    buffer::{NullBuffer, ScalarBuffer},
    compute::cast,
    datatypes::{DataType, Int64Type},
};

use crate::{
    error::{Error, Result},
    time::{TimeScale, TimeUnit, Zone},
};

/// A tick that no instant of a spine reaches: a fact at it is never visible.
pub(crate) const NEVER: i64 = i64::MAX;

/// Local times are looked up in the zone's calendar once for each of these stretches; no zone has two transitions in one.
const STRETCH_S: i64 = 900;

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

    fn nanos(self) -> i64 {
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

/// Reads one time column.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// Where the column is, for messages.
    pub(crate) place: String,
    pub(crate) column: String,
    pub(crate) scale: TimeScale,
    pub(crate) unit: TickUnit,
}

/// What a fact finer than a tick becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    Down,
    Up,
}

/// Times by row, and which rows have none.
pub(crate) type Times = (ScalarBuffer<i64>, Option<NullBuffer>);

impl Clock {
    /// The ticks of facts. Those beyond the scale saturate: later ones are never visible, earlier ones always.
    pub(crate) fn facts(&self, array: &ArrayRef, round: Round) -> Result<Times> {
        let saturated = |ns: i128| if ns < 0 { i64::MIN } else { NEVER };
        self.read(array, self.unit.nanos(), round, |ns, _| Ok(saturated(ns)))
    }

    /// The ticks of the instants that are asked about.
    ///
    /// # Errors
    /// [`Error::InvalidTime`] for an instant beyond the scale.
    pub(crate) fn instants(&self, array: &ArrayRef) -> Result<Times> {
        self.read(array, self.unit.nanos(), Round::Down, |_, value| {
            Err(Error::InvalidTime {
                text: value.to_string(),
                reason: format!(
                    "these {:?}s in column `{}` of {} are more than 292,000 years from 1970; leave the row out",
                    self.scale.unit, self.column, self.place
                )
                .to_lowercase(),
            })
        })
    }

    /// Numbers in the order of the facts' instants, in their own unit; `None` when their ticks have that order already.
    pub(crate) fn order(&self, array: &ArrayRef) -> Result<Option<ScalarBuffer<i64>>> {
        let own_ns = match self.scale.unit {
            TimeUnit::Day => TimeUnit::Second.nanos(),
            unit => unit.nanos(),
        };
        if own_ns == self.unit.nanos() {
            return Ok(None);
        }
        let saturated = |ns: i128| if ns < 0 { i64::MIN } else { i64::MAX };
        Ok(Some(self.read(array, own_ns, Round::Down, |ns, _| Ok(saturated(ns)))?.0))
    }

    /// Instants in some unit; `beyond` says what becomes of those that do not fit, given their nanoseconds and value.
    fn read(&self, array: &ArrayRef, to_ns: i64, round: Round, beyond: impl Fn(i128, i64) -> Result<i64>) -> Result<Times> {
        let integers = match array.data_type() {
            DataType::Date32 => cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?,
            _ => cast(array, &DataType::Int64)?,
        };
        let integers = integers.as_primitive::<Int64Type>();
        let (values, nulls) = (integers.values(), integers.nulls().cloned());
        let unit_ns = self.scale.unit.nanos();
        if self.scale.zone == Zone::UTC && unit_ns == to_ns {
            return Ok((values.clone(), nulls));
        }
        let mut memo = Stretch::default();
        let (wide_to, zone) = (i128::from(to_ns), self.scale.zone);
        let mut times = Vec::with_capacity(values.len());
        for (row, &value) in values.iter().enumerate() {
            if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                times.push(0);
                continue;
            }
            let ns = if zone == Zone::UTC { i128::from(value) * i128::from(unit_ns) } else { memo.instant_ns(self.scale, value) };
            let rounded = match round {
                Round::Down => ns.div_euclid(wide_to),
                Round::Up => -(-ns).div_euclid(wide_to),
            };
            times.push(match i64::try_from(rounded) {
                Ok(time) => time,
                Err(_) => beyond(ns, value)?,
            });
        }
        Ok((times.into(), nulls))
    }
}

/// The last stretch of local time that was looked up in a calendar, and its offset if it has one.
#[derive(Default)]
struct Stretch {
    known: Option<(i64, Option<i128>)>,
}

impl Stretch {
    fn instant_ns(&mut self, scale: TimeScale, value: i64) -> i128 {
        let unit_ns = i128::from(scale.unit.nanos());
        let local_ns = i128::from(value) * unit_ns;
        let stretch_ns = i128::from(STRETCH_S) * 1_000_000_000;
        let Ok(stretch) = i64::try_from(local_ns.div_euclid(stretch_ns)) else { return scale.instant_ns(value) };
        if self.known.is_none_or(|(known, _)| known != stretch) {
            let seconds = TimeScale { unit: TimeUnit::Second, zone: scale.zone };
            let offset = |local_s: i64| i128::from(local_s) * 1_000_000_000 - seconds.instant_ns(local_s);
            let (first, last) =
                (stretch.saturating_mul(STRETCH_S), stretch.saturating_mul(STRETCH_S).saturating_add(STRETCH_S - 1));
            let steady = offset(first) == offset(last);
            self.known = Some((stretch, steady.then(|| offset(first))));
        }
        match self.known {
            Some((_, Some(offset))) => local_ns - offset,
            _ => scale.instant_ns(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, TimestampSecondArray};

    use super::*;

    fn clock(unit: TimeUnit, zone: &str, tick: TickUnit) -> Clock {
        let scale = TimeScale { unit, zone: zone.parse().unwrap() };
        Clock { place: "table `t`".into(), column: "at".into(), scale, unit: tick }
    }

    /// Every second around both transitions of a year reads as the scale says, whatever was read before it.
    #[test]
    fn a_stretch_never_hides_a_transition() {
        for zone in ["America/New_York", "Australia/Lord_Howe", "Europe/Berlin"] {
            let clock = clock(TimeUnit::Second, zone, TickUnit::Micro);
            for transition in [1_394_300_000i64, 1_396_100_000, 1_414_900_000, 1_412_300_000, 1_414_250_000] {
                let local: Vec<i64> = (transition - 100_000..transition + 100_000).step_by(7).collect();
                let array: ArrayRef = Arc::new(TimestampSecondArray::from(local.clone()));
                let (ticks, _) = clock.facts(&array, Round::Down).unwrap();
                for (tick, local) in ticks.iter().zip(&local) {
                    assert_eq!(*tick, clock.scale.instant_us(*local), "{zone} {local}");
                }
            }
        }
    }

    #[test]
    fn facts_beyond_the_scale_are_never_or_always_visible_and_keep_their_order() {
        let clock = clock(TimeUnit::Second, "UTC", TickUnit::Nano);
        let array: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(16_725_225_600), None, Some(-16_725_225_600)]));
        assert_eq!(clock.facts(&array, Round::Down).unwrap().0[..], [1_000_000_000, NEVER, 0, i64::MIN]);
        assert_eq!(clock.order(&array).unwrap().unwrap()[..], [1, 16_725_225_600, 0, -16_725_225_600]);
        let beyond: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        assert!(clock.instants(&beyond).unwrap_err().to_string().contains("column `at` of table `t`"));
    }

    #[test]
    fn finer_facts_are_rounded_to_the_side_that_decides_alike() {
        let clock = clock(TimeUnit::Nanosecond, "UTC", TickUnit::Micro);
        let array: ArrayRef = Arc::new(Int64Array::from(vec![999, 1_000, 1_001, -1]));
        assert_eq!(clock.facts(&array, Round::Down).unwrap().0[..], [0, 1, 1, -1]);
        assert_eq!(clock.facts(&array, Round::Up).unwrap().0[..], [1, 1, 2, 0]);
    }
}
