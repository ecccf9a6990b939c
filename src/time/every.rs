//! Instants a calendar step apart: the days, weeks or months of a zone's clock.

use chrono::{Days, Months, NaiveDateTime};

use super::{AsOf, Zone};
use crate::error::{Error, Result};

/// How far apart the instants of [`FeatureStore::materialize_range`](crate::FeatureStore::materialize_range) are, by a zone's
/// calendar: at the same local time of each day, each seventh day or each month.
///
/// A month that lacks the day of the first instant has its last day instead: from 31 January on, the instants are 28 February, 31
/// March and so on. A local time that occurs twice is the later instant, and one that does not exist is the instant after the gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Every {
    /// Each day.
    Day,
    /// Each seventh day.
    Week,
    /// Each month.
    Month,
}

/// More instants than this are taken for a mistake: days over 270 years.
const MOST: usize = 100_000;

impl Every {
    /// The instants from `from`, which is the first one, to `to`, which is excluded.
    ///
    /// ```
    /// use asof::time::Every;
    /// let months = Every::Month.instants("2014-01-31".parse()?, "2014-04-30".parse()?, "UTC".parse()?)?;
    /// let shown: Vec<String> = months.iter().map(ToString::to_string).collect();
    /// assert_eq!(shown, ["2014-01-31T00:00:00Z", "2014-02-28T00:00:00Z", "2014-03-31T00:00:00Z"]);
    /// # Ok::<(), asof::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Definition`] when `to` is not after `from`, for more than 100,000 instants, and for instants that no calendar has.
    pub fn instants(self, from: AsOf, to: AsOf, zone: Zone) -> Result<Vec<AsOf>> {
        let refused = |reason: String| Error::Definition { subject: format!("the range from {from} to {to}"), reason };
        if to <= from {
            return Err(refused("it is empty: `to` is excluded, so it must be later than `from`".into()));
        }
        let beyond = || refused("it has instants that the calendar does not reach".into());
        let first = zone.local(from.micros()).ok_or_else(beyond)?;
        let mut instants = vec![from];
        for number in 1.. {
            let local = self.after(first, number).ok_or_else(beyond)?;
            let local_ns = i128::from(local.and_utc().timestamp_micros()) * 1_000;
            let instant_us = zone.instant_ns(local_ns).div_euclid(1_000);
            let instant = AsOf::from_micros(i64::try_from(instant_us).map_err(|_| beyond())?);
            if instant >= to {
                break;
            }
            if instants.len() == MOST {
                return Err(refused(format!("it has more than {MOST} instants; take longer steps, or several ranges")));
            }
            instants.push(instant);
        }
        Ok(instants)
    }

    /// The local time of a step.
    fn after(self, first: NaiveDateTime, number: u32) -> Option<NaiveDateTime> {
        match self {
            Every::Day => first.checked_add_days(Days::new(u64::from(number))),
            Every::Week => first.checked_add_days(Days::new(u64::from(number) * 7)),
            Every::Month => first.checked_add_months(Months::new(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(every: Every, from: &str, to: &str, zone: &str) -> Vec<String> {
        let instants = every.instants(from.parse().unwrap(), to.parse().unwrap(), zone.parse().unwrap()).unwrap();
        instants.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn steps_follow_the_clock_of_the_zone() {
        // The clock goes forward on 9 March.
        let days = shown(Every::Day, "2014-03-08T05:00:00Z", "2014-03-11T04:00:00Z", "America/New_York");
        assert_eq!(days, ["2014-03-08T05:00:00Z", "2014-03-09T05:00:00Z", "2014-03-10T04:00:00Z"]);
        // Half past two does not exist on that day.
        let gap = shown(Every::Day, "2014-03-08T07:30:00Z", "2014-03-10T06:31:00Z", "America/New_York");
        assert_eq!(gap, ["2014-03-08T07:30:00Z", "2014-03-09T07:00:00Z", "2014-03-10T06:30:00Z"]);
        // Half past one occurs twice on 2 November: the later one. The first instant stays what it is.
        let twice = shown(Every::Week, "2014-10-26T05:30:00Z", "2014-11-03T00:00:00Z", "America/New_York");
        assert_eq!(twice, ["2014-10-26T05:30:00Z", "2014-11-02T06:30:00Z"]);
        let first = shown(Every::Day, "2014-11-02T05:30:00Z", "2014-11-03T00:00:00Z", "America/New_York");
        assert_eq!(first, ["2014-11-02T05:30:00Z"]);
    }

    #[test]
    fn months_keep_the_day_of_the_first_where_they_have_it() {
        let months = shown(Every::Month, "2015-10-31T12:00:00Z", "2016-04-01", "UTC");
        let days: Vec<&str> = months.iter().map(|at| &at[..10]).collect();
        assert_eq!(days, ["2015-10-31", "2015-11-30", "2015-12-31", "2016-01-31", "2016-02-29", "2016-03-31"]);
        // The end is excluded.
        assert_eq!(shown(Every::Month, "2014-01-01", "2014-02-01", "UTC"), ["2014-01-01T00:00:00Z"]);
    }

    #[test]
    fn ranges_without_instants_or_without_end_are_refused() {
        let error = |from: AsOf, to: AsOf| Every::Day.instants(from, to, Zone::UTC).unwrap_err().to_string();
        let at = |text: &str| text.parse::<AsOf>().unwrap();
        assert!(error(at("2014-02-01"), at("2014-01-01")).contains("it is empty"));
        assert!(error(at("2014-02-01"), at("2014-02-01")).contains("`to` is excluded"));
        assert!(error(at("2014-02-01"), at("2414-02-01")).contains("more than 100000 instants"));
        assert!(error(AsOf::from_micros(i64::MAX - 1), AsOf::from_micros(i64::MAX)).contains("calendar"));
    }
}
