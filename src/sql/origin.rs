//! Where the columns of a plan come from: traces them through aliases, projections, filters and joins to a table of the
//! catalog. Only columns that are passed on unchanged are traced, since a declaration applies to a column and not to what is
//! computed.

use std::{any::Any, sync::Arc};

use datafusion::{
    common::tree_node::TreeNodeRecursion,
    datasource::source_as_provider,
    logical_expr::{
        Aggregate, BinaryExpr, Distinct, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Sort,
        TableScan,
    },
    prelude::Expr,
};

use crate::{
    catalog::{FactTable, FactTimes, KnownAt, TimeColumn},
    error::Result,
    scan::AsOfTable,
    temporal::{AsOfNode, LookupSpec, WindowSpec},
    time::{TimeUnit, Zone, is_local},
};

/// How the values of a column of times are read, as its table declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// The zone of the times, if they carry none.
    pub(super) zone: Option<Zone>,
    /// The unit of the times, if they are numbers.
    pub(super) unit: Option<TimeUnit>,
}

/// The declaration of a scanned table, if it is a table of the catalog.
fn declared(scan: &TableScan) -> Option<FactTable> {
    let provider = source_as_provider(&scan.source).ok()?;
    let table = (provider.as_ref() as &dyn Any).downcast_ref::<AsOfTable>()?;
    Some(table.declared().clone())
}

/// How the times in a column of a plan are read; `None` if they cannot be traced to a table of the catalog.
///
/// Rows may be filtered, joined, grouped and ordered in between. A local time stays in its zone when an interval is added, when
/// it is cast to another type without a zone, and when the largest of a group is taken.
pub(super) fn reading(plan: &LogicalPlan, column: usize) -> Option<Reading> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let (declared, name) = (declared(scan)?, scan.projected_schema.fields().get(column)?.name());
            let unit = declared.time_columns().find(|time| time.name() == name).and_then(|time| time.unit);
            Some(Reading { zone: declared.zone, unit })
        }
        LogicalPlan::SubqueryAlias(alias) => reading(&alias.input, column),
        LogicalPlan::Filter(filter) => reading(&filter.input, column),
        LogicalPlan::Sort(sort) => reading(&sort.input, column),
        LogicalPlan::Limit(limit) => reading(&limit.input, column),
        LogicalPlan::Repartition(parts) => reading(&parts.input, column),
        LogicalPlan::Distinct(Distinct::All(input)) => reading(input, column),
        LogicalPlan::Distinct(Distinct::On(on)) => reading_of(on.select_expr.get(column)?, &on.input),
        LogicalPlan::Projection(projection) => reading_of(projection.expr.get(column)?, &projection.input),
        LogicalPlan::Join(join) => {
            let (input, column) = input_of(join, column)?;
            reading(input, column)
        }
        LogicalPlan::Union(union) => {
            let mut readings = union.inputs.iter().map(|input| reading(input, column));
            let first = readings.next()??;
            readings.all(|other| other == Some(first)).then_some(first)
        }
        LogicalPlan::Window(window) => {
            (column < window.input.schema().fields().len()).then(|| reading(&window.input, column)).flatten()
        }
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate, column),
        LogicalPlan::Extension(extension) => {
            let node: &dyn Any = extension.node.as_any();
            if let Some(node) = node.downcast_ref::<AsOfNode<LookupSpec>>() {
                return looked_up(node, column);
            }
            let node = node.downcast_ref::<AsOfNode<WindowSpec>>()?;
            (column < node.spine.schema().fields().len()).then(|| reading(&node.spine, column)).flatten()
        }
        _ => None,
    }
}

/// The input of a join that a column of its result comes from, and the column there.
fn input_of(join: &Join, column: usize) -> Option<(&LogicalPlan, usize)> {
    let left = join.left.schema().fields().len();
    match join.join_type {
        JoinType::RightSemi | JoinType::RightAnti => Some((&join.right, column)),
        JoinType::LeftSemi | JoinType::LeftAnti => Some((&join.left, column)),
        _ if column < left => Some((&join.left, column)),
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => Some((&join.right, column - left)),
        JoinType::LeftMark | JoinType::RightMark => None,
    }
}

fn grouped(aggregate: &Aggregate, column: usize) -> Option<Reading> {
    if aggregate.group_expr.iter().any(|expression| matches!(expression, Expr::GroupingSet(_))) {
        return None;
    }
    match aggregate.group_expr.get(column) {
        Some(key) => reading_of(key, &aggregate.input),
        None => reading_of(aggregate.aggr_expr.get(column - aggregate.group_expr.len())?, &aggregate.input),
    }
}

