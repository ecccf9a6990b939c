//! How far a window reaches back from its instant: a fixed time, a span of a zone's calendar, or a number of facts.
//! Which slots see a fact through it is found in `window`.

use std::fmt;

use chrono::TimeDelta;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::time::{CalendarSpan, DAY_US, Period, Zone, saturating_micros, short_span, shown_span};

/// The length of a window: a fixed time, a span of a zone's calendar, or a number of facts.
///
/// A [`TimeDelta`] is a length as it is. More than 292,000 years are no limit.
///
/// ```
/// use asof::{Aggregate, FeatureSet, WindowLength};
/// use chrono::TimeDelta;
///
/// let new_york = "America/New_York".parse()?;
/// let set = FeatureSet::entities("zones_v1", "nyc_taxi")
///     .key("pickup_zone")
///     .window(TimeDelta::days(7), [Aggregate::count().named("trips_7d")])
///     .window(WindowLength::this_month(new_york), [Aggregate::count().named("trips_this_month")])
///     .window(WindowLength::months(3, new_york), [Aggregate::mean("fare_amount").named("fare_3_months")])
///     .window(WindowLength::facts_within(10, TimeDelta::days(30)), [Aggregate::mean("fare_amount").named("fare_10_trips")])
///     .build()?;
/// # Ok::<(), asof::Error>(())
/// ```
///
/// # Where a calendar window begins
///
/// A window at `t` holds the visible facts with an event time from its start, which is included, to `t`. Its start never moves back
/// when `t` moves on: a fact that has left a window does not come back.
///
/// - **This month, week or day** begins at midnight of its first day. At this instant itself the window is empty, or holds only the
///   facts at it if the cutoff is [inclusive](crate::time::Cutoff::Inclusive). A week begins on Monday.
/// - **n months** begin at the same local time on the same day, n months earlier: on 31 January at noon a month begins on 31 December
///   at noon. If the earlier month has no such day, the window begins at the midnight that ends that month: on 29, 30 and 31 March a
///   month begins on 1 March, or in a leap year on 30 and 31 March. (SQL's `t - INTERVAL '1 month'` would be 28 February at the time
///   of day of t, which moves back from the evening of 28 March to the morning of 29 March.)
/// - **When clocks change**, these local times are read as those of facts are: a time that occurs twice is the later instant, and a
///   time that is skipped is the instant after the gap. Between two midnights of one day the window begins at the first. While the clocks show an hour for the second time, the start of a window of
///   months stands still.
///
/// # Which facts a number of facts are
///
/// The newest visible ones of the entity: by event time, then known-at, tie-break columns and all other columns in the order of their
/// names, as for a [`Lookup`](super::Lookup). Facts that an aggregate passes over, by its filter or for a NULL, are among them: over
/// the newest 10 facts a filtered count is at most 10. All columns of the table are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowLength {
    pub(super) reach: Reach,
    /// Of the facts within reach, only so many of the newest.
    pub(super) newest: Option<u32>,
}

/// How far a window reaches back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reach {
    /// To everything before the instant.
    Everything,
    /// By so many microseconds.
    Micros(i64),
    /// To the start of a calendar span.
    Calendar(CalendarSpan, Zone),
}

impl WindowLength {
    /// From the first midnight of the local month that holds the instant.
    #[must_use]
    pub const fn this_month(zone: Zone) -> Self {
        Self::reaching(Reach::Calendar(CalendarSpan::SoFar(Period::Month), zone))
    }

    /// From the midnight of the newest local Monday.
    #[must_use]
    pub const fn this_week(zone: Zone) -> Self {
        Self::reaching(Reach::Calendar(CalendarSpan::SoFar(Period::Week), zone))
    }

    /// From the midnight of the local day that holds the instant.
    #[must_use]
    pub const fn this_day(zone: Zone) -> Self {
        Self::reaching(Reach::Calendar(CalendarSpan::SoFar(Period::Day), zone))
    }

    /// From `count` months before the instant by the zone's clock; 12 are a year. Zero months are refused where the length is used.
    #[must_use]
    pub const fn months(count: u32, zone: Zone) -> Self {
        Self::reaching(Reach::Calendar(CalendarSpan::Months(count), zone))
    }

