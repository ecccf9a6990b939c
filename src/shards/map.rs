//! Runs a function over shards. Results come in the order of the shards, whatever the order in which they are computed.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::Shards;
use crate::error::{Error, Result};

/// Batches between a shard's reader and its function.
const QUEUE: usize = 2;

type Function<T> = Arc<dyn Fn(ShardRows) -> Result<T> + Send + Sync>;

/// The batches of one shard, in the order of its files and rows.
#[derive(Debug)]
pub struct ShardRows {
    shard: usize,
    schema: SchemaRef,
    batches: mpsc::Receiver<Result<RecordBatch>>,
}

impl ShardRows {
    /// The shard's number, counting from 0.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl Iterator for ShardRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.blocking_recv()
    }
}

/// A function over shards that has not run yet; see [`Shards::map`].
#[must_use]
pub struct Mapped<T> {
    shards: Shards,
    function: Function<T>,
}

impl<T: Send + 'static> Mapped<T> {
    pub(super) fn new(shards: Shards, function: Function<T>) -> Self {
        Self { shards, function }
    }

    /// Joins the results in the order of the shards, as they become available. There is at least one shard, so the result is never
    /// `None`.
    ///
    /// At most [`Resources::partitions`](crate::Resources) results are held at once, besides the joined one.
    ///
    /// # Errors
    /// As [`Mapped::collect`].
    pub async fn reduce(self, mut join: impl FnMut(T, T) -> Result<T>) -> Result<Option<T>> {
        let mut results = self.results();
        let mut joined = None;
        while let Some(result) = results.try_next().await? {
            joined = Some(match joined.take() {
                None => result,
                Some(before) => join(before, result)?,
            });
        }
        Ok(joined)
    }

    /// The results, in the order of the shards.
    ///
    /// # Errors
    /// [`Error::Shard`] for the first shard in this order that failed, with its files and the cause.
    pub async fn collect(self) -> Result<Vec<T>> {
        self.results().try_collect().await
    }

    fn results(self) -> futures::stream::BoxStream<'static, Result<T>> {
        let at_once = self.shards.engine.partitions();
        let (shards, function) = (Arc::new(self.shards), self.function);
        let tasks = (0..shards.count()).map(move |shard| {
            let (shards, function) = (shards.clone(), function.clone());
            async move {
                let done = run(&shards, shard, function).await;
                done.map_err(|cause| Error::Shard {
                    table: shards.table.to_string(),
                    shard,
                    count: shards.count(),
                    files: shards.files(shard),
                    cause: Box::new(cause),
                })
            }
        });
        futures::stream::iter(tasks).buffered(at_once).boxed()
    }
}

/// Reads a shard and runs the function over it.
async fn run<T: Send + 'static>(shards: &Shards, shard: usize, function: Function<T>) -> Result<T> {
    let (schema, mut rows) = shards.rows(shard).await?;
    let (sender, batches) = mpsc::channel(QUEUE);
    let work = tokio::task::spawn_blocking(move || function(ShardRows { shard, schema, batches }));
    let read = async {
        while let Some(batch) = rows.next().await {
            // The function may end before the rows do.
            if sender.send(batch).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let (done, ()) = tokio::join!(work, read);
    const STEP: &str = "the function over a shard";
    done.map_err(|lost| match lost.is_panic() {
        true => Error::Step {
            set: format!("table `{}`", shards.table),
            step: STEP.into(),
            reason: format!("it panicked: {lost}"),
            cause: None,
        },
        false => Error::lost_task(STEP, lost),
    })?
}
