//! The files of a result: written on this machine's disk as rows come, put into the store when all are there.
//! It names nothing but its own files, and publishes no manifest.

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use parquet::{
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use super::Part;
use crate::{
    error::Result,
    storage::{FinishedParquet, Location, ParquetFile, suited_to},
};

/// The size at which a part is closed and the next one begun.
const PART_BYTES: usize = 256 << 20;
/// Rows in a row group.
const ROW_GROUP_ROWS: usize = 128 << 10;

/// Rows in order, in files of a bounded size on this machine's disk, until they are published.
pub(crate) struct Parts {
    pub(crate) schema: SchemaRef,
    open: Option<ParquetFile>,
    finished: Vec<FinishedParquet>,
    /// What the names of the files begin with.
    prefix: String,
    threads: usize,
}

impl Parts {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self { schema, open: None, finished: Vec::new(), prefix: "part".into(), threads: 1 }
    }

    /// Encodes columns in so many threads. The files are the same.
    pub(crate) fn threads(mut self, count: usize) -> Self {
        self.threads = count;
        self
    }

    /// The same rows in files whose names begin so, beside others of one place.
    pub(crate) fn named(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut file = match self.open.take() {
            Some(file) => file,
            None => {
                let compression = Compression::ZSTD(ZstdLevel::default());
                let properties =
                    WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
                let properties = suited_to(properties.build(), batch);
                ParquetFile::create(self.schema.clone(), properties)?.threads(self.threads)
            }
        };
        file.write(batch)?;
        if file.size() >= PART_BYTES {
            self.finished.push(file.finish()?);
        } else {
            self.open = Some(file);
        }
        Ok(())
    }

    /// Puts all files into the store. A result without rows has one part too, which carries the schema.
    pub(crate) async fn publish(mut self, place: &Location) -> Result<Vec<Part>> {
        if self.finished.is_empty() && self.open.is_none() {
            self.write(&RecordBatch::new_empty(self.schema.clone()))?;
        }
        if let Some(file) = self.open.take() {
            self.finished.push(file.finish()?);
        }
        let mut parts = Vec::with_capacity(self.finished.len());
        for (i, file) in self.finished.into_iter().enumerate() {
            let (rows, hash) = (file.rows(), file.hash);
            let name = format!("{}-{i:05}-{}.parquet", self.prefix, hash.short());
            let size = file.publish(place, &name).await?.size;
            parts.push(Part { name, rows, size, hash });
        }
        Ok(parts)
    }
}
