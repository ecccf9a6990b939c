//! Expressions over the columns of a fact: filters of aggregates, conditions of windows, and what aggregates are over.
//! If an expression fails, it must not matter which facts are in a batch together: only a fact that some window sees can make
//! the query fail.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array},
    buffer::NullBuffer,
    compute::{concat, take, take_record_batch},
    datatypes::{DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type},
    error::ArrowError,
};
use datafusion::{error::DataFusionError, physical_expr::PhysicalExpr, prelude::Expr};

use crate::{
    error::{Error, Result, in_one_line, panic_text},
    temporal::fact_chunk::FactChunk,
};

/// An expression, and the lengths of the windows that use it.
pub(super) struct SeenExpression {
    expression: Arc<dyn PhysicalExpr>,
    /// It, in messages.
    subject: String,
    lengths: Vec<usize>,
}

impl fmt::Display for SeenExpression {
    /// The planned expression, with the positions of the columns that it reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expression.fmt(f)
    }
}

impl SeenExpression {
    /// The filter of an aggregate.
    pub(super) fn filter(condition: Arc<dyn PhysicalExpr>) -> Self {
        let subject = format!("the filter `{condition}` of an aggregate");
        Self { expression: condition, subject, lengths: Vec::new() }
    }

    /// The condition of windows over a table.
    pub(super) fn mark(condition: Arc<dyn PhysicalExpr>, written: &Expr, table: &str) -> Self {
        let subject = format!("the condition `{written}` of a window over {table}");
        Self { expression: condition, subject, lengths: Vec::new() }
    }

    /// What aggregates over a table are over. `text` is its SQL.
    pub(super) fn value(expression: Arc<dyn PhysicalExpr>, text: &str, table: &str) -> Self {
        let subject = format!("the expression `{text}` of an aggregate over {table}");
        Self { expression, subject, lengths: Vec::new() }
    }

    /// Windows of this length use it too.
    pub(super) fn add_length(&mut self, length: usize) {
        if !self.lengths.contains(&length) {
            self.lengths.push(length);
        }
    }

    /// A mask of the rows of a chunk's batch for which the filter or condition is true; NULL is not true. `is_seen` says whether a window of
    /// some length sees the fact at a position of the chunk. The mask means nothing for facts that no window sees, and nothing is
    /// evaluated if no window uses the filter.
    ///
    /// # Errors
    /// If it fails for a fact that a window sees.
    pub(super) fn mask(&self, chunk: &FactChunk, is_seen: impl Fn(usize, usize) -> bool) -> Result<NullBuffer> {
        if self.lengths.is_empty() {
            return Ok(NullBuffer::new_null(chunk.batch.num_rows()));
        }
        let found = self.values(chunk, None, is_seen)?;
        let found = found.as_boolean();
        Ok(NullBuffer::new(match found.nulls() {
            Some(nulls) => found.values() & nulls.inner(),
            None => found.values().clone(),
        }))
    }

    /// The values of the rows of a chunk's batch. They mean nothing for facts that no window sees, and for those that `passed`
    /// excludes, the mask of a filter.
    ///
    /// # Errors
    /// If the expression fails for a fact that a window sees and that passes. A batch that fails is divided until it is known
    /// which fact fails.
    pub(super) fn values(
        &self,
        chunk: &FactChunk,
        passed: Option<&NullBuffer>,
        is_seen: impl Fn(usize, usize) -> bool,
    ) -> Result<ArrayRef> {
        let batch = &chunk.batch;
        if let Ok(values) = self.evaluated(batch) {
            return Ok(values);
        }
        let is_wanted = |i: &usize| {
            let is_seen = self.lengths.iter().any(|&length| is_seen(*i, length));
            is_seen && passed.is_none_or(|passed| passed.is_valid(chunk.rows[*i] as usize))
        };
        let rows: Vec<u32> = (0..chunk.rows.len()).filter(is_wanted).map(|i| chunk.rows[i]).collect();
        if rows.is_empty() {
            return Ok(new_null_array(&self.expression.data_type(batch.schema_ref())?, batch.num_rows()));
        }
        // Where the value of each row is among those of the wanted facts.
        let mut places: Vec<Option<u32>> = vec![None; batch.num_rows()];
        rows.iter().zip(0u32..).for_each(|(&row, place)| places[row as usize] = Some(place));
        let wanted = take_record_batch(batch, &UInt32Array::from(rows))?;
        let mut parts = Vec::new();
        self.evaluate_parts(&wanted, &mut parts)?;
        let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
        Ok(take(&concat(&parts)?, &UInt32Array::from(places), None)?)
    }

    /// Adds the values of these facts to `parts`. There is at least one fact.
    fn evaluate_parts(&self, facts: &RecordBatch, parts: &mut Vec<ArrayRef>) -> Result<()> {
        let count = facts.num_rows();
        match self.evaluated(facts) {
            Ok(values) => parts.push(values),
            Err(Error::Query(error)) if count <= 1 => {
                let reason = format!("it fails for a fact that a window sees: {}", in_one_line(&error));
                return Err(Error::Definition { subject: self.subject.clone(), reason });
            }
            Err(error) if count <= 1 => return Err(error),
            Err(_) => {
                self.evaluate_parts(&facts.slice(0, count / 2), parts)?;
                self.evaluate_parts(&facts.slice(count / 2, count - count / 2), parts)?;
            }
        }
        Ok(())
    }

    /// A function of the engine that panics fails like another one: for some facts, which may be seen by no window.
    fn evaluated(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let evaluate = || {
            let values = self.expression.evaluate(batch)?.into_array(batch.num_rows())?;
            check_digits(&values)?;
            Ok(values)
        };
        catch_unwind(AssertUnwindSafe(evaluate)).unwrap_or_else(|panic| {
            let text = format!("a function panicked: {}", panic_text(panic.as_ref()));
            Err(DataFusionError::Execution(text).into())
        })
    }
}

/// Refuses decimals with more digits than their type has. The engine's arithmetic only checks that their bits suffice.
fn check_digits(values: &dyn Array) -> std::result::Result<(), ArrowError> {
    match values.data_type() {
        DataType::Decimal32(precision, _) => values.as_primitive::<Decimal32Type>().validate_decimal_precision(*precision),
        DataType::Decimal64(precision, _) => values.as_primitive::<Decimal64Type>().validate_decimal_precision(*precision),
        DataType::Decimal128(precision, _) => values.as_primitive::<Decimal128Type>().validate_decimal_precision(*precision),
        DataType::Decimal256(precision, _) => values.as_primitive::<Decimal256Type>().validate_decimal_precision(*precision),
        _ => Ok(()),
    }
}
