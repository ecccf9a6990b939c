//! The result of a query: the batches of the spine with the columns that the operators add.
//! It computes no values; it puts columns side by side and cuts batches that would be too long.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::SchemaRef,
};
use datafusion::{
    common::{Result as DfResult, utils::memory::RecordBatchMemoryCounter},
    physical_plan::metrics::BaselineMetrics,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::{
    budget::Budget,
    operator::{OperatorOutput, is_too_long},
    tasks::blocking,
};
use crate::error::{Error, Result};

/// The added columns of one fact table.
pub(super) enum TableOutput {
    /// By slot, with the slot of each row of the spine.
    BySlot(Arc<Vec<u32>>, Arc<dyn OperatorOutput>),
    /// By row: for each batch of the spine, the number of its first row and the columns. They are removed as the rows are read.
    ByRow(Mutex<BTreeMap<usize, Vec<ArrayRef>>>),
}

impl TableOutput {
    /// The columns of some rows of one batch of the spine.
    fn columns(&self, rows: &Range<usize>) -> Result<Vec<ArrayRef>> {
        match self {
            TableOutput::BySlot(slot_of_row, output) => output.columns(&slot_of_row[rows.clone()]),
            TableOutput::ByRow(batches) => {
                let batches = batches.lock().unwrap_or_else(PoisonError::into_inner);
                let Some((&first, columns)) = batches.range(..=rows.start).next_back() else { return Ok(Vec::new()) };
                Ok(columns.iter().map(|column| column.slice(rows.start - first, rows.len())).collect())
            }
        }
    }

    /// Frees the columns of a batch once its last rows have been read.
    fn release(&self, rows: &Range<usize>) {
        if let TableOutput::ByRow(batches) = self {
            let mut batches = batches.lock().unwrap_or_else(PoisonError::into_inner);
            let batch = batches.range(..=rows.start).next_back();
            if let Some((&first, columns)) = batch
                && columns.first().is_none_or(|column| first + column.len() == rows.end)
            {
                batches.remove(&first);
            }
        }
    }
}

/// The spine joined with the added columns of all fact tables.
struct JoinedOutput {
    schema: SchemaRef,
    tables: Vec<TableOutput>,
}

/// Rows of the spine, and their numbers.
type SpineRows = (RecordBatch, Range<usize>);

impl JoinedOutput {
    /// A batch of the first of these rows, as many as fit, and the rows that are left, in reverse order. Usually all rows fit:
    /// only texts and lists can be too long for one batch.
    fn first(&self, batch: RecordBatch, rows: Range<usize>) -> Result<(RecordBatch, Vec<SpineRows>)> {
        let (mut taken, mut left) = ((batch, rows), Vec::new());
        loop {
            let (batch, rows) = &taken;
            let columns = self.tables.iter().map(|table| table.columns(rows));
            match columns.collect::<Result<Vec<_>>>() {
                Ok(columns) => {
                    self.tables.iter().for_each(|table| table.release(rows));
                    let all = batch.columns().iter().cloned().chain(columns.into_iter().flatten()).collect();
                    return Ok((RecordBatch::try_new(self.schema.clone(), all)?, left));
                }
                Err(error) if rows.len() > 1 && is_too_long(&error) => {
                    let half = rows.len() / 2;
                    let second = (batch.slice(half, rows.len() - half), rows.start + half..rows.end);
                    let first = (batch.slice(0, half), rows.start..rows.start + half);
                    left.push(second);
                    taken = first;
                }
                Err(error) if is_too_long(&error) => {
                    let reason = "has texts and lists that are too long for one batch; select fewer or shorter values";
                    return Err(Error::Limit { subject: "one row of the result".into(), reason: reason.into() });
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The batches of the result, in the order of the spine. Up to `tasks` of them are made at once.
pub(super) fn joined_batches(
    spine: Vec<RecordBatch>,
    tables: Vec<TableOutput>,
    schema: SchemaRef,
    tasks: usize,
    budget: Arc<Budget>,
    metrics: BaselineMetrics,
) -> impl Stream<Item = DfResult<RecordBatch>> {
    let mut first = 0;
    let mut pieces: Vec<_> = spine
        .into_iter()
        .map(|batch| {
            let rows = first..first + batch.num_rows();
            first = rows.end;
            (batch, rows, 0)
        })
        .collect();
    // Memory that several batches share is released with the last of them.
    let mut counter = RecordBatchMemoryCounter::new();
    for (batch, _, bytes) in pieces.iter_mut().rev() {
        *bytes = counter.count_batch(batch);
    }
    let joined = Arc::new(JoinedOutput { schema, tables });
    let rest = joined.clone();
    stream::iter(pieces)
        .map(move |(batch, rows, bytes)| {
            let joined = joined.clone();
            async move { Ok::<_, Error>((blocking(move || joined.first(batch, rows)).await?, bytes)) }
        })
        .buffered(tasks)
        .map_ok(move |((made, left), bytes)| {
            budget.shrink(bytes);
            let others = stream::try_unfold((rest.clone(), left), |(joined, mut left)| async move {
                let Some((batch, rows)) = left.pop() else { return Ok(None) };
                let own = joined.clone();
                let (made, more) = blocking(move || own.first(batch, rows)).await?;
                left.extend(more);
                Ok::<_, Error>(Some((made, (joined, left))))
            });
            stream::iter([Ok(made)]).chain(others)
        })
        .try_flatten()
        .map(move |made| {
            let batch = made?;
            metrics.record_output(batch.num_rows());
            Ok(batch)
        })
}
