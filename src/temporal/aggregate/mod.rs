//! The aggregates over the facts in a window.
//!
//! Each aggregate, or family of aggregates that share a state, has a file: constructors, types, the state of a slice, and the
//! slider that makes results from states. This file lists the aggregates; the compiler names each place that a new one needs:
//! a variant of [`AggregateKind`], the function behind it, and perhaps a state in `state`. How facts are cut into slices is in
//! `window`.

use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
    iter,
};

use arrow::datatypes::{DataType, Field};
use serde::{Deserialize, Serialize, Serializer};

use super::sort_keys::Encoding;

mod approx_count_distinct;
mod best;
mod count;
mod count_distinct;
mod entity_slices;
mod entropy;
mod exact_sums;
mod expression;
mod fact_order;
mod fenwick;
mod first_last;
mod first_last_k;
mod hyper_log_log;
mod max_by;
mod min_max;
mod mode;
mod quantile;
mod result_columns;
mod slider;
mod slope;
mod state;
mod stored;
mod sum;
mod top_k;
mod top_share;
mod tournament;
mod value_log;
mod variance;

pub(in crate::temporal) use entity_slices::{EntitySlices, SliceLocation, VisibleSlice};
pub use expression::Expression;
pub(super) use expression::words_of;
pub(in crate::temporal) use fact_order::{FactOrder, TieBreaks};
pub(in crate::temporal) use result_columns::{ResultColumn, SlotColumn};
pub(in crate::temporal) use slider::{OutputStates, Slider};
pub(in crate::temporal) use state::{FactUpdate, NO_SLICE, SliceStates, StateKind};
pub(in crate::temporal) use stored::{KeyReader, KeyWriter, MergeContext, StateColumns, StateReader, StateWriter};

/// An aggregate over the facts in a window.
///
/// NULL values do not count, nor do facts for which the [filter](Aggregate::filter) is not true. Over a window without a value
/// a count is 0, and every other aggregate is NULL. Results depend on the facts in the window alone, not on the order, batches
/// or partitions in which they were read: sums are exact and rounded once, and floats are ordered totally (NaN is the largest,
/// -0.0 comes before 0.0).
///
/// An aggregate is over a column, which is given by its name, or over an [`Expression`].
///
/// | aggregate | in SQL | result type | cost beyond one pass |
/// |---|---|---|---|
/// | `count`, `count_of` | `count(*)`, `count(x)` | `Int64` | none |
/// | `sum` | `sum(x)` | `Float64`; for decimals a decimal with ten digits more, as in SQL | 24 bytes between two instants of an entity; for decimals 40 |
/// | `mean` | `avg(x)`, `mean(x)` | `Float64` | as `sum` |
/// | `variance` | `var_samp(x)`, `variance(x)` | `Float64`, of the sample (n - 1) | about twice that |
/// | `stddev` | `stddev_samp(x)`, `stddev(x)` | `Float64`, of the sample (n - 1) | as `variance` |
/// | `slope` | `slope(x)` | `Float64`, per second of event time | 120 bytes there; for decimals 136 |
/// | `min`, `max` | `min(x)`, `max(x)` | the type of x | one value there |
/// | `first`, `last` | `first_value(x)`, `first(x)`, `last_value(x)`, `last(x)` | the type of x | one value there |
/// | `max_by`, `min_by` | `max_by(x, y)`, `arg_max(x, y)`, `min_by(x, y)`, `arg_min(x, y)` | the type of x | one value there |
/// | `count_distinct` | `count(DISTINCT x)` | `Int64` | holds every value in a window of the spine |
/// | `approx_count_distinct` | `approx_count_distinct(x)`, `approx_distinct(x)` | `Int64`, exact up to 512 | 24 bytes there, and 8 for each different value, at most 4 KiB |
/// | `median`, `quantile` | `median(x)`, `quantile(x, 0.9)` | `Float64`, linear between neighbours | as `count_distinct`, and a logarithm of their number for each |
/// | `mode` | `mode(x)` | the type of x | as `median` |
/// | `top_k` | `top_k(x, 3)` | a list of the type of x, the most frequent first | the same |
/// | `top_share` | `top_share(x)` | `Float64`, above 0 and at most 1 | the same |
/// | `entropy` | `entropy(x)` | `Float64`, in bits | as `count_distinct`, and two logarithms for each value that changes its frequency |
/// | `first_k`, `last_k` | `first_k(x, 3)`, `last_k(x, 3)` | a list of the type of x, oldest first | as `median` |
///
/// Each different text, and each different decimal of more than 18 digits, is held once, except for sums and approximate counts.
///
/// ```
/// use asof::{Aggregate, Expression};
/// let features = [
///     Aggregate::count().named("trips"),
///     Aggregate::count().filter("payment_type = 2").named("paid_in_cash"),
///     Aggregate::mean("fare_amount"), // named `mean_fare_amount`
///     Aggregate::top_k("dropoff_zone", 3).named("usual_destinations"),
///     Aggregate::max_by("dropoff_zone", "fare_amount").named("dearest_destination"),
///     Aggregate::max(Expression::sql("tip_amount / fare_amount")).filter("fare_amount > 0").named("best_tip_rate"),
/// ];
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[must_use]
pub struct Aggregate {
    kind: AggregateKind,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    over: Option<Expression>,
    /// What decides which value of `over` counts.
    #[serde(serialize_with = "expression::column_or_sql", skip_serializing_if = "Option::is_none")]
    by: Option<Expression>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    output: String,
    /// The aggregate in names that are made for it, as in `q0.9`; `None` if it has been named.
    #[serde(skip)]
    unnamed: Option<String>,
}

