//! Holidays: whether an instant's local date is one of a list, and how many days lie between it and the nearest ones.
//! The list is part of the definition.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, TimestampMicrosecondType},
};
use chrono::NaiveDate;

use super::{Encoder, Spec, unusable};
use crate::{
    error::Result,
    time::{Zone, days_of, parse_date},
};

/// Whether the local date of an instant is in a list of dates, as 1 or 0; if asked, also the days since the last date of the list
/// and until the next one.
///
/// The list is a parameter of the encoder, so another list is another definition. Its order does not matter, and a date counts
/// once. NULL stays NULL, and an instant beyond the calendar (about 262,000 years from today) is NULL. A date outside the range
/// of the list is no holiday: 0. A list that ends in 2015 knows no holiday of 2016, so let it reach beyond the instants that are
/// encoded.
///
/// A set is refused when it is built if the list is empty or its text cannot be read.
///
/// ```
/// use asof::encoder::Holidays;
/// let new_york = "America/New_York".parse()?;
/// let us = "date,name\n2014-07-04,Independence Day\n2014-12-25,Christmas\n"; // or include_str!("holidays.csv")
/// let holidays = Holidays::from_csv("pickup_at", new_york, us).with_days_since().with_days_until();
/// // `pickup_at_holiday`, `pickup_at_holiday_days_since` and `pickup_at_holiday_days_until`
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Holidays {
    column: String,
    zone: Zone,
    /// In order, each once; or why the text cannot be read.
    dates: std::result::Result<Vec<NaiveDate>, String>,
    output: String,
    has_days_since: bool,
    has_days_until: bool,
}

impl Holidays {
    /// The feature `<column>_holiday`, by a list of dates.
    pub fn of(column: impl Into<String>, zone: Zone, dates: impl IntoIterator<Item = NaiveDate>) -> Self {
        Self::new(column.into(), zone, Ok(dates.into_iter().collect()))
    }

    /// The feature `<column>_holiday`, by the dates of a CSV text. Its first line names the columns; one of them is `date`, with
    /// dates such as `2014-07-04`, and the others are ignored.
    pub fn from_csv(column: impl Into<String>, zone: Zone, csv: &str) -> Self {
        Self::new(column.into(), zone, read_csv(csv))
    }

    fn new(column: String, zone: Zone, dates: std::result::Result<Vec<NaiveDate>, String>) -> Self {
        let dates = dates.map(|mut dates| {
            dates.sort_unstable();
            dates.dedup();
            dates
        });
        Self { output: format!("{column}_holiday"), column, zone, dates, has_days_since: false, has_days_until: false }
    }

    /// Adds the feature `<name>_days_since`: the days from the last holiday to the local date, 0 on a holiday, NULL before the
    /// first date of the list.
    pub fn with_days_since(mut self) -> Self {
        self.has_days_since = true;
        self
    }

    /// Adds the feature `<name>_days_until`: the days from the local date to the next holiday, 0 on a holiday, NULL after the
    /// last date of the list.
    pub fn with_days_until(mut self) -> Self {
        self.has_days_until = true;
        self
    }

    /// The feature's name, with which the names of the other two begin.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl Encoder for Holidays {
    fn spec(&self) -> Spec {
        let dates = self.dates.iter().flatten().map(NaiveDate::to_string).collect::<Vec<_>>();
        let spec = Spec::new("holidays", 1).instant(&self.column).parameter("zone", self.zone.to_string());
        let spec = spec.parameter("dates", dates).output(&self.output, DataType::Int64);
        let more = [(self.has_days_since, "days_since"), (self.has_days_until, "days_until")];
        more.iter().filter(|(is_asked, _)| *is_asked).fold(spec, |spec, (_, name)| {
            let output = format!("{}_{name}", self.output);
            spec.output(output, DataType::Int64)
        })
    }

