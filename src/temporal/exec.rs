//! The operators as physical plans, as DataFusion sees them: children, order, distribution, metrics.
//! What happens when one is executed is the business of `run`.

use std::{fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{Result as DfResult, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType},
        metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{TryStreamExt, stream};

use super::{
    budget::Budget,
    node::Ask,
    run::{Metrics, Run},
    side::PlannedSide,
};

/// One question of a kind, planned.
pub(crate) struct AsOfExec<Q> {
    spine: Arc<dyn ExecutionPlan>,
    at_position: usize,
    facts: Vec<Arc<dyn ExecutionPlan>>,
    sides: Vec<Arc<PlannedSide<Q>>>,
    /// The order in which the spine was asked for; it is the result's.
    order: Option<LexOrdering>,
    shown: String,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl<Q: Ask> AsOfExec<Q> {
    pub(crate) fn new(
        spine: Arc<dyn ExecutionPlan>,
        at_position: usize,
        facts: Vec<Arc<dyn ExecutionPlan>>,
        sides: Vec<Arc<PlannedSide<Q>>>,
        order: Option<LexOrdering>,
        schema: SchemaRef,
        shown: String,
    ) -> Self {
        let mut equivalences = EquivalenceProperties::new(schema.clone());
        if let Some(order) = &order {
            equivalences.add_ordering(order.clone());
        }
        let properties =
            PlanProperties::new(equivalences, Partitioning::UnknownPartitioning(1), EmissionType::Final, Boundedness::Bounded);
        let metrics = ExecutionPlanMetricsSet::new();
        Self { spine, at_position, facts, sides, order, shown, schema, properties: Arc::new(properties), metrics }
    }
}

impl<Q: Ask> fmt::Debug for AsOfExec<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl<Q: Ask> DisplayAs for AsOfExec<Q> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl<Q: Ask> ExecutionPlan for AsOfExec<Q> {
    fn name(&self) -> &str {
        Q::NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        std::iter::once(&self.spine).chain(&self.facts).collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let mut children = children.into_iter();
        let spine = children.next().unwrap_or_else(|| self.spine.clone());
        Ok(Arc::new(Self::new(
            spine,
            self.at_position,
            children.collect(),
            self.sides.clone(),
            self.order.clone(),
            self.schema.clone(),
            self.shown.clone(),
        )))
    }

    /// A sorted spine stays sorted: the rows come out in its order.
    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let spine = self.order.clone().map(OrderingRequirements::from);
        std::iter::once(spine).chain(self.facts.iter().map(|_| None)).collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        let spine = if self.order.is_some() { Distribution::SinglePartition } else { Distribution::UnspecifiedDistribution };
        std::iter::once(spine).chain(self.facts.iter().map(|_| Distribution::UnspecifiedDistribution)).collect()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        std::iter::once(true).chain(self.facts.iter().map(|_| false)).collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let run = Run {
            spine: self.spine.clone(),
            at_position: self.at_position,
            facts: self.facts.clone(),
            sides: self.sides.clone(),
            schema: self.schema.clone(),
            tasks: context.session_config().target_partitions().max(1),
            budget: Arc::new(Budget::new(Q::NAME, &context, MetricBuilder::new(&self.metrics).gauge("peak_mem_used", 0))),
            metrics: Metrics::new(&self.metrics),
            context,
        };
        let rows = stream::once(run.rows()).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
