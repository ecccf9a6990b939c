//! Sum and mean. Sums are exact, so a window subtracts the slices that leave it as exactly as it adds those that enter.

use std::ops::Range;

use arrow::datatypes::{
    DECIMAL32_MAX_PRECISION, DECIMAL64_MAX_PRECISION, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType,
};

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    entity_slices::{EntitySlices, Step},
    fact_order::TieBreaks,
    require_number,
    result_columns::{Decimals, Nullable, ResultColumn},
    slider::{OutputStates, Slider, TaskStates},
    state::{FactUpdate, SliceValue, StateKind},
    stored::{MergeContext, StateReader, StateWriter, StoredValue},
};
use crate::{
    error::Result,
    numeric::{ExactSum, Integer, Stored, decimal_mean},
    temporal::sort_keys::{EncodedValues, Encoding},
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

/// The sum of a slice's integers or floats, and how many there are.
#[derive(Clone, Default)]
pub(in crate::temporal) struct FloatSum {
    sum: ExactSum,
    pub(super) count: u32,
}

impl SliceValue for FloatSum {
    fn update(sums: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        let encoding = facts.order.encoding;
        facts.each_key(
            sums,
            |total| total.count,
            |total, _, key| {
                let (high, low) = encoding.number(key);
                total.count += 1;
                total.sum.add(high);
                if low != 0.0 {
                    total.sum.add(low);
                }
            },
        )
    }
}

/// The sum of a slice's decimals, in units of their last digit, and how many there are.
#[derive(Clone, Default)]
pub(in crate::temporal) struct DecimalSum {
    sum: Integer<5>,
    pub(super) count: u32,
}

impl DecimalSum {
    #[inline]
    fn add(&mut self, units: Integer<5>) {
        self.count += 1;
        self.sum.add(&units);
    }
}

impl SliceValue for DecimalSum {
    fn update(sums: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        match facts.values()? {
            EncodedValues::Decimals(units) => {
                facts.each_row(sums, |total| total.count, |total, _, row| total.add(units[row].into()));
            }
            EncodedValues::WideDecimals(units) => {
                facts.each_row(sums, |total| total.count, |total, _, row| total.add(units[row].into()));
            }
            EncodedValues::Keys(_) => return Err(facts.unexpected_encoding()),
        }
        Ok(())
    }
}

impl StoredValue for FloatSum {
    fn store(&self, _: &TieBreaks, to: &mut StateWriter<'_>) {
        to.numbers.unsigned(self.count.into());
        if self.count > 0 {
            self.sum.store(to.numbers);
        }
    }

    fn load(from: &mut StateReader<'_>) -> Option<Self> {
        match from.count()? {
            0 => Some(Self::default()),
            count => Some(Self { count, sum: Stored::load(&mut from.numbers)? }),
        }
    }

    fn merge(&mut self, other: &Self, _: &mut MergeContext<'_>) {
        self.count = self.count.wrapping_add(other.count);
        self.sum.merge(&other.sum);
    }
}

impl StoredValue for DecimalSum {
    fn store(&self, _: &TieBreaks, to: &mut StateWriter<'_>) {
        to.numbers.unsigned(self.count.into());
        if self.count > 0 {
            self.sum.store(to.numbers);
        }
    }

    fn load(from: &mut StateReader<'_>) -> Option<Self> {
        match from.count()? {
            0 => Some(Self::default()),
            count => Some(Self { count, sum: Stored::load(&mut from.numbers)? }),
        }
    }

    fn merge(&mut self, other: &Self, _: &mut MergeContext<'_>) {
        self.count = self.count.wrapping_add(other.count);
        self.sum.add(&other.sum);
    }
}

struct FloatSlider<'a> {
    tasks: TaskStates<'a, FloatSum>,
    function: SumFunction,
    results: Nullable<f64>,
}

impl Slider for FloatSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, function, results } = self;
        let (mut count, mut total) = (0u64, ExactSum::default());
        slices.slide(slots, |step| match step {
            Step::Enter(i) => {
                let slice = tasks.at(slices.location(i));
                count += u64::from(slice.count);
                total.merge(&slice.sum);
            }
            Step::Leave(i) => {
                let slice = tasks.at(slices.location(i));
                count -= u64::from(slice.count);
                if count == 0 {
                    total = ExactSum::default();
                } else {
                    total.unmerge(&slice.sum);
                }
            }
            Step::Slot(_) => results.push((count > 0).then(|| match function {
                SumFunction::Sum => total.value(),
                SumFunction::Mean => total.mean(count),
            })),
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Floats(self.results)
    }
}

struct DecimalSumSlider<'a> {
    tasks: TaskStates<'a, DecimalSum>,
    results: Decimals,
}

impl Slider for DecimalSumSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, results } = self;
        slide_decimals(tasks, slices, slots, |total, _| results.push(total));
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Decimals(self.results)
    }
}

struct DecimalMeanSlider<'a> {
    tasks: TaskStates<'a, DecimalSum>,
    scale: i8,
    results: Nullable<f64>,
}

impl Slider for DecimalMeanSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, scale, results } = self;
        slide_decimals(tasks, slices, slots, |total, count| {
            results.push(total.map(|total| decimal_mean(&total, *scale, count)));
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Floats(self.results)
    }
}

/// Calls `to` at each slot with the sum of the decimals in the window, if there are any, and with their count.
fn slide_decimals(
    tasks: &TaskStates<'_, DecimalSum>,
    slices: &EntitySlices,
    slots: Range<u32>,
    mut to: impl FnMut(Option<Integer<5>>, u64),
) {
    let (mut count, mut total) = (0u64, Integer::<5>::default());
    slices.slide(slots, |step| match step {
        Step::Enter(i) => {
            let slice = tasks.at(slices.location(i));
            count += u64::from(slice.count);
            total.add(&slice.sum);
        }
        Step::Leave(i) => {
            let slice = tasks.at(slices.location(i));
            count -= u64::from(slice.count);
            total.subtract(&slice.sum);
        }
        Step::Slot(_) => to((count > 0).then_some(total), count),
    });
}
