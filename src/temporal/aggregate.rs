//! What is computed over the visible facts of an entity: counts, sums, means, minima, maxima.
//! Every result depends on the set of facts alone: sums are exact and rounded once, extremes follow a total order.

use serde::Serialize;

use super::ExactSum;

/// An aggregate over the facts in a window.
///
/// NULL values do not count. Nothing in the window gives a count of 0 and NULL for everything else. Sums are exact and
/// rounded once, so they do not depend on the order, batches or partitions of the facts; a mean is such a sum divided by
/// the count. Extremes order floats totally: NaN is beyond infinity, and -0.0 below 0.0.
///
/// ```
/// use asof::Aggregate;
/// let features = [Aggregate::count().named("trips_1h"), Aggregate::mean("fare_amount").named("mean_fare_1h")];
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Aggregate {
    kind: MeasureKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    output: String,
}

/// Which aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MeasureKind {
    Count,
    Sum,
    Mean,
    Min,
    Max,
}

impl Aggregate {
    /// How many facts, as `Int64`.
    pub fn count() -> Self {
        Self { kind: MeasureKind::Count, column: None, output: "count".into() }
    }

    /// How many facts whose value in this column is not NULL, as `Int64`.
    pub fn count_of(column: impl Into<String>) -> Self {
        Self::of(MeasureKind::Count, "count", column.into())
    }

    /// The sum of a column, as `Float64`.
    pub fn sum(column: impl Into<String>) -> Self {
        Self::of(MeasureKind::Sum, "sum", column.into())
    }

    /// The mean of a column, as `Float64`.
    pub fn mean(column: impl Into<String>) -> Self {
        Self::of(MeasureKind::Mean, "mean", column.into())
    }

    /// The smallest value of a column, as `Float64`.
    pub fn min(column: impl Into<String>) -> Self {
        Self::of(MeasureKind::Min, "min", column.into())
    }

    /// The largest value of a column, as `Float64`.
    pub fn max(column: impl Into<String>) -> Self {
        Self::of(MeasureKind::Max, "max", column.into())
    }

    fn of(kind: MeasureKind, word: &str, column: String) -> Self {
        Self { kind, output: format!("{word}_{column}"), column: Some(column) }
    }

    /// The feature's name; without it, the aggregate and its column, as in `mean_fare_amount`.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }

    pub(crate) fn kind(&self) -> MeasureKind {
        self.kind
    }

    pub(crate) fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }

    pub(crate) fn output(&self) -> &str {
        &self.output
    }
}

/// An aggregate on its way: what it needs to know of the facts so far.
#[derive(Debug, Clone)]
pub(crate) enum Measure {
    Count(u64),
    Sum { sum: ExactSum, count: u64 },
    Mean { sum: ExactSum, count: u64 },
    Min(Option<f64>),
    Max(Option<f64>),
}

impl Measure {
    pub(crate) fn new(kind: MeasureKind) -> Self {
        match kind {
            MeasureKind::Count => Measure::Count(0),
            MeasureKind::Sum => Measure::Sum { sum: ExactSum::default(), count: 0 },
            MeasureKind::Mean => Measure::Mean { sum: ExactSum::default(), count: 0 },
            MeasureKind::Min => Measure::Min(None),
            MeasureKind::Max => Measure::Max(None),
        }
    }

    /// Takes in a fact; `value` is of no account to a count.
    pub(crate) fn add(&mut self, value: f64) {
        match self {
            Measure::Count(count) => *count += 1,
            Measure::Sum { sum, count } | Measure::Mean { sum, count } => {
                sum.add(value);
                *count += 1;
            }
            Measure::Min(least) => {
                if least.is_none_or(|x| value.total_cmp(&x).is_lt()) {
                    *least = Some(value);
                }
            }
            Measure::Max(most) => {
                if most.is_none_or(|x| value.total_cmp(&x).is_gt()) {
                    *most = Some(value);
                }
            }
        }
    }

    /// The result of all but counts.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Measure::Count(_) => None,
            Measure::Sum { sum, count } => (*count > 0).then(|| sum.value()),
            Measure::Mean { sum, count } => (*count > 0).then(|| sum.mean(*count)),
            Measure::Min(x) | Measure::Max(x) => *x,
        }
    }

    /// The result of a count.
    pub(crate) fn count(&self) -> i64 {
        match self {
            Measure::Count(count) => i64::try_from(*count).unwrap_or(i64::MAX),
            _ => 0,
        }
    }
}
