//! A cluster as a runner of plans: where it is, how it is used, and how a plan becomes rows.

use std::{sync::Arc, time::Duration};

use asof::{
    cluster::{Codec, Runner},
    storage::Locations,
};
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::{
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{ExecutionPlan, stream::RecordBatchStreamAdapter},
};
use datafusion_proto::{physical_plan::AsExecutionPlan, protobuf::PhysicalPlanNode};
use futures::future::BoxFuture;
use prost::Message;

use crate::{
    ClusterError, LocalOptions, Processes, Status,
    address::Address,
    held::Held,
    job::{Ended, Job},
    rows::{Lost, fetched},
    settings::of_job,
    status::ask,
};

/// The bytes of a message around its plan: settings and names.
const AROUND: usize = 16 << 10;
/// A job waits so long before it runs again, and each time longer by as much.
const PAUSE: Duration = Duration::from_millis(100);

/// How a program uses a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// In how many tasks a step of a plan is divided; by default as many as the executors work on at a time when the cluster is connected.
    pub partitions: Option<usize>,
    /// The largest plan, in bytes, with the rows that it carries. The limit of the scheduler (`--max-message`) holds if it is smaller.
    pub max_message_bytes: usize,
    /// The memory for the rows of a result, in bytes; more goes to temporary files.
    pub memory_bytes: usize,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one request may take; a plan is one.
    pub request_timeout: Duration,
    /// How long a job waits while the scheduler has no executor.
    pub executor_wait: Duration,
    /// How often a job is run that loses an executor.
    pub attempts: usize,
    /// How this process opens locations that a plan names. None of its options travels.
    pub locations: Locations,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: None,
            max_message_bytes: 1 << 30,
            memory_bytes: 256 << 20,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(120),
            executor_wait: Duration::from_secs(30),
            attempts: 6,
            locations: Locations::default(),
        }
    }
}

/// A scheduler and its executors, which run the plans of a store. Clones are one cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    scheduler: Address,
    partitions: usize,
    /// The largest message of this program and its scheduler, and whose limit that is.
    limit: (usize, String),
    options: Options,
    processes: Option<Processes>,
}

impl Cluster {
    /// Uses the cluster of the scheduler at this URL: `df://host:port` or `http://host:port`.
    ///
    /// # Errors
    /// [`ClusterError::InvalidUrl`], [`ClusterError::Unreachable`], and [`ClusterError::Version`] when the scheduler is of another version.
    pub async fn connect(url: &str) -> Result<Self, ClusterError> {
        Self::connect_with(url, Options::default()).await
    }

    /// [`connect`](Self::connect) with options.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub async fn connect_with(url: &str, options: Options) -> Result<Self, ClusterError> {
        Self::new(Address::parse(url)?, options, None).await
    }

    /// Starts a scheduler and so many executors as processes of this machine, which listen on the loopback interface only.
    ///
    /// They end with the last clone of this cluster, or with this process. The programs `asof-scheduler` and `asof-executor` are looked for
    /// in the folder that `ASOF_CLUSTER_BIN` names, or else beside this program.
    ///
    /// # Errors
    /// [`ClusterError::Start`] when a process does not start.
    pub async fn local(executors: usize) -> Result<Self, ClusterError> {
        Self::local_with(LocalOptions { executors, ..LocalOptions::default() }).await
    }

    /// [`local`](Self::local) with options.
    ///
    /// # Errors
    /// Those of [`local`](Self::local).
    pub async fn local_with(options: LocalOptions) -> Result<Self, ClusterError> {
        let (processes, scheduler) = Processes::start(&options).await?;
        Self::new(scheduler, options.cluster, Some(processes)).await
    }

    async fn new(scheduler: Address, options: Options, processes: Option<Processes>) -> Result<Self, ClusterError> {
        let status = ask(&scheduler, options.connect_timeout).await?;
        let vcores = status.executors.iter().map(|executor| executor.vcores).sum();
        let partitions = options.partitions.unwrap_or(vcores).max(1);
        let limit = match (options.max_message_bytes, status.max_message_bytes) {
            (ours, theirs) if theirs < ours => (theirs, format!("the scheduler at {scheduler}")),
            (ours, _) => (ours, "this program".to_owned()),
        };
        Ok(Self { shared: Arc::new(Shared { scheduler, partitions, limit, options, processes }) })
    }

    /// The URL of the scheduler, for other programs.
    #[must_use]
    pub fn url(&self) -> String {
        format!("df://{}", self.shared.scheduler)
    }

    /// What the scheduler says of itself now.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub async fn status(&self) -> Result<Status, ClusterError> {
        ask(&self.shared.scheduler, self.shared.options.connect_timeout).await
    }

    /// The processes of a [local](Self::local) cluster.
    #[must_use]
    pub fn processes(&self) -> Option<&Processes> {
        self.shared.processes.as_ref()
    }

    /// The bytes of a plan as they are sent: for a look at what travels.
    ///
    /// # Errors
    /// When the plan holds an operator that cannot travel, and [`ClusterError::TooLarge`].
    pub fn encode(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<u8>> {
        self.shared.encoded(plan)
    }
}

