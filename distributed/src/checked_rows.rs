//! Reads what another step has written, and compares the number of rows with what that step said.
//!
//! Ballista takes a shuffle file that is gone, or ends early, for one without more rows. A cleaner of temporary folders or a damaged disk
//! would so take rows from an answer without a word. A step that reads fewer or more rows than were written fails, and the job runs
//! again as after the loss of an executor.

use std::{fmt, sync::Arc};

use ballista_core::{
    error::BallistaError,
    execution_plans::{ShuffleReaderExec, stats_for_partitions},
};
use datafusion::{
    arrow::array::RecordBatch,
    common::{
        stats::Precision,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, stream};

/// The plan, whose readers of other steps check the number of their rows.
pub(crate) fn with_checked_rows(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let checked = plan.transform_up(|node| {
        Ok(match node.downcast_ref::<ShuffleReaderExec>() {
            Some(reader) => Transformed::yes(Arc::new(CheckedRowsExec::new(reader, node.clone())) as _),
            None => Transformed::no(node),
        })
    })?;
    Ok(checked.data)
}

/// How many rows a partition of a reader has; `None` if its writers did not say. The reader's own statistics of a partition are not asked:
/// they add up those of another one.
fn rows_of(reader: &ShuffleReaderExec, partition: usize) -> Option<usize> {
    let written = reader.partition.get(partition)?.iter().map(|location| location.partition_stats);
    match stats_for_partitions(0, written).num_rows {
        Precision::Exact(rows) => Some(rows),
        _ => None,
    }
}

#[derive(Debug)]
struct CheckedRowsExec {
    reader: Arc<dyn ExecutionPlan>,
    stage: usize,
    /// By partition.
    expected: Vec<Option<usize>>,
}

impl CheckedRowsExec {
    fn new(reader: &ShuffleReaderExec, node: Arc<dyn ExecutionPlan>) -> Self {
        let partitions = node.properties().partitioning.partition_count();
        // A broadcast gives all rows of its first partition to whoever asks.
        let partition = |number| if reader.broadcast { 0 } else { number };
        let expected = (0..partitions).map(|number| rows_of(reader, partition(number))).collect();
        Self { reader: node, stage: reader.stage_id, expected }
    }
}

impl DisplayAs for CheckedRowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckedRows")
    }
}

impl ExecutionPlan for CheckedRowsExec {
    fn name(&self) -> &str {
        "CheckedRows"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.reader.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.reader]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { reader: children.swap_remove(0), stage: self.stage, expected: self.expected.clone() }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (rows, schema, stage) = (self.reader.execute(partition, context)?, self.reader.schema(), self.stage);
        let Some(expected) = self.expected.get(partition).copied().flatten() else { return Ok(rows) };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted(rows, expected, stage, partition))))
    }
}

/// The rows of a partition of a step, and an error if they are not as many as were written.
pub(crate) fn counted(
    rows: SendableRecordBatchStream,
    expected: usize,
    stage: usize,
    partition: usize,
) -> stream::BoxStream<'static, Result<RecordBatch>> {
    let counted = stream::unfold((Some(rows), 0), move |(rows, mut found)| async move {
        let mut rows = rows?;
        match rows.next().await {
            Some(Ok(batch)) => {
                found += batch.num_rows();
                Some((Ok(batch), (Some(rows), found)))
            }
            Some(Err(error)) => Some((Err(error), (None, found))),
            None if found == expected => None,
            None => {
                let reason = format!(
                    "{found} rows of step {stage} were read and {expected} were written: files of the scratch folder are gone or damaged"
                );
                let error = BallistaError::FetchFailed(String::new(), stage, partition, reason);
                Some((Err(error.into_datafusion()), (None, found)))
            }
        }
    });
    counted.boxed()
}
