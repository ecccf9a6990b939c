//! The unit and zone of a stored time column.
//! A cutoff is converted to the column's own numbers, so that stored values are compared as they are and never rounded.
//!
//! The map from a stored value to its instant never decreases (a local time that occurs twice is the later instant, one
//! in a gap the instant after it). So "visible at T" is one comparison `value < threshold` in the column's own scale, for
//! every unit and zone, and it can be pushed down into Parquet.

use arrow::{
    array::{Array, AsArray, Int64Array},
    compute::cast,
    datatypes::{DataType, Int64Type, TimeUnit as ArrowUnit},
};
use serde::{Deserialize, Serialize};

use super::{AsOf, Horizon, Zone};
use crate::error::Result;

/// The unit of a stored time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TimeUnit {
    /// Days: Arrow's `Date32`.
    Day,
    /// Seconds.
    Second,
    /// Milliseconds.
    Millisecond,
    /// Microseconds.
    Microsecond,
    /// Nanoseconds.
    Nanosecond,
}

impl TimeUnit {
    /// Nanoseconds in one unit.
    pub(crate) const fn nanos(self) -> i64 {
        match self {
            TimeUnit::Day => 86_400_000_000_000,
            TimeUnit::Second => 1_000_000_000,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        }
    }

    /// The word for several of them.
    pub(crate) const fn plural(self) -> &'static str {
        match self {
            TimeUnit::Day => "days",
            TimeUnit::Second => "seconds",
            TimeUnit::Millisecond => "milliseconds",
            TimeUnit::Microsecond => "microseconds",
            TimeUnit::Nanosecond => "nanoseconds",
        }
    }
}

/// What the integers of a time column mean: units since 1970-01-01T00:00:00 by the zone's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct TimeScale {
    /// The unit.
    pub(crate) unit: TimeUnit,
    /// The zone whose clock wrote the times; [`Zone::UTC`] for true instants.
    pub(crate) zone: Zone,
}

impl TimeScale {
    /// Instants in microseconds: how this library writes times.
    pub(crate) const UTC_MICROS: TimeScale = TimeScale { unit: TimeUnit::Microsecond, zone: Zone::UTC };

    /// The scale of a column of this type, whose local times were written by this clock; `None` for a type that holds no times.
    pub(crate) fn of_type(data_type: &DataType, clock: Zone) -> Option<Self> {
        let unit = match data_type {
            DataType::Date32 => TimeUnit::Day,
            DataType::Timestamp(ArrowUnit::Second, _) => TimeUnit::Second,
            DataType::Timestamp(ArrowUnit::Millisecond, _) => TimeUnit::Millisecond,
            DataType::Timestamp(ArrowUnit::Microsecond, _) => TimeUnit::Microsecond,
            DataType::Timestamp(ArrowUnit::Nanosecond, _) => TimeUnit::Nanosecond,
            _ => return None,
        };
        Some(Self { unit, zone: if is_local(data_type) { clock } else { Zone::UTC } })
    }

    /// The smallest stored value that the horizon does **not** see: visible means `value < first_hidden`.
    ///
    /// Exact for every unit and zone. `None` means that no value can be hidden.
    pub(crate) fn first_hidden(self, horizon: Horizon) -> Option<i64> {
        self.first_at_or_after(horizon.first_hidden_ns())
    }

    /// The smallest stored value whose instant is at or after `instant`; `None` if there is none.
    pub(crate) fn first_not_before(self, instant: AsOf) -> Option<i64> {
        self.first_at_or_after(i128::from(instant.micros()) * 1_000)
    }

