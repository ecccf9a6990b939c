//! The value of the fact for which another column or expression is largest or smallest.

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
    /// The `value` of the fact with the largest `by`, as DuckDB's `max_by` (or `arg_max`).
    ///
    /// A fact in which either of them is NULL is passed over. Of facts with equal `by` the newest counts, by event time, known-at,
    /// tie-breaks, and then the larger `value`. `by` is ordered as in [`Aggregate::max`]: NaN is the largest, -0.0 comes before
    /// 0.0.
    ///
    /// ```
    /// use asof::{Aggregate, Expression};
    /// let product = Aggregate::max_by("product", Expression::sql("price * quantity")).named("product_of_largest_sale");
    /// ```
    pub fn max_by(value: impl Into<Expression>, by: impl Into<Expression>) -> Self {
        Self::of_two(AggregateKind::MaxBy, "max_by", value.into(), by.into())
    }

    /// The `value` of the fact with the smallest `by`, as DuckDB's `min_by` (or `arg_min`).
    ///
    /// As for [`Aggregate::max_by`], facts with a NULL are passed over, and of facts with equal `by` the newest counts.
    pub fn min_by(value: impl Into<Expression>, by: impl Into<Expression>) -> Self {
        Self::of_two(AggregateKind::MinBy, "min_by", value.into(), by.into())
    }
}

/// The value where `by` is largest if `MAX`, else where it is smallest.
pub(super) struct MaxByFunction<const MAX: bool>;

impl<const MAX: bool> AggregateFunction for MaxByFunction<MAX> {
    fn state(&self, _: Encoding) -> StateKind {
        if MAX { StateKind::MaxBy } else { StateKind::MinBy }
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        let (order, results) = (states.order, Nullable::with_capacity(slots));
        if MAX {
            Ok(Box::new(MaxBySlider::<true> { tasks: states.per_slice()?, ties: states.ties, order, results }))
        } else {
            Ok(Box::new(MaxBySlider::<false> { tasks: states.per_slice()?, ties: states.ties, order, results }))
        }
    }
}

/// A value, with the key of its `by`.
#[derive(Clone, Copy)]
struct RankedValue {
    by: u64,
    dated: DatedValue,
}

/// The value of a slice where `by` is largest if `MAX`, else where it is smallest.
#[derive(Clone, Copy, Default)]
pub(in crate::temporal) struct MaxOrMinBy<const MAX: bool>(Option<RankedValue>);

/// Which of two facts counts: the greater one.
fn compare<const MAX: bool>(
    order: FactOrder<'_>,
    (a, ties_a): (&RankedValue, &TieBreaks),
    (b, ties_b): (&RankedValue, &TieBreaks),
) -> Ordering {
    let by = order.compare_by(a.by, b.by);
    let by = if MAX { by } else { by.reverse() };
    by.then_with(|| order.compare((&a.dated, ties_a), (&b.dated, ties_b)))
}

impl<const MAX: bool> SliceValue for MaxOrMinBy<MAX> {
    fn update(states: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        let (order, ties) = (facts.order, facts.ties);
        facts.each_pair(
            states,
            |state| u32::from(state.0.is_some()),
            |state, i, key, by| {
                let found = RankedValue { by, dated: facts.dated(i, key) };
                if state.0.is_none_or(|known| compare::<MAX>(order, (&found, ties), (&known, ties)).is_gt()) {
                    state.0 = Some(found);
                }
            },
        )
    }
}

impl<const MAX: bool> StoredValue for MaxOrMinBy<MAX> {
    fn store(&self, ties: &TieBreaks, to: &mut StateWriter<'_>) {
        to.is_there(self.0.is_some());
        if let Some(RankedValue { by, dated }) = &self.0 {
            to.by(*by);
            to.dated(dated, ties);
        }
    }

    fn load(from: &mut StateReader<'_>) -> Option<Self> {
        Some(Self(if from.is_there()? { Some(RankedValue { by: from.by()?, dated: from.dated()? }) } else { None }))
    }

    fn merge(&mut self, other: &Self, with: &mut MergeContext<'_>) {
        if let Some(found) = &other.0
            && self.0.is_none_or(|known| compare::<MAX>(with.order, (found, with.other_ties), (&known, with.ties)).is_gt())
        {
            self.0 = Some(RankedValue { by: found.by, dated: with.taken(&found.dated) });
        }
    }
}

struct MaxBySlider<'a, const MAX: bool> {
    tasks: TaskStates<'a, MaxOrMinBy<MAX>>,
    ties: Vec<&'a TieBreaks>,
    order: FactOrder<'a>,
    results: Nullable<u64>,
}

impl<const MAX: bool> Slider for MaxBySlider<'_, MAX> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let (tasks, ties, order) = (&self.tasks, &self.ties, self.order);
        let ranked = |i: usize| {
            let location = slices.location(i);
            (&tasks.at(location).0, ties[location.task as usize])
        };
        let compare = |a: usize, b: usize| match (ranked(a), ranked(b)) {
            ((Some(x), ties_x), (Some(y), ties_y)) => compare::<MAX>(order, (x, ties_x), (y, ties_y)),
            ((x, _), (y, _)) => x.is_some().cmp(&y.is_some()),
        };
        let value = |i: usize| ranked(i).0.map(|found| found.dated.value);
        slide_best(slices, slots, value, compare, &mut self.results);
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Keys(self.results)
    }
}