    /// It is called on fixed inputs when a set is built, so an unusable list is refused there.
    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let dates = match &self.dates {
            Ok(dates) if dates.is_empty() => return Err(unusable(&self.output, "its list of holidays is empty; give it dates")),
            Ok(dates) => dates,
            Err(reason) => return Err(unusable(&self.output, reason)),
        };
        let instants = input.column(0).as_primitive::<TimestampMicrosecondType>();
        let local: Vec<Option<NaiveDate>> = instants.iter().map(|us| self.zone.local(us?).map(|t| t.date())).collect();
        let feature = |of: &dyn Fn(NaiveDate) -> Option<i64>| -> ArrayRef {
            let values: Int64Array = local.iter().map(|date| date.and_then(of)).collect();
            Arc::new(values)
        };
        let mut features = vec![feature(&|date| Some(i64::from(dates.binary_search(&date).is_ok())))];
        if self.has_days_since {
            features.push(feature(&|date| days_since(dates, date)));
        }
        if self.has_days_until {
            features.push(feature(&|date| days_until(dates, date)));
        }
        Ok(features)
    }
}

/// The days from the last of the sorted dates that is not after `date`.
fn days_since(dates: &[NaiveDate], date: NaiveDate) -> Option<i64> {
    let last = dates.partition_point(|d| *d <= date).checked_sub(1)?;
    dates.get(last).map(|last| days_between(*last, date))
}

/// The days to the first of the sorted dates that is not before `date`.
fn days_until(dates: &[NaiveDate], date: NaiveDate) -> Option<i64> {
    dates.get(dates.partition_point(|d| *d < date)).map(|next| days_between(date, *next))
}

fn days_between(from: NaiveDate, to: NaiveDate) -> i64 {
    i64::from(days_of(to)) - i64::from(days_of(from))
}

/// The dates of a CSV text, or what is wrong with it.
fn read_csv(text: &str) -> std::result::Result<Vec<NaiveDate>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let unread = |e: csv::Error| format!("its list of holidays cannot be read: {e}");
    let header = reader.headers().map_err(unread)?.iter().map(str::to_owned).collect::<Vec<_>>();
    let Some(column) = header.iter().position(|name| name == "date") else {
        return Err(format!("its list of holidays has no column `date`; its first line names {header:?}"));
    };
    let mut dates = Vec::new();
    for record in reader.records() {
        let record = record.map_err(unread)?;
        let value = record.get(column).unwrap_or_default();
        dates.push(parse_date(value).map_err(|_| {
            let line = line_of(text, record.position().map_or(0, csv::Position::byte));
            format!("line {line} of its list of holidays has the date `{value}`; write a day of the calendar, as 2014-07-04")
        })?);
    }
    Ok(dates)
}

