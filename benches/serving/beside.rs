//! Reads beside what else a service does: moves to newer materializations, and materializing them. First at a fixed rate, then one after the
//! other without a pause, for some seconds.
//!
//! Of the reads that are late it says how long their thread waited for a core, and how many pages were missing, by what Linux counts
//! for a thread. Threads and processes of the lowest priority have the policy `SCHED_IDLE`, which `chrt` of util-linux sets; those that
//! leave the other cores to reads are kept on one core by `taskset`.

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use asof::{
    FeatureStore, Resources, StoreOptions, Value,
    online::{Live, Online},
};
use chrono::TimeDelta;
use tokio::runtime::Runtime;

use super::{Anyhow, READS, closed, first, keys, open_loop_with, open_with, print};

const PER_SECOND: u64 = 2_000;
/// The closed loop has so many times the reads of other measurements.
const CLOSED: usize = 4;
/// A read that takes longer is looked into.
const LATE: Duration = Duration::from_micros(60);
/// Materializations that moves alternate between.
const PUBLISHED: usize = 3;

/// Who materializes.
#[derive(Clone, Copy, PartialEq)]
enum Trainer {
    /// Nobody: what is moved to was published before.
    Nobody,
    /// This process, in as many tasks as there are cores.
    Here,
    /// This process, in one task.
    HereInOneTask,
    /// Another process, started with these words before it.
    Process(&'static [&'static str]),
}

/// Where moves are made, and materializations of this process.
#[derive(Clone, Copy, PartialEq)]
enum Threads {
    /// In the runtime of the service.
    Service,
    /// In a runtime of their own, whose threads have the lowest priority.
    Idle,
    /// In a runtime of their own, whose threads are kept on core 1.
    OneCore,
}

const NICE: Trainer = Trainer::Process(&["nice", "-n", "19"]);
const IDLE: Trainer = Trainer::Process(&["chrt", "--idle", "0"]);
const ONE_CORE: Trainer = Trainer::Process(&["taskset", "--cpu-list", "1"]);

const CASES: [(&str, Trainer, Threads, &str); 11] = [
    ("moves", Trainer::Nobody, Threads::Service, "moves alone"),
    ("moves-idle", Trainer::Nobody, Threads::Idle, "moves alone on idle threads"),
    ("moves-core", Trainer::Nobody, Threads::OneCore, "moves alone on core 1"),
    ("nice", NICE, Threads::Service, "another process that materializes (nice 19)"),
    ("idle", IDLE, Threads::Service, "another process that materializes (SCHED_IDLE)"),
    ("idle-idle", IDLE, Threads::Idle, "another process that materializes (SCHED_IDLE), moves on idle threads"),
    ("core", ONE_CORE, Threads::OneCore, "another process that materializes, and moves, on core 1"),
    ("one", Trainer::HereInOneTask, Threads::Service, "materializations in one task of this process"),
    ("all", Trainer::Here, Threads::Service, "materializations in all tasks of this process"),
    ("all-idle", Trainer::Here, Threads::Idle, "materializations in all tasks of this process, and moves, on idle threads"),
    ("all-core", Trainer::Here, Threads::OneCore, "materializations in all tasks of this process, and moves, on core 1"),
];

/// What Linux counts of a thread.
#[derive(Clone, Copy, Default)]
struct Counted {
    /// Ready to run, and without a core.
    waited: Duration,
    minor_faults: u64,
    major_faults: u64,
}

impl Counted {
    /// Of the calling thread; zeros where the system does not tell.
    fn now() -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/{file}")).unwrap_or_default();
        let number = |text: &str, place: usize| text.split_whitespace().nth(place).and_then(|n| n.parse().ok()).unwrap_or(0);
        let (schedstat, stat) = (read("schedstat"), read("stat"));
        // The name in `stat` may hold spaces, and ends with the last parenthesis.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        Self {
            waited: Duration::from_nanos(number(&schedstat, 1)),
            minor_faults: number(after_name, 7),
            major_faults: number(after_name, 9),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            waited: self.waited.saturating_sub(before.waited),
            minor_faults: self.minor_faults - before.minor_faults,
            major_faults: self.major_faults - before.major_faults,
        }
    }
}

/// What was counted of reads that were late. One that is late delays those after it, so only the first one of a row is looked into.
#[derive(Default)]
struct LateReads {
    reads: usize,
    stalls: usize,
    stalled: Duration,
    counted: Counted,
    /// Stalls in the read itself: its thread had a core when it was due.
    within: usize,
}

fn print_with_causes(what: &str, request: &mut dyn FnMut(&Value)) {
    let keys = keys(false, READS / 50);
    let mut late = LateReads::default();
    let (mut before, mut was_late) = (Counted::now(), false);
    let latencies = open_loop_with(
        &keys,
        PER_SECOND,
        |key| {
            let start = Instant::now();
            request(key);
            start.elapsed()
        },
        |latency, took| {
            let now = Counted::now();
            let (own, is_late) = (now.since(before), latency > LATE);
            late.reads += usize::from(is_late);
            if is_late && !was_late {
                late.stalls += 1;
                late.stalled += latency;
                late.within += usize::from(took > LATE);
                late.counted.waited += own.waited;
                late.counted.minor_faults += own.minor_faults;
                late.counted.major_faults += own.major_faults;
            }
            (before, was_late) = (now, is_late);
        },
    );
    print(what, &latencies);
    let LateReads { reads, stalls, stalled, counted, within } = late;
    if reads > 0 {
        println!(
            "    {reads} reads took more than {} us, in {stalls} stalls of {:.0} ms in sum, of which the thread was ready and waited for \
             a core for {:.0} ms; {within} stalls were in the read itself; {} pages were missing, {} of them on the disk",
            LATE.as_micros(),
            stalled.as_secs_f64() * 1e3,
            counted.waited.as_secs_f64() * 1e3,
            counted.minor_faults + counted.major_faults,
            counted.major_faults
        );
    }
}

