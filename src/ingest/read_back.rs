//! Reads a table's own files back: all columns or some of them. Each file is checked against the table's record of it.
//! It holds one batch at a time, and never takes a partial answer of the store for the whole.

use std::collections::{HashMap, HashSet};

use arrow::{
    array::{ArrayRef, RecordBatch, new_null_array},
    datatypes::SchemaRef,
};
use futures::{StreamExt, TryStreamExt};
use parquet::{
    arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask},
    errors::ParquetError,
};

use super::queue::BatchSink;
use crate::{
    catalog::FileEntry,
    error::{Error, Result},
    storage::{Location, ObjectReader, contained, contained_rows, read_footer},
};

/// Files of a table version.
pub(crate) struct ReadBack {
    pub(crate) table: String,
    pub(crate) location: Location,
    pub(crate) files: Vec<FileEntry>,
    /// The columns to read. A column that a file does not have is NULL.
    pub(crate) schema: SchemaRef,
    pub(crate) batch_rows: usize,
}

impl ReadBack {
    /// Sends each batch through `shape` to the sink. `shape` gets the index of the file, the numbers of the rows in it, from 1, and
    /// the columns.
    pub(crate) async fn read_all(
        self,
        sink: BatchSink,
        shape: impl Fn(usize, &[u64], Vec<ArrayRef>) -> Result<RecordBatch>,
    ) -> Result<()> {
        let wanted_names: HashSet<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        for (index, file) in self.files.iter().enumerate() {
            let shown = self.location.child(&file.path).to_string();
            let changed =
                |change: &str| Error::FileChanged { table: self.table.clone(), path: shown.clone(), change: change.into() };
            let object = self.location.head(&file.path).await?.ok_or_else(|| changed("has vanished"))?;
            if !self.location.is_unchanged(&object, &file.identity).await? {
                return Err(changed("has changed"));
            }
            let unreadable = |e: ParquetError| Error::UnreadableFile { path: shown.clone(), reason: e.to_string() };
            let footer = read_footer(&self.location, &object).await?;
            let reader = ObjectReader::new(&self.location, object);
            let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer);
            let held = builder.schema().fields().iter().enumerate();
            let wanted = held.filter(|(_, field)| wanted_names.contains(field.name().as_str())).map(|(i, _)| i);
            let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.collect::<Vec<_>>());
            let builder = builder.with_projection(mask).with_batch_size(self.batch_rows);
            let batches = contained(&shown, || builder.build().map_err(unreadable))?;
            let mut batches = Box::pin(contained_rows(&shown, batches.map_err(unreadable)));
            let mut row = 0;
            while let Some(batch) = batches.next().await.transpose()? {
                let count = batch.num_rows();
                let held = batch.schema();
                let places: HashMap<&str, usize> =
                    held.fields().iter().enumerate().map(|(place, field)| (field.name().as_str(), place)).collect();
                let fields = self.schema.fields().iter();
                let columns = fields.map(|field| {
                    let column = places.get(field.name().as_str()).map(|place| batch.column(*place).clone());
                    column.unwrap_or_else(|| new_null_array(field.data_type(), count))
                });
                let rows: Vec<u64> = (row + 1..=row + count as u64).collect();
                row += count as u64;
                if !sink.send(shape(index, &rows, columns.collect())?).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
