//! The jobs that a scheduler knows. Ballista keeps the plan of a job that has ended, with the rows that it carries, for an hour. Here only
//! its status stays, as long as its files. A job that ended because an executor is full is noted.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use ballista_core::{
    ConfigProducer, JobId, JobStatusSubscriber,
    error::Result,
    serde::protobuf::{JobStatus, job_status::Status},
};
use ballista_scheduler::{
    SessionBuilder,
    cluster::{JobState, JobStateEventStream, memory::InMemoryJobState},
    state::execution_graph::ExecutionGraphBox,
};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::{error::full_executor, full::FullExecutors};

/// Ballista's jobs in memory, and the status of those that have ended.
pub(crate) struct Jobs {
    inner: InMemoryJobState,
    ended: Mutex<HashMap<JobId, JobStatus>>,
    full: Arc<FullExecutors>,
}

impl Jobs {
    pub(crate) fn new(scheduler: &str, sessions: SessionBuilder, settings: ConfigProducer, full: Arc<FullExecutors>) -> Self {
        Self { inner: InMemoryJobState::new(scheduler, sessions, settings), ended: Mutex::default(), full }
    }

    fn ended(&self) -> MutexGuard<'_, HashMap<JobId, JobStatus>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_ended(&self, mut jobs: HashSet<JobId>) -> HashSet<JobId> {
        jobs.extend(self.ended().keys().cloned());
        jobs
    }
}

#[async_trait]
impl JobState for Jobs {
    fn accept_job(&self, job: &JobId, name: &str, queued_at: u64) -> Result<()> {
        self.inner.accept_job(job, name, queued_at)
    }

    fn pending_job_number(&self) -> usize {
        self.inner.pending_job_number()
    }

    async fn submit_job(&self, job: JobId, graph: &ExecutionGraphBox, subscriber: Option<JobStatusSubscriber>) -> Result<()> {
        self.inner.submit_job(job, graph, subscriber).await
    }

    async fn get_jobs(&self) -> Result<HashSet<JobId>> {
        Ok(self.with_ended(self.inner.get_jobs().await?))
    }

    async fn get_all_jobs(&self) -> Result<HashSet<JobId>> {
        Ok(self.with_ended(self.inner.get_all_jobs().await?))
    }

    async fn get_job_status(&self, job: &JobId) -> Result<Option<JobStatus>> {
        let ended = self.ended().get(job).cloned();
        match ended {
            Some(status) => Ok(Some(status)),
            None => self.inner.get_job_status(job).await,
        }
    }

    async fn get_execution_graph(&self, job: &JobId) -> Result<Option<ExecutionGraphBox>> {
        self.inner.get_execution_graph(job).await
    }

    async fn save_job(&self, job: &JobId, graph: &ExecutionGraphBox) -> Result<()> {
        let executor = match &graph.status().status {
            Some(Status::Successful(_)) => None,
            Some(Status::Failed(failed)) => full_executor(&failed.error),
            _ => return self.inner.save_job(job, graph).await,
        };
        if let Some(executor) = executor {
            self.full.add(&executor);
        }
        self.ended().insert(job.clone(), graph.status().clone());
        self.inner.save_job(job, graph).await?;
        self.inner.remove_job(job).await
    }

    async fn fail_unscheduled_job(&self, job: &JobId, reason: String) -> Result<()> {
        self.inner.fail_unscheduled_job(job, reason).await
    }

    async fn remove_job(&self, job: &JobId) -> Result<()> {
        let ended = self.ended().remove(job);
        match ended {
            Some(_) => Ok(()),
            // It has not been planned.
            None => self.inner.remove_job(job).await,
        }
    }

    async fn try_acquire_job(&self, job: &JobId) -> Result<Option<ExecutionGraphBox>> {
        self.inner.try_acquire_job(job).await
    }

    async fn job_state_events(&self) -> Result<JobStateEventStream> {
        self.inner.job_state_events().await
    }

    async fn create_or_update_session(&self, session: &str, config: &SessionConfig) -> Result<Arc<SessionContext>> {
        self.inner.create_or_update_session(session, config).await
    }

    async fn remove_session(&self, session: &str) -> Result<()> {
        self.inner.remove_session(session).await
    }

    fn produce_config(&self) -> SessionConfig {
        self.inner.produce_config()
    }
}
