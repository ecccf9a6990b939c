//! The slope of values over event time. The sums that it is made of are exact.

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
    numeric::{FloatSlope, IntegerSlope, SlopeSums},
    temporal::sort_keys::Encoding,
};

impl Aggregate {
    /// How fast the values rise over event time, per second: the slope of the line that fits them best by least squares,
    /// `(n Σtx - Σt Σx) / (n Σt² - (Σt)²)`. NULL unless there are values at two different times.
    ///
    /// Made from exact sums of the values, of their times as the facts have them, and of their products, whatever their size, and
    /// rounded once; NaN when a value is not finite.
    pub fn slope(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Slope, "slope", over.into())
    }
}

pub(super) struct SlopeFunction;

impl AggregateFunction for SlopeFunction {
    fn encoding(&self, input: &DataType) -> Encoding {
        Encoding::for_sum(input)
    }

    fn result_type(&self, input: &DataType) -> Result<DataType, &'static str> {
        require_number(input)?;
        Ok(DataType::Float64)
    }

    fn state(&self, encoding: Encoding) -> StateKind {
        match encoding {
            Encoding::Float => StateKind::FloatSlope,
            Encoding::RawDecimal => StateKind::DecimalSlope,
            Encoding::Signed
            | Encoding::Unsigned
            | Encoding::Decimal64
            | Encoding::Dictionary
            | Encoding::Hash
            | Encoding::Presence => StateKind::IntegerSlope,
        }
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        match states.order.encoding {
            Encoding::Float => slider_over::<FloatSlope>(&states, slots),
            Encoding::RawDecimal => slider_over::<IntegerSlope<5, 6>>(&states, slots),
            Encoding::Signed
            | Encoding::Unsigned
            | Encoding::Decimal64
            | Encoding::Dictionary
            | Encoding::Hash
            | Encoding::Presence => slider_over::<IntegerSlope<2, 3>>(&states, slots),
        }
    }
}

fn slider_over<'a, S: SlopeSums + 'a>(states: &OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>>
where
    PerSlice<Counted<S>>: StatesOf,
{
    let (tasks, results) = (states.per_slice::<Counted<S>>()?, Nullable::with_capacity(slots));
    Ok(Box::new(SlopeSlider { tasks, per_second: states.per_second, scale: states.scale, results }))
}

impl SumsOfFacts for FloatSlope {
    fn update(slices: &mut [Counted<Self>], facts: &FactUpdate<'_>) -> Result<()> {
        let encoding = facts.order.encoding;
        add_keys(slices, facts, |sums, i, key| sums.add(facts.time(i), encoding.number(key).0))
    }
}

impl SumsOfFacts for IntegerSlope<2, 3> {
    fn update(slices: &mut [Counted<Self>], facts: &FactUpdate<'_>) -> Result<()> {
        let encoding = facts.order.encoding;
        add_keys(slices, facts, |sums, i, key| sums.add(facts.time(i), encoding.integer(key)))
    }
}

impl SumsOfFacts for IntegerSlope<5, 6> {
    fn update(slices: &mut [Counted<Self>], facts: &FactUpdate<'_>) -> Result<()> {
        let add = |sums: &mut Self, i: usize, units| sums.add(facts.time(i), units);
        add_decimals(slices, facts, add, |sums, i, units| sums.add_wide(facts.time(i), units))
    }
}

struct SlopeSlider<'a, S> {
    tasks: TaskStates<'a, Counted<S>>,
    per_second: u64,
    scale: i8,
    results: Nullable<f64>,
}

impl<S: SlopeSums> Slider for SlopeSlider<'_, S> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, per_second, scale, results } = self;
        slide_sums(tasks, slices, slots, |sums, count| {
            results.push(if count > 1 { sums.slope(count, *per_second, *scale) } else { None });
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Floats(self.results)
    }
}
