//! A bounded queue of batches between the reader of rows and their consumer, which can also be read as a stream or a table.
//! A queue that ends without an end marker is an error: its reader panicked.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    catalog::streaming::StreamingTable,
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use crate::error::{Error, Result};

/// The approximate bytes that wait between a reader and its consumer. The reader goes on while a sort writes a run.
const READ_BYTES: usize = 32 << 20;

/// A batch, or `None` as the end marker. A queue that ends without the end marker was cut off.
type Batch = Result<Option<RecordBatch>>;

/// The sending end of a queue. It waits until there is room for the bytes of a batch.
#[derive(Clone)]
pub(crate) struct BatchSink {
    sender: mpsc::UnboundedSender<(Batch, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
    room_bytes: usize,
    runtime: Handle,
}

/// The receiving end of a queue.
#[derive(Debug)]
pub(crate) struct Queue(mpsc::UnboundedReceiver<(Batch, Option<OwnedSemaphorePermit>)>);

/// A queue with room for this number of bytes. A larger batch waits until it is the only one.
pub(crate) fn queue(room_bytes: usize) -> (BatchSink, Queue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(room_bytes));
    (BatchSink { sender, room, room_bytes, runtime: Handle::current() }, Queue(receiver))
}

impl BatchSink {
    /// Sends a batch. Returns false if the receiver is gone.
    pub(crate) async fn send(&self, batch: RecordBatch) -> bool {
        let bytes = u32::try_from(batch.get_array_memory_size().clamp(1, self.room_bytes)).unwrap_or(u32::MAX);
        // The semaphore is never closed. When the receiver is dropped, all room is free.
        let room = self.room.clone().acquire_many_owned(bytes).await.ok();
        self.sender.send((Ok(Some(batch)), room)).is_ok()
    }

    /// As [`BatchSink::send`], on a thread that may block.
    pub(crate) fn send_blocking(&self, batch: RecordBatch) -> bool {
        self.runtime.block_on(self.send(batch))
    }

    /// Is the receiver gone?
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends the end marker, or an error.
    pub(crate) fn end(&self, end: Result<()>) {
        // If the receiver is gone, the rows are no longer wanted.
        let _ = self.sender.send((end.map(|()| None), None));
    }
}

impl Queue {
    async fn recv(&mut self) -> Option<Batch> {
        self.0.recv().await.map(|(batch, _)| batch)
    }

    /// The next batch, on a thread that may block; `None` at the end.
    ///
    /// # Errors
    /// The reader's error, or that it ended without an end marker.
    pub(crate) fn next_blocking(&mut self) -> Result<Option<RecordBatch>> {
        self.0.blocking_recv().map_or_else(|| Err(reader_panicked()), |(batch, _)| batch)
    }
}

/// A queue into which `read` sends rows.
pub(crate) fn filled_by<F>(read: impl FnOnce(BatchSink) -> F) -> Queue
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sink, queue) = queue(READ_BYTES);
    let reading = read(sink.clone());
    tokio::spawn(async move { sink.end(reading.await) });
    queue
}

/// The error of a load whose reader panicked.
pub(crate) fn reader_panicked() -> Error {
    let reason = "a source's decoder panicked; the load is incomplete and was not committed".to_owned();
    Error::Internal { subject: "the load".into(), reason }
}

/// The rows of a queue as a stream.
pub(crate) fn stream(schema: SchemaRef, queue: Option<Queue>) -> SendableRecordBatchStream {
    let batches = futures::stream::unfold(queue, |queue| async move {
        let mut queue = queue?;
        match queue.recv().await {
            Some(Ok(Some(batch))) => Some((Ok(batch), Some(queue))),
            Some(Ok(None)) => None,
            Some(Err(error)) => Some((Err(DataFusionError::from(error)), None)),
            None => Some((Err(reader_panicked().into()), None)),
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// The rows that `read` sends, as a table that can be read once.
pub(crate) fn streamed<F>(schema: SchemaRef, read: impl FnOnce(BatchSink) -> F) -> Result<StreamingTable>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let rows = QueuedRows { schema: schema.clone(), queue: Mutex::new(Some(filled_by(read))) };
    Ok(StreamingTable::try_new(schema, vec![Arc::new(rows)])?)
}

/// A queue as a table that can be read once.
#[derive(Debug)]
struct QueuedRows {
    schema: SchemaRef,
    queue: Mutex<Option<Queue>>,
}

impl PartitionStream for QueuedRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream(self.schema.clone(), queue)
    }
}
