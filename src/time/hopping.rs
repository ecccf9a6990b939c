//! Spans of one length that end at boundaries a hop apart: tumbling and hopping windows. At an instant it is the newest one that has
//! ended. An instant later than another never has an earlier span.

use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Serialize};

use super::{
    Zone,
    calendar::{LAST_S, SECOND_NS, months_before_ns},
    date_of, days_of,
};

const DAY_NS: i128 = 86_400 * SECOND_NS;
const WEEK_US: i64 = 7 * super::DAY_US;
/// Monday, 5 January 1970.
const MONDAY_NS: i128 = 4 * DAY_NS;

/// A length of time by a clock: a fixed one, or months.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum ClockStep {
    Micros(i64),
    Months(u32),
}

/// A span that ends at a boundary. Boundaries are a hop apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct HoppingSpan {
    pub(crate) length: ClockStep,
    pub(crate) hop: ClockStep,
}

impl ClockStep {
    /// Is it zero or less?
    pub(crate) fn is_empty(self) -> bool {
        match self {
            ClockStep::Micros(micros) => micros <= 0,
            ClockStep::Months(months) => months == 0,
        }
    }

    /// Does a clock show a boundary at the same times every day, or at midnights?
    pub(crate) fn follows_a_clock(self) -> bool {
        match self {
            ClockStep::Micros(micros) => micros > 0 && (super::DAY_US % micros == 0 || micros % super::DAY_US == 0),
            ClockStep::Months(_) => true,
        }
    }

    /// Days that it is not longer than; `None` if they are too many.
    fn at_most_days(self) -> Option<i64> {
        match self {
            ClockStep::Micros(micros) => (micros.max(0) / super::DAY_US).checked_add(1),
            ClockStep::Months(months) => Some(i64::from(months) * 31),
        }
    }
}

impl HoppingSpan {
    /// So many days are never shorter than the time from the start of a span to any instant that has it, whatever the zone's clocks do.
    /// No clock was ever changed by more than a day.
    pub(crate) fn at_most_days(self) -> Option<i64> {
        self.length.at_most_days()?.checked_add(self.hop.at_most_days()?)?.checked_add(3)
    }
}

/// Finds the spans for many instants. Neighbouring instants take less time.
pub(crate) struct HoppingEdges {
    span: HoppingSpan,
    zone: Zone,
    /// The span of the previous instant.
    found: Option<Found>,
}

/// A span, all in nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy)]
struct Found {
    start: Option<i128>,
    end: i128,
    /// Where the next span ends.
    next: i128,
}

impl HoppingEdges {
    pub(crate) fn new(span: HoppingSpan, zone: Zone) -> Self {
        Self { span, zone, found: None }
    }

    /// The start (inclusive) and the end (exclusive) of the newest span that has ended at an instant, all in nanoseconds since
    /// 1970-01-01T00:00:00Z. `None` if it is beyond the calendar; so is the start alone.
    ///
    /// Boundaries are whole multiples of the hop since 1970-01-01T00:00 by the zone's clock, and those of whole weeks since the Monday
    /// after it. These local times are read as those of facts are: a time that occurs twice is the later instant, and a time in a gap is
    /// the instant after the gap. All boundaries in a gap are the first of them. The start is the local time that is the length before
    /// that of the boundary, read in the same way.
    pub(crate) fn edges_ns(&mut self, instant_ns: i128) -> Option<(Option<i128>, i128)> {
        let last_ns = i128::from(LAST_S) * SECOND_NS;
        let instant_ns = instant_ns.clamp(-last_ns, last_ns);
        let found = match self.found {
            Some(found) if (found.end..found.next).contains(&instant_ns) => found,
            _ => self.find(instant_ns)?,
        };
        self.found = Some(found);
        Some((found.start, found.end))
    }

    fn find(&self, instant_ns: i128) -> Option<Found> {
        let near = self.number_near(instant_ns)?;
        let is_near = self.instant_of(near)? <= instant_ns && self.instant_of(near + 1)? > instant_ns;
        // The clocks were changed near the instant.
        let newest = if is_near { near } else { self.first_after(near, instant_ns)? - 1 };
        let (end, next) = (self.instant_of(newest)?, self.instant_of(newest + 1)?);
        let first = if self.instant_of(newest - 1)? < end { newest } else { self.first_after(newest, end - 1)? };
        Some(Found { start: self.start_ns(self.boundary_ns(first)?), end, next })
    }

