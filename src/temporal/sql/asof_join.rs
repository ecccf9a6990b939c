//! `ASOF JOIN`, which the parser reads and DataFusion does not plan: from the syntax to the lookup operator.
//! It refuses keys and instants that are no plain columns, and plans nothing itself.
//!
//! The join goes through DataFusion's planner as a `LEFT JOIN` whose `ON` holds a mark, so that names, scopes and wildcards
//! mean what they mean everywhere else; the marked joins of the plan then become lookups.

use std::{any::Any, collections::HashSet, ops::ControlFlow, sync::Arc};

use arrow::datatypes::DataType;
use datafusion::{
    common::{
        Column, DFSchema, ExprSchema, Result as DfResult, ScalarValue, plan_err,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    datasource::source_as_provider,
    logical_expr::{
        BinaryExpr, ColumnarValue, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, ScalarFunctionArgs, ScalarUDF,
        ScalarUDFImpl, Signature, Volatility, utils::split_conjunction,
    },
    prelude::{Expr, lit},
    sql::sqlparser::ast::{self, JoinConstraint, JoinOperator, TableFactor, TableWithJoins, VisitorMut},
};

use super::super::node::{AsOfNode, Direction, LookupAsk, LookupColumn, Side, SpineTime};
use crate::{
    catalog::{FactTable, KnownAt, TimeColumn},
    error::{Error, Result},
    scan::AsOfTable,
    time::{Cutoff, TimeUnit, Zone},
};

/// The mark: the comparison, its two sides, then the columns of `USING`.
const MARK: &str = "asof_match";
/// The key that all rows have where none is named.
const SAME_KEY: &str = "asof: same for all";

fn refused(reason: impl Into<String>) -> Error {
    Error::Definition { subject: "the ASOF JOIN".into(), reason: reason.into() }
}

/// Turns each `ASOF JOIN` of a statement into a marked `LEFT JOIN`.
#[derive(Default)]
pub(super) struct Marking {
    pub(super) found: bool,
}

impl Marking {
    fn joins(&mut self, tables: &mut TableWithJoins) -> ControlFlow<Error> {
        for join in &mut tables.joins {
            let JoinOperator::AsOf { match_condition, constraint } = &join.join_operator else { continue };
            if matches!(&join.relation, TableFactor::Derived { lateral: true, .. } | TableFactor::Function { lateral: true, .. })
            {
                return ControlFlow::Break(refused("its right side is LATERAL; join a table or a plain subquery"));
            }
            match marked(match_condition, constraint) {
                Ok(on) => join.join_operator = JoinOperator::LeftOuter(JoinConstraint::On(on)),
                Err(error) => return ControlFlow::Break(error),
            }
            self.found = true;
        }
        ControlFlow::Continue(())
    }
}

impl VisitorMut for Marking {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        select.from.iter_mut().try_for_each(|tables| self.joins(tables))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => self.joins(table_with_joins),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The condition of the `LEFT JOIN` that stands for an `ASOF JOIN`.
fn marked(condition: &ast::Expr, constraint: &JoinConstraint) -> Result<ast::Expr> {
    use ast::BinaryOperator::{And, Gt, GtEq, Lt, LtEq};
    let mut comparison = condition;
    while let ast::Expr::Nested(inner) = comparison {
        comparison = inner;
    }
    let ast::Expr::BinaryOp { left, op: op @ (Gt | GtEq | Lt | LtEq), right } = comparison else {
        return Err(refused(format!(
            "its MATCH_CONDITION is `{condition}`; compare one column of each side with >, >=, < or <="
        )));
    };
    let text = |text: String| ast::Expr::Value(ast::Value::SingleQuotedString(text).with_empty_span());
    let mut parts = vec![text(op.to_string()), left.as_ref().clone(), right.as_ref().clone()];
    let mut on = None;
    match constraint {
        JoinConstraint::On(condition) => on = Some(condition.clone()),
        JoinConstraint::Using(columns) => {
            for column in columns {
                match column.0.as_slice() {
                    [ast::ObjectNamePart::Identifier(ident)] => parts.push(text(super::name(ident))),
                    _ => {
                        return Err(refused(format!(
                            "USING names `{column}`; name columns that both sides have, without a table"
                        )));
                    }
                }
            }
        }
        JoinConstraint::None => {}
        JoinConstraint::Natural => return Err(refused("it is NATURAL; name its keys with ON or USING")),
    }
    let arguments = parts.into_iter().map(|part| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(part)));
    let mark = ast::Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::new(MARK)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    });
    Ok(match on {
        Some(on) => ast::Expr::BinaryOp { left: Box::new(ast::Expr::Nested(Box::new(on))), op: And, right: Box::new(mark) },
        None => mark,
    })
}

