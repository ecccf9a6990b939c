//! The values of the newest facts, as a list.

use std::{collections::BTreeSet, ops::Range};

use arrow::datatypes::DataType;

use super::{
    Aggregate, AggregateFunction, AggregateKind,
    entity_slices::{EntitySlices, Step},
    fact_order::{DatedValue, FactOrder, TieBreaks},
    list_of, require_order,
    result_columns::{Lists, ResultColumn},
    slider::{OutputStates, Slider},
    state::StateKind,
    value_log::{ValueLog, rank_by_recency},
};
use crate::{error::Result, temporal::sort_keys::Encoding};

impl Aggregate {
    /// The values of the `k` newest facts, the oldest of them first. `k` is 1 or more.
    pub fn last_k(column: impl Into<String>, k: usize) -> Self {
        Self::of(AggregateKind::LastK(k), &format!("last_{k}"), column.into())
    }
}

pub(super) struct LastKFunction(pub(super) usize);

impl AggregateFunction for LastKFunction {
    fn result_type(&self, input: &DataType) -> Result<DataType, &'static str> {
        require_order(input)?;
        Ok(list_of(input))
    }

    fn state(&self, _: Encoding) -> StateKind {
        StateKind::DatedValues
    }

    fn flaw(&self) -> Option<String> {
        (self.0 == 0).then(|| "asks for the last 0 values; ask for 1 or more".into())
    }

    fn slider<'a>(&self, states: OutputStates<'a>, _: usize) -> Result<Box<dyn Slider + 'a>> {
        let tasks = states.typed()?;
        Ok(Box::new(LastKSlider { tasks, ties: states.ties, order: states.order, k: self.0, results: Lists::default() }))
    }
}

struct LastKSlider<'a> {
    tasks: Vec<&'a ValueLog<DatedValue>>,
    ties: Vec<&'a TieBreaks>,
    order: FactOrder<'a>,
    k: usize,
    results: Lists,
}

impl Slider for LastKSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { tasks, ties, order, k, results } = self;
        let (ranks, values) = rank_by_recency(tasks, slices, |(task_a, a), (task_b, b)| {
            order.compare((a, ties[task_a as usize]), (b, ties[task_b as usize]))
        });
        let mut in_window: BTreeSet<u32> = BTreeSet::new();
        slices.slide(slots, |step| match step {
            Step::Enter(i) => in_window.extend(ranks.of_slice(i)),
            Step::Leave(i) => ranks.of_slice(i).iter().for_each(|rank| {
                in_window.remove(rank);
            }),
            Step::Slot(_) => results.push_reversed(in_window.iter().rev().take(*k).map(|&rank| values[rank as usize])),
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Lists(self.results)
    }
}
