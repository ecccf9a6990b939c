//! The operators as physical plans: children, order, distribution, metrics. `execution` runs them.
//!
//! The optimizer relies on what is declared here. The result has one partition: the spine's partitions one after the other. So
//! a property of each partition of the spine, such as an order or a constant column, is a property of the result only if the
//! spine has one partition. The optimizer replaces the spine, so properties are always those of the present one.

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

/// Lookups or windows over several fact tables, as a physical plan.
pub(crate) struct AsOfExec<S> {
    spine: Arc<dyn ExecutionPlan>,
    at_position: usize,
    facts: Vec<Arc<dyn ExecutionPlan>>,
    fact_inputs: Vec<Arc<PhysicalFactInput<S>>>,
    /// For each fact table the filter that skips facts which no row of the spine can see.
    event_time_filters: Vec<Option<Arc<EventTimeFilter>>>,
    /// The order of the spine when the plan was made. It is kept, whether or not anything above needs it.
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
        // The last fact may change any result.
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

/// The properties of the spine's columns, which come first in the result.
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

    /// The result has the order of the spine, so a sorted spine must stay sorted.
    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let spine = self.order.clone().map(OrderingRequirements::from);
        std::iter::once(spine).chain(self.facts.iter().map(|_| None)).collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        let spine = if self.order.is_some() { Distribution::SinglePartition } else { Distribution::UnspecifiedDistribution };
        std::iter::once(spine).chain(self.facts.iter().map(|_| Distribution::UnspecifiedDistribution)).collect()
    }

    /// The rows of a single partition keep their order. If the plan requires an order of its own, it declares none here:
    /// otherwise the optimizer might replace the required order by one that is needed above.
    fn maintains_input_order(&self) -> Vec<bool> {
        let spine = self.order.is_none() && self.is_in_one_partition();
        std::iter::once(spine).chain(self.facts.iter().map(|_| false)).collect()
    }

    /// Repartitioning would shuffle the rows of the spine. Facts may come in any order.
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

    /// A filter from above is over the rows of the result; pushed into the facts it would change them. The facts get a filter
    /// on their event time instead.
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
