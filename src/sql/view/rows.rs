//! Follows a plan from the top to its tables, and refuses whatever makes a row of more than one fact. For each table of facts it
//! notes where the columns of the result come from.

use std::{any::Any, collections::BTreeSet, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{
        Column,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    datasource::source_as_provider,
    error::DataFusionError,
    logical_expr::{
        Aggregate, Distinct, Filter, Join, JoinConstraint, JoinType, LogicalPlan, Projection, SubqueryAlias, TableScan, Union,
    },
    prelude::Expr,
};

use crate::{catalog::FactTable, error::Error, name::TableName, scan::AsOfTable};

/// A plan each of whose rows is made of one fact.
pub(super) struct FactRows {
    pub(super) plan: LogicalPlan,
    /// One for each table of facts that is read, and more if one is read in several inputs of a union.
    pub(super) branches: Vec<Branch>,
}

/// The rows of a plan that are made of facts of one table.
#[derive(Clone)]
pub(super) struct Branch {
    pub(super) table: TableName,
    pub(super) declared: FactTable,
    /// The columns of the table.
    pub(super) schema: SchemaRef,
    /// What each column of the plan is made of, in their order.
    pub(super) columns: Vec<MadeOf>,
}

/// What a column of a plan is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MadeOf {
    /// This column of the table of facts, unchanged.
    Column(String),
    /// An expression over these columns of the table of facts, over columns of timeless tables, and constants.
    Computed(BTreeSet<String>),
}

/// Why a plan is not followed any further.
pub(super) enum Stop {
    /// Its rows are not made of one fact each. The text says why and what to do, as a sentence about the view.
    Refused(String),
    Failed(Error),
}

impl From<DataFusionError> for Stop {
    fn from(error: DataFusionError) -> Self {
        Stop::Failed(error.into())
    }
}

fn refused<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Refused(reason.into()))
}

/// The rows of a plan with the tables that they come from.
pub(super) fn fact_rows(plan: &LogicalPlan) -> Result<FactRows, Stop> {
    match follow(plan)? {
        Followed::Facts(rows) => Ok(rows),
        Followed::Timeless(_) => {
            let tables = tables_of(plan);
            let tables = if tables.is_empty() { "no table".to_owned() } else { format!("timeless tables alone, {tables}") };
            refused(format!(
                "it reads {tables}: a view needs a table of facts; look up columns of a timeless table with `Source::timeless`"
            ))
        }
    }
}

/// A part of a plan.
enum Followed {
    Facts(FactRows),
    /// It reads timeless tables alone, or has its rows written in the query.
    Timeless(LogicalPlan),
}

impl Followed {
    /// The same with another node above the plan, whose columns are made of those of the plan.
    fn below(
        self,
        node: impl FnOnce(LogicalPlan) -> Result<LogicalPlan, DataFusionError>,
        columns: impl Fn(&LogicalPlan, &[MadeOf]) -> Vec<MadeOf>,
    ) -> Result<Self, Stop> {
        Ok(match self {
            Followed::Timeless(plan) => Followed::Timeless(node(plan)?),
            Followed::Facts(FactRows { plan, mut branches }) => {
                branches.iter_mut().for_each(|branch| branch.columns = columns(&plan, &branch.columns));
                Followed::Facts(FactRows { plan: node(plan)?, branches })
            }
        })
    }
}

fn follow(plan: &LogicalPlan) -> Result<Followed, Stop> {
    refuse_subquery(plan)?;
    let unchanged = |_: &LogicalPlan, columns: &[MadeOf]| columns.to_vec();
    match plan {
        LogicalPlan::TableScan(scan) => scanned(plan, scan),
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Ok(Followed::Timeless(plan.clone())),
        LogicalPlan::SubqueryAlias(alias) => {
            let node = |input| Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?));
            follow(&alias.input)?.below(node, unchanged)
        }
        LogicalPlan::Filter(filter) => {
            let node = |input| Ok(LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(input))?));
            follow(&filter.input)?.below(node, unchanged)
        }
        LogicalPlan::Projection(projection) => {
            let node = |input| Ok(LogicalPlan::Projection(Projection::try_new(projection.expr.clone(), Arc::new(input))?));
            let columns = |input: &LogicalPlan, columns: &[MadeOf]| {
                projection.expr.iter().map(|expression| made_of(expression, input, columns)).collect()
            };
            follow(&projection.input)?.below(node, columns)
        }
        LogicalPlan::Union(union) => united(union),
        LogicalPlan::Join(join) => joined(plan, join),
        LogicalPlan::Aggregate(aggregate) => aggregated(plan, aggregate),
        LogicalPlan::Distinct(Distinct::All(input)) if matches!(input.as_ref(), LogicalPlan::Union(_)) => {
            refused(format!("its UNION merges equal rows of {}, which are different facts: write UNION ALL", tables_of(plan)))
        }
        LogicalPlan::Distinct(_) => {
            refused(format!("its DISTINCT merges equal rows of {}, which are different facts: leave it out", tables_of(plan)))
        }
        LogicalPlan::Window(window) => {
            let call = window.window_expr.first().map_or_else(String::new, |call| format!(" `{call}`"));
            refused(format!("its window function{call} reads other rows of {}: use the windows of the set", tables_of(plan)))
        }
        LogicalPlan::Sort(_) => refused("its ORDER BY has no effect, since facts have their own order: leave it out"),
        LogicalPlan::Limit(_) => {
            refused(format!("its LIMIT picks rows of {} by comparing them with others: leave it out", tables_of(plan)))
        }
        LogicalPlan::Unnest(_) => {
            refused(format!("its `unnest` makes several rows of one of {}: load such rows as facts", named_or_written(plan)))
        }
        LogicalPlan::Extension(_) => refused(
            "it is an ASOF JOIN or calls `trailing`, which make a row of several facts: look such columns up in the set, with \
             a source of its own",
        ),
        _ => refused("it is no SELECT of projections, filters, UNION ALL and joins to timeless tables"),
    }
}

