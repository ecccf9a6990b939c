//! Encoders of instants by a zone's calendar: the hour of the day, the day of the week, the other parts of a date.
//! The zone is a parameter; none is assumed.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, TimestampMicrosecondType},
};
use chrono::{Datelike, NaiveDateTime, Timelike};

use super::{Encoder, Spec};
use crate::{error::Result, time::Zone};

/// The hour of the day of an instant, 0 to 23, by a zone's clock.
#[derive(Debug, Clone)]
#[must_use]
pub struct HourOfDay {
    column: String,
    zone: Zone,
}

impl HourOfDay {
    /// The feature `<column>_hour`.
    pub fn of(column: impl Into<String>, zone: Zone) -> Self {
        Self { column: column.into(), zone }
    }
}

impl Encoder for HourOfDay {
    fn spec(&self) -> Spec {
        let output = format!("{}_hour", self.column);
        Spec::new("hour_of_day", 1).instant(&self.column).parameter("zone", self.zone.to_string()).output(output, DataType::Int64)
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(vec![by_calendar(input.column(0), self.zone, |t| i64::from(t.hour()))])
    }
}

/// The day of the week of an instant, Monday 1 to Sunday 7 (ISO 8601), by a zone's clock.
#[derive(Debug, Clone)]
#[must_use]
pub struct DayOfWeek {
    column: String,
    zone: Zone,
}

impl DayOfWeek {
    /// The feature `<column>_weekday`.
    pub fn of(column: impl Into<String>, zone: Zone) -> Self {
        Self { column: column.into(), zone }
    }
}

impl Encoder for DayOfWeek {
    fn spec(&self) -> Spec {
        let output = format!("{}_weekday", self.column);
        Spec::new("day_of_week", 1).instant(&self.column).parameter("zone", self.zone.to_string()).output(output, DataType::Int64)
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(vec![by_calendar(input.column(0), self.zone, |t| i64::from(t.weekday().number_from_monday()))])
    }
}

/// A part of the local date and time of an instant, by a zone's clock and the Gregorian calendar, as `Int64`.
///
/// The hour of the day and the day of the week are [`HourOfDay`] and [`DayOfWeek`]. NULL stays NULL, and an instant beyond the
/// calendar (about 262,000 years from today) is NULL. Parts are those of the clock on the wall: when it is put back, two instants
/// an hour apart have the same parts; when it is put forward, some minutes of the day do not occur.
///
/// ```
/// use asof::encoder::Calendar;
/// let new_york = "America/New_York".parse()?;
/// let month = Calendar::month("pickup_at", new_york); // named `pickup_at_month`
/// let weekend = Calendar::is_weekend("pickup_at", new_york).named("weekend");
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Calendar {
    column: String,
    zone: Zone,
    part: Part,
    output: String,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Month,
    DayOfMonth,
    DayOfYear,
    IsoWeek,
    MinuteOfDay,
    HourOfWeek,
    IsWeekend,
}

impl Calendar {
    /// The feature `<column>_month`: 1 to 12.
    pub fn month(column: impl Into<String>, zone: Zone) -> Self {
        Self::of(column, zone, Part::Month)
    }

    /// The feature `<column>_day_of_month`: 1 to 31.
    pub fn day_of_month(column: impl Into<String>, zone: Zone) -> Self {
        Self::of(column, zone, Part::DayOfMonth)
    }

    /// The feature `<column>_day_of_year`: 1 to 365, in leap years to 366.
    pub fn day_of_year(column: impl Into<String>, zone: Zone) -> Self {
        Self::of(column, zone, Part::DayOfYear)
    }

    /// The feature `<column>_iso_week`: the week of ISO 8601, 1 to 53. A week begins on Monday, and week 1 holds the year's first
    /// Thursday, so that the first days of January can lie in week 52 or 53 and the last of December in week 1.
    pub fn iso_week(column: impl Into<String>, zone: Zone) -> Self {
        Self::of(column, zone, Part::IsoWeek)
    }

    /// The feature `<column>_minute_of_day`: 0 to 1,439.
    pub fn minute_of_day(column: impl Into<String>, zone: Zone) -> Self {
        Self::of(column, zone, Part::MinuteOfDay)
    }

    /// The feature `<column>_hour_of_week`: 0 for the first hour of Monday to 167 for the last one of Sunday.
    pub fn hour_of_week(column: impl Into<String>, zone: Zone) -> Self {
        Self::of(column, zone, Part::HourOfWeek)
    }

    /// The feature `<column>_is_weekend`: 1 on Saturdays and Sundays, otherwise 0.
    pub fn is_weekend(column: impl Into<String>, zone: Zone) -> Self {
        Self::of(column, zone, Part::IsWeekend)
    }

    fn of(column: impl Into<String>, zone: Zone, part: Part) -> Self {
        let column = column.into();
        Self { output: format!("{column}_{}", part.name()), column, zone, part }
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Month => "month",
            Part::DayOfMonth => "day_of_month",
            Part::DayOfYear => "day_of_year",
            Part::IsoWeek => "iso_week",
            Part::MinuteOfDay => "minute_of_day",
            Part::HourOfWeek => "hour_of_week",
            Part::IsWeekend => "is_weekend",
        }
    }

    fn of(self, local: NaiveDateTime) -> i64 {
        let days_since_monday = local.weekday().num_days_from_monday();
        i64::from(match self {
            Part::Month => local.month(),
            Part::DayOfMonth => local.day(),
            Part::DayOfYear => local.ordinal(),
            Part::IsoWeek => local.iso_week().week(),
            Part::MinuteOfDay => local.hour() * 60 + local.minute(),
            Part::HourOfWeek => days_since_monday * 24 + local.hour(),
            Part::IsWeekend => u32::from(days_since_monday >= 5),
        })
    }
}

