//! Functions of times: their parts, seconds since 1970, differences and sums.
//! Parts, and sums and differences in days or longer units, use the zone of the value's own type, or UTC if it has none; a session's
//! zone is never used.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Date32Array, Float64Array, Int64Array, TimestampMicrosecondArray},
    compute::{DatePart, cast, date_part},
    datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType},
};
use chrono::{Datelike, Months, NaiveDate, NaiveDateTime};
use datafusion::{
    common::{Result, exec_err, plan_err},
    logical_expr::ScalarUDF,
};

use super::{
    clock::{ZoneClock, datetime},
    scalar::scalar,
};
use crate::time::{DAY_US, midnight_us};

pub(super) fn functions() -> Vec<ScalarUDF> {
    let integer = |_: &[DataType]| DataType::Int64;
    vec![
        scalar(&["year"], time, integer, |c| part(c, DatePart::Year, 0)),
        scalar(&["quarter"], time, integer, |c| part(c, DatePart::Quarter, 0)),
        scalar(&["month"], time, integer, |c| part(c, DatePart::Month, 0)),
        scalar(&["week", "week_of_year"], time, integer, |c| part(c, DatePart::Week, 0)),
        scalar(&["year_of_week", "yow"], time, integer, |c| part(c, DatePart::YearISO, 0)),
        scalar(&["day", "day_of_month"], time, integer, |c| part(c, DatePart::Day, 0)),
        scalar(&["day_of_week", "dow"], time, integer, |c| part(c, DatePart::DayOfWeekMonday0, 1)),
        scalar(&["day_of_year", "doy"], time, integer, |c| part(c, DatePart::DayOfYear, 0)),
        scalar(&["hour"], time, integer, |c| part(c, DatePart::Hour, 0)),
        scalar(&["minute"], time, integer, |c| part(c, DatePart::Minute, 0)),
        scalar(&["second"], time, integer, |c| part(c, DatePart::Second, 0)),
        scalar(&["from_unixtime"], seconds, |_| instant(), from_unixtime),
        scalar(&["to_unixtime"], utc, |_| DataType::Float64, to_unixtime),
        scalar(&["date_diff"], difference, integer, date_diff),
        scalar(&["date_add"], sum, |types| types.get(2).cloned().unwrap_or_else(instant), date_add),
    ]
}

/// Microseconds of UTC.
pub(super) fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null)
}

const NEEDS_TIME: &str = "needs a timestamp or a date; convert epochs with from_unixtime, and texts with from_iso8601_timestamp";

/// One time, as it is.
fn time(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [DataType::Null] => Ok(vec![instant()]),
        [only] if is_time(only) => Ok(vec![only.clone()]),
        _ => plan_err!("{NEEDS_TIME}"),
    }
}

/// One time, as an instant.
fn utc(types: &[DataType]) -> Result<Vec<DataType>> {
    time(types).map(|_| vec![instant()])
}

fn seconds(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [only] if only.is_integer() => Ok(vec![DataType::Int64]),
        [only] if only.is_numeric() || only.is_null() => Ok(vec![DataType::Float64]),
        _ => plan_err!("needs seconds since 1970, as a bigint or a double"),
    }
}

fn is_text(data_type: &DataType) -> bool {
    data_type.is_string() || data_type.is_null()
}

/// The first time keeps its zone, whose clock is used for both.
fn difference(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [unit, a, b] if is_text(unit) && is_time(a) && is_time(b) => {
            let a = match a {
                DataType::Timestamp(_, zone @ Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
                _ => instant(),
            };
            Ok(vec![DataType::Utf8, a, instant()])
        }
        _ => plan_err!("needs a unit and two timestamps or dates"),
    }
}

fn sum(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [unit, n, t] if is_text(unit) && (n.is_integer() || n.is_null()) && is_time(t) => {
            let t = match t {
                DataType::Date32 | DataType::Date64 => DataType::Date32,
                DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
                _ => instant(),
            };
            Ok(vec![DataType::Utf8, DataType::Int64, t])
        }
        _ => plan_err!("needs a unit, a whole number, and a timestamp or a date"),
    }
}

fn part(columns: &[ArrayRef], part: DatePart, first: i64) -> Result<ArrayRef> {
    let column = &columns[0];
    let parts = date_part(column, part)?;
    if parts.null_count() > column.null_count() {
        let outside = (0..column.len()).find(|&row| column.is_valid(row) && parts.is_null(row)).unwrap_or_default();
        let at = cast(&column.slice(outside, 1), &DataType::Int64)?;
        return exec_err!("{} as {} lies outside the calendar", at.as_primitive::<Int64Type>().value(0), column.data_type());
    }
    let parts = cast(&parts, &DataType::Int64)?;
    Ok(Arc::new(parts.as_primitive::<Int64Type>().unary::<_, Int64Type>(|x| x + first)))
}

fn from_unixtime(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let outside = |x: &dyn std::fmt::Display| exec_err!("{x} seconds lie outside the years -290000 to 290000");
    let instants: TimestampMicrosecondArray = match columns[0].data_type() {
        DataType::Int64 => {
            let seconds = columns[0].as_primitive::<Int64Type>();
            seconds.try_unary(|x| x.checked_mul(1_000_000).map_or_else(|| outside(&x), Ok))?
        }
        _ => columns[0].as_primitive::<Float64Type>().try_unary(|x| {
            let micros = (x * 1e6).round();
            // Larger values do not fit, and NaN compares false.
            if micros.abs() < 9.2e18 { Ok(micros as i64) } else { outside(&x) }
        })?,
    };
    Ok(Arc::new(instants.with_timezone("UTC")))
}

