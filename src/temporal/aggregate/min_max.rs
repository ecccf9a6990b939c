//! Minimum and maximum.

use std::{cmp::Ordering, ops::Range};

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    best::slide_best,
    entity_slices::EntitySlices,
    fact_order::{FactOrder, TieBreaks},
    result_columns::{Nullable, ResultColumn},
    slider::{OutputStates, Slider, TaskStates},
    state::{FactUpdate, SliceValue, StateKind},
    stored::{MergeContext, StateReader, StateWriter, StoredValue},
};
use crate::{error::Result, temporal::sort_keys::Encoding};

impl Aggregate {
    /// The smallest value.
    pub fn min(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Min, "min", over.into())
    }

    /// The largest value.
    pub fn max(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Max, "max", over.into())
    }
}

/// The minimum if `MIN`, else the maximum.
pub(super) struct MinMaxFunction<const MIN: bool>;

impl<const MIN: bool> AggregateFunction for MinMaxFunction<MIN> {
    fn state(&self, _: Encoding) -> StateKind {
        if MIN { StateKind::Min } else { StateKind::Max }
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        let (order, results) = (states.order, Nullable::with_capacity(slots));
        if MIN {
            Ok(Box::new(MinMaxSlider::<true> { tasks: states.per_slice()?, order, results }))
        } else {
            Ok(Box::new(MinMaxSlider::<false> { tasks: states.per_slice()?, order, results }))
        }
    }
}

/// The smallest value of a slice if `MIN`, else the largest.
#[derive(Clone, Copy, Default)]
pub(in crate::temporal) struct MinOrMax<const MIN: bool>(Option<u64>);

impl<const MIN: bool> SliceValue for MinOrMax<MIN> {
    fn update(extremes: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        let FactOrder { encoding, dictionary, .. } = facts.order;
        let wanted = if MIN { Ordering::Less } else { Ordering::Greater };
        facts.each_key(
            extremes,
            |extreme| u32::from(extreme.0.is_some()),
            |extreme, _, key| {
                if extreme.0.is_none_or(|known| dictionary.compare(encoding, key, known) == wanted) {
                    extreme.0 = Some(key);
                }
            },
        )
    }
}

impl<const MIN: bool> StoredValue for MinOrMax<MIN> {
    fn store(&self, _: &TieBreaks, to: &mut StateWriter<'_>) {
        to.is_there(self.0.is_some());
        self.0.into_iter().for_each(|key| to.value(key));
    }

    fn load(from: &mut StateReader<'_>) -> Option<Self> {
        Some(Self(if from.is_there()? { Some(from.value()?) } else { None }))
    }

    fn merge(&mut self, other: &Self, with: &mut MergeContext<'_>) {
        let FactOrder { encoding, dictionary, .. } = with.order;
        let wanted = if MIN { Ordering::Less } else { Ordering::Greater };
        if let Some(key) = other.0
            && self.0.is_none_or(|known| dictionary.compare(encoding, key, known) == wanted)
        {
            self.0 = Some(key);
        }
    }
}

struct MinMaxSlider<'a, const MIN: bool> {
    tasks: TaskStates<'a, MinOrMax<MIN>>,
    order: FactOrder<'a>,
    results: Nullable<u64>,
}

impl<const MIN: bool> Slider for MinMaxSlider<'_, MIN> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let (tasks, FactOrder { encoding, dictionary, .. }) = (&self.tasks, self.order);
        let value = |i: usize| tasks.at(slices.location(i)).0;
        let compare = |a: usize, b: usize| {
            let order = match (value(a), value(b)) {
                (Some(x), Some(y)) => dictionary.compare(encoding, x, y),
                (x, y) => x.is_some().cmp(&y.is_some()),
            };
            if MIN { order.reverse() } else { order }
        };
        slide_best(slices, slots, value, compare, &mut self.results);
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Keys(self.results)
    }
}
