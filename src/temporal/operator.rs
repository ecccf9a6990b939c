//! The interface between the driver of a query and the operators: a factory, an operator, accumulators, an output.
//! `lookup` and `window` implement it; `execution` and `entities` drive it.

use std::sync::Arc;

use arrow::{
    array::ArrayRef,
    datatypes::{DataType, SchemaRef},
    error::ArrowError,
};
use datafusion::error::DataFusionError;

use super::{
    budget::Budget, fact_chunk::FactChunk, fact_expression::FactExpressions, fact_input::PhysicalFactInput,
    full_rows::version_order, spec::OperatorSpec, spine_index::SpineIndex, time_decoder::TickUnit,
};
use crate::error::{Error, Result};

/// What an operator over one fact table works with.
#[derive(Clone)]
pub(crate) struct OperatorContext {
    /// The table, for messages.
    pub(crate) subject: String,
    pub(crate) index: Arc<SpineIndex>,
    pub(crate) unit: TickUnit,
    /// The nanoseconds of a unit of [`FactChunk::order`].
    pub(crate) order_ns: i64,
    pub(crate) facts_schema: SchemaRef,
    /// Positions of the tie-break columns.
    pub(crate) tie_break: Vec<usize>,
    /// The columns that decide between facts of the same times and tie-breaks, in order. `None` if the facts cannot be read
    /// again with all columns: then the columns that are read decide.
    pub(crate) deciding_columns: Option<Vec<String>>,
    /// What is computed from the columns of a fact.
    pub(crate) expressions: FactExpressions,
    /// Positions of all columns, in the order in which they decide between facts of the same times, if all columns are read.
    pub(crate) row_order: Vec<usize>,
    /// After how many ticks each fact becomes visible, if that is the same for all and facts are never replaced.
    pub(crate) constant_delay: Option<i64>,
    /// Are facts replaced by later versions?
    pub(crate) has_versions: bool,
    pub(crate) budget: Arc<Budget>,
    pub(crate) tasks: usize,
}

impl OperatorContext {
    /// The context of an operator over `input`.
    pub(super) fn new<S>(
        input: &PhysicalFactInput<S>,
        index: &Arc<SpineIndex>,
        budget: &Arc<Budget>,
        tasks: usize,
    ) -> Result<Self> {
        Ok(Self {
            subject: input.logical.subject.clone(),
            index: index.clone(),
            unit: input.spine_decoder.unit,
            order_ns: input.time_decoders[0].1.order_ns(),
            facts_schema: input.facts_schema.clone(),
            tie_break: input.tie_columns()?,
            deciding_columns: input.full_rows.as_ref().map(|full_rows| full_rows.columns.clone()),
            expressions: input.expressions.clone(),
            row_order: version_order(input)?,
            constant_delay: input.constant_delay(),
            has_versions: !input.identity.is_empty(),
            budget: budget.clone(),
            tasks,
        })
    }
}

/// A specification that can be run.
pub(crate) trait CreateOperator: OperatorSpec {
    /// The operator that computes what is specified.
    fn operator(&self, context: &OperatorContext) -> Result<Arc<dyn TemporalOperator>>;
}

/// Computes the results over one fact table. Accumulators read the facts, in any order and in several tasks; the output is made
/// once all facts are read.
pub(crate) trait TemporalOperator: Send + Sync {
    /// A new accumulator, for one task.
    fn accumulator(self: Arc<Self>) -> Box<dyn FactAccumulator>;

    /// The first and the last event time of facts that tie on all columns that were read, although other columns tell them
    /// apart; in the order numbers of event times. `None` if every tie is decided.
    fn undecided_ties(&self) -> Option<(i64, i64)> {
        None
    }

    /// An operator that reads the tied facts with all their columns and decides between them. The output of this operator uses
    /// its decisions.
    fn tie_resolver(self: Arc<Self>, context: &OperatorContext) -> Result<Arc<dyn TemporalOperator>>;

    /// The results. Called once, when all accumulators have finished.
    fn output(&self) -> Result<Arc<dyn OperatorOutput>>;
}

/// The part of an operator that one task has to itself.
pub(crate) trait FactAccumulator: Send {
    /// Adds facts.
    fn update(&mut self, chunk: &FactChunk) -> Result<()>;

    /// Hands what was accumulated over to the operator.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// The added columns, by slot.
pub(crate) trait OperatorOutput: Send + Sync {
    /// The values of these slots. The number of all slots stands for a row that has no slot.
    ///
    /// # Errors
    /// One for which [`is_too_long`] is true if the texts or lists of so many slots do not fit into one array.
    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>>;

    /// The memory that is reserved for the output; `None` if rows differ in length.
    fn memory(&self) -> Option<OutputMemory>;
}

/// The memory of an output whose rows have one length.
#[derive(Clone, Copy)]
pub(crate) struct OutputMemory {
    /// Bytes reserved for all slots.
    pub(crate) bytes: usize,
    /// Bytes of one row in a batch.
    pub(crate) row_bytes: usize,
}

impl OutputMemory {
    /// The memory of columns of these types; `None` if the values of one differ in length.
    pub(super) fn of<'a>(bytes: usize, types: impl Iterator<Item = &'a DataType>) -> Option<Self> {
        let widths = types.map(|data_type| match data_type {
            DataType::Boolean => Some(1),
            other => other.primitive_width(),
        });
        // One byte more for the validity.
        Some(Self { bytes, row_bytes: widths.map(|width| width.map(|width| width + 1)).sum::<Option<usize>>()? })
    }
}

/// Does the error say that texts or lists do not fit into one array?
pub(super) fn is_too_long(error: &Error) -> bool {
    let Error::Query(error) = error else { return false };
    matches!(error.find_root(), DataFusionError::ArrowError(error, _) if matches!(**error, ArrowError::OffsetOverflowError(_)))
}
