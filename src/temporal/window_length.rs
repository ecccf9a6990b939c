//! How far a window reaches back from its instant: a fixed time, a span of a zone's calendar, a span that has ended, a number of facts, or
//! the last fact of a kind. Which slots see a fact through it is found in `window`, and how it is written is in `length_text`.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::time::{CalendarSpan, ClockStep, DAY_US, HoppingSpan, Period, Zone, saturating_micros};

/// The length of a window: a fixed time, a span of a zone's calendar, a span that has ended, a number of facts, or the time since the last
/// fact of a kind.
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
///     .window(WindowLength::since("payment_type = 2"), [Aggregate::count().named("trips_since_cash")])
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
///   time that is skipped is the instant after the gap. Where midnight occurs twice, the day begins at the second
///   one, and an instant between the two is still in the day before. While the clocks show an hour for the second time, the start of a window of
///   months stands still.
///
/// # Spans that have ended
///
/// A [tumbling](WindowLength::tumbling) or [hopping](WindowLength::hopping) span is the newest one that has ended at the instant. It ends at
/// the newest boundary at or before the instant, and holds the visible facts with an event time in `[start, end)`: its start is included,
/// and its end is not, whatever the cutoff. A fact that becomes known after the end counts from then on.
///
/// - **Boundaries** are whole multiples of the hop since 1970-01-01T00:00 by the zone's clock; of a hop of whole weeks, since Monday, 5
///   January 1970; of months, since January 1970, so that three months are quarters of a year. A boundary whose local time occurs twice is
///   the later instant. One whose local time is skipped is the instant after the gap, and all boundaries in a gap are the first of them.
/// - **The start** is the local time that is the length before the boundary, read in the same way. So a day is 23 or 25 hours long where
///   the clock says so, and tumbling spans leave nothing out and hold nothing twice.
/// - **A hop that neither divides a day nor is whole days**, such as seven hours, is counted in UTC. With another zone it is refused where
///   the length is used.
/// - A hop that is longer than the length leaves facts out.
///
/// # Which facts a number of facts are
///
/// The newest visible ones of the entity: by event time, then known-at, tie-break columns and all other columns in the order of their
/// names, as for a [`Lookup`](super::Lookup). Facts that an aggregate passes over, by its filter or for a NULL, are among them: over
/// the newest 10 facts a filtered count is at most 10. All columns of the table are read.
///
/// # Since the last fact of a kind
///
/// A window [since](WindowLength::since) a condition holds the visible facts of the entity that are newer than its *marking fact*: the
/// newest visible fact for which the condition is true.
///
/// - The marking fact is not in the window. Newer is what comes later in the order of the newest facts, above: of the facts with the
///   event time of the marking fact, those that come after it in that order are in the window.
/// - Without a marking fact the window holds everything before the instant, or everything within its length if it has one. A marking fact
///   that is not within the length does not matter.
/// - NULL is not true.
/// - A marking fact counts from the instant on at which it is visible. If it becomes known late, the facts before it leave the window
///   then. If a later version replaces it by a fact for which the condition is not true, they come back.
/// - The condition is evaluated on each fact that is visible at an instant and within the window's length, also on facts before the
///   marking fact, and on no other fact. If it fails for one of them, the query fails.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowLength {
    pub(super) reach: Reach,
    /// Of the facts within reach, only those newer than the newest one for which this condition holds.
    pub(super) since: Option<String>,
    /// Of these facts, only so many of the newest.
    pub(super) newest: Option<u32>,
}

