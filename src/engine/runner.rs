//! Where the plans of a session run: here, or where a [`Runner`] takes them.

use std::{fmt, sync::Arc};

use datafusion::{
    common::Result as DfResult,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::ExecutionPlan,
};
use futures::future::BoxFuture;

/// Runs physical plans in other processes; [`FeatureStore::on`](crate::FeatureStore::on) hands them over.
///
/// A plan that is handed over has been planned for [`Runner::partitions`] tasks. Its operators of this library travel by
/// `cluster::Codec` (flag `cluster`).
pub trait Runner: fmt::Debug + Send + Sync + 'static {
    /// In how many tasks a step of a plan is divided.
    fn partitions(&self) -> usize;

    /// Runs a plan and gives the rows of each of its partitions, in their order. Nothing runs before the future is polled, and what runs ends
    /// when the future and the streams are dropped.
    ///
    /// # Errors
    /// Those of the plan, and those of the way to the other processes; also in the streams.
    fn run(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> BoxFuture<'static, DfResult<Vec<SendableRecordBatchStream>>>;
}