impl Encoder for Calendar {
    fn spec(&self) -> Spec {
        let spec = Spec::new("calendar", 1).instant(&self.column).output(&self.output, DataType::Int64);
        spec.parameter("part", self.part.name()).parameter("zone", self.zone.to_string())
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(vec![by_calendar(input.column(0), self.zone, |local| self.part.of(local))])
    }
}

fn by_calendar(instants: &ArrayRef, zone: Zone, part: impl Fn(NaiveDateTime) -> i64) -> ArrayRef {
    let instants = instants.as_primitive::<TimestampMicrosecondType>();
    let parts: Int64Array = instants.iter().map(|us| zone.local(us?).map(&part)).collect();
    Arc::new(parts)
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;

    use super::*;
    use crate::time::parse_time;

    const ALL: [fn(&'static str, Zone) -> Calendar; 7] = [
        Calendar::month,
        Calendar::day_of_month,
        Calendar::day_of_year,
        Calendar::iso_week,
        Calendar::minute_of_day,
        Calendar::hour_of_week,
        Calendar::is_weekend,
    ];

    fn parts(instant_us: Option<i64>) -> [Option<i64>; 7] {
        let instants: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![instant_us]).with_timezone("UTC"));
        let input = RecordBatch::try_from_iter([("at", instants)]).unwrap();
        ALL.map(|part| {
            let encoded = part("at", "America/New_York".parse().unwrap()).encode(&input).unwrap();
            encoded[0].as_primitive::<arrow::datatypes::Int64Type>().iter().next().unwrap()
        })
    }

    /// The numbers are those of pandas 3: `t = pd.Timestamp(text).tz_convert("America/New_York")`, then `t.month, t.day,
    /// t.day_of_year, t.isocalendar().week, t.hour * 60 + t.minute, t.weekday() * 24 + t.hour, t.weekday() >= 5`.
    #[test]
    fn parts_are_those_of_the_clock_on_the_wall() {
        for (text, expected) in [
            // 01:30 before and after the clock is put back, and 01:59 and 03:00, between which it is put forward.
            ("2014-11-02T05:30:00Z", [11, 2, 306, 44, 90, 145, 1]),
            ("2014-11-02T06:30:00Z", [11, 2, 306, 44, 90, 145, 1]),
            ("2014-11-02T07:00:00Z", [11, 2, 306, 44, 120, 146, 1]),
            ("2014-03-09T06:59:59.999999Z", [3, 9, 68, 10, 119, 145, 1]),
            ("2014-03-09T07:00:00Z", [3, 9, 68, 10, 180, 147, 1]),
            // The end of a leap year, in week 1 of the next one; and days of January in week 53.
            ("2012-12-31T23:30:00Z", [12, 31, 366, 1, 1_110, 18, 0]),
            ("2013-01-01T04:59:59Z", [12, 31, 366, 1, 1_439, 23, 0]),
            ("2013-01-01T05:00:00Z", [1, 1, 1, 1, 0, 24, 0]),
            ("2016-01-03T12:00:00Z", [1, 3, 3, 53, 420, 151, 1]),
            ("2021-01-03T12:00:00Z", [1, 3, 3, 53, 420, 151, 1]),
            ("1969-12-31T23:59:59.999999Z", [12, 31, 365, 1, 1_139, 66, 0]),
            ("1900-03-01T00:00:00Z", [2, 28, 59, 9, 1_140, 67, 0]),
            ("2099-07-01T03:30:00Z", [6, 30, 181, 27, 1_410, 47, 0]),
        ] {
            let instant_us = parse_time(text, None).unwrap();
            assert_eq!(parts(Some(instant_us)), expected.map(Some), "{text}");
        }
    }

    #[test]
    fn null_and_instants_beyond_the_calendar_are_null() {
        for instant_us in [None, Some(i64::MIN), Some(i64::MAX)] {
            assert_eq!(parts(instant_us), [None; 7], "{instant_us:?}");
        }
        // The calendar's ends: no part panics there.
        for last in [NaiveDateTime::MIN, NaiveDateTime::MAX] {
            for us in [-100_000_000_000, -1, 0, 1, 100_000_000_000] {
                parts(Some(last.and_utc().timestamp_micros() + us));
            }
        }
    }

    #[test]
    fn the_part_and_the_zone_are_part_of_the_declaration() {
        let specs = ALL.map(|part| part("at", Zone::UTC).named("x").spec());
        for (i, spec) in specs.iter().enumerate() {
            assert_eq!(spec.outputs[0].name(), "x");
            assert!(specs[i + 1..].iter().all(|other| other != spec));
        }
        assert_ne!(specs[0], Calendar::month("at", "America/New_York".parse().unwrap()).named("x").spec());
        assert_eq!(Calendar::iso_week("at", Zone::UTC).spec().outputs[0].name(), "at_iso_week");
    }
}
