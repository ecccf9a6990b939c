//! What can go wrong between a program and its cluster, and what the text of a failed task means.
//! Errors of queries that travel as text are not read here beyond the executor's own marker.

use std::{error::Error, fmt};

use asof::{ErrorKind, cluster::error_of_text};
use ballista_core::error::BallistaError;
use datafusion::error::DataFusionError;

/// Begins what an executor says of a task: the executor follows, then [`MEANS`], what asof has to know of the error, [`SAYS`], the
/// message, and [`END`]. Ballista cuts long messages, so the message comes last.
const BEGIN: &str = "\u{2045}asof executor ";
const SAYS: &str = "\u{204e}";
const MEANS: &str = "\u{2051}";
const END: &str = "\u{2046}";
/// What a task means whose executor has no room for its files.
pub(crate) const FULL: &str = "full";

/// What Ballista puts before the message of a failed task.
const NOISE: [&str; 10] = [
    "Task failed due to runtime execution error: ",
    "Task failed due to IO error: ",
    "Fail to execute query due to ",
    "DataFusion error: ",
    "Execution error: ",
    "External error: ",
    "General error: ",
    "DataFusionError(",
    "Internal(",
    "General(",
];

/// What the scheduler says when it cannot encode a part of a plan. Executors do not reject tasks: those that they cannot decode fail.
const REJECTED: &str = "task could not be prepared or was rejected by executor";

/// An error of a cluster: the cause of an [`asof::Error::Runner`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ClusterError {
    /// A URL is not one of a scheduler.
    InvalidUrl {
        /// As it was given.
        url: String,
    },
    /// A process does not answer.
    Unreachable {
        /// Its host and port, and what it is.
        process: String,
        /// What the network said.
        reason: String,
    },
    /// Two processes are of different versions of asof.
    Version {
        /// The process of the other version.
        process: String,
        /// Its version.
        theirs: String,
        /// The version of this process.
        ours: String,
    },
    /// A process of a local cluster did not start.
    Start {
        /// Which one.
        process: String,
        /// What happened, with the end of its log.
        reason: String,
    },
    /// A plan is too large for a message.
    TooLarge {
        /// The size of the plan with its settings.
        bytes: usize,
        /// The largest message.
        limit: usize,
        /// Whose limit that is.
        whose: String,
    },
    /// A process cannot listen at an address.
    Listen {
        /// Host and port.
        address: String,
        /// The flag that sets the port.
        flag: String,
        /// What the system said, and what to do.
        reason: String,
    },
    /// A process cannot run with the value of an option.
    InvalidOption {
        /// The option, as a flag if it has one.
        option: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// No executor has been there for some time.
    NoExecutors {
        /// Host and port of the scheduler.
        scheduler: String,
        /// How long the job waited, in seconds.
        waited_s: u64,
    },
    /// The scheduler did not take a plan, or ended the job.
    Job {
        /// Who failed, if an executor did: its name and address.
        executor: Option<String>,
        /// Why.
        message: String,
    },
    /// A job lost an executor each time it was run.
    Lost {
        /// What the scheduler or the network said the last time.
        reason: String,
        /// How often the job was run.
        attempts: usize,
    },
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidUrl { url } => {
                write!(f, "{url:?} is not the URL of a scheduler: write `df://host:port` or `http://host:port`")
            }
            Self::Unreachable { process, reason } => {
                write!(f, "{process} does not answer: {reason}; check that it runs and can be reached, then run again")
            }
            Self::Version { process, theirs, ours } => {
                write!(f, "{process} is asof {theirs}, this process is asof {ours}: run the same version everywhere")
            }
            Self::Start { process, reason } => write!(f, "{process} did not start: {reason}"),
            Self::TooLarge { bytes, limit, whose } => write!(
                f,
                "a plan of {bytes} bytes does not fit into a message of {limit} bytes, the limit of {whose}: send fewer rows with \
                 it, or raise that limit (`max_message_bytes` of a program, `--max-message` of the scheduler and the executors)"
            ),
            Self::Listen { address, flag, reason } => write!(f, "cannot listen at {address} (`{flag}`): {reason}"),
            Self::InvalidOption { option, reason } => write!(f, "{option}: {reason}"),
            Self::NoExecutors { scheduler, waited_s } => {
                write!(f, "the scheduler at {scheduler} has had no executor for {waited_s} s: start one, then run again")
            }
            Self::Job { executor: Some(executor), message } => write!(f, "executor {executor}: {message}"),
            Self::Job { executor: None, message } => write!(f, "the cluster ended the job: {message}"),
            Self::Lost { reason, attempts } => {
                write!(
                    f,
                    "an executor was lost in each of {attempts} runs of a job: {reason}; see why executors end, then run again"
                )
            }
        }
    }
}

