//! Plans a query over opened tables, in a session that holds these tables, the functions, and nothing else.
//! Functions that read the clock or random numbers are refused, so a query gives the same answer tomorrow.

use std::sync::Arc;

use datafusion::{
    catalog::{MemorySchemaProvider, TableProvider},
    common::{
        TableReference,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    dataframe::DataFrame,
    execution::context::SQLOptions,
    logical_expr::LogicalPlan,
    prelude::SessionContext,
    sql::parser::Statement,
};

use super::{
    asof_join, calls::check_calls, functions, information_schema::InformationSchema, parameters::Parameters, statement::parse,
    tables::ExtractTable, trailing,
};
use crate::{
    engine::{CATALOG, Engine, Parallelism},
    error::Result,
    name::TableName,
    scan::{AsOfTable, Sources, refuse_volatile_plan},
    temporal::with_operators,
};

/// What a query may name besides fact tables.
#[derive(Clone, Default)]
pub(crate) struct QueryContext {
    pub(crate) extracts: Vec<ExtractTable>,
    pub(crate) parameters: Parameters,
    /// What `information_schema` shows; `None` if the query does not read it.
    pub(crate) information_schema: Option<InformationSchema>,
}

/// Plans a query over these tables and nothing else; `subject` names it in errors.
pub(crate) async fn query(
    engine: &Engine,
    parallelism: Parallelism,
    subject: &str,
    sources: Sources,
    sql: &str,
) -> Result<DataFrame> {
    query_with(engine, parallelism, subject, sources, QueryContext::default(), sql).await
}

/// As [`query`], with a context.
pub(crate) async fn query_with(
    engine: &Engine,
    parallelism: Parallelism,
    subject: &str,
    sources: Sources,
    context: QueryContext,
    sql: &str,
) -> Result<DataFrame> {
    let session = session(engine, parallelism, sources.clone())?;
    if let Some(information_schema) = context.information_schema {
        information_schema.register(&session, &sources)?;
    }
    for extract in context.extracts {
        session.runtime_env().register_object_store(extract.location.base(), extract.location.store().clone());
        register(&session, &extract.name, extract.rows)?;
    }
    trailing::register(&session, sources)?;
    let mut statement = parse(sql)?.statement;
    // Planning evaluates calls that are stable within a query, so afterwards the clock would already have been read.
    check_calls(subject, &statement, &session.state())?;
    context.parameters.declare(subject, &mut statement)?;
    let plan = context.parameters.fill(plan(&session, statement).await?)?;
    let only_queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_queries.verify_plan(&plan)?;
    refuse_volatile_plan(subject, &plan)?;
    rows(&session, plan).await
}

/// Plans one statement.
async fn plan(session: &SessionContext, mut statement: Statement) -> Result<LogicalPlan> {
    trailing::normalize(&mut statement)?;
    if !asof_join::mark(&mut statement)? {
        return Ok(session.state().statement_to_plan(statement).await?);
    }
    session.register_udf(asof_join::marker());
    asof_join::resolve(session.state().statement_to_plan(statement).await?)
}

/// The rows of a plan. One without our operators runs as DataFusion runs it.
async fn rows(session: &SessionContext, plan: LogicalPlan) -> Result<DataFrame> {
    let mut has_operators = false;
    plan.apply_with_subqueries(|node| {
        has_operators |= matches!(node, LogicalPlan::Extension(_));
        Ok(if has_operators { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    match has_operators {
        true => Ok(DataFrame::new(with_operators(session.state(), None), plan)),
        false => Ok(session.execute_logical_plan(plan).await?),
    }
}

/// All visible rows of one table.
pub(crate) async fn table_rows(
    engine: &Engine,
    parallelism: Parallelism,
    name: &TableName,
    table: AsOfTable,
) -> Result<DataFrame> {
    let session = session(engine, parallelism, vec![(name.clone(), table)])?;
    Ok(session.table(TableReference::full(CATALOG, name.database(), name.table())).await?)
}

/// A session that holds these tables and the functions.
pub(super) fn session(engine: &Engine, parallelism: Parallelism, sources: Sources) -> Result<SessionContext> {
    let session = engine.session(parallelism, sources.iter().filter_map(|(_, table)| table.location()))?;
    functions::register(&session)?;
    for (name, table) in sources {
        register(&session, &name, Arc::new(table))?;
    }
    Ok(session)
}

fn register(session: &SessionContext, name: &TableName, table: Arc<dyn TableProvider>) -> Result<()> {
    if let Some(catalog) = session.catalog(CATALOG)
        && catalog.schema(name.database()).is_none()
    {
        catalog.register_schema(name.database(), Arc::new(MemorySchemaProvider::new()))?;
    }
    session.register_table(TableReference::full(CATALOG, name.database(), name.table()), table)?;
    Ok(())
}

/// Whether an expression or a condition of the plan asks a query of its own. What it answers comes from other rows.
pub(crate) fn has_subquery(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply(|node| {
        node.apply_subqueries(|_| {
            found = true;
            Ok(TreeNodeRecursion::Stop)
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether each output row depends on one input row alone. Tasks may then share the work without changing a bit; sums and
/// windows over floats would round differently.
pub(crate) fn plan_is_rowwise(plan: &LogicalPlan) -> Result<bool> {
    let mut rowwise = true;
    plan.apply_with_subqueries(|node| {
        use LogicalPlan::{EmptyRelation, Filter, Projection, SubqueryAlias, TableScan, Union, Values};
        let plain =
            matches!(node, Projection(_) | Filter(_) | TableScan(_) | SubqueryAlias(_) | Union(_) | EmptyRelation(_) | Values(_));
        rowwise &= plain;
        Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(rowwise)
}
