//! Plans the operators: from logical nodes to physical plans.
//! All other nodes are planned by DataFusion.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::{
        DFSchema, Result as DfResult,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    datasource::{physical_plan::FileScanConfig, source::DataSourceExec},
    execution::{SessionState, SessionStateBuilder, context::QueryPlanner},
    logical_expr::{
        LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore, physical_planning_context::PhysicalPlanningContext,
    },
    physical_plan::{ExecutionPlan, ExecutionPlanProperties, filter::FilterExec, projection::ProjectionExec},
    physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner},
};
use futures::future::BoxFuture;

use super::{
    elsewhere::elsewhere,
    exec::{AsOfExec, Asked, Mode},
    fact_expression::FactExpressions,
    fact_input::{PhysicalFactInput, SpineTime},
    full_rows::{AllColumns, FullRows},
    node::AsOfNode,
    operator::CreateOperator,
    partitioned::can_travel,
    spec::{LookupSpec, OperatorSpec, WindowSpec},
};
use crate::{
    engine::{Runner, restricted_filter_pushdown, run_on, runner_of, travels, with_final_plan},
    error::{Error, Result},
};

/// The same session state, able to plan the operators.
///
/// The result has the order of the spine. So everything that shuffles rows below the spine is off: round-robin repartitioning,
/// which distributes batches; the repartitioning of scans, which sorts batches of tables in memory by size ([`shared_out`]
/// repartitions the scans for which it is safe); and idle tasks that take over files of others. The rule that reads fields of
/// nested columns below other operators is off too: it mistakes a column of the result for the column of the facts with the
/// same name. Physical filter pushdown is restricted as in the sessions of the engine: facts may be the rows of a join.
///
/// With a runner, plans run there if they can leave this process.
pub(crate) fn with_operators(state: SessionState, runner: Option<Arc<dyn Runner>>) -> SessionState {
    let rules = restricted_filter_pushdown(state.physical_optimizers().iter().cloned());
    let builder = SessionStateBuilder::new_from_existing(state).with_query_planner(Arc::new(AsOfQueryPlanner));
    let mut builder = builder.with_physical_optimizer_rules(rules);
    // The builder's own copy of the settings says that the default catalog exists already. With other settings the builder
    // would put an empty catalog into the list that all states of the session share, and the user's tables would be gone.
    if let Some(config) = builder.config() {
        let options = config.options_mut();
        options.optimizer.enable_round_robin_repartition = false;
        options.optimizer.repartition_file_scans = false;
        options.optimizer.enable_leaf_expression_pushdown = false;
        options.execution.enable_file_stream_work_stealing = false;
        if let Some(runner) = runner {
            run_on(config, runner);
        }
    }
    builder.build()
}

#[derive(Debug)]
struct AsOfQueryPlanner;

/// Written without `async_trait`, whose lifetime bounds make the compiler prove anew, in this function's own environment, that a
/// logical plan is `Send`: a fifth of the time that it spends on this crate.
impl QueryPlanner for AsOfQueryPlanner {
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
        physical_plan(plan, state)
    }
}

fn physical_plan<'f>(plan: &'f LogicalPlan, state: &'f dyn Session) -> BoxFuture<'f, DfResult<Arc<dyn ExecutionPlan>>> {
    Box::pin(async move {
        let planned = planned_here(plan, state).await?;
        let Some(runner) = runner_of(state.config()) else { return Ok(planned) };
        match plan {
            LogicalPlan::Explain(asked) if asked.logical_optimization_succeeded => {
                let plan = physical_plan(&asked.plan, state).await?;
                with_final_plan(planned, plan.as_ref(), asked, state.config_options())
            }
            _ if travels(&planned) && can_travel(&planned)? => elsewhere(planned, &runner),
            _ => Ok(planned),
        }
    })
}

/// The plan as one process runs it.
fn planned_here<'f>(plan: &'f LogicalPlan, state: &'f dyn Session) -> BoxFuture<'f, DfResult<Arc<dyn ExecutionPlan>>> {
    let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(AsOfPlanner)]);
    Box::pin(async move { planner.create_physical_plan(plan, state).await })
}

struct AsOfPlanner;

