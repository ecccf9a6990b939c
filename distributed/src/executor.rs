//! An executor process: Ballista's executor with the codec and the object stores of asof.
//! Credentials come from this process's environment and options; none comes with a plan.

use std::{
    net::IpAddr,
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
    RuntimeProducer, error::Result, extension::EndpointOverrideFn, ids::new_instance_id, serde::BallistaPhysicalExtensionCodec,
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
    envelope::Opener,
    error::general,
    executor_options::ExecutorOptions,
    scratch::{Scratch, ensure},
    status::ask,
    version::{user_agent, version},
};

/// How long the scheduler may take over one answer.
const ANSWER: Duration = Duration::from_secs(5);
const GRPC_TIMEOUT_S: u64 = 120;

/// Runs an executor until SIGTERM or SIGINT, or until its scheduler has been away for five heartbeats.
///
/// Then it takes no new tasks, ends those that run, and returns. Its shuffle files are removed; tasks that still need them are run again
/// elsewhere.
///
/// # Errors
/// When an option, an address or the scratch folder cannot be used, and when the scheduler does not answer, is of another version, or has
/// options that do not go with these.
pub async fn run_executor(options: ExecutorOptions) -> Result<()> {
    let (scheduler, ip) = options.check().map_err(general)?;
    check(&scheduler, &options).await.map_err(general)?;
    let scratch = Scratch::new(options.scratch.as_deref())?;
    let ports = ports(&options, ip).await?;
    let config = config(&options, &scheduler, ip, ports, scratch.path());
    if let Some(port) = options.health_port {
        let listener = listen(ip, port, "--health-port").await.map_err(general)?;
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
    options.goes_with(scheduler, &status)
}

/// Both ports, chosen now where they are 0: the executor tells them before it listens there.
async fn ports(options: &ExecutorOptions, ip: IpAddr) -> Result<(u16, u16)> {
    let rows = listen(ip, options.port, "--port").await.map_err(general)?;
    let tasks = listen(ip, options.task_port, "--task-port").await.map_err(general)?;
    Ok((rows.local_addr()?.port(), tasks.local_addr()?.port()))
}

fn config(
    options: &ExecutorOptions,
    scheduler: &Address,
    ip: IpAddr,
    (port, grpc_port): (u16, u16),
    scratch: &Path,
) -> ExecutorProcessConfig {
    let executor_id = options.name.clone().unwrap_or_else(new_instance_id);
    let shown_host = options.external_host.clone().unwrap_or_else(|| shown(ip));
    let engine = NamedEngine {
        inner: Arc::new(DefaultExecutionEngine::with_client_pool(Arc::new(Connections::default()))),
        executor: format!("{executor_id} ({shown_host}:{port})").into(),
        scratch: scratch.into(),
    };
    let codec = Codec::new(Arc::new(BallistaPhysicalExtensionCodec::default()), options.locations.clone());
    let opener = Opener { inner: Arc::new(codec) };
    let agent: EndpointOverrideFn = Arc::new(|endpoint| Ok(endpoint.user_agent(user_agent())?));
    ExecutorProcessConfig {
        executor_id,
        bind_host: shown(ip),
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
        executor_heartbeat_interval_seconds: options.heartbeat_s,
        memory_pool_size: options.memory_bytes,
        // Each keeps footers of files beside the bounded memory. A job has a session of its own, so few are in use at a time.
        session_runtime_cache_capacity: 4,
        override_execution_engine: Some(Arc::new(engine)),
        override_runtime_producer: Some(runtimes(options.locations.clone(), scratch.into())),
        override_physical_codec: Some(Arc::new(opener)),
        override_create_grpc_client_endpoint: Some(agent),
        ..ExecutorProcessConfig::default()
    }
}

/// An address as it stands before a port.
fn shown(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
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
