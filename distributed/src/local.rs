//! A cluster of processes on this machine, which live as long as the program that uses them.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{ClusterError, Options, address::Address, status::ask};

/// Names the folder of the programs.
const BINARIES: &str = "ASOF_CLUSTER_BIN";
const SCHEDULER: &str = "asof-scheduler";
const EXECUTOR: &str = "asof-executor";
/// What a scheduler gets of the environment. It opens no object store, so it gets no credentials.
const SCHEDULER_ENVIRONMENT: [&str; 6] = ["PATH", "TMPDIR", "ASOF_LOG", "RUST_BACKTRACE", "LD_LIBRARY_PATH", "SYSTEMROOT"];
const LOOK: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(5);
/// How often an executor is started that ends at once: another process may have taken its port.
const STARTS: usize = 3;
/// So much of a log is shown.
const SHOWN: usize = 2_000;

/// How a [local](crate::Cluster::local) cluster is started.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// How many executors.
    pub executors: usize,
    /// How many partitions each works on at a time; by default the processors of this machine are shared out.
    pub vcores: Option<usize>,
    /// The memory of the tasks of each executor, in bytes.
    pub executor_memory_bytes: u64,
    /// Variables for the environment of the executors, besides that of this process: credentials of object stores, for example.
    pub executor_environment: Vec<(String, String)>,
    /// The folder of `asof-scheduler` and `asof-executor`.
    pub binaries: Option<PathBuf>,
    /// The folder for logs; by default a temporary one that ends with the cluster.
    pub logs: Option<PathBuf>,
    /// How long the processes may take to be there.
    pub start_timeout: Duration,
    /// More arguments of the scheduler, such as `--executor-timeout=5`.
    pub scheduler_arguments: Vec<String>,
    /// More arguments of each executor, such as `--heartbeat=1`.
    pub executor_arguments: Vec<String>,
    /// How this program uses the cluster.
    pub cluster: Options,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            executors: 1,
            vcores: None,
            executor_memory_bytes: 2 << 30,
            executor_environment: Vec::new(),
            binaries: None,
            logs: None,
            start_timeout: Duration::from_secs(60),
            scheduler_arguments: Vec::new(),
            executor_arguments: Vec::new(),
            cluster: Options::default(),
        }
    }
}

/// The processes of a local cluster. They are ended, and their scratch folder is removed, when this is dropped.
#[derive(Debug)]
pub struct Processes {
    scheduler: Process,
    executors: Vec<Process>,
    logs: PathBuf,
    /// Dropped last, after the processes that use it.
    _scratch: TempDir,
}

#[derive(Debug)]
struct Process {
    name: String,
    id: u32,
    child: Mutex<Child>,
    is_known_to_have_ended: AtomicBool,
}

impl Processes {
    /// The process id of the scheduler.
    #[must_use]
    pub fn scheduler(&self) -> u32 {
        self.scheduler.id
    }

    /// The process ids of the executors: those of `executor-1`, `executor-2`, and so on.
    #[must_use]
    pub fn executors(&self) -> Vec<u32> {
        self.executors.iter().map(|process| process.id).collect()
    }

    /// The folder with `scheduler.log`, `executor-1.log`, and so on.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The names of the executors that have ended since this was last asked.
    pub(crate) fn newly_ended(&self) -> Vec<String> {
        let ended = self.executors.iter().filter(|process| process.has_ended());
        ended
            .filter(|process| !process.is_known_to_have_ended.swap(true, Ordering::SeqCst))
            .map(|process| process.name.clone())
            .collect()
    }

    pub(crate) async fn start(options: &LocalOptions) -> Result<(Self, Address), ClusterError> {
        let failed = |process: &str, error: io::Error| start_error(process, error.to_string());
        let scratch = tempfile::Builder::new().prefix("asof-cluster-").tempdir().map_err(|e| failed("the cluster", e))?;
        let logs = options.logs.clone().unwrap_or_else(|| scratch.path().join("logs"));
        std::fs::create_dir_all(&logs).map_err(|e| failed("the cluster", e))?;
        let binaries = binaries(options)?;
        let until = Instant::now() + options.start_timeout;

        let address_file = scratch.path().join("address");
        let mut command = Command::new(binaries.join(SCHEDULER));
        command.env_clear().envs(SCHEDULER_ENVIRONMENT.iter().filter_map(|key| Some((key, std::env::var_os(key)?))));
        command.args(["--bind-host=127.0.0.1", "--external-host=127.0.0.1", "--port=0"]);
        command.arg("--address-file").arg(&address_file).arg(format!("--max-message={}", options.cluster.max_message_bytes));
        let scheduler = Process::start("scheduler", command.args(&options.scheduler_arguments), scratch.path(), &logs)?;
        let address = loop {
            if let Ok(text) = std::fs::read_to_string(&address_file) {
                break Address::parse(&text)?;
            }
            scheduler.wait(until, &logs).await?;
        };
        let mut processes = Self { scheduler, executors: Vec::new(), logs, _scratch: scratch };
        for number in 1..=options.executors {
            let executor = processes.executor(options, &binaries, &address, number, 1)?;
            processes.executors.push(executor);
        }
        processes.registered(options, &binaries, &address, until).await?;
        Ok((processes, address))
    }

