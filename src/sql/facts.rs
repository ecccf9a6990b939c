//! The facts of a table as of an instant, for lookups and windows.
//! Which facts a row of a spine sees is decided by the operators of `temporal`.

use std::sync::Arc;

use arrow::{datatypes::Schema, util::display::array_value_to_string};
use datafusion::{
    common::{DFSchema, TableReference},
    functions_aggregate::expr_fn::count,
    logical_expr::{EmptyRelation, Expr, LogicalPlan},
    prelude::{DataFrame, ident, lit},
};

use super::{query::session, table_rows};
use crate::{
    catalog::FactTable,
    engine::{CATALOG, Engine, Parallelism},
    error::{Error, Result},
    name::TableName,
    scan::AsOfTable,
    temporal::Facts,
};

/// The visible facts of an opened table, with what is declared of it.
///
/// # Errors
/// [`Error::Definition`] for a timeless table with two rows for a key.
pub(crate) async fn facts(engine: &Engine, table: AsOfTable) -> Result<Facts> {
    let (name, declared) = (table.name().clone(), table.declared().clone());
    let rows = table_rows(engine, Parallelism::Full, &name, table).await?;
    if !declared.is_timeless() {
        return Ok(Facts::new(&name.to_string(), rows, declared));
    }
    refuse_second_row(&name, rows.clone(), &declared.keys).await?;
    Facts::timeless(&name.to_string(), rows, &declared.keys)
}

/// Refuses a timeless table that has two rows for a key. A row without a key is found by nobody.
pub(super) async fn refuse_second_row(name: &TableName, rows: DataFrame, keys: &[String]) -> Result<()> {
    const ROWS: &str = "asof: rows";
    let columns: Vec<Expr> = keys.iter().map(ident).collect();
    let Some(has_key) = columns.iter().cloned().map(Expr::is_not_null).reduce(Expr::and) else { return Ok(()) };
    let counted = rows.filter(has_key)?.aggregate(columns.clone(), vec![count(lit(1)).alias(ROWS)])?;
    let first = columns.into_iter().map(|column| column.sort(true, false)).collect();
    let found = counted.filter(ident(ROWS).gt(lit(1)))?.sort(first)?.limit(0, Some(1))?.collect().await?;
    let Some(batch) = found.iter().find(|batch| batch.num_rows() > 0) else { return Ok(()) };
    let mut cells = Vec::with_capacity(keys.len());
    for (key, column) in keys.iter().zip(batch.columns()) {
        cells.push(format!("{key} = {}", array_value_to_string(column, 0)?));
    }
    let count = batch.columns().last().map(|count| array_value_to_string(count, 0)).transpose()?.unwrap_or_default();
    Err(Error::Definition {
        subject: format!("table `{name}`"),
        reason: format!(
            "it is declared timeless, with one row for each ({}), and has {count} rows for {}: leave one of them, or declare facts with the \
             time from which each row held",
            keys.join(", "),
            cells.join(", ")
        ),
    })
}

/// No facts of a table, with its columns, to check expressions against.
pub(crate) fn no_facts(engine: &Engine, name: &TableName, columns: &Schema, declared: FactTable) -> Result<Facts> {
    let session = session(engine, Parallelism::One, Vec::new())?;
    let table = TableReference::full(CATALOG, name.database(), name.table());
    let schema = Arc::new(DFSchema::try_from_qualified_schema(table, columns)?);
    let plan = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema });
    Ok(Facts::new(&name.to_string(), DataFrame::new(session.state(), plan), declared))
}
