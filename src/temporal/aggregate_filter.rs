//! The condition of an aggregate: which facts of a batch meet it.
//! A fact that no window sees is not judged: what is wrong with it alone is nobody's business.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch, UInt32Array},
    buffer::NullBuffer,
    compute::take_record_batch,
};
use datafusion::physical_expr::PhysicalExpr;

use super::fact_input::FactChunk;
use crate::error::{Error, Result, in_one_line};

/// A condition over the facts' columns, and the windows that ask for it.
pub(super) struct AggregateFilter {
    expression: Arc<dyn PhysicalExpr>,
    spans: Vec<usize>,
}

impl AggregateFilter {
    pub(super) fn new(expression: Arc<dyn PhysicalExpr>) -> Self {
        Self { expression, spans: Vec::new() }
    }

    /// The windows of this length ask for it, too.
    pub(super) fn is_for(&mut self, span: usize) {
        if !self.spans.contains(&span) {
            self.spans.push(span);
        }
    }

    /// Which rows of a chunk's batch meet it; `sees` says whether a window of some length sees the fact at a place of the
    /// chunk. The other rows may be said to meet it or not.
    ///
    /// # Errors
    /// When the condition fails for a fact that is seen. Facts are judged one by one then, so that it does not matter which
    /// are in a batch together.
    pub(super) fn met(&self, chunk: &FactChunk, sees: impl Fn(usize, usize) -> bool) -> Result<NullBuffer> {
        if let Ok(met) = self.of(&chunk.batch) {
            return Ok(NullBuffer::new(met.values().clone()));
        }
        let is_seen = |i: &usize| self.spans.iter().any(|&span| sees(*i, span));
        let rows: Vec<u32> = (0..chunk.rows.len()).filter(is_seen).map(|i| chunk.rows[i]).collect();
        let mut met = vec![false; chunk.batch.num_rows()];
        let seen = take_record_batch(&chunk.batch, &UInt32Array::from(rows.clone()))?;
        self.judge(&seen, &rows, &mut met)?;
        Ok(NullBuffer::from(met))
    }

    fn judge(&self, batch: &RecordBatch, rows: &[u32], met: &mut [bool]) -> Result<()> {
        match self.of(batch) {
            Ok(found) => rows.iter().enumerate().for_each(|(i, &row)| met[row as usize] = found.value(i)),
            Err(Error::Query(error)) if rows.len() <= 1 => {
                let subject = format!("the filter `{}` of an aggregate", self.expression);
                let reason = format!("it fails for a fact that a window sees: {}", in_one_line(&error));
                return Err(Error::Definition { subject, reason });
            }
            Err(error) if rows.len() <= 1 => return Err(error),
            Err(_) => {
                let (first, second) = rows.split_at(rows.len() / 2);
                self.judge(&batch.slice(0, first.len()), first, met)?;
                self.judge(&batch.slice(first.len(), second.len()), second, met)?;
            }
        }
        Ok(())
    }

    /// NULL is not met.
    fn of(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let found = self.expression.evaluate(batch)?.into_array(batch.num_rows())?;
        let found = found.as_boolean();
        Ok(match found.nulls() {
            Some(nulls) => BooleanArray::new(found.values() & nulls.inner(), None),
            None => found.clone(),
        })
    }
}
