//! Local times without a zone, converted to instants by the declared zone.
//! A fact's local time never becomes an instant earlier than it can have been, a spine's never a later one.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::{AsOf, days_of, midnight_ns};
use crate::error::{Error, Result};

const DAY_S: i64 = 86_400;
const SECOND_NS: i128 = 1_000_000_000;

/// A time zone of the IANA database, in which a table's zone-less times were written.
///
/// ```
/// use asof::time::Zone;
/// let new_york: Zone = "America/New_York".parse()?;
/// assert_eq!(new_york.to_string(), "America/New_York");
/// assert!("New York".parse::<Zone>().is_err());
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Zone(Tz);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone(Tz::UTC);

    /// The instant of a local time, both in seconds since 1970-01-01T00:00:00 of their own clock, and whether the
    /// local time falls into a gap.
    ///
    /// A local time that occurs twice is the later instant; one that does not exist is the instant after the gap,
    /// whatever its fraction of a second. `None` outside chrono's range of years.
    pub(crate) fn instant_s(self, local_s: i64) -> Option<(i64, InGap)> {
        if self.0 == Tz::UTC {
            return Some((local_s, InGap::No));
        }
        let local = DateTime::from_timestamp(local_s, 0)?.naive_utc();
        match self.0.offset_from_local_datetime(&local) {
            LocalResult::Single(offset) => Some((local_s - seconds(&offset), InGap::No)),
            LocalResult::Ambiguous(a, b) => Some((local_s - seconds(&a).min(seconds(&b)), InGap::No)),
            LocalResult::None => self.end_of_gap_s(local_s).map(|s| (s, InGap::Yes)),
        }
    }

    /// The instant of a local time, both in nanoseconds since 1970-01-01T00:00:00 of their own clock, exact.
    pub(crate) fn instant_ns(self, local_ns: i128) -> i128 {
        if self == Self::UTC {
            return local_ns;
        }
        let fraction_ns = local_ns.rem_euclid(SECOND_NS);
        let instant = i64::try_from(local_ns.div_euclid(SECOND_NS)).ok().and_then(|s| self.instant_s(s));
        match instant {
            Some((s, InGap::No)) => i128::from(s) * SECOND_NS + fraction_ns,
            Some((s, InGap::Yes)) => i128::from(s) * SECOND_NS,
            // Outside chrono's range of years no transitions are known.
            None => local_ns,
        }
    }

    /// The earliest instant that a local time can mean, both in nanoseconds since 1970-01-01T00:00:00 of their own clock.
    ///
    /// Of a local time that occurs twice that is the first. Of one that does not exist it is the instant by the clock after the
    /// change, which is before the gap. A query at such a time therefore sees no fact that another reading of it would hide.
    pub(crate) fn earliest_ns(self, local_ns: i128) -> i128 {
        if self == Self::UTC {
            return local_ns;
        }
        let earliest_s = |local_s: i64| {
            let local = DateTime::from_timestamp(local_s, 0)?.naive_utc();
            let offset_s = match self.0.offset_from_local_datetime(&local) {
                LocalResult::Single(offset) => seconds(&offset),
                LocalResult::Ambiguous(a, b) => seconds(&a).max(seconds(&b)),
                LocalResult::None => {
                    let after_s = self.end_of_gap_s(local_s)?;
                    self.offset_s(after_s)?.max(self.offset_s(after_s - 1)?)
                }
            };
            Some(local_s - offset_s)
        };
        match i64::try_from(local_ns.div_euclid(SECOND_NS)).ok().and_then(earliest_s) {
            Some(s) => i128::from(s) * SECOND_NS + local_ns.rem_euclid(SECOND_NS),
            None => local_ns,
        }
    }

    /// The transition that skipped this local time: the first instant whose local clock is past it.
    fn end_of_gap_s(self, local_s: i64) -> Option<i64> {
        let before = self.offset_s(local_s - DAY_S)?;
        let after = self.offset_s(local_s + DAY_S)?;
        let (mut low, mut high) = (local_s - before.max(after), local_s - before.min(after) + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if middle + self.offset_s(middle)? > local_s {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(low)
    }

    /// Seconds to add to this instant to get the local clock.
    fn offset_s(self, instant_s: i64) -> Option<i64> {
        let utc = DateTime::from_timestamp(instant_s, 0)?.naive_utc();
        Some(seconds(&self.0.offset_from_utc_datetime(&utc)))
    }

    /// The latest time that the zone's clocks have shown up to an instant, both in nanoseconds since 1970-01-01T00:00:00 of their own
    /// clock. While they show an hour for the second time, it is the end of this hour. `None` outside chrono's range of years.
    pub(crate) fn latest_local_ns(self, instant_ns: i128) -> Option<i128> {
        if self == Self::UTC {
            return Some(instant_ns);
        }
        let instant_s = i64::try_from(instant_ns.div_euclid(SECOND_NS)).ok()?;
        let offset_s = self.offset_s(instant_s)?;
        let local_s = instant_s + offset_s;
        let local = DateTime::from_timestamp(local_s, 0)?.naive_utc();
        let before_s = match self.0.offset_from_local_datetime(&local) {
            LocalResult::Ambiguous(a, b) => seconds(&a).max(seconds(&b)),
            LocalResult::Single(_) | LocalResult::None => offset_s,
        };
        if before_s <= offset_s {
            return Some(instant_ns + i128::from(offset_s) * SECOND_NS);
        }
        // The clocks were put back between the two instants at which they show this time.
        let (mut low, mut high) = (local_s - before_s, instant_s);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if self.offset_s(middle)? == offset_s { high = middle } else { low = middle }
        }
        Some(i128::from(high + before_s) * SECOND_NS)
    }

    /// The local date and time of an instant, or `None` outside chrono's range of years.
    pub fn local(self, instant_us: i64) -> Option<NaiveDateTime> {
        let utc = DateTime::from_timestamp_micros(instant_us)?.naive_utc();
        let offset = i64::from(self.0.offset_from_utc_datetime(&utc).fix().local_minus_utc());
        utc.checked_add_signed(TimeDelta::seconds(offset))
    }

    /// The first instant of a month (1 to 12) by the zone's calendar; `None` when there is no such month.
    pub(crate) fn start_of_month(self, year: i32, month: u32) -> Option<AsOf> {
        let first = chrono::NaiveDate::from_ymd_opt(year, month, 1)?;
        let instant_ns = self.instant_ns(midnight_ns(days_of(first)));
        Some(AsOf::from_micros(i64::try_from(instant_ns.div_euclid(1_000)).ok()?))
    }

    /// The local year and month (1 to 12) of an instant: the folder that a fact belongs in.
    pub(crate) fn year_month(self, instant_us: i64) -> Option<(i32, u32)> {
        self.local(instant_us).map(|t| (t.year(), t.month()))
    }

    /// The local hour of an instant, 0 to 23.
    pub(crate) fn hour_of_day(self, instant_us: i64) -> Option<usize> {
        self.local(instant_us).and_then(|t| usize::try_from(t.hour()).ok())
    }
}

/// Whether a local time falls into a gap of its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InGap {
    Yes,
    No,
}

fn seconds(offset: &impl Offset) -> i64 {
    i64::from(offset.fix().local_minus_utc())
}

impl FromStr for Zone {
    type Err = Error;

    /// # Errors
    /// [`Error::InvalidName`] if the IANA database does not know the name.
    fn from_str(name: &str) -> Result<Self> {
        name.parse().map(Zone).map_err(|_| Error::InvalidName {
            what: "time zone",
            value: name.into(),
            reason: "it is not in the IANA database; write `America/New_York` or `UTC`".into(),
        })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl Serialize for Zone {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
