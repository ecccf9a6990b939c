//! The routes, and the life of the service: it listens, follows the root, and stops when it is told to.
//! What is served is decided in `served.rs`.
//!
//! | route | answer |
//! |---|---|
//! | `POST /predict` | predictions for a row or an array of rows |
//! | `GET /features/{key}` | the features of one zone |
//! | `GET /features?keys=1,2,3`, `POST /features` with an array of keys | those of several, in the same order |
//! | `POST /refresh` | looks for newer features and models now, and says what moved |
//! | `GET /health` | 200 with what is served, or 503 |
//! | `GET /metrics` | the same and more for Prometheus |
//!
//! `/refresh` and `/metrics` are for your own network: put a proxy before the rest.

use std::{path::PathBuf, sync::Arc, time::Duration};

use asof::StoreOptions;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, MatchedPath, Path, Query, Request, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{Method, StatusCode, Uri, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use crate::{
    Fault, ZONES, json,
    metrics::Metrics,
    refusal::Refusal,
    served::{Follower, Served},
};

/// A larger body is refused.
const BODY_BYTES_AT_MOST: usize = 1 << 20;
/// More rows or keys of one request are refused: reading them takes a thread that others wait for.
const ROWS_AT_MOST: usize = 1_000;
/// How long requests in flight may take after the service was told to stop.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Options {
    /// The root: a path, or s3://bucket/prefix.
    #[arg(long)]
    root: String,
    /// Where to listen. Port 0 takes a free one; the address is printed.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// A directory of this service alone for rows by key; in memory if not given.
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Seconds between two looks at the root.
    #[arg(long, default_value = "30", value_parser = seconds)]
    refresh_every: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|every| !every.is_zero()).ok_or_else(|| "give a number of seconds above 0".into())
}

struct Service {
    follower: Follower,
    metrics: Metrics,
}

impl Service {
    /// What is served at this moment: taken once for each request.
    fn served(&self) -> Result<Arc<Served>, Refusal> {
        self.follower.current().ok_or_else(|| {
            let error = self.follower.refreshes().failing.map_or_else(|| "not yet opened".into(), |(_, error)| error);
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("nothing is served: {error}"))
        })
    }
}

/// Serves until ctrl-c or SIGTERM.
pub(crate) async fn serve(options: Options) -> Result<(), Fault> {
    let store = StoreOptions::default();
    let store = match options.cache {
        Some(dir) => store.cache_dir(dir),
        None => store.cache_in_memory(),
    };
    let follower = Follower::new(crate::open(&options.root, store).await?);
    let service = Arc::new(Service { follower, metrics: Metrics::default() });
    // If nothing fits yet, `/health` says why, and the service waits for the trainer.
    let _ = service.follower.refresh().await;
    let stop = stop_signal()?;
    let listener = TcpListener::bind(&options.listen).await.map_err(|cause| format!("{}: {cause}", options.listen))?;
    println!("listening on {}", listener.local_addr()?);

    let watching = tokio::spawn({
        let service = service.clone();
        async move { service.follower.watch(options.refresh_every).await }
    });
    let stopping = Arc::new(Notify::new());
    let told = stopping.clone();
    let stopped = async move {
        stop.await;
        tracing::info!("stopping: requests in flight are finished");
        told.notify_one();
    };
    let late = async {
        stopping.notified().await;
        tokio::time::sleep(GRACE).await;
    };
    let served = axum::serve(listener, routes(service)).with_graceful_shutdown(stopped).into_future();
    tokio::select! {
        done = served => done?,
        () = late => return Err(format!("requests in flight took more than {} seconds, and were cut off", GRACE.as_secs()).into()),
    }
    watching.abort();
    Ok(())
}

/// Ends with the first ctrl-c or SIGTERM after the call.
fn stop_signal() -> Result<impl Future<Output = ()>, Fault> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}

fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/predict", post(predict))
        .route("/features", get(features_of_query).post(features_of_list))
        .route("/features/{key}", get(features_of_key))
        .route("/refresh", post(refresh))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(async |uri: Uri| Refusal::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path())))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} cannot be asked by {method}", uri.path()))
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_AT_MOST))
        .layer(middleware::from_fn_with_state(service.clone(), measured))
        .with_state(service)
}

/// The handle to the service, as routes get it.
type Shared = State<Arc<Service>>;
type Answer = Result<Json<Value>, Refusal>;

