//! An operator that takes rows by their number and leaves the numbers out: the other end of `number_rows`.
//!
//! It does no work of its own. A merge and a projection would give the same rows, but whoever plans their stage again may drop the order: once
//! the numbers are gone, nothing says that the rows have one. This operator requires it.

use std::{fmt, sync::Arc};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::{
    common::{Result as DfResult, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{
        Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
        expressions::Column,
    },
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        ReplaceChildrenOptions,
        execution_plan::EmissionType,
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, future::ready};

use super::number_rows::NUMBER;

/// The order of rows whose last column is their number.
pub(super) fn by_number(rows: &Schema) -> Option<LexOrdering> {
    let last = rows.fields().len().checked_sub(1)?;
    LexOrdering::new([PhysicalSortExpr::new_default(Arc::new(Column::new(NUMBER, last)))])
}

/// Leaves out the last column of rows that come in the order of it.
#[derive(Debug)]
pub(super) struct RestoreOrderExec {
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RestoreOrderExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let of_input = input.schema();
        let fields: Vec<_> = of_input.fields().iter().take(of_input.fields().len().saturating_sub(1)).cloned().collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, of_input.metadata().clone()));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            input.properties().boundedness,
        );
        Self { input, schema, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for RestoreOrderExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RestoreOrder")
    }
}

impl ExecutionPlan for RestoreOrderExec {
    fn name(&self) -> &str {
        "RestoreOrder"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![by_number(&self.input.schema()).map(OrderingRequirements::from)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let columns: Vec<usize> = (0..self.schema.fields().len()).collect();
        let rows = self.input.execute(partition, context)?;
        let rows = rows.then(move |batch| {
            ready(batch.and_then(|batch| {
                metrics.record_output(batch.num_rows());
                Ok(batch.project(&columns)?)
            }))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
