//! Which facts of one partition pass; see `prune_facts`.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::{filter_record_batch, take_record_batch},
    datatypes::DataType,
};
use serde::{Deserialize, Serialize};

use super::{
    budget::Budget, execution::IndexedSpine, fact_chunk::FactChunk, fact_input::PhysicalFactInput,
    resolve_versions::replaced_ticks, time_decoder::Direction,
};
use crate::error::{Error, Result};

/// Facts that have lost are dropped once there are this many of them beyond twice the winners.
const SLACK_ROWS: usize = 1 << 18;

/// Which facts an operator may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Needed {
    /// Only the newest fact that a row sees.
    pub(super) newest: bool,
    /// None that lies longer than this before the row.
    pub(super) look_back_us: Option<i64>,
}

/// An indexed spine, and the memory that it takes.
pub(super) struct Indexed {
    pub(super) spine: IndexedSpine,
    _budget: Budget,
}

impl Indexed {
    pub(super) fn new(spine: IndexedSpine, budget: Budget) -> Self {
        Self { spine, _budget: budget }
    }
}

/// Is there no memory for it?
pub(super) fn is_refused(grown: Result<()>) -> Result<bool> {
    match grown {
        Ok(()) => Ok(false),
        Err(Error::Memory { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Prunes the facts of one partition.
pub(super) struct Pruner {
    pub(super) input: Arc<PhysicalFactInput<()>>,
    indexed: Arc<Indexed>,
    /// In ticks.
    look_back: Option<i64>,
    /// The slot of an entity's previous fact, by the lower bits of the entity's number. The search for a slot begins there.
    hints: Vec<u32>,
    newest: Option<Newest>,
    /// What can be given out.
    pub(super) passed: VecDeque<RecordBatch>,
    budget: Budget,
}

/// The times of the newest fact of each slot, and the facts that have not lost yet.
struct Newest {
    /// By slot: event time and known-at, both as order numbers.
    times: Vec<(i64, i64)>,
    /// How many slots have a fact.
    occupied: usize,
    held: Vec<Held>,
    rows: usize,
    bytes: usize,
}

/// Facts, with their slots and times.
struct Held {
    batch: RecordBatch,
    slots: Vec<u32>,
    times: Vec<(i64, i64)>,
}

/// The times of a slot without a fact.
const NO_FACT: (i64, i64) = (i64::MIN, i64::MIN);

impl Pruner {
    pub(super) fn new(input: Arc<PhysicalFactInput<()>>, indexed: Arc<Indexed>, needed: Needed, budget: Budget) -> Self {
        let unit = input.spine_decoder.unit;
        // A microsecond more, since finer times are rounded.
        let is_backward = input.logical.direction == Direction::Backward;
        let look_back = needed.look_back_us.filter(|_| is_backward).and_then(|us| unit.length(us)?.checked_add(unit.ticks(1)));
        let index = &indexed.spine.index;
        let hints = vec![0; index.hint_table_len()];
        // Without memory for the times, facts are not compared.
        let compares = needed.newest && input.identity.is_empty();
        let newest = (compares && budget.grow("the newest facts", index.len() * size_of::<(i64, i64)>()).is_ok()).then(|| {
            let times = vec![NO_FACT; index.len()];
            Newest { times, occupied: 0, held: Vec::new(), rows: 0, bytes: 0 }
        });
        Self { input, indexed, look_back, hints, newest, passed: VecDeque::new(), budget }
    }

    pub(super) fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let chunk = self.input.chunk(&self.indexed.spine.keys, batch, false)?;
        let seen = self.seen(&chunk);
        let Some(newest) = &mut self.newest else {
            if !seen.is_empty() {
                let rows: UInt32Array = seen.iter().map(|&(_, i)| chunk.rows[i as usize]).collect::<Vec<_>>().into();
                self.passed.push_back(take_record_batch(&chunk.batch, &rows)?);
            }
            return Ok(());
        };
        let Some(held) = newest.of_chunk(&chunk, seen)? else { return Ok(()) };
        let bytes = held.bytes();
        newest.rows += held.slots.len();
        newest.bytes += bytes;
        newest.held.push(held);
        let is_full = is_refused(self.budget.grow("the newest facts", bytes))?;
        if is_full {
            newest.bytes -= bytes;
        }
        if is_full || newest.rows > 2 * newest.occupied + SLACK_ROWS {
            let before = newest.bytes;
            newest.drop_losers()?;
            self.budget.shrink(before);
            // Where dropping does not help, as with many facts of the same times, they are given out now: that is never wrong.
            let still = is_refused(self.budget.grow("the newest facts", newest.bytes))?;
            if still || newest.rows > newest.occupied + SLACK_ROWS / 2 {
                if !still {
                    self.budget.shrink(newest.bytes);
                }
                self.passed.extend(newest.take());
            }
        }
        Ok(())
    }

    /// All facts have been read.
    pub(super) fn pass_all(&mut self) -> Result<()> {
        if let Some(newest) = &mut self.newest {
            let before = newest.bytes;
            newest.drop_losers()?;
            self.passed.extend(newest.take());
            self.budget.shrink(before);
        }
        Ok(())
    }

    /// The facts of a chunk that some slot sees: the first of these slots, and the position of the fact.
    fn seen(&mut self, chunk: &FactChunk) -> Vec<(u32, u32)> {
        let index = &self.indexed.spine.index;
        let mask = self.hints.len() - 1;
        let replaced_from = self.input.replaced_from.filter(|_| self.input.logical.direction == Direction::Backward);
        let replaced = replaced_from.map(|position| replaced_ticks(std::slice::from_ref(chunk), position));
        let mut seen = Vec::with_capacity(chunk.rows.len());
        let (mut entity, mut slot) = (u32::MAX, 0);
        for i in 0..chunk.rows.len() {
            let run = index.slots_of(chunk.entities[i]);
            let remembered = chunk.entities[i] as usize & mask;
            let hint = if chunk.entities[i] == entity { slot } else { self.hints[remembered] };
            entity = chunk.entities[i];
            slot = index.first_from(&run, chunk.visible_from[i], hint);
            self.hints[remembered] = slot;
            if slot == run.end {
                continue;
            }
            let instant = index.instant(slot as usize);
            let is_too_old = self.look_back.is_some_and(|back| chunk.event[i] < instant.saturating_sub(back));
            let is_replaced = replaced.as_ref().and_then(|replaced| replaced[i]).is_some_and(|replaced| replaced <= instant);
            if !is_too_old && !is_replaced {
                seen.push((slot, i as u32));
            }
        }
        seen
    }
}

impl Newest {
    /// The facts of a chunk that have not lost.
    fn of_chunk(&mut self, chunk: &FactChunk, seen: Vec<(u32, u32)>) -> Result<Option<Held>> {
        let known = chunk.known.as_deref();
        let times_of = |i: u32| (chunk.order()[i as usize], known.map_or(0, |known| known[i as usize]));
        for &(slot, i) in &seen {
            let newest = &mut self.times[slot as usize];
            if *newest == NO_FACT {
                self.occupied += 1;
            }
            *newest = times_of(i).max(*newest);
        }
        let mut held = Held { batch: RecordBatch::new_empty(chunk.batch.schema()), slots: Vec::new(), times: Vec::new() };
        let mut rows = Vec::new();
        for (slot, i) in seen {
            if times_of(i) == self.times[slot as usize] {
                rows.push(chunk.rows[i as usize]);
                held.slots.push(slot);
                held.times.push(times_of(i));
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        held.batch = compacted(&take_record_batch(&chunk.batch, &UInt32Array::from(rows))?)?;
        Ok(Some(held))
    }

    /// Drops the facts that are not the newest of their slot any more.
    fn drop_losers(&mut self) -> Result<()> {
        (self.rows, self.bytes) = (0, 0);
        for mut held in std::mem::take(&mut self.held) {
            let wins: Vec<bool> =
                held.slots.iter().zip(&held.times).map(|(&slot, times)| *times == self.times[slot as usize]).collect();
            if wins.contains(&false) {
                let mut next = wins.iter();
                held.slots.retain(|_| next.next().copied().unwrap_or(true));
                let mut next = wins.iter();
                held.times.retain(|_| next.next().copied().unwrap_or(true));
                held.batch = compacted(&filter_record_batch(&held.batch, &BooleanArray::from(wins))?)?;
            }
            if !held.slots.is_empty() {
                self.rows += held.slots.len();
                self.bytes += held.bytes();
                self.held.push(held);
            }
        }
        Ok(())
    }

    /// The facts that are held.
    fn take(&mut self) -> impl Iterator<Item = RecordBatch> + use<> {
        (self.rows, self.bytes) = (0, 0);
        std::mem::take(&mut self.held).into_iter().map(|held| held.batch)
    }
}

impl Held {
    fn bytes(&self) -> usize {
        self.batch.get_array_memory_size() + self.slots.len() * (size_of::<u32>() + size_of::<(i64, i64)>())
    }
}

/// The batch without the texts of rows that are no longer in it.
fn compacted(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => column.clone(),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)?)
}
