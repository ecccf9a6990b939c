//! Sum and mean. Sums are exact, so a window subtracts the slices that leave it as exactly as it adds those that enter.

use std::ops::Range;

use arrow::datatypes::{
    DECIMAL32_MAX_PRECISION, DECIMAL64_MAX_PRECISION, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType,
};

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    entity_slices::EntitySlices,
    exact_sums::{Counted, SumsOfFacts, add_decimals, add_keys, slide_sums},
    require_number,
    result_columns::{Decimals, Nullable, ResultColumn},
    slider::{OutputStates, Slider, TaskStates},
    state::{FactUpdate, StateKind},
};
use crate::{
    error::Result,
    numeric::{ExactSum, Integer, decimal_mean},
    temporal::sort_keys::Encoding,
};

impl Aggregate {
    /// The sum of numbers: exact. Integers and floats give a float, rounded once; decimals of p digits a decimal
    /// of the same scale and p + 10 digits, or as many as its type can have. A sum that has more digits than that fails
    /// with [`Error::Overflow`](crate::Error::Overflow) when it is computed.
    pub fn sum(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Sum, "sum", over.into())
    }

    /// The sum divided by the count, as a float. That of decimals is the nearest float to the exact mean; that of other
    /// numbers is the sum, rounded once, divided by the count.
    pub fn mean(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Mean, "mean", over.into())
    }
}

/// The two aggregates that read a sum.
#[derive(Clone, Copy)]
pub(super) enum SumFunction {
    Sum,
    Mean,
}

impl AggregateFunction for SumFunction {
    fn encoding(&self, input: &DataType) -> Encoding {
        Encoding::for_sum(input)
    }

    fn result_type(&self, input: &DataType) -> Result<DataType, &'static str> {
        require_number(input)?;
        match self {
            SumFunction::Sum if input.is_decimal() => Ok(decimal_sum_type(input)),
            SumFunction::Sum | SumFunction::Mean => Ok(DataType::Float64),
        }
    }

    fn state(&self, encoding: Encoding) -> StateKind {
        if encoding == Encoding::RawDecimal { StateKind::DecimalSum } else { StateKind::FloatSum }
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        if states.order.encoding != Encoding::RawDecimal {
            let tasks = states.per_slice()?;
            return Ok(Box::new(FloatSlider { tasks, function: *self, results: Nullable::with_capacity(slots) }));
        }
        let tasks = states.per_slice()?;
        let slider: Box<dyn Slider + 'a> = match self {
            SumFunction::Sum => Box::new(DecimalSumSlider { tasks, results: Decimals::new(states.result_type, slots) }),
            SumFunction::Mean => {
                Box::new(DecimalMeanSlider { tasks, scale: states.scale, results: Nullable::with_capacity(slots) })
            }
        };
        Ok(slider)
    }
}

/// The type of a sum of decimals, as in DataFusion's SQL.
fn decimal_sum_type(input: &DataType) -> DataType {
    let longer = |precision: u8, most: u8| most.min(precision + 10);
    match *input {
        DataType::Decimal32(p, s) => DataType::Decimal32(longer(p, DECIMAL32_MAX_PRECISION), s),
        DataType::Decimal64(p, s) => DataType::Decimal64(longer(p, DECIMAL64_MAX_PRECISION), s),
        DataType::Decimal128(p, s) => DataType::Decimal128(longer(p, DECIMAL128_MAX_PRECISION), s),
        DataType::Decimal256(p, s) => DataType::Decimal256(longer(p, DECIMAL256_MAX_PRECISION), s),
        ref other => other.clone(),
    }
}

impl SumsOfFacts for ExactSum {
    fn update(slices: &mut [Counted<Self>], facts: &FactUpdate<'_>) -> Result<()> {
        let encoding = facts.order.encoding;
        add_keys(slices, facts, |sum, _, key| {
            let (high, low) = encoding.number(key);
            sum.add(high);
            if low != 0.0 {
                sum.add(low);
            }
        })
    }
}

/// Decimals, in units of their last digit.
impl SumsOfFacts for Integer<5> {
    fn update(slices: &mut [Counted<Self>], facts: &FactUpdate<'_>) -> Result<()> {
        add_decimals(slices, facts, |sum, _, units| sum.add(&units.into()), |sum, _, units| sum.add(&units.into()))
    }
}

struct FloatSlider<'a> {
    tasks: TaskStates<'a, Counted<ExactSum>>,
    function: SumFunction,
    results: Nullable<f64>,
}

impl Slider for FloatSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, function, results } = self;
        slide_sums(tasks, slices, slots, |total, count| {
            results.push((count > 0).then(|| match function {
                SumFunction::Sum => total.value(),
                SumFunction::Mean => total.mean(count),
            }));
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Floats(self.results)
    }
}

struct DecimalSumSlider<'a> {
    tasks: TaskStates<'a, Counted<Integer<5>>>,
    results: Decimals,
}

impl Slider for DecimalSumSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, results } = self;
        slide_sums(tasks, slices, slots, |total, count| results.push((count > 0).then_some(*total)));
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Decimals(self.results)
    }
}

struct DecimalMeanSlider<'a> {
    tasks: TaskStates<'a, Counted<Integer<5>>>,
    scale: i8,
    results: Nullable<f64>,
}

impl Slider for DecimalMeanSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, scale, results } = self;
        slide_sums(tasks, slices, slots, |total, count| {
            results.push((count > 0).then(|| decimal_mean(total, *scale, count)));
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Floats(self.results)
    }
}