    /// The newest `count` visible facts, however old they are. No fact is refused where the length is used.
    #[must_use]
    pub const fn facts(count: u32) -> Self {
        Self { reach: Reach::Everything, newest: Some(count) }
    }

    /// Of the facts in a window of another length the newest `count`. If that length has a count as well, the smaller one holds.
    #[must_use]
    pub fn facts_within(count: u32, length: impl Into<Self>) -> Self {
        let within = length.into();
        Self { newest: Some(within.newest.map_or(count, |newest| newest.min(count))), ..within }
    }

    const fn reaching(reach: Reach) -> Self {
        Self { reach, newest: None }
    }

    /// Everything before the instant.
    pub(crate) const fn everything() -> Self {
        Self::reaching(Reach::Everything)
    }

    /// Can no window of this length hold a fact?
    pub(crate) fn is_empty(self) -> bool {
        let is_none = match self.reach {
            Reach::Micros(length) => length <= 0,
            Reach::Calendar(CalendarSpan::Months(count), _) => count == 0,
            Reach::Everything | Reach::Calendar(CalendarSpan::SoFar(_), _) => false,
        };
        is_none || self.newest == Some(0)
    }

    /// Microseconds that no window of this length is longer than; `None` if there is no limit.
    pub(crate) fn at_most_us(self) -> Option<i64> {
        match self.reach {
            Reach::Everything => None,
            Reach::Micros(length) => Some(length),
            Reach::Calendar(span, _) => span.at_most_days().checked_mul(DAY_US),
        }
    }

    /// If it is a fixed time, how many microseconds; `Some(None)` is everything before the instant.
    pub(crate) fn fixed_us(self) -> Option<Option<i64>> {
        match (self.reach, self.newest) {
            (Reach::Everything, None) => Some(None),
            (Reach::Micros(length), None) => Some(Some(length)),
            (Reach::Calendar(..), _) | (_, Some(_)) => None,
        }
    }

    /// As the names of features spell it: `all`, `24h`, `this_month`, `3mo`, `10_facts`, `10_facts_30d`. They leave out the zone.
    pub(crate) fn short(self) -> String {
        let reach = match (self.reach, self.newest) {
            (Reach::Everything, Some(_)) => String::new(),
            (Reach::Everything, None) => "all".into(),
            (Reach::Micros(length), _) => short_span(length),
            (Reach::Calendar(CalendarSpan::SoFar(period), _), _) => format!("this_{}", period.name()),
            (Reach::Calendar(CalendarSpan::Months(count), _), _) => format!("{count}mo"),
        };
        match self.newest {
            None => reach,
            Some(count) if reach.is_empty() => format!("{count}_facts"),
            Some(count) => format!("{count}_facts_{reach}"),
        }
    }

    /// A length as the operators take it: what 64 bits cannot hold is no limit.
    pub(super) fn of_operator(length: impl Into<Self>) -> Self {
        let length = length.into();
        match length.reach {
            Reach::Micros(i64::MAX) => Self { reach: Reach::Everything, ..length },
            _ => length,
        }
    }
}

impl From<TimeDelta> for WindowLength {
    /// Digits finer than a microsecond are cut off.
    fn from(length: TimeDelta) -> Self {
        Self::reaching(Reach::Micros(saturating_micros(length)))
    }
}

/// As [`trailing`](crate::sql::trailing) reads it: `7 days`, `this month in Europe/Berlin`, `3 months in UTC`, `10 facts`,
/// `10 facts within 30 days`.
impl fmt::Display for WindowLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(newest) = self.newest {
            write!(f, "{newest} fact{}", if newest == 1 { "" } else { "s" })?;
            match self.reach {
                Reach::Everything => return Ok(()),
                _ => f.write_str(" within ")?,
            }
        }
        match self.reach {
            Reach::Everything => f.write_str("everything before"),
            Reach::Micros(length) => f.write_str(&shown_span(length)),
            Reach::Calendar(CalendarSpan::SoFar(period), zone) => write!(f, "this {} in {zone}", period.name()),
            Reach::Calendar(CalendarSpan::Months(1), zone) => write!(f, "1 month in {zone}"),
            Reach::Calendar(CalendarSpan::Months(count), zone) => write!(f, "{count} months in {zone}"),
        }
    }
}

