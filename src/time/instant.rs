//! The as-of of a query, the rule for facts at exactly that instant, and half-open spans.
//! Zones and calendars are in [`super::Zone`].

use std::{fmt, str::FromStr};

use chrono::{DateTime, SecondsFormat, TimeDelta, TimeZone, Utc};
use serde::{Deserialize, Serialize};

use super::{Horizon, days_of, midnight_us, parse_date};
use crate::error::{Error, Result};

/// The instant as of which a query is answered: microseconds since 1970-01-01T00:00:00Z.
///
/// There is no `AsOf::now()`: an answer that depends on the wall clock cannot be repeated. A service that needs the present
/// takes it from a [`Clock`](super::Clock).
///
/// ```
/// use asof::time::AsOf;
/// let a: AsOf = "2014-11-01".parse()?; // a date means its first instant, UTC
/// let b: AsOf = "2014-10-31T20:00:00-04:00".parse()?;
/// assert_eq!(a, b);
/// assert_eq!(a.to_string(), "2014-11-01T00:00:00Z");
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsOf(i64);

impl AsOf {
    /// The latest instant. A query as of it sees every fact whose event time and known-at are not NULL.
    ///
    /// [`FeatureStore`](crate::FeatureStore)'s `sql`, `facts`, `shards` and `ctas` all accept it. Only a fact at exactly this
    /// microsecond, in the year 294247, would be hidden.
    pub const END_OF_TIME: AsOf = AsOf(i64::MAX);

    /// The instant `micros` microseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The instant `delta` earlier; saturates at the ends of the representable range.
    #[must_use]
    pub fn minus(self, delta: TimeDelta) -> Self {
        Self(self.0.saturating_sub(saturating_micros(delta)))
    }

    /// The instant `delta` later; saturates at the ends of the representable range.
    #[must_use]
    pub fn plus(self, delta: TimeDelta) -> Self {
        Self(self.0.saturating_add(saturating_micros(delta)))
    }

    /// The instant as chrono's type, or `None` outside chrono's range of years.
    #[must_use]
    pub fn to_datetime(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.0)
    }
}

/// Microseconds, rounded down, or the nearest number of them that 64 bits hold: 292,000 years.
pub(crate) fn saturating_micros(delta: TimeDelta) -> i64 {
    let is_below = delta.subsec_nanos() % 1_000 < 0;
    match delta.num_microseconds() {
        // chrono rounds towards zero.
        Some(micros) => micros.saturating_sub(is_below.into()),
        None if delta < TimeDelta::zero() => i64::MIN,
        None => i64::MAX,
    }
}

/// How far something reaches back, in microseconds. `None` means without a limit: 292,000 years are longer than 64 bits hold.
pub(crate) fn length_micros(delta: TimeDelta) -> Option<i64> {
    match delta < TimeDelta::zero() {
        // Refused by whoever takes a length; only the sign matters.
        true => Some(saturating_micros(delta)),
        false => delta.num_microseconds(),
    }
}

impl<Tz: TimeZone> From<DateTime<Tz>> for AsOf {
    /// Digits finer than a microsecond are cut off towards the past, so that no fact becomes visible early.
    fn from(instant: DateTime<Tz>) -> Self {
        Self(instant.timestamp_micros())
    }
}

impl FromStr for AsOf {
    type Err = Error;

    /// Parses RFC 3339 with an offset, or a date, which means its first instant in UTC.
    ///
    /// # Errors
    /// [`Error::InvalidTime`] for anything else, including a time without an offset and one that is finer than a microsecond.
    fn from_str(text: &str) -> Result<Self> {
        const FORMS: &str = "write RFC 3339 with an offset (2014-11-01T00:00:00Z) or a date (2014-11-01, its first instant UTC)";
        let invalid = |cause: &dyn fmt::Display| Error::InvalidTime { text: text.into(), reason: format!("{cause}; {FORMS}") };
        if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'/')) {
            let midnight = parse_date(text).map(|date| midnight_us(days_of(date))).map_err(|cause| invalid(&cause))?;
            return midnight.map(Self).ok_or_else(|| invalid(&"the date is out of range"));
        }
        let time = DateTime::parse_from_rfc3339(text).map_err(|cause| invalid(&cause))?;
        if time.timestamp_subsec_nanos() % 1_000 != 0 {
            return Err(invalid(&"an instant is a whole number of microseconds"));
        }
        Ok(Self::from(time))
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::END_OF_TIME {
            return f.write_str("the end of time");
        }
        match self.to_datetime() {
            Some(t) if self.0 % 1_000_000 == 0 => f.write_str(&t.to_rfc3339_opts(SecondsFormat::Secs, true)),
            Some(t) => f.write_str(&t.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => write!(f, "{} us", self.0),
        }
    }
}

impl Serialize for AsOf {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AsOf {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self)
    }
}

/// Whether a fact at exactly the as-of is visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cutoff {
    /// Only facts strictly before the as-of. This is the default.
    #[default]
    Exclusive,
    /// Also facts at exactly the as-of.
    Inclusive,
}

impl Cutoff {
    /// Is a fact with these two instants (microseconds UTC) visible at `as_of`?
    ///
    /// Both must be before it; neither alone is enough.
    #[must_use]
    pub const fn sees(self, event_us: i64, known_us: i64, as_of: AsOf) -> bool {
        let horizon = Horizon::new(as_of, self);
        horizon.sees(AsOf(event_us)) && horizon.sees(AsOf(known_us))
    }
}

impl fmt::Display for Cutoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cutoff::Exclusive => "exclusive",
            Cutoff::Inclusive => "inclusive",
        })
    }
}

/// A half-open span of time `[start, end)`; empty when `end <= start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The first instant inside the span.
    pub start: AsOf,
    /// The first instant after the span.
    pub end: AsOf,
}

impl Span {
    /// The span `[start, end)`.
    #[must_use]
    pub const fn new(start: AsOf, end: AsOf) -> Self {
        Self { start, end }
    }

    /// Is this instant inside the span?
    #[must_use]
    pub fn contains(&self, instant: AsOf) -> bool {
        self.start <= instant && instant < self.end
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_as_of_needs_an_offset_or_is_a_date() {
        assert_eq!("2014-11-01".parse::<AsOf>().unwrap().micros(), 1_414_800_000_000_000);
        assert_eq!("2014-11-01T02:00:00.000001+02:00".parse::<AsOf>().unwrap().micros(), 1_414_800_000_000_001);
        for bad in ["2014-11-01T00:00:00", "2014-11", "yesterday", "", "2014-02-30"] {
            assert!(matches!(bad.parse::<AsOf>(), Err(Error::InvalidTime { .. })), "{bad}");
        }
    }

    #[test]
    fn a_fact_at_the_cutoff_is_hidden_unless_inclusive() {
        let t = AsOf::from_micros(10);
        assert!(Cutoff::Exclusive.sees(9, 9, t));
        assert!(!Cutoff::Exclusive.sees(10, 9, t));
        assert!(!Cutoff::Exclusive.sees(9, 10, t));
        assert!(Cutoff::Inclusive.sees(10, 10, t));
        assert!(!Cutoff::Inclusive.sees(10, 11, t));
    }
}
