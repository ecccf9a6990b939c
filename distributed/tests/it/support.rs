//! Data, plans and clusters of the tests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use asof::{ErrorKind, cluster::Runner};
use asof_distributed::{Cluster, ClusterError, LocalOptions, Options};
use datafusion::{
    arrow::{
        array::{ArrayRef, Int64Array, RecordBatch, StringArray},
        util::pretty::pretty_format_batches,
    },
    error::{DataFusionError, Result},
    execution::TaskContext,
    physical_plan::ExecutionPlan,
    prelude::{ParquetReadOptions, SessionConfig, SessionContext},
};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

/// How many files the test table has, and how many rows each file.
pub(crate) const FILES: usize = 6;
pub(crate) const ROWS: usize = 5_000;

/// The plans that every cluster must answer as one process does.
pub(crate) const QUERIES: [&str; 6] = [
    "SELECT count(*) n, sum(v) s, min(name) low, max(name) high FROM t",
    "SELECT k, count(*) n, sum(v) s FROM t GROUP BY k ORDER BY k",
    "SELECT id, k, v, name FROM t WHERE v % 7 = 3 ORDER BY id",
    "SELECT a.id, b.v FROM t a JOIN u b ON a.k = b.k WHERE a.v < 500 ORDER BY a.id, b.v",
    "SELECT id, sum(v) OVER (PARTITION BY k ORDER BY id) s FROM t WHERE k < 5 ORDER BY id",
    "SELECT id FROM t WHERE id < 0",
];

pub(crate) fn temp() -> TempDir {
    tempfile::Builder::new().prefix("asof-distributed-test-").tempdir().unwrap()
}

/// The files in a folder and in those below it. Files may go while they are listed.
pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// The files below a folder, by their paths from there, with hashes of their bytes.
pub(crate) fn hashes_below(folder: &Path) -> BTreeMap<PathBuf, blake3::Hash> {
    let hashed = |path: PathBuf| (path.strip_prefix(folder).unwrap().to_owned(), blake3::hash(&fs::read(&path).unwrap()));
    walk(folder).into_iter().map(hashed).collect()
}

/// Copies a folder with all that is below it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    for file in walk(from) {
        let copy = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    }
}

/// A file of the table `t`: ids that go on from file to file, a key, a value and a text.
pub(crate) fn file_of(number: usize) -> Vec<u8> {
    let ids: Vec<i64> = (number * ROWS..(number + 1) * ROWS).map(|id| id as i64).collect();
    let column = |make: fn(i64) -> i64| Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| make(*id)))) as ArrayRef;
    let names = StringArray::from_iter_values(ids.iter().map(|id| format!("n{}", id % 1_013)));
    let batch = RecordBatch::try_from_iter([
        ("id", column(|id| id)),
        ("k", column(|id| id % 97)),
        ("v", column(|id| id * 7_919 % 10_007)),
        ("name", Arc::new(names) as ArrayRef),
    ]);
    let batch = batch.unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// The files of the table `t` in a folder.
pub(crate) fn write_table(folder: &Path) {
    for number in 0..FILES {
        fs::write(folder.join(format!("part-{number}.parquet")), file_of(number)).unwrap();
    }
}

/// A session for so many partitions, with what can travel, and the tables `t` (at a place) and `u` (in memory).
pub(crate) async fn session(place: &str, partitions: usize) -> SessionContext {
    let config = SessionConfig::new()
        .with_target_partitions(partitions)
        .with_round_robin_repartition(false)
        .set_bool("datafusion.execution.enable_file_stream_work_stealing", false)
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false)
        .set_bool("datafusion.optimizer.enable_physical_uncorrelated_scalar_subquery", false)
        .set_u64("datafusion.optimizer.repartition_file_min_size", 1);
    let context = SessionContext::new_with_config(config);
    tables(&context, place).await;
    context
}

pub(crate) async fn tables(context: &SessionContext, place: &str) {
    context.register_parquet("t", place, ParquetReadOptions::default()).await.unwrap();
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..200));
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..200).map(|n| n % 50)));
    context.register_batch("u", RecordBatch::try_from_iter([("k", keys), ("v", numbers)]).unwrap()).unwrap();
}

pub(crate) async fn plan(context: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    context.sql(sql).await.unwrap().create_physical_plan().await.unwrap()
}

/// The rows of a plan on a cluster, as they come.
pub(crate) async fn on(cluster: &Cluster, context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    run(cluster, plan(context, sql).await, context.task_ctx()).await
}

pub(crate) async fn run(cluster: &Cluster, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
    streamed(cluster, plan, context).try_collect().await
}

/// The rows of a plan, partition after partition.
pub(crate) fn streamed(
    cluster: &Cluster,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> BoxStream<'static, Result<RecordBatch>> {
    stream::once(cluster.run(plan, context)).map_ok(|partitions| stream::iter(partitions).flatten()).try_flatten().boxed()
}

pub(crate) async fn alone(context: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    context.sql(sql).await.unwrap().collect().await.unwrap()
}

pub(crate) fn shown(batches: &[RecordBatch]) -> String {
    // Batches have their own borders in each way to run a plan; rows have not.
    let batches: Vec<_> = batches.iter().filter(|batch| batch.num_rows() > 0).cloned().collect();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// Both are the same text. The message shows the first line that differs, not all of them.
pub(crate) fn assert_same(rows: &[RecordBatch], expected: &str, what: &str) {
    let rows = shown(rows);
    let differ = rows.lines().zip(expected.lines()).find(|(ours, theirs)| ours != theirs);
    let counts = (rows.lines().count(), expected.lines().count());
    assert!(differ.is_none() && counts.0 == counts.1, "{what}: {counts:?} lines, {differ:?}");
}

/// Options of a cluster whose processes notice each other's end soon.
pub(crate) fn quick(executors: usize) -> LocalOptions {
    LocalOptions {
        executors,
        vcores: Some(2),
        executor_memory_bytes: 512 << 20,
        scheduler_arguments: vec!["--executor-timeout=6".into()],
        executor_arguments: vec!["--heartbeat=1".into()],
        cluster: Options { executor_wait: Duration::from_secs(10), ..Options::default() },
        ..LocalOptions::default()
    }
}

pub(crate) async fn cluster(executors: usize) -> Cluster {
    Cluster::local_with(quick(executors)).await.unwrap()
}

/// Sends a signal to a process that a test has started.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status().unwrap();
    assert!(sent.success(), "kill -{name} {process}");
}

/// Whether a process runs; one that has ended and was not waited for does not.
pub(crate) fn runs(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub(crate) async fn until(what: &str, wait: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < wait, "{what}: not within {wait:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The error of the cluster behind one of a store.
pub(crate) fn store_error(error: &asof::Error) -> &ClusterError {
    let asof::Error::Runner { cause, .. } = error else { panic!("{error:?}") };
    cause.downcast_ref().unwrap_or_else(|| panic!("{error}"))
}

/// What a program does about an error: its kind, and whether it tries again.
pub(crate) fn class(error: DataFusionError) -> (ErrorKind, bool) {
    let error = asof::Error::from(error);
    (error.kind(), error.is_retryable())
}

pub(crate) fn cluster_error(error: &DataFusionError) -> &ClusterError {
    let DataFusionError::External(inner) = error.find_root() else { panic!("{error}") };
    store_error(inner.downcast_ref().unwrap_or_else(|| panic!("{error}")))
}
