//! A SQL statement before it is planned: parsed, and refused if it is not one query, nests too deeply, or holds a clause that
//! the planner would ignore. No names are resolved here.

use std::ops::ControlFlow;

use datafusion::{
    error::DataFusionError,
    sql::{
        parser::{DFParserBuilder, Statement},
        sqlparser::{
            ast::{Ident, Statement as SqlStatement, Visit, VisitMut, VisitorMut},
            parser::ParserError,
        },
    },
};

use super::{ignored_clauses::IgnoredClauses, show};
use crate::{
    engine::{DEEPEST_NESTING, TOO_NESTED, too_deep},
    error::{Error, Result},
    name::TableName,
    storage::redacted,
};

/// A statement that can be planned.
pub(super) struct ParsedStatement {
    pub(super) statement: Statement,
    /// The table of a `SHOW COLUMNS`, which must exist.
    pub(super) shown_table: Option<TableName>,
}

/// Parses one query, or an `EXPLAIN`, `DESCRIBE` or `SHOW`.
///
/// # Errors
/// [`Error::Query`] when the text is not one SQL statement, [`Error::Statement`] for one that nests too deeply, is no query, or
/// holds a clause that the planner would ignore.
pub(super) fn parse(sql: &str) -> Result<ParsedStatement> {
    check_depth(sql)?;
    let parser = DFParserBuilder::new(sql).with_recursion_limit(2 * DEEPEST_NESTING).build();
    let mut statements = parser.and_then(|mut parser| parser.parse_statements()).map_err(|error| match error.find_root() {
        DataFusionError::SQL(cause, _) if matches!(cause.as_ref(), ParserError::RecursionLimitExceeded) => {
            refused(sql, TOO_NESTED)
        }
        _ => error.into(),
    })?;
    let (Some(statement), None) = (statements.pop_front(), statements.pop_front()) else {
        return Err(refused(sql, "is not exactly one statement; send one query at a time"));
    };
    let (statement, shown_table) = show::rewritten(statement).map_err(|reason| refused(sql, reason))?;
    if let Some(inner) = query_in(sql, &statement)?
        && let ControlFlow::Break(clause) = inner.visit(&mut IgnoredClauses)
    {
        return Err(refused(sql, format!("holds {clause}")));
    }
    Ok(ParsedStatement { statement, shown_table })
}

/// Visits the query that a statement holds.
pub(super) fn visit<V: VisitorMut<Break = Error>>(statement: &mut Statement, visitor: &mut V) -> Result<()> {
    match statement {
        Statement::Explain(explain) => visit(&mut explain.statement, visitor),
        Statement::Statement(inner) => match VisitMut::visit(inner.as_mut(), visitor) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        },
        // These are not queries. They are refused once they are planned.
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => Ok(()),
    }
}

/// The name that an identifier stands for: lower case unless it is quoted.
pub(super) fn name_of(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

fn refused(sql: &str, reason: impl Into<String>) -> Error {
    // Locations may hold credentials.
    let words = redacted(sql).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut begin: String = words.chars().take(80).collect();
    if begin.len() < words.len() {
        begin.push_str("...");
    }
    Error::Statement { statement: begin, reason: reason.into() }
}

/// The query in a statement, with or without `EXPLAIN`; `None` for a statement that describes a table.
fn query_in<'a>(sql: &str, statement: &'a Statement) -> Result<Option<&'a SqlStatement>> {
    match statement {
        Statement::Explain(explain) => query_in(sql, &explain.statement),
        Statement::Statement(inner) => match inner.as_ref() {
            SqlStatement::Query(_) => Ok(Some(inner)),
            SqlStatement::Explain { statement, .. } if matches!(statement.as_ref(), SqlStatement::Query(_)) => Ok(Some(inner)),
            SqlStatement::ExplainTable { .. } => Ok(None),
            _ => Err(no_query(sql)),
        },
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => Err(no_query(sql)),
    }
}

fn no_query(sql: &str) -> Error {
    refused(
        sql,
        "is not a query, and SQL only reads here; load data with `FeatureStore::ingest`, and change tables with `FeatureStore::execute`",
    )
}

/// Bounds the depth of the syntax tree of a statement, or of an expression, without building it.
///
/// # Errors
/// [`Error::Statement`].
pub(super) fn check_depth(sql: &str) -> Result<()> {
    too_deep(sql).map_or(Ok(()), |reason| Err(refused(sql, reason)))
}
