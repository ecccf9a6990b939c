//! Rows set aside on this machine's disk, to be read as often as learning needs.
//! It keeps the rows' order and bits, and is gone when it is dropped.

use std::{fs::File, io::BufReader, path::PathBuf, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    ipc::{reader::FileReader, writer::FileWriter},
};
use datafusion::{
    catalog::streaming::StreamingTable,
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use crate::{
    error::{Error, Result},
    storage::scratch_file,
};

/// Batches between the file and a query.
const QUEUE: usize = 2;

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

fn failed(cause: std::io::Error) -> Error {
    Error::Io { path: PathBuf::from("a temporary file"), cause }
}

fn cut_off() -> Error {
    failed(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "rows that were set aside cannot be read"))
}

impl Spool {
    /// Begins a spool of rows with this schema.
    pub(crate) fn create(schema: SchemaRef) -> Result<SpoolWriter> {
        let file = scratch_file("asof-spool-").map_err(failed)?;
        let writer = FileWriter::try_new(file.reopen().map_err(failed)?, &schema)?;
        Ok(SpoolWriter { file, writer, schema, rows: 0 })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The rows as a table that a query reads, in one task.
    pub(crate) fn into_table(self) -> Result<StreamingTable> {
        Ok(StreamingTable::try_new(self.schema.clone(), vec![Arc::new(Rows(Arc::new(self)))])?)
    }

    /// The rows again, these columns of them, in the order they were written.
    ///
    /// A thread reads them ahead, as long as somebody takes them.
    pub(crate) fn batches(&self, columns: Option<Vec<usize>>) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let file = BufReader::with_capacity(1 << 20, self.file.reopen().map_err(failed)?);
        let batches = FileReader::try_new(file, columns)?;
        let (mut missing, (sender, receiver)) = (self.rows, std::sync::mpsc::sync_channel(QUEUE));
        let read = move || {
            for batch in batches {
                if sender.send(batch.map_err(Error::from)).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("asof-spool".into()).spawn(read).map_err(failed)?;
        let mut is_over = false;
        Ok(std::iter::from_fn(move || {
            let next = if is_over { None } else { receiver.recv().ok() };
            match &next {
                Some(Ok(batch)) => missing = missing.saturating_sub(batch.num_rows() as u64),
                Some(Err(_)) => is_over = true,
                // The thread is gone before it has read all.
                None if !is_over && missing > 0 => {
                    is_over = true;
                    return Some(Err(cut_off()));
                }
                None => is_over = true,
            }
            next
        }))
    }
}

/// All rows of a spool.
#[derive(Debug)]
struct Rows(Arc<Spool>);

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    /// Reads on a thread that may wait for the disk.
    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let spool = self.0.clone();
        tokio::task::spawn_blocking(move || match spool.batches(None) {
            Ok(batches) => {
                for batch in batches {
                    if sender.blocking_send(batch).is_err() {
                        break;
                    }
                }
            }
            Err(error) => drop(sender.blocking_send(Err(error))),
        });
        let missing = self.0.rows;
        let batches = futures::stream::unfold((receiver, missing), |(mut receiver, missing)| async move {
            match receiver.recv().await {
                Some(Ok(batch)) => {
                    let missing = missing.saturating_sub(batch.num_rows() as u64);
                    Some((Ok(batch), (receiver, missing)))
                }
                Some(Err(error)) => Some((Err(DataFusionError::from(error)), (receiver, 0))),
                None if missing == 0 => None,
                None => Some((Err(cut_off().into()), (receiver, 0))),
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.0.schema.clone(), batches))
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
