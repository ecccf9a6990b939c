//! Rows from anywhere into the order of a table's files: month, event time, place. It spills beyond the engine's memory.
//! It changes no row, and knows neither sources nor tables.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    catalog::streaming::StreamingTable,
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
    prelude::col,
};
use tokio::sync::mpsc;

use super::columns::{MONTH, ROW, Target, YEAR};
use crate::{
    engine::{Engine, Parallelism},
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
    let session = engine.session(Parallelism::One, [])?;
    let table = streamed(target.sorted.clone(), read)?;
    let by = [YEAR, MONTH, event_column, ROW];
    let sort = by.map(|name| col(format!("\"{name}\"")).sort(true, false)).to_vec();
    Ok(session.read_table(Arc::new(table))?.sort(sort)?.execute_stream().await?)
}

/// The rows that `read` sends as a table that can be read once.
pub(crate) fn streamed<F>(schema: SchemaRef, read: impl FnOnce(Sink) -> F) -> Result<StreamingTable>
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
        let batches = futures::stream::unfold(receiver, |receiver| async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(Ok(Some(batch))) => Some((Ok(batch), Some(receiver))),
                Some(Ok(None)) => None,
                Some(Err(error)) => Some((Err(DataFusionError::from(error)), None)),
                None => {
                    let reason = "a source's decoder panicked; the load is incomplete and was not committed".to_owned();
                    Some((Err(Error::Definition { subject: "the load".into(), reason }.into()), None))
                }
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}
