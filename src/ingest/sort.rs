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
use tokio::sync::mpsc;

use super::{
    columns::Target,
    runs::{Layout, Sorter},
};
use crate::{
    engine::Engine,
    error::{Error, Result},
};

/// Batches between the reader and the sort.
const QUEUE: usize = 2;

/// A batch; `None` after the last one. A queue that ends without it was cut off.
type Batch = Result<Option<RecordBatch>>;

/// The end of the queue that a reader of rows fills.
#[derive(Clone)]
pub(crate) struct Sink(mpsc::Sender<Batch>);

impl Sink {
    /// Hands over a batch; false when nobody wants more.
    pub(crate) async fn send(&self, batch: RecordBatch) -> bool {
        self.0.send(Ok(Some(batch))).await.is_ok()
    }

    /// As [`Sink::send`], from a thread that may block.
    pub(crate) fn send_blocking(&self, batch: RecordBatch) -> bool {
        self.0.blocking_send(Ok(Some(batch))).is_ok()
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
    let mut unsorted = queue(read);
    let (sender, receiver) = mpsc::channel(QUEUE);
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
                if sender.is_closed() {
                    return Ok(());
                }
            }
            sorter.finish(|rows| Ok(sender.blocking_send(Ok(Some(rows))).is_ok()))
        };
        // The receiver is gone only when nobody wants the rows any more.
        let _ = sender.blocking_send(sort().map(|()| None));
    };
    let thread = std::thread::Builder::new().name("asof-sort".into()).spawn(sort);
    thread.map_err(|source| Error::Io { path: "a thread for the sort".into(), source })?;
    Ok(stream(target.sorted.clone(), Some(receiver)))
}

/// The queue into which `read` sends rows.
fn queue<F>(read: impl FnOnce(Sink) -> F) -> mpsc::Receiver<Batch>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(QUEUE);
    let reading = read(Sink(sender.clone()));
    tokio::spawn(async move {
        let end = reading.await.map(|()| None);
        // The receiver is gone only when the query has ended already.
        let _ = sender.send(end).await;
    });
    receiver
}

fn cut_off() -> Error {
    let reason = "a source's decoder panicked; the load is incomplete and was not committed".to_owned();
    Error::Definition { subject: "the load".into(), reason }
}

/// The rows of a queue.
fn stream(schema: SchemaRef, receiver: Option<mpsc::Receiver<Batch>>) -> SendableRecordBatchStream {
    let batches = futures::stream::unfold(receiver, |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Ok(Some(batch))) => Some((Ok(batch), Some(receiver))),
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
    let receiver = queue(read);
    let rows = Rows { schema: schema.clone(), receiver: Mutex::new(Some(receiver)) };
    Ok(StreamingTable::try_new(schema, vec![Arc::new(rows)])?)
}

/// The queue as a table that can be read once.
#[derive(Debug)]
struct Rows {
    schema: SchemaRef,
    receiver: Mutex<Option<mpsc::Receiver<Batch>>>,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream(self.schema.clone(), receiver)
    }
}
