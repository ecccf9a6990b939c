//! The values of the oldest and of the newest fact.

use std::{cmp::Ordering, ops::Range};

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    best::slide_best,
    entity_slices::EntitySlices,
    fact_order::{DatedValue, FactOrder, TieBreaks},
    result_columns::{Nullable, ResultColumn},
    slider::{OutputStates, Slider, TaskStates},
    state::{FactUpdate, SliceValue, StateKind},
    stored::{MergeContext, StateReader, StateWriter, StoredValue},
};
use crate::{error::Result, temporal::sort_keys::Encoding};

impl Aggregate {
    /// The value of the oldest fact, by event time, known-at, tie-breaks, and then the value itself.
    pub fn first(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::First, "first", over.into())
    }

    /// The value of the newest fact, by event time, known-at, tie-breaks, and then the value itself.
    pub fn last(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Last, "last", over.into())
    }
}

/// The value of the oldest fact if `FIRST`, else of the newest.
pub(super) struct FirstLastFunction<const FIRST: bool>;

impl<const FIRST: bool> AggregateFunction for FirstLastFunction<FIRST> {
    fn state(&self, _: Encoding) -> StateKind {
        if FIRST { StateKind::First } else { StateKind::Last }
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        let (order, results) = (states.order, Nullable::with_capacity(slots));
        if FIRST {
            Ok(Box::new(FirstLastSlider::<true> { tasks: states.per_slice()?, ties: states.ties, order, results }))
        } else {
            Ok(Box::new(FirstLastSlider::<false> { tasks: states.per_slice()?, ties: states.ties, order, results }))
        }
    }
}

/// The value of a slice's oldest fact if `FIRST`, else of its newest.
#[derive(Clone, Copy, Default)]
pub(in crate::temporal) struct FirstOrLast<const FIRST: bool>(Option<DatedValue>);

impl<const FIRST: bool> SliceValue for FirstOrLast<FIRST> {
    fn update(states: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        let (order, ties) = (facts.order, facts.ties);
        let wanted = if FIRST { Ordering::Less } else { Ordering::Greater };
        facts.each_key(
            states,
            |state| u32::from(state.0.is_some()),
            |state, i, key| {
                let dated = facts.dated(i, key);
                if state.0.is_none_or(|known| order.compare((&dated, ties), (&known, ties)) == wanted) {
                    state.0 = Some(dated);
                }
            },
        )
    }
}

impl<const FIRST: bool> StoredValue for FirstOrLast<FIRST> {
    fn store(&self, ties: &TieBreaks, to: &mut StateWriter<'_>) {
        to.is_there(self.0.is_some());
        self.0.iter().for_each(|dated| to.dated(dated, ties));
    }

    fn load(from: &mut StateReader<'_>) -> Option<Self> {
        Some(Self(if from.is_there()? { Some(from.dated()?) } else { None }))
    }

    fn merge(&mut self, other: &Self, with: &mut MergeContext<'_>) {
        let wanted = if FIRST { Ordering::Less } else { Ordering::Greater };
        if let Some(dated) = &other.0
            && self.0.is_none_or(|known| with.order.compare((dated, with.other_ties), (&known, with.ties)) == wanted)
        {
            self.0 = Some(with.taken(dated));
        }
    }
}

struct FirstLastSlider<'a, const FIRST: bool> {
    tasks: TaskStates<'a, FirstOrLast<FIRST>>,
    ties: Vec<&'a TieBreaks>,
    order: FactOrder<'a>,
    results: Nullable<u64>,
}

impl<const FIRST: bool> Slider for FirstLastSlider<'_, FIRST> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let (tasks, ties, fact_order) = (&self.tasks, &self.ties, self.order);
        let dated = |i: usize| {
            let location = slices.location(i);
            (&tasks.at(location).0, ties[location.task as usize])
        };
        let compare = |a: usize, b: usize| {
            let order = match (dated(a), dated(b)) {
                ((Some(x), ties_x), (Some(y), ties_y)) => fact_order.compare((x, ties_x), (y, ties_y)),
                ((x, _), (y, _)) => x.is_some().cmp(&y.is_some()),
            };
            if FIRST { order.reverse() } else { order }
        };
        let value = |i: usize| dated(i).0.map(|dated| dated.value);
        slide_best(slices, slots, value, compare, &mut self.results);
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Keys(self.results)
    }
}
