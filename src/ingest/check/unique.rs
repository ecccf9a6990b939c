//! Keys that must be unique over the whole table: which rows of a load agree with an earlier row.
//! It reads key columns only, and holds what a sort holds before it spills, and 8 bytes for each violation.

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

/// Where the rows lie that keys are compared over.
pub(crate) struct Rows<'a> {
    /// The table's name, its files that stay, and their place.
    pub(crate) table: &'a str,
    pub(crate) files: &'a [FileEntry],
    pub(crate) place: &'a Location,
    /// The rows of the load with their places.
    pub(crate) load: &'a FinishedParquet,
    pub(crate) schema: SchemaRef,
}

/// The places of the load's rows whose key a row of the table or an earlier row of the load has, in their order.
pub(crate) async fn repeated(engine: &Engine, rows: &Rows<'_>, columns: &[String]) -> Result<Vec<i64>> {
    let load = Locations::default().open(&rows.load.path().to_string_lossy())?;
    let session = engine.session(Parallelism::One, [&load])?;
    let spool = ParquetReadOptions { file_extension: "", ..Default::default() };
    session.register_parquet("load", load.url(), spool).await?;
    let names: Vec<String> = columns.iter().map(|column| format!("\"{}\"", column.replace('"', "\"\""))).collect();
    let keys = names.join(", ");
    let mut all = format!("SELECT {keys}, \"{ROW}\" AS place FROM load");
    if !rows.files.is_empty() {
        let fields = columns.iter().map(|column| rows.schema.field_with_name(column).cloned());
        let schema = Arc::new(Schema::new(fields.collect::<std::result::Result<Vec<_>, _>>()?));
        let table = ReadBack {
            table: rows.table.into(),
            place: rows.place.clone(),
            files: rows.files.to_vec(),
            schema: schema.clone(),
            batch_rows: engine.batch_rows(),
        };
        let of_keys = schema.clone();
        let read = |sink| table.read_all(sink, move |_, _, columns| Ok(RecordBatch::try_new(of_keys.clone(), columns)?));
        session.register_table("facts", Arc::new(streamed(schema, read)?))?;
        // Rows of the table come first.
        all = format!("SELECT {keys}, CAST(-1 AS BIGINT) AS place FROM facts UNION ALL {all}");
    }
    let is_whole = names.iter().map(|name| format!("{name} IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
    let repeated = format!(
        "SELECT place FROM (SELECT place, row_number() OVER (PARTITION BY {keys} ORDER BY place) AS number FROM ({all}) \
         WHERE {is_whole}) WHERE number > 1 AND place >= 0"
    );
    let mut found = Vec::new();
    let mut batches = session.sql(&repeated).await?.execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        found.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
    }
    found.sort_unstable();
    Ok(found)
}
