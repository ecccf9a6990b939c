//! Facts that no row of a spine can be given are left out before facts are divided among processes. Here a runner divides plans and runs
//! them in this process, and the answers are those of a store without it.

use std::{fs::File, path::Path, sync::Arc};

use asof::{
    Aggregate, AsOf, Error, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt},
    cluster::Runner,
    temporal::{Lookup, Spine, Window},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray},
        util::pretty::pretty_format_batches,
    },
    error::Result as DfResult,
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{GreedyMemoryPool, MemoryPool, MemoryReservation, UnboundedMemoryPool},
        runtime_env::RuntimeEnvBuilder,
    },
    parquet::{arrow::ArrowWriter, file::properties::WriterProperties},
    physical_plan::{ExecutionPlan, displayable, execute_stream_partitioned},
    prelude::{SessionContext, col, lit, random},
};
use futures::future::{BoxFuture, ready};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::support::instant;

const DAY_US: i64 = 86_400_000_000;

/// Bounds the memory of the operator that prunes facts.
#[derive(Debug)]
struct OnlyPruning {
    pool: GreedyMemoryPool,
    others: UnboundedMemoryPool,
}

impl OnlyPruning {
    fn of(&self, reservation: &MemoryReservation) -> &dyn MemoryPool {
        if reservation.consumer().name() == "PruneFacts" { &self.pool } else { &self.others }
    }
}

impl std::fmt::Display for OnlyPruning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("only pruning is bounded")
    }
}

impl MemoryPool for OnlyPruning {
    fn name(&self) -> &str {
        "only pruning is bounded"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.of(reservation).grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.of(reservation).shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DfResult<()> {
        self.of(reservation).try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }
}

/// Divides plans and runs them here, with so much memory for pruning.
#[derive(Debug, Clone)]
struct Divided {
    tasks: usize,
    memory: Option<usize>,
    last: Arc<std::sync::Mutex<Option<Arc<dyn ExecutionPlan>>>>,
}

impl Divided {
    fn new(tasks: usize, memory: Option<usize>) -> Self {
        Self { tasks, memory, last: Arc::default() }
    }

    /// How many facts were read and how many passed, in the last plan.
    fn pruned(&self) -> (usize, usize) {
        fn sum(plan: &Arc<dyn ExecutionPlan>, name: &str) -> usize {
            let own = plan.metrics().filter(|_| plan.name() == "PruneFacts");
            let own = own.and_then(|metrics| metrics.sum_by_name(name)).map_or(0, |sum| sum.as_usize());
            own + plan.children().into_iter().map(|child| sum(child, name)).sum::<usize>()
        }
        let plan = self.last.lock().unwrap().clone().unwrap();
        (sum(&plan, "facts_rows"), sum(&plan, "facts_kept"))
    }
}

impl Runner for Divided {
    fn partitions(&self) -> usize {
        self.tasks
    }

