//! How far a window reaches back from its instant: a fixed time, or a span of a zone's calendar.
//! Which slots see a fact through it is found in `window`.

use std::fmt;

use chrono::TimeDelta;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::time::{CalendarSpan, DAY_US, Period, Zone, saturating_micros, short_span, shown_span};

/// The length of a window: a fixed time, or a span of a zone's calendar.
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
///   time that is skipped is the instant after the gap. While the clocks show an hour for the second time, the start of a window of
///   months stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowLength(pub(super) Reach);

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
        Self(Reach::Calendar(CalendarSpan::SoFar(Period::Month), zone))
    }

    /// From the midnight of the newest local Monday.
    #[must_use]
    pub const fn this_week(zone: Zone) -> Self {
        Self(Reach::Calendar(CalendarSpan::SoFar(Period::Week), zone))
    }

    /// From the midnight of the local day that holds the instant.
    #[must_use]
    pub const fn this_day(zone: Zone) -> Self {
        Self(Reach::Calendar(CalendarSpan::SoFar(Period::Day), zone))
    }

    /// From `count` months before the instant by the zone's clock; 12 are a year. Zero months are refused where the length is used.
    #[must_use]
    pub const fn months(count: u32, zone: Zone) -> Self {
        Self(Reach::Calendar(CalendarSpan::Months(count), zone))
    }

    /// Everything before the instant.
    pub(crate) const fn everything() -> Self {
        Self(Reach::Everything)
    }

    /// Can no window of this length hold a fact?
    pub(crate) fn is_empty(self) -> bool {
        match self.0 {
            Reach::Micros(length) => length <= 0,
            Reach::Calendar(CalendarSpan::Months(count), _) => count == 0,
            Reach::Everything | Reach::Calendar(CalendarSpan::SoFar(_), _) => false,
        }
    }

    /// Microseconds that no window of this length is longer than; `None` if there is no limit.
    pub(crate) fn at_most_us(self) -> Option<i64> {
        match self.0 {
            Reach::Everything => None,
            Reach::Micros(length) => Some(length),
            Reach::Calendar(span, _) => span.at_most_days().checked_mul(DAY_US),
        }
    }

    /// As the names of features spell it: `all`, `24h`, `this_month`, `3mo`. They leave out the zone.
    pub(crate) fn short(self) -> String {
        match self.0 {
            Reach::Everything => "all".into(),
            Reach::Micros(length) => short_span(length),
            Reach::Calendar(CalendarSpan::SoFar(period), _) => format!("this_{}", period.name()),
            Reach::Calendar(CalendarSpan::Months(count), _) => format!("{count}mo"),
        }
    }

    /// A length as the operators take it: what 64 bits cannot hold is no limit.
    pub(super) fn of_operator(length: impl Into<Self>) -> Self {
        let length = length.into();
        match length.0 {
            Reach::Micros(i64::MAX) => Self::everything(),
            _ => length,
        }
    }
}

impl From<TimeDelta> for WindowLength {
    /// Digits finer than a microsecond are cut off.
    fn from(length: TimeDelta) -> Self {
        Self(Reach::Micros(saturating_micros(length)))
    }
}

/// As [`trailing`](crate::sql::trailing) reads it: `7 days`, `this month in Europe/Berlin`, `3 months in UTC`.
impl fmt::Display for WindowLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Reach::Everything => f.write_str("everything before"),
            Reach::Micros(length) => f.write_str(&shown_span(length)),
            Reach::Calendar(CalendarSpan::SoFar(period), zone) => write!(f, "this {} in {zone}", period.name()),
            Reach::Calendar(CalendarSpan::Months(1), zone) => write!(f, "1 month in {zone}"),
            Reach::Calendar(CalendarSpan::Months(count), zone) => write!(f, "{count} months in {zone}"),
        }
    }
}

/// As part of a definition, and so of its fingerprint: microseconds, null for everything, `{"this": "month", "zone": "UTC"}`,
/// `{"months": 3, "zone": "UTC"}`.
impl Serialize for WindowLength {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
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
        ];
        for (length, declared, shown, short) in lengths {
            assert_eq!((json!(length), length.to_string().as_str(), length.is_empty()), (declared, shown, false));
            assert_eq!(length.short(), short);
        }
        let empty = [WindowLength::months(0, zone), TimeDelta::zero().into(), TimeDelta::days(-1).into(), TimeDelta::MIN.into()];
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