async fn predict(State(service): Shared, body: Result<Bytes, BytesRejection>) -> Answer {
    let body = json::parsed(&body?)?;
    let rows = match &body {
        Value::Array(rows) => rows.as_slice(),
        row => std::slice::from_ref(row),
    };
    check_count(rows.len())?;
    let served = service.served()?;
    let schema = served.rides.request_schema()?;
    let mut predictions = Vec::with_capacity(rows.len());
    for (number, row) in rows.iter().enumerate() {
        let features = json::row(&schema, row).and_then(|request| Ok(served.rides.encode_row(&request)?));
        let prediction = features.and_then(|features| Ok(served.function.predict(&features)?));
        predictions.push(prediction.map_err(|refusal| if body.is_array() { refusal.of_row(number) } else { refusal })?);
    }
    let mut answer = served.ids();
    answer["predictions"] = predictions.into_iter().map(|prediction| prediction.map_or(Value::Null, json::number)).collect();
    Ok(Json(answer))
}

async fn features_of_key(State(service): Shared, key: Result<Path<String>, PathRejection>) -> Answer {
    let Path(key) = key?;
    let served = service.served()?;
    // A set with a max age needs the instant of the request: `get_at(&key, service.follower.now())`.
    let features = served.zones.get(&json::key_in_url(served.zones.key_schema()?.as_ref(), &key)?)?.batch()?;
    Ok(Json(of_zones(&served, "features", json::rows(&features)?.pop().unwrap_or_default())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: String,
}

async fn features_of_query(State(service): Shared, query: Result<Query<Keys>, QueryRejection>) -> Answer {
    let Query(Keys { keys }) = query?;
    let served = service.served()?;
    let schema = served.zones.key_schema()?;
    let keys: Vec<_> = keys.split(',').map(|key| json::key_in_url(&schema, key)).collect::<Result<_, _>>()?;
    features_of(&served, &keys)
}

async fn features_of_list(State(service): Shared, body: Result<Bytes, BytesRejection>) -> Answer {
    let Value::Array(keys) = json::parsed(&body?)? else { return Err(Refusal::bad("give an array of keys")) };
    let served = service.served()?;
    let schema = served.zones.key_schema()?;
    let key_of = |(number, key)| json::key(&schema, key).map_err(|refusal| refusal.of_row(number));
    let keys: Vec<_> = keys.iter().enumerate().map(key_of).collect::<Result<_, _>>()?;
    features_of(&served, &keys)
}

fn features_of(served: &Served, keys: &[Vec<asof::Value>]) -> Answer {
    check_count(keys.len())?;
    let rows = json::rows(&served.zones.get_many(keys)?)?;
    Ok(Json(of_zones(served, "rows", rows.into())))
}

fn of_zones(served: &Served, what: &str, content: Value) -> Value {
    let made = served.zones.materialization();
    json!({"set": ZONES, "id": made.id().to_string(), "as_of": made.as_of().to_string(), what: content})
}

fn check_count(count: usize) -> Result<(), Refusal> {
    match count <= ROWS_AT_MOST {
        true => Ok(()),
        false => {
            Err(Refusal::bad(format!("a request may have {ROWS_AT_MOST} rows, and this one has {count}; send several requests")))
        }
    }
}

async fn refresh(State(service): Shared) -> Answer {
    let refused = |error: Fault| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    Ok(Json(service.follower.refresh().await.map_err(refused)?))
}

async fn health(State(service): Shared) -> (StatusCode, Json<Value>) {
    let (served, refreshes, now) = (service.follower.current(), service.follower.refreshes(), service.follower.now());
    let mut health = json!({
        "last_refresh": refreshes.last.map(|at| at.to_string()),
        "failing_since": refreshes.failing.as_ref().map(|(since, _)| since.to_string()),
        "error": refreshes.failing.map(|(_, error)| error),
    });
    let Some(served) = served else { return (StatusCode::SERVICE_UNAVAILABLE, Json(health)) };
    let set = |made: &asof::Materialization| {
        json!({
            "set": made.manifest().set.to_string(),
            "id": made.id().to_string(),
            "as_of": made.as_of().to_string(),
            "age_seconds": (now.micros() - made.as_of().micros()) / 1_000_000,
            "rows": made.rows(),
        })
    };
    health["sets"] = served.materializations().map(set).to_vec().into();
    health["model"] = json!({"name": served.model.name(), "id": served.model.id().to_string()});
    (StatusCode::OK, Json(health))
}

async fn metrics(State(service): Shared) -> impl IntoResponse {
    let (served, refreshes, now) = (service.follower.current(), service.follower.refreshes(), service.follower.now());
    let page = service.metrics.page(served.as_deref(), &refreshes, now);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], page)
}

/// Counts a request under its route's pattern, so that keys and unknown paths make no labels.
async fn measured(State(service): Shared, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none".into(), |path| path.as_str().to_owned());
    #[allow(clippy::disallowed_methods, reason = "a latency is measured, and no answer depends on it")]
    let start = std::time::Instant::now();
    let response = next.run(request).await;
    service.metrics.add(&route, response.status().as_u16(), start.elapsed());
    response
}
