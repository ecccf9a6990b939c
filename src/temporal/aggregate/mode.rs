//! The most frequent value.
//! It neither orders nor counts values: ranks are from `value_log`, and counts from `tournament`.

use std::ops::Range;

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    count_distinct::distinct,
    entity_slices::EntitySlices,
    result_columns::{Nullable, ResultColumn},
    slider::{OutputStates, Slider},
    state::StateKind,
    tournament::slide_counts,
    value_log::ValueLogs,
};
use crate::{error::Result, temporal::sort_keys::Encoding};

impl Aggregate {
    /// The most frequent value; of several that are equally frequent, the smallest.
    ///
    /// All NaN are one value, the largest. Both zeros are one value, 0.0.
    pub fn mode(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Mode, "mode", over.into())
    }
}

pub(super) struct ModeFunction;

impl AggregateFunction for ModeFunction {
    fn state(&self, _: Encoding) -> StateKind {
        StateKind::Values
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        Ok(Box::new(ModeSlider { logs: ValueLogs::new(&states)?, results: Nullable::with_capacity(slots) }))
    }
}

struct ModeSlider<'a> {
    logs: ValueLogs<'a>,
    results: Nullable<u64>,
}

impl Slider for ModeSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { logs, results } = self;
        let (ranks, values) = logs.rank(slices, distinct);
        slide_counts(&ranks, values.len(), slices, slots, |counts| results.push(counts.winner().map(|rank| values[rank])));
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Keys(self.results)
    }
}