/// The mark as a function, for planning only.
pub(super) fn marker() -> ScalarUDF {
    ScalarUDF::from(Mark { signature: Signature::variadic_any(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Mark {
    signature: Signature,
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        MARK
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        plan_err!("`{MARK}` cannot be called; write ASOF JOIN")
    }
}

/// The arguments of the mark, if this is one.
fn mark_in(expression: &Expr) -> Option<&[Expr]> {
    match expression {
        Expr::ScalarFunction(call) if (call.func.inner().as_ref() as &dyn Any).is::<Mark>() => Some(&call.args),
        _ => None,
    }
}

/// Makes lookups of the marked joins of a plan.
pub(super) fn resolve(plan: LogicalPlan) -> Result<LogicalPlan> {
    let is_marked = |join: &Join| {
        let conditions = join.filter.iter().flat_map(split_conjunction);
        join.join_type == JoinType::Left && conditions.into_iter().any(|condition| mark_in(condition).is_some())
    };
    let resolved = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if is_marked(&join) => Ok(Transformed::yes(lookup(join)?)),
        other => Ok(Transformed::no(other)),
    })?;
    let mut left_over = false;
    resolved.data.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            left_over |= expression.exists(|e| Ok(mark_in(e).is_some()))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if left_over {
        return Err(refused(format!("`{MARK}` is called, which is not for queries; write ASOF JOIN")));
    }
    Ok(resolved.data)
}

/// Which side of the join an expression names a column of.
enum Operand {
    Left(Column),
    /// The position in the right side.
    Right(usize),
}

impl Operand {
    fn of(expression: &Expr, left: &DFSchema, right: &DFSchema) -> Option<Self> {
        let Expr::Column(column) = expression else { return None };
        match (left.maybe_index_of_column(column), right.maybe_index_of_column(column)) {
            (Some(_), None) => Some(Operand::Left(column.clone())),
            (None, Some(position)) => Some(Operand::Right(position)),
            _ => None,
        }
    }

    /// A column of each side, whichever is named first; the answer says whether that was the right one.
    fn pair(a: &Expr, b: &Expr, left: &DFSchema, right: &DFSchema) -> Option<(Column, usize, bool)> {
        match (Operand::of(a, left, right)?, Operand::of(b, left, right)?) {
            (Operand::Left(column), Operand::Right(position)) => Some((column, position, false)),
            (Operand::Right(position), Operand::Left(column)) => Some((column, position, true)),
            _ => None,
        }
    }
}

/// What the conditions of a marked join say.
struct Conditions {
    keys: Vec<(Column, usize)>,
    at: Column,
    fact: usize,
    direction: Direction,
    cutoff: Cutoff,
}

impl Conditions {
    fn of(join: &Join, place: &str) -> Result<Self> {
        let (left, right) = (join.left.schema(), join.right.schema());
        let mut keys = Vec::new();
        let mut found = None;
        let unfit = |condition: &dyn std::fmt::Display| {
            refused(format!(
                "its ON holds `{condition}`, and takes only `column = column`, one of each side; put other conditions on {place} \
                 into a subquery, ASOF JOIN (SELECT ... WHERE ...), in which no declared known-at is applied"
            ))
        };
        for (a, b) in &join.on {
            let (column, position, _) = Operand::pair(a, b, left, right).ok_or_else(|| unfit(&format!("{a} = {b}")))?;
            keys.push((column, position));
        }
        for condition in join.filter.iter().flat_map(split_conjunction) {
            match (condition, mark_in(condition)) {
                (_, Some(parts)) if found.is_none() => found = Some(parts),
                (Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }), None) => {
                    let (column, position, _) = Operand::pair(a, b, left, right).ok_or_else(|| unfit(condition))?;
                    keys.push((column, position));
                }
                _ => return Err(unfit(condition)),
            }
        }
        let Some([operator, a, b, using @ ..]) = found else { return Err(refused("it has no MATCH_CONDITION")) };
        let operator = text(operator).unwrap_or_default();
        let (at, fact, swapped) = Operand::pair(a, b, left, right).ok_or_else(|| {
            refused(format!("its MATCH_CONDITION is `{a} {operator} {b}`; compare a column of the left side with one of {place}"))
        })?;
        for name in using.iter().filter_map(text) {
            let of_side = |schema: &DFSchema, place: &str| match schema.qualified_fields_with_unqualified_name(name).as_slice() {
                [] => Err(Error::unknown_column(place, name, schema.as_arrow())),
                [(qualifier, field)] => Ok(Column::new(qualifier.cloned(), field.name())),
                _ => Err(refused(format!("USING names `{name}`, and {place} has several; say which with ON"))),
            };
            let position = right.maybe_index_of_column(&of_side(right, place)?);
            keys.push((
                of_side(left, "the left side of the ASOF JOIN")?,
                position.ok_or_else(|| refused(format!("USING names `{name}`")))?,
            ));
        }
        let inclusive = operator.ends_with('=');
        Ok(Self {
            keys,
            at,
            fact,
            direction: if operator.starts_with('>') != swapped { Direction::Backward } else { Direction::Forward },
            cutoff: if inclusive { Cutoff::Inclusive } else { Cutoff::Exclusive },
        })
    }
}