    /// The smallest stored value whose instant is at or after this one in nanoseconds; `None` if there is none.
    pub(crate) fn first_at_or_after(self, limit_ns: i128) -> Option<i64> {
        // Bisection over all stored values: the map to instants never decreases.
        let (mut low, mut high) = (i128::from(i64::MIN), i128::from(i64::MAX) + 1);
        if self.zone != Zone::UTC {
            let near = limit_ns.div_euclid(i128::from(self.unit.nanos()));
            let slack = i128::from(3 * TimeUnit::Day.nanos() / self.unit.nanos());
            low = low.max(near - slack);
            high = high.min(near + slack);
        }
        while low < high {
            let middle = low + (high - low).div_euclid(2);
            let reached = i64::try_from(middle).is_ok_and(|v| self.instant_ns(v) >= limit_ns);
            if reached { high = middle } else { low = middle + 1 }
        }
        i64::try_from(low).ok()
    }

    /// The instant of a stored value in nanoseconds, exact.
    pub(crate) fn instant_ns(self, value: i64) -> i128 {
        let unit_ns = i128::from(self.unit.nanos());
        self.zone.instant_ns(i128::from(value) * unit_ns)
    }

    /// The earliest instant that a stored value can mean, in nanoseconds, exact. A spine's times are read this way.
    pub(crate) fn earliest_ns(self, value: i64) -> i128 {
        let unit_ns = i128::from(self.unit.nanos());
        self.zone.earliest_ns(i128::from(value) * unit_ns)
    }

    /// The instant of a stored value in whole microseconds, rounded towards the past; saturates at the ends.
    ///
    /// For a cutoff in whole microseconds, `floor(x) < T` holds exactly when `x < T` does.
    pub(crate) fn instant_us(self, value: i64) -> i64 {
        if self == Self::UTC_MICROS {
            return value;
        }
        let us = self.instant_ns(value).div_euclid(1_000);
        i64::try_from(us).unwrap_or(if us < 0 { i64::MIN } else { i64::MAX })
    }
}

/// The type of instants: microseconds UTC.
pub(crate) fn instant_type() -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()))
}

/// Does a column of this type hold local times, which are instants only by the clock of a zone?
pub(crate) fn is_local(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, None) | DataType::Date32)
}

