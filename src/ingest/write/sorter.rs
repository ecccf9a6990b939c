//! An external merge sort: runs that fit into the engine's memory are sorted and spilled, then merged.
//! The order of the rows and the batches that they come in are the same however much memory there was.

use arrow::array::RecordBatch;
use datafusion::execution::memory_pool::MemoryReservation;

use super::{
    merge::{depth, merge},
    runs::{Picked, Run, RunWriter, SortColumns},
};
use crate::error::Result;

/// The most runs that are merged at once.
const FAN_IN: usize = 48;

/// Sorts rows that come in any order.
pub(super) struct Sorter {
    sort_columns: SortColumns,
    memory: MemoryReservation,
    batches: Vec<RecordBatch>,
    runs: Vec<Run>,
}

/// Bytes that sorting needs for each row in addition to the row.
const ORDER_BYTES: usize = size_of::<u128>() + size_of::<(u32, u32)>();

impl Sorter {
    pub(super) fn new(sort_columns: SortColumns, memory: MemoryReservation) -> Self {
        Self { sort_columns, memory, batches: Vec::new(), runs: Vec::new() }
    }

    pub(super) fn add(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let bytes = batch.get_array_memory_size() + batch.num_rows() * ORDER_BYTES;
        if self.memory.try_grow(bytes).is_err() {
            self.spill()?;
            // One batch must be held in any case.
            self.memory.grow(bytes);
        }
        self.batches.push(batch);
        Ok(())
    }

    /// Passes the rows to `emit` in their order, until `emit` returns false.
    pub(super) fn finish(mut self, mut emit: impl FnMut(RecordBatch) -> Result<bool>) -> Result<()> {
        if self.runs.is_empty() {
            let batches = std::mem::take(&mut self.batches);
            return self.in_order(batches, emit);
        }
        self.spill()?;
        let Self { sort_columns, mut runs, .. } = self;
        while depth(&runs) > FAN_IN {
            // The runs that begin first overlap.
            runs.sort_by_key(|run| run.first);
            let later = runs.split_off(FAN_IN);
            let mut merged = RunWriter::new(&sort_columns)?;
            merge(&sort_columns, runs, |batch| merged.write(&batch).map(|()| true))?;
            runs = later;
            runs.extend(merged.finish()?);
        }
        merge(&sort_columns, runs, &mut emit)
    }

    /// Passes the rows of these batches to `emit` in their order.
    fn in_order(&self, batches: Vec<RecordBatch>, mut emit: impl FnMut(RecordBatch) -> Result<bool>) -> Result<()> {
        let order = self.sort_columns.order(&batches);
        let mut picked = Picked::new(&self.sort_columns, batches);
        for (batch, row) in order {
            if picked.pick(batch as usize, row as usize)
                && let Some(rows) = picked.take()?
                && !emit(rows)?
            {
                return Ok(());
            }
        }
        if let Some(rows) = picked.take()? {
            emit(rows)?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        if !batches.is_empty() {
            let mut run = RunWriter::new(&self.sort_columns)?;
            self.in_order(batches, |rows| run.write(&rows).map(|()| true))?;
            let run = run.finish()?;
            self.runs.extend(run);
        }
        self.memory.free();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray},
        compute::concat_batches,
        datatypes::{DataType, Field, Int64Type, Schema, TimeUnit as ArrowUnit},
    };
    use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryPool};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        catalog::{FactTable, KnownAt},
        ingest::{target::Target, write::runs::CHUNK_BYTES},
    };

    fn target() -> Target {
        let at = DataType::Timestamp(ArrowUnit::Microsecond, Some("UTC".into()));
        let columns = [("at", at), ("n", DataType::Int64), ("note", DataType::Utf8)];
        let schema = Schema::new(columns.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec());
        Target::new(&FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero())), Arc::new(schema)).unwrap()
    }

    /// Rows of these hours since 1970; a note is as long as its hour says.
    fn batch(target: &Target, hours: &[i64], first_line: u64) -> RecordBatch {
        let lines: Vec<u64> = (first_line..first_line + hours.len() as u64).collect();
        let at = TimestampMicrosecondArray::from_iter_values(hours.iter().map(|h| h * 3_600_000_000)).with_timezone("UTC");
        let n = Int64Array::from_iter_values(lines.iter().map(|line| *line as i64));
        let notes = StringArray::from_iter_values(hours.iter().map(|h| "x".repeat((h % 50) as usize)));
        target.batch(0, &lines, vec![Arc::new(at), Arc::new(n), Arc::new(notes)]).unwrap()
    }

    fn sorted(target: &Target, batches: &[RecordBatch], memory_bytes: usize) -> Vec<RecordBatch> {
        let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(memory_bytes));
        let memory = MemoryConsumer::new("test").with_can_spill(true).register(&pool);
        let mut sorter = Sorter::new(SortColumns::new(target, "at", 7).unwrap(), memory);
        batches.iter().for_each(|batch| sorter.add(batch.clone()).unwrap());
        let mut found = Vec::new();
        sorter
            .finish(|rows| {
                found.push(rows);
                Ok(true)
            })
            .unwrap();
        assert_eq!(pool.reserved(), 0);
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn rows_come_in_their_order_and_in_the_same_batches_whatever_memory_there_is(
            hours in prop::collection::vec(prop::collection::vec(0..3_000_i64, 1..30), 1..120),
        ) {
            let target = target();
            let mut line = 1;
            let batches: Vec<_> = hours.iter().map(|hours| {
                let batch = batch(&target, hours, line);
                line += hours.len() as u64;
                batch
            }).collect();
            let mut expected: Vec<(i64, i64)> = hours.iter().flatten().copied().zip(1..).collect();
            expected.sort_unstable();
            let whole = sorted(&target, &batches, usize::MAX);
            let all = concat_batches(&target.sorted, &whole).unwrap();
            let lines: Vec<i64> = all.column(1).as_primitive::<Int64Type>().values().to_vec();
            prop_assert_eq!(lines, expected.iter().map(|(_, line)| *line).collect::<Vec<_>>());
            prop_assert!(whole.iter().all(|rows| rows.num_rows() <= 7));
            // A run for each batch, more than are merged at once, and a few runs.
            for memory_bytes in [1, 40_000] {
                prop_assert_eq!(&sorted(&target, &batches, memory_bytes), &whole);
            }
        }
    }

    #[test]
    fn wide_rows_make_smaller_batches() {
        let target = target();
        let rows = batch(&target, &[49; 4], 1);
        let notes: ArrayRef = Arc::new(StringArray::from_iter_values((0..4).map(|_| "y".repeat(CHUNK_BYTES / 2))));
        let rows = target.batch(0, &[1, 2, 3, 4], vec![rows.column(0).clone(), rows.column(1).clone(), notes]).unwrap();
        let counts: Vec<usize> = sorted(&target, &[rows], 1).iter().map(RecordBatch::num_rows).collect();
        assert_eq!(counts, [2, 2]);
    }
}
