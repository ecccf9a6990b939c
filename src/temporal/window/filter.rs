//! The filter of an aggregate: the facts for which a condition is true.
//! If the condition fails, it must not matter which facts are in a batch together: only a fact that some window sees can make
//! the query fail.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch, UInt32Array},
    buffer::NullBuffer,
    compute::take_record_batch,
};
use datafusion::physical_expr::PhysicalExpr;

use crate::{
    error::{Error, Result, in_one_line},
    temporal::fact_chunk::FactChunk,
};

/// A condition over the facts' columns, and the lengths of the windows that use it.
pub(super) struct AggregateFilter {
    condition: Arc<dyn PhysicalExpr>,
    lengths: Vec<usize>,
}

impl AggregateFilter {
    pub(super) fn new(condition: Arc<dyn PhysicalExpr>) -> Self {
        Self { condition, lengths: Vec::new() }
    }

    /// Windows of this length use it too.
    pub(super) fn add_length(&mut self, length: usize) {
        if !self.lengths.contains(&length) {
            self.lengths.push(length);
        }
    }

    /// A mask of the rows of a chunk's batch for which the condition is true. `is_seen` says whether a window of some length
    /// sees the fact at a position of the chunk. The mask means nothing for facts that no window sees.
    ///
    /// # Errors
    /// If the condition fails for a fact that a window sees. A batch that fails is divided until it is known which fact fails.
    pub(super) fn evaluate(&self, chunk: &FactChunk, is_seen: impl Fn(usize, usize) -> bool) -> Result<NullBuffer> {
        if let Ok(mask) = self.mask(&chunk.batch) {
            return Ok(NullBuffer::new(mask.values().clone()));
        }
        let is_seen = |i: &usize| self.lengths.iter().any(|&length| is_seen(*i, length));
        let rows: Vec<u32> = (0..chunk.rows.len()).filter(is_seen).map(|i| chunk.rows[i]).collect();
        let mut mask = vec![false; chunk.batch.num_rows()];
        let seen = take_record_batch(&chunk.batch, &UInt32Array::from(rows.clone()))?;
        self.evaluate_parts(&seen, &rows, &mut mask)?;
        Ok(NullBuffer::from(mask))
    }

    fn evaluate_parts(&self, batch: &RecordBatch, rows: &[u32], mask: &mut [bool]) -> Result<()> {
        match self.mask(batch) {
            Ok(found) => rows.iter().enumerate().for_each(|(i, &row)| mask[row as usize] = found.value(i)),
            Err(Error::Query(error)) if rows.len() <= 1 => {
                let subject = format!("the filter `{}` of an aggregate", self.condition);
                let reason = format!("it fails for a fact that a window sees: {}", in_one_line(&error));
                return Err(Error::Definition { subject, reason });
            }
            Err(error) if rows.len() <= 1 => return Err(error),
            Err(_) => {
                let (first, second) = rows.split_at(rows.len() / 2);
                self.evaluate_parts(&batch.slice(0, first.len()), first, mask)?;
                self.evaluate_parts(&batch.slice(first.len(), second.len()), second, mask)?;
            }
        }
        Ok(())
    }

    /// For each row whether the condition is true. NULL is not true.
    fn mask(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let found = self.condition.evaluate(batch)?.into_array(batch.num_rows())?;
        let found = found.as_boolean();
        Ok(match found.nulls() {
            Some(nulls) => BooleanArray::new(found.values() & nulls.inner(), None),
            None => found.clone(),
        })
    }
}
