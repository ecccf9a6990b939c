//! A buffer of rows in a temporary file, to be read as often as learning needs.
//! It keeps the rows' order and bits. The file is removed when the buffer is dropped.

use std::{fs::File, io::BufReader, ops::Range, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{FieldRef, Schema, SchemaRef},
    ipc::{reader::FileReader, writer::FileWriter},
};
use datafusion::{
    catalog::streaming::StreamingTable,
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use crate::{
    error::{Error, Result},
    storage::scratch_file,
};

/// Batches between the file and a query.
const QUEUE: usize = 2;

/// Writes the rows of a buffer.
pub(crate) struct RowBufferWriter {
    file: NamedTempFile,
    writer: FileWriter<File>,
    schema: SchemaRef,
    rows: u64,
}

/// Rows in Arrow's file format.
#[derive(Debug)]
pub(crate) struct RowBuffer {
    file: NamedTempFile,
    schema: SchemaRef,
    rows: u64,
}

fn failed_thread(cause: std::io::Error) -> Error {
    Error::System { subject: "a thread that reads buffered rows".into(), cause }
}

fn cut_off() -> Error {
    Error::temporary_file(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "buffered rows cannot be read"))
}

impl RowBuffer {
    /// Begins a buffer of rows with this schema.
    pub(crate) fn create(schema: SchemaRef) -> Result<RowBufferWriter> {
        let file = scratch_file("asof-spool-").map_err(Error::temporary_file)?;
        let writer = FileWriter::try_new(file.reopen().map_err(Error::temporary_file)?, &schema)?;
        Ok(RowBufferWriter { file, writer, schema, rows: 0 })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The rows as a table with one partition, in their order.
    pub(crate) fn table(self: &Arc<Self>) -> Result<StreamingTable> {
        Ok(StreamingTable::try_new(self.schema.clone(), vec![Arc::new(BufferPartition(self.clone()))])?)
    }

    /// The rows in their order, read on a thread that may block on the disk.
    pub(crate) fn stream(self: &Arc<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        self.stream_of(None, self.rows)
    }

    /// The rows of some batches, as they were written and counted from zero, in their order. There are `rows` of them.
    pub(super) fn stream_of_batches(
        self: &Arc<Self>,
        batches: Range<usize>,
        rows: u64,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        self.stream_of(Some(batches), rows)
    }

    fn stream_of(self: &Arc<Self>, batches: Option<Range<usize>>, rows: u64) -> BoxStream<'static, Result<RecordBatch>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let buffer = self.clone();
        tokio::task::spawn_blocking(move || match buffer.read(None, batches, rows) {
            Ok(batches) => {
                for batch in batches {
                    if sender.blocking_send(batch).is_err() {
                        break;
                    }
                }
            }
            Err(error) => drop(sender.blocking_send(Err(error))),
        });
        let batches = futures::stream::unfold((receiver, rows), |(mut receiver, missing)| async move {
            match receiver.recv().await {
                Some(Ok(batch)) => {
                    let missing = missing.saturating_sub(batch.num_rows() as u64);
                    Some((Ok(batch), (receiver, missing)))
                }
                Some(Err(error)) => Some((Err(error), (receiver, 0))),
                None if missing == 0 => None,
                None => Some((Err(cut_off()), (receiver, 0))),
            }
        });
        batches.boxed()
    }

    /// The rows with the columns of `wanted` and `more` that they have; the others are outputs of encoders.
    pub(super) fn columns(
        &self,
        wanted: &Schema,
        more: &[FieldRef],
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let fields = wanted.fields().iter().chain(more);
        let mut positions: Vec<usize> = fields.filter_map(|field| self.schema.index_of(field.name()).ok()).collect();
        positions.sort_unstable();
        positions.dedup();
        self.batches(Some(positions))
    }

    /// The rows in the order in which they were written, with all columns or these.
    ///
    /// A thread reads ahead, until the iterator is dropped.
    pub(crate) fn batches(&self, columns: Option<Vec<usize>>) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        self.read(columns, None, self.rows)
    }

    /// All batches, or some, with all columns or some. They have so many rows.
    fn read(
        &self,
        columns: Option<Vec<usize>>,
        which: Option<Range<usize>>,
        rows: u64,
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let file = BufReader::with_capacity(1 << 20, self.file.reopen().map_err(Error::temporary_file)?);
        let mut batches = FileReader::try_new(file, columns)?;
        if let Some(which) = which.as_ref().filter(|which| !which.is_empty()) {
            batches.set_index(which.start)?;
        }
        let (mut missing, (sender, receiver)) = (rows, std::sync::mpsc::sync_channel(QUEUE));
        let count = which.map_or(usize::MAX, |which| which.len());
        let read = move || {
            for batch in batches.take(count) {
                if sender.send(batch.map_err(Error::from)).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("asof-row-buffer".into()).spawn(read).map_err(failed_thread)?;
        let mut is_over = false;
        Ok(std::iter::from_fn(move || {
            let next = if is_over { None } else { receiver.recv().ok() };
            match &next {
                Some(Ok(batch)) => missing = missing.saturating_sub(batch.num_rows() as u64),
                Some(Err(_)) => is_over = true,
                // The thread ended before it had read all rows.
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

/// All rows of a buffer, as the one partition of a table.
#[derive(Debug)]
struct BufferPartition(Arc<RowBuffer>);

impl PartitionStream for BufferPartition {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.0.stream().map_err(DataFusionError::from);
        Box::pin(RecordBatchStreamAdapter::new(self.0.schema.clone(), batches))
    }
}

impl RowBufferWriter {
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        Ok(self.writer.write(batch)?)
    }

    pub(crate) fn finish(mut self) -> Result<RowBuffer> {
        self.writer.finish()?;
        Ok(RowBuffer { file: self.file, schema: self.schema, rows: self.rows })
    }
}
