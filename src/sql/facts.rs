//! The facts of a table as of an instant, for lookups and windows.
//! Which facts a row of a spine sees is decided by the operators of `temporal`.

use super::table_rows;
use crate::{
    engine::{Engine, Parallelism},
    error::Result,
    name::TableName,
    scan::AsOfTable,
    temporal::Facts,
    time::{AsOf, Cutoff},
    workspace::PinnedTable,
};

/// The visible facts of a pinned table, with what is declared of it.
///
/// # Errors
/// [`Error::FileChanged`](crate::Error::FileChanged) when a file is not what was registered.
pub(crate) async fn facts_of(engine: &Engine, pinned: &PinnedTable, as_of: AsOf, cutoff: Cutoff) -> Result<Facts> {
    facts(engine, pinned.version.table(), AsOfTable::open(pinned, as_of, cutoff).await?).await
}

/// The visible facts of an opened table.
pub(crate) async fn facts(engine: &Engine, name: &TableName, table: AsOfTable) -> Result<Facts> {
    let declared = table.declared().clone();
    let rows = table_rows(engine, Parallelism::Full, name, table).await?;
    Ok(Facts::new(&name.to_string(), rows, declared))
}
