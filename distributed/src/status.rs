//! What a scheduler says of itself over HTTP: its version and its executors.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{ClusterError, address::Address, version::version};

/// Where a scheduler answers with its [`Status`].
pub(crate) const STATUS_PATH: &str = "/status";

/// What a scheduler says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// The version of asof that it runs.
    pub version: String,
    /// Whether it takes no more jobs, because it is about to stop.
    pub is_stopping: bool,
    /// The executors that it has heard of lately, by name.
    pub executors: Vec<ExecutorStatus>,
    /// How many jobs have not ended.
    pub jobs: usize,
    /// The largest message that it takes and sends, in bytes.
    pub max_message_bytes: usize,
    /// An executor is lost after so many seconds of silence.
    pub executor_timeout_s: u64,
}

/// An executor, as its scheduler knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExecutorStatus {
    /// Its name.
    pub id: String,
    /// Where it serves its rows.
    pub address: String,
    /// How many partitions it works on at a time.
    pub vcores: usize,
    /// Whether its scratch folder was full a short time ago, so that it gets no tasks if others can take them.
    pub is_full: bool,
}

impl ExecutorStatus {
    pub(crate) fn new(id: String, address: String, vcores: usize, is_full: bool) -> Self {
        Self { id, address, vcores, is_full }
    }
}

impl Status {
    /// The status of a scheduler without executors and jobs.
    pub(crate) fn new(max_message_bytes: usize, executor_timeout_s: u64) -> Self {
        let (version, executors) = (version().to_owned(), Vec::new());
        Self { version, is_stopping: false, executors, jobs: 0, max_message_bytes, executor_timeout_s }
    }
}

/// Asks the scheduler at this URL (`df://host:port`) for its status.
///
/// # Errors
/// [`ClusterError::InvalidUrl`], [`ClusterError::Unreachable`], and [`ClusterError::Version`] when the process there is of another version
/// of asof or a plain Ballista.
pub async fn status_of(url: &str, wait: Duration) -> Result<Status, ClusterError> {
    ask(&Address::parse(url)?, wait).await
}

pub(crate) async fn ask(scheduler: &Address, wait: Duration) -> Result<Status, ClusterError> {
    let process = || format!("the scheduler at {scheduler}");
    let unreachable = |reason: String| ClusterError::Unreachable { process: process(), reason };
    let answer = match timeout(wait, get(scheduler, STATUS_PATH)).await {
        Err(_) => return Err(unreachable(format!("no answer within {} s", wait.as_secs_f64()))),
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Ok(Ok(answer)) => answer,
    };
    let other =
        |theirs: &str| ClusterError::Version { process: process(), theirs: theirs.to_owned(), ours: version().to_owned() };
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(unreachable("it does not speak HTTP".into()));
    };
    if head.split_whitespace().nth(1) != Some("200") {
        return Err(other("of no known version (perhaps a scheduler of Ballista itself)"));
    }
    // Versions differ perhaps in more than this field, so it is read alone first.
    let said: serde_json::Value = serde_json::from_str(body).map_err(|error| unreachable(format!("its status: {error}")))?;
    match said.get("version").and_then(serde_json::Value::as_str) {
        Some(theirs) if theirs == version() => {}
        theirs => return Err(other(theirs.unwrap_or("of no known version"))),
    }
    serde_json::from_value(said).map_err(|error| unreachable(format!("its status: {error}")))
}

/// One GET request. The answer ends with the connection, so no more of HTTP is needed, and no library for it.
async fn get(address: &Address, path: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(address.to_string()).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.take(1 << 20).read_to_string(&mut answer).await?;
    Ok(answer)
}
