//! A job on the scheduler: handed over, watched until it ends, and cancelled or tidied up when nobody needs it.

use std::time::{Duration, Instant};

use ballista_core::{
    ids::new_instance_id,
    serde::protobuf::{
        CancelJobParams, CleanJobDataParams, ExecuteQueryParams, ExecutorStoppedParams, GetJobStatusParams, KeyValuePair,
        PartitionLocation, RemoveSessionParams, execute_query_failure_result::Failure, execute_query_params::Query,
        execute_query_result, job_status, scheduler_grpc_client::SchedulerGrpcClient,
    },
    version::insert_version_header,
};
use datafusion::error::DataFusionError;
use tokio::runtime::Handle;
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};

use crate::{
    ClusterError, Options, Processes,
    address::Address,
    error::{error_of, full_executor, not_now},
    losses::is_loss,
    status::ask,
    version::user_agent,
};

pub(crate) type Client = SchedulerGrpcClient<Channel>;

/// The first question about a job comes after this time; the next ones as late as a tenth of the time that has passed.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(100);
/// How often is looked whether there are executors, and whether those that this program started live.
const LOOK_AT_EXECUTORS: Duration = Duration::from_secs(2);
const LOOK_AT_PROCESSES: Duration = Duration::from_millis(100);
/// A job that the scheduler has not heard of after this time is lost.
const UNKNOWN: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A connection to a scheduler. It belongs to the runtime of the caller, so each job has one of its own.
pub(crate) async fn connect(scheduler: &Address, options: &Options) -> Result<Client, ClusterError> {
    let unreachable = |error: tonic::transport::Error| unreachable(scheduler, &chain(&error));
    let endpoint =
        Endpoint::from_shared(scheduler.url()).and_then(|endpoint| endpoint.user_agent(user_agent())).map_err(unreachable)?;
    let endpoint = endpoint
        .connect_timeout(options.connect_timeout)
        .timeout(options.request_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let channel = endpoint.connect().await.map_err(unreachable)?;
    let limit = options.max_message_bytes;
    Ok(Client::new(channel).max_encoding_message_size(limit).max_decoding_message_size(limit))
}

/// How a job has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Its rows are here, in the order of their partitions.
    Rows(Vec<PartitionLocation>),
    /// An executor was lost while it ran, so it may run again. What the scheduler said.
    Lost(String),
    /// The scratch folder of an executor was full, so it may run again on others.
    Full(DataFusionError),
}

/// A job that the scheduler has taken. When it is dropped before it has ended, it is cancelled; later, its files are removed.
#[derive(Debug)]
pub(crate) struct Job {
    client: Client,
    scheduler: Address,
    id: String,
    session: String,
    has_ended: bool,
    runtime: Handle,
}

impl Job {
    /// Hands a plan over. What is on the way when this future is dropped is cancelled as soon as its job is known.
    pub(crate) async fn submit(
        scheduler: &Address,
        options: &Options,
        plan: Vec<u8>,
        settings: Vec<KeyValuePair>,
    ) -> Result<Self, DataFusionError> {
        let (scheduler, options) = (scheduler.clone(), options.clone());
        let submitted = tokio::spawn(async move { Self::submitted(scheduler, &options, plan, settings).await });
        submitted.await.map_err(|error| DataFusionError::External(Box::new(error)))?
    }

    async fn submitted(
        scheduler: Address,
        options: &Options,
        plan: Vec<u8>,
        settings: Vec<KeyValuePair>,
    ) -> Result<Self, DataFusionError> {
        let mut client = connect(&scheduler, options).await?;
        // A session for each job: what an executor keeps for a session, such as footers of files, must not outlive the question.
        let session = new_instance_id();
        let mut request = Request::new(ExecuteQueryParams {
            query: Some(Query::PhysicalPlan(plan)),
            settings,
            session_id: session.clone(),
            operation_id: new_instance_id(),
        });
        insert_version_header(request.metadata_mut());
        let answer = client.execute_query(request).await.map_err(|status| of_status(&scheduler, &status))?;
        match answer.into_inner().result {
            Some(execute_query_result::Result::Success(taken)) => {
                Ok(Self { client, scheduler, id: taken.job_id, session, has_ended: false, runtime: Handle::current() })
            }
            Some(execute_query_result::Result::Failure(refused)) => Err(match refused.failure {
                Some(Failure::PlanParsingFailure(message)) => error_of(&message),
                other => error_of(&format!("{other:?}")),
            }),
            None => Err(error_of("the scheduler gave no answer to a plan")),
        }
    }

