//! The operators as physical plans: children, order, distribution, metrics. `execution` runs them.
//!
//! The optimizer relies on what is declared here. The result has one partition: the spine's partitions one after the other. So
//! a property of each partition of the spine, such as an order or a constant column, is a property of the result only if the
//! spine has one partition. The optimizer replaces the spine, so properties are always those of the present one.
//!
//! In the partitioned mode, for plans that run elsewhere, each partition of the result is made of one partition of the spine and one of
//! each fact table; see `partitioned`. No optimizer sees this mode.

use std::{fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{DFSchemaRef, Result as DfResult, config::ConfigOptions, tree_node::TreeNodeRecursion},
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
    fact_input::{PhysicalFactInput, SpineTime},
    operator::CreateOperator,
};

/// By which names a node has found its columns, and how `EXPLAIN` shows it. With the logical part of each input it is all that is needed to
/// plan the operator anew.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) spine: DFSchemaRef,
    pub(super) at: SpineTime,
    /// The columns of each fact table.
    pub(super) facts: Vec<DFSchemaRef>,
    pub(super) explain: String,
}

/// How the rows of the spine and the facts meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// All rows meet all facts. The result is one partition, in this order of the spine, whether or not anything above needs it.
    Whole(Option<LexOrdering>),
    /// Each partition of the spine meets the same partition of the facts, which holds all facts of its entities.
    ByPartition,
}

/// Lookups or windows over several fact tables, as a physical plan.
pub(crate) struct AsOfExec<S> {
    pub(super) spine: Arc<dyn ExecutionPlan>,
    pub(super) at_position: usize,
    pub(super) facts: Vec<Arc<dyn ExecutionPlan>>,
    pub(super) fact_inputs: Vec<Arc<PhysicalFactInput<S>>>,
    pub(super) asked: Arc<Asked>,
    /// For each fact table the filter that skips facts which no row of the spine can see.
    pub(super) event_time_filters: Vec<Option<Arc<EventTimeFilter>>>,
    pub(super) mode: Mode,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl<S: CreateOperator> AsOfExec<S> {
    pub(super) fn new(
        spine: Arc<dyn ExecutionPlan>,
        at_position: usize,
        facts: Vec<Arc<dyn ExecutionPlan>>,
        fact_inputs: Vec<Arc<PhysicalFactInput<S>>>,
        mode: Mode,
        schema: SchemaRef,
        asked: Arc<Asked>,
    ) -> DfResult<Self> {
        // The last fact may change any result.
        let boundedness = match std::iter::once(&spine).chain(&facts).any(|child| child.boundedness().is_unbounded()) {
            true => Boundedness::Unbounded { requires_infinite_memory: true },
            false => Boundedness::Bounded,
        };
        let partitions = match mode {
            Mode::Whole(_) => 1,
            Mode::ByPartition => spine.output_partitioning().partition_count(),
        };
        let (equivalences, partitions) = (equivalences(&spine, &mode, &schema)?, Partitioning::UnknownPartitioning(partitions));
        let properties = PlanProperties::new(equivalences, partitions, EmissionType::Final, boundedness);
        Ok(Self {
            spine,
            at_position,
            event_time_filters: vec![None; facts.len()],
            facts,
            fact_inputs,
            mode,
            asked,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// The same operator with filters that skip facts which no row of the spine can see. They are set once this process has read the spine;
    /// one that is read elsewhere sets none.
    pub(super) fn with_event_time_filters(self) -> Self {
        let event_time_filters = self.fact_inputs.iter().map(|input| EventTimeFilter::of(input).map(Arc::new)).collect();
        Self { event_time_filters, ..self }
    }

    fn is_in_one_partition(&self) -> bool {
        is_in_one_partition(&self.spine)
    }
}

fn is_in_one_partition(spine: &Arc<dyn ExecutionPlan>) -> bool {
    spine.output_partitioning().partition_count() <= 1
}

/// The properties of the spine's columns, which come first in the result.
fn equivalences(spine: &Arc<dyn ExecutionPlan>, mode: &Mode, schema: &SchemaRef) -> DfResult<EquivalenceProperties> {
    let mut of_spine = spine.equivalence_properties().clone();
    if *mode != Mode::ByPartition && !is_in_one_partition(spine) {
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
        f.write_str(&self.asked.explain)
    }
}

impl<S: CreateOperator> DisplayAs for AsOfExec<S> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.asked.explain)
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
            self.mode.clone(),
            self.schema.clone(),
            self.asked.clone(),
        )?;
        // Scans below may hold these filters.
        Ok(Arc::new(Self { event_time_filters: self.event_time_filters.clone(), ..replaced }))
    }

    /// The result has the order of the spine, so a sorted spine must stay sorted.
    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let spine = match &self.mode {
            Mode::Whole(order) => order.clone().map(OrderingRequirements::from),
            Mode::ByPartition => None,
        };
        std::iter::once(spine).chain(self.facts.iter().map(|_| None)).collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        let spine = match self.mode {
            Mode::Whole(Some(_)) => Distribution::SinglePartition,
            Mode::Whole(None) | Mode::ByPartition => Distribution::UnspecifiedDistribution,
        };
        std::iter::once(spine).chain(self.facts.iter().map(|_| Distribution::UnspecifiedDistribution)).collect()
    }

    /// The rows of a single partition keep their order. If the plan requires an order of its own, it declares none here:
    /// otherwise the optimizer might replace the required order by one that is needed above.
    fn maintains_input_order(&self) -> Vec<bool> {
        let spine = match self.mode {
            Mode::Whole(Some(_)) => false,
            Mode::Whole(None) => self.is_in_one_partition(),
            Mode::ByPartition => true,
        };
        std::iter::once(spine).chain(self.facts.iter().map(|_| false)).collect()
    }

    /// Repartitioning would shuffle the rows of the spine. Facts may come in any order.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        std::iter::once(false).chain(self.facts.iter().map(|_| true)).collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let execution = Execution {
            spine: self.spine.clone(),
            at_position: self.at_position,
            facts: self.facts.clone(),
            fact_inputs: self.fact_inputs.clone(),
            event_time_filters: self.event_time_filters.clone(),
            schema: self.schema.clone(),
            partition: (self.mode == Mode::ByPartition).then_some(partition),
            tasks: context.session_config().target_partitions().max(1),
            budget: Arc::new(Budget::new(S::NAME, &context, MetricBuilder::new(&self.metrics).gauge("peak_mem_used", partition))),
            metrics: Metrics::new(&self.metrics, partition),
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
