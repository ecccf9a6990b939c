//! The newest facts of each entity among the facts of one file, as rows: all that tie by event time and known-at.
//! Which of the tied facts is the newest is decided by the lookup, to which these rows are given instead of the file.

use std::cmp::Ordering;

use arrow::{
    array::{Array, ArrayRef},
    compute::interleave,
};

use super::{budget::Budget, fact_chunk::FactChunk};
use crate::error::Result;

/// The columns of this many bytes are held before the rows that are still needed are gathered.
const HELD_BYTES: usize = 32 << 20;
/// No further row.
const NONE: u32 = u32::MAX;

/// Collects the newest facts of each entity. One task has it to itself.
pub(super) struct NewestRows {
    /// Positions of the columns that are kept.
    columns: Vec<usize>,
    /// By entity: event order and known-at of its newest facts, and the first of them in `kept`.
    newest: Vec<Newest>,
    kept: Vec<KeptRow>,
    /// The columns of the batches to which kept rows refer.
    batches: Vec<Vec<ArrayRef>>,
    bytes: usize,
    limit: usize,
    /// Bytes reserved.
    reserved: usize,
}

#[derive(Clone, Copy)]
struct Newest {
    order: i64,
    known: i64,
    first: u32,
}

/// A row, and the next one that ties with it.
#[derive(Clone, Copy)]
struct KeptRow {
    batch: u32,
    row: u32,
    next: u32,
}

/// The newest rows of a task: by entity, with what orders them.
pub(super) struct FoundRows {
    pub(super) columns: Vec<ArrayRef>,
    /// Parallel to the rows.
    pub(super) entities: Vec<u32>,
    times: Vec<(i64, i64)>,
}

impl NewestRows {
    pub(super) fn new(columns: Vec<usize>) -> Self {
        Self { columns, newest: Vec::new(), kept: Vec::new(), batches: Vec::new(), bytes: 0, limit: HELD_BYTES, reserved: 0 }
    }

    /// Adds the facts of a chunk. `entities` is how many entities are known by now.
    pub(super) fn add(&mut self, chunk: &FactChunk, entities: usize, subject: &str, budget: &Budget) -> Result<()> {
        self.newest.resize(entities.max(self.newest.len()), Newest { order: 0, known: 0, first: NONE });
        let (orders, batch) = (chunk.order(), self.batches.len() as u32);
        for (i, &entity) in chunk.entities.iter().enumerate() {
            let (order, known) = (orders[i], chunk.known.as_ref().map_or(0, |known| known[i]));
            let newest = &mut self.newest[entity as usize];
            let against =
                if newest.first == NONE { Ordering::Greater } else { (order, known).cmp(&(newest.order, newest.known)) };
            let row = KeptRow { batch, row: chunk.rows[i], next: NONE };
            match against {
                Ordering::Less => {}
                // The rows that it replaces are no longer reachable, except that the first of them gives its place to it.
                Ordering::Greater if newest.first != NONE => {
                    self.kept[newest.first as usize] = row;
                    (newest.order, newest.known) = (order, known);
                }
                Ordering::Greater | Ordering::Equal => {
                    let next = newest.first;
                    *newest = Newest { order, known, first: self.kept.len() as u32 };
                    self.kept.push(KeptRow { next, ..row });
                }
            }
        }
        let columns: Vec<ArrayRef> = self.columns.iter().map(|&position| chunk.batch.column(position).clone()).collect();
        self.bytes += columns.iter().map(held_bytes).sum::<usize>();
        self.batches.push(columns);
        if self.bytes > self.limit {
            let FoundRows { columns, entities, .. } = self.gathered()?;
            self.bytes = columns.iter().map(held_bytes).sum();
            self.limit = HELD_BYTES.max(2 * self.bytes);
            self.batches = vec![columns];
            self.kept = Vec::with_capacity(entities.len());
            self.newest.iter_mut().for_each(|newest| newest.first = NONE);
            for (row, entity) in (0u32..).zip(entities) {
                let newest = &mut self.newest[entity as usize];
                self.kept.push(KeptRow { batch: 0, row, next: newest.first });
                newest.first = row;
            }
        }
        let held = self.bytes + self.newest.len() * size_of::<Newest>() + self.kept.len() * size_of::<KeptRow>();
        budget.grow(subject, held.saturating_sub(self.reserved))?;
        self.reserved = self.reserved.max(held);
        Ok(())
    }

    /// The rows that are the newest so far, entity by entity.
    pub(super) fn gathered(&self) -> Result<FoundRows> {
        let (mut entities, mut times, mut locations) = (Vec::new(), Vec::new(), Vec::new());
        for (entity, newest) in (0u32..).zip(&self.newest) {
            let mut next = newest.first;
            while let Some(row) = self.kept.get(next as usize) {
                entities.push(entity);
                times.push((newest.order, newest.known));
                locations.push((row.batch as usize, row.row as usize));
                next = row.next;
            }
        }
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in 0..self.columns.len() {
            let parts: Vec<&dyn Array> = self.batches.iter().map(|batch| batch[column].as_ref()).collect();
            columns.push(match parts.is_empty() {
                true => return Ok(FoundRows { columns: Vec::new(), entities, times }),
                false => interleave(&parts, &locations)?,
            });
        }
        Ok(FoundRows { columns, entities, times })
    }
}

