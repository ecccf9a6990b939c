//! Rows set aside on this machine's disk, to be read as often as learning needs.
//! It keeps the rows' order and bits, and is gone when it is dropped.

use std::{fs::File, io::BufReader, path::PathBuf};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    ipc::{reader::FileReader, writer::FileWriter},
};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Rows on their way into a spool.
pub(crate) struct SpoolWriter {
    file: NamedTempFile,
    writer: FileWriter<File>,
    schema: SchemaRef,
    rows: u64,
}

/// Rows set aside in Arrow's file format.
#[derive(Debug)]
pub(crate) struct Spool {
    file: NamedTempFile,
    schema: SchemaRef,
    rows: u64,
}

fn failed(source: std::io::Error) -> Error {
    Error::Io { path: PathBuf::from("a temporary file"), source }
}

impl Spool {
    /// Begins a spool of rows with this schema.
    pub(crate) fn create(schema: SchemaRef) -> Result<SpoolWriter> {
        let file = NamedTempFile::with_prefix("asof-spool-").map_err(failed)?;
        let writer = FileWriter::try_new(file.reopen().map_err(failed)?, &schema)?;
        Ok(SpoolWriter { file, writer, schema, rows: 0 })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The rows again, these columns of them, in the order they were written.
    pub(crate) fn batches(&self, columns: Option<Vec<usize>>) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let file = BufReader::with_capacity(1 << 20, self.file.reopen().map_err(failed)?);
        Ok(FileReader::try_new(file, columns)?.map(|batch| Ok(batch?)))
    }
}

impl SpoolWriter {
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        Ok(self.writer.write(batch)?)
    }

    pub(crate) fn finish(mut self) -> Result<Spool> {
        self.writer.finish()?;
        Ok(Spool { file: self.file, schema: self.schema, rows: self.rows })
    }
}