    fn executor(
        &self,
        options: &LocalOptions,
        binaries: &Path,
        scheduler: &Address,
        number: usize,
        start: usize,
    ) -> Result<Process, ClusterError> {
        let name = if start == 1 { format!("executor-{number}") } else { format!("executor-{number}-{start}") };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let vcores = options.vcores.unwrap_or(processors / options.executors.max(1)).max(1);
        let mut command = Command::new(binaries.join(EXECUTOR));
        command.args(["--bind-host=127.0.0.1", "--external-host=127.0.0.1", "--port=0", "--task-port=0"]);
        command.arg(format!("--scheduler=df://{scheduler}")).arg(format!("--name={name}")).arg(format!("--vcores={vcores}"));
        command.arg(format!("--memory={}", options.executor_memory_bytes));
        command.arg(format!("--max-message={}", options.cluster.max_message_bytes));
        command.arg("--scratch").arg(self._scratch.path()).envs(options.executor_environment.iter().cloned());
        Process::start(&name, command.args(&options.executor_arguments), self._scratch.path(), &self.logs)
    }

    /// Waits until the scheduler knows all executors.
    async fn registered(
        &mut self,
        options: &LocalOptions,
        binaries: &Path,
        scheduler: &Address,
        until: Instant,
    ) -> Result<(), ClusterError> {
        let mut starts = vec![1; self.executors.len()];
        loop {
            let known = ask(scheduler, ANSWER).await?.executors;
            let Some(at) = self.executors.iter().position(|process| known.iter().all(|executor| executor.id != process.name))
            else {
                return Ok(());
            };
            if let Some(starts) = starts.get_mut(at)
                && self.executors.get(at).is_some_and(Process::has_ended)
                && *starts < STARTS
            {
                *starts += 1;
                let again = self.executor(options, binaries, scheduler, at + 1, *starts)?;
                if let Some(process) = self.executors.get_mut(at) {
                    *process = again;
                }
            }
            if let Some(process) = self.executors.get(at) {
                process.wait(until, &self.logs).await?;
            }
        }
    }
}

impl Process {
    fn start(name: &str, command: &mut Command, scratch: &Path, logs: &Path) -> Result<Self, ClusterError> {
        let log = File::create(log_of(logs, name)).map_err(|error| start_error(name, error.to_string()))?;
        // It ends when its standard input does: with this process, whatever ends it. If that is a signal, nobody else removes the folder.
        command.arg("--end-with-input").arg("--remove-with-input").arg(scratch);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let spawned = command.spawn();
        let program = command.get_program().to_string_lossy();
        let child = spawned.map_err(|error| start_error(name, format!("{program}: {error}")))?;
        Ok(Self {
            name: name.to_owned(),
            id: child.id(),
            child: Mutex::new(child),
            is_known_to_have_ended: AtomicBool::new(false),
        })
    }

    fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(child.try_wait(), Ok(None))
    }

    /// Waits a moment for this process to be ready. It must not have ended, and the time must not be over.
    async fn wait(&self, until: Instant, logs: &Path) -> Result<(), ClusterError> {
        let reason = match (self.has_ended(), Instant::now() > until) {
            (true, _) => "it has ended",
            (_, true) => "it takes too long",
            _ => {
                tokio::time::sleep(LOOK).await;
                return Ok(());
            }
        };
        let log = std::fs::read_to_string(log_of(logs, &self.name)).unwrap_or_default();
        let shown = log.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
        Err(start_error(&self.name, format!("{reason}; its log ends with:\n{}", &log[shown..])))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = child.kill().and_then(|()| child.wait()) {
            log::warn!("{} was not ended: {error}", self.name);
        }
    }
}

fn log_of(logs: &Path, name: &str) -> PathBuf {
    logs.join(format!("{name}.log"))
}

fn start_error(process: &str, reason: String) -> ClusterError {
    ClusterError::Start { process: process.to_owned(), reason }
}

/// The folder of both programs.
fn binaries(options: &LocalOptions) -> Result<PathBuf, ClusterError> {
    if let Some(folder) = options.binaries.clone().or_else(|| std::env::var_os(BINARIES).map(PathBuf::from)) {
        return Ok(folder);
    }
    let program = std::env::current_exe().map_err(|error| start_error("the cluster", error.to_string()))?;
    // Tests and examples lie in a folder below.
    let folders = program.ancestors().skip(1).take(2);
    let name = |folder: &Path| folder.join(format!("{SCHEDULER}{}", std::env::consts::EXE_SUFFIX));
    let found = folders.into_iter().find(|folder| name(folder).is_file());
    found.map(Path::to_owned).ok_or_else(|| {
        let advice = format!("{SCHEDULER} is not beside {}: set {BINARIES} to its folder", program.display());
        start_error("the cluster", advice)
    })
}
