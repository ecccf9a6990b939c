//! The rows of a set's query in a temporary file, in the order of a materialization, before any is selected or encoded.

use std::sync::Arc;

use futures::TryStreamExt;

use crate::{
    engine::Engine,
    error::Result,
    feature_set::RowSet,
    materialize::{RowBuffer, RowQuery},
    name::SetName,
    scan::VisibleTable,
    time::AsOf,
};

/// Runs the query as of an instant. `tables` are those of the set as of it.
pub(super) async fn queried(
    engine: &Engine,
    name: &SetName,
    set: &RowSet,
    tables: &[VisibleTable],
    as_of: AsOf,
) -> Result<Arc<RowBuffer>> {
    let query = RowQuery { engine, name, set, tables, as_of, span: None, served: None };
    let (schema, mut rows) = query.rows().await?.in_order().await?;
    let mut buffer = RowBuffer::create(schema)?;
    while let Some(batch) = rows.try_next().await? {
        buffer.write(&batch)?;
    }
    Ok(Arc::new(buffer.finish()?))
}