    /// The number of a boundary whose instant lies close to this one.
    fn number_near(&self, instant_ns: i128) -> Option<i128> {
        let local_ns = self.zone.latest_local_ns(instant_ns)?;
        Some(match self.span.hop {
            ClockStep::Micros(hop_us) => (local_ns - origin_ns(hop_us)).div_euclid(i128::from(hop_us.max(1)) * 1_000),
            ClockStep::Months(hop) => {
                let date = date_of(i32::try_from(local_ns.div_euclid(DAY_NS)).ok()?)?;
                i128::from((date.year() - 1970) * 12 + date.month0() as i32).div_euclid(i128::from(hop.max(1)))
            }
        })
    }

    /// The number of the first boundary whose instant lies after this one, given a number near it.
    fn first_after(&self, near: i128, instant_ns: i128) -> Option<i128> {
        // Clocks are changed by a day at most.
        let reach = match self.span.hop {
            ClockStep::Micros(hop_us) => 3 * DAY_NS / (i128::from(hop_us.max(1)) * 1_000) + 2,
            ClockStep::Months(_) => 2,
        };
        let (mut low, mut high) = (near - reach, near + reach);
        while low < high {
            let middle = low + (high - low).div_euclid(2);
            if self.instant_of(middle)? > instant_ns { high = middle } else { low = middle + 1 }
        }
        Some(low)
    }

    /// The local time of a boundary, in nanoseconds of its clock.
    fn boundary_ns(&self, number: i128) -> Option<i128> {
        match self.span.hop {
            ClockStep::Micros(hop_us) => Some(origin_ns(hop_us) + number * i128::from(hop_us.max(1)) * 1_000),
            ClockStep::Months(hop) => {
                let months = i64::try_from(number * i128::from(hop.max(1))).ok()?;
                let year = i32::try_from(1970 + months.div_euclid(12)).ok()?;
                let first = NaiveDate::from_ymd_opt(year, u32::try_from(months.rem_euclid(12)).ok()? + 1, 1)?;
                Some(i128::from(days_of(first)) * DAY_NS)
            }
        }
    }

    /// The instant of a boundary.
    fn instant_of(&self, number: i128) -> Option<i128> {
        Some(self.zone.instant_ns(self.boundary_ns(number)?))
    }

    /// The instant that is the length before a local time.
    fn start_ns(&self, boundary_ns: i128) -> Option<i128> {
        let local_ns = match self.span.length {
            ClockStep::Micros(length_us) => boundary_ns - i128::from(length_us) * 1_000,
            ClockStep::Months(months) => months_before_ns(boundary_ns, months)?,
        };
        Some(self.zone.instant_ns(local_ns))
    }
}

