//! Work that computes for long, off the threads that wait for files and networks.
//! A panic of such work goes on in the task that waits for it.

use tokio::task::JoinSet;

use crate::error::Result;

/// Runs work on a thread for blocking work.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    joined(tokio::task::spawn_blocking(work).await)
}

/// The result of a task.
pub(super) fn joined<T>(done: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    match done {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(datafusion::error::DataFusionError::External(Box::new(error)).into()),
    }
}

/// Waits until all tasks have ended, after an error that tells what went wrong. None of them holds memory any more then.
pub(super) async fn ended<T: 'static>(mut running: JoinSet<Result<T>>) {
    while running.join_next().await.is_some() {}
}
