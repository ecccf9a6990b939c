//! Declared expectations of a table's rows, and what happens to rows that violate them. Loads check them.

use std::{fmt, ops::RangeInclusive};

use arrow::datatypes::{DataType, Schema};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An expectation of the rows of a table. NULL violates only [`Expect::not_null`], as in SQL.
///
/// It belongs to the table from the first load that declares it. Later loads need not repeat it and cannot contradict it. Rows
/// that were loaded before are not checked again, except that unique keys are compared with the whole table.
///
/// ```
/// use asof::ingest::{Expect, OnViolation};
///
/// let expected = [
///     Expect::not_null("fare_amount"),
///     Expect::range("fare_amount", 0.0..=500.0).on_violation(OnViolation::Quarantine),
///     Expect::order("pickup_at", "dropoff_at").on_violation(OnViolation::Warn),
///     Expect::unique(["trip_id"]),
/// ];
/// assert_eq!(expected[2].to_string(), "order(pickup_at <= dropoff_at)");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Expect {
    #[serde(flatten)]
    pub(crate) rule: Rule,
    pub(crate) on_violation: OnViolation,
}

/// What is expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub(crate) enum Rule {
    NotNull { column: String },
    Range { column: String, min: Limit, max: Limit },
    Order { first: String, second: String },
    Unique { columns: Vec<String> },
}

/// A bound of a range. JSON has no infinity: an unbounded end has no limit.
type Limit = Option<f64>;

/// What a load does with rows that violate an expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnViolation {
    /// Load nothing, and write the rows below `quarantine/`.
    #[default]
    Stop,
    /// Write the rows below `quarantine/` with the reason, and load the rest.
    Quarantine,
    /// Load the rows, and count them in the quality report.
    Warn,
}

impl Expect {
    fn of(rule: Rule) -> Self {
        Self { rule, on_violation: OnViolation::default() }
    }

    /// The column is not NULL in any row.
    pub fn not_null(column: impl Into<String>) -> Self {
        Self::of(Rule::NotNull { column: column.into() })
    }

    /// The column's numbers lie in the range, both ends included. They are compared as 64-bit floats. NaN lies in no range.
    pub fn range(column: impl Into<String>, range: RangeInclusive<f64>) -> Self {
        let limit = |end: &f64| (!end.is_infinite()).then_some(*end);
        Self::of(Rule::Range { column: column.into(), min: limit(range.start()), max: limit(range.end()) })
    }

    /// `second >= first`, for two columns of times, of numbers, or of texts, which are compared byte by byte.
    ///
    /// If only one of two times has a zone, the other is read by the clock that the table declares
    /// ([`FactTable::zone`](crate::catalog::FactTable::zone)), or as UTC. A date is its midnight.
    pub fn order(first: impl Into<String>, second: impl Into<String>) -> Self {
        Self::of(Rule::Order { first: first.into(), second: second.into() })
    }