/// The local time from which boundaries are counted.
fn origin_ns(hop_us: i64) -> i128 {
    if hop_us % WEEK_US == 0 { MONDAY_NS } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::{AsOf, calendar::tests::ZONES};

    const HOUR_US: i64 = 3_600_000_000;
    const DAY_US: i64 = 24 * HOUR_US;

    fn micros(length_us: i64, hop_us: i64) -> HoppingSpan {
        HoppingSpan { length: ClockStep::Micros(length_us), hop: ClockStep::Micros(hop_us) }
    }

    fn months(length: u32, hop: u32) -> HoppingSpan {
        HoppingSpan { length: ClockStep::Months(length), hop: ClockStep::Months(hop) }
    }

    fn edges(span: HoppingSpan, zone: &str, at: &str) -> (String, String) {
        let at: AsOf = at.parse().unwrap();
        let (start, end) = HoppingEdges::new(span, zone.parse().unwrap()).edges_ns(i128::from(at.micros()) * 1_000).unwrap();
        let shown = |ns: i128| AsOf::from_micros(i64::try_from(ns / 1_000).unwrap()).to_string();
        (shown(start.unwrap()), shown(end))
    }

    fn is(span: HoppingSpan, zone: &str, at: &str, start: &str, end: &str) {
        assert_eq!(edges(span, zone, at), (start.to_owned(), end.to_owned()), "{span:?} in {zone} at {at}");
    }

    #[test]
    fn a_span_ends_at_the_newest_boundary() {
        let day = micros(DAY_US, DAY_US);
        is(day, "UTC", "2014-01-02T00:00:00Z", "2014-01-01T00:00:00Z", "2014-01-02T00:00:00Z");
        is(day, "UTC", "2014-01-02T23:59:59.999999Z", "2014-01-01T00:00:00Z", "2014-01-02T00:00:00Z");
        is(micros(HOUR_US, HOUR_US / 4), "UTC", "2014-01-02T10:20:00Z", "2014-01-02T09:15:00Z", "2014-01-02T10:15:00Z");
        // A hop of seven hours is counted from 1970 on.
        is(micros(HOUR_US, 7 * HOUR_US), "UTC", "1970-01-01T15:00:00Z", "1970-01-01T13:00:00Z", "1970-01-01T14:00:00Z");
        is(micros(HOUR_US, 7 * HOUR_US), "UTC", "1969-12-31T23:00:00Z", "1969-12-31T16:00:00Z", "1969-12-31T17:00:00Z");
        // A week begins on Monday.
        is(micros(7 * DAY_US, 7 * DAY_US), "UTC", "2014-01-15T12:00:00Z", "2014-01-06T00:00:00Z", "2014-01-13T00:00:00Z");
        is(micros(7 * DAY_US, DAY_US), "UTC", "2014-01-15T12:00:00Z", "2014-01-08T00:00:00Z", "2014-01-15T00:00:00Z");
        is(months(1, 1), "UTC", "2014-03-31T12:00:00Z", "2014-02-01T00:00:00Z", "2014-03-01T00:00:00Z");
        is(months(3, 1), "UTC", "2014-03-01T00:00:00Z", "2013-12-01T00:00:00Z", "2014-03-01T00:00:00Z");
        is(months(3, 3), "UTC", "2014-03-31T12:00:00Z", "2013-10-01T00:00:00Z", "2014-01-01T00:00:00Z");
        is(months(12, 12), "UTC", "1969-06-01T00:00:00Z", "1968-01-01T00:00:00Z", "1969-01-01T00:00:00Z");
    }

    #[test]
    fn a_day_is_as_long_as_the_clock_of_its_zone_says() {
        let day = micros(DAY_US, DAY_US);
        // The clocks go forward on Sunday, 9 March 2014, and back on 2 November.
        is(day, "America/New_York", "2014-03-10T03:59:59Z", "2014-03-08T05:00:00Z", "2014-03-09T05:00:00Z");
        is(day, "America/New_York", "2014-03-10T04:00:00Z", "2014-03-09T05:00:00Z", "2014-03-10T04:00:00Z");
        is(day, "America/New_York", "2014-11-03T05:00:00Z", "2014-11-02T04:00:00Z", "2014-11-03T05:00:00Z");
        is(
            micros(7 * DAY_US, 7 * DAY_US),
            "America/New_York",
            "2014-03-12T00:00:00Z",
            "2014-03-03T05:00:00Z",
            "2014-03-10T04:00:00Z",
        );
        is(months(1, 1), "America/New_York", "2014-04-01T04:00:00Z", "2014-03-01T05:00:00Z", "2014-04-01T04:00:00Z");
        // Samoa had no 30 December 2011: its two midnights are one.
        is(day, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
        is(day, "Pacific/Apia", "2011-12-31T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z");
    }

    #[test]
    fn hours_follow_the_clock_through_its_changes() {
        let half = micros(HOUR_US / 2, HOUR_US / 2);
        // 01:30 to 02:00, which is 03:00: no span lies in the gap.
        is(half, "America/New_York", "2014-03-09T07:00:00Z", "2014-03-09T06:30:00Z", "2014-03-09T07:00:00Z");
        is(half, "America/New_York", "2014-03-09T07:29:59Z", "2014-03-09T06:30:00Z", "2014-03-09T07:00:00Z");
        is(half, "America/New_York", "2014-03-09T07:30:00Z", "2014-03-09T07:00:00Z", "2014-03-09T07:30:00Z");
        // 01:00 to 02:00 is shown twice, and the boundaries are those of the second time.
        is(half, "America/New_York", "2014-11-02T05:59:59Z", "2014-11-02T04:00:00Z", "2014-11-02T04:30:00Z");
        is(half, "America/New_York", "2014-11-02T06:00:00Z", "2014-11-02T04:30:00Z", "2014-11-02T06:00:00Z");
        is(half, "America/New_York", "2014-11-02T06:30:00Z", "2014-11-02T06:00:00Z", "2014-11-02T06:30:00Z");
        // Very short hops take no longer.
        let short = micros(1, 1);
        is(short, "America/New_York", "2014-03-09T07:00:00Z", "2014-03-09T06:59:59.999999Z", "2014-03-09T07:00:00Z");
        is(short, "America/New_York", "2014-11-02T05:30:00Z", "2014-11-02T04:59:59.999998Z", "2014-11-02T04:59:59.999999Z");
    }

    #[test]
    fn spans_beyond_the_calendar_have_no_edges_and_no_panic() {
        for span in [micros(i64::MAX, DAY_US), micros(DAY_US, i64::MAX), micros(i64::MAX, i64::MAX), months(u32::MAX, 1)] {
            for us in [i64::MIN, 0, i64::MAX] {
                for zone in ZONES {
                    let mut edges = HoppingEdges::new(span, zone.parse().unwrap());
                    if let Some((start, end)) = edges.edges_ns(i128::from(us) * 1_000) {
                        assert!(start.is_none_or(|start| start <= end), "{span:?}");
                    }
                }
            }
        }
        assert_eq!(HoppingEdges::new(months(1, u32::MAX), Zone::UTC).edges_ns(0).map(|(_, end)| end), None);
    }

    #[test]
    fn hops_that_a_clock_shows_every_day() {
        for (hop_us, follows) in
            [(1, true), (HOUR_US, true), (DAY_US, true), (3 * DAY_US, true), (7 * HOUR_US, false), (36 * HOUR_US, false)]
        {
            assert_eq!(ClockStep::Micros(hop_us).follows_a_clock(), follows, "{hop_us}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Around the changes of the clocks, in every order, and with what was asked before or without it. Tumbling spans touch.
        #[test]
        fn a_later_instant_has_no_earlier_span(
            zone in 0..ZONES.len(),
            of_months in any::<bool>(),
            length in 0..5_usize,
            hop in 0..5_usize,
            // 1964 to 2033, in quarters of an hour.
            near in -200_000..2_200_000_i64,
            steps in prop::collection::vec(-200..200_i64, 2..12),
            fraction in 0..1_000_000_000_i128,
        ) {
            let zone: Zone = ZONES[zone].parse().unwrap();
            let lengths = [HOUR_US / 2, HOUR_US, 6 * HOUR_US, DAY_US, 7 * DAY_US];
            let span = match of_months {
                true => months(length as u32 + 1, hop as u32 + 1),
                false => micros(lengths[length], lengths[hop]),
            };
            let mut edges = HoppingEdges::new(span, zone);
            let at = |step: &i64| i128::from((near + step) * 900) * SECOND_NS + fraction * i128::from(step % 2 == 0);
            let mut found = Vec::new();
            for step in &steps {
                let own = edges.edges_ns(at(step));
                prop_assert_eq!(own, HoppingEdges::new(span, zone).edges_ns(at(step)));
                if let Some((Some(start), end)) = own {
                    found.push((at(step), start, end));
                    if span.length == span.hop {
                        let before = HoppingEdges::new(span, zone).edges_ns(end - 1).map(|(_, end)| end);
                        prop_assert_eq!(before, Some(start), "{:?}", end);
                    }
                }
            }
            found.sort_unstable();
            let days_ns = i128::from(span.at_most_days().unwrap()) * DAY_NS;
            prop_assert!(found.iter().all(|(at, start, end)| start <= end && end <= at && at - start <= days_ns), "{found:?}");
            prop_assert!(found.is_sorted_by_key(|(_, start, end)| (*start, *end)), "{found:?}");
            prop_assert!(found.is_sorted_by_key(|(_, _, end)| *end), "{found:?}");
        }
    }
}