/// A runtime whose threads are changed by a command, which gets the number of a thread as its last word.
fn runtime_of(command: &'static [&'static str]) -> std::io::Result<Runtime> {
    let change = || {
        let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
        let Some(id) = thread.file_name() else { return };
        let changed = Command::new(command[0]).args(&command[1..]).arg(id).stdout(Stdio::null()).status();
        if !changed.is_ok_and(|status| status.success()) {
            println!("    a thread stays as it is: {} is missing, or refused", command[0]);
        }
    };
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().on_thread_start(change).build()
}

/// Reads, quiet and beside each of the cases that are named, or all.
pub(super) async fn refresh(form: &str, root: &Path, resident: bool, online: &Online, wanted: &[String]) -> Anyhow<()> {
    let mut get = |key: &Value| drop(black_box(online.get(std::slice::from_ref(key)).unwrap()));
    print_with_causes(&format!("get, {form}, open at {PER_SECOND}/s, quiet"), &mut get);
    print(&format!("get, {form}, closed, quiet"), &closed(&keys(false, READS * CLOSED), &mut get));
    let idle = runtime_of(&["chrt", "--idle", "--pid", "0"])?;
    let one_core = runtime_of(&["taskset", "--pid", "--cpu-list", "1"])?;
    for (name, trainer, threads, told) in CASES {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let own = match threads {
            Threads::Service => None,
            Threads::Idle => Some(&idle),
            Threads::OneCore => Some(&one_core),
        };
        beside(form, root, resident, trainer, own, told).await?;
    }
    idle.shutdown_background();
    one_core.shutdown_background();
    Ok(())
}

async fn beside(form: &str, root: &Path, resident: bool, trainer: Trainer, own: Option<&Runtime>, told: &str) -> Anyhow<()> {
    // A cache of its own: each move builds its file.
    let cache = root.with_file_name("serving-moves");
    std::fs::remove_dir_all(&cache).ok();
    let options = StoreOptions::default().cache_dir(&cache);
    let store = open_with(root, if resident { options.resident_rows() } else { options }).await?;
    while store.materializations("wide_v1").await?.published.len() < PUBLISHED {
        let newest = store.live("wide_v1").await?.status().as_of;
        store.materialize("wide_v1", newest.plus(TimeDelta::seconds(1))).await?;
    }
    let live = store.live("wide_v1").await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let moving =
        Moving { store, live: live.clone(), is_over: is_over.clone(), root: root.to_owned(), cache: cache.clone(), trainer };
    let moving = match own {
        Some(own) => own.spawn(moving.run()),
        None => tokio::spawn(moving.run()),
    };
    tokio::task::block_in_place(|| {
        let mut get = |key: &Value| drop(black_box(live.current().get(std::slice::from_ref(key)).unwrap()));
        print_with_causes(&format!("get, {form}, open at {PER_SECOND}/s, beside {told}"), &mut get);
        print(&format!("get, {form}, closed, beside {told}"), &closed(&keys(false, READS * CLOSED), &mut get));
    });
    is_over.store(true, Ordering::Relaxed);
    let moved = moving.await?;
    let seconds: Vec<String> = moved.iter().map(|took| format!("{:.2}", took.as_secs_f64())).collect();
    println!("    {} moves took {} s", moved.len(), seconds.join(", "));
    drop(live);
    std::fs::remove_dir_all(&cache).ok();
    Ok(())
}

/// What goes on beside the reads.
struct Moving {
    store: FeatureStore,
    live: Live,
    is_over: Arc<AtomicBool>,
    root: PathBuf,
    cache: PathBuf,
    trainer: Trainer,
}

impl Moving {
    /// Moves until it is over, and tells how long each move took.
    async fn run(self) -> Vec<Duration> {
        let resources = Resources { partitions: 1, ..Resources::default() };
        let in_one_task = open_with(&self.root, StoreOptions::default().resources(resources).cache_in_memory()).await.unwrap();
        let published = self.store.materializations("wide_v1").await.unwrap().published;
        let mut moves = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let now = self.live.current().materialization().as_of();
            let next = now.plus(TimeDelta::seconds(1)).max(first());
            match self.trainer {
                Trainer::Here => drop(self.store.materialize("wide_v1", next).await.unwrap()),
                Trainer::HereInOneTask => drop(in_one_task.materialize("wide_v1", next).await.unwrap()),
                Trainer::Process(words) => self.train_elsewhere(words, &next.to_string()).await,
                Trainer::Nobody => {
                    let to = &published[moves.len() % PUBLISHED];
                    self.forget_file(&to.id.to_string());
                    let start = Instant::now();
                    self.live.pin(to.id).await.unwrap();
                    moves.push(start.elapsed());
                    continue;
                }
            }
            let start = Instant::now();
            assert!(self.live.refresh().await.unwrap().has_moved());
            moves.push(start.elapsed());
        }
        moves
    }

    async fn train_elsewhere(&self, words: &'static [&'static str], as_of: &str) {
        let mut train = Command::new(words[0]);
        train.args(&words[1..]).arg(std::env::current_exe().unwrap());
        train.args([self.root.parent().unwrap().to_str().unwrap(), "train", as_of]);
        let status = tokio::task::spawn_blocking(move || train.status()).await.unwrap();
        assert!(status.unwrap().success());
    }

    /// Removes the served file of a materialization, which is served no more.
    fn forget_file(&self, id: &str) {
        for entry in std::fs::read_dir(self.cache.join("served")).unwrap().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.contains(id)) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}
