//! Rows from anywhere into the order of a table's files: month, event time, place. `runs` sorts, in a thread of its own.
//! It changes no row, and knows neither sources nor tables.

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

use super::runs::{Layout, Sorter};
use crate::{
    engine::Engine,
    error::{Error, Result},
    ingest::target::Target,
};

/// Bytes that wait between the reader and the sort, and between the sort and who takes its rows, about. A sort takes a while for
/// each run, in which the reader goes on.
const UNSORTED_BYTES: usize = 32 << 20;
const SORTED_BYTES: usize = 4 << 20;

/// A batch; `None` after the last one. A queue that ends without it was cut off.
type Batch = Result<Option<RecordBatch>>;

/// The end of a queue that takes batches in, as long as there is room for their bytes.
#[derive(Clone)]
pub(crate) struct Sink {
    sender: mpsc::UnboundedSender<(Batch, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
    room_bytes: usize,
    runtime: Handle,
}

/// The other end.
#[derive(Debug)]
struct Queue(mpsc::UnboundedReceiver<(Batch, Option<OwnedSemaphorePermit>)>);

/// A queue with room for so many bytes; a larger batch waits until it is the only one.
fn queue(room_bytes: usize) -> (Sink, Queue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(room_bytes));
    (Sink { sender, room, room_bytes, runtime: Handle::current() }, Queue(receiver))
}

impl Sink {
    /// Hands over a batch; false when nobody wants more.
    pub(crate) async fn send(&self, batch: RecordBatch) -> bool {
        let bytes = u32::try_from(batch.get_array_memory_size().clamp(1, self.room_bytes)).unwrap_or(u32::MAX);
        // Nobody closes the semaphore; when the other end is dropped all room is free.
        let room = self.room.clone().acquire_many_owned(bytes).await.ok();
        self.sender.send((Ok(Some(batch)), room)).is_ok()
    }

    /// As [`Sink::send`], from a thread that may block.
    pub(crate) fn send_blocking(&self, batch: RecordBatch) -> bool {
        self.runtime.block_on(self.send(batch))
    }

    /// Says how it ended.
    fn end(&self, end: Result<()>) {
        // The receiver is gone only when nobody wants the rows any more.
        let _ = self.sender.send((end.map(|()| None), None));
    }
}

impl Queue {
    async fn recv(&mut self) -> Option<Batch> {
        self.0.recv().await.map(|(batch, _)| batch)
    }

    fn blocking_recv(&mut self) -> Option<Batch> {
        self.0.blocking_recv().map(|(batch, _)| batch)
    }
}

/// The rows that `read` sends, by year, month, event time and, so that a rerun writes the same bytes, their place.
///
/// The first row comes after the last one was read.
pub(crate) async fn sorted<F>(
    engine: &Engine,
    target: &Target,
    event_column: &str,
    read: impl FnOnce(Sink) -> F,
) -> Result<SendableRecordBatchStream>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let layout = Layout::new(target, event_column, engine.batch_rows())?;
    let mut sorter = Sorter::new(layout, engine.spilling("the sort of a load"));
    let mut unsorted = filled_by(read);
    let (sink, rows) = queue(SORTED_BYTES);
    let sort = move || {
        let sort = || {
            loop {
                match unsorted.blocking_recv() {
                    Some(batch) => match batch? {
                        Some(batch) => sorter.add(batch)?,
                        None => break,
                    },
                    None => return Err(cut_off()),
                }
                if sink.sender.is_closed() {
                    return Ok(());
                }
            }
            sorter.finish(|rows| Ok(sink.send_blocking(rows)))
        };
        sink.end(sort());
    };
    let thread = std::thread::Builder::new().name("asof-sort".into()).spawn(sort);
    thread.map_err(|source| Error::Io { path: "a thread for the sort".into(), source })?;
    Ok(stream(target.sorted.clone(), Some(rows)))
}

/// The queue into which `read` sends rows.
fn filled_by<F>(read: impl FnOnce(Sink) -> F) -> Queue
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sink, queue) = queue(UNSORTED_BYTES);
    let reading = read(sink.clone());
    tokio::spawn(async move { sink.end(reading.await) });
    queue
}

fn cut_off() -> Error {
    let reason = "a source's decoder panicked; the load is incomplete and was not committed".to_owned();
    Error::Definition { subject: "the load".into(), reason }
}

/// The rows of a queue.
fn stream(schema: SchemaRef, queue: Option<Queue>) -> SendableRecordBatchStream {
    let batches = futures::stream::unfold(queue, |queue| async move {
        let mut queue = queue?;
        match queue.recv().await {
            Some(Ok(Some(batch))) => Some((Ok(batch), Some(queue))),
            Some(Ok(None)) => None,
            Some(Err(error)) => Some((Err(DataFusionError::from(error)), None)),
            None => Some((Err(cut_off().into()), None)),
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// The rows that `read` sends as a table that can be read once.
pub(crate) fn streamed<F>(schema: SchemaRef, read: impl FnOnce(Sink) -> F) -> Result<StreamingTable>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let rows = Rows { schema: schema.clone(), queue: Mutex::new(Some(filled_by(read))) };
    Ok(StreamingTable::try_new(schema, vec![Arc::new(rows)])?)
}

/// The queue as a table that can be read once.
#[derive(Debug)]
struct Rows {
    schema: SchemaRef,
    queue: Mutex<Option<Queue>>,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream(self.schema.clone(), queue)
    }
}