/// As part of a definition, and so of its fingerprint: microseconds, null for everything, `{"this": "month", "zone": "UTC"}`,
/// `{"months": 3, "zone": "UTC"}`, and with a number of facts `{"facts": 10}` or `{"facts": 10, "within": ...}`.
impl Serialize for WindowLength {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(newest) = self.newest {
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("facts", &newest)?;
            if self.reach != Reach::Everything {
                map.serialize_entry("within", &Self::reaching(self.reach))?;
            }
            return map.end();
        }
        match self.reach {
            Reach::Everything => serializer.serialize_none(),
            Reach::Micros(length) => serializer.serialize_i64(length),
            Reach::Calendar(span, zone) => {
                let mut map = serializer.serialize_map(Some(2))?;
                match span {
                    CalendarSpan::SoFar(period) => map.serialize_entry("this", period.name())?,
                    CalendarSpan::Months(count) => map.serialize_entry("months", &count)?,
                }
                map.serialize_entry("zone", &zone)?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_length_is_declared_and_shown() {
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        let lengths = [
            (WindowLength::from(TimeDelta::days(7)), json!(604_800_000_000_i64), "7 days", "7d"),
            (WindowLength::everything(), json!(null), "everything before", "all"),
            (
                WindowLength::this_month(zone),
                json!({"this": "month", "zone": "Europe/Berlin"}),
                "this month in Europe/Berlin",
                "this_month",
            ),
            (WindowLength::this_week(Zone::UTC), json!({"this": "week", "zone": "UTC"}), "this week in UTC", "this_week"),
            (WindowLength::this_day(Zone::UTC), json!({"this": "day", "zone": "UTC"}), "this day in UTC", "this_day"),
            (WindowLength::months(1, zone), json!({"months": 1, "zone": "Europe/Berlin"}), "1 month in Europe/Berlin", "1mo"),
            (WindowLength::months(12, Zone::UTC), json!({"months": 12, "zone": "UTC"}), "12 months in UTC", "12mo"),
            (WindowLength::facts(1), json!({"facts": 1}), "1 fact", "1_facts"),
            (
                WindowLength::facts_within(10, TimeDelta::days(30)),
                json!({"facts": 10, "within": 2_592_000_000_000_i64}),
                "10 facts within 30 days",
                "10_facts_30d",
            ),
            (
                WindowLength::facts_within(10, WindowLength::facts_within(3, WindowLength::this_day(Zone::UTC))),
                json!({"facts": 3, "within": {"this": "day", "zone": "UTC"}}),
                "3 facts within this day in UTC",
                "3_facts_this_day",
            ),
        ];
        for (length, declared, shown, short) in lengths {
            assert_eq!((json!(length), length.to_string().as_str(), length.is_empty()), (declared, shown, false));
            assert_eq!(length.short(), short);
        }
        let empty = [
            WindowLength::months(0, zone),
            WindowLength::facts(0),
            WindowLength::facts_within(3, TimeDelta::zero()),
            TimeDelta::zero().into(),
            TimeDelta::days(-1).into(),
            TimeDelta::MIN.into(),
        ];
        assert!(empty.into_iter().all(WindowLength::is_empty), "{empty:?}");
    }

    #[test]
    fn more_than_64_bits_hold_is_the_longest_length_and_no_limit() {
        assert_eq!(json!(WindowLength::from(TimeDelta::MAX)), json!(i64::MAX));
        assert_eq!(WindowLength::of_operator(TimeDelta::MAX).at_most_us(), None);
        assert_eq!(WindowLength::of_operator(TimeDelta::days(1)).at_most_us(), Some(DAY_US));
        assert_eq!(WindowLength::months(u32::MAX, Zone::UTC).at_most_us(), None);
    }
}
