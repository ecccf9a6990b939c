//! An executor process: Ballista's executor with the codec and the object stores of asof.
//! Credentials come from this process's environment and options; none comes with a plan.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use asof::{
    cluster::{Codec, object_stores},
    storage::Locations,
};
use axum::{Router, extract::State, http::StatusCode, routing::get};
use ballista_core::{
    RuntimeProducer,
    error::{BallistaError, Result},
    extension::EndpointOverrideFn,
    ids::new_instance_id,
    serde::BallistaPhysicalExtensionCodec,
    utils::GrpcServerConfig,
};
use ballista_executor::{
    execution_engine::DefaultExecutionEngine,
    executor_process::{ExecutorProcessConfig, start_executor_process},
    health::ExecutorHealth,
};
use datafusion::{
    error::DataFusionError,
    execution::{
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        runtime_env::RuntimeEnvBuilder,
    },
};
use tokio::time::Instant;

use crate::{
    ClusterError,
    address::{Address, listen},
    connections::Connections,
    engine::NamedEngine,
    error::general,
    scratch::{Scratch, ensure},
    status::{Status, ask},
    version::{user_agent, version},
};

/// How long the scheduler may take over one answer.
const ANSWER: Duration = Duration::from_secs(5);
const GRPC_TIMEOUT_S: u64 = 120;

/// How an executor runs.
#[derive(Clone, Debug)]
pub struct ExecutorOptions {
    /// The scheduler: `df://host:port`.
    pub scheduler: String,
    /// The name of this executor, which errors tell; a new one if it is `None`.
    pub name: Option<String>,
    /// The address to listen at.
    pub bind_host: String,
    /// The host under which others reach this executor; by default the address that the scheduler sees.
    pub external_host: Option<String>,
    /// The port that serves rows; 0 takes a free one.
    pub port: u16,
    /// The port that takes tasks; 0 takes a free one.
    pub task_port: u16,
    /// The port for `/health` and `/ready`, if any.
    pub health_port: Option<u16>,
    /// How many partitions it works on at a time; 0 is one for each processor.
    pub vcores: usize,
    /// The memory of all tasks together, in bytes; by default 70% of what this machine or container has.
    pub memory_bytes: Option<u64>,
    /// The folder for shuffle files and spilled rows; by default one for temporary files. The executor makes a folder of its own in it and
    /// removes that one when it stops.
    pub scratch: Option<PathBuf>,
    /// Every so many seconds it tells the scheduler that it is alive.
    pub heartbeat_s: u64,
    /// How long it waits for the scheduler to be there, in seconds.
    pub connect_timeout_s: u64,
    /// The largest message, in bytes.
    pub max_message_bytes: u32,
    /// How it opens object stores.
    pub locations: Locations,
}

impl Default for ExecutorOptions {
    fn default() -> Self {
        Self {
            scheduler: "df://localhost:50050".into(),
            name: None,
            bind_host: "127.0.0.1".into(),
            external_host: None,
            port: 50051,
            task_port: 50052,
            health_port: None,
            vcores: 0,
            memory_bytes: None,
            scratch: None,
            heartbeat_s: 3,
            connect_timeout_s: 60,
            max_message_bytes: 1 << 30,
            locations: Locations::default(),
        }
    }
}

/// Runs an executor until SIGTERM or SIGINT, or until its scheduler has been away for five heartbeats.
///
/// Then it takes no new tasks, ends those that run, and returns. Its shuffle files are removed; tasks that still need them are run again
/// elsewhere.
///
/// # Errors
/// When the scheduler does not answer or is of another version, and when an address or the scratch folder cannot be used.
pub async fn run_executor(options: ExecutorOptions) -> Result<()> {
    let scheduler = Address::parse(&options.scheduler).map_err(general)?;
    check(&scheduler, &options).await.map_err(general)?;
    let scratch = Scratch::new(options.scratch.as_deref())?;
    let ports = ports(&options).await?;
    let config = config(&options, &scheduler, ports, scratch.path())?;
    if let Some(port) = options.health_port {
        let listener = listen(&options.bind_host, port, "--health-port").await.map_err(general)?;
        let routes = Router::new().route("/health", get(|| async { "ok\n" })).route("/ready", get(ready));
        tokio::spawn(axum::serve(listener, routes.with_state(config.health.clone())).into_future());
    }
    log::info!("asof {}: executor {} starts for the scheduler at {scheduler}", version(), config.executor_id);
    let ended = start_executor_process(Arc::new(config)).await;
    scratch.close()?;
    ended
}

async fn ready(State(health): State<ExecutorHealth>) -> (StatusCode, &'static str) {
    if health.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the scheduler does not answer\n")
    }
}

