//! How the partitions of a plan that ran elsewhere become rows of this process.

use std::{collections::VecDeque, fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
    compute::concat,
    datatypes::{Schema, SchemaRef, UInt64Type},
};
use datafusion::{
    common::Result as DfResult,
    execution::{SendableRecordBatchStream, TaskContext, memory_pool::MemoryConsumer},
    physical_expr::LexOrdering,
    physical_plan::{
        ExecutionPlan,
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet},
        sorts::streaming_merge::StreamingMergeBuilder,
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt, future::ready, stream};

use crate::error::{Error, Result};

/// How partitions become one.
#[derive(Clone)]
pub(crate) enum Gather {
    /// One after the other.
    InTurn,
    /// Each of them has this order, and so has the result. Of it only so many rows are needed.
    Merged(LexOrdering, Option<usize>),
    /// As `Merged`, by a number that is the last column. The numbers are those of the rows of another plan, which runs here; each row of the result is
    /// put beside that row, and the number is left out.
    Beside(LexOrdering, Arc<dyn ExecutionPlan>),
}

impl fmt::Debug for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InTurn => Ok(()),
            Self::Merged(order, _) => write!(f, ", merged=[{order}]"),
            Self::Beside(..) => f.write_str(", beside the spine"),
        }
    }
}

impl Gather {
    /// The columns of the result, given those of the plan.
    pub(super) fn schema(&self, plan: &SchemaRef) -> SchemaRef {
        let Self::Beside(_, rows) = self else { return plan.clone() };
        let (own, found) = (rows.schema(), plan.fields().len().saturating_sub(1));
        let fields: Vec<_> = own.fields().iter().chain(plan.fields().iter().take(found)).cloned().collect();
        Arc::new(Schema::new_with_metadata(fields, own.metadata().clone()))
    }

    /// The rows of all partitions. `own` are those of the other plan, if there is one.
    pub(super) fn rows(
        &self,
        partitions: Vec<SendableRecordBatchStream>,
        own: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &TaskContext,
    ) -> DfResult<SendableRecordBatchStream> {
        let known = partitions.into_iter().map(|rows| with_schema(rows, schema));
        match self {
            Self::InTurn => {
                let rows = stream::iter(known.collect::<Vec<_>>()).flatten();
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows)))
            }
            Self::Merged(order, fetch) => merged(known.collect(), order, *fetch, schema, context),
            Self::Beside(order, _) => {
                let sorted = merged(known.collect(), order, None, schema, context)?;
                let beside = self.schema(schema);
                let rows = Beside { sorted, own: own.into(), taken: 0, number: 0, schema: beside.clone() };
                Ok(Box::pin(RecordBatchStreamAdapter::new(beside, rows.into_stream())))
            }
        }
    }
}

/// The rows with the schema that was planned: a plan that was planned again may know less of its columns.
fn with_schema(rows: SendableRecordBatchStream, schema: &SchemaRef) -> SendableRecordBatchStream {
    let planned = schema.clone();
    let rows = rows.and_then(move |batch| {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        ready(RecordBatch::try_new_with_options(planned.clone(), batch.columns().to_vec(), &options).map_err(Into::into))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows))
}

fn merged(
    mut partitions: Vec<SendableRecordBatchStream>,
    order: &LexOrdering,
    fetch: Option<usize>,
    schema: &SchemaRef,
    context: &TaskContext,
) -> DfResult<SendableRecordBatchStream> {
    if partitions.is_empty() || partitions.len() == 1 && fetch.is_none() {
        let none = || Box::pin(RecordBatchStreamAdapter::new(schema.clone(), stream::empty())) as SendableRecordBatchStream;
        return Ok(partitions.pop().unwrap_or_else(none));
    }
    StreamingMergeBuilder::new()
        .with_streams(partitions)
        .with_schema(schema.clone())
        .with_expressions(order)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(context.session_config().batch_size())
        .with_fetch(fetch)
        .with_reservation(MemoryConsumer::new("RunElsewhere").register(context.memory_pool()))
        .build()
}

/// Puts rows beside those whose numbers they have.
struct Beside {
    sorted: SendableRecordBatchStream,
    own: VecDeque<RecordBatch>,
    /// How many rows of the first batch are taken.
    taken: usize,
    number: u64,
    schema: SchemaRef,
}

impl Beside {
    fn into_stream(self) -> impl futures::Stream<Item = DfResult<RecordBatch>> + Send {
        stream::try_unfold(self, |mut this| async move {
            while let Some(batch) = this.sorted.try_next().await? {
                if batch.num_rows() > 0 {
                    return Ok(Some((this.put_beside(&batch)?, this)));
                }
            }
            let left = this.own.iter().map(RecordBatch::num_rows).sum::<usize>() - this.taken;
            if left > 0 { Err(lost(format!("the last {left} rows have no result")).into()) } else { Ok(None) }
        })
    }

    fn put_beside(&mut self, found: &RecordBatch) -> Result<RecordBatch> {
        let (last, rows) = (found.num_columns().saturating_sub(1), found.num_rows());
        let numbers = found.columns().get(last).and_then(|numbers| numbers.as_primitive_opt::<UInt64Type>());
        let numbers = numbers.filter(|numbers| numbers.null_count() == 0).ok_or_else(|| lost("they have no numbers".into()))?;
        // Each number once: nothing was lost or doubled on the way.
        if let Some((expected, found)) = (self.number..).zip(numbers.values()).find(|(expected, found)| expected != *found) {
            return Err(lost(format!("row {found} came where row {expected} should")));
        }
        self.number += rows as u64;
        let own = self.own_columns(rows)?;
        let columns = own.into_iter().chain(found.columns()[..last].iter().cloned()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// The columns of the next rows of this process.
    fn own_columns(&mut self, rows: usize) -> Result<Vec<ArrayRef>> {
        let (mut parts, mut missing): (Vec<RecordBatch>, usize) = (Vec::new(), rows);
        while missing > 0 {
            let first = self.own.front().ok_or_else(|| lost(format!("there are {missing} rows too many")))?;
            let some = missing.min(first.num_rows() - self.taken);
            parts.push(first.slice(self.taken, some));
            self.taken += some;
            missing -= some;
            if self.taken == first.num_rows() {
                self.own.pop_front();
                self.taken = 0;
            }
        }
        let width = parts.first().map_or(0, RecordBatch::num_columns);
        let column = |c: usize| -> Result<ArrayRef> {
            match parts.as_slice() {
                [one] => Ok(one.column(c).clone()),
                _ => Ok(concat(&parts.iter().map(|part| part.column(c).as_ref()).collect::<Vec<&dyn Array>>())?),
            }
        };
        (0..width).map(column).collect()
    }
}

fn lost(reason: String) -> Error {
    Error::Internal { subject: "rows that were computed elsewhere".into(), reason }
}