fn text(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(text),
        _ => None,
    }
}

/// The lookup that a marked join stands for; its columns are the join's.
fn lookup(join: Join) -> Result<LogicalPlan> {
    let place = place_of(&join.right);
    let Conditions { keys, at, fact, direction, cutoff } = Conditions::of(&join, &place)?;
    let columns = join.right.schema().columns();
    // The operator finds columns of the facts by their names alone.
    let mut names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let is_renamed = names.iter().collect::<HashSet<_>>().len() < names.len();
    if is_renamed {
        names = columns.iter().enumerate().map(|(i, column)| format!("{}:{}", column.name, i + 1)).collect();
    }
    let right = Instants { place: &place, column: &columns[fact], name: &names[fact], table: table_of(&join.right) };
    let (at, declared) = times(&join, at, right, direction)?;
    let mut on: Vec<(Column, String)> = keys.into_iter().map(|(left, right)| (left, names[right].clone())).collect();

    let (mut spine, mut facts) = (Arc::unwrap_or_clone(join.left), Arc::unwrap_or_clone(join.right));
    if is_renamed {
        let renamed = columns.iter().zip(&names).map(|(column, name)| Expr::Column(column.clone()).alias(name));
        facts = LogicalPlanBuilder::from(facts).project(renamed.collect::<Vec<_>>())?.build()?;
    }
    let has_key = !on.is_empty();
    if !has_key {
        let with_key = |plan: LogicalPlan| {
            let own = plan.schema().columns().into_iter().map(Expr::Column);
            let all: Vec<Expr> = own.chain([lit(1i64).alias(SAME_KEY)]).collect();
            LogicalPlanBuilder::from(plan).project(all)?.build()
        };
        (spine, facts) = (with_key(spine)?, with_key(facts)?);
        on.push((Column::new_unqualified(SAME_KEY), SAME_KEY.into()));
    }
    let looked_up = columns.into_iter().zip(names);
    let columns = looked_up.map(|(c, fact)| LookupColumn { fact, qualifier: c.relation, name: c.name }).collect();
    let ask = LookupAsk { columns, max_age_us: None };
    let plan = AsOfNode::try_new(spine, at, vec![(facts, Side { place, on, declared, cutoff, direction, ask })])?.into_plan();
    if has_key {
        return Ok(plan);
    }
    let wanted: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlanBuilder::from(plan).project(wanted)?.build()?)
}

/// The instants of the right side.
struct Instants<'a> {
    place: &'a str,
    column: &'a Column,
    /// What the operator knows the column by.
    name: &'a str,
    /// The declaration of the right side, if it is a table of the catalog.
    table: Option<FactTable>,
}