/// Waits for the scheduler, and refuses to work for one of another version or with options that do not go with this executor's.
async fn check(scheduler: &Address, options: &ExecutorOptions) -> std::result::Result<(), ClusterError> {
    let (started, wait) = (Instant::now(), Duration::from_secs(options.connect_timeout_s));
    let status = loop {
        match ask(scheduler, ANSWER).await {
            Err(ClusterError::Unreachable { .. }) if started.elapsed() < wait => {
                tokio::time::sleep(Duration::from_millis(200)).await
            }
            answer => break answer?,
        }
    };
    goes_with(scheduler, &status, options)
}

fn goes_with(scheduler: &Address, status: &Status, options: &ExecutorOptions) -> std::result::Result<(), ClusterError> {
    let invalid = |option: &str, reason: String| Err(ClusterError::InvalidOption { option: option.to_owned(), reason });
    let (ours, theirs) = (options.max_message_bytes as usize, status.max_message_bytes);
    if ours < theirs {
        let reason = format!(
            "this executor takes messages of {ours} bytes, and the scheduler at {scheduler} sends up to {theirs} bytes: \
             give the executor `--max-message {theirs}`, or the scheduler `--max-message {ours}`"
        );
        return invalid("--max-message", reason);
    }
    Ok(())
}

/// Both ports, chosen now where they are 0: the executor tells them before it listens there.
async fn ports(options: &ExecutorOptions) -> Result<(u16, u16)> {
    let rows = listen(&options.bind_host, options.port, "--port").await.map_err(general)?;
    let tasks = listen(&options.bind_host, options.task_port, "--task-port").await.map_err(general)?;
    Ok((rows.local_addr()?.port(), tasks.local_addr()?.port()))
}

fn config(
    options: &ExecutorOptions,
    scheduler: &Address,
    (port, grpc_port): (u16, u16),
    scratch: &Path,
) -> Result<ExecutorProcessConfig> {
    let address: SocketAddr = format!("{}:{port}", options.bind_host)
        .parse()
        .map_err(|_| BallistaError::Configuration(format!("{:?} is not an IP address to listen at", options.bind_host)))?;
    let executor_id = options.name.clone().unwrap_or_else(new_instance_id);
    let shown_host = options.external_host.clone().unwrap_or_else(|| address.ip().to_string());
    let engine = NamedEngine {
        inner: Arc::new(DefaultExecutionEngine::with_client_pool(Arc::new(Connections::default()))),
        executor: format!("{executor_id} ({shown_host}:{port})").into(),
        scratch: scratch.into(),
    };
    let codec = Codec::new(Arc::new(BallistaPhysicalExtensionCodec::default()), options.locations.clone());
    let agent: EndpointOverrideFn = Arc::new(|endpoint| Ok(endpoint.user_agent(user_agent())?));
    Ok(ExecutorProcessConfig {
        executor_id,
        bind_host: options.bind_host.clone(),
        external_host: options.external_host.clone(),
        port,
        grpc_port,
        scheduler_host: scheduler.host.clone(),
        scheduler_port: scheduler.port,
        scheduler_connect_timeout_seconds: 5,
        vcores: options.vcores,
        work_dir: Some(scratch.to_string_lossy().into_owned()),
        grpc_max_decoding_message_size: options.max_message_bytes,
        grpc_max_encoding_message_size: options.max_message_bytes,
        grpc_server_config: GrpcServerConfig { timeout_seconds: GRPC_TIMEOUT_S, ..GrpcServerConfig::default() },
        executor_heartbeat_interval_seconds: options.heartbeat_s.max(1),
        memory_pool_size: options.memory_bytes,
        // Each keeps footers of files beside the bounded memory. A job has a session of its own, so few are in use at a time.
        session_runtime_cache_capacity: 4,
        override_execution_engine: Some(Arc::new(engine)),
        override_runtime_producer: Some(runtimes(options.locations.clone(), scratch.into())),
        override_physical_codec: Some(Arc::new(codec)),
        override_create_grpc_client_endpoint: Some(agent),
        ..ExecutorProcessConfig::default()
    })
}

/// Runtimes whose object stores are those of this process. Ballista bounds their memory.
fn runtimes(locations: Locations, scratch: PathBuf) -> RuntimeProducer {
    Arc::new(move |_| {
        let runtime = || RuntimeEnvBuilder::new().with_object_store_registry(object_stores(locations.clone()));
        let made = ensure(&scratch).map_err(DataFusionError::IoError);
        let made = made.and_then(|()| runtime().with_temp_file_path(scratch.clone()).build_arc());
        // Ballista asks for a runtime before it decodes a task, and would reject the job without a reason. The task says it.
        let without_disk = || DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        made.or_else(|_| runtime().with_disk_manager_builder(without_disk()).build_arc())
    })
}
