//! The condition of an `ASOF JOIN`: from the syntax to a marker function, which DataFusion plans like any other function.
//! Which side of the join a name belongs to is not known here; that is found once the marker is planned.
//!
//! The join is planned as a `LEFT JOIN` whose `ON` calls the marker. So names, scopes and wildcards mean what they mean
//! everywhere else. `marked_joins` then replaces the marked joins of the plan by lookups.

use std::{any::Any, ops::ControlFlow};

use arrow::datatypes::DataType;
use datafusion::{
    common::{Result as DfResult, ScalarValue, plan_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
    prelude::Expr,
    sql::sqlparser::ast::{self, BinaryOperator, JoinConstraint, JoinOperator, TableFactor, TableWithJoins, VisitorMut},
};

use super::refused;
use crate::{
    error::{Error, Result},
    sql::{interval::interval_us, statement::name_of},
    time::shown_span,
};

/// The name of the marker function. [`Marked`] reads its arguments.
pub(super) const MARK: &str = "asof_match";
/// The function that says when a fact could be known.
const KNOWN_AT: &str = "known_at";

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

/// A comparison of times: `left operator right`.
struct Comparison {
    operator: BinaryOperator,
    left: ast::Expr,
    right: ast::Expr,
    /// When a fact could be known: a column, or microseconds after the fact as a text.
    known: Option<ast::Expr>,
}

/// A bound on the age of a fact: `first >= last - age`.
struct Bound {
    first: ast::Expr,
    last: ast::Expr,
    age_us: i64,
}

fn bare(mut expression: &ast::Expr) -> &ast::Expr {
    while let ast::Expr::Nested(inner) = expression {
        expression = inner;
    }
    expression
}

fn interval(expression: &ast::Expr) -> Result<Option<i64>> {
    match bare(expression) {
        ast::Expr::Interval(interval) => {
            let found = interval_us(interval);
            found.map(Some).map_err(|reason| refused(format!("`{interval}` in its MATCH_CONDITION {reason}")))
        }
        _ => Ok(None),
    }
}

/// A time, and the microseconds that are added to it, if any.
fn moved(expression: &ast::Expr) -> Result<(ast::Expr, Option<i64>)> {
    if let ast::Expr::BinaryOp { left, op: op @ (BinaryOperator::Plus | BinaryOperator::Minus), right } = bare(expression) {
        if let Some(us) = interval(right)? {
            let us = if *op == BinaryOperator::Minus { us.saturating_neg() } else { us };
            return Ok((bare(left).clone(), Some(us)));
        }
        if let (BinaryOperator::Plus, Some(us)) = (op, interval(left)?) {
            return Ok((bare(right).clone(), Some(us)));
        }
    }
    Ok((bare(expression).clone(), None))
}

/// The bound that a comparison states, if it does: an interval is added to a side, or a difference is compared with an
/// interval.
fn bound(left: &ast::Expr, operator: &BinaryOperator, right: &ast::Expr) -> Result<Option<Bound>> {
    use BinaryOperator::{Gt, GtEq, Lt, LtEq, Minus};
    let is_less = matches!(operator, Lt | LtEq);
    let difference = |expression: &ast::Expr| match bare(expression) {
        ast::Expr::BinaryOp { left, op: Minus, right } => Some((bare(left).clone(), bare(right).clone())),
        _ => None,
    };
    let found = match (interval(left)?, interval(right)?) {
        (None, Some(age_us)) if is_less => difference(left).map(|(last, first)| Bound { first, last, age_us }),
        (Some(age_us), None) if !is_less => difference(right).map(|(last, first)| Bound { first, last, age_us }),
        (None, None) => {
            let ((left, by_left), (right, by_right)) = (moved(left)?, moved(right)?);
            let by_us = match (by_left, by_right) {
                (None, None) => return Ok(None),
                (by_left, by_right) => by_right.unwrap_or(0).saturating_sub(by_left.unwrap_or(0)),
            };
            Some(match is_less {
                true => Bound { first: right, last: left, age_us: by_us },
                false => Bound { first: left, last: right, age_us: by_us.saturating_neg() },
            })
        }
        _ => None,
    };
    match (found, operator) {
        (Some(bound), GtEq | LtEq) if bound.age_us >= 0 => Ok(Some(bound)),
        (Some(bound), GtEq | LtEq) => Err(refused(format!(
            "its MATCH_CONDITION requires facts that are at least {} old; a bound may only say how old a fact is at most",
            shown_span(bound.age_us.saturating_neg())
        ))),
        (_, Gt | Lt) => Err(refused(format!(
            "`{left} {operator} {right}` in its MATCH_CONDITION is a bound that leaves out its own end; a fact exactly as old as the \
             bound always counts: write {}=",
            operator
        ))),
        _ => Ok(None),
    }
}

/// A side of the comparison, and when its facts could be known, if that is stated.
fn known(side: &ast::Expr) -> Result<(ast::Expr, Option<ast::Expr>)> {
    let ast::Expr::Function(call) = side else { return Ok((side.clone(), None)) };
    let is_known_at = matches!(call.name.0.as_slice(), [ast::ObjectNamePart::Identifier(ident)] if name_of(ident) == KNOWN_AT);
    if !is_known_at {
        return Ok((side.clone(), None));
    }
    let usage = || {
        refused(format!(
            "`{side}` is not a valid `{KNOWN_AT}`; write `{KNOWN_AT}(t, k)` if a fact happened at column t and could be known at \
             column k, or `{KNOWN_AT}(t, INTERVAL '1 hour')` if it could be known an hour after it happened"
        ))
    };
    let ast::FunctionArguments::List(list) = &call.args else { return Err(usage()) };
    use ast::{FunctionArg::Unnamed, FunctionArgExpr::Expr};
    let [Unnamed(Expr(time)), Unnamed(Expr(when))] = list.args.as_slice() else { return Err(usage()) };
    let when = match interval(when)? {
        Some(us) if us >= 0 => text(us.to_string()),
        Some(_) => return Err(refused(format!("`{side}` says that facts are known before they happen"))),
        None => bare(when).clone(),
    };
    Ok((bare(time).clone(), Some(when)))
}

fn text(text: String) -> ast::Expr {
    ast::Expr::Value(ast::Value::SingleQuotedString(text).with_empty_span())
}

fn read(condition: &ast::Expr) -> Result<(Comparison, Option<Bound>)> {
    use BinaryOperator::{And, Gt, GtEq, Lt, LtEq};
    let unfit = || {
        refused(format!(
            "its MATCH_CONDITION is `{condition}`; compare a column of the left side with one of the right, once, with >, >=, < or <=; \
             to limit the age of the fact, add `AND b.ts >= a.ts - INTERVAL '7 days'`"
        ))
    };
    let (mut open, mut comparison, mut age) = (vec![condition], None, None);
    while let Some(part) = open.pop() {
        match bare(part) {
            ast::Expr::BinaryOp { left, op: And, right } => open.extend([right.as_ref(), left.as_ref()]),
            ast::Expr::BinaryOp { left, op: operator @ (Gt | GtEq | Lt | LtEq), right } => {
                let (left, right) = (bare(left), bare(right));
                let is_bound = interval(left)?.is_some()
                    || interval(right)?.is_some()
                    || moved(left)?.1.is_some()
                    || moved(right)?.1.is_some();
                if is_bound {
                    let found = bound(left, operator, right)?.ok_or_else(unfit)?;
                    if age.replace(found).is_some() {
                        return Err(unfit());
                    }
                    continue;
                }
                let ((left, of_left), (right, of_right)) = (known(left)?, known(right)?);
                if of_left.is_some() && of_right.is_some() {
                    return Err(unfit());
                }
                let found = Comparison { operator: operator.clone(), left, right, known: of_left.or(of_right) };
                if comparison.replace(found).is_some() {
                    return Err(unfit());
                }
            }
            _ => return Err(unfit()),
        }
    }
    Ok((comparison.ok_or_else(unfit)?, age))
}

/// The condition of the `LEFT JOIN` that replaces an `ASOF JOIN`.
fn marked(condition: &ast::Expr, constraint: &JoinConstraint) -> Result<ast::Expr> {
    let (Comparison { operator, left, right, known }, bound) = read(condition)?;
    let nothing = || text(String::new());
    let mut parts = vec![text(operator.to_string()), left, right, known.unwrap_or_else(nothing)];
    match bound {
        Some(Bound { first, last, age_us }) => parts.extend([text(age_us.to_string()), first, last]),
        None => parts.extend([nothing(), nothing(), nothing()]),
    }
    let mut on = None;
    match constraint {
        JoinConstraint::On(condition) => on = Some(condition.clone()),
        JoinConstraint::Using(columns) => {
            for column in columns {
                match column.0.as_slice() {
                    [ast::ObjectNamePart::Identifier(ident)] => parts.push(text(name_of(ident))),
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
        Some(on) => ast::Expr::BinaryOp {
            left: Box::new(ast::Expr::Nested(Box::new(on))),
            op: BinaryOperator::And,
            right: Box::new(mark),
        },
        None => mark,
    })
}

/// The marker function. It is only planned and never called.
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

/// The arguments of a marker, once it is planned.
pub(super) struct Marked<'a> {
    pub(super) operator: &'a str,
    pub(super) left: &'a Expr,
    pub(super) right: &'a Expr,
    pub(super) known: Option<Known<'a>>,
    /// The greatest age in microseconds, and the two times between which it is, the earlier one first.
    pub(super) bound: Option<(i64, &'a Expr, &'a Expr)>,
    /// Columns of `USING`.
    pub(super) using: Vec<&'a str>,
}

/// When facts could be known, as a query says.
pub(super) enum Known<'a> {
    At(&'a Expr),
    AfterMicros(i64),
}

impl<'a> Marked<'a> {
    /// Reads an expression, if it is a call of the marker.
    pub(super) fn of(expression: &'a Expr) -> Option<Self> {
        let Expr::ScalarFunction(call) = expression else { return None };
        if !(call.func.inner().as_ref() as &dyn Any).is::<Mark>() {
            return None;
        }
        let [operator, left, right, known, age, first, last, using @ ..] = call.args.as_slice() else { return None };
        let known = match literal(known) {
            Some("") => None,
            Some(delay) => Some(Known::AfterMicros(delay.parse().ok()?)),
            None => Some(Known::At(known)),
        };
        let bound = match literal(age)? {
            "" => None,
            age => Some((age.parse().ok()?, first, last)),
        };
        Some(Self { operator: literal(operator)?, left, right, known, bound, using: using.iter().filter_map(literal).collect() })
    }
}

/// Is an expression a call of the marker, even one with wrong arguments?
pub(super) fn is_mark(expression: &Expr) -> bool {
    matches!(expression, Expr::ScalarFunction(call) if (call.func.inner().as_ref() as &dyn Any).is::<Mark>())
}

fn literal(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(text),
        _ => None,
    }
}
