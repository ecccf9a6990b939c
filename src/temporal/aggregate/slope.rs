//! The slope of values over event time. The sums that it is made of are exact.

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
    numeric::{FloatSlope, IntegerSlope, SlopeSums, Stored},
    temporal::sort_keys::{EncodedValues, Encoding},
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
    PerSlice<SlopeSum<S>>: StatesOf,
{
    let (tasks, results) = (states.per_slice::<SlopeSum<S>>()?, Nullable::with_capacity(slots));
    Ok(Box::new(SlopeSlider { tasks, per_second: states.per_second, scale: states.scale, results }))
}

/// The sums over the times and values of a slice, and how many values there are.
#[derive(Clone, Default)]
pub(in crate::temporal) struct SlopeSum<S> {
    sums: S,
    pub(super) count: u32,
}

impl SliceValue for SlopeSum<FloatSlope> {
    fn update(states: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        let encoding = facts.order.encoding;
        facts.each_key(
            states,
            |state| state.count,
            |state, i, key| {
                state.count += 1;
                state.sums.add(facts.time(i), encoding.number(key).0);
            },
        )
    }
}

impl SliceValue for SlopeSum<IntegerSlope<2, 3>> {
    fn update(states: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        let encoding = facts.order.encoding;
        facts.each_key(
            states,
            |state| state.count,
            |state, i, key| {
                state.count += 1;
                state.sums.add(facts.time(i), encoding.integer(key));
            },
        )
    }
}

impl SliceValue for SlopeSum<IntegerSlope<5, 6>> {
    fn update(states: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        match facts.values()? {
            EncodedValues::Decimals(units) => facts.each_row(
                states,
                |state| state.count,
                |state, i, row| {
                    state.count += 1;
                    state.sums.add(facts.time(i), units[row]);
                },
            ),
            EncodedValues::WideDecimals(units) => facts.each_row(
                states,
                |state| state.count,
                |state, i, row| {
                    state.count += 1;
                    state.sums.add_wide(facts.time(i), units[row]);
                },
            ),
            EncodedValues::Keys(_) => return Err(facts.unexpected_encoding()),
        }
        Ok(())
    }
}

impl<S: SlopeSums + Stored> StoredValue for SlopeSum<S>
where
    Self: SliceValue,
{
    fn store(&self, _: &TieBreaks, to: &mut StateWriter<'_>) {
        to.numbers.unsigned(self.count.into());
        if self.count > 0 {
            self.sums.store(to.numbers);
        }
    }

    fn load(from: &mut StateReader<'_>) -> Option<Self> {
        match from.count()? {
            0 => Some(Self::default()),
            count => Some(Self { count, sums: S::load(&mut from.numbers)? }),
        }
    }

    fn merge(&mut self, other: &Self, _: &mut MergeContext<'_>) {
        self.count = self.count.wrapping_add(other.count);
        self.sums.merge(&other.sums);
    }
}

struct SlopeSlider<'a, S> {
    tasks: TaskStates<'a, SlopeSum<S>>,
    per_second: u64,
    scale: i8,
    results: Nullable<f64>,
}

impl<S: SlopeSums> Slider for SlopeSlider<'_, S> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, per_second, scale, results } = self;
        let (mut count, mut sums) = (0u64, S::default());
        slices.slide(slots, |step| match step {
            Step::Enter(i) => {
                let slice = tasks.at(slices.location(i));
                count += u64::from(slice.count);
                sums.merge(&slice.sums);
            }
            Step::Leave(i) => {
                let slice = tasks.at(slices.location(i));
                count -= u64::from(slice.count);
                match count {
                    0 => sums = S::default(),
                    _ => sums.unmerge(&slice.sums),
                }
            }
            Step::Slot(_) if count > 1 => results.push(sums.slope(count, *per_second, *scale)),
            Step::Slot(_) => results.push(None),
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Floats(self.results)
    }
}