/// How the instants of both sides are read, and what decides when a fact is visible.
fn times(join: &Join, at: Column, facts: Instants<'_>, direction: Direction) -> Result<(SpineTime, FactTable)> {
    use DataType::{Date32, Int64, Timestamp};
    let Instants { place, column, name, table } = facts;
    let own_table = declaration_behind(&join.left, &at);
    let (left_type, right_type) = (join.left.schema().data_type(&at)?, join.right.schema().data_type(column)?);
    let left_place = match &at.relation {
        Some(relation) => format!("table `{}`", relation.table()),
        None => "the left side of the ASOF JOIN".into(),
    };
    let unfit = |place: &str, column: &Column, found: &DataType, needed: String| Error::ColumnType {
        place: place.into(),
        column: column.name.clone(),
        found: found.to_string(),
        needed,
    };
    for (place, column, data_type) in [(left_place.as_str(), &at, left_type), (place, column, right_type)] {
        if !matches!(data_type, Timestamp(..) | Date32 | Int64) {
            let needed = "an ASOF JOIN compares timestamps, dates or BIGINTs; cast the column in a subquery".into();
            return Err(unfit(place, column, data_type, needed));
        }
    }
    let declared_unit = |table: &Option<FactTable>, name: &str| {
        table.iter().flat_map(FactTable::time_columns).find(|column| column.name() == name).and_then(|column| column.unit)
    };
    let (left_unit, right_unit) = (declared_unit(&own_table, &at.name), declared_unit(&table, &column.name));
    let (left_unit, right_unit) = match (left_type == &Int64, right_type == &Int64) {
        // Numbers of no declared unit are of the other's, or both of any one.
        (true, true) => {
            let unit = left_unit.or(right_unit).unwrap_or(TimeUnit::Microsecond);
            (Some(left_unit.unwrap_or(unit)), Some(right_unit.unwrap_or(unit)))
        }
        (left_is_number, right_is_number) => {
            let no_unit = |other: &DataType| format!("it is compared with {other}, and its unit is not known; cast one of them");
            if left_is_number && left_unit.is_none() {
                return Err(unfit(&left_place, &at, left_type, no_unit(right_type)));
            }
            if right_is_number && right_unit.is_none() {
                return Err(unfit(place, column, right_type, no_unit(left_type)));
            }
            (left_unit.filter(|_| left_is_number), right_unit.filter(|_| right_is_number))
        }
    };
    let right_zone = table.as_ref().and_then(|table| table.zone).unwrap_or(Zone::UTC);
    let own_zone = own_table.and_then(|own| own.zone).filter(|_| table.is_some());
    let at = SpineTime { column: at, unit: left_unit, zone: Some(own_zone.unwrap_or(right_zone)) };
    let declared = match table {
        // All that is declared of when a fact could be known, so that a query cannot forget it.
        Some(table) if direction == Direction::Backward && table.event_column() == column.name => table,
        _ => {
            let plain = TimeColumn { name: name.into(), unit: right_unit };
            FactTable::new(plain, KnownAt::DelayMicros(0)).zone(right_zone)
        }
    };
    Ok((at, declared))
}

/// The declaration of a plan that is a table of the catalog, under whatever alias.
fn table_of(plan: &LogicalPlan) -> Option<FactTable> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => table_of(&alias.input),
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            let table = (provider.as_ref() as &dyn Any).downcast_ref::<AsOfTable>()?;
            Some(table.declared().clone())
        }
        _ => None,
    }
}

/// The declaration of the catalog's table that a column comes from, through joins and filters.
fn declaration_behind(plan: &LogicalPlan, column: &Column) -> Option<FactTable> {
    match plan {
        LogicalPlan::Join(_) | LogicalPlan::Filter(_) | LogicalPlan::Extension(_) => {
            let inputs = plan.inputs();
            let input = inputs.into_iter().find(|input| input.schema().has_column(column))?;
            declaration_behind(input, column)
        }
        other => table_of(other),
    }
}

/// What messages call the right side.
fn place_of(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::TableScan(scan) => format!("table `{}`", scan.table_name.table()),
            _ => format!("table `{}`", alias.alias.table()),
        },
        LogicalPlan::TableScan(scan) => format!("table `{}`", scan.table_name.table()),
        _ => "the right side of the ASOF JOIN".into(),
    }
}