fn looked_up(node: &AsOfNode<LookupSpec>, column: usize) -> Option<Reading> {
    let mut first = node.spine.schema().fields().len();
    if column < first {
        return reading(&node.spine, column);
    }
    for (facts, input) in &node.fact_inputs {
        if let Some(looked_up) = input.spec.columns.get(column - first) {
            return reading(facts, facts.schema().as_arrow().index_of(&looked_up.fact).ok()?);
        }
        first += input.spec.columns.len();
    }
    None
}

fn reading_of(expression: &Expr, input: &LogicalPlan) -> Option<Reading> {
    let local = |expression: &Expr| {
        // A sum with a number has no declared unit, and a time with a zone needs no reading.
        let data_type = datafusion::logical_expr::ExprSchemable::get_type(expression, input.schema()).ok()?;
        is_local(&data_type).then(|| reading_of(expression, input)).flatten()
    };
    match expression {
        Expr::Alias(alias) => reading_of(&alias.expr, input),
        Expr::Column(column) => reading(input, input.schema().maybe_index_of_column(column)?),
        Expr::Cast(cast) if is_local(cast.field.data_type()) => local(&cast.expr),
        Expr::TryCast(cast) if is_local(cast.field.data_type()) => local(&cast.expr),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus | Operator::Minus, right }) => match (local(left), local(right)) {
            (Some(reading), None) | (None, Some(reading)) => Some(reading),
            _ => None,
        },
        Expr::AggregateFunction(call) if ["min", "max"].contains(&call.func.name()) => match call.params.args.as_slice() {
            [time] => reading_of(time, input),
            _ => None,
        },
        Expr::ScalarFunction(call) if call.func.name() == "date_trunc" => match call.args.as_slice() {
            [_, time] => local(time),
            _ => None,
        },
        _ => None,
    }
}

/// Why the rows of a plan are not rows of one table of the catalog.
#[derive(Debug)]
pub(super) enum NotFactRows {
    /// It reads no table: the rows are written in the query.
    Written,
    /// It makes rows from other rows; the text says how.
    Made(&'static str),
}

/// A plan each of whose rows is a row of one table of the catalog. Its first columns are those of the original plan, in their
/// order; other columns of the table follow.
#[derive(Debug)]
pub(super) struct TableRows {
    pub(super) plan: LogicalPlan,
    pub(super) declared: FactTable,
    /// All columns of the table by name, with their positions in the plan. A column may have several positions.
    pub(super) columns: Vec<(String, usize)>,
}

impl TableRows {
    /// The position of a column of the table.
    pub(super) fn position_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().find(|(known, _)| known == name).map(|(_, at)| *at)
    }

    /// The table's name for a column of the plan.
    pub(super) fn name_of(&self, position: usize) -> Option<&str> {
        self.columns.iter().find(|(_, at)| *at == position).map(|(name, _)| name.as_str())
    }

    /// The declaration with other names for the columns.
    pub(super) fn declared_as(&self, name: impl Fn(&str) -> String) -> FactTable {
        let time = |column: &TimeColumn| TimeColumn { name: name(&column.name), unit: column.unit };
        let FactTable { times, zone, keys, tie_break, identity } = &self.declared;
        let all = |names: &[String]| names.iter().map(|column| name(column)).collect();
        FactTable {
            times: times.as_ref().map(|FactTimes { event, known_at }| FactTimes {
                event: time(event),
                known_at: match known_at {
                    KnownAt::Column(column) => KnownAt::Column(time(column)),
                    KnownAt::DelayMicros(delay) => KnownAt::DelayMicros(*delay),
                },
            }),
            zone: *zone,
            keys: all(keys),
            tie_break: all(tie_break),
            identity: all(identity),
        }
    }
}

