//! Where a span of a zone's calendar begins that ends at an instant: the month, week or day so far, or the last months.
//! An instant later than another never has an earlier start, so what has left a span does not come back.

use chrono::{Datelike, Days, Months, NaiveDate};
use serde::{Deserialize, Serialize};

use super::{Zone, days_of};

pub(super) const SECOND_NS: i128 = 1_000_000_000;
const DAY_S: i64 = 86_400;

/// Instants further from 1970 than this, 253,000 years, have the start of the instant that is so far. chrono's calendar ends a
/// little later.
pub(super) const LAST_S: i64 = 8_000_000_000_000;

/// A span by a zone's calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum CalendarSpan {
    /// From the beginning of the period that holds the instant.
    SoFar(Period),
    /// From so many months before the instant.
    Months(u32),
}

/// A period of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Period {
    Day,
    /// From Monday on.
    Week,
    Month,
}

impl Period {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
        }
    }

    /// The first day of the period that a date is in.
    fn first_day(self, date: NaiveDate) -> Option<NaiveDate> {
        match self {
            Period::Day => Some(date),
            Period::Week => date.checked_sub_days(Days::new(date.weekday().num_days_from_monday().into())),
            Period::Month => date.with_day(1),
        }
    }

    /// The first day of the next period, given that of a period.
    fn next(self, first: NaiveDate) -> Option<NaiveDate> {
        match self {
            Period::Day => first.checked_add_days(Days::new(1)),
            Period::Week => first.checked_add_days(Days::new(7)),
            Period::Month => first.checked_add_months(Months::new(1)),
        }
    }

    /// The first day of the period before, given that of a period.
    fn previous(self, first: NaiveDate) -> Option<NaiveDate> {
        match self {
            Period::Day => first.checked_sub_days(Days::new(1)),
            Period::Week => first.checked_sub_days(Days::new(7)),
            Period::Month => first.checked_sub_months(Months::new(1)),
        }
    }
}

impl CalendarSpan {
    /// So many days are never shorter than the span, whatever the zone's clocks do. No clock was ever changed by more than a day.
    pub(crate) fn at_most_days(self) -> i64 {
        match self {
            CalendarSpan::SoFar(Period::Day) => 3,
            CalendarSpan::SoFar(Period::Week) => 9,
            CalendarSpan::SoFar(Period::Month) => 33,
            CalendarSpan::Months(count) => i64::from(count) * 31 + 2,
        }
    }
}

/// Finds the starts of a span for many instants. Neighbouring instants take less time.
pub(crate) struct CalendarStarts {
    span: CalendarSpan,
    zone: Zone,
    /// The period of the previous instant in seconds, `[start, end)`.
    period: Option<(i64, i64)>,
}

impl CalendarStarts {
    pub(crate) fn new(span: CalendarSpan, zone: Zone) -> Self {
        Self { span, zone, period: None }
    }

    /// Where the span that ends at an instant begins, both in nanoseconds since 1970-01-01T00:00:00Z. It is included. `None` if it
    /// begins before the calendar.
    ///
    /// - **A period so far** begins at midnight of its first day.
    /// - **Months** go back from the latest time that the zone's clocks have shown up to the instant: while they show an hour for
    ///   the second time, that is the end of this hour. The start is the same time on the same day of the earlier month, or the
    ///   midnight that ends this month if it has no such day.
    ///
    /// These local times are read as those of facts are: a time that occurs twice is the later instant, and a time in a gap is the
    /// instant after the gap.
    pub(crate) fn start_ns(&mut self, instant_ns: i128) -> Option<i128> {
        let last_ns = i128::from(LAST_S) * SECOND_NS;
        let instant_ns = instant_ns.clamp(-last_ns, last_ns);
        match self.span {
            CalendarSpan::SoFar(period) => {
                let instant_s = i64::try_from(instant_ns.div_euclid(SECOND_NS)).ok()?;
                Some(i128::from(self.start_of_period_s(period, instant_s)?) * SECOND_NS)
            }
            CalendarSpan::Months(count) => {
                let shown_ns = self.zone.latest_local_ns(instant_ns)?;
                Some(self.zone.instant_ns(months_before_ns(shown_ns, count)?))
            }
        }
    }

