//! Plans that run where a [`Runner`] takes them.
//!
//! A plan leaves this process if it reads files of pinned tables, which any process can open. What only this process can read (a spine
//! that a user made, the rows of a provider) is read here first, and its rows are sent along in the plan. Roots that act in this process,
//! such as one that writes files, stay here.

use std::{fmt, future::ready, sync::Arc};

use arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::{
    catalog::Session,
    common::{
        Result as DfResult,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    datasource::{memory::MemorySourceConfig, sink::DataSinkExec, source::DataSourceExec},
    execution::{SendableRecordBatchStream, TaskContext, context::QueryPlanner},
    logical_expr::LogicalPlan,
    physical_expr::{Distribution, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
        PlanProperties, ReplaceChildrenOptions,
        analyze::AnalyzeExec,
        coalesce_partitions::CoalescePartitionsExec,
        collect_partitioned,
        empty::EmptyExec,
        execution_plan::{Boundedness, EmissionType},
        explain::ExplainExec,
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        placeholder_row::PlaceholderRowExec,
        repartition::RepartitionExec,
        replace_children_if_necessary,
        sorts::sort_preserving_merge::SortPreservingMergeExec,
        stream::RecordBatchStreamAdapter,
    },
    physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner},
    prelude::SessionConfig,
};
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::Runner;
use crate::storage::is_pinned_scan;

/// The runner of a session, among the extensions of its settings.
struct RunsOn(Arc<dyn Runner>);

/// Where the plans of sessions with these settings run; `None` for here.
pub(crate) fn runner_of(config: &SessionConfig) -> Option<Arc<dyn Runner>> {
    config.get_extension::<RunsOn>().map(|runs_on| runs_on.0.clone())
}

/// Changes the settings for plans that run there. Filters that are found while a plan runs, and subqueries that run before it, do not leave
/// the process that finds them. No join reads its left side as a whole in each task: rows without a partner would be known to no task.
pub(crate) fn run_on(config: &mut SessionConfig, runner: Arc<dyn Runner>) {
    let options = config.options_mut();
    options.execution.target_partitions = runner.partitions().max(1);
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    // Ballista divides such a join by its keys, but not what stands above it, which then reads one part of several.
    options.optimizer.hash_join_single_partition_threshold = 0;
    options.optimizer.hash_join_single_partition_threshold_rows = 0;
    config.set_extension(Arc::new(RunsOn(runner)));
}

/// Plans queries as DataFusion does, and hands the plans over.
#[derive(Debug)]
pub(super) struct RemotePlanner;

impl QueryPlanner for RemotePlanner {
    fn create_physical_plan<'s, 'p, 'c, 'f>(
        &'s self,
        plan: &'p LogicalPlan,
        state: &'c dyn Session,
    ) -> BoxFuture<'f, DfResult<Arc<dyn ExecutionPlan>>>
    where
        's: 'f,
        'p: 'f,
        'c: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let planned = DefaultPhysicalPlanner::default().create_physical_plan(plan, state).await?;
            match runner_of(state.config()) {
                Some(runner) => hand_over(planned, &runner),
                None => Ok(planned),
            }
        })
    }
}

/// Does the plan read files that another process can open?
pub(crate) fn travels(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut travels = false;
    // Visiting does not fail.
    let _ = plan.apply(|node| {
        travels |= is_pinned_scan(node.as_ref());
        Ok(if travels { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    travels
}

/// The plan, whose part that can leave this process runs there.
pub(crate) fn hand_over(plan: Arc<dyn ExecutionPlan>, runner: &Arc<dyn Runner>) -> DfResult<Arc<dyn ExecutionPlan>> {
    if !travels(&plan) || plan.is::<ExplainExec>() {
        return Ok(plan);
    }
    if plan.is::<AnalyzeExec>() || plan.is::<DataSinkExec>() {
        let children = plan.children().into_iter().map(|child| hand_over(child.clone(), runner)).collect::<DfResult<Vec<_>>>()?;
        return replace_children_if_necessary(plan, children);
    }
    Ok(Arc::new(RemoteExec::new(plan, runner.clone())))
}

/// A plan that runs elsewhere.
struct RemoteExec {
    plan: Arc<dyn ExecutionPlan>,
    runner: Arc<dyn Runner>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RemoteExec {
    fn new(plan: Arc<dyn ExecutionPlan>, runner: Arc<dyn Runner>) -> Self {
        let mut equivalences = plan.equivalence_properties().clone();
        if plan.output_partitioning().partition_count() > 1 {
            equivalences.clear_orderings();
            equivalences.clear_per_partition_constants();
        }
        let one_partition = Partitioning::UnknownPartitioning(1);
        let properties = PlanProperties::new(equivalences, one_partition, EmissionType::Final, Boundedness::Bounded);
        Self { plan, runner, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl fmt::Debug for RemoteExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunElsewhere: {:?}", self.runner)
    }
}

impl DisplayAs for RemoteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunElsewhere: partitions={}", self.runner.partitions())
    }
}

impl ExecutionPlan for RemoteExec {
    fn name(&self) -> &str {
        "RunElsewhere"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.plan]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.plan.output_partitioning().partition_count() <= 1]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), self.runner.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let (plan, runner, metrics) = (self.plan.clone(), self.runner.clone(), BaselineMetrics::new(&self.metrics, partition));
        let rows = stream::once(async move {
            let plan = with_rows_of_this_process(plan, context.clone()).await?;
            runner.run(plan, context)
        });
        let schema = self.plan.schema();
        let rows = rows.try_flatten().and_then(move |batch| {
            metrics.record_output(batch.num_rows());
            // A plan that was planned again may know less of its columns.
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            ready(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options).map_err(Into::into))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.plan.schema(), rows.boxed())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The plan in which the rows that only this process can read are there already.
fn with_rows_of_this_process(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> BoxFuture<'static, DfResult<Arc<dyn ExecutionPlan>>> {
    Box::pin(async move {
        if plan.is::<EmptyExec>() || plan.is::<PlaceholderRowExec>() {
            return Ok(plan);
        }
        // What divides rows among processes, or brings them together, is the other side's to do.
        let exchanges =
            plan.is::<RepartitionExec>() || plan.is::<CoalescePartitionsExec>() || plan.is::<SortPreservingMergeExec>();
        if exchanges || travels(&plan) {
            let mut children = Vec::with_capacity(plan.children().len());
            let needed = plan.input_distribution_requirements();
            for (child, needed) in plan.children().into_iter().zip(needed.per_child_distributions()) {
                let child = with_rows_of_this_process(child.clone(), context.clone()).await?;
                children.push(if matches!(needed, Distribution::SinglePartition) { in_one_partition(child)? } else { child });
            }
            return replace_children_if_necessary(plan, children);
        }
        let (schema, partitions) = (plan.schema(), collect_partitioned(plan, context).await?);
        Ok(MemorySourceConfig::try_new_exec(&partitions, schema, None)? as _)
    })
}

/// Rows in memory as one partition, in the order of their partitions: who brings partitions together otherwise keeps no order.
fn in_one_partition(plan: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    let source = plan.downcast_ref::<DataSourceExec>();
    match source.and_then(|source| source.data_source().downcast_ref::<MemorySourceConfig>()) {
        Some(rows) if rows.partitions().len() > 1 => {
            Ok(MemorySourceConfig::try_new_exec(&[rows.partitions().concat()], plan.schema(), None)? as _)
        }
        _ => Ok(plan),
    }
}
