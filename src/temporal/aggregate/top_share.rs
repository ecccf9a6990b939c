//! The share of the most frequent value.

use std::ops::Range;

use arrow::datatypes::DataType;

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    count_distinct::distinct,
    entity_slices::EntitySlices,
    require_order,
    result_columns::{Nullable, ResultColumn},
    slider::{OutputStates, Slider},
    state::StateKind,
    tournament::slide_counts,
    value_log::ValueLogs,
};
use crate::{error::Result, temporal::sort_keys::Encoding};

impl Aggregate {
    /// The share of the most frequent value: its count divided by the count of all values, rounded once. It is above 0, and 1 where
    /// all values are equal. Also known as the ratio of the top 1.
    ///
    /// All NaN are one value, and so are both zeros.
    pub fn top_share(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::TopShare, "top_share", over.into())
    }
}

pub(super) struct TopShareFunction;

impl AggregateFunction for TopShareFunction {
    fn result_type(&self, input: &DataType) -> Result<DataType, &'static str> {
        require_order(input)?;
        Ok(DataType::Float64)
    }

    fn state(&self, _: Encoding) -> StateKind {
        StateKind::Values
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        Ok(Box::new(TopShareSlider { logs: ValueLogs::new(&states)?, results: Nullable::with_capacity(slots) }))
    }
}

struct TopShareSlider<'a> {
    logs: ValueLogs<'a>,
    results: Nullable<f64>,
}

impl Slider for TopShareSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { logs, results } = self;
        let (ranks, values) = logs.rank(slices, distinct);
        slide_counts(&ranks, values.len(), slices, slots, |counts| {
            let total = counts.total();
            results.push((total > 0).then(|| f64::from(counts.highest()) / total as f64));
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Floats(self.results)
    }
}
