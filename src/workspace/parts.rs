//! The files of a result: written to this machine's disk as rows arrive, and put into the store once all are written.
//! The manifest or record that names them is the caller's to publish.

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use parquet::{
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    layout::{PartOf, part_file},
    name::ContentId,
    storage::{FinishedParquet, Location, ParquetFile, suited_to},
};

/// The size at which a part is closed and the next one begun.
const PART_BYTES: usize = 256 << 20;
/// Rows in a row group.
const ROW_GROUP_ROWS: usize = 128 << 10;

/// A file that holds rows of a materialization or an extract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Part {
    /// The file's name, in the folder of the manifest or record that lists it.
    pub name: String,
    /// Rows in it.
    pub rows: u64,
    /// Size in bytes.
    pub size: u64,
    /// Content hash.
    pub hash: ContentId,
}

/// How a file is written whose first rows are these.
pub(crate) fn part_properties(rows: &RecordBatch) -> WriterProperties {
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    suited_to(properties.build(), rows)
}

/// Writes rows, in their order, to files of a bounded size.
pub(crate) struct PartsWriter {
    pub(crate) schema: SchemaRef,
    open: Option<ParquetFile>,
    finished: Vec<FinishedParquet>,
    of: PartOf,
    threads: usize,
}

impl PartsWriter {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self { schema, open: None, finished: Vec::new(), of: PartOf::Whole, threads: 1 }
    }

    /// Encodes columns in this many threads. The bytes of the files do not depend on it.
    pub(crate) fn threads(mut self, count: usize) -> Self {
        self.threads = count;
        self
    }

    /// Names the files after these rows, so that several results can share a folder. The default is [`PartOf::Whole`].
    pub(crate) fn of(mut self, of: PartOf) -> Self {
        self.of = of;
        self
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut file = match self.open.take() {
            Some(file) => file,
            None => ParquetFile::create(self.schema.clone(), part_properties(batch))?.threads(self.threads),
        };
        file.write(batch)?;
        if file.size() >= PART_BYTES {
            self.finished.push(file.finish()?);
        } else {
            self.open = Some(file);
        }
        Ok(())
    }

    /// Puts all files into the store. A result without rows has one part, which carries the schema.
    pub(crate) async fn publish(self, location: &Location) -> Result<Vec<Part>> {
        self.finish()?.publish(location).await
    }

    /// Completes the files on this machine's disk. A result without rows has one file, which carries the schema.
    pub(crate) fn finish(mut self) -> Result<FinishedParts> {
        if self.finished.is_empty() && self.open.is_none() {
            self.write(&RecordBatch::new_empty(self.schema.clone()))?;
        }
        if let Some(file) = self.open.take() {
            self.finished.push(file.finish()?);
        }
        Ok(FinishedParts { files: self.finished, of: self.of })
    }
}

/// The complete files of a result, which are not in the store yet.
pub(crate) struct FinishedParts {
    files: Vec<FinishedParquet>,
    of: PartOf,
}

impl FinishedParts {
    /// The hashes of the files, in the order of the rows.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = ContentId> {
        self.files.iter().map(|file| file.hash)
    }

    /// The files as they would be published.
    pub(crate) fn parts(&self) -> Result<Vec<Part>> {
        let part = |(i, file): (usize, &FinishedParquet)| {
            Ok(Part { name: part_file(self.of, i, file.hash), rows: file.rows(), size: file.size()?, hash: file.hash })
        };
        self.files.iter().enumerate().map(part).collect()
    }

    /// The rows of the files, in their order, as they are read back from this machine's disk.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Result<RecordBatch>> + '_ {
        self.files.iter().flat_map(|file| {
            let (rows, failed) = match file.batches() {
                Ok(rows) => (Some(rows), None),
                Err(error) => (None, Some(Err(error))),
            };
            failed.into_iter().chain(rows.into_iter().flatten())
        })
    }

    /// Puts all files into the store.
    pub(crate) async fn publish(self, location: &Location) -> Result<Vec<Part>> {
        let mut parts = Vec::with_capacity(self.files.len());
        for (i, file) in self.files.into_iter().enumerate() {
            let (rows, hash) = (file.rows(), file.hash);
            let name = part_file(self.of, i, hash);
            let size = file.publish(location, &name).await?.size;
            parts.push(Part { name, rows, size, hash });
        }
        Ok(parts)
    }
}