/// Which aggregate. `EXPLAIN` and ids of definitions hold the names of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AggregateKind {
    Count,
    CountDistinct,
    ApproxCountDistinct,
    Sum,
    Mean,
    Variance,
    Stddev,
    Slope,
    Min,
    Max,
    First,
    Last,
    MaxBy,
    MinBy,
    FirstK(usize),
    LastK(usize),
    Quantile(Fraction),
    Mode,
    TopK(usize),
    TopShare,
    Entropy,
}

/// A number between 0 and 1, both inclusive, once it is checked.
#[derive(Debug, Clone, Copy, Deserialize)]
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

/// What an aggregate does: the types of its inputs and results, the state that it needs of each slice, and how it makes results
/// from states.
pub(in crate::temporal) trait AggregateFunction {
    /// How the values of a column are encoded for it. Most need their order alone.
    fn encoding(&self, input: &DataType) -> Encoding {
        Encoding::for_order(input)
    }

    /// The type of its result over a column of this type. `Err` says which types it needs. The default is for an aggregate that
    /// chooses one of its values: their own type, which must have an order.
    fn result_type(&self, input: &DataType) -> Result<DataType, &'static str> {
        require_order(input)?;
        Ok(input.clone())
    }

    /// The state that it needs of each slice, for values of this encoding.
    fn state(&self, encoding: Encoding) -> StateKind;

    /// Makes its results for about so many slots.
    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> crate::error::Result<Box<dyn Slider + 'a>>;

    /// Is its result 0 over an empty window, and not NULL?
    fn is_count(&self) -> bool {
        false
    }

    /// What is wrong with its parameters, as the rest of a sentence that begins with its name.
    fn flaw(&self) -> Option<String> {
        None
    }
}

impl AggregateKind {
    /// What the aggregate does.
    pub(in crate::temporal) fn function(self) -> Box<dyn AggregateFunction> {
        match self {
            AggregateKind::Count => Box::new(count::CountFunction),
            AggregateKind::CountDistinct => Box::new(count_distinct::CountDistinctFunction),
            AggregateKind::ApproxCountDistinct => Box::new(approx_count_distinct::ApproxCountDistinctFunction),
            AggregateKind::Sum => Box::new(sum::SumFunction::Sum),
            AggregateKind::Mean => Box::new(sum::SumFunction::Mean),
            AggregateKind::Variance => Box::new(variance::VarianceFunction::Variance),
            AggregateKind::Stddev => Box::new(variance::VarianceFunction::Stddev),
            AggregateKind::Slope => Box::new(slope::SlopeFunction),
            AggregateKind::Min => Box::new(min_max::MinMaxFunction::<true>),
            AggregateKind::Max => Box::new(min_max::MinMaxFunction::<false>),
            AggregateKind::First => Box::new(first_last::FirstLastFunction::<true>),
            AggregateKind::Last => Box::new(first_last::FirstLastFunction::<false>),
            AggregateKind::MaxBy => Box::new(max_by::MaxByFunction::<true>),
            AggregateKind::MinBy => Box::new(max_by::MaxByFunction::<false>),
            AggregateKind::FirstK(k) => Box::new(first_last_k::FirstLastKFunction::<true>(k)),
            AggregateKind::LastK(k) => Box::new(first_last_k::FirstLastKFunction::<false>(k)),
            AggregateKind::Quantile(Fraction(q)) => Box::new(quantile::QuantileFunction(q)),
            AggregateKind::Mode => Box::new(mode::ModeFunction),
            AggregateKind::TopK(k) => Box::new(top_k::TopKFunction(k)),
            AggregateKind::TopShare => Box::new(top_share::TopShareFunction),
            AggregateKind::Entropy => Box::new(entropy::EntropyFunction),
        }
    }