/// How far a window reaches back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Reach {
    /// To everything before the instant.
    Everything,
    /// By so many microseconds.
    Micros(i64),
    /// To the start of a calendar span.
    Calendar(CalendarSpan, Zone),
    /// To the start of the newest span that has ended. It does not reach beyond its end.
    Hopping(HoppingSpan, Zone),
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

    /// The newest span of a zone's clock that has ended: spans of this length follow each other without a gap. One day is yesterday by the
    /// local midnights, one hour is the last full hour. See [above](WindowLength#spans-that-have-ended).
    #[must_use]
    pub fn tumbling(length: TimeDelta, zone: Zone) -> Self {
        Self::hopping(length, length, zone)
    }

    /// The newest span of this length that has ended, of those that end a hop apart: with seven days and a hop of one day, the last seven
    /// full days. See [above](WindowLength#spans-that-have-ended).
    ///
    /// ```
    /// use asof::{Aggregate, FeatureSet, WindowLength};
    /// use chrono::TimeDelta;
    ///
    /// let new_york = "America/New_York".parse()?;
    /// let (day, week) = (TimeDelta::days(1), TimeDelta::days(7));
    /// let set = FeatureSet::entities("zones_v1", "nyc_taxi")
    ///     .key("pickup_zone")
    ///     .window(WindowLength::tumbling(day, new_york), [Aggregate::count().named("trips_yesterday")])
    ///     .window(WindowLength::hopping(week, day, new_york), [Aggregate::count().named("trips_in_7_full_days")])
    ///     .window(WindowLength::tumbling_months(1, new_york), [Aggregate::count().named("trips_last_month")])
    ///     .build()?;
    /// # Ok::<(), asof::Error>(())
    /// ```
    #[must_use]
    pub fn hopping(length: TimeDelta, hop: TimeDelta, zone: Zone) -> Self {
        let (length, hop) = (saturating_micros(length), saturating_micros(hop));
        Self::reaching(Reach::Hopping(HoppingSpan { length: ClockStep::Micros(length), hop: ClockStep::Micros(hop) }, zone))
    }

    /// The newest so many calendar months that have ended: 1 is last month, 3 the last quarter, 12 the last year.
    #[must_use]
    pub const fn tumbling_months(count: u32, zone: Zone) -> Self {
        Self::hopping_months(count, count, zone)
    }

    /// The newest `count` calendar months that have ended, of those that end `hop` months apart: 3 and 1 are the last three full months.
    #[must_use]
    pub const fn hopping_months(count: u32, hop: u32, zone: Zone) -> Self {
        Self::reaching(Reach::Hopping(HoppingSpan { length: ClockStep::Months(count), hop: ClockStep::Months(hop) }, zone))
    }

    /// The newest `count` visible facts, however old they are. No fact is refused where the length is used.
    #[must_use]
    pub const fn facts(count: u32) -> Self {
        Self { reach: Reach::Everything, since: None, newest: Some(count) }
    }

    /// Of the facts in a window of another length the newest `count`. If that length has a count as well, the smaller one holds.
    #[must_use]
    pub fn facts_within(count: u32, length: impl Into<Self>) -> Self {
        let within = length.into();
        Self { newest: Some(within.newest.map_or(count, |newest| newest.min(count))), ..within }
    }

    /// The visible facts that are newer than the newest one for which `condition` is true; all visible facts if there is none. See
    /// [above](WindowLength#since-the-last-fact-of-a-kind).
    ///
    /// The condition is SQL over the columns of a single fact, as the [filter](crate::Aggregate::filter) of an aggregate is.
    ///
    /// ```
    /// use asof::{Aggregate, FeatureSet, WindowLength};
    ///
    /// // How many pages a customer has looked at since the last purchase.
    /// let set = FeatureSet::entities("customers_v1", "events")
    ///     .key("customer")
    ///     .window(WindowLength::since("event = 'purchase'"), [Aggregate::count().filter("event = 'view'").named("views")])
    ///     .build()?;
    /// assert_eq!(set.feature("views").unwrap().made_of, "count(*) of events over everything since event = 'purchase' where event = 'view'");
    /// # Ok::<(), asof::Error>(())
    /// ```
    #[must_use]
    pub fn since(condition: impl Into<String>) -> Self {
        Self::since_within(condition, Self::everything())
    }

    /// Of the facts in a window of another length those that are newer than the newest one among them for which `condition` is true;
    /// all of them if there is none: since the last purchase, and at most 30 days.
    ///
    /// If the other length has a condition too, the window begins after the newest fact for which one of the two is true.
    #[must_use]
    pub fn since_within(condition: impl Into<String>, length: impl Into<Self>) -> Self {
        let (condition, within) = (condition.into(), length.into());
        let since = match &within.since {
            Some(other) => format!("({other}) OR ({condition})"),
            None => condition,
        };
        Self { since: Some(since), ..within }
    }

    pub(super) const fn reaching(reach: Reach) -> Self {
        Self { reach, since: None, newest: None }
    }

    /// Everything before the instant.
    pub(crate) const fn everything() -> Self {
        Self::reaching(Reach::Everything)
    }

    /// What is wrong with it, as the rest of a sentence that begins with it.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        let is_none = match self.reach {
            Reach::Micros(length) => length <= 0,
            Reach::Calendar(CalendarSpan::Months(count), _) => count == 0,
            Reach::Hopping(span, _) => span.length.is_empty() || span.hop.is_empty(),
            Reach::Everything | Reach::Calendar(CalendarSpan::SoFar(_), _) => false,
        };
        if is_none || self.newest == Some(0) {
            return Some("is empty; it must be longer than zero");
        }
        match self.reach {
            Reach::Hopping(span, zone) if zone != Zone::UTC && !span.hop.follows_a_clock() => {
                Some("follows no zone's clock, since its hop neither divides a day nor is whole days; count it in UTC")
            }
            _ => None,
        }
    }

    /// Between which boundaries its spans lie, if they end before the instant.
    pub(super) fn boundaries(&self) -> Option<(ClockStep, Zone)> {
        match self.reach {
            Reach::Hopping(span, zone) => Some((span.hop, zone)),
            Reach::Everything | Reach::Micros(_) | Reach::Calendar(..) => None,
        }
    }

    /// Microseconds that no window of this length is longer than; `None` if there is no limit.
    pub(crate) fn at_most_us(&self) -> Option<i64> {
        match self.reach {
            Reach::Everything => None,
            Reach::Micros(length) => Some(length),
            Reach::Calendar(span, _) => span.at_most_days().checked_mul(DAY_US),
            Reach::Hopping(span, _) => span.at_most_days()?.checked_mul(DAY_US),
        }
    }

    /// If it is a fixed time, how many microseconds; `Some(None)` is everything before the instant.
    pub(crate) fn fixed_us(&self) -> Option<Option<i64>> {
        match self.reach {
            _ if self.depends_on_newer_facts() => None,
            Reach::Everything => Some(None),
            Reach::Micros(length) => Some(Some(length)),
            Reach::Calendar(..) | Reach::Hopping(..) => None,
        }
    }

    /// The condition for which the window looks for its marking fact.
    pub(crate) fn condition(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// Does it depend on newer facts whether a window holds a fact?
    pub(super) fn depends_on_newer_facts(&self) -> bool {
        self.newest.is_some() || self.since.is_some()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_length_that_holds_nothing_and_one_that_follows_no_clock_are_flaws() {
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        let empty = [
            WindowLength::months(0, zone),
            WindowLength::facts(0),
            WindowLength::facts_within(3, TimeDelta::zero()),
            TimeDelta::zero().into(),
            TimeDelta::days(-1).into(),
            TimeDelta::MIN.into(),
            WindowLength::tumbling(TimeDelta::zero(), zone),
            WindowLength::hopping(TimeDelta::days(1), TimeDelta::days(-1), zone),
            WindowLength::hopping(TimeDelta::zero(), TimeDelta::days(1), zone),
            WindowLength::hopping_months(1, 0, zone),
            WindowLength::tumbling_months(0, zone),
        ];
        for length in empty {
            assert_eq!(length.flaw(), Some("is empty; it must be longer than zero"), "{length}");
        }
        let odd = TimeDelta::hours(7);
        assert!(WindowLength::tumbling(odd, zone).flaw().is_some_and(|flaw| flaw.contains("count it in UTC")));
        assert_eq!(WindowLength::tumbling(odd, Zone::UTC).flaw(), None);
        assert_eq!(WindowLength::hopping(odd, TimeDelta::hours(8), zone).flaw(), None);
    }

    /// The newest ten since the mark are those since the mark among the newest ten.
    #[test]
    fn lengths_are_put_together_in_any_order() {
        let bought = "event = 'Purchase'";
        let ten = WindowLength::facts_within(10, WindowLength::since(bought));
        assert_eq!(ten, WindowLength::since_within(bought, WindowLength::facts(10)));
        assert!(WindowLength::since_within(bought, TimeDelta::zero()).flaw().is_some());
    }

    #[test]
    fn more_than_64_bits_hold_is_the_longest_length_and_no_limit() {
        assert_eq!(json!(WindowLength::from(TimeDelta::MAX)), json!(i64::MAX));
        assert_eq!(WindowLength::of_operator(TimeDelta::MAX).at_most_us(), None);
        assert_eq!(WindowLength::of_operator(TimeDelta::days(1)).at_most_us(), Some(DAY_US));
        assert_eq!(WindowLength::months(u32::MAX, Zone::UTC).at_most_us(), None);
        assert_eq!(WindowLength::tumbling(TimeDelta::MAX, Zone::UTC).at_most_us(), None);
        assert_eq!(WindowLength::tumbling(TimeDelta::days(1), Zone::UTC).at_most_us(), Some(7 * DAY_US));
    }
}