impl Shared {
    fn encoded(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<u8>> {
        let codec = Codec::new(Arc::new(BallistaPhysicalExtensionCodec::default()), self.options.locations.clone());
        let bytes = PhysicalPlanNode::try_from_physical_plan(plan.clone(), &codec)?.encode_to_vec();
        let (needed, (limit, whose)) = (bytes.len() + AROUND, self.limit.clone());
        if needed > limit {
            return Err(ClusterError::TooLarge { bytes: needed, limit, whose }.into());
        }
        Ok(bytes)
    }

    /// Whether the scheduler has executors whose scratch folder is not full.
    async fn others_have_room(&self) -> Result<bool, ClusterError> {
        let status = ask(&self.scheduler, self.options.request_timeout).await?;
        Ok(status.executors.iter().any(|executor| !executor.is_full))
    }

    async fn rows(&self, plan: &Arc<dyn ExecutionPlan>, context: &TaskContext) -> Result<Vec<SendableRecordBatchStream>> {
        let (options, schema) = (&self.options, plan.schema());
        let mut bytes = self.encoded(plan)?;
        let timeout_s = options.request_timeout.as_secs().max(1);
        let is_local = self.processes.is_some();
        let settings = of_job(context.session_config(), self.partitions, options.max_message_bytes, timeout_s, is_local);
        let mut attempt = 1;
        loop {
            let mut job = Job::submit(&self.scheduler, options, std::mem::take(&mut bytes), settings.clone()).await?;
            let lost = |reason: String| {
                let error = ClusterError::Lost { reason: reason.clone(), attempts: attempt };
                (format!("an executor was lost: {reason}"), error.into())
            };
            let (reason, error) = match job.ended(options, self.processes.as_ref()).await? {
                Ended::Lost(reason) => lost(reason),
                Ended::Full(error) if self.others_have_room().await? => (error.to_string(), error),
                Ended::Full(error) => return Err(error),
                Ended::Rows(locations) => match fetched(locations, &schema, options).await? {
                    Ok(held) => {
                        let rows = |held: Held| Box::pin(RecordBatchStreamAdapter::new(schema.clone(), held.rows())) as _;
                        return Ok(held.into_iter().map(rows).collect());
                    }
                    Err(Lost { executor, reason }) => lost(format!("executor {executor} no longer gives its rows: {reason}")),
                },
            };
            if attempt >= options.attempts {
                return Err(error);
            }
            log::warn!("a job runs again, because {reason}");
            drop(job);
            tokio::time::sleep(PAUSE * attempt as u32).await;
            attempt += 1;
            // A plan can be large, and is seldom sent again.
            bytes = self.encoded(plan)?;
        }
    }
}

impl Runner for Cluster {
    fn partitions(&self) -> usize {
        self.shared.partitions
    }

    fn run(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> BoxFuture<'static, Result<Vec<SendableRecordBatchStream>>> {
        let shared = self.shared.clone();
        Box::pin(async move { shared.rows(&plan, &context).await })
    }
}