    fn run(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> BoxFuture<'static, DfResult<Vec<SendableRecordBatchStream>>> {
        *self.last.lock().unwrap() = Some(plan.clone());
        let context = match self.memory {
            None => context,
            Some(memory) => {
                let runtime = RuntimeEnvBuilder::from_runtime_env(context.runtime_env().as_ref());
                let pool = OnlyPruning { pool: GreedyMemoryPool::new(memory), others: UnboundedMemoryPool::default() };
                let runtime = runtime.with_memory_pool(Arc::new(pool)).build_arc().unwrap();
                SessionContext::new_with_config_rt(context.session_config().clone(), runtime).task_ctx()
            }
        };
        Box::pin(ready(execute_stream_partitioned(plan, context)))
    }
}

/// Facts of some entities over 100 days, in six files. With `same`, all of them have one of three event times.
fn write_facts(dir: &Path, count: usize, entities: i64, same: bool) {
    std::fs::create_dir_all(dir).unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    let start = instant("2020-01-01T00:00:00Z").micros();
    for file in 0..6 {
        let rows = count / 6;
        let mut at: Vec<i64> = (0..rows)
            .map(|_| if same { rng.random_range(0..3) * 30 * DAY_US } else { rng.random_range(0..100 * DAY_US) })
            .map(|time| start + time)
            .collect();
        if file % 2 == 0 {
            at.sort_unstable();
        }
        let known: Vec<i64> = at.iter().map(|at| if same { *at } else { at + rng.random_range(0..3 * DAY_US) }).collect();
        let instants = |times: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as ArrayRef;
        let batch = RecordBatch::try_from_iter([
            ("entity", Arc::new(Int64Array::from_iter_values((0..rows).map(|_| rng.random_range(0..entities)))) as ArrayRef),
            ("at", instants(at)),
            ("known", instants(known)),
            ("value", Arc::new(Float64Array::from_iter_values((0..rows).map(|_| rng.random_range(-1_000..1_000) as f64 / 8.0)))),
            (
                "text",
                Arc::new(StringViewArray::from_iter_values(
                    (0..rows).map(|_| format!("text number {}", rng.random_range(0..90))),
                )),
            ),
        ]);
        let batch = batch.unwrap();
        let rows = WriterProperties::builder().set_max_row_group_row_count(Some(5_000)).build();
        let out = File::create(dir.join(format!("{file}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(out, batch.schema(), Some(rows)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
}

async fn store(count: usize, entities: i64, same: bool) -> (tempfile::TempDir, FeatureStore) {
    let dir = tempfile::tempdir().unwrap();
    write_facts(&dir.path().join("facts"), count, entities, same);
    let root = dir.path().join("root");
    let store = FeatureStore::open_with(root.to_str().unwrap(), StoreOptions::default().cache_in_memory()).await.unwrap();
    let declared = FactTable::new("at", KnownAt::column("known")).key("entity");
    store.register_table("facts", dir.path().join("facts").to_str().unwrap(), declared).await.unwrap();
    (dir, store)
}

/// Rows of a few entities, most of them known, within 40 days.
fn spine(rows: usize, entities: i64) -> RecordBatch {
    let mut rng = StdRng::seed_from_u64(11);
    let start = instant("2020-02-01T00:00:00Z").micros();
    let times: Vec<i64> = (0..rows).map(|_| start + rng.random_range(0..40 * DAY_US)).collect();
    let keys = (0..rows).map(|i| (i % 41 != 7).then(|| rng.random_range(0..entities + 3)));
    RecordBatch::try_from_iter([
        ("entity", Arc::new(Int64Array::from_iter(keys)) as ArrayRef),
        ("ts", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))),
        ("number", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
    ])
    .unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Question {
    Lookup,
    MaxAge,
    Windows,
    Unlimited,
}

const QUESTIONS: [Question; 4] = [Question::Lookup, Question::MaxAge, Question::Windows, Question::Unlimited];

async fn ask(store: &FeatureStore, spine: Spine, question: Question) -> Result<Vec<RecordBatch>, Error> {
    let facts = store.facts("facts", AsOf::END_OF_TIME).await?;
    let lookup = Lookup::of(facts.clone()).on("entity").columns(["value", "text"]);
    let day = [Aggregate::count().named("c"), Aggregate::sum("value").named("s")];
    let rows = match question {
        Question::Lookup => spine.lookup([lookup])?,
        Question::MaxAge => spine.lookup([lookup.max_age(TimeDelta::hours(30))])?,
        Question::Windows => spine.window([Window::of(facts).on("entity").trailing(TimeDelta::days(1), day)])?,
        Question::Unlimited => spine.window([Window::of(facts).on("entity").all_before(day)])?,
    };
    Ok(rows.into_rows().collect().await?)
}

fn in_memory(rows: &RecordBatch) -> Spine {
    Spine::new(SessionContext::new().read_batch(rows.clone()).unwrap(), "ts")
}

fn shown(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_no_row_needs_stay_where_they_are() {
    let (_dir, store) = store(120_000, 300, false).await;
    let spine = spine(900, 40);
    for tasks in [1, 2, 5] {
        let runner = Divided::new(tasks, None);
        for question in QUESTIONS {
            let here = ask(&store, in_memory(&spine), question).await.unwrap();
            let there = ask(&store.on(&runner), in_memory(&spine), question).await.unwrap();
            assert_eq!(shown(&there), shown(&here), "{question:?} in {tasks} tasks");
            let (read, kept) = runner.pruned();
            // Half of the files are in the order of time, and rows after the last instant are not read.
            let plan = || displayable(runner.last.lock().unwrap().as_ref().unwrap().as_ref()).indent(true).to_string();
            assert!((60_000..110_000).contains(&read), "{question:?} in {tasks} tasks: {read} facts read:\n{}", plan());
            // 43 of 300 entities are asked for, and a lookup needs a fact for each row and task.
            let most = match question {
                Question::Lookup | Question::MaxAge => 900 * tasks,
                Question::Windows => 12_000,
                Question::Unlimited => 18_000,
            };
            assert!(0 < kept && kept <= most, "{question:?} in {tasks} tasks: {kept} facts passed");
        }
    }
}

/// Times decide nothing here: all columns do. What cannot be dropped is given out before it fills the memory.
#[tokio::test(flavor = "multi_thread")]
async fn facts_of_the_same_times_all_pass() {
    let (_dir, store) = store(900_000, 5, true).await;
    let (spine, runner) = (spine(50, 4), Divided::new(2, None));
    let here = ask(&store, in_memory(&spine), Question::Lookup).await.unwrap();
    let there = ask(&store.on(&runner), in_memory(&spine), Question::Lookup).await.unwrap();
    assert_eq!(shown(&there), shown(&here));
    // Of three times rows see at most two as the newest.
    let (read, kept) = runner.pruned();
    assert!(read >= 600_000 && kept >= 150_000, "{kept} of {read}");
}

/// With any memory for it the answer is right: what cannot be compared passes.
#[tokio::test(flavor = "multi_thread")]
async fn little_memory_prunes_less_and_loses_nothing() {
    let (_dir, store) = store(240_000, 9_000, false).await;
    let spine = spine(18_000, 9_000);
    for question in QUESTIONS {
        let here = shown(&ask(&store, in_memory(&spine), question).await.unwrap());
        let mut passed = Vec::new();
        for kilobytes in [0, 100, 1_000, 1_500, 2_000, 3_000, 4_000, 1_000_000] {
            let runner = Divided::new(2, Some(kilobytes << 10));
            let there = ask(&store.on(&runner), in_memory(&spine), question).await.unwrap();
            assert_eq!(shown(&there), here, "{question:?} with {kilobytes} KiB");
            passed.push(runner.pruned().1);
        }
        println!("{question:?}: {passed:?} facts passed");
        // Nothing was counted where nothing was compared.
        assert!(passed[0] == 0 && passed[1] == 0 && passed[7] > 0, "{passed:?}");
    }
}

/// A spine can be different each time that it is read. So it is read once.
#[tokio::test(flavor = "multi_thread")]
async fn a_spine_is_read_once() {
    let (_dir, store) = store(60_000, 40, false).await;
    let runner = Divided::new(3, None);
    let base = SessionContext::new().read_batch(spine(500, 40)).unwrap();
    // A random third of the rows.
    let drawn = base.filter(random().lt(lit(0.33))).unwrap();
    let there = ask(&store.on(&runner), Spine::new(drawn, "ts"), Question::Lookup).await.unwrap();
    let mut answered = 0;
    for batch in &there {
        answered += batch.num_rows();
        let again = SessionContext::new().read_batch(batch.project(&[0, 1, 2]).unwrap()).unwrap();
        let here =
            ask(&store, Spine::new(again.select([col("entity"), col("ts"), col("number")]).unwrap(), "ts"), Question::Lookup);
        assert_eq!(shown(std::slice::from_ref(batch)), shown(&here.await.unwrap()));
    }
    assert!((50..350).contains(&answered), "{answered} rows");
}
