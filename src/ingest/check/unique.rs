//! Finds the rows of a load whose key is taken, by a row of the table or by an earlier row of the load.
//! It reads only key columns. It needs the memory of a sort that spills, plus 8 bytes for each violation.

use std::sync::Arc;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, Schema, SchemaRef},
};
use datafusion::prelude::ParquetReadOptions;
use futures::TryStreamExt;

use crate::{
    catalog::FileEntry,
    engine::{Engine, Parallelism},
    error::Result,
    ingest::{queue::streamed, read_back::ReadBack, target::ROW},
    storage::{FinishedParquet, Location, Locations},
};

/// The rows whose keys are compared.
pub(crate) struct ComparedRows<'a> {
    /// The table's name, the files that it keeps, and their location.
    pub(crate) table: &'a str,
    pub(crate) files: &'a [FileEntry],
    pub(crate) location: &'a Location,
    /// The rows of the load with their positions.
    pub(crate) load: &'a FinishedParquet,
    pub(crate) schema: SchemaRef,
}

/// The positions of the rows of the load whose key is taken, in their order. A key with a NULL is never taken.
pub(crate) async fn repeated(engine: &Engine, rows: &ComparedRows<'_>, columns: &[String]) -> Result<Vec<i64>> {
    let load = Locations::default().open(&rows.load.path().to_string_lossy())?;
    let session = engine.session(Parallelism::One, [&load])?;
    let spool = ParquetReadOptions { file_extension: "", ..Default::default() };
    session.register_parquet("load", load.url(), spool).await?;
    let names: Vec<String> = columns.iter().map(|column| format!("\"{}\"", column.replace('"', "\"\""))).collect();
    let keys = names.join(", ");
    let mut all = format!("SELECT {keys}, \"{ROW}\" FROM load");
    if !rows.files.is_empty() {
        let fields = columns.iter().map(|column| rows.schema.field_with_name(column).cloned());
        let schema = Arc::new(Schema::new(fields.collect::<std::result::Result<Vec<_>, _>>()?));
        let table = ReadBack {
            table: rows.table.into(),
            location: rows.location.clone(),
            files: rows.files.to_vec(),
            schema: schema.clone(),
            batch_rows: engine.batch_rows(),
        };
        let of_keys = schema.clone();
        let read = |sink| table.read_all(sink, move |_, _, columns| Ok(RecordBatch::try_new(of_keys.clone(), columns)?));
        session.register_table("facts", Arc::new(streamed(schema, read)?))?;
        // Rows of the table come before all rows of the load.
        all = format!("SELECT {keys}, CAST(-1 AS BIGINT) AS \"{ROW}\" FROM facts UNION ALL {all}");
    }
    let has_no_null = names.iter().map(|name| format!("{name} IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
    let repeated = format!(
        "SELECT \"{ROW}\" FROM (SELECT \"{ROW}\", row_number() OVER (PARTITION BY {keys} ORDER BY \"{ROW}\") AS number \
         FROM ({all}) WHERE {has_no_null}) WHERE number > 1 AND \"{ROW}\" >= 0"
    );
    let mut found = Vec::new();
    let mut batches = session.sql(&repeated).await?.execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        found.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
    }
    found.sort_unstable();
    Ok(found)
}
