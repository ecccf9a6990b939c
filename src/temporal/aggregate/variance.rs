//! Variance and standard deviation of the sample. The sums that they are made of are exact.

use std::ops::Range;

use arrow::datatypes::DataType;

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    entity_slices::EntitySlices,
    exact_sums::{Counted, SumsOfFacts, add_decimals, add_keys, slide_sums},
    require_number,
    result_columns::{Nullable, ResultColumn},
    slider::{OutputStates, Slider, TaskStates},
    state::{FactUpdate, PerSlice, StateKind, StatesOf},
};
use crate::{
    error::Result,
    numeric::{FloatMoments, IntegerMoments, Moments},
    temporal::sort_keys::Encoding,
};

impl Aggregate {
    /// The variance of the sample: squared deviations from the mean, divided by n - 1. NULL for a single value.
    ///
    /// Made from exact sums of the values and of their squares, whatever their size, and rounded once; NaN when a value is not
    /// finite.
    pub fn variance(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Variance, "variance", over.into())
    }

    /// The square root of the [variance](Aggregate::variance) as a float. Where that is too large or too small for a float, the root is of
    /// the exact variance, and within one unit in the last place.
    pub fn stddev(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Stddev, "stddev", over.into())
    }
}

/// The two aggregates that read the moments.
#[derive(Clone, Copy)]
pub(super) enum VarianceFunction {
    Variance,
    Stddev,
}

impl AggregateFunction for VarianceFunction {
    fn encoding(&self, input: &DataType) -> Encoding {
        Encoding::for_sum(input)
    }

    fn result_type(&self, input: &DataType) -> Result<DataType, &'static str> {
        require_number(input)?;
        Ok(DataType::Float64)
    }

    fn state(&self, encoding: Encoding) -> StateKind {
        match encoding {
            Encoding::Float => StateKind::FloatMoments,
            Encoding::RawDecimal => StateKind::DecimalMoments,
            Encoding::Signed
            | Encoding::Unsigned
            | Encoding::Decimal64
            | Encoding::Dictionary
            | Encoding::Hash
            | Encoding::Presence => StateKind::IntegerMoments,
        }
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        match states.order.encoding {
            Encoding::Float => self.slider_over::<FloatMoments>(&states, slots),
            Encoding::RawDecimal => self.slider_over::<IntegerMoments<5, 9>>(&states, slots),
            Encoding::Signed
            | Encoding::Unsigned
            | Encoding::Decimal64
            | Encoding::Dictionary
            | Encoding::Hash
            | Encoding::Presence => self.slider_over::<IntegerMoments<3, 3>>(&states, slots),
        }
    }
}

impl VarianceFunction {
    fn slider_over<'a, M: Moments + 'a>(self, states: &OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>>
    where
        PerSlice<Counted<M>>: StatesOf,
    {
        let (tasks, results) = (states.per_slice::<Counted<M>>()?, Nullable::with_capacity(slots));
        Ok(Box::new(VarianceSlider { tasks, function: self, scale: states.scale, results }))
    }
}

impl SumsOfFacts for FloatMoments {
    fn update(slices: &mut [Counted<Self>], facts: &FactUpdate<'_>) -> Result<()> {
        let encoding = facts.order.encoding;
        add_keys(slices, facts, |moments, _, key| moments.add(encoding.number(key).0))
    }
}

impl SumsOfFacts for IntegerMoments<3, 3> {
    fn update(slices: &mut [Counted<Self>], facts: &FactUpdate<'_>) -> Result<()> {
        let encoding = facts.order.encoding;
        add_keys(slices, facts, |moments, _, key| moments.add(encoding.integer(key)))
    }
}

impl SumsOfFacts for IntegerMoments<5, 9> {
    fn update(slices: &mut [Counted<Self>], facts: &FactUpdate<'_>) -> Result<()> {
        add_decimals(slices, facts, |moments, _, units| moments.add(units), |moments, _, units| moments.add_wide(units))
    }
}

struct VarianceSlider<'a, M> {
    tasks: TaskStates<'a, Counted<M>>,
    function: VarianceFunction,
    scale: i8,
    results: Nullable<f64>,
}

impl<M: Moments> Slider for VarianceSlider<'_, M> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, function, scale, results } = self;
        slide_sums(tasks, slices, slots, |moments, count| {
            results.push((count > 1).then(|| match (moments.variance(count, *scale), &function) {
                (None, _) => f64::NAN,
                (Some(variance), VarianceFunction::Variance) => variance.value(),
                (Some(variance), VarianceFunction::Stddev) => variance.square_root(),
            }));
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Floats(self.results)
    }
}