/// The plan with all columns of the table whose rows it passes on, if it passes on rows of a single table. Aliases,
/// projections, filters and orders are allowed.
pub(super) fn rows(plan: &LogicalPlan) -> Result<std::result::Result<TableRows, NotFactRows>> {
    let made = |how| Ok(Err(if reads_tables(plan)? { NotFactRows::Made(how) } else { NotFactRows::Written }));
    match plan {
        LogicalPlan::TableScan(scan) => {
            let Some(declared) = declared(scan) else { return made("it reads rows that are no facts of the catalog") };
            let names = scan.projected_schema.fields().iter().map(|field| field.name().clone());
            Ok(Ok(TableRows { plan: plan.clone(), declared, columns: names.zip(0..).collect() }))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let TableRows { plan, declared, columns } = match rows(&alias.input)? {
                Ok(rows) => rows,
                no_facts => return Ok(no_facts),
            };
            let plan = LogicalPlanBuilder::from(plan).alias(alias.alias.clone())?.build()?;
            Ok(Ok(TableRows { plan, declared, columns }))
        }
        LogicalPlan::Projection(projection) => match rows(&projection.input)? {
            Ok(input) => Ok(Ok(projected(projection, input)?)),
            no_facts => Ok(no_facts),
        },
        LogicalPlan::Filter(filter) => match rows(&filter.input)? {
            Ok(input) if !keeps_whole_facts(filter, &input) => Ok(Err(NotFactRows::Made(
                "its filter is on columns that a correction may change, so a row that was replaced could stay",
            ))),
            Ok(TableRows { plan, declared, columns }) => {
                let plan = LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(plan))?);
                Ok(Ok(TableRows { plan, declared, columns }))
            }
            no_facts => Ok(no_facts),
        },
        LogicalPlan::Sort(Sort { expr, input, fetch: None }) => match rows(input)? {
            Ok(TableRows { plan, declared, columns }) => {
                let plan = LogicalPlan::Sort(Sort { expr: expr.clone(), input: Arc::new(plan), fetch: None });
                Ok(Ok(TableRows { plan, declared, columns }))
            }
            no_facts => Ok(no_facts),
        },
        LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => made("its LIMIT picks rows by comparing them with other rows"),
        LogicalPlan::Aggregate(_) => made("it aggregates"),
        LogicalPlan::Distinct(_) => made("its DISTINCT merges rows"),
        LogicalPlan::Window(_) => made("its window functions read other rows"),
        LogicalPlan::Join(_) => made("it joins"),
        LogicalPlan::Union(_) => made("it combines several queries"),
        LogicalPlan::Extension(_) => made("it is itself the result of an ASOF JOIN or of `trailing`"),
        _ => made("it computes rows"),
    }
}

/// Does a filter keep either all versions of a fact or none? Without an identity each row is a fact of its own.
fn keeps_whole_facts(filter: &Filter, input: &TableRows) -> bool {
    if input.declared.identity.is_empty() {
        return true;
    }
    let schema = input.plan.schema();
    filter.predicate.column_refs().into_iter().all(|column| {
        let name = schema.maybe_index_of_column(column).and_then(|position| input.name_of(position));
        name.is_some_and(|name| input.declared.identity.iter().any(|part| part == name))
    })
}

fn projected(projection: &Projection, input: TableRows) -> Result<TableRows> {
    let schema = input.plan.schema();
    let passed = |expression: &Expr| {
        let mut expression = expression;
        while let Expr::Alias(alias) = expression {
            expression = &alias.expr;
        }
        let Expr::Column(column) = expression else { return None };
        schema.maybe_index_of_column(column)
    };
    let passed: Vec<Option<usize>> = projection.expr.iter().map(passed).collect();
    let mut expressions = projection.expr.clone();
    let mut columns: Vec<(String, usize)> = Vec::with_capacity(input.columns.len());
    for (name, position) in &input.columns {
        let places = passed.iter().enumerate().filter(|(_, passed)| **passed == Some(*position));
        columns.extend(places.map(|(at, _)| (name.clone(), at)));
    }
    for (name, position) in &input.columns {
        if !columns.iter().any(|(known, _)| known == name) {
            columns.push((name.clone(), expressions.len()));
            expressions.push(Expr::Column(schema.columns()[*position].clone()).alias(hidden(name, projection)));
        }
    }
    let plan = LogicalPlan::Projection(Projection::try_new(expressions, Arc::new(input.plan))?);
    Ok(TableRows { plan, declared: input.declared, columns })
}

/// A name that no column of the projection has yet.
fn hidden(name: &str, projection: &Projection) -> String {
    let mut hidden = format!("asof: {name}");
    while projection.schema.fields().iter().any(|field| *field.name() == hidden) {
        hidden.push('\'');
    }
    hidden
}

/// Does a plan read any table?
fn reads_tables(plan: &LogicalPlan) -> Result<bool> {
    let mut reads = false;
    plan.apply_with_subqueries(|node| {
        reads |= matches!(node, LogicalPlan::TableScan(_));
        Ok(if reads { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(reads)
}
