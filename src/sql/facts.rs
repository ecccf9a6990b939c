//! The facts of a table as of an instant, for lookups and windows.
//! Which facts a row of a spine sees is decided by the operators of `temporal`.

use super::table_rows;
use crate::{
    engine::{Engine, Parallelism},
    error::Result,
    scan::AsOfTable,
    temporal::Facts,
};

/// The visible facts of an opened table, with what is declared of it.
pub(crate) async fn facts(engine: &Engine, table: AsOfTable) -> Result<Facts> {
    let (name, declared) = (table.name().clone(), table.declared().clone());
    let rows = table_rows(engine, Parallelism::Full, &name, table).await?;
    Ok(Facts::new(&name.to_string(), rows, declared))
}