impl Error for ClusterError {}

impl ClusterError {
    /// The kind of error, and whether the same call can succeed later: something may be started, or come back.
    fn class(&self) -> (ErrorKind, bool) {
        match self {
            Self::InvalidUrl { .. } | Self::InvalidOption { .. } => (ErrorKind::InvalidInput, false),
            Self::TooLarge { .. } => (ErrorKind::ResourceLimit, false),
            Self::Version { .. } | Self::Start { .. } | Self::Listen { .. } | Self::Job { .. } => (ErrorKind::Unavailable, false),
            Self::Unreachable { .. } | Self::NoExecutors { .. } | Self::Lost { .. } => (ErrorKind::Unavailable, true),
        }
    }
}

impl From<ClusterError> for asof::Error {
    fn from(error: ClusterError) -> Self {
        let (kind, is_retryable) = error.class();
        asof::Error::Runner { cause: Box::new(error), kind, is_retryable }
    }
}

impl From<ClusterError> for DataFusionError {
    fn from(error: ClusterError) -> Self {
        asof::Error::from(error).into()
    }
}

/// A scheduler says that it takes no jobs for the time being.
pub(crate) fn not_now(message: String) -> DataFusionError {
    let cause = ClusterError::Job { executor: None, message };
    asof::Error::Runner { cause: Box::new(cause), kind: ErrorKind::Unavailable, is_retryable: true }.into()
}

/// As the functions that run a process return it.
pub(crate) fn general(error: ClusterError) -> BallistaError {
    BallistaError::General(error.to_string())
}

/// The error behind the text of a failed job: who failed, and the message without the scheduler's words around it.
#[must_use]
pub fn error_of(message: &str) -> DataFusionError {
    if let Some((executor, said, means)) = said_by_executor(message) {
        let failed = ClusterError::Job { executor: Some(executor.clone()), message: said };
        if means == FULL {
            return asof::Error::Runner { cause: Box::new(failed), kind: ErrorKind::ResourceLimit, is_retryable: false }.into();
        }
        return match asof::Error::from(error_of_text(&means, failed)) {
            asof::Error::Memory { operator, subject, needed, held, reason } => {
                let reason = format!("{reason} (on executor {executor}, whose memory is its `--memory`)");
                asof::Error::Memory { operator, subject, needed, held, reason }.into()
            }
            error => error.into(),
        };
    }
    let mut said = message.trim();
    if let Some((stage, rest)) = said.split_once(" failed: ")
        && stage.starts_with("Job failed due to stage ")
    {
        said = rest;
    }
    while let Some(rest) = NOISE.iter().find_map(|noise| said.strip_prefix(noise)) {
        said = rest;
    }
    let hint = if said.contains(REJECTED) { ": the log of the scheduler says why" } else { "" };
    ClusterError::Job { executor: None, message: format!("{said}{hint}") }.into()
}

/// The name of the executor whose scratch folder was full, if that is what a failed job says.
pub(crate) fn full_executor(message: &str) -> Option<String> {
    let (executor, _, means) = said_by_executor(message)?;
    (means == FULL).then(|| executor.split(" (").next().unwrap_or_default().to_owned())
}

/// The last executor that says something, what it says, and which error of asof it means: with retries, the last failure counts.
fn said_by_executor(message: &str) -> Option<(String, String, String)> {
    let (_, rest) = message.rsplit_once(BEGIN)?;
    let (executor, rest) = rest.split_once(MEANS)?;
    let (means, rest) = rest.split_once(SAYS)?;
    let said = rest.split_once(END).map_or(rest, |(said, _)| said);
    let mut said = unescaped(said).trim().to_owned();
    while let Some(rest) = NOISE.iter().find_map(|noise| said.strip_prefix(noise)) {
        said = rest.to_owned();
    }
    Some((unescaped(executor), said, unescaped(means)))
}

