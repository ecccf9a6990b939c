//! How many different values.

use std::ops::Range;

use arrow::datatypes::DataType;

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    entity_slices::{EntitySlices, Step},
    require_order,
    result_columns::ResultColumn,
    slider::{OutputStates, Slider},
    state::StateKind,
    value_log::ValueLogs,
};
use crate::{
    error::Result,
    numeric::{canonical, float_key, key_float},
    temporal::sort_keys::Encoding,
};

impl Aggregate {
    /// How many different values. All NaN are one value, and so are both zeros.
    pub fn count_distinct(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::CountDistinct, "count_distinct", over.into())
    }
}

pub(super) struct CountDistinctFunction;

impl AggregateFunction for CountDistinctFunction {
    fn result_type(&self, input: &DataType) -> Result<DataType, &'static str> {
        require_order(input)?;
        Ok(DataType::Int64)
    }

    fn state(&self, _: Encoding) -> StateKind {
        StateKind::Values
    }

    fn is_count(&self) -> bool {
        true
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        Ok(Box::new(DistinctSlider { logs: ValueLogs::new(&states)?, results: Vec::with_capacity(slots) }))
    }
}

struct DistinctSlider<'a> {
    logs: ValueLogs<'a>,
    results: Vec<i64>,
}

impl Slider for DistinctSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { logs, results } = self;
        let (ranks, values) = logs.rank(slices, distinct);
        let mut counts = vec![0u32; values.len()];
        let mut different = 0i64;
        slices.slide(slots, |step| match step {
            Step::Enter(i) => {
                for &rank in ranks.of_slice(i) {
                    different += i64::from(counts[rank as usize] == 0);
                    counts[rank as usize] += 1;
                }
            }
            Step::Leave(i) => {
                for &rank in ranks.of_slice(i) {
                    counts[rank as usize] -= 1;
                    different -= i64::from(counts[rank as usize] == 0);
                }
            }
            Step::Slot(_) => results.push(different),
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Counts(self.results)
    }
}

/// One key for both zeros, that of 0.0.
pub(super) fn distinct(encoding: Encoding, key: u64) -> u64 {
    if encoding == Encoding::Float { float_key(canonical(key_float(key))) } else { key }
}
