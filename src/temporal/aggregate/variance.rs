//! Variance and standard deviation of the sample. The sums that they are made of are exact.

use std::ops::Range;

use arrow::datatypes::DataType;

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    entity_slices::{EntitySlices, Step},
    fact_order::TieBreaks,
    require_number,
    result_columns::{Nullable, ResultColumn},
    slider::{OutputStates, Slider, TaskStates},
    state::{FactUpdate, PerSlice, SliceValue, StateKind, StatesOf},
    stored::{MergeContext, StateReader, StateWriter, StoredValue},
};
use crate::{
    error::Result,
    numeric::{FloatMoments, IntegerMoments, Moments, Stored},
    temporal::sort_keys::{EncodedValues, Encoding},
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
        PerSlice<MomentSum<M>>: StatesOf,
    {
        let (tasks, results) = (states.per_slice::<MomentSum<M>>()?, Nullable::with_capacity(slots));
        Ok(Box::new(VarianceSlider { tasks, function: self, scale: states.scale, results }))
    }
}

/// The sums of a slice's values and of their squares, and how many values there are.
#[derive(Clone, Default)]
pub(in crate::temporal) struct MomentSum<M> {
    moments: M,
    pub(super) count: u32,
}

impl SliceValue for MomentSum<FloatMoments> {
    fn update(sums: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        let encoding = facts.order.encoding;
        facts.each_key(
            sums,
            |sum| sum.count,
            |sum, _, key| {
                sum.count += 1;
                sum.moments.add(encoding.number(key).0);
            },
        )
    }
}

impl SliceValue for MomentSum<IntegerMoments<3, 3>> {
    fn update(sums: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        let encoding = facts.order.encoding;
        facts.each_key(
            sums,
            |sum| sum.count,
            |sum, _, key| {
                sum.count += 1;
                sum.moments.add(encoding.integer(key));
            },
        )
    }
}

impl SliceValue for MomentSum<IntegerMoments<5, 9>> {
    fn update(sums: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        match facts.values()? {
            EncodedValues::Decimals(units) => facts.each_row(
                sums,
                |sum| sum.count,
                |sum, _, row| {
                    sum.count += 1;
                    sum.moments.add(units[row]);
                },
            ),
            EncodedValues::WideDecimals(units) => facts.each_row(
                sums,
                |sum| sum.count,
                |sum, _, row| {
                    sum.count += 1;
                    sum.moments.add_wide(units[row]);
                },
            ),
            EncodedValues::Keys(_) => return Err(facts.unexpected_encoding()),
        }
        Ok(())
    }
}

impl<M: Moments + Stored> StoredValue for MomentSum<M>
where
    Self: SliceValue,
{
    fn store(&self, _: &TieBreaks, to: &mut StateWriter<'_>) {
        to.numbers.unsigned(self.count.into());
        if self.count > 0 {
            self.moments.store(to.numbers);
        }
    }

    fn load(from: &mut StateReader<'_>) -> Option<Self> {
        match from.count()? {
            0 => Some(Self::default()),
            count => Some(Self { count, moments: M::load(&mut from.numbers)? }),
        }
    }

    fn merge(&mut self, other: &Self, _: &mut MergeContext<'_>) {
        self.count = self.count.wrapping_add(other.count);
        self.moments.merge(&other.moments);
    }
}

struct VarianceSlider<'a, M> {
    tasks: TaskStates<'a, MomentSum<M>>,
    function: VarianceFunction,
    scale: i8,
    results: Nullable<f64>,
}

impl<M: Moments> Slider for VarianceSlider<'_, M> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, function, scale, results } = self;
        let (mut count, mut moments) = (0u64, M::default());
        slices.slide(slots, |step| match step {
            Step::Enter(i) => {
                let slice = tasks.at(slices.location(i));
                count += u64::from(slice.count);
                moments.merge(&slice.moments);
            }
            Step::Leave(i) => {
                let slice = tasks.at(slices.location(i));
                count -= u64::from(slice.count);
                match count {
                    0 => moments = M::default(),
                    _ => moments.unmerge(&slice.moments),
                }
            }
            Step::Slot(_) => results.push((count > 1).then(|| match (moments.variance(count, *scale), &function) {
                (None, _) => f64::NAN,
                (Some(variance), VarianceFunction::Variance) => variance.value(),
                (Some(variance), VarianceFunction::Stddev) => variance.square_root(),
            })),
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Floats(self.results)
    }
}
