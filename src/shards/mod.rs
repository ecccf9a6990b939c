//! Map-reduce over the files of a table, for computations that are awkward in SQL.
//! Shards are divided among tasks of this process.
//!
//! ```no_run
//! # async fn longest(store: asof::FeatureStore) -> asof::Result<()> {
//! use datafusion::prelude::{col, lit};
//!
//! let as_of: asof::AsOf = "2014-11-01".parse()?;
//! let rows = store
//!     .shards("nyc_taxi", 16, as_of)
//!     .await?
//!     .plan(|trips| Ok(trips.filter(col("passenger_count").gt(lit(1)))?.select_columns(&["trip_distance"])?))
//!     .map(|mut batches| batches.try_fold(0, |rows, batch| Ok(rows + batch?.num_rows())))
//!     .reduce(|a, b| Ok(a + b))
//!     .await?;
//! println!("{rows:?} trips with company");
//! # Ok(())
//! # }
//! ```

mod map;
mod split;

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;

pub use map::{Mapped, ShardRows};

use crate::{
    engine::{Engine, Parallelism},
    error::Result,
    name::TableName,
    scan::{AsOfTable, VisibleTable},
    sql,
    time::{AsOf, Horizon},
    workspace::PinnedTable,
};

/// A query step over a shard's rows.
type PlanStep = Arc<dyn Fn(DataFrame) -> Result<DataFrame> + Send + Sync>;

/// The files of a pinned table version in shards of about the same size.
///
/// Every visible row is in exactly one shard, and shards are in the order of the files' paths. Large files are divided between row
/// groups, so a table with few row groups has shards without rows.
#[derive(Clone)]
#[must_use]
pub struct Shards {
    engine: Engine,
    table: TableName,
    shards: Vec<AsOfTable>,
    steps: Vec<PlanStep>,
}

impl Shards {
    pub(crate) async fn open(engine: &Engine, pinned: &PinnedTable, count: usize, as_of: AsOf) -> Result<Self> {
        let table = pinned.version.table().clone();
        let whole = AsOfTable::open(&VisibleTable::new(pinned, Horizon::before(as_of))?).await?;
        let sizes: Vec<u64> = whole.files().map(|file| file.identity.size).collect();
        let shards = split::even(&sizes, count.max(1)).into_iter().map(|pieces| whole.pieces(&pieces)).collect();
        Ok(Self { engine: engine.clone(), table, shards, steps: Vec::new() })
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.shards.len()
    }

    /// Adds a query step that each shard's rows pass through first: a filter, a projection, an aggregate of the shard.
    pub fn plan(mut self, plan: impl Fn(DataFrame) -> Result<DataFrame> + Send + Sync + 'static) -> Self {
        self.steps.push(Arc::new(plan));
        self
    }

    /// Runs a function over each shard's batches, at most [`Resources::partitions`](crate::Resources) at once. Each runs on a thread
    /// that it may block. Batches are read as the function takes them, with a few read ahead.
    pub fn map<T, F>(self, function: F) -> Mapped<T>
    where
        T: Send + 'static,
        F: Fn(ShardRows) -> Result<T> + Send + Sync + 'static,
    {
        Mapped::new(self, Arc::new(function))
    }

    /// The rows of all shards, in the order of the shards, held in memory.
    ///
    /// # Errors
    /// As [`Mapped::collect`].
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        let batches: Vec<Vec<RecordBatch>> = self.map(|rows| rows.collect()).collect().await?;
        Ok(batches.into_iter().flatten().collect())
    }

    /// The rows of a shard after its query steps: their schema, and the batches as they are read.
    async fn rows(&self, shard: usize) -> Result<(SchemaRef, futures::stream::BoxStream<'static, Result<RecordBatch>>)> {
        let mut rows = sql::table_rows(&self.engine, Parallelism::One, &self.table, self.shards[shard].clone()).await?;
        for step in &self.steps {
            rows = step(rows)?;
        }
        let rows = rows.execute_stream().await?;
        Ok((rows.schema(), Box::pin(rows.map_err(Into::into))))
    }

    /// The files of a shard, for errors.
    fn files(&self, shard: usize) -> Vec<String> {
        self.shards[shard].files().map(|file| file.path.clone()).collect()
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shards({} of table `{}`)", self.count(), self.table)
    }
}