    /// No two rows of the whole table are equal in all of these columns. A row with a NULL in one of them equals no other row.
    ///
    /// The violations are the rows of a load that equal a row of the table or an earlier row of the load, in the order of files
    /// and lines. Each load reads the key columns of the whole table and sorts them, spilling beyond
    /// [`Resources::memory_bytes`](crate::Resources::memory_bytes), and writes its own rows to the disk once more.
    pub fn unique<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self::of(Rule::Unique { columns: columns.into_iter().map(Into::into).collect() })
    }

    /// What happens to rows that violate the expectation. The default is to stop.
    pub fn on_violation(mut self, what: OnViolation) -> Self {
        self.on_violation = what;
        self
    }

    pub(crate) fn is_unique(&self) -> bool {
        matches!(self.rule, Rule::Unique { .. })
    }

    fn columns(&self) -> Vec<&str> {
        match &self.rule {
            Rule::NotNull { column } | Rule::Range { column, .. } => vec![column],
            Rule::Order { first, second } => vec![first, second],
            Rule::Unique { columns } => columns.iter().map(String::as_str).collect(),
        }
    }

    /// Do both have the same kind of rule on the same columns?
    fn is_about_the_same(&self, other: &Expect) -> bool {
        std::mem::discriminant(&self.rule) == std::mem::discriminant(&other.rule) && self.columns() == other.columns()
    }

    /// Checks that the columns exist and that their types can be compared.
    pub(crate) fn check(&self, place: &str, schema: &Schema) -> Result<()> {
        let type_of = |column: &str| {
            let found = schema.column_with_name(column);
            found.map(|(_, field)| field.data_type().clone()).ok_or_else(|| Error::unknown_column(place, column, schema))
        };
        let types = self.columns().into_iter().map(type_of).collect::<Result<Vec<_>>>()?;
        let refused = |column: &str, found: &DataType, needed: &str| Error::ColumnType {
            subject: place.into(),
            column: column.into(),
            found: found.to_string(),
            needed: format!("`{self}` {needed}"),
        };
        let invalid = |reason: &str| Error::Definition { subject: format!("`{self}` of {place}"), reason: reason.into() };
        match &self.rule {
            Rule::NotNull { .. } => Ok(()),
            Rule::Range { column, min, max } => {
                if !types[0].is_numeric() {
                    return Err(refused(column, &types[0], "compares numbers"));
                }
                let is_empty = min.zip(*max).is_some_and(|(min, max)| !matches!(min.partial_cmp(&max), Some(o) if o.is_le()));
                let is_nan = [min, max].into_iter().flatten().any(|limit| limit.is_nan());
                if is_empty || is_nan { Err(invalid("no number lies in this range")) } else { Ok(()) }
            }
            Rule::Order { second, .. } => match class(&types[0]).is_some() && class(&types[0]) == class(&types[1]) {
                true => Ok(()),
                false => Err(refused(second, &types[1], &format!("compares it with {}", types[0]))),
            },
            Rule::Unique { columns } => match (columns.is_empty(), types.iter().position(DataType::is_nested)) {
                (true, _) => Err(invalid("name at least one column")),
                _ if (1..columns.len()).any(|i| columns[..i].contains(&columns[i])) => Err(invalid("it names a column twice")),
                (false, Some(i)) => Err(refused(&columns[i], &types[i], "compares single values")),
                (false, None) => Ok(()),
            },
        }
    }
}

/// Types whose values can be compared with each other.
fn class(data_type: &DataType) -> Option<u8> {
    match data_type {
        t if t.is_numeric() => Some(0),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Some(1),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(2),
        _ => None,
    }
}

/// The expectations of a table and of a load, those of the table first.
///
/// # Errors
/// [`Error::Definition`] if two of them have the same kind of rule on the same columns and differ.
pub(crate) fn joined(table: &str, known: &[Expect], declared: &[Expect]) -> Result<Vec<Expect>> {
    let mut all: Vec<Expect> = Vec::new();
    for expect in known.iter().chain(declared) {
        match all.iter().find(|other| other.is_about_the_same(expect)) {
            None => all.push(expect.clone()),
            Some(other) if other == expect => {}
            Some(other) => {
                return Err(Error::Definition {
                    subject: format!("the load into `{table}`"),
                    reason: format!(
                        "it expects `{expect}` ({}), and `{other}` ({}) is declared already; leave it out, or change the \
                         table's expectations with `FeatureStore::set_expectations`",
                        expect.on_violation, other.on_violation
                    ),
                });
            }
        }
    }
    Ok(all)
}

impl fmt::Display for OnViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnViolation::Stop => "stop",
            OnViolation::Quarantine => "quarantine",
            OnViolation::Warn => "warn",
        })
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::NotNull { column } => write!(f, "not_null({column})"),
            Rule::Range { column, min, max } => {
                let (min, max) = (min.map_or(String::new(), |m| m.to_string()), max.map_or(String::new(), |m| m.to_string()));
                write!(f, "range({column}, {min}..={max})")
            }
            Rule::Order { first, second } => write!(f, "order({first} <= {second})"),
            Rule::Unique { columns } => write!(f, "unique({})", columns.join(", ")),
        }
    }
}
