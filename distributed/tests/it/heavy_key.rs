//! One entity has nine tenths of the facts, so one task meets them all: the answer of one process, or an error that says what is missing.

use std::{fs::File, path::Path, sync::Arc};

use asof::{
    Aggregate, AsOf, Error, ErrorKind, FeatureSet, FeatureStore, WindowLength,
    catalog::{FactTable, KnownAt},
};
use asof_distributed::{Cluster, ClusterError, LocalOptions};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    util::pretty::pretty_format_batches,
};
use parquet::arrow::ArrowWriter;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    stores::open,
    support::{quick, runs, store_error, temp},
};

const FACTS: usize = 300_000;
const FILES: usize = 6;
const QUESTIONS: usize = 3_000;
const HEAVY: i64 = 7;
const DAY: i64 = 86_400_000_000;

const QUERIES: [&str; 3] = [
    "SELECT q.number, q.key, f.value, f.name, f.at FROM questions AS q ASOF JOIN facts AS f \
     MATCH_CONDITION (q.at > f.at) ON q.key = f.key ORDER BY q.number",
    "SELECT number, n, total, different, newest FROM trailing('questions', 'at', 'facts', 'key = key', \
     '30 days', 'count(*) AS n, sum(value) AS total, count(DISTINCT name) AS different', '1000 facts', 'max(value) AS newest') \
     ORDER BY number",
    "SELECT f.number, f.key, q.number AS before FROM facts AS f ASOF JOIN questions AS q \
     MATCH_CONDITION (f.at > q.at) ON f.key = q.key ORDER BY f.number",
];

fn rows(count: usize, seed: u64) -> RecordBatch {
    let mut rng = StdRng::seed_from_u64(seed);
    let start = "2024-01-01T00:00:00Z".parse::<AsOf>().unwrap().micros();
    let key = |rng: &mut StdRng| if rng.random_range(0..10) < 9 { HEAVY } else { rng.random_range(100..600) };
    let keys: Vec<i64> = (0..count).map(|_| key(&mut rng)).collect();
    // Instants differ, so that which fact is the newest one is no question of ties.
    let times = (0..count as i64).map(|number| start + number * (90 * DAY / count as i64) + number % 2);
    let values: Vec<f64> = (0..count).map(|_| rng.random_range(0.0..1_000.0)).collect();
    let names = (0..count).map(|number| format!("the name of what happened, number {}", number * 7_919 % 10_007));
    RecordBatch::try_from_iter([
        ("number", Arc::new(Int64Array::from_iter_values(0..count as i64)) as ArrayRef),
        ("key", Arc::new(Int64Array::from(keys))),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))),
        ("value", Arc::new(Float64Array::from(values))),
        ("name", Arc::new(StringArray::from_iter_values(names))),
    ])
    .unwrap()
}

async fn table(store: &FeatureStore, dir: &Path, name: &str, rows: &RecordBatch) {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let per_file = rows.num_rows().div_ceil(FILES);
    for file in 0..FILES {
        let place = File::create(folder.join(format!("{file}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(place, rows.schema(), None).unwrap();
        writer.write(&rows.slice(file * per_file, per_file)).unwrap();
        writer.close().unwrap();
    }
    let declared = FactTable::new("at", KnownAt::after(TimeDelta::zero()));
    store.register_table(name, folder.to_str().unwrap(), declared).await.unwrap();
}

async fn store(dir: &Path) -> FeatureStore {
    let store = open(dir.join("root").to_str().unwrap()).await;
    table(&store, dir, "facts", &rows(FACTS, 1)).await;
    table(&store, dir, "questions", &rows(QUESTIONS, 2)).await;
    let set = FeatureSet::entities("heavy_v1", "facts")
        .key("key")
        .lookup("name", "name")
        .window(TimeDelta::days(30), [Aggregate::sum("value").named("total"), Aggregate::median("value").named("median")])
        .window(WindowLength::facts(1_000), [Aggregate::mode("name").named("often")])
        .build()
        .unwrap();
    store.register(set).unwrap();
    store
}

async fn answer(store: &FeatureStore, sql: &str) -> asof::Result<String> {
    let rows = store.sql(sql, AsOf::END_OF_TIME).await?.collect().await?;
    Ok(pretty_format_batches(&rows)?.to_string())
}

/// The most memory that a process has had, in MiB.
fn peak_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() >> 10
}

/// How many of all questions were answered, and how many had too little memory.
async fn asked(here: &FeatureStore, memory_mib: u64) -> (usize, usize) {
    let options = LocalOptions { executor_memory_bytes: memory_mib << 20, ..quick(2) };
    let cluster = Cluster::local_with(options).await.unwrap();
    let elsewhere = here.on(&cluster);
    let executors = cluster.processes().unwrap().executors();
    let peaks = || executors.iter().map(|process| peak_mib(*process)).collect::<Vec<_>>();
    let (mut answered, mut refused) = (0, 0);
    let mut told = |what: &str, error: Option<Error>| match error {
        None => answered += 1,
        Some(Error::Memory { reason, .. }) => {
            assert!(reason.contains("on executor executor-"), "{what}: {reason}");
            refused += 1;
        }
        // The sorts and groupings of DataFusion have an error of their own.
        Some(error) => {
            assert_eq!(error.kind(), ErrorKind::ResourceLimit, "{memory_mib} MiB: {what}: {error:?}");
            let said = |message: &str| message.to_lowercase().contains("memory");
            let is_told = matches!(store_error(&error), ClusterError::Job { executor: Some(_), message } if said(message));
            assert!(is_told, "{memory_mib} MiB: {what}: {error:?}");
            refused += 1;
        }
    };
    println!("{memory_mib} MiB: at rest {:?} MiB", peaks());
    for sql in QUERIES {
        let rows = answer(&elsewhere, sql).await;
        println!("{memory_mib} MiB: {:?} MiB after {sql}", peaks());
        match rows {
            Ok(rows) => {
                assert!(rows == answer(here, sql).await.unwrap(), "{memory_mib} MiB: {sql}");
                told(sql, None);
            }
            Err(error) => told(sql, Some(error)),
        }
    }
    let made = here.materialize("heavy_v1", "2024-03-20T00:00:00Z".parse().unwrap()).await.unwrap();
    match elsewhere.replay(&made).await {
        Ok(replayed) => {
            assert!(replayed.is_equal() && replayed.has_same_files(), "{memory_mib} MiB: {replayed}");
            told("heavy_v1", None);
        }
        Err(error) => told("heavy_v1", Some(error)),
    }
    println!("{memory_mib} MiB: {answered} answered, {refused} refused, {:?} MiB at most", peaks());
    assert!(executors.iter().all(|process| runs(*process)), "no process ends for want of memory");
    (answered, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_key_is_answered_or_an_error_of_memory() {
    let dir = temp();
    let here = store(dir.path()).await;
    assert_eq!(asked(&here, 512).await.1, 0, "512 MiB are enough");
    asked(&here, 128).await;
    assert_ne!(asked(&here, 4).await.1, 0, "4 MiB are too few");
}
