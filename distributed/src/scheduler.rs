//! A scheduler process: Ballista's scheduler with the codec of asof, a check of versions, and an end that waits for jobs.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use asof::{cluster::Codec, storage::Locations};
use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header::USER_AGENT},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::get,
};
use ballista_core::{
    error::{BallistaError, Result},
    serde::{
        BallistaCodec, BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec,
        protobuf::{ExecutorStoppedParams, scheduler_grpc_server::SchedulerGrpcServer},
    },
};
use ballista_scheduler::{
    cluster::BallistaCluster, config::SchedulerConfig, metrics::default_metrics_collector, scheduler_server::SchedulerServer,
};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use prost::Message;
use tonic::service::RoutesBuilder;

use crate::{
    address::listen,
    error::general,
    full::FullExecutors,
    losses::{self, Launcher, lose},
    scheduler_options::SchedulerOptions,
    signals::asked_to_stop,
    status::{ExecutorStatus, STATUS_PATH, Status},
    version::{version, version_of_agent},
};

/// Requests of executors and clients that only a process of the same version may send. What an executor reports of tasks that it was
/// given is not among them: it was checked when it registered.
const CHECKED: [&str; 5] = ["RegisterExecutor", "HeartBeatFromExecutor", "PollWork", "ExecuteQuery", "ExecuteQueryPush"];
/// An executor that stops says so; its jobs end before Ballista hears of it.
const STOPPED: &str = "ExecutorStopped";
/// The bytes before a message of gRPC, and the most that a message of that kind may have.
const FRAME: usize = 5;
const SMALL: usize = 1 << 16;
/// How long a stopping scheduler sees no job before it ends.
const LINGER: Duration = Duration::from_millis(500);
const SERVICE: &str = "/ballista.protobuf.SchedulerGrpc/";

pub(crate) type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// Runs a scheduler until SIGTERM or SIGINT. `listening` is called with its address as soon as it answers.
///
/// Then it takes no new jobs, waits until those that run have ended, at most [`SchedulerOptions::drain_s`], and returns.
///
/// # Errors
/// When an option or the address cannot be used, or the service fails.
pub async fn run_scheduler(options: SchedulerOptions, listening: impl FnOnce(SocketAddr)) -> Result<()> {
    options.check().map_err(general)?;
    let listener = listen(&options.bind_host, options.port, "--port").await.map_err(general)?;
    let address = listener.local_addr()?;
    let config = Arc::new(options.config(address.port()));
    config.validate()?;
    let full = Arc::new(FullExecutors::default());
    let server = server(options.cluster(&config, &full), config).await?;
    tokio::spawn(losses::watch(server.clone(), options.executor_timeout_s));
    let shared = Arc::new(Shared {
        server,
        full,
        is_stopping: AtomicBool::new(false),
        taking: AtomicUsize::new(0),
        executor_timeout_s: options.executor_timeout_s,
        max_message_bytes: options.max_message_bytes as usize,
    });
    log::info!("asof {}: the scheduler listens at {address}", version());
    listening(address);
    let mut service = pin!(axum::serve(listener, routes(&shared)).into_future());
    let signal = tokio::select! {
        ended = &mut service => return ended.map_err(BallistaError::from),
        signal = asked_to_stop() => signal,
    };
    log::info!("{signal}: no new jobs are taken, and {} are to end", shared.jobs());
    // It goes on to answer clients and executors while jobs end.
    tokio::select! {
        ended = service => ended.map_err(BallistaError::from),
        () = shared.drain(Duration::from_secs(options.drain_s)) => Ok(()),
    }
}

async fn server(cluster: BallistaCluster, config: Arc<SchedulerConfig>) -> Result<Server> {
    // Only a process that runs plans opens object stores, so this one needs no credentials.
    let physical = Codec::new(Arc::new(BallistaPhysicalExtensionCodec::default()), Locations::default());
    let codec = BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), Arc::new(physical));
    let (endpoint, itself) = (config.scheduler_endpoint(), Arc::new(OnceLock::new()));
    let launcher = Arc::new(Launcher {
        endpoint: endpoint.clone(),
        max_message_bytes: config.grpc_client_max_message_size as usize,
        server: itself.clone(),
    });
    let mut server = Server::new_with_task_launcher(endpoint, cluster, codec, config, default_metrics_collector()?, launcher);
    server.init().await?;
    let _ = itself.set(server.clone());
    Ok(server)
}

struct Shared {
    server: Server,
    full: Arc<FullExecutors>,
    is_stopping: AtomicBool,
    /// How many jobs are on their way in.
    taking: AtomicUsize,
    executor_timeout_s: u64,
    max_message_bytes: usize,
}

