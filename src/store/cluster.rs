//! A store whose queries run elsewhere.

use std::sync::Arc;

use super::FeatureStore;
use crate::{cluster::Runner, workspace::Workspace};

/// Elsewhere.
impl FeatureStore {
    /// The same store, whose queries run where this runner takes them: on a cluster.
    ///
    /// The results are those of this store: rows, order, ids and content. What only this process can read is read here and sent along:
    /// the rows of a spine, and of [providers](FeatureStore::register_provider). Encoders and row selections run here, and only this process
    /// writes below the root.
    ///
    /// Registered sets and providers are shared with this store. The package `asof-distributed` has a
    /// runner for Apache Ballista; this one divides plans and runs them in this process:
    ///
    /// ```
    /// use std::sync::Arc;
    /// use asof::{AsOf, FeatureStore, cluster::Runner};
    /// use datafusion::{
    ///     error::Result, execution::{SendableRecordBatchStream, TaskContext}, physical_plan::{ExecutionPlan, execute_stream_partitioned},
    /// };
    /// use futures::future::{BoxFuture, ready};
    ///
    /// #[derive(Debug, Clone)]
    /// struct Divided(usize);
    ///
    /// impl Runner for Divided {
    ///     fn partitions(&self) -> usize {
    ///         self.0
    ///     }
    ///
    ///     fn run(
    ///         &self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>,
    ///     ) -> BoxFuture<'static, Result<Vec<SendableRecordBatchStream>>> {
    ///         Box::pin(ready(execute_stream_partitioned(plan, context)))
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asof::Result<()> {
    /// let store = FeatureStore::open("memory://divided").await?.on(&Divided(4));
    /// assert_eq!(store.sql("SELECT 1 AS x", AsOf::END_OF_TIME).await?.count().await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on<R: Runner + Clone>(&self, runner: &R) -> FeatureStore {
        let workspace = Workspace { engine: self.workspace.engine.on(Arc::new(runner.clone())), ..(*self.workspace).clone() };
        FeatureStore { workspace: Arc::new(workspace), ..self.clone() }
    }
}
