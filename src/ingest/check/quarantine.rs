//! The quarantine of a load: a Parquet file of rows that were kept out of the table, each with its reason, file and line.
//! The file is published once, under a name that holds its hash.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use crate::{
    error::Result,
    ingest::fact_files::writer_properties,
    layout::quarantine_file,
    name::{ContentId, TableName},
    storage::{Location, ParquetFile},
};

/// The columns after those of the table: the reason, the source file, and the line in it (in a Parquet file, the row), from 1.
const REASON: &str = "__asof_reason";
const FILE: &str = "__asof_file";
const LINE: &str = "__asof_line";

/// The quarantine of one load.
#[derive(Default)]
pub(crate) struct Quarantine {
    open: Option<(SchemaRef, ParquetFile)>,
    pub(crate) rows: u64,
}

impl Quarantine {
    /// Adds rows. `columns` are the table's columns.
    pub(crate) fn add(
        &mut self,
        schema: &SchemaRef,
        mut columns: Vec<ArrayRef>,
        reasons: StringArray,
        files: StringArray,
        lines: Int64Array,
    ) -> Result<()> {
        let (schema, file) = match &mut self.open {
            Some(open) => open,
            None => {
                let more = [(REASON, DataType::Utf8), (FILE, DataType::Utf8), (LINE, DataType::Int64)];
                let more = more.map(|(name, data_type)| Arc::new(Field::new(name, data_type, false)));
                let schema = Arc::new(Schema::new(schema.fields().iter().cloned().chain(more).collect::<Vec<_>>()));
                let file = ParquetFile::create(schema.clone(), writer_properties())?;
                self.open.insert((schema, file))
            }
        };
        columns.extend([Arc::new(reasons) as ArrayRef, Arc::new(files), Arc::new(lines)]);
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        self.rows += batch.num_rows() as u64;
        file.write(&batch)
    }

    /// Publishes the rows, if there are any. Returns the file's name relative to the root.
    pub(crate) async fn publish(self, root: &Location, table: &TableName, load: ContentId) -> Result<Option<String>> {
        let Some((_, file)) = self.open else { return Ok(None) };
        let file = file.finish()?;
        let name = quarantine_file(table, load, file.hash);
        file.publish(root, &name).await?;
        Ok(Some(name))
    }
}