/// A subquery in an expression answers from other rows.
fn refuse_subquery(plan: &LogicalPlan) -> Result<(), Stop> {
    let mut holder: Option<String> = None;
    let mut number = 0;
    plan.apply_expressions(|expression| {
        let is_subquery =
            |e: &Expr| matches!(e, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_));
        if holder.is_none() && expression.exists(|e| Ok(is_subquery(e)))? {
            holder = Some(match plan {
                LogicalPlan::Projection(projection) => {
                    let field = projection.schema.fields().get(number);
                    field.map_or_else(|| "a column".into(), |field| format!("its column `{}`", field.name()))
                }
                LogicalPlan::Filter(_) => "its WHERE".to_owned(),
                _ => "it".to_owned(),
            });
        }
        number += 1;
        Ok(TreeNodeRecursion::Continue)
    })?;
    match holder {
        Some(holder) => refused(format!(
            "{holder} holds a subquery, which reads other rows: join a timeless table, or use a source of the set"
        )),
        None => Ok(()),
    }
}

fn scanned(plan: &LogicalPlan, scan: &TableScan) -> Result<Followed, Stop> {
    let provider = source_as_provider(&scan.source)?;
    let Some(table) = (provider.as_ref() as &dyn Any).downcast_ref::<AsOfTable>() else {
        return refused(format!("it reads `{}`, which is no table of the catalog", scan.table_name));
    };
    let declared = table.declared().clone();
    if declared.is_timeless() {
        return Ok(Followed::Timeless(plan.clone()));
    }
    let columns = scan.projected_schema.fields().iter().map(|field| MadeOf::Column(field.name().clone())).collect();
    let branch = Branch { table: table.name().clone(), declared, schema: scan.source.schema(), columns };
    Ok(Followed::Facts(FactRows { plan: plan.clone(), branches: vec![branch] }))
}

/// What an expression over the columns of a plan is made of.
fn made_of(expression: &Expr, input: &LogicalPlan, columns: &[MadeOf]) -> MadeOf {
    let of_column = |column: &Column| input.schema().maybe_index_of_column(column).and_then(|position| columns.get(position));
    let mut inner = expression;
    while let Expr::Alias(alias) = inner {
        inner = &alias.expr;
    }
    if let Expr::Column(column) = inner {
        return of_column(column).cloned().unwrap_or_else(|| MadeOf::Computed(BTreeSet::new()));
    }
    let mut read = BTreeSet::new();
    for column in inner.column_refs() {
        match of_column(column) {
            Some(MadeOf::Column(name)) => drop(read.insert(name.clone())),
            Some(MadeOf::Computed(names)) => read.extend(names.iter().cloned()),
            None => {}
        }
    }
    MadeOf::Computed(read)
}

/// The inputs of a union get the names of its columns: filters that are pushed down find columns of inputs by name.
fn united(union: &Union) -> Result<Followed, Stop> {
    let (mut inputs, mut branches) = (Vec::with_capacity(union.inputs.len()), Vec::new());
    for input in &union.inputs {
        let Followed::Facts(rows) = follow(input)? else {
            return refused("an input of its UNION ALL reads no table of facts, so its rows have no times: leave it out");
        };
        let names = union.schema.fields().iter().map(|field| field.name());
        let columns = rows.plan.schema().columns().into_iter().zip(names);
        let columns = columns.map(|(column, name)| Expr::Column(column).alias(name)).collect();
        inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(rows.plan))?)));
        branches.extend(rows.branches);
    }
    Ok(Followed::Facts(FactRows { plan: LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?), branches }))
}