/// The line of the record that is read from this byte on; empty lines may come before it.
fn line_of(text: &str, byte: u64) -> usize {
    let rest = usize::try_from(byte).ok().and_then(|byte| text.as_bytes().get(byte..)).unwrap_or_default();
    let empty = rest.iter().take_while(|b| b"\r\n".contains(b)).count();
    let start = text.len() - rest.len() + empty;
    1 + text.bytes().take(start).filter(|b| *b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use arrow::{array::TimestampMicrosecondArray, datatypes::Int64Type};

    use super::*;
    use crate::{encoder::input_schema, error::Error, time::parse_time};

    fn encoded(holidays: &Holidays, instants_us: Vec<Option<i64>>) -> Vec<Vec<Option<i64>>> {
        let instants: ArrayRef = Arc::new(TimestampMicrosecondArray::from(instants_us).with_timezone("UTC"));
        let columns = holidays.encode(&RecordBatch::try_from_iter([("at", instants)]).unwrap()).unwrap();
        assert_eq!(columns.len(), holidays.spec().outputs.len());
        columns.iter().map(|c| c.as_primitive::<Int64Type>().iter().collect()).collect()
    }

    fn new_york() -> Zone {
        "America/New_York".parse().unwrap()
    }

    #[test]
    fn holidays_are_local_dates_and_days_are_counted_within_the_list() {
        let csv = "name,date\nChristmas, 2014-12-25\n\n\"Independence, Day\",2014-07-04\nagain,2014/7/4\n";
        let holidays = Holidays::from_csv("at", new_york(), csv).with_days_since().with_days_until();
        let rows = [
            // The first instant of the 4th of July in New York, the last one before it, and the last of the day.
            (Some("2014-07-04T04:00:00Z"), [Some(1), Some(0), Some(0)]),
            (Some("2014-07-04T03:59:59.999999Z"), [Some(0), None, Some(1)]),
            (Some("2014-07-05T03:59:59.999999Z"), [Some(1), Some(0), Some(0)]),
            (Some("2014-07-05T04:00:00Z"), [Some(0), Some(1), Some(173)]),
            (Some("2014-12-24T12:00:00Z"), [Some(0), Some(173), Some(1)]),
            (Some("2014-12-26T12:00:00Z"), [Some(0), Some(1), None]),
            (None, [None; 3]),
        ];
        let instants = rows.iter().map(|(text, _)| text.map(|t| parse_time(t, None).unwrap())).collect();
        let found = encoded(&holidays, instants);
        for (row, (text, expected)) in rows.iter().enumerate() {
            assert_eq!([0, 1, 2].map(|i| found[i][row]), *expected, "{text:?}");
        }
        assert_eq!(encoded(&holidays, vec![Some(i64::MIN), Some(i64::MAX)]), vec![vec![None, None]; 3]);
        let names = |h: Holidays| h.spec().outputs.iter().map(|f| f.name().clone()).collect::<Vec<_>>();
        assert_eq!(names(holidays.clone().named("us")), ["us", "us_days_since", "us_days_until"]);
        let only = Holidays::from_csv("at", new_york(), csv).with_days_until();
        assert_eq!(names(only.clone()), ["at_holiday", "at_holiday_days_until"]);
        assert_eq!(encoded(&only, vec![Some(parse_time("2014-12-24T12:00:00Z", None).unwrap())]), [[Some(0)], [Some(1)]]);
    }

    #[test]
    fn the_order_and_the_source_of_the_dates_do_not_matter_and_the_dates_do() {
        let [a, b] = [(2014, 7, 4), (2014, 12, 25)].map(|(y, m, d)| NaiveDate::from_ymd_opt(y, m, d).unwrap());
        let spec = Holidays::of("at", new_york(), [a, b]).spec();
        assert_eq!(spec, Holidays::of("at", new_york(), [b, a, b]).spec());
        assert_eq!(spec, Holidays::from_csv("at", new_york(), "\u{feff}date\n2014-07-04\n2014-12-25").spec());
        assert_ne!(spec, Holidays::of("at", new_york(), [a]).spec());
        // The ends of the calendar are days apart like others.
        assert_eq!(days_since(&[NaiveDate::MIN], NaiveDate::MAX), days_until(&[NaiveDate::MAX], NaiveDate::MIN));
    }

    #[test]
    fn a_list_that_cannot_be_used_is_refused_with_its_place() {
        let input = RecordBatch::new_empty(input_schema(&Holidays::of("at", new_york(), []).spec()));
        for (csv, said) in [
            ("", "no column `date`"),
            ("Date,name\n2014-07-04,x\n", "no column `date`; its first line names [\"Date\", \"name\"]"),
            ("date\n", "is empty"),
            ("date\n2014-07-04\n2014-02-30\n", "line 3 of its list of holidays has the date `2014-02-30`"),
            ("date\n\n\n4 July\n", "line 4 of its list of holidays has the date `4 July`"),
            ("date,x\r\n2014-07-04,\"a\nb\"\r\n\r\n2014-7-4x,\r\n", "line 5 of its list of holidays has the date `2014-7-4x`"),
            ("name,date\nx,\n", "line 2 of its list of holidays has the date ``"),
            ("date,name\n2014-07-04,a,b\n", "cannot be read"),
        ] {
            let refused = Holidays::from_csv("at", new_york(), csv).encode(&input).unwrap_err();
            assert!(matches!(&refused, Error::Definition { subject, .. } if subject == "`at_holiday`"), "{refused}");
            assert!(refused.to_string().contains(said), "{refused}");
        }
        assert!(Holidays::of("at", new_york(), []).encode(&input).unwrap_err().to_string().contains("is empty"));
    }
}
