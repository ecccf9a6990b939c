//! Intervals in the syntax tree of a statement. Their texts are read by the parser of all lengths of time.

use datafusion::sql::sqlparser::ast;

use crate::time::parse_span;

/// The microseconds of an interval of fixed length: `INTERVAL '7 days'` or `INTERVAL '7' DAY`.
///
/// # Errors
/// What is wrong and what to write, as the rest of a sentence that begins with the interval.
pub(super) fn interval_us(interval: &ast::Interval) -> Result<i64, String> {
    const FORM: &str = "write it as `INTERVAL '7 days'`";
    let ast::Interval { value, leading_field, leading_precision: None, last_field: None, fractional_seconds_precision: None } =
        interval
    else {
        return Err(format!("has a range or a precision; {FORM}"));
    };
    let ast::Expr::Value(value) = value.as_ref() else {
        return Err(format!("is computed; {FORM}"));
    };
    let number = match &value.value {
        ast::Value::SingleQuotedString(text) => text.clone(),
        ast::Value::Number(number, _) => number.to_string(),
        other => return Err(format!("is of {other}; {FORM}")),
    };
    match leading_field {
        Some(unit) => parse_span(&format!("{number} {unit}")),
        None => parse_span(&number),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::{dialect::GenericDialect, parser::Parser};

    use super::*;

    fn parsed(sql: &str) -> Result<i64, String> {
        let expression = Parser::new(&GenericDialect {}).try_with_sql(sql).unwrap().parse_expr().unwrap();
        let ast::Expr::Interval(interval) = expression else { panic!("{expression}") };
        interval_us(&interval)
    }

    #[test]
    fn every_form_of_a_fixed_length_is_the_same_span() {
        for sql in
            ["INTERVAL '90 minutes'", "INTERVAL '90' MINUTE", "INTERVAL 90 MINUTE", "INTERVAL '1.5' HOUR", "INTERVAL '1h 30m'"]
        {
            assert_eq!(parsed(sql), Ok(5_400_000_000), "{sql}");
        }
        assert_eq!(parsed("INTERVAL '-2' DAY"), Ok(-172_800_000_000));
    }

    #[test]
    fn other_intervals_say_what_to_write() {
        for (sql, reason) in [
            ("INTERVAL '1' MONTH", "no fixed length"),
            ("INTERVAL '1 day' MONTH", "`MONTH` where a number is expected"),
            ("INTERVAL '1 day' HOUR", "`HOUR` where a number is expected"),
            ("INTERVAL '1 2' DAY", "the number `1` without a unit"),
            ("INTERVAL '7'", "the number `7` without a unit"),
            ("INTERVAL ''", "is empty"),
            ("INTERVAL '1-2' YEAR TO MONTH", "a range or a precision"),
            ("INTERVAL '1' SECOND(3)", "a range or a precision"),
            ("INTERVAL (1 + 1) DAY", "is computed"),
            ("INTERVAL '99999999999999999999' DAY", "is too long"),
            ("INTERVAL 1 NANOSECOND", "finer than a microsecond"),
        ] {
            let shown = parsed(sql).unwrap_err();
            assert!(shown.contains(reason) && shown.contains("; write "), "{sql}: {shown}");
        }
    }
}
