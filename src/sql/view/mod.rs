//! Views: queries each of whose rows is made of one fact, as facts for lookups and windows.
//!
//! [`check_view`] says what can be said without the tables, `rows` follows the plan from the top to the tables, and `declaration`
//! finds the times of the view in the declarations of these. `docs/design/views.md` has the rules.

mod declaration;
mod rows;
mod text;

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::TableReference,
    logical_expr::LogicalPlanBuilder,
    prelude::{DataFrame, SessionContext},
};

use self::rows::{FactRows, Stop};
use super::{
    facts::refuse_second_row,
    query::{query, table_rows},
};
use crate::{
    catalog::FactTable,
    engine::{Engine, Parallelism},
    error::{Error, Result, in_one_line},
    name::TableName,
    scan::{AsOfTable, Sources},
    temporal::Facts,
};

/// What a view says: its name, and its SQL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ViewText<'a> {
    pub(crate) name: &'a str,
    pub(crate) sql: &'a str,
}

impl ViewText<'_> {
    /// The view, as messages name it.
    fn subject(&self) -> String {
        format!("view `{}`", self.name)
    }
}

/// The tables that a view reads. What can be said about the query without them is checked.
///
/// # Errors
/// [`Error::Definition`] for a text that is no query of tables, [`Error::Volatile`] with the column or the clause that calls a
/// function which reads the clock or random numbers, and [`Error::InvalidName`] for a name that no table can have.
pub(crate) fn check_view(view: ViewText<'_>) -> Result<Vec<TableName>> {
    let session = SessionContext::new();
    super::functions::register(&session)?;
    text::check(&view.subject(), view.sql, &session.state())
}

/// The rows of a view over these opened tables.
///
/// # Errors
/// As [`check_view`]; [`Error::Definition`] for a query whose rows are not made of one fact each, or that does not pass on the
/// times of its facts, and for a timeless table with two rows for a key.
pub(crate) async fn view_facts(engine: &Engine, view: ViewText<'_>, tables: Sources) -> Result<Facts> {
    for (name, table) in tables.iter().filter(|(_, table)| table.declared().is_timeless()) {
        let rows = table_rows(engine, Parallelism::Full, name, table.clone()).await?;
        let refused = refuse_second_row(name, rows, &table.declared().keys).await;
        refused.map_err(|e| e.in_place(&view.subject()))?;
    }
    planned(engine, view, tables).await
}

/// No rows of a view over tables with these columns and declarations, to check sources against.
///
/// # Errors
/// As [`view_facts`], without what only rows show.
pub(crate) async fn no_view_facts(
    engine: &Engine,
    view: ViewText<'_>,
    tables: Vec<(TableName, SchemaRef, FactTable)>,
) -> Result<Facts> {
    let mut empty = Vec::with_capacity(tables.len());
    for (name, schema, declared) in tables {
        let table = AsOfTable::without_rows(&name, schema, declared)?;
        empty.push((name, table));
    }
    planned(engine, view, empty).await
}

async fn planned(engine: &Engine, view: ViewText<'_>, tables: Sources) -> Result<Facts> {
    let subject = view.subject();
    check_view(view)?;
    let in_view = |e: Error| match e {
        Error::Query(cause) => not_planned(&subject, &in_one_line(&cause)),
        Error::UnknownColumn { column, known, .. } => Error::UnknownColumn { subject: subject.clone(), column, known },
        other => other,
    };
    let rows = query(engine, Parallelism::Full, &subject, tables, view.sql).await.map_err(in_view)?;
    let (state, plan) = rows.into_parts();
    let refused = |reason: String| Error::Definition { subject: subject.clone(), reason };
    let FactRows { plan, branches } = match rows::fact_rows(&plan) {
        Ok(found) => found,
        Err(Stop::Refused(reason)) => return Err(refused(reason)),
        Err(Stop::Failed(error)) => return Err(error),
    };
    let mut names: Vec<String> = Vec::with_capacity(plan.schema().fields().len());
    for field in plan.schema().fields() {
        if names.contains(field.name()) {
            return Err(refused(format!("two of its columns are called `{}`: give one of them another name", field.name())));
        }
        names.push(field.name().clone());
    }
    let declared = declaration::declared(&names, &branches).map_err(refused)?;
    let plan = LogicalPlanBuilder::from(plan).alias(TableReference::bare(view.name))?.build()?;
    // The types of a union are known once its inputs have been brought to common ones.
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {});
    let plan = plan.map_err(|cause| not_planned(&subject, &in_one_line(&cause)))?;
    Ok(Facts::named(&subject, DataFrame::new(state, plan), declared))
}

fn not_planned(subject: &str, reason: &str) -> Error {
    Error::Definition { subject: subject.into(), reason: format!("its SQL cannot be planned: {reason}") }
}
