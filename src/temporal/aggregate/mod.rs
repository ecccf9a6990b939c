//! What can be computed over the facts in a window: its name, what it needs and what type it yields.
//! How it is computed is the business of `slices` and `entity_slices`.

use std::hash::{Hash, Hasher};

use arrow::datatypes::{
    DECIMAL32_MAX_PRECISION, DECIMAL64_MAX_PRECISION, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field,
};
use serde::{Serialize, Serializer};

use super::sort_keys::Encoding;

/// An aggregate over the facts in a window.
///
/// NULL values do not count, nor do facts that a [filter](Aggregate::filter) turns away. Nothing in the window gives a
/// count of 0 and NULL for everything else. Results depend on the facts in the window alone, not on the order, batches or
/// partitions in which they were read: sums are exact and rounded once, and floats are ordered totally (NaN is the
/// largest, -0.0 comes before 0.0).
///
/// | aggregate | yields | cost beyond one pass |
/// |---|---|---|
/// | `count`, `count_of` | `Int64` | none |
/// | `sum` | `Float64`; of decimals a decimal with ten digits more, as in SQL | 24 bytes between two instants of an entity; of decimals 40 |
/// | `mean` | `Float64` | as `sum` |
/// | `variance`, `stddev` | `Float64`, of the sample (n - 1) | about twice that |
/// | `min`, `max`, `first`, `last` | the column's type | one value there |
/// | `count_distinct` | `Int64` | holds every value in a window of the spine |
/// | `median`, `quantile` | `Float64`, linear between neighbours | the same, and a logarithm of them for each |
/// | `last_k` | a list of the column's type, oldest first | the same |
///
/// Texts, and decimals of more than 18 digits, are held once for each different value, whatever is asked of them but sums.
///
/// ```
/// use asof::Aggregate;
/// let features = [
///     Aggregate::count().named("trips"),
///     Aggregate::count().filter("payment_type = 2").named("paid_in_cash"),
///     Aggregate::mean("fare_amount"), // named `mean_fare_amount`
/// ];
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Aggregate {
    kind: AggregateKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    output: String,
}

/// Which aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AggregateKind {
    Count,
    CountDistinct,
    Sum,
    Mean,
    Variance,
    Stddev,
    Min,
    Max,
    First,
    Last,
    LastK(usize),
    Quantile(Fraction),
}

/// A number between 0 and 1, both inclusive, once it is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fraction(pub(crate) f64);

impl PartialEq for Fraction {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Fraction {}

impl Hash for Fraction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl Serialize for Fraction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl Aggregate {
    /// How many facts.
    pub fn count() -> Self {
        Self { kind: AggregateKind::Count, column: None, filter: None, output: "count".into() }
    }

    /// How many facts whose value in this column is not NULL.
    pub fn count_of(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::Count, "count", column.into())
    }

    /// How many different values. All NaN are one value, and so are both zeros.
    pub fn count_distinct(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::CountDistinct, "count_distinct", column.into())
    }

    /// The sum of a column of numbers: exact. Integers and floats give a float, rounded once; decimals of p digits a decimal
    /// of the same scale and p + 10 digits, or as many as its type can have. A sum that has more digits than that fails
    /// with [`Error::Overflow`](crate::Error::Overflow) when it is computed.
    pub fn sum(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::Sum, "sum", column.into())
    }

    /// The sum divided by the count, as a float. That of decimals is the nearest float to the exact mean; that of other
    /// numbers is the sum, rounded once, divided by the count.
    pub fn mean(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::Mean, "mean", column.into())
    }

    /// The variance of the sample: squared deviations from the mean, divided by n - 1. NULL for a single value.
    ///
    /// Made from exact sums of the values and of their squares, whatever their size, and rounded once; NaN when a value is not
    /// finite.
    pub fn variance(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::Variance, "variance", column.into())
    }

    /// The square root of the [variance](Aggregate::variance), also where that is too large or too small for a float.
    pub fn stddev(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::Stddev, "stddev", column.into())
    }

    /// The smallest value.
    pub fn min(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::Min, "min", column.into())
    }

    /// The largest value.
    pub fn max(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::Max, "max", column.into())
    }

    /// The value of the oldest fact, by event time, known-at, tie-breaks, and then the value itself.
    pub fn first(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::First, "first", column.into())
    }

    /// The value of the newest fact, by event time, known-at, tie-breaks, and then the value itself.
    pub fn last(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::Last, "last", column.into())
    }

    /// The values of the `k` newest facts, the oldest of them first. `k` is 1 or more.
    pub fn last_k(column: impl Into<String>, k: usize) -> Self {
        Self::of(AggregateKind::LastK(k), &format!("last_{k}"), column.into())
    }

    /// The median: the 0.5 [quantile](Aggregate::quantile).
    pub fn median(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::Quantile(Fraction(0.5)), "median", column.into())
    }

    /// The value below which the fraction `q` of the values lies, between 0 and 1; exact, and linear between neighbours as
    /// in Hyndman and Fan's definition 7 (*Sample Quantiles in Statistical Packages*, 1996), NumPy's default.
    pub fn quantile(column: impl Into<String>, q: f64) -> Self {
        Self::of(AggregateKind::Quantile(Fraction(q)), &format!("q{q}"), column.into())
    }

    fn of(kind: AggregateKind, word: &str, column: String) -> Self {
        Self { kind, output: format!("{word}_{column}"), column: Some(column), filter: None }
    }

    /// Counts in only the facts for which this SQL condition over the fact table's columns is true.
    pub fn filter(mut self, condition: impl Into<String>) -> Self {
        self.filter = Some(condition.into());
        self
    }

    /// The feature's name; without it, the aggregate and its column, as in `mean_fare_amount`.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }

    /// Does it count? Then nothing in the window gives 0.
    pub(crate) fn is_count(&self) -> bool {
        matches!(self.kind, AggregateKind::Count | AggregateKind::CountDistinct)
    }

    pub(crate) fn kind(&self) -> AggregateKind {
        self.kind
    }

    pub(crate) fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }

    pub(crate) fn condition(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    pub(crate) fn output(&self) -> &str {
        &self.output
    }

    /// What makes the aggregate impossible, if anything does.
    pub(crate) fn flaw(&self) -> Option<String> {
        match self.kind {
            AggregateKind::LastK(0) => Some(format!("`{}` asks for the last 0 values; ask for 1 or more", self.output)),
            AggregateKind::Quantile(Fraction(q)) if !(0.0..=1.0).contains(&q) => {
                Some(format!("`{}` asks for the quantile {q}; a quantile is between 0 and 1", self.output))
            }
            _ => None,
        }
    }
}