/// The rows of a timeless table become the side from which a hash table is built, so that the facts are never held.
fn joined(plan: &LogicalPlan, join: &Join) -> Result<Followed, Stop> {
    let no_facts = |width: usize| vec![MadeOf::Computed(BTreeSet::new()); width];
    let width = |plan: &LogicalPlan| plan.schema().fields().len();
    let order: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    match (follow(&join.left)?, follow(&join.right)?) {
        (Followed::Facts(left), Followed::Facts(right)) => refused(format!(
            "it joins facts of {} with facts of {}, so a row would be made of several facts: give each a source of its own",
            names_of(&left.branches),
            names_of(&right.branches)
        )),
        (Followed::Timeless(left), Followed::Timeless(right)) => {
            let join = with_sides(join, left, right, join.join_type, join.on.clone())?;
            Ok(Followed::Timeless(LogicalPlan::Join(join)))
        }
        (Followed::Facts(FactRows { plan: facts, mut branches }), Followed::Timeless(timeless)) => {
            let join_type = match join.join_type {
                JoinType::Inner => JoinType::Inner,
                JoinType::Left => JoinType::Right,
                other => return refused(other_join(other, &branches, &timeless)),
            };
            let added = no_facts(width(&timeless));
            branches.iter_mut().for_each(|branch| branch.columns.extend(added.iter().cloned()));
            let on = join.on.iter().map(|(left, right)| (right.clone(), left.clone())).collect();
            let join = LogicalPlan::Join(with_sides(join, timeless, facts, join_type, on)?);
            let plan = LogicalPlan::Projection(Projection::try_new(order, Arc::new(join))?);
            Ok(Followed::Facts(FactRows { plan, branches }))
        }
        (Followed::Timeless(timeless), Followed::Facts(FactRows { plan: facts, mut branches })) => {
            if !matches!(join.join_type, JoinType::Inner | JoinType::Right) {
                return refused(other_join(join.join_type, &branches, &timeless));
            }
            for branch in &mut branches {
                let own = std::mem::replace(&mut branch.columns, no_facts(width(&timeless)));
                branch.columns.extend(own);
            }
            let join = with_sides(join, timeless, facts, join.join_type, join.on.clone())?;
            Ok(Followed::Facts(FactRows { plan: LogicalPlan::Join(join), branches }))
        }
    }
}

fn with_sides(
    join: &Join,
    left: LogicalPlan,
    right: LogicalPlan,
    join_type: JoinType,
    on: Vec<(Expr, Expr)>,
) -> Result<Join, DataFusionError> {
    let (left, right) = (Arc::new(left), Arc::new(right));
    Join::try_new(left, right, on, join.filter.clone(), join_type, JoinConstraint::On, join.null_equality, false)
}

/// Why a join of facts and a timeless table is refused that is neither an inner join nor keeps all facts.
fn other_join(join_type: JoinType, branches: &[Branch], timeless: &LogicalPlan) -> String {
    let (facts, timeless) = (names_of(branches), named_or_written(timeless));
    let instead = match join_type {
        JoinType::LeftSemi | JoinType::RightSemi => format!("write {facts} JOIN {timeless}"),
        JoinType::LeftAnti | JoinType::RightAnti => {
            format!("write {facts} LEFT JOIN {timeless}, and in WHERE that the key of {timeless} IS NULL")
        }
        _ => format!("it may have rows that are made of no fact; write {facts} JOIN {timeless}, or {facts} LEFT JOIN {timeless}"),
    };
    format!("its {join_type} join of {facts} with {timeless} cannot be followed: {instead}")
}

/// The tables below a node, or what it is instead, for messages.
fn named_or_written(plan: &LogicalPlan) -> String {
    match tables_of(plan) {
        none if none.is_empty() => "rows that the query writes".into(),
        tables => tables,
    }
}

fn aggregated(plan: &LogicalPlan, aggregate: &Aggregate) -> Result<Followed, Stop> {
    let first = aggregate.aggr_expr.first().or(aggregate.group_expr.first());
    let what = first.map_or_else(String::new, |first| format!(" (`{first}`)"));
    refused(format!(
        "it aggregates rows of {}{what}, so a row would be made of several facts: aggregate in the windows of the set",
        tables_of(plan)
    ))
}

fn names_of(branches: &[Branch]) -> String {
    let mut names: Vec<String> = branches.iter().map(|branch| format!("`{}`", branch.table)).collect();
    names.dedup();
    names.join(", ")
}

/// The tables below a node, for messages.
fn tables_of(plan: &LogicalPlan) -> String {
    let mut names: Vec<String> = Vec::new();
    // The closure never fails.
    let _ = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let provider = source_as_provider(&scan.source).ok();
            let table = provider.as_ref().and_then(|provider| (provider.as_ref() as &dyn Any).downcast_ref::<AsOfTable>());
            let name = table.map_or_else(|| scan.table_name.to_string(), |table| table.name().to_string());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
