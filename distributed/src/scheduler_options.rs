//! How a scheduler runs: its options, what they may be, and what they mean to Ballista.

use std::sync::Arc;

use ballista_core::{
    ConfigProducer,
    config::{BALLISTA_CLIENT_GRPC_MAX_MESSAGE_SIZE, BALLISTA_CLIENT_GRPC_TIMEOUT_SECONDS, TaskSchedulingPolicy},
    extension::SessionConfigExt,
};
use ballista_scheduler::{
    cluster::BallistaCluster,
    config::{SchedulerConfig, TaskDistributionPolicy},
};
use datafusion::prelude::SessionConfig;

use crate::{
    ClusterError,
    executors::Executors,
    full::FullExecutors,
    jobs::Jobs,
    limits::{self, reads, within},
    no_stores,
};

/// How long a plan may take on its way to an executor.
const LAUNCH_TIMEOUT_S: u64 = 120;

/// How a scheduler runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// The address to listen at.
    pub bind_host: String,
    /// The port to listen at; 0 takes a free one.
    pub port: u16,
    /// The host under which executors reach this scheduler.
    pub external_host: String,
    /// The largest message, in bytes. A plan is one message, with the rows that it carries.
    pub max_message_bytes: u32,
    /// An executor that is not heard of for this many seconds is lost, and jobs run again without it.
    pub executor_timeout_s: u64,
    /// How long a stopping scheduler waits for jobs to end, in seconds.
    pub drain_s: u64,
    /// How often a task may fail by input or output before its job does.
    pub attempts: usize,
    /// How long the files of a finished job are kept on the executors if no client asks to remove them, and its status on the scheduler, in
    /// seconds.
    pub keep_files_s: u64,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            bind_host: "127.0.0.1".into(),
            port: 50050,
            external_host: "localhost".into(),
            max_message_bytes: 1 << 30,
            executor_timeout_s: 20,
            drain_s: 60,
            attempts: 4,
            keep_files_s: 300,
        }
    }
}

impl SchedulerOptions {
    /// Whether a scheduler can run so.
    pub(crate) fn check(&self) -> Result<(), ClusterError> {
        let bind_host = |text: &str| limits::ip(text).map(drop).or_else(|_| limits::host(text).map(drop));
        reads("--bind-host", &self.bind_host, bind_host)?;
        reads("--external-host", &self.external_host, limits::host)?;
        within("--max-message", self.max_message_bytes.into(), &limits::MESSAGE_BYTES)?;
        within("--executor-timeout", self.executor_timeout_s, &limits::SECONDS)?;
        within("--drain", self.drain_s, &limits::DRAIN_SECONDS)?;
        within("--attempts", self.attempts as u64, &limits::ATTEMPTS)?;
        within("keep_files_s", self.keep_files_s, &limits::SECONDS)
    }

    pub(crate) fn config(&self, port: u16) -> SchedulerConfig {
        let max_message_bytes = self.max_message_bytes;
        SchedulerConfig {
            external_host: self.external_host.clone(),
            bind_host: self.bind_host.clone(),
            bind_port: port,
            scheduling_policy: TaskSchedulingPolicy::PushStaged,
            task_distribution: TaskDistributionPolicy::RoundRobin,
            grpc_server_max_decoding_message_size: max_message_bytes,
            grpc_server_max_encoding_message_size: max_message_bytes,
            grpc_client_max_message_size: max_message_bytes,
            // `losses` acts long before Ballista does.
            executor_timeout_seconds: self.executor_timeout_s * 4 + 60,
            no_executors_grace_period_seconds: self.executor_timeout_s * 4 + 60,
            task_max_failures: self.attempts,
            // A step does not run again when it cannot fetch a file: its job does.
            stage_max_failures: 1,
            finished_job_data_clean_up_interval_seconds: self.keep_files_s,
            finished_job_state_clean_up_interval_seconds: self.keep_files_s,
            override_config_producer: Some(self.settings()),
            ..SchedulerConfig::default()
        }
    }

    /// The settings of this scheduler as a client of executors.
    fn settings(&self) -> ConfigProducer {
        let max_message_bytes = self.max_message_bytes;
        Arc::new(move || {
            SessionConfig::new_with_ballista()
                .set_str(BALLISTA_CLIENT_GRPC_MAX_MESSAGE_SIZE, &max_message_bytes.to_string())
                .set_str(BALLISTA_CLIENT_GRPC_TIMEOUT_SECONDS, &LAUNCH_TIMEOUT_S.to_string())
        })
    }

    /// Ballista's state of executors and jobs, with what this scheduler does otherwise.
    pub(crate) fn cluster(&self, config: &SchedulerConfig, full: &Arc<FullExecutors>) -> BallistaCluster {
        let jobs = Jobs::new(&config.scheduler_id, Arc::new(no_stores::session), self.settings(), full.clone());
        BallistaCluster::new(Arc::new(Executors::new(full.clone())), Arc::new(jobs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_a_scheduler_cannot_run_with_are_told_by_flag() {
        let said = |change: fn(&mut SchedulerOptions)| {
            let mut options = SchedulerOptions::default();
            change(&mut options);
            options.check().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(said(|_| ()), "");
        assert!(said(|options| options.bind_host = "[::1".into()).starts_with("--bind-host: "));
        assert!(said(|options| options.external_host = "http://h".into()).starts_with("--external-host: "));
        assert!(said(|options| options.max_message_bytes = 1_000).starts_with("--max-message: "));
        assert!(said(|options| options.executor_timeout_s = 0).starts_with("--executor-timeout: "));
        assert!(said(|options| options.executor_timeout_s = u64::MAX).starts_with("--executor-timeout: "));
        assert!(said(|options| options.drain_s = u64::MAX).starts_with("--drain: "));
        assert!(said(|options| options.attempts = 0).starts_with("--attempts: "));
        assert!(said(|options| options.keep_files_s = 0).starts_with("keep_files_s: "));
    }
}
