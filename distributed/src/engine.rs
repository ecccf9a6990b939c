//! Ballista's engine on an executor, whose errors name the executor.
//! Errors that make the scheduler try again keep their kind.

use std::{any::Any, fmt, io, panic::AssertUnwindSafe, path::Path, sync::Arc};

use asof::cluster::error_text;
use async_trait::async_trait;
use ballista_core::{
    JobId,
    error::BallistaError,
    serde::protobuf::{RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport},
};
use ballista_executor::execution_engine::{ExecutionEngine, QueryStageExecutor};
use datafusion::{
    arrow::error::ArrowError,
    error::{DataFusionError, Result},
    execution::TaskContext,
    physical_plan::{ExecutionPlan, metrics::MetricsSet},
    prelude::SessionConfig,
};
use futures::FutureExt;

use crate::{
    checked_rows::with_checked_rows,
    envelope::Refused,
    error::{FULL, TaskError},
    scratch::ensure,
};

/// An engine whose errors name this executor.
pub(crate) struct NamedEngine {
    pub(crate) inner: Arc<dyn ExecutionEngine>,
    pub(crate) executor: Arc<str>,
    pub(crate) scratch: Arc<Path>,
}

impl ExecutionEngine for NamedEngine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        output_partitions: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let place = Place { executor: self.executor.clone(), scratch: self.scratch.clone() };
        if let Some(refused) = plan.downcast_ref::<Refused>() {
            return Err(place.said(refused.reason.clone()));
        }
        ensure(&place.scratch).map_err(|error| place.unusable(&error))?;
        let plan = with_checked_rows(plan)?;
        let stage = self.inner.create_query_stage_exec(job_id, stage_id, task_id, output_partitions, plan, work_dir, config);
        let inner = stage.map_err(|error| place.named(error))?;
        Ok(Arc::new(NamedStage { inner, place }))
    }
}

#[derive(Debug)]
struct NamedStage {
    inner: Arc<dyn QueryStageExecutor>,
    place: Place,
}

impl fmt::Display for NamedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl QueryStageExecutor for NamedStage {
    async fn execute_query_stage(&self, task_id: usize, context: Arc<TaskContext>) -> Result<Vec<ShuffleWritePartition>> {
        match AssertUnwindSafe(self.inner.execute_query_stage(task_id, context)).catch_unwind().await {
            Ok(ended) => ended.map_err(|error| self.place.named(error)),
            Err(panic) => Err(self.place.said(format!("a task panicked: {}", text_of(panic.as_ref())))),
        }
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.inner.collect_plan_metrics()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}

/// What is under an error, if the scheduler acts on it.
enum Cause {
    /// A lost shuffle file, or a task that was cancelled.
    Ballista,
    /// A connection that broke while rows came from another executor. Ballista takes it for a damaged file; the rows are lost.
    Broken,
    /// The scratch folder is full.
    Full,
    /// The task may be tried again.
    Io(io::ErrorKind),
    Other,
}

/// Where a task runs: the executor, as errors name it, and its scratch folder.
#[derive(Debug)]
struct Place {
    executor: Arc<str>,
    scratch: Arc<Path>,
}

impl Place {
    fn named(&self, error: DataFusionError) -> DataFusionError {
        let (executor, message) = (self.executor.to_string(), error.to_string());
        let task = || TaskError { executor: executor.clone(), message: message.clone(), means: Some(means(&error)) };
        match cause(&error) {
            Cause::Ballista => error,
            Cause::Broken => self.lost(message),
            // Somebody has removed spilled rows of the job.
            Cause::Io(io::ErrorKind::NotFound) if message.contains(&*self.scratch.to_string_lossy()) => self.lost(message),
            Cause::Full => self.full(&message),
            Cause::Io(kind) => DataFusionError::IoError(io::Error::new(kind, task())),
            Cause::Other => DataFusionError::External(Box::new(task())),
        }
    }

    /// Rows of the job are lost, so it is to run again.
    fn lost(&self, message: String) -> DataFusionError {
        BallistaError::FetchFailed(self.executor.to_string(), 0, 0, message).into_datafusion()
    }

    /// No other try on this executor helps, so it is not an error of input or output that the scheduler tries again.
    fn full(&self, message: &str) -> DataFusionError {
        let scratch = self.scratch.display();
        let message = format!(
            "its scratch folder {scratch} is full: {message}; free space there, or give it a larger one with `--scratch`, and run again"
        );
        let task = TaskError { executor: self.executor.to_string(), message, means: Some(FULL.to_owned()) };
        DataFusionError::External(Box::new(task))
    }

    fn unusable(&self, error: &io::Error) -> DataFusionError {
        if is_full(error.kind()) {
            return self.full(&error.to_string());
        }
        self.said(format!("its scratch folder {} cannot be made again: {error}; restart it", self.scratch.display()))
    }

    fn said(&self, message: String) -> DataFusionError {
        DataFusionError::External(Box::new(TaskError { executor: self.executor.to_string(), message, means: None }))
    }
}

/// What asof has to know of it beside its message.
fn means(error: &DataFusionError) -> String {
    let root = error.find_root();
    let DataFusionError::External(inner) = root else { return error_text(root) };
    match inner.downcast_ref::<BallistaError>() {
        Some(BallistaError::DataFusionError(inner)) => means(inner),
        Some(BallistaError::ArrowError(inner)) => error_text(inner.as_ref()),
        Some(BallistaError::IoError(inner)) => error_text(inner),
        _ => error_text(inner.as_ref()),
    }
}

fn cause(error: &DataFusionError) -> Cause {
    match of_root(error) {
        Cause::Io(kind) if is_full(kind) => Cause::Full,
        Cause::Other if says_full(&error.to_string()) => Cause::Full,
        cause => cause,
    }
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Writers of shuffle files pass some errors on as text: ENOSPC, EDQUOT, EFBIG.
fn says_full(text: &str) -> bool {
    cfg!(target_os = "linux") && [28, 122, 27].iter().any(|code| text.contains(&format!("(os error {code})")))
}

fn of_root(error: &DataFusionError) -> Cause {
    match error.find_root() {
        DataFusionError::IoError(cause) => Cause::Io(cause.kind()),
        DataFusionError::ArrowError(inner, _) => of_arrow(inner),
        DataFusionError::External(inner) => match inner.downcast_ref::<BallistaError>() {
            Some(BallistaError::FetchFailed(..) | BallistaError::Cancelled) => Cause::Ballista,
            Some(BallistaError::IoError(cause)) => Cause::Io(cause.kind()),
            Some(BallistaError::DataFusionError(inner)) => of_root(inner),
            Some(BallistaError::ArrowError(inner)) => of_arrow(inner),
            _ => Cause::Other,
        },
        _ => Cause::Other,
    }
}

/// The transport's errors come as text inside those of the format.
fn of_arrow(error: &ArrowError) -> Cause {
    let is_of_transport =
        |text: &str| ["h2 protocol error", "transport error", "hyper::Error"].iter().any(|said| text.contains(said));
    match error {
        ArrowError::IpcError(text) if is_of_transport(text) => Cause::Broken,
        ArrowError::IoError(_, error) if is_full(error.kind()) => Cause::Full,
        ArrowError::ExternalError(inner) => inner.downcast_ref::<DataFusionError>().map_or(Cause::Other, of_root),
        _ => Cause::Other,
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
