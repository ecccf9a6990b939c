//! Plans that run where a [`Runner`] takes them.
//!
//! A plan leaves this process if it reads files of pinned tables, which any process can open. What only this process can read (a spine
//! that a user made, the rows of a provider) is read here first, and its rows are sent along in the plan. Roots that act in this process,
//! such as one that writes files, stay here.

use std::{fmt, sync::Arc};

use datafusion::{
    catalog::Session,
    common::{
        Result as DfResult,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    datasource::sink::DataSinkExec,
    execution::{SendableRecordBatchStream, TaskContext, context::QueryPlanner},
    logical_expr::LogicalPlan,
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
        PlanProperties, ReplaceChildrenOptions,
        analyze::AnalyzeExec,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        replace_children_if_necessary,
        sorts::sort_preserving_merge::SortPreservingMergeExec,
        stream::RecordBatchStreamAdapter,
    },
    physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner},
    prelude::SessionConfig,
};
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::{Gather, Runner, explained::with_final_plan, own_rows::OwnRows};
use crate::{error::Error, storage::is_pinned_scan};

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
            let Some(runner) = runner_of(state.config()) else { return Ok(planned) };
            match plan {
                LogicalPlan::Explain(asked) if asked.logical_optimization_succeeded => {
                    let plan = self.create_physical_plan(&asked.plan, state).await?;
                    with_final_plan(planned, plan.as_ref(), asked, state.config_options())
                }
                _ => hand_over(planned, &runner, Departure::PLAIN),
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

/// Makes a plan of a plan.
type Rewrite = fn(Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>>;

/// What a planner says of the plans that it hands over.
#[derive(Clone, Copy)]
pub(crate) struct Departure {
    /// Is a node the other side's to do, although this process has the rows below it?
    pub(crate) is_left: fn(&dyn ExecutionPlan) -> bool,
    /// Called with a plan that holds the rows of this process, just before it leaves: what only these rows tell can be put into it.
    pub(crate) before: Rewrite,
}

impl Departure {
    /// Nothing is special about it.
    const PLAIN: Self = Self { is_left: |_| false, before: Ok };
}

/// The plan, whose part that can leave this process runs there.
pub(crate) fn hand_over(
    plan: Arc<dyn ExecutionPlan>,
    runner: &Arc<dyn Runner>,
    departure: Departure,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    if !travels(&plan) {
        return Ok(plan);
    }
    if plan.is::<AnalyzeExec>() || plan.is::<DataSinkExec>() {
        let children =
            plan.children().into_iter().map(|child| hand_over(child.clone(), runner, departure)).collect::<DfResult<Vec<_>>>()?;
        return replace_children_if_necessary(plan, children);
    }
    // The last merge is done here: one step less, whose rows would be written and sent once more.
    if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
        let gather = Gather::Merged(merge.expr().clone(), merge.fetch());
        return Ok(run_elsewhere(merge.input().clone(), gather, runner, departure));
    }
    Ok(run_elsewhere(plan, Gather::InTurn, runner, departure))
}

/// A plan that runs there, and whose partitions become one here.
pub(crate) fn run_elsewhere(
    plan: Arc<dyn ExecutionPlan>,
    gather: Gather,
    runner: &Arc<dyn Runner>,
    departure: Departure,
) -> Arc<dyn ExecutionPlan> {
    Arc::new(RemoteExec::new(plan, gather, runner.clone(), departure))
}

/// A plan that runs elsewhere. It has one partition.
struct RemoteExec {
    plan: Arc<dyn ExecutionPlan>,
    gather: Gather,
    runner: Arc<dyn Runner>,
    departure: Departure,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RemoteExec {
    fn new(plan: Arc<dyn ExecutionPlan>, gather: Gather, runner: Arc<dyn Runner>, departure: Departure) -> Self {
        let mut equivalences = plan.equivalence_properties().clone();
        match &gather {
            Gather::Merged(..) => equivalences.clear_per_partition_constants(),
            Gather::InTurn if plan.output_partitioning().partition_count() > 1 => {
                equivalences.clear_orderings();
                equivalences.clear_per_partition_constants();
            }
            Gather::InTurn => {}
            Gather::Beside(..) => equivalences = EquivalenceProperties::new(gather.schema(&plan.schema())),
        }
        let one_partition = Partitioning::UnknownPartitioning(1);
        let properties = PlanProperties::new(equivalences, one_partition, EmissionType::Final, Boundedness::Bounded);
        Self { plan, gather, runner, departure, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl fmt::Debug for RemoteExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunElsewhere: {:?}", self.runner)
    }
}

impl DisplayAs for RemoteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunElsewhere: partitions={}{:?}", self.runner.partitions(), self.gather)
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
        vec![matches!(self.gather, Gather::InTurn) && self.plan.output_partitioning().partition_count() <= 1]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), self.gather.clone(), self.runner.clone(), self.departure)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let (plan, gather, runner, departure) = (self.plan.clone(), self.gather.clone(), self.runner.clone(), self.departure);
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let schema = self.plan.schema();
        let rows = stream::once(async move {
            let mut own_rows = OwnRows::new(context.clone(), departure.is_left);
            let own = match &gather {
                Gather::Beside(_, rows) => own_rows.read_all(rows).await?,
                Gather::InTurn | Gather::Merged(..) => Vec::new(),
            };
            let plan = own_rows.put_into(plan).await?;
            if let Gather::Beside(_, rows) = &gather
                && !own_rows.has_used(rows)
            {
                let reason = "the plan was changed so that the spine would be read twice".into();
                return Err(Error::Internal { subject: "a plan for other processes".into(), reason }.into());
            }
            let plan = (departure.before)(plan)?;
            gather.rows(runner.run(plan, context.clone()).await?, own, &schema, &context)
        });
        let rows = rows.try_flatten().inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows.boxed())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