    /// The type of the result over a column of this type, or over no column. `Err` says which types it needs.
    pub(crate) fn result_type(self, input: Option<&DataType>) -> Result<DataType, &'static str> {
        input.map_or(Ok(DataType::Int64), |input| self.function().result_type(input))
    }
}

/// How an aggregate over columns or expressions is made from its name and its arguments.
pub(crate) enum AggregateForm {
    /// `sum(x)`.
    Column(fn(Expression) -> Aggregate),
    /// `max_by(x, y)`.
    Columns(fn(Expression, Expression) -> Aggregate),
    /// `last_k(x, 3)`.
    WithCount(fn(Expression, usize) -> Aggregate),
    /// `quantile(x, 0.9)`.
    WithFraction(fn(Expression, f64) -> Aggregate),
}

impl AggregateForm {
    /// All forms, for messages.
    pub(crate) const ALL: &str = "count(*), count(x), count(DISTINCT x), approx_count_distinct(x), sum(x), avg(x), variance(x), stddev(x), slope(x), \
                                              min(x), max(x), first(x), last(x), max_by(x, y), min_by(x, y), first_k(x, k), last_k(x, k), median(x), quantile(x, q), \
                                              mode(x), top_k(x, k), top_share(x), entropy(x)";

    /// The form of a function with so many arguments. `count(*)` and `count(DISTINCT x)` are not among them: they have a syntax
    /// of their own.
    pub(crate) fn of(function: &str, arguments: usize) -> Option<Self> {
        Some(match (function, arguments) {
            ("count", 1) => AggregateForm::Column(Aggregate::count_of),
            ("approx_count_distinct" | "approx_distinct", 1) => AggregateForm::Column(Aggregate::approx_count_distinct),
            ("sum", 1) => AggregateForm::Column(Aggregate::sum),
            ("avg" | "mean", 1) => AggregateForm::Column(Aggregate::mean),
            ("variance" | "var_samp", 1) => AggregateForm::Column(Aggregate::variance),
            ("stddev" | "stddev_samp", 1) => AggregateForm::Column(Aggregate::stddev),
            ("slope", 1) => AggregateForm::Column(Aggregate::slope),
            ("min", 1) => AggregateForm::Column(Aggregate::min),
            ("max", 1) => AggregateForm::Column(Aggregate::max),
            ("first" | "first_value", 1) => AggregateForm::Column(Aggregate::first),
            ("last" | "last_value", 1) => AggregateForm::Column(Aggregate::last),
            ("median", 1) => AggregateForm::Column(Aggregate::median),
            ("mode", 1) => AggregateForm::Column(Aggregate::mode),
            ("entropy", 1) => AggregateForm::Column(Aggregate::entropy),
            ("top_share", 1) => AggregateForm::Column(Aggregate::top_share),
            ("top_k", 2) => AggregateForm::WithCount(Aggregate::top_k),
            ("max_by" | "arg_max", 2) => AggregateForm::Columns(Aggregate::max_by),
            ("min_by" | "arg_min", 2) => AggregateForm::Columns(Aggregate::min_by),
            ("first_k", 2) => AggregateForm::WithCount(Aggregate::first_k),
            ("last_k", 2) => AggregateForm::WithCount(Aggregate::last_k),
            ("quantile", 2) => AggregateForm::WithFraction(Aggregate::quantile),
            _ => return None,
        })
    }
}

impl Aggregate {
    fn of(kind: AggregateKind, name: &str, over: Expression) -> Self {
        Self::new(kind, name, Some(over), None)
    }

