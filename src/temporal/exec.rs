//! The operators as physical plans, as DataFusion sees them: children, order, distribution, metrics.
//! What happens when one is executed is the business of `execution`.
//!
//! What is declared here is what the optimizer may rely on, and every rule takes it at its word. The result has one
//! partition: the spine's partitions one after the other. So what holds within a partition of the spine, an order or a column
//! that is the same in all rows, holds in the result only if the spine has no more than one; and it is looked up in the spine
//! as it is now, since the optimizer exchanges it.

use std::{fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{Result as DfResult, config::ConfigOptions, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
        PlanProperties, ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType},
        filter_pushdown::{ChildFilterDescription, FilterDescription, FilterPushdownPhase},
        metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{TryStreamExt, stream};

use super::{
    budget::Budget,
    event_time_filter::EventTimeFilter,
    execution::{Execution, Metrics},
    fact_input::PhysicalFactInput,
    operator::CreateOperator,
};

/// One question of a kind, planned.
pub(crate) struct AsOfExec<S> {
    spine: Arc<dyn ExecutionPlan>,
    at_position: usize,
    facts: Vec<Arc<dyn ExecutionPlan>>,
    fact_inputs: Vec<Arc<PhysicalFactInput<S>>>,
    /// What keeps facts that no row of the spine can see from being read, by side.
    event_time_filters: Vec<Option<Arc<EventTimeFilter>>>,
    /// The order in which the spine was asked for: it stays, whether or not anything above needs it.
    order: Option<LexOrdering>,
    explain: String,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl<S: CreateOperator> AsOfExec<S> {
    pub(crate) fn new(
        spine: Arc<dyn ExecutionPlan>,
        at_position: usize,
        facts: Vec<Arc<dyn ExecutionPlan>>,
        fact_inputs: Vec<Arc<PhysicalFactInput<S>>>,
        order: Option<LexOrdering>,
        schema: SchemaRef,
        explain: String,
    ) -> DfResult<Self> {
        let event_time_filters = fact_inputs.iter().map(|input| EventTimeFilter::of(input).map(Arc::new)).collect();
        // The last fact may change any answer.
        let boundedness = match std::iter::once(&spine).chain(&facts).any(|child| child.boundedness().is_unbounded()) {
            true => Boundedness::Unbounded { requires_infinite_memory: true },
            false => Boundedness::Bounded,
        };
        let one_partition = Partitioning::UnknownPartitioning(1);
        let properties = PlanProperties::new(equivalences(&spine, &schema)?, one_partition, EmissionType::Final, boundedness);
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self {
            spine,
            at_position,
            facts,
            fact_inputs,
            event_time_filters,
            order,
            explain,
            schema,
            properties: Arc::new(properties),
            metrics,
        })
    }

    fn is_in_one_partition(&self) -> bool {
        is_in_one_partition(&self.spine)
    }
}

fn is_in_one_partition(spine: &Arc<dyn ExecutionPlan>) -> bool {
    spine.output_partitioning().partition_count() <= 1
}

/// What is known of the spine's columns, which are the first ones of the result.
fn equivalences(spine: &Arc<dyn ExecutionPlan>, schema: &SchemaRef) -> DfResult<EquivalenceProperties> {
    let mut of_spine = spine.equivalence_properties().clone();
    if !is_in_one_partition(spine) {
        of_spine.clear_orderings();
        of_spine.clear_per_partition_constants();
    }
    let mut result = EquivalenceProperties::new(schema.clone());
    result.add_equivalence_group(of_spine.eq_group().clone())?;
    result.add_orderings(of_spine.oeq_class().clone());
    Ok(result)
}

impl<S: CreateOperator> fmt::Debug for AsOfExec<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain)
    }
}

impl<S: CreateOperator> DisplayAs for AsOfExec<S> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain)
    }
}

impl<S: CreateOperator> ExecutionPlan for AsOfExec<S> {
    fn name(&self) -> &str {
        S::NAME
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
        let replaced = Self::new(
            spine,
            self.at_position,
            children.collect(),
            self.fact_inputs.clone(),
            self.order.clone(),
            self.schema.clone(),
            self.explain.clone(),
        )?;
        // Scans below may hold these filters.
        Ok(Arc::new(Self { event_time_filters: self.event_time_filters.clone(), ..replaced }))
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

    /// The rows of one partition come out in their order. Where an order was asked for there is none to pass on: another one
    /// must not be put in its place below, and what asks for it above gets it by a sort of its own.
    fn maintains_input_order(&self) -> Vec<bool> {
        let spine = self.order.is_none() && self.is_in_one_partition();
        std::iter::once(spine).chain(self.facts.iter().map(|_| false)).collect()
    }

    /// Dealing out the spine's batches would shuffle its rows; facts may come in any order.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        std::iter::once(false).chain(self.facts.iter().map(|_| true)).collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let execution = Execution {
            spine: self.spine.clone(),
            at_position: self.at_position,
            facts: self.facts.clone(),
            fact_inputs: self.fact_inputs.clone(),
            event_time_filters: self.event_time_filters.clone(),
            schema: self.schema.clone(),
            tasks: context.session_config().target_partitions().max(1),
            budget: Arc::new(Budget::new(S::NAME, &context, MetricBuilder::new(&self.metrics).gauge("peak_mem_used", 0))),
            metrics: Metrics::new(&self.metrics),
            context,
        };
        let rows = stream::once(execution.rows()).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
    }

    /// A filter from above is about the operator's rows, and what it keeps from the facts would change them. Facts learn which
    /// stretch of time matters.
    fn gather_filters_for_pushdown(
        &self,
        phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> DfResult<FilterDescription> {
        let nothing = || ChildFilterDescription::all_unsupported(&parent_filters);
        let facts = self.event_time_filters.iter().map(|filter| match filter {
            Some(filter) if phase == FilterPushdownPhase::Post => nothing().with_self_filter(filter.expression()),
            _ => nothing(),
        });
        Ok(std::iter::once(nothing()).chain(facts).fold(FilterDescription::new(), FilterDescription::with_child))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
