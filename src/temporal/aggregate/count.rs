//! How many facts or values.

use std::ops::Range;

use arrow::datatypes::DataType;

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    entity_slices::{EntitySlices, SliceLocation, Step},
    fact_order::TieBreaks,
    result_columns::ResultColumn,
    slider::{OutputStates, Slider},
    state::{FactUpdate, SliceStates, SliceValue, StateKind},
    stored::{MergeContext, StateReader, StateWriter, StoredValue},
};
use crate::{error::Result, temporal::sort_keys::Encoding};

impl Aggregate {
    /// How many facts.
    pub fn count() -> Self {
        Self::new(AggregateKind::Count, "count", None, None)
    }

    /// How many facts whose value in this column or expression is not NULL.
    pub fn count_of(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Count, "count", over.into())
    }
}

pub(super) struct CountFunction;

impl AggregateFunction for CountFunction {
    fn encoding(&self, _: &DataType) -> Encoding {
        Encoding::Presence
    }

    fn result_type(&self, _: &DataType) -> Result<DataType, &'static str> {
        Ok(DataType::Int64)
    }

    fn state(&self, _: Encoding) -> StateKind {
        StateKind::Count
    }

    fn is_count(&self) -> bool {
        true
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        Ok(Box::new(CountSlider { tasks: states.tasks, results: Vec::with_capacity(slots) }))
    }
}

/// The count of a slice.
#[derive(Clone, Copy, Default)]
pub(in crate::temporal) struct Count(u32);

impl SliceValue for Count {
    fn update(counts: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        facts.each_row(counts, |count| count.0, |count, _, _| count.0 += 1);
        Ok(())
    }
}

impl StoredValue for Count {
    fn store(&self, _: &TieBreaks, to: &mut StateWriter<'_>) {
        to.numbers.unsigned(self.0.into());
    }

    fn load(from: &mut StateReader<'_>) -> Option<Self> {
        from.count().map(Self)
    }

    fn merge(&mut self, other: &Self, _: &mut MergeContext<'_>) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

struct CountSlider<'a> {
    tasks: Vec<&'a SliceStates>,
    results: Vec<i64>,
}

/// The count of a slice. A column that is also summed up has no state for its count alone.
#[inline]
fn count_in(states: &SliceStates, location: SliceLocation) -> u32 {
    match states {
        SliceStates::Count(states) => states.at(location).0,
        SliceStates::FloatSum(states) => states.at(location).count,
        SliceStates::DecimalSum(states) => states.at(location).count,
        SliceStates::FloatMoments(states) => states.at(location).count,
        SliceStates::IntegerMoments(states) => states.at(location).count,
        SliceStates::DecimalMoments(states) => states.at(location).count,
        SliceStates::FloatSlope(states) => states.at(location).count,
        SliceStates::IntegerSlope(states) => states.at(location).count,
        SliceStates::DecimalSlope(states) => states.at(location).count,
        // These do not count. A plan takes counts only from states for which `StateKind::counts_values` is true.
        SliceStates::Min(_)
        | SliceStates::Max(_)
        | SliceStates::First(_)
        | SliceStates::Last(_)
        | SliceStates::MaxBy(_)
        | SliceStates::MinBy(_)
        | SliceStates::Sketches(_)
        | SliceStates::Values(_)
        | SliceStates::DatedValues(_) => 0,
    }
}

impl Slider for CountSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, results } = self;
        let count_at = |location: SliceLocation| i64::from(count_in(tasks[location.task as usize], location));
        let mut count = 0i64;
        slices.slide(slots, |step| match step {
            Step::Enter(i) => count += count_at(slices.location(i)),
            Step::Leave(i) => count -= count_at(slices.location(i)),
            Step::Slot(_) => results.push(count),
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Counts(self.results)
    }
}