impl FoundRows {
    /// The newest rows of several tasks that have read parts of one file; `None` if no task has found any.
    pub(super) fn joined(parts: Vec<FoundRows>) -> Result<Option<FoundRows>> {
        let parts: Vec<FoundRows> = parts.into_iter().filter(|part| !part.entities.is_empty()).collect();
        let entities = parts.iter().flat_map(|part| &part.entities).max().map_or(0, |last| *last as usize + 1);
        let mut newest = vec![(i64::MIN, i64::MIN); entities];
        for part in &parts {
            for (&entity, &times) in part.entities.iter().zip(&part.times) {
                let newest = &mut newest[entity as usize];
                *newest = times.max(*newest);
            }
        }
        let (mut entities, mut times, mut locations) = (Vec::new(), Vec::new(), Vec::new());
        for (number, part) in parts.iter().enumerate() {
            for (row, (&entity, &own)) in part.entities.iter().zip(&part.times).enumerate() {
                if newest[entity as usize] == own {
                    entities.push(entity);
                    times.push(own);
                    locations.push((number, row));
                }
            }
        }
        let Some(first) = parts.first() else { return Ok(None) };
        let column = |column: usize| {
            let parts: Vec<&dyn Array> = parts.iter().map(|part| part.columns[column].as_ref()).collect();
            interleave(&parts, &locations)
        };
        let columns = (0..first.columns.len()).map(column).collect::<std::result::Result<_, _>>()?;
        Ok(Some(FoundRows { columns, entities, times }))
    }
}

/// About the bytes that a column holds.
fn held_bytes(column: &ArrayRef) -> usize {
    column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use arrow::{
        array::{AsArray, Int64Array, RecordBatch},
        datatypes::Int64Type,
    };
    use datafusion::{physical_plan::metrics::Gauge, prelude::SessionContext};

    use super::*;

    fn chunk(facts: &[(u32, i64, i64, i64)]) -> FactChunk {
        let values: ArrayRef = Arc::new(facts.iter().map(|fact| fact.3).collect::<Int64Array>());
        FactChunk {
            batch: RecordBatch::try_from_iter([("unused", values.clone()), ("value", values)]).unwrap(),
            rows: (0..facts.len() as u32).collect(),
            entities: facts.iter().map(|fact| fact.0).collect(),
            visible_from: vec![0; facts.len()],
            event: facts.iter().map(|fact| fact.1).collect(),
            order: None,
            known: Some(facts.iter().map(|fact| fact.2).collect()),
            visible_until: None,
            recency: None,
        }
    }

    /// Against a sort of all facts; with a limit at which rows are gathered after every chunk, and without.
    #[test]
    fn the_rows_are_all_that_tie_for_the_newest() {
        let context = SessionContext::new().task_ctx();
        let budget = Budget::new("test", &context, Gauge::new());
        let mut state = 7u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for limit in [0, HELD_BYTES] {
            let facts: Vec<(u32, i64, i64, i64)> =
                (0..600).map(|i| (random(40) as u32, random(5) as i64, random(3) as i64, i)).collect();
            let (mut one, mut parts) = (NewestRows::new(vec![1]), Vec::new());
            one.limit = limit;
            for piece in facts.chunks(50) {
                one.add(&chunk(piece), 40, "facts", &budget).unwrap();
                let mut own = NewestRows::new(vec![1]);
                own.add(&chunk(piece), 40, "facts", &budget).unwrap();
                parts.push(own.gathered().unwrap());
                one.limit = limit;
            }
            let mut expected: BTreeMap<u32, (i64, i64, Vec<i64>)> = BTreeMap::new();
            for &(entity, event, known, value) in &facts {
                let newest = expected.entry(entity).or_insert((event, known, Vec::new()));
                if (event, known) > (newest.0, newest.1) {
                    *newest = (event, known, Vec::new());
                }
                if (event, known) == (newest.0, newest.1) {
                    newest.2.push(value);
                }
            }
            for found in [one.gathered().unwrap(), FoundRows::joined(parts).unwrap().unwrap()] {
                let mut by_entity: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
                for (entity, value) in found.entities.iter().zip(found.columns[0].as_primitive::<Int64Type>().values()) {
                    by_entity.entry(*entity).or_default().push(*value);
                }
                by_entity.values_mut().for_each(|values| values.sort_unstable());
                let expected: BTreeMap<u32, Vec<i64>> =
                    expected.iter().map(|(entity, newest)| (*entity, newest.2.clone())).collect();
                assert_eq!(by_entity, expected, "{limit}");
            }
        }
        assert!(FoundRows::joined(vec![NewestRows::new(vec![1]).gathered().unwrap()]).unwrap().is_none());
    }
}
