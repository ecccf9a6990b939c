//! Checks rows against the expectations that a single row can break: which rows break them, how many, and the first one.
//! Unique keys are checked elsewhere, because they need more than one row.

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray},
    compute::{cast, kernels::cmp},
    datatypes::{DataType, Float64Type, Schema, TimeUnit as ArrowUnit},
};

use crate::{
    catalog::expectation::{Expect, OnViolation, Rule},
    error::{Error, Result},
};

/// How often an expectation was violated, and where first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Violations {
    pub(crate) count: u64,
    pub(crate) first: Option<String>,
}

/// Which rows of a batch are kept out of the table.
pub(crate) struct BrokenRules {
    /// For each row the expectations for which it is kept out; empty for rows that are loaded.
    pub(crate) reasons: Vec<String>,
    /// Is any row kept out?
    pub(crate) any_out: bool,
}

/// Checks a batch of the table's columns, and adds to the counts. `shown` gives the file and line of a row for messages.
pub(crate) fn check_rules(
    expectations: &[Expect],
    found: &mut [Violations],
    schema: &Schema,
    columns: &[ArrayRef],
    shown: impl Fn(usize) -> String,
) -> Result<BrokenRules> {
    let row_count = columns.first().map_or(0, |column| column.len());
    let mut result = BrokenRules { reasons: vec![String::new(); row_count], any_out: false };
    for (expect, violations) in expectations.iter().zip(found) {
        let Some(broken) = broken(&expect.rule, schema, columns)? else { continue };
        for row in (0..row_count).filter(|row| broken.is_valid(*row) && broken.value(*row)) {
            violations.count += 1;
            violations.first.get_or_insert_with(|| shown(row));
            if expect.on_violation != OnViolation::Warn {
                let separator = if result.reasons[row].is_empty() { "" } else { "; " };
                result.reasons[row] += &format!("{separator}{expect}");
                result.any_out = true;
            }
        }
    }
    Ok(result)
}

/// True for the rows that break a rule. NULL breaks only `NotNull`. `None` for a rule about more than one row.
fn broken(rule: &Rule, schema: &Schema, columns: &[ArrayRef]) -> Result<Option<BooleanArray>> {
    let column = |name: &str| Ok::<_, Error>(&columns[schema.index_of(name)?]);
    Ok(Some(match rule {
        Rule::Unique { .. } => return Ok(None),
        Rule::NotNull { column: name } => arrow::compute::is_null(column(name)?)?,
        Rule::Range { column: name, min, max } => {
            let numbers = cast(column(name)?, &DataType::Float64)?;
            let numbers = numbers.as_primitive::<Float64Type>();
            let (min, max) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
            // NaN is not inside: both comparisons are false.
            let is_inside = |value: f64| min <= value && value <= max;
            numbers.iter().map(|value| value.map(|value| !is_inside(value))).collect()
        }
        Rule::Order { first, second } => {
            let (first, second) = (column(first)?, column(second)?);
            let common = common_type(first.data_type(), second.data_type());
            cmp::lt(&cast(second, &common)?, &cast(first, &common)?)?
        }
    }))
}

/// A type in which values of both types can be compared. A value that it cannot hold becomes NULL and passes.
fn common_type(a: &DataType, b: &DataType) -> DataType {
    match (a, b) {
        (a, b) if a == b => a.clone(),
        (DataType::Timestamp(..) | DataType::Date32 | DataType::Date64, _) => {
            let is_nanos = |t: &DataType| matches!(t, DataType::Timestamp(ArrowUnit::Nanosecond, _));
            let unit = if is_nanos(a) || is_nanos(b) { ArrowUnit::Nanosecond } else { ArrowUnit::Microsecond };
            DataType::Timestamp(unit, Some("UTC".into()))
        }
        (a, b) if a.is_integer() && b.is_integer() => DataType::Int64,
        (a, _) if a.is_numeric() => DataType::Float64,
        _ => DataType::Utf8,
    }
}