#[async_trait]
impl ExtensionPlanner for AsOfPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(node) = node.as_any().downcast_ref::<AsOfNode<LookupSpec>>() {
            return Ok(Some(plan(node, inputs, session).await?));
        }
        if let Some(node) = node.as_any().downcast_ref::<AsOfNode<WindowSpec>>() {
            return Ok(Some(plan(node, inputs, session).await?));
        }
        Ok(None)
    }
}

async fn plan<S: CreateOperator>(
    node: &AsOfNode<S>,
    inputs: &[Arc<dyn ExecutionPlan>],
    session: &dyn Session,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some((spine, facts)) = inputs.split_first() else {
        return Err(Error::Internal { subject: format!("planning {}", S::NAME), reason: "it has no spine".into() });
    };
    let (options, travels) = (session.config_options(), runner_of(session.config()).is_some());
    let spine = shared_out(spine, options, keeps_its_order_in_parts)?;
    let facts = facts.iter().map(|facts| shared_out(facts, options, |_| true)).collect::<DfResult<Vec<_>>>()?;
    let spine_schema = node.spine.schema();
    let at_position = position(spine_schema, &node.at)?;
    let mut fact_inputs = Vec::with_capacity(node.fact_inputs.len());
    for ((logical, input), physical) in node.fact_inputs.iter().zip(&facts) {
        let mut planned = PhysicalFactInput::plan(spine_schema, &node.at, logical.schema(), input, physical.schema())?;
        planned.expressions = FactExpressions::plan(&input.spec, session, logical.schema())?;
        if let (Some(plan), Some(state)) = (&input.full_rows, session.as_any().downcast_ref::<SessionState>()) {
            let rows = match travels {
                true => AllColumns::Planned(planned_here(&state.optimize(plan)?, state).await?),
                false => AllColumns::Query(Box::new((plan.as_ref().clone(), state.clone()))),
            };
            planned.full_rows = Some(Arc::new(FullRows::new(spine_schema, &node.at, input, plan.schema(), rows)?));
        }
        fact_inputs.push(Arc::new(planned));
    }
    let schema = Arc::new(UserDefinedLogicalNodeCore::schema(node).as_arrow().clone());
    let asked = Asked {
        spine: spine_schema.clone(),
        at: node.at.clone(),
        facts: node.fact_inputs.iter().map(|(facts, _)| facts.schema().clone()).collect(),
        explain: ExplainText(node).to_string(),
    };
    let mode = Mode::Whole(spine.output_ordering().cloned());
    let operator = AsOfExec::new(spine, at_position, facts, fact_inputs, mode, schema, Arc::new(asked))?;
    Ok(Arc::new(operator.with_event_time_filters()))
}

/// Divides the scan below projections and filters among as many tasks as the session has, if `may_be` allows it.
fn shared_out(
    plan: &Arc<dyn ExecutionPlan>,
    options: &ConfigOptions,
    may_be: impl Fn(&dyn ExecutionPlan) -> bool,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let shared = plan.clone().transform_down(|node| {
        if node.is::<ProjectionExec>() || node.is::<FilterExec>() {
            return Ok(Transformed::no(node));
        }
        let parts = match node.children().is_empty() && may_be(node.as_ref()) {
            true => node.repartitioned(options.execution.target_partitions, options)?,
            false => None,
        };
        Ok(match parts {
            Some(parts) => Transformed::new(parts, true, TreeNodeRecursion::Jump),
            None => Transformed::new(node, false, TreeNodeRecursion::Jump),
        })
    })?;
    Ok(shared.data)
}

/// Does a scan keep its order when it is divided? Files are cut into consecutive ranges of bytes, unless several groups of
/// files have an order each.
fn keeps_its_order_in_parts(scan: &dyn ExecutionPlan) -> bool {
    let files = scan.downcast_ref::<DataSourceExec>().and_then(|source| source.data_source().downcast_ref::<FileScanConfig>());
    files.is_some() && scan.properties().output_ordering().is_none()
}

/// `EXPLAIN` shows the physical plan as the logical one.
struct ExplainText<'a, S>(&'a AsOfNode<S>);

impl<S: OperatorSpec> std::fmt::Display for ExplainText<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        UserDefinedLogicalNodeCore::fmt_for_explain(self.0, f)
    }
}

fn position(schema: &DFSchema, at: &SpineTime) -> Result<usize> {
    let found = schema.maybe_index_of_column(&at.column);
    found.ok_or_else(|| Error::unknown_column("the spine", &at.column.name, schema.as_arrow()))
}
