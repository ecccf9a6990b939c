//! SQL over fact tables as of an instant; what is SQL about instants themselves is the business of `temporal::sql`.
//! It refuses what could answer differently tomorrow: functions that read the clock or throw dice.

use std::sync::Arc;

use datafusion::{
    catalog::{MemorySchemaProvider, TableProvider},
    common::{
        Result as DfResult, TableReference,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    dataframe::DataFrame,
    execution::context::SQLOptions,
    logical_expr::{Expr, LogicalPlan, Volatility},
    prelude::SessionContext,
    sql::resolve::resolve_table_references,
};

use super::{
    AsOfTable, Listing, Parameters,
    statement::{Question, check_calls, parse},
};
use crate::{
    engine::{CATALOG, Engine, Parallelism},
    error::{Error, Result},
    name::TableName,
    sql_functions,
    storage::Location,
    temporal,
};

/// The tables that a query may name.
pub(crate) type Sources = Vec<(TableName, AsOfTable)>;

/// The tables that a query names, also in the arguments of `trailing`; those of `information_schema` and its own common table expressions left out.
///
/// # Errors
/// [`Error::Query`] when the text is not one SQL statement, [`Error::Statement`] for one that is not answered,
/// [`Error::InvalidName`] when a table cannot exist.
pub(crate) fn tables_in(sql: &str) -> Result<Vec<TableName>> {
    let Question { mut statement, shown } = parse(sql)?;
    let mut names = temporal::sql::take_tables(&mut statement)?;
    names.extend(shown);
    let (references, _) = resolve_table_references(&statement, true)?;
    for reference in references {
        let schema = reference.schema();
        if schema == Some("information_schema") {
            continue;
        }
        let name = match schema {
            Some(schema) => format!("{schema}.{}", reference.table()).parse()?,
            None => reference.table().parse()?,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Plans a query over these tables and nothing else; `subject` names it in errors.
pub(crate) async fn query(
    engine: &Engine,
    parallelism: Parallelism,
    subject: &str,
    sources: Sources,
    sql: &str,
) -> Result<DataFrame> {
    query_with(engine, parallelism, subject, sources, Beside::default(), sql).await
}

/// Rows that are no facts: an extract, which was cut when it was made. Whoever makes one has checked that the query may see it.
#[derive(Clone)]
pub(crate) struct Derived {
    pub(crate) name: TableName,
    pub(crate) place: Location,
    pub(crate) rows: Arc<dyn TableProvider>,
}

/// What a query may name beside fact tables.
#[derive(Clone, Default)]
pub(crate) struct Beside {
    pub(crate) derived: Vec<Derived>,
    pub(crate) parameters: Parameters,
    /// What `information_schema` shows, when the query asks.
    pub(crate) listing: Option<Listing>,
}

/// As [`query`], with more that the query may name.
pub(crate) async fn query_with(
    engine: &Engine,
    parallelism: Parallelism,
    subject: &str,
    sources: Sources,
    beside: Beside,
    sql: &str,
) -> Result<DataFrame> {
    let session = session(engine, parallelism, sources.clone())?;
    if let Some(listing) = beside.listing {
        listing.register(&session, &sources)?;
    }
    for derived in beside.derived {
        session.runtime_env().register_object_store(derived.place.base(), derived.place.store().clone());
        register(&session, &derived.name, derived.rows)?;
    }
    temporal::sql::register(&session, sources)?;
    let mut statement = parse(sql)?.statement;
    // Planning computes what does not change within a query: by then the clock would have been read.
    check_calls(subject, &statement, &session.state())?;
    beside.parameters.declare(subject, &mut statement)?;
    let plan = beside.parameters.fill(temporal::sql::plan(&session, statement).await?)?;
    let only_queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_queries.verify_plan(&plan)?;
    refuse_volatile(subject, &plan)?;
    temporal::sql::rows(&session, plan).await
}

/// All rows of one table.
pub(crate) async fn table(engine: &Engine, parallelism: Parallelism, name: &TableName, table: AsOfTable) -> Result<DataFrame> {
    let session = session(engine, parallelism, vec![(name.clone(), table)])?;
    Ok(session.table(TableReference::full(CATALOG, name.database(), name.table())).await?)
}

fn session(engine: &Engine, parallelism: Parallelism, sources: Sources) -> Result<SessionContext> {
    let session = engine.session(parallelism, sources.iter().filter_map(|(_, table)| table.place()))?;
    sql_functions::register(&session)?;
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

/// Refuses plans whose result depends on the clock or on chance.
fn refuse_volatile(subject: &str, plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            found = found.take().or(volatile_call(expression)?);
            Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    refuse(subject, found)
}

/// Refuses expressions whose value depends on the clock or on chance.
pub(crate) fn refuse_volatile_expression(subject: &str, expression: &Expr) -> Result<()> {
    refuse(subject, volatile_call(expression)?)
}

fn refuse(subject: &str, volatile: Option<String>) -> Result<()> {
    volatile.map_or(Ok(()), |function| Err(Error::Volatile { subject: subject.into(), function }))
}

/// The first function in an expression that reads the clock or throws dice; functions that hold still within one query do not
/// from query to query.
fn volatile_call(expression: &Expr) -> DfResult<Option<String>> {
    let mut found = None;
    expression.apply(|e| {
        if let Expr::ScalarFunction(call) = e {
            let name = call.func.name();
            if call.func.signature().volatility != Volatility::Immutable {
                found = Some(name.to_owned());
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Does each output row depend on one input row alone? Then tasks may share the work without changing a bit; sums and
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