/// The integers by which a column of times is stored: days of dates, units of timestamps, epochs as they are.
pub(crate) fn stored_integers(times: &dyn Array) -> Result<Int64Array> {
    Ok(cast(times, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Cutoff;

    const UNITS: [TimeUnit; 5] =
        [TimeUnit::Day, TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    const ZONES: [&str; 6] =
        ["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns"];

    fn scale(unit: TimeUnit, zone: &str) -> TimeScale {
        TimeScale { unit, zone: zone.parse().unwrap() }
    }

    fn new_york_s(text: &str) -> i64 {
        chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap().and_utc().timestamp()
    }

    #[test]
    fn an_hour_that_occurs_twice_is_the_later_one() {
        let ny = scale(TimeUnit::Second, "America/New_York");
        let at = |t: &str| AsOf::from_micros(ny.instant_us(new_york_s(t))).to_string();
        assert_eq!(at("2014-11-02 00:59:59"), "2014-11-02T04:59:59Z");
        assert_eq!(at("2014-11-02 01:30:00"), "2014-11-02T06:30:00Z");
        assert_eq!(at("2014-11-02 02:00:00"), "2014-11-02T07:00:00Z");
    }

    #[test]
    fn a_time_in_the_gap_is_the_instant_after_it() {
        for (unit, per_s, fraction) in [(TimeUnit::Second, 1, 0), (TimeUnit::Millisecond, 1_000, 7)] {
            let ny = scale(unit, "America/New_York");
            let at = |t: &str| AsOf::from_micros(ny.instant_us(new_york_s(t) * per_s + fraction)).to_string();
            assert_eq!(at("2014-03-09 02:00:00"), "2014-03-09T07:00:00Z");
            assert_eq!(at("2014-03-09 02:30:00"), "2014-03-09T07:00:00Z");
            assert_eq!(at("2014-03-09 02:59:59"), "2014-03-09T07:00:00Z");
        }
        // A whole day was skipped in Samoa.
        let apia = scale(TimeUnit::Second, "Pacific/Apia");
        assert_eq!(AsOf::from_micros(apia.instant_us(new_york_s("2011-12-30 12:00:00"))).to_string(), "2011-12-30T10:00:00Z");
    }

    #[test]
    fn a_spine_means_the_earliest_instant_that_a_clock_can_have_shown_its_time_at() {
        let ny = scale(TimeUnit::Second, "America/New_York");
        let at = |t: &str| AsOf::from_micros(i64::try_from(ny.earliest_ns(new_york_s(t)) / 1_000).unwrap()).to_string();
        assert_eq!(at("2014-11-02 00:59:59"), "2014-11-02T04:59:59Z");
        assert_eq!(at("2014-11-02 01:30:00"), "2014-11-02T05:30:00Z");
        assert_eq!(at("2014-11-02 02:00:00"), "2014-11-02T07:00:00Z");
        // In the gap: by a clock that was already put forward.
        assert_eq!(at("2014-03-09 01:59:59"), "2014-03-09T06:59:59Z");
        assert_eq!(at("2014-03-09 02:30:00"), "2014-03-09T06:30:00Z");
        assert_eq!(at("2014-03-09 03:00:00"), "2014-03-09T07:00:00Z");
        let apia = scale(TimeUnit::Second, "Pacific/Apia");
        let noon = apia.earliest_ns(new_york_s("2011-12-30 12:00:00"));
        assert_eq!(AsOf::from_micros(i64::try_from(noon / 1_000).unwrap()).to_string(), "2011-12-29T22:00:00Z");
    }

    #[test]
    fn finer_and_coarser_units_are_compared_exactly() {
        let t = AsOf::from_micros(1_000_001);
        let hidden = |unit, cutoff| scale(unit, "UTC").first_hidden(Horizon::new(t, cutoff)).unwrap();
        assert_eq!(hidden(TimeUnit::Nanosecond, Cutoff::Exclusive), 1_000_001_000);
        assert_eq!(hidden(TimeUnit::Nanosecond, Cutoff::Inclusive), 1_000_001_001);
        assert_eq!(hidden(TimeUnit::Microsecond, Cutoff::Exclusive), 1_000_001);
        assert_eq!(hidden(TimeUnit::Microsecond, Cutoff::Inclusive), 1_000_002);
        assert_eq!(hidden(TimeUnit::Millisecond, Cutoff::Exclusive), 1_001);
        assert_eq!(hidden(TimeUnit::Second, Cutoff::Exclusive), 2);
        assert_eq!(hidden(TimeUnit::Day, Cutoff::Inclusive), 1);
        assert_eq!(scale(TimeUnit::Nanosecond, "UTC").first_hidden(Horizon::END_OF_TIME), None);
    }

    proptest! {
        #[test]
        fn the_threshold_divides_visible_from_hidden(
            unit in 0..UNITS.len(), zone in 0..ZONES.len(), inclusive: bool,
            // Around the transitions of 1990 to 2030, to the microsecond.
            as_of_us in 631_152_000_000_000i64..1_893_456_000_000_000, near_s in -200_000i64..200_000,
        ) {
            let scale = scale(UNITS[unit], ZONES[zone]);
            let cutoff = if inclusive { Cutoff::Inclusive } else { Cutoff::Exclusive };
            let threshold = scale.first_hidden(Horizon::new(AsOf::from_micros(as_of_us), cutoff)).unwrap();
            let value = ((i128::from(as_of_us) * 1_000 + i128::from(near_s) * 1_000_000_000)
                / i128::from(UNITS[unit].nanos())) as i64;
            for v in [value, threshold - 1, threshold] {
                let instant = scale.instant_ns(v);
                let limit = i128::from(as_of_us) * 1_000;
                let visible = if inclusive { instant <= limit } else { instant < limit };
                prop_assert_eq!(v < threshold, visible, "value {}", v);
            }
        }
    }
}