    fn start_of_period_s(&mut self, period: Period, instant_s: i64) -> Option<i64> {
        if let Some((start, end)) = self.period
            && (start..end).contains(&instant_s)
        {
            return Some(start);
        }
        let start_of = |first: NaiveDate| Some(self.zone.instant_s(i64::from(days_of(first)) * DAY_S)?.0);
        let mut first = period.first_day(self.zone.local(instant_s.checked_mul(1_000_000)?)?.date())?;
        // Where midnight occurs twice, the clocks show the date before it begins.
        let mut start = start_of(first)?;
        while start > instant_s {
            first = period.previous(first)?;
            start = start_of(first)?;
        }
        let mut next = period.next(first)?;
        let mut end = start_of(next)?;
        while end <= instant_s {
            start = end;
            next = period.next(next)?;
            end = start_of(next)?;
        }
        self.period = Some((start, end));
        Some(start)
    }
}

/// The local time so many months before another one, both in nanoseconds of their clock.
pub(super) fn months_before_ns(local_ns: i128, count: u32) -> Option<i128> {
    let day_ns = i128::from(DAY_S) * SECOND_NS;
    let date = super::date_of(i32::try_from(local_ns.div_euclid(day_ns)).ok()?)?;
    let first = date.with_day(1)?.checked_sub_months(Months::new(count))?;
    Some(match first.with_day(date.day()) {
        Some(same_day) => i128::from(days_of(same_day)) * day_ns + local_ns.rem_euclid(day_ns),
        None => i128::from(days_of(first.checked_add_months(Months::new(1))?)) * day_ns,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::AsOf;

    const SPANS: [CalendarSpan; 6] = [
        CalendarSpan::SoFar(Period::Day),
        CalendarSpan::SoFar(Period::Week),
        CalendarSpan::SoFar(Period::Month),
        CalendarSpan::Months(1),
        CalendarSpan::Months(12),
        CalendarSpan::Months(5_000),
    ];
    /// Zones whose clocks were changed in odd ways: by half an hour, at midnight, by a whole day.
    pub(in crate::time) const ZONES: [&str; 8] = [
        "UTC",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "America/Havana",
        "America/St_Johns",
        "Pacific/Apia",
        "Pacific/Kwajalein",
    ];

    fn start(span: CalendarSpan, zone: &str, at: &str) -> String {
        let at: AsOf = at.parse().unwrap();
        let ns = CalendarStarts::new(span, zone.parse().unwrap()).start_ns(i128::from(at.micros()) * 1_000).unwrap();
        AsOf::from_micros(i64::try_from(ns / 1_000).unwrap()).to_string()
    }

    #[test]
    fn a_period_begins_at_the_midnight_of_the_zone() {
        let so_far = |period, at: &str| start(CalendarSpan::SoFar(period), "America/New_York", at);
        // The clocks go forward on Sunday, 9 March 2014.
        assert_eq!(so_far(Period::Day, "2014-03-10T03:59:59.999999Z"), "2014-03-09T05:00:00Z");
        assert_eq!(so_far(Period::Day, "2014-03-10T04:00:00Z"), "2014-03-10T04:00:00Z");
        assert_eq!(so_far(Period::Week, "2014-03-10T03:59:59Z"), "2014-03-03T05:00:00Z");
        assert_eq!(so_far(Period::Week, "2014-03-10T04:00:00Z"), "2014-03-10T04:00:00Z");
        assert_eq!(so_far(Period::Month, "2014-04-01T03:59:59Z"), "2014-03-01T05:00:00Z");
        assert_eq!(so_far(Period::Month, "2014-04-01T04:00:00Z"), "2014-04-01T04:00:00Z");
    }

    #[test]
    fn a_midnight_that_is_skipped_is_the_end_of_the_gap_and_one_that_occurs_twice_the_later() {
        let day = CalendarSpan::SoFar(Period::Day);
        // 00:00 was 01:00 in Sao Paulo, and 01:00 was 00:00 again in Havana.
        assert_eq!(start(day, "America/Sao_Paulo", "2014-10-19T03:00:00Z"), "2014-10-19T03:00:00Z");
        assert_eq!(start(day, "America/Sao_Paulo", "2014-10-19T02:59:59Z"), "2014-10-18T03:00:00Z");
        assert_eq!(start(day, "America/Havana", "2014-11-02T04:59:59Z"), "2014-11-01T04:00:00Z");
        assert_eq!(start(day, "America/Havana", "2014-11-02T05:00:00Z"), "2014-11-02T05:00:00Z");
        // Samoa had no 30 December 2011.
        assert_eq!(start(day, "Pacific/Apia", "2011-12-30T09:59:59Z"), "2011-12-29T10:00:00Z");
        assert_eq!(start(day, "Pacific/Apia", "2011-12-30T10:00:00Z"), "2011-12-30T10:00:00Z");
    }

    #[test]
    fn a_month_before_is_the_same_local_time_or_the_end_of_the_month() {
        let month = |at: &str| start(CalendarSpan::Months(1), "America/New_York", at);
        assert_eq!(month("2014-01-31T17:00:00Z"), "2013-12-31T17:00:00Z");
        assert_eq!(month("2014-03-29T03:59:59Z"), "2014-03-01T04:59:59Z");
        // February has no 29th to 31st.
        for day in ["2014-03-29T04:00:00Z", "2014-03-31T16:00:00Z", "2014-04-01T03:59:59Z"] {
            assert_eq!(month(day), "2014-03-01T05:00:00Z", "{day}");
        }
        assert_eq!(month("2014-04-01T04:00:01Z"), "2014-03-01T05:00:01Z");
        assert_eq!(start(CalendarSpan::Months(12), "UTC", "2016-02-29T12:00:00Z"), "2015-03-01T00:00:00Z");
        assert_eq!(start(CalendarSpan::Months(13), "UTC", "2014-01-15T12:00:00.000001Z"), "2012-12-15T12:00:00.000001Z");
    }

    #[test]
    fn months_stand_still_while_the_clocks_show_an_hour_again() {
        let month = |at: &str| start(CalendarSpan::Months(1), "America/New_York", at);
        // 01:59:59 for the first time, then 01:00:00 to 01:59:59 for the second.
        assert_eq!(month("2014-11-02T05:59:59Z"), "2014-10-02T05:59:59Z");
        assert_eq!(month("2014-11-02T06:00:00Z"), "2014-10-02T06:00:00Z");
        assert_eq!(month("2014-11-02T06:59:59Z"), "2014-10-02T06:00:00Z");
        assert_eq!(month("2014-11-02T07:00:01Z"), "2014-10-02T06:00:01Z");
        // The start is in a gap, and occurs twice.
        assert_eq!(month("2014-04-09T06:30:00Z"), "2014-03-09T07:00:00Z");
        assert_eq!(month("2014-12-02T06:30:00Z"), "2014-11-02T06:30:00Z");
    }

    #[test]
    fn spans_beyond_the_calendar_have_no_start() {
        let mut long = CalendarStarts::new(CalendarSpan::Months(u32::MAX), Zone::UTC);
        assert_eq!(long.start_ns(0), None);
        for span in SPANS {
            let mut starts = CalendarStarts::new(span, "America/New_York".parse().unwrap());
            let ends = [i128::from(i64::MIN), i128::from(i64::MAX)].map(|us| starts.start_ns(us * 1_000));
            assert!(ends[0].is_some() && ends[0] < ends[1], "{span:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Around the changes of the clocks, in every order, and with what was asked before or without it.
        #[test]
        fn a_later_instant_has_no_earlier_start(
            zone in 0..ZONES.len(),
            span in 0..SPANS.len(),
            // 1964 to 2033, in quarters of an hour; some zones changed their clocks by a day in between.
            near in -200_000..2_200_000_i64,
            steps in prop::collection::vec(-200..200_i64, 2..12),
            fraction in 0..1_000_000_000_i128,
        ) {
            let zone: Zone = ZONES[zone].parse().unwrap();
            let mut starts = CalendarStarts::new(SPANS[span], zone);
            let at = |step: &i64| i128::from((near + step) * 900) * SECOND_NS + fraction * i128::from(step % 2 == 0);
            let mut found: Vec<(i128, i128)> = Vec::new();
            for step in &steps {
                let start = starts.start_ns(at(step));
                prop_assert_eq!(start, CalendarStarts::new(SPANS[span], zone).start_ns(at(step)));
                found.extend(start.map(|start| (at(step), start)));
            }
            found.sort_unstable();
            let days_ns = i128::from(SPANS[span].at_most_days()) * i128::from(DAY_S) * SECOND_NS;
            prop_assert!(found.iter().all(|(at, start)| start <= at && at - start <= days_ns), "{found:?}");
            prop_assert!(found.is_sorted_by_key(|(_, start)| *start), "{found:?}");
        }
    }
}
