//! The results of a window question, slot by slot, while they are made, and as Arrow arrays when they are.
//! It computes nothing.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, ListArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::DataType,
};

use super::{
    aggregate::Kind,
    lanes::{Lane, Texts, values},
    window::{is_list, item_of},
};
use crate::error::Result;

/// One output of a question.
pub(super) struct Output {
    pub(super) kind: Kind,
    pub(super) span: usize,
    pub(super) gather: usize,
    pub(super) input: Option<usize>,
    pub(super) data_type: DataType,
}

/// Results by slot, while they are made.
pub(super) enum Column {
    Counts(Vec<i64>),
    Numbers(Nullable<f64>),
    Values(Nullable<u64>),
    Lists { ends: Vec<i32>, valid: Vec<bool>, items: Vec<u64> },
}

/// Values side by side, zero where there is none: half of what optional values take.
pub(super) struct Nullable<T> {
    values: Vec<T>,
    valid: Vec<bool>,
}

impl<T: Default> Nullable<T> {
    fn with_capacity(count: usize) -> Self {
        Self { values: Vec::with_capacity(count), valid: Vec::with_capacity(count) }
    }

    pub(super) fn push(&mut self, value: Option<T>) {
        self.valid.push(value.is_some());
        self.values.push(value.unwrap_or_default());
    }

    fn append(&mut self, part: Self) {
        self.values.extend(part.values);
        self.valid.extend(part.valid);
    }
}

impl Column {
    pub(super) fn new(output: &Output, slots: usize) -> Self {
        match output.kind {
            Kind::Count | Kind::CountDistinct => Column::Counts(Vec::with_capacity(slots)),
            Kind::Sum | Kind::Mean | Kind::Variance | Kind::Stddev | Kind::Quantile(_) => {
                Column::Numbers(Nullable::with_capacity(slots))
            }
            kind if is_list(kind) => Column::Lists { ends: Vec::new(), valid: Vec::new(), items: Vec::new() },
            _ => Column::Values(Nullable::with_capacity(slots)),
        }
    }

    pub(super) fn append(&mut self, part: Column) {
        match (self, part) {
            (Column::Counts(all), Column::Counts(part)) => all.extend(part),
            (Column::Numbers(all), Column::Numbers(part)) => all.append(part),
            (Column::Values(all), Column::Values(part)) => all.append(part),
            (Column::Lists { ends, valid, items }, Column::Lists { ends: e, valid: v, items: i }) => {
                let first = items.len() as i32;
                ends.extend(e.into_iter().map(|end| end + first));
                valid.extend(v);
                items.extend(i);
            }
            _ => {}
        }
    }

    /// What a slot gets that sees no fact.
    pub(super) fn push_nothing(&mut self) {
        match self {
            Column::Counts(counts) => counts.push(0),
            Column::Numbers(numbers) => numbers.push(None),
            Column::Values(values) => values.push(None),
            Column::Lists { ends, valid, items } => {
                ends.push(items.len() as i32);
                valid.push(false);
            }
        }
    }

    pub(super) fn into_array(self, lane: Lane, data_type: &DataType, texts: &Texts) -> Result<ArrayRef> {
        Ok(match self {
            Column::Counts(counts) => Arc::new(Int64Array::from(counts)),
            Column::Numbers(numbers) => Arc::new(Float64Array::new(numbers.values.into(), Some(numbers.valid.into()))),
            Column::Values(found) => values(lane, data_type, &found.values, Some(found.valid.into()), texts)?,
            Column::Lists { ends, valid, items } => {
                let item = item_of(data_type);
                let items = values(lane, item.data_type(), &items, None, texts)?;
                let offsets = OffsetBuffer::new(std::iter::once(0).chain(ends).collect());
                Arc::new(ListArray::try_new(item, offsets, items, Some(NullBuffer::from(valid)))?)
            }
        })
    }
}
