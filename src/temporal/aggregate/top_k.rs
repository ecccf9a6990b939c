//! The most frequent values, as a list.

use std::ops::Range;

use arrow::datatypes::DataType;

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    count_distinct::distinct,
    entity_slices::EntitySlices,
    list_of, require_order,
    result_columns::{Lists, ResultColumn},
    slider::{OutputStates, Slider},
    state::StateKind,
    tournament::slide_counts,
    value_log::ValueLogs,
};
use crate::{error::Result, temporal::sort_keys::Encoding};

impl Aggregate {
    /// The `k` most frequent values, the most frequent first. Of values that are equally frequent the smaller comes first, so the
    /// first value is the [mode](Aggregate::mode). Where there are fewer different values, the list is shorter. `k` is 1 or more.
    ///
    /// All NaN are one value, the largest. Both zeros are one value, 0.0.
    pub fn top_k(over: impl Into<Expression>, k: usize) -> Self {
        Self::of(AggregateKind::TopK(k), &format!("top_{k}"), over.into())
    }
}

pub(super) struct TopKFunction(pub(super) usize);

impl AggregateFunction for TopKFunction {
    fn result_type(&self, input: &DataType) -> Result<DataType, &'static str> {
        require_order(input)?;
        Ok(list_of(input))
    }

    fn state(&self, _: Encoding) -> StateKind {
        StateKind::Values
    }

    fn flaw(&self) -> Option<String> {
        (self.0 == 0).then(|| "asks for the top 0 values; ask for 1 or more".into())
    }

    fn slider<'a>(&self, states: OutputStates<'a>, _: usize) -> Result<Box<dyn Slider + 'a>> {
        Ok(Box::new(TopKSlider { logs: ValueLogs::new(&states)?, k: self.0, results: Lists::default() }))
    }
}

struct TopKSlider<'a> {
    logs: ValueLogs<'a>,
    k: usize,
    results: Lists,
}

impl Slider for TopKSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { logs, k, results } = self;
        let (ranks, values) = logs.rank(slices, distinct);
        slide_counts(&ranks, values.len(), slices, slots, |counts| {
            results.push(counts.winners().take(*k).map(|rank| values[rank]));
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Lists(self.results)
    }
}
