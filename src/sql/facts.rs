//! The facts of a table as of an instant, for lookups and windows.
//! Which facts a row of a spine sees is decided by the operators of `temporal`.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::{
    common::{DFSchema, TableReference},
    logical_expr::{EmptyRelation, LogicalPlan},
    prelude::DataFrame,
};

use super::{query::session, table_rows};
use crate::{
    catalog::FactTable,
    engine::{CATALOG, Engine, Parallelism},
    error::Result,
    name::TableName,
    scan::AsOfTable,
    temporal::Facts,
};

/// The visible facts of an opened table, with what is declared of it.
pub(crate) async fn facts(engine: &Engine, table: AsOfTable) -> Result<Facts> {
    let (name, declared) = (table.name().clone(), table.declared().clone());
    let rows = table_rows(engine, Parallelism::Full, &name, table).await?;
    Ok(Facts::new(&name.to_string(), rows, declared))
}

/// No facts of a table, with its columns, to check expressions against.
pub(crate) fn no_facts(engine: &Engine, name: &TableName, columns: &Schema, declared: FactTable) -> Result<Facts> {
    let session = session(engine, Parallelism::One, Vec::new())?;
    let table = TableReference::full(CATALOG, name.database(), name.table());
    let schema = Arc::new(DFSchema::try_from_qualified_schema(table, columns)?);
    let plan = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema });
    Ok(Facts::new(&name.to_string(), DataFrame::new(session.state(), plan), declared))
}