impl AggregateKind {
    /// How the values that it is over are held, by their type.
    pub(super) fn lane(self) -> fn(&DataType) -> Encoding {
        match self {
            AggregateKind::Count => |_| Encoding::Presence,
            AggregateKind::Sum | AggregateKind::Mean | AggregateKind::Variance | AggregateKind::Stddev => Encoding::for_sum,
            AggregateKind::Quantile(_) => Encoding::for_quantile,
            AggregateKind::CountDistinct
            | AggregateKind::Min
            | AggregateKind::Max
            | AggregateKind::First
            | AggregateKind::Last
            | AggregateKind::LastK(_) => Encoding::for_order,
        }
    }

    /// The type of the result over a column of this type; `Err` says what is needed instead.
    pub(crate) fn yields(self, input: Option<&DataType>) -> Result<DataType, &'static str> {
        let Some(input) = input else { return Ok(DataType::Int64) };
        let is_number = input.is_integer() || input.is_floating() || input.is_decimal();
        match self {
            AggregateKind::Count => Ok(DataType::Int64),
            AggregateKind::Sum if input.is_decimal() => Ok(sum_of(input)),
            AggregateKind::Sum
            | AggregateKind::Mean
            | AggregateKind::Variance
            | AggregateKind::Stddev
            | AggregateKind::Quantile(_)
                if is_number =>
            {
                Ok(DataType::Float64)
            }
            AggregateKind::Sum
            | AggregateKind::Mean
            | AggregateKind::Variance
            | AggregateKind::Stddev
            | AggregateKind::Quantile(_) => Err("only numbers can be aggregated"),
            _ if !is_lane(input) => Err("numbers, texts, times and truth values can be compared here; cast the column"),
            AggregateKind::CountDistinct => Ok(DataType::Int64),
            AggregateKind::LastK(_) => Ok(DataType::List(Field::new_list_field(input.clone(), true).into())),
            AggregateKind::Min | AggregateKind::Max | AggregateKind::First | AggregateKind::Last => Ok(input.clone()),
        }
    }
}

/// The type of a sum of decimals, as in DataFusion's SQL.
fn sum_of(input: &DataType) -> DataType {
    let longer = |precision: u8, most: u8| most.min(precision + 10);
    match *input {
        DataType::Decimal32(p, s) => DataType::Decimal32(longer(p, DECIMAL32_MAX_PRECISION), s),
        DataType::Decimal64(p, s) => DataType::Decimal64(longer(p, DECIMAL64_MAX_PRECISION), s),
        DataType::Decimal128(p, s) => DataType::Decimal128(longer(p, DECIMAL128_MAX_PRECISION), s),
        DataType::Decimal256(p, s) => DataType::Decimal256(longer(p, DECIMAL256_MAX_PRECISION), s),
        ref other => other.clone(),
    }
}

/// Can values of this type be held in 64 bits, directly or by a number that stands for them?
fn is_lane(data_type: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Date64, Float16, Float32, Float64, LargeUtf8, Timestamp, Utf8, Utf8View};
    data_type.is_integer()
        || data_type.is_decimal()
        || matches!(
            data_type,
            Float16 | Float32 | Float64 | Boolean | Date32 | Date64 | Timestamp(..) | Utf8 | LargeUtf8 | Utf8View | Binary
        )
}
