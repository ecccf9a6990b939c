//! The order of facts within an entity, from the oldest to the newest, as `first`, `last` and their lists need it.
//! It is total: event time, known-at, tie-break columns, and last the value itself.

use std::cmp::Ordering;

use arrow::buffer::{NullBuffer, ScalarBuffer};

use crate::temporal::{
    fact_chunk::FactChunk,
    sort_keys::{Encoding, ValueDictionary},
};

/// A value, and what orders its fact among others.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::temporal) struct DatedValue {
    pub(super) event: i64,
    pub(super) known: i64,
    /// The number of the fact in the [`TieBreaks`] of its accumulator.
    pub(super) tie: u32,
    pub(super) value: u64,
}

/// The tie-breaks of the facts of one accumulator.
pub(in crate::temporal) struct TieBreaks {
    values: Vec<Option<u64>>,
    per_fact: usize,
}

impl TieBreaks {
    /// Those of tables with so many tie-break columns.
    pub(in crate::temporal) fn new(per_fact: usize) -> Self {
        Self { values: Vec::new(), per_fact }
    }

    /// Adds the facts of a chunk. Returns the number of the first of them.
    pub(in crate::temporal) fn add(&mut self, chunk: &FactChunk, columns: &[(ScalarBuffer<u64>, Option<NullBuffer>)]) -> u32 {
        let first = self.next();
        if self.per_fact > 0 {
            for &row in &chunk.rows {
                let tie = |(values, nulls): &(ScalarBuffer<u64>, Option<NullBuffer>)| {
                    let is_null = nulls.as_ref().is_some_and(|n| n.is_null(row as usize));
                    (!is_null).then(|| values[row as usize])
                };
                self.values.extend(columns.iter().map(tie));
            }
        }
        first
    }

    /// The number of the fact that is added next.
    fn next(&self) -> u32 {
        (self.values.len() / self.per_fact.max(1)) as u32
    }

    /// Adds a fact. Returns its number.
    pub(super) fn push(&mut self, ties: impl Iterator<Item = Option<u64>>) -> u32 {
        let first = self.next();
        self.values.extend(ties.take(self.per_fact));
        first
    }

    /// How many tie-break columns there are.
    pub(super) fn per_fact(&self) -> usize {
        self.per_fact
    }

    /// The tie-breaks of a fact.
    pub(super) fn of(&self, dated: &DatedValue) -> &[Option<u64>] {
        let first = self.values.get(dated.tie as usize * self.per_fact..);
        first.and_then(|ties| ties.get(..self.per_fact)).unwrap_or(&[])
    }

    /// Bytes held.
    pub(in crate::temporal) fn bytes(&self) -> usize {
        self.values.capacity() * 16
    }
}

/// How the facts of an input are compared.
#[derive(Clone, Copy)]
pub(in crate::temporal) struct FactOrder<'a> {
    /// Of the values.
    pub(in crate::temporal) encoding: Encoding,
    pub(in crate::temporal) dictionary: &'a ValueDictionary,
    /// Of the column that decides which value counts, if there is one.
    pub(in crate::temporal) by: Option<(Encoding, &'a ValueDictionary)>,
    /// Of each tie-break column.
    pub(in crate::temporal) ties: &'a [(Encoding, &'a ValueDictionary)],
}

impl FactOrder<'_> {
    /// By the keys of the column that decides which value counts.
    pub(super) fn compare_by(&self, a: u64, b: u64) -> Ordering {
        self.by.map_or(Ordering::Equal, |(encoding, dictionary)| dictionary.compare(encoding, a, b))
    }

    /// By event time, known-at, tie-breaks and value. A NULL tie-break is the smallest.
    pub(super) fn compare(&self, (a, ties_a): (&DatedValue, &TieBreaks), (b, ties_b): (&DatedValue, &TieBreaks)) -> Ordering {
        let by_times = (a.event, a.known).cmp(&(b.event, b.known));
        if by_times.is_ne() {
            return by_times;
        }
        for ((x, y), (encoding, dictionary)) in ties_a.of(a).iter().zip(ties_b.of(b)).zip(self.ties) {
            let order = match (x, y) {
                (Some(x), Some(y)) => dictionary.compare(*encoding, *x, *y),
                _ => x.is_some().cmp(&y.is_some()),
            };
            if order.is_ne() {
                return order;
            }
        }
        self.dictionary.compare(self.encoding, a.value, b.value)
    }
}