    /// Waits until the job has ended.
    pub(crate) async fn ended(&mut self, options: &Options, processes: Option<&Processes>) -> Result<Ended, DataFusionError> {
        let started = Instant::now();
        let (mut looked_at_executors, mut looked_at_processes, mut is_known) = (started, started, false);
        let mut executors_seen = started;
        loop {
            let question = GetJobStatusParams { job_id: self.id.clone() };
            let answer = self.client.get_job_status(question).await.map_err(|status| of_status(&self.scheduler, &status))?;
            match answer.into_inner().status.and_then(|status| status.status) {
                Some(job_status::Status::Successful(job)) => {
                    self.has_ended = true;
                    return Ok(in_order(job.partition_location).map_or_else(Ended::Lost, Ended::Rows));
                }
                Some(job_status::Status::Failed(job)) => {
                    self.has_ended = true;
                    return match job.error {
                        error if is_loss(&error) => Ok(Ended::Lost(error)),
                        error if full_executor(&error).is_some() => Ok(Ended::Full(error_of(&error))),
                        error => Err(error_of(&error)),
                    };
                }
                Some(_) => is_known = true,
                None if is_known || started.elapsed() > UNKNOWN => {
                    let reason = "it does not know the job any more, so it was started again perhaps";
                    return Err(unreachable(&self.scheduler, reason).into());
                }
                None => {}
            }
            if let Some(processes) = processes.filter(|_| looked_at_processes.elapsed() > LOOK_AT_PROCESSES) {
                looked_at_processes = Instant::now();
                self.tell_of_ended(processes).await;
            }
            if looked_at_executors.elapsed() > LOOK_AT_EXECUTORS {
                looked_at_executors = Instant::now();
                if !ask(&self.scheduler, options.request_timeout).await?.executors.is_empty() {
                    executors_seen = Instant::now();
                }
                if executors_seen.elapsed() > options.executor_wait {
                    let waited_s = executors_seen.elapsed().as_secs();
                    return Err(ClusterError::NoExecutors { scheduler: self.scheduler.to_string(), waited_s }.into());
                }
            }
            tokio::time::sleep((started.elapsed() / 10).clamp(FIRST_LOOK, LAST_LOOK)).await;
        }
    }

    /// Tells the scheduler at once of executors of this machine that have ended, which it would notice by their silence only.
    async fn tell_of_ended(&mut self, processes: &Processes) {
        for executor_id in processes.newly_ended() {
            let reason = "its process has ended".to_owned();
            if let Err(status) = self.client.executor_stopped(ExecutorStoppedParams { executor_id, reason }).await {
                log::warn!("the scheduler was not told of an executor that has ended: {status}");
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut client = self.client.clone();
        let (job_id, session_id, has_ended) = (self.id.clone(), self.session.clone(), self.has_ended);
        self.runtime.spawn(async move {
            let told = if has_ended {
                client.clean_job_data(CleanJobDataParams { job_id: job_id.clone(), remove_stage_ids: Vec::new() }).await.map(drop)
            } else {
                cancelled(&mut client, &job_id).await
            };
            let told = match told {
                Ok(()) => client.remove_session(RemoveSessionParams { session_id }).await.map(drop),
                failed => failed,
            };
            if let Err(status) = told {
                log::debug!("job {job_id} was not tidied up: {status}");
            }
        });
    }
}

/// Cancels a job until it has ended: a scheduler that is about to plan a job does not hear of it.
async fn cancelled(client: &mut Client, job_id: &str) -> Result<(), tonic::Status> {
    let started = Instant::now();
    loop {
        client.cancel_job(CancelJobParams { job_id: job_id.to_owned() }).await?;
        tokio::time::sleep((started.elapsed() / 10).clamp(FIRST_LOOK, LAST_LOOK)).await;
        let answer = client.get_job_status(GetJobStatusParams { job_id: job_id.to_owned() }).await?;
        match answer.into_inner().status.and_then(|status| status.status) {
            Some(job_status::Status::Queued(_) | job_status::Status::Running(_)) if started.elapsed() < UNKNOWN => {}
            _ => return Ok(()),
        }
    }
}

/// The scheduler lists them as their tasks ended. Each partition was written once; a second one is left over from a task that ran again,
/// and which of them counts cannot be told.
fn in_order(mut locations: Vec<PartitionLocation>) -> Result<Vec<PartitionLocation>, String> {
    let partition = |location: &PartitionLocation| location.partition_id.as_ref().map_or(0, |partition| partition.partition_id);
    locations.sort_by_key(partition);
    match locations.windows(2).find(|pair| pair.iter().map(partition).min() == pair.iter().map(partition).max()) {
        Some(pair) => Err(format!("partition {} is there twice", pair.iter().map(partition).max().unwrap_or_default())),
        None => Ok(locations),
    }
}

fn unreachable(scheduler: &Address, reason: &str) -> ClusterError {
    ClusterError::Unreachable { process: format!("the scheduler at {scheduler}"), reason: reason.to_owned() }
}

fn of_status(scheduler: &Address, status: &tonic::Status) -> DataFusionError {
    let is_said_by_scheduler =
        !matches!(status.code(), Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled);
    if is_said_by_scheduler {
        return error_of(status.message());
    }
    if std::error::Error::source(status).is_none() && !status.message().is_empty() {
        return not_now(status.message().to_owned());
    }
    unreachable(scheduler, &chain(status)).into()
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
