//! The values of the oldest and of the newest facts, as lists.

use std::{collections::BTreeSet, ops::Range};

use arrow::datatypes::DataType;

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
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
    /// The values of the `k` oldest facts, the oldest of them first. `k` is 1 or more. What decides between facts of one time is
    /// said at [`Aggregate::first`].
    pub fn first_k(over: impl Into<Expression>, k: usize) -> Self {
        Self::of(AggregateKind::FirstK(k), &format!("first_{k}"), over.into())
    }

    /// The values of the `k` newest facts, the oldest of them first. `k` is 1 or more.
    pub fn last_k(over: impl Into<Expression>, k: usize) -> Self {
        Self::of(AggregateKind::LastK(k), &format!("last_{k}"), over.into())
    }
}

/// The values of so many of the oldest facts if `FIRST`, else of the newest.
pub(super) struct FirstLastKFunction<const FIRST: bool>(pub(super) usize);

impl<const FIRST: bool> AggregateFunction for FirstLastKFunction<FIRST> {
    fn result_type(&self, input: &DataType) -> Result<DataType, &'static str> {
        require_order(input)?;
        Ok(list_of(input))
    }

    fn state(&self, _: Encoding) -> StateKind {
        StateKind::DatedValues
    }

    fn flaw(&self) -> Option<String> {
        let which = if FIRST { "first" } else { "last" };
        (self.0 == 0).then(|| format!("asks for the {which} 0 values; ask for 1 or more"))
    }

    fn slider<'a>(&self, states: OutputStates<'a>, _: usize) -> Result<Box<dyn Slider + 'a>> {
        let (tasks, ties, order, k) = (states.typed()?, states.ties, states.order, self.0);
        if FIRST {
            Ok(Box::new(FirstLastKSlider::<true> { tasks, ties, order, k, results: Lists::default() }))
        } else {
            Ok(Box::new(FirstLastKSlider::<false> { tasks, ties, order, k, results: Lists::default() }))
        }
    }
}

struct FirstLastKSlider<'a, const FIRST: bool> {
    tasks: Vec<&'a ValueLog<DatedValue>>,
    ties: Vec<&'a TieBreaks>,
    order: FactOrder<'a>,
    k: usize,
    results: Lists,
}

impl<const FIRST: bool> Slider for FirstLastKSlider<'_, FIRST> {
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
            Step::Slot(_) if FIRST => results.push(in_window.iter().take(*k).map(|&rank| values[rank as usize])),
            Step::Slot(_) => results.push_reversed(in_window.iter().rev().take(*k).map(|&rank| values[rank as usize])),
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Lists(self.results)
    }
}
