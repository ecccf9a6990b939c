//! Executors that are lost: their jobs end at once, and whoever asked for them runs them again.
//!
//! Ballista would run the lost parts of a job again. In version 55 that loses slots of the other executors, so that jobs wait for ever, and
//! can give rows twice (`tests/it/losses.rs` found both), so no job goes on here after a loss. Each way to lose an executor comes through
//! this file before Ballista acts on it: silence, a failed launch, and an executor that says that it stops. A shuffle file that
//! cannot be fetched fails its job by the scheduler's settings.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use ballista_core::{
    JobId,
    error::Result,
    serde::{protobuf::MultiTaskDefinition, scheduler::ExecutorMetadata},
};
use ballista_scheduler::state::{executor_manager::ExecutorManager, task_manager::TaskLauncher};

use prost::Message;

use crate::{
    envelope::{refusal, sealed},
    scheduler::Server,
};

const LOOK: Duration = Duration::from_millis(250);
/// The bytes of a message around its tasks, and around each task.
const AROUND: usize = 1 << 10;
const AROUND_TASK: usize = 16;

/// What the scheduler says of a job that [`lose`] has ended, and of one that could not fetch a shuffle file.
const ENDED: &str = "Cancelled";
const NOT_FETCHED: &str = " has failed 1 times, most recent failure reason: ";

/// Whether the text of a failed job means that it may be run again.
pub(crate) fn is_loss(message: &str) -> bool {
    message.trim() == ENDED || message.starts_with("Job failed due to stage ") && message.contains(NOT_FETCHED)
}

/// Removes an executor and ends all jobs that run. No task is given to it in between, because it is removed first.
pub(crate) async fn lose(server: &Server, executor_id: &str, reason: &str) {
    if let Err(error) = server.state.executor_manager.remove_executor(executor_id, Some(reason.to_owned())).await {
        log::warn!("executor {executor_id} was not removed: {error}");
    }
    let jobs = server.state.task_manager.get_running_job_cache();
    log::warn!("executor {executor_id} is lost: {reason}; {} jobs are to run again", jobs.len());
    for job in jobs.keys() {
        if let Err(error) = server.cancel_job(job.clone()).await {
            log::warn!("job {job} was not ended: {error}");
        }
    }
}

/// Loses executors that have not been heard of for so many seconds, for as long as the scheduler runs.
pub(crate) async fn watch(server: Server, timeout_s: u64) {
    loop {
        tokio::time::sleep(LOOK).await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for (executor, heard, _) in server.state.executor_manager.get_executors_state().await.unwrap_or_default() {
            // One that has just registered has not been heard of yet.
            if let Some(silent) = heard.map(|heard| now.saturating_sub(heard).as_secs()).filter(|silent| *silent > timeout_s) {
                lose(&server, &executor.id, &format!("it has been silent for {silent} s")).await;
            }
        }
    }
}

/// Hands tasks to executors. One that does not take them is lost.
#[derive(Default)]
pub(crate) struct Launcher {
    pub(crate) endpoint: String,
    /// The largest message that an executor takes.
    pub(crate) max_message_bytes: usize,
    pub(crate) server: Arc<OnceLock<Server>>,
}

#[async_trait]
impl TaskLauncher for Launcher {
    async fn launch_tasks(
        &self,
        executor: &ExecutorMetadata,
        tasks: Vec<MultiTaskDefinition>,
        executors: &ExecutorManager,
    ) -> Result<HashSet<JobId>> {
        let jobs: HashSet<JobId> = tasks.iter().map(|task| JobId::new(task.job_id.clone())).collect();
        let mut rejected = HashSet::new();
        let limit = self.max_message_bytes.saturating_sub(AROUND);
        let tasks = tasks.into_iter().map(|task| in_envelope(task, limit)).collect();
        for message in messages(tasks, limit) {
            match executors.launch_multi_task(&executor.id, message, self.endpoint.clone()).await {
                Ok(more) => rejected.extend(more),
                Err(error) => match self.server.get() {
                    None => return Ok(jobs),
                    // These jobs run, so they are among those that this ends.
                    Some(server) => {
                        lose(server, &executor.id, &format!("it takes no tasks: {error}")).await;
                        return Ok(HashSet::new());
                    }
                },
            }
        }
        Ok(rejected)
    }
}

/// A task whose plan travels in an envelope. One that does not fit into a message fails on the executor, with the reason.
fn in_envelope(mut task: MultiTaskDefinition, limit: usize) -> MultiTaskDefinition {
    task.plan = sealed(std::mem::take(&mut task.plan));
    let bytes = task.encoded_len() + AROUND_TASK;
    if bytes > limit {
        task.plan = refusal(&format!(
            "its part of the plan, of {bytes} bytes, does not fit into a message of {limit} bytes: send fewer rows with it, or raise \
             `--max-message` of the scheduler and the executors"
        ));
    }
    task
}

/// The tasks, divided so that those of a message are not larger than the limit together. Each has its part of the plan.
fn messages(tasks: Vec<MultiTaskDefinition>, limit: usize) -> Vec<Vec<MultiTaskDefinition>> {
    let (mut messages, mut bytes): (Vec<Vec<_>>, usize) = (Vec::new(), 0);
    for task in tasks {
        let size = task.encoded_len() + AROUND_TASK;
        match messages.last_mut() {
            Some(message) if bytes + size <= limit => {
                bytes += size;
                message.push(task);
            }
            _ => {
                bytes = size;
                messages.push(vec![task]);
            }
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_share_a_message_as_far_as_they_fit() {
        let task = |bytes: usize| MultiTaskDefinition { plan: vec![0; bytes], ..Default::default() };
        let sizes =
            |limit: usize| -> Vec<usize> { messages([100, 100, 300, 10].map(task).into(), limit).iter().map(Vec::len).collect() };
        assert_eq!(sizes(10_000), [4]);
        assert_eq!(sizes(250), [2, 1, 1]);
        assert_eq!(sizes(1), [1, 1, 1, 1]);
        assert!(messages(Vec::new(), 1).is_empty());
    }

    #[test]
    fn a_task_that_fits_into_no_message_says_so() {
        let task = MultiTaskDefinition { plan: vec![7; 5_000], job_id: "j".into(), ..Default::default() };
        let sealed = in_envelope(task.clone(), 6_000).plan;
        assert!(sealed.windows(5_000).any(|bytes| bytes == [7; 5_000]));
        let refused = in_envelope(task, 4_000);
        let said = String::from_utf8_lossy(&refused.plan).into_owned();
        assert!(said.contains("does not fit into a message of 4000 bytes"), "{said}");
        assert_eq!(refused.job_id, "j");
    }

    #[test]
    fn only_losses_are_run_again() {
        assert!(is_loss("Cancelled"));
        assert!(is_loss("Job failed due to stage 2 failed: Stage 2 has failed 1 times, most recent failure reason: \"x\"\n"));
        assert!(!is_loss("Job failed due to stage 2 failed: Task failed due to runtime execution error: x"));
    }
}