/// Text that went through `{:?}` perhaps. What is marked is written without quotes and backslashes, so nothing else is escaped.
fn unescaped(text: &str) -> String {
    text.replace("\u{21b5}", "\n").replace('\u{201f}', "\"").replace('\u{29f5}', "\\")
}

fn escaped(text: &str) -> String {
    let text = text.replace('\n', "\u{21b5}").replace('"', "\u{201f}").replace('\\', "\u{29f5}");
    text.replace([BEGIN, SAYS, MEANS, END].map(|mark| mark.chars().next().unwrap_or(' ')), " ")
}

/// What an executor says of a task that failed. Ballista sends errors as their debug text, so this one's debug text is meant to be read
/// by [`error_of`].
pub(crate) struct TaskError {
    pub(crate) executor: String,
    pub(crate) message: String,
    /// What asof has to know of the error beside its message, or [`FULL`].
    pub(crate) means: Option<String>,
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let means = self.means.as_deref().unwrap_or_default();
        write!(f, "{BEGIN}{}{MEANS}{}{SAYS}{}{END}", escaped(&self.executor), escaped(means), escaped(&self.message))
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "executor {}: {}", self.executor, self.message)
    }
}

impl Error for TaskError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(message: &str) -> String {
        asof::Error::from(error_of(message)).to_string()
    }

    #[test]
    fn the_message_of_an_executor_survives_the_scheduler() {
        let said = "s3://b/f: \"denied\"\nwhy: C:\\x";
        let task = TaskError { executor: "e-1 (10.0.0.1:50051)".into(), message: said.into(), means: None };
        let error = DataFusionError::External(Box::new(task));
        let once = format!("Job failed due to stage 1 failed: Task failed due to runtime execution error: {error:?}\n");
        assert_eq!(shown(&once), format!("executor e-1 (10.0.0.1:50051): {said}"));
        let twice =
            format!("Job failed due to stage 1 failed: Task 0 in Stage 1 failed 4 times, most recent failure reason: {once:?}");
        assert_eq!(shown(&twice), format!("executor e-1 (10.0.0.1:50051): {said}"));
    }

    #[test]
    fn an_error_of_asof_comes_back_as_itself() {
        let changed =
            asof::Error::FileChanged { table: "t".into(), path: "C:\\\"x\"\n.parquet".into(), change: "has changed".into() };
        let changed = DataFusionError::from(changed);
        let means = asof::cluster::error_text(&changed);
        let task = TaskError { executor: "e-1".into(), message: changed.to_string(), means: Some(means) };
        let text = format!("Job failed due to stage 1 failed: {:?}", DataFusionError::External(Box::new(task)));
        let error = asof::Error::from(error_of(&format!("{text:?}")));
        assert!(matches!(&error, asof::Error::FileChanged { path, .. } if path == "C:\\\"x\"\n.parquet"), "{error}");
    }

    #[test]
    fn a_full_executor_is_told_by_name() {
        let task = |means: Option<&str>| {
            let task = TaskError { executor: "e-1 (h:1)".into(), message: "no room".into(), means: means.map(str::to_owned) };
            format!("Job failed due to stage 1 failed: {:?}", DataFusionError::External(Box::new(task)))
        };
        assert_eq!(full_executor(&task(Some(FULL))).as_deref(), Some("e-1"));
        assert_eq!(shown(&task(Some(FULL))), "executor e-1 (h:1): no room");
        assert_eq!(full_executor(&task(None)), None);
        assert_eq!(full_executor("Cancelled"), None);
    }

    #[test]
    fn the_words_of_the_scheduler_are_left_out() {
        let message = "Job failed due to stage 3 failed: Task failed due to runtime execution error: disk full";
        assert_eq!(shown(message), "the cluster ended the job: disk full");
        assert_eq!(shown("Cancelled"), "the cluster ended the job: Cancelled");
    }
}
