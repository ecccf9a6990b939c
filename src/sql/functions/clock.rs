//! The clock of a zone: what it shows at an instant, and at which instant it shows a time.
//! A time that a clock shows is written as the microseconds at which UTC's shows it.

use arrow::{array::timezone::Tz, datatypes::DataType};
use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use datafusion::common::{Result, exec_err};

use super::times::DAY_US;

/// The clock of a zone by name or of a fixed offset; UTC's without one.
#[derive(Clone, Copy)]
pub(super) struct Clock(Option<Tz>);

impl Clock {
    /// The clock by which values of this type are read.
    pub(super) fn of(data_type: &DataType) -> Result<Self> {
        Ok(Self(match data_type {
            DataType::Timestamp(_, Some(zone)) if zone.as_ref() != "UTC" => Some(zone.parse()?),
            _ => None,
        }))
    }

    /// What the clock shows at an instant; an error where a zone's would show no day of the calendar.
    pub(super) fn shows(self, us: i64) -> Result<i64> {
        let Some(zone) = self.0 else { return Ok(us) };
        let shown = us + offset(zone, us)?;
        datetime(shown).map(|_| shown)
    }

    /// The instant at which the clock shows a time that was counted from the instant `start`.
    ///
    /// It is found as Joda-Time does, and so Trino. Of two instants it is the one with the offset of `start`, else the earlier.
    /// A time that the clock leaps over is read with the offset before the leap: it lies behind it by as much as was leapt over.
    pub(super) fn instant(self, shown: i64, start: i64) -> Result<i64> {
        let Some(zone) = self.0 else { return Ok(shown) };
        let (local, kept) = (datetime(shown)?, offset(zone, start)?);
        if offset(zone, shown - kept)? == kept {
            return Ok(shown - kept);
        }
        match zone.offset_from_local_datetime(&local) {
            MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => Ok(shown - micros(offset)),
            // No clock is a day ahead of UTC: a day earlier by UTC is before the leap.
            MappedLocalTime::None => Ok(shown - offset(zone, shown - DAY_US)?),
        }
    }
}

/// How far the zone's clock is ahead of UTC at an instant within the calendar: less than a day, so that both can be added.
fn offset(zone: Tz, us: i64) -> Result<i64> {
    Ok(micros(zone.offset_from_utc_datetime(&datetime(us)?)))
}

fn micros(offset: impl Offset) -> i64 {
    i64::from(offset.fix().local_minus_utc()) * 1_000_000
}

/// The calendar's day and time of UTC at an instant.
pub(super) fn datetime(us: i64) -> Result<NaiveDateTime> {
    match DateTime::from_timestamp_micros(us) {
        Some(instant) => Ok(instant.naive_utc()),
        None => exec_err!("{us} us lie outside the calendar"),
    }
}
