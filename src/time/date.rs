//! Dates: days since 1970-01-01, and the instants at their midnights by UTC's clock.
//! Midnight by another clock is a local time in the unit of a day, which [`TimeScale`] reads. Dates as text are in `text`.

use chrono::{Datelike, NaiveDate};

use super::{TimeScale, TimeUnit, Zone};

/// Microseconds in a day.
pub(crate) const DAY_US: i64 = TimeUnit::Day.nanos() / TimeUnit::Microsecond.nanos();

/// 1970-01-01 as chrono counts days, from the first day of the year 1 on.
const DAYS_TO_1970: i32 = 719_163;

/// The days from 1970-01-01 to a date, which any date of chrono's calendar has.
pub(crate) fn days_of(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - DAYS_TO_1970
}

/// The date so many days after 1970-01-01; `None` beyond chrono's calendar.
pub(crate) fn date_of(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(days.checked_add(DAYS_TO_1970)?)
}

/// The instant at the midnight of a date by UTC's clock, in nanoseconds, exact.
pub(crate) fn midnight_ns(days: i32) -> i128 {
    TimeScale { unit: TimeUnit::Day, zone: Zone::UTC }.instant_ns(days.into())
}

/// As [`midnight_ns`], in microseconds; `None` for a date that is too far from 1970 for them. It never saturates or wraps.
pub(crate) fn midnight_us(days: i32) -> Option<i64> {
    i64::try_from(midnight_ns(days) / i128::from(TimeUnit::Microsecond.nanos())).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::AsOf;

    #[test]
    fn a_midnight_beyond_microseconds_is_none() {
        assert_eq!(midnight_us(16_375), Some("2014-11-01".parse::<AsOf>().unwrap().micros()));
        assert_eq!(midnight_us(-1), Some(-DAY_US));
        for (last, beyond) in [(106_751_991, 106_751_992), (-106_751_991, -106_751_992), (0, i32::MAX), (0, i32::MIN)] {
            assert!(midnight_us(last).is_some() && midnight_us(beyond).is_none(), "{beyond}");
        }
    }

    #[test]
    fn every_date_of_the_calendar_has_days_and_an_instant() {
        for date in [NaiveDate::MIN, NaiveDate::MAX, NaiveDate::default()] {
            let days = days_of(date);
            assert_eq!(date_of(days), Some(date));
            assert_eq!(midnight_us(days), Some(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros()));
        }
        assert_eq!((date_of(days_of(NaiveDate::MAX) + 1), date_of(i32::MAX), date_of(i32::MIN)), (None, None, None));
    }

    proptest! {
        #[test]
        fn days_and_dates_are_the_same(days in -90_000_000..90_000_000_i32) {
            prop_assert_eq!(date_of(days).map(days_of), Some(days));
            prop_assert_eq!(midnight_ns(days), i128::from(days) * 86_400_000_000_000);
        }
    }
}
