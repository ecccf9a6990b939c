//! Lengths of time in SQL: intervals of fixed length, in microseconds.
//! Months, which differ in length, and intervals that are finer than a microsecond are refused.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::sql::sqlparser::ast;

const DAY_US: i64 = 86_400_000_000;

/// A length as a text, such as `7 days` or `1 hour 30 minutes`. The error is the rest of a sentence that begins with the text.
pub(super) fn length_us(text: &str) -> Result<i64, String> {
    let interval = parse_interval_month_day_nano(text).map_err(|e| format!("cannot be read: {e}"))?;
    if interval.months != 0 {
        return Err("has months, which differ in length".into());
    }
    if interval.nanoseconds % 1_000 != 0 {
        return Err("is finer than a microsecond".into());
    }
    let days_us = i64::from(interval.days).checked_mul(DAY_US);
    let whole_us = days_us.and_then(|us| us.checked_add(interval.nanoseconds / 1_000));
    whole_us.ok_or_else(|| "is too long".into())
}

/// As [`length_us`], of an interval in a statement.
pub(super) fn interval_us(interval: &ast::Interval) -> Result<i64, String> {
    let ast::Interval { value, leading_field, leading_precision: None, last_field: None, fractional_seconds_precision: None } =
        interval
    else {
        return Err("has a range or a precision; write it as `INTERVAL '7 days'`".into());
    };
    let ast::Expr::Value(value) = value.as_ref() else {
        return Err("is computed; write it as `INTERVAL '7 days'`".into());
    };
    let number = match &value.value {
        ast::Value::SingleQuotedString(text) => text.clone(),
        ast::Value::Number(number, _) => number.to_string(),
        other => return Err(format!("is of {other}; write it as `INTERVAL '7 days'`")),
    };
    match leading_field {
        Some(unit) => length_us(&format!("{number} {unit}")),
        None => length_us(&number),
    }
}
