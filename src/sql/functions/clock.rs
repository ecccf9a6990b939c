//! The clock of a time zone: from an instant to local time and back.
//! A local time is represented by the microseconds of the instant at which UTC has that time.

use arrow::{array::timezone::Tz, datatypes::DataType};
use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use datafusion::common::{Result, exec_err};

use crate::time::DAY_US;

/// The clock of a named zone or of a fixed offset; UTC if there is neither.
#[derive(Clone, Copy)]
pub(super) struct ZoneClock(Option<Tz>);

impl ZoneClock {
    /// The clock by which values of this type are read.
    pub(super) fn of(data_type: &DataType) -> Result<Self> {
        Ok(Self(match data_type {
            DataType::Timestamp(_, Some(zone)) if zone.as_ref() != "UTC" => Some(zone.parse()?),
            _ => None,
        }))
    }

    /// The local time at an instant; an error outside the calendar.
    pub(super) fn local_time(self, us: i64) -> Result<i64> {
        let Some(zone) = self.0 else { return Ok(us) };
        let shown = us + offset(zone, us)?;
        datetime(shown).map(|_| shown)
    }

    /// The instant of a local time that was computed from the instant `start`.
    ///
    /// It is found as in Joda-Time, which Trino uses. Of two instants it is the one with the offset of `start`, otherwise the earlier
    /// one. A local time in a gap is read with the offset before the gap, so it moves forward by the length of the gap.
    pub(super) fn instant(self, shown: i64, start: i64) -> Result<i64> {
        let Some(zone) = self.0 else { return Ok(shown) };
        let (local, kept) = (datetime(shown)?, offset(zone, start)?);
        if offset(zone, shown - kept)? == kept {
            return Ok(shown - kept);
        }
        match zone.offset_from_local_datetime(&local) {
            MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => Ok(shown - micros(offset)),
            // No offset is a day or more, so a day earlier in UTC is before the gap.
            MappedLocalTime::None => Ok(shown - offset(zone, shown - DAY_US)?),
        }
    }
}

/// The zone's offset from UTC at an instant within the calendar, in microseconds; always less than a day.
fn offset(zone: Tz, us: i64) -> Result<i64> {
    Ok(micros(zone.offset_from_utc_datetime(&datetime(us)?)))
}

fn micros(offset: impl Offset) -> i64 {
    i64::from(offset.fix().local_minus_utc()) * 1_000_000
}

/// The date and time in UTC at an instant.
pub(super) fn datetime(us: i64) -> Result<NaiveDateTime> {
    match DateTime::from_timestamp_micros(us) {
        Some(instant) => Ok(instant.naive_utc()),
        None => exec_err!("{us} us lie outside the calendar"),
    }
}