    fn of_two(kind: AggregateKind, name: &str, over: Expression, by: Expression) -> Self {
        Self::new(kind, name, Some(over), Some(by))
    }

    /// An aggregate whose name begins with `name`.
    fn new(kind: AggregateKind, name: &str, over: Option<Expression>, by: Option<Expression>) -> Self {
        let arguments = over.iter().chain(&by).map(Expression::name);
        let output = iter::once(Cow::from(name)).chain(arguments).collect::<Vec<_>>().join("_");
        Self { kind, over, by, filter: None, output, unnamed: Some(name.into()) }
    }

    /// Only facts for which this SQL condition over the fact table's columns is true count. It is computed as in a `WHERE`:
    /// integers that exceed their type wrap around.
    pub fn filter(mut self, condition: impl Into<String>) -> Self {
        self.filter = Some(condition.into());
        self
    }

    /// The feature's name. Without it, the name follows the pattern of its source
    /// ([`Source::names`](crate::feature_set::Source::names)), or is the aggregate and its column or the words of its expression,
    /// as in `mean_fare_amount`.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self.unnamed = None;
        self
    }

    /// Is it a count? A count over nothing is 0; every other aggregate is NULL.
    pub(crate) fn is_count(&self) -> bool {
        self.kind.function().is_count()
    }

    /// Is its result made of states of one size, however many facts there are? Those of a file of facts can then be stored.
    pub(crate) fn is_stored(&self) -> bool {
        // The encoding of values decides which sum is kept, and not whether all values are.
        self.kind.function().state(Encoding::Float).is_stored()
    }

    pub(crate) fn kind(&self) -> AggregateKind {
        self.kind
    }

    /// The values that it is over; `None` if it counts facts.
    pub(crate) fn over(&self) -> Option<&Expression> {
        self.over.as_ref()
    }

    /// What decides which value counts.
    pub(crate) fn by(&self) -> Option<&Expression> {
        self.by.as_ref()
    }

    /// What it is over, in the order of its arguments; nothing if it counts facts.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Expression> {
        self.over.iter().chain(&self.by)
    }

    /// Checks the type of one of its arguments. `Err` says which types it needs.
    pub(crate) fn check(&self, argument: &Expression, data_type: &DataType) -> Result<(), &'static str> {
        if self.over() == Some(argument) {
            self.kind.result_type(Some(data_type))?;
        }
        if self.by() == Some(argument) { require_order(data_type) } else { Ok(()) }
    }

    pub(crate) fn condition(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    pub(crate) fn output(&self) -> &str {
        &self.output
    }

    /// The parts of a name that is made for it, unless it has been named: the aggregate, as in `q0.9`, and the columns or the words
    /// of the expressions that it is over, empty if it counts facts.
    pub(crate) fn name_parts(&self) -> Option<(&str, String)> {
        let aggregate = self.unnamed.as_deref()?;
        Some((aggregate, self.arguments().map(Expression::name).collect::<Vec<_>>().join("_")))
    }

    /// What is wrong with its parameters.
    pub(crate) fn flaw(&self) -> Option<String> {
        self.kind.function().flaw().map(|flaw| format!("`{}` {flaw}", self.output))
    }
}

/// The type of lists of such values.
fn list_of(item: &DataType) -> DataType {
    DataType::List(Field::new_list_field(item.clone(), true).into())
}

/// Refuses a column that does not hold numbers.
fn require_number(input: &DataType) -> Result<(), &'static str> {
    let is_number = input.is_integer() || input.is_floating() || input.is_decimal();
    if is_number { Ok(()) } else { Err("only numbers can be aggregated") }
}

/// Refuses a column whose values have no order, or none that a sort key can hold.
fn require_order(input: &DataType) -> Result<(), &'static str> {
    use DataType::{Binary, Boolean, Date32, Date64, Float16, Float32, Float64, LargeUtf8, Timestamp, Utf8, Utf8View};
    let is_ordered = input.is_integer()
        || input.is_decimal()
        || matches!(
            input,
            Float16 | Float32 | Float64 | Boolean | Date32 | Date64 | Timestamp(..) | Utf8 | LargeUtf8 | Utf8View | Binary
        );
    if is_ordered { Ok(()) } else { Err("numbers, texts, times and truth values can be compared here; cast the column") }
}
