//! What can be said about the query of a view without its tables: that it is one query of tables, and that it gives the same rows
//! tomorrow.

use std::ops::ControlFlow;

use datafusion::{
    execution::SessionState,
    sql::{
        parser::Statement,
        sqlparser::ast::{Expr, Query, SelectItem, SetExpr, SetOperator, Statement as SqlStatement, Visit, Visitor},
    },
};

use super::super::{
    calls::{Calls, check_calls},
    statement::{name_of, parse},
    tables::tables_in,
};
use crate::{
    error::{Error, Result, in_one_line},
    name::TableName,
};

/// The tables of the query; `subject` names the view in errors.
pub(super) fn check(subject: &str, sql: &str, state: &SessionState) -> Result<Vec<TableName>> {
    let refused = |reason: String| Error::Definition { subject: subject.into(), reason };
    let in_view = |e: Error| match e {
        Error::Query(cause) => refused(format!("its SQL cannot be read: {}", in_one_line(&cause))),
        Error::Statement { reason, .. } => refused(format!("its SQL {reason}")),
        other => other.in_place(subject),
    };
    let statement = parse(sql).map_err(in_view)?.statement;
    let Statement::Statement(inner) = &statement else { return Err(refused(NO_QUERY.into())) };
    let SqlStatement::Query(query) = inner.as_ref() else { return Err(refused(NO_QUERY.into())) };
    if let ControlFlow::Break(operator) = query.visit(&mut OtherSetOperations) {
        return Err(refused(format!(
            "its {operator} compares its rows with others: filter with WHERE, or join a timeless table"
        )));
    }
    if let ControlFlow::Break(error) = calls_of_columns(subject, &query.body, state) {
        return Err(*error);
    }
    check_calls(subject, &statement, state)?;
    let tables = tables_in(sql).map_err(in_view)?;
    if tables.is_empty() {
        return Err(refused("it reads no table: a view needs a table of facts".into()));
    }
    Ok(tables)
}

const NO_QUERY: &str = "it is no SELECT: give the query that yields its rows";

/// Finds set operations other than `UNION`, which the plan of the query does not show as such.
struct OtherSetOperations;

impl Visitor for OtherSetOperations {
    type Break = SetOperator;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SetOperator> {
        fn in_body(body: &SetExpr) -> ControlFlow<SetOperator> {
            match body {
                SetExpr::SetOperation { op: SetOperator::Union, left, right, .. } => {
                    in_body(left)?;
                    in_body(right)
                }
                SetExpr::SetOperation { op, .. } => ControlFlow::Break(*op),
                _ => ControlFlow::Continue(()),
            }
        }
        in_body(&query.body)
    }
}

/// Refuses a call that is not the same tomorrow with the column of the view that makes it.
fn calls_of_columns(subject: &str, body: &SetExpr, state: &SessionState) -> ControlFlow<Box<Error>> {
    match body {
        SetExpr::Select(select) => {
            for item in &select.projection {
                let (name, expression): (String, &Expr) = match item {
                    SelectItem::UnnamedExpr(expression) => (expression.to_string(), expression),
                    SelectItem::ExprWithAlias { expr, alias } => (name_of(alias), expr),
                    _ => continue,
                };
                expression.visit(&mut Calls { subject: &format!("column `{name}` of {subject}"), state })?;
            }
            ControlFlow::Continue(())
        }
        SetExpr::Query(query) => calls_of_columns(subject, &query.body, state),
        SetExpr::SetOperation { left, right, .. } => {
            calls_of_columns(subject, left, state)?;
            calls_of_columns(subject, right, state)
        }
        _ => ControlFlow::Continue(()),
    }
}
