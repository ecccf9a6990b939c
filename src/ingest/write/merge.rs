//! Merges sorted runs. A run is opened when its first row is due, so that runs of other months take no memory.

use std::{cmp::Reverse, collections::BinaryHeap, fs::File, io::BufReader};

use arrow::{array::RecordBatch, ipc::reader::StreamReader};

use super::runs::{Picked, Run, SortColumns, SortKey};
use crate::error::Result;

/// The largest number of runs that overlap at one key.
pub(super) fn depth(runs: &[Run]) -> usize {
    let mut ends: Vec<(SortKey, bool)> = runs.iter().flat_map(|run| [(run.first, false), (run.last, true)]).collect();
    // At equal keys a beginning comes before an end, because both runs are open there.
    ends.sort_unstable();
    let (mut open, mut most) = (0_usize, 0);
    for (_, is_end) in ends {
        open = if is_end { open.saturating_sub(1) } else { open + 1 };
        most = most.max(open);
    }
    most
}

/// A position in an open run.
struct RunCursor {
    batches: StreamReader<BufReader<File>>,
    batch: RecordBatch,
    keys: Vec<SortKey>,
    at: usize,
    /// The number of the batch in `Picked`, and the number of the result for which it is valid.
    number: Option<(usize, u64)>,
}

impl RunCursor {
    fn open(sort_columns: &SortColumns, run: Run) -> Result<Option<Self>> {
        let batches = run.open()?;
        let batch = RecordBatch::new_empty(batches.schema());
        let mut this = Self { batches, batch, keys: Vec::new(), at: 0, number: None };
        Ok(this.advance(sort_columns, 0)?.map(|_| this))
    }

    /// Skips this number of rows. Returns the key of the next row; `None` at the end.
    fn advance(&mut self, sort_columns: &SortColumns, count: usize) -> Result<Option<SortKey>> {
        self.at += count;
        while self.at >= self.keys.len() {
            let Some(batch) = self.batches.next().transpose()? else { return Ok(None) };
            (self.keys, self.batch, self.at, self.number) = (sort_columns.keys(&batch), batch, 0, None);
        }
        Ok(self.keys.get(self.at).copied())
    }

    /// The number of rows from here on that come before this key, at least one.
    fn count_before(&self, next: Option<SortKey>) -> usize {
        let left = self.keys.get(self.at..).unwrap_or_default();
        let Some(next) = next else { return left.len() };
        match left.get(1) {
            Some(second) if *second < next => left.partition_point(|key| *key < next),
            _ => 1,
        }
    }
}

/// Passes the rows of all runs to `emit` in their order, until `emit` returns false.
pub(super) fn merge(sort_columns: &SortColumns, runs: Vec<Run>, mut emit: impl FnMut(RecordBatch) -> Result<bool>) -> Result<()> {
    let mut due: BinaryHeap<Reverse<(SortKey, usize)>> =
        runs.iter().enumerate().map(|(number, run)| Reverse((run.first, number))).collect();
    let mut closed: Vec<Option<Run>> = runs.into_iter().map(Some).collect();
    let mut open: Vec<Option<RunCursor>> = closed.iter().map(|_| None).collect();
    let mut picked = Picked::new(sort_columns, Vec::new());
    let mut taken = 0;
    while let Some(Reverse((_, number))) = due.pop() {
        if let Some(run) = closed.get_mut(number).and_then(Option::take) {
            open[number] = RunCursor::open(sort_columns, run)?;
        }
        let Some(cursor) = &mut open[number] else { continue };
        let count = cursor.count_before(due.peek().map(|Reverse((key, _))| *key));
        for row in cursor.at..cursor.at + count {
            let batch = match cursor.number {
                Some((batch, result)) if result == taken => batch,
                _ => picked.add(cursor.batch.clone()),
            };
            cursor.number = Some((batch, taken));
            if picked.pick(batch, row) {
                if let Some(rows) = picked.take()?
                    && !emit(rows)?
                {
                    return Ok(());
                }
                picked.forget();
                taken += 1;
            }
        }
        match cursor.advance(sort_columns, count)? {
            Some(key) => due.push(Reverse((key, number))),
            None => open[number] = None,
        }
    }
    if let Some(rows) = picked.take()? {
        emit(rows)?;
    }
    Ok(())
}
