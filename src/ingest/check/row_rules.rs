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
    time::{TimeScale, Zone, is_local, stored_integers},
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

/// Checks a batch of the table's columns, and adds to the counts. Local times are read by `clock`. `shown` gives the file and
/// line of a row for messages.
pub(crate) fn check_rules(
    expectations: &[Expect],
    found: &mut [Violations],
    schema: &Schema,
    columns: &[ArrayRef],
    clock: Zone,
    shown: impl Fn(usize) -> String,
) -> Result<BrokenRules> {
    let row_count = columns.first().map_or(0, |column| column.len());
    let mut result = BrokenRules { reasons: vec![String::new(); row_count], any_out: false };
    for (expect, violations) in expectations.iter().zip(found) {
        let Some(broken) = broken(&expect.rule, schema, columns, clock)? else { continue };
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
fn broken(rule: &Rule, schema: &Schema, columns: &[ArrayRef], clock: Zone) -> Result<Option<BooleanArray>> {
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
            let (first, second) = (Compared::of(column(first)?)?, Compared::of(column(second)?)?);
            second.is_before(&first, clock)?
        }
    }))
}

/// A column of an order.
struct Compared(ArrayRef);

impl Compared {
    fn of(column: &ArrayRef) -> Result<Self> {
        Ok(Self(match column.data_type() {
            DataType::Date64 => cast(column, &DataType::Timestamp(ArrowUnit::Millisecond, None))?,
            _ => column.clone(),
        }))
    }

    /// True where this column's value is less than the other's. Times of different types are compared as instants, exactly;
    /// if both are local, as they are written.
    fn is_before(&self, other: &Self, clock: Zone) -> Result<BooleanArray> {
        let (own_type, other_type) = (self.0.data_type(), other.0.data_type());
        if own_type == other_type {
            return Ok(cmp::lt(&self.0, &other.0)?);
        }
        let clock = if is_local(own_type) && is_local(other_type) { Zone::UTC } else { clock };
        if let (Some(own), Some(others)) = (TimeScale::of_type(own_type, clock), TimeScale::of_type(other_type, clock)) {
            let (own_times, other_times) = (stored_integers(&self.0)?, stored_integers(&other.0)?);
            let is_before = |(own_time, other_time): (Option<i64>, Option<i64>)| {
                Some(own.instant_ns(own_time?) < others.instant_ns(other_time?))
            };
            return Ok(own_times.iter().zip(&other_times).map(is_before).collect());
        }
        let common = match (own_type, other_type) {
            (a, b) if a.is_integer() && b.is_integer() => DataType::Int64,
            (a, _) if a.is_numeric() => DataType::Float64,
            _ => DataType::Utf8,
        };
        Ok(cmp::lt(&cast(&self.0, &common)?, &cast(&other.0, &common)?)?)
    }
}