impl Shared {
    fn jobs(&self) -> usize {
        self.server.pending_job_number() + self.server.running_job_number()
    }

    /// The jobs that are to end before this process does.
    fn left(&self) -> usize {
        self.taking.load(Ordering::SeqCst) + self.jobs()
    }

    /// Takes no new jobs, and waits until there has been none for a while: one that was just taken is not among the pending ones at once,
    /// and clients ask now and then how their job is, and hear that it has ended.
    async fn drain(&self, wait: Duration) {
        self.is_stopping.store(true, Ordering::SeqCst);
        let started = Instant::now();
        let mut last_seen = started;
        while last_seen.elapsed() < LINGER {
            if self.left() > 0 {
                if started.elapsed() >= wait {
                    let (left, wait) = (self.left(), wait.as_secs());
                    log::warn!("{left} jobs have not ended within {wait} s; the scheduler stops without them");
                    return;
                }
                last_seen = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        log::info!("all jobs have ended; the scheduler stops");
    }

    async fn status(&self) -> Status {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let known = self.server.state.executor_manager.get_executors_state().await.unwrap_or_default();
        let alive = known.into_iter().filter_map(|(executor, heard, _)| {
            let is_alive = heard.is_some_and(|heard| now.saturating_sub(heard).as_secs() <= self.executor_timeout_s);
            let address = format!("{}:{}", executor.host, executor.port);
            let is_full = self.full.contains(&executor.id);
            is_alive.then(|| ExecutorStatus::new(executor.id, address, executor.specification.vcores as usize, is_full))
        });
        let mut executors: Vec<ExecutorStatus> = alive.collect();
        executors.sort();
        let (is_stopping, jobs) = (self.is_stopping.load(Ordering::SeqCst), self.jobs());
        Status { is_stopping, executors, jobs, ..Status::new(self.max_message_bytes, self.executor_timeout_s) }
    }
}

fn routes(shared: &Arc<Shared>) -> axum::extract::connect_info::IntoMakeServiceWithConnectInfo<Router, SocketAddr> {
    let grpc = SchedulerGrpcServer::new(shared.server.clone())
        .max_encoding_message_size(shared.max_message_bytes)
        .max_decoding_message_size(shared.max_message_bytes);
    let mut services = RoutesBuilder::default();
    services.add_service(grpc);
    let own = Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route(STATUS_PATH, get(|State(shared): State<Arc<Shared>>| async move { Json(shared.status().await) }))
        .with_state(shared.clone());
    let all = services.routes().into_axum_router().merge(own);
    all.layer(from_fn_with_state(shared.clone(), checked)).into_make_service_with_connect_info()
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    let status = shared.status().await;
    match (status.is_stopping, status.executors.is_empty()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        (_, true) => (StatusCode::SERVICE_UNAVAILABLE, "no executor is registered\n"),
        _ => (StatusCode::OK, "ready\n"),
    }
}

/// Refuses processes of another version, and jobs while this process stops.
async fn checked(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let call = request.uri().path().strip_prefix(SERVICE).unwrap_or_default();
    if call == STOPPED {
        return stopped(&shared, request, next).await;
    }
    if !CHECKED.contains(&call) {
        return next.run(request).await;
    }
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let theirs = version_of_agent(agent);
    if theirs != Some(version()) {
        let who = if call.starts_with("Execute") { "a client" } else { "an executor" };
        let theirs = theirs.map_or_else(|| "of no known version".to_owned(), |theirs| format!("of version {theirs}"));
        let refusal =
            format!("{who} of asof {theirs} was refused: this scheduler is asof {}; run the same version everywhere", version());
        log::warn!("{refusal}");
        return refused(tonic::Status::failed_precondition(refusal));
    }
    if !call.starts_with("Execute") {
        return next.run(request).await;
    }
    // Counted first: who stops this process sees either the job or the refusal.
    let _taking = Taking::one(&shared.taking);
    if shared.is_stopping.load(Ordering::SeqCst) {
        return refused(tonic::Status::unavailable("the scheduler stops and takes no new jobs; run again when it is back"));
    }
    next.run(request).await
}

/// A job on its way in, until the answer to it is made or its client has gone.
struct Taking<'a>(&'a AtomicUsize);

impl<'a> Taking<'a> {
    fn one(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn stopped(shared: &Shared, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, SMALL).await else {
        return refused(tonic::Status::invalid_argument("the message is too long"));
    };
    if let Some(Ok(said)) = bytes.get(FRAME..).map(ExecutorStoppedParams::decode) {
        lose(&shared.server, &said.executor_id, &said.reason).await;
    }
    next.run(Request::from_parts(head, Body::from(bytes))).await
}

fn refused(status: tonic::Status) -> Response {
    status.into_http::<Body>()
}