fn to_unixtime(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let instants = columns[0].as_primitive::<TimestampMicrosecondType>();
    Ok(Arc::new(instants.unary::<_, Float64Type>(|us| us as f64 / 1e6)) as Arc<Float64Array>)
}

/// A unit of differences and sums.
#[derive(Clone, Copy)]
enum Unit {
    /// A span of time.
    Micros(i64),
    /// Days of the local clock, whatever their length.
    Days(i64),
    Months(i64),
}

fn unit(name: &str) -> Result<Unit> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "millisecond" => Unit::Micros(1_000),
        "second" => Unit::Micros(1_000_000),
        "minute" => Unit::Micros(60_000_000),
        "hour" => Unit::Micros(3_600_000_000),
        "day" => Unit::Days(1),
        "week" => Unit::Days(7),
        "month" => Unit::Months(1),
        "quarter" => Unit::Months(3),
        "year" => Unit::Months(12),
        _ => {
            return exec_err!("`{name}` is not a unit; use millisecond, second, minute, hour, day, week, month, quarter or year");
        }
    })
}

/// Whole units from a to b, cut towards zero.
fn date_diff(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let units = columns[0].as_string::<i32>();
    let (a, b) = (columns[1].as_primitive::<TimestampMicrosecondType>(), columns[2].as_primitive::<TimestampMicrosecondType>());
    let clock = ZoneClock::of(columns[1].data_type())?;
    let between = |((name, a), b): ((Option<&str>, Option<i64>), Option<i64>)| {
        let (Some(name), Some(a), Some(b)) = (name, a, b) else { return Ok(None) };
        Ok(Some(match unit(name)? {
            Unit::Micros(us) => spans_between(a, b, us),
            Unit::Days(days) => spans_between(clock.local_time(a)?, clock.local_time(b)?, days * DAY_US),
            Unit::Months(months) => months_between(datetime(clock.local_time(a)?)?, datetime(clock.local_time(b)?)?) / months,
        }))
    };
    Ok(Arc::new(units.iter().zip(a).zip(b).map(between).collect::<Result<Int64Array>>()?))
}

/// Full units of `us` microseconds (1,000 or more) from a to b.
fn spans_between(a: i64, b: i64, us: i64) -> i64 {
    ((i128::from(b) - i128::from(a)) / i128::from(us)) as i64
}

/// Full months from a to b. A day of the month that b's month does not have counts as its last day, so that adding months and
/// taking the difference agree.
fn months_between(a: NaiveDateTime, b: NaiveDateTime) -> i64 {
    if b < a {
        return -months_between(b, a);
    }
    let months = i64::from(b.year() - a.year()) * 12 + i64::from(b.month()) - i64::from(a.month());
    let day_of_a = a.day().min(b.day().max(days_in_month(b.date())));
    let is_full = (b.day(), b.time()) >= (day_of_a, a.time());
    if is_full { months } else { months - 1 }
}

fn days_in_month(date: NaiveDate) -> u32 {
    let next = date.with_day(1).and_then(|first| first.checked_add_months(Months::new(1))).and_then(|next| next.pred_opt());
    next.map_or(31, |last| last.day())
}

fn date_add(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (units, counts) = (columns[0].as_string::<i32>(), columns[1].as_primitive::<Int64Type>());
    let (rows, clock) = (units.iter().zip(counts), ZoneClock::of(columns[2].data_type())?);
    if *columns[2].data_type() == DataType::Date32 {
        let days = columns[2].as_primitive::<Date32Type>();
        let added = rows.zip(days).map(|((name, count), day)| {
            let (Some(name), Some(count), Some(day)) = (name, count, day) else { return Ok(None) };
            let Some(us) = midnight_us(day) else { return exec_err!("day {day} lies outside the calendar") };
            match unit(name)? {
                Unit::Micros(_) => exec_err!("`{name}` cannot be added to a date; cast it to a timestamp"),
                unit => Ok(i32::try_from(add(unit, count, us, clock)? / DAY_US).ok()),
            }
        });
        return Ok(Arc::new(added.collect::<Result<Date32Array>>()?));
    }
    let instants = columns[2].as_primitive::<TimestampMicrosecondType>();
    let added = rows.zip(instants).map(|((name, count), us)| {
        let (Some(name), Some(count), Some(us)) = (name, count, us) else { return Ok(None) };
        add(unit(name)?, count, us, clock).map(Some)
    });
    let added = added.collect::<Result<TimestampMicrosecondArray>>()?;
    Ok(Arc::new(added.with_data_type(columns[2].data_type().clone())))
}

fn add(unit: Unit, count: i64, us: i64, clock: ZoneClock) -> Result<i64> {
    let sum = match unit {
        Unit::Micros(length) => count.checked_mul(length).and_then(|span| us.checked_add(span)),
        Unit::Days(days) => {
            let (shown, span) = (clock.local_time(us)?, count.checked_mul(days * DAY_US));
            span.and_then(|span| shown.checked_add(span))
        }
        Unit::Months(months) => {
            let (shown, months) = (datetime(clock.local_time(us)?)?, count.checked_mul(months));
            let months = months.and_then(|months| Some((months < 0, Months::new(u32::try_from(months.unsigned_abs()).ok()?))));
            months
                .and_then(|(is_back, months)| match is_back {
                    true => shown.checked_sub_months(months),
                    false => shown.checked_add_months(months),
                })
                .map(|shown| shown.and_utc().timestamp_micros())
        }
    };
    match (sum, unit) {
        (Some(sum), Unit::Micros(_)) => clock.local_time(sum).map(|_| sum),
        (Some(shown), _) => clock.instant(shown, us),
        (None, _) => exec_err!("{count} units from {us} us lie outside the calendar"),
    }
}
