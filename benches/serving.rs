//! Latencies of serving, on a million entities with 50 floats each. Prints one line for each measurement.
//!
//! ```text
//! cargo bench --bench serving -- DIR                  everything; DIR keeps the generated facts and the store (1.5 GB)
//! cargo bench --bench serving -- DIR get encode       only some: load get many encode refresh parity peers
//! cargo bench --bench serving -- DIR refresh paged    in one of the forms: paged resident
//! cargo bench --bench serving -- DIR refresh moves    beside moves alone; other cases are in serving/beside.rs
//! ```
//!
//! A closed loop sends a request when the one before it is answered. An open loop sends them at a fixed rate, and its latencies count
//! from the instant at which a request was due, so that a stall is not hidden. Keys are uniform, or by Zipf's law with exponent 1.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "a bench measures by the clock")]

#[path = "serving/beside.rs"]
mod beside;

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use asof::{
    AsOf, FeatureSet, FeatureStore, StoreOptions, Value,
    catalog::{FactTable, KnownAt},
    encoder::{Arithmetic, Bins, Clip, Cyclic, HashBucket, Haversine, MinMax, Number, OneHot, Standardize},
    ingest::Ingest,
    online::Online,
    parity::ParitySample,
    time::Zone,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    parquet::arrow::ArrowWriter,
};
use hdrhistogram::Histogram;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::Zipf;

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

const ENTITIES: i64 = 1_000_000;
const FEATURES: usize = 50;
const READS: usize = 1_000_000;
/// How long before a request is due its thread wakes up.
const WAKING: Duration = Duration::from_micros(120);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let Some((dir, tasks)) = args.split_first() else {
        println!("usage: cargo bench --bench serving -- DIR [load|get|many|encode|refresh|parity|peers ...]");
        return ExitCode::SUCCESS;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match runtime.block_on(bench(Path::new(dir), tasks)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn first() -> AsOf {
    "2014-01-01".parse().unwrap()
}

fn set() -> asof::Result<FeatureSet> {
    let set = FeatureSet::entities("wide_v1", "wide").key("id");
    (0..FEATURES).fold(set, |set, i| set.lookup(&format!("f{i}"), &format!("f{i}"))).build()
}

async fn open(root: &Path, resident: bool) -> Anyhow<FeatureStore> {
    let options = StoreOptions::default();
    open_with(root, if resident { options.resident_rows() } else { options }).await
}

async fn open_with(root: &Path, options: StoreOptions) -> Anyhow<FeatureStore> {
    let store = FeatureStore::open_with(root.to_str().unwrap(), options).await?;
    store.register(set()?)?;
    Ok(store)
}

/// A fact for each entity.
fn write_facts(path: &Path) -> Anyhow<()> {
    let mut rng = StdRng::seed_from_u64(9);
    let at: Vec<i64> = (0..ENTITIES).map(|_| first().micros() + rng.random_range(0..30 * 86_400) * 1_000_000).collect();
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("id".into(), Arc::new((0..ENTITIES).collect::<Int64Array>())),
        ("at".into(), Arc::new(TimestampMicrosecondArray::from(at))),
    ];
    for i in 0..FEATURES {
        let values: Float64Array = (0..ENTITIES).map(|_| Some(rng.random::<f64>())).collect();
        columns.push((format!("f{i}"), Arc::new(values)));
    }
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

async fn prepare(dir: &Path) -> Anyhow<PathBuf> {
    let root = dir.join("serving");
    if root.join("asof.json").exists() {
        return Ok(root);
    }
    std::fs::create_dir_all(&root)?;
    let facts = dir.join("serving.parquet");
    if !facts.exists() {
        write_facts(&facts)?;
    }
    let store = open(&root, false).await?;
    let table = FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone(Zone::UTC).key("id");
    store.ingest(&Ingest::new("wide", table)?.from(facts.to_str().unwrap())).await?;
    store.materialize("wide_v1", first().plus(TimeDelta::days(40))).await?;
    Ok(root)
}

async fn bench(dir: &Path, tasks: &[String]) -> Anyhow<()> {
    let root = prepare(dir).await?;
    if let [task, as_of] = tasks
        && task == "train"
    {
        let store = open_with(&root, StoreOptions::default().cache_in_memory()).await?;
        store.materialize("wide_v1", as_of.parse()?).await?;
        return Ok(());
    }
    let (forms, tasks): (Vec<&String>, Vec<&String>) =
        tasks.iter().partition(|word| ["paged", "resident"].contains(&word.as_str()));
    let wanted = |task: &str| tasks.is_empty() || tasks.iter().any(|wanted| *wanted == task);
    if wanted("load") {
        load(&root).await?;
    }
    for resident in [false, true] {
        let form = if resident { "resident" } else { "paged" };
        if !forms.is_empty() && !forms.iter().any(|wanted| *wanted == form) {
            continue;
        }
        let store = open(&root, resident).await?;
        let online = store.online("wide_v1").await?;
        if wanted("get") {
            get(form, &online)?;
        }
        if wanted("many") {
            many(form, &online)?;
        }
        if wanted("refresh") {
            let cases = tasks.iter().skip_while(|task| **task != "refresh").skip(1).map(|case| (*case).clone());
            beside::refresh(form, &root, resident, &online, &cases.collect::<Vec<_>>()).await?;
        }
    }
    if wanted("encode") {
        encode().await?;
    }
    if wanted("parity") {
        parity(&root).await?;
    }
    if wanted("peers") {
        peers(&root).await?;
    }
    Ok(())
}

fn kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Building the file, and opening one that is there.
async fn load(root: &Path) -> Anyhow<()> {
    std::fs::remove_dir_all(root.join(".asof-cache"))?;
    let store = open(root, false).await?;
    let start = Instant::now();
    store.online("wide_v1").await?;
    let seconds = start.elapsed().as_secs_f64();
    println!("load: {seconds:.2} s, {:.0} rows/s", ENTITIES as f64 / seconds);
    drop(store);
    for resident in [false, true] {
        let store = open(root, resident).await?;
        let (before, start) = (kib("VmRSS"), Instant::now());
        let online = store.online("wide_v1").await?;
        black_box(online.get(&[7.into()])?.number("f7")?);
        let opened = start.elapsed();
        for id in 0..100_000 {
            black_box(online.get(&[(id * 7 % ENTITIES).into()])?);
        }
        let form = if resident { "resident" } else { "paged" };
        let memory = kib("VmRSS").saturating_sub(before) / 1024;
        println!("open, first answer ({form}): {:.1} ms; memory after 100,000 reads: {memory} MiB", opened.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// Keys of requests.
fn keys(zipf: bool, count: usize) -> Vec<Value> {
    let mut rng = StdRng::seed_from_u64(3);
    let law = Zipf::new(ENTITIES as f64, 1.0).unwrap();
    // Popular entities lie anywhere.
    let key = |rng: &mut StdRng| match zipf {
        true => (rng.sample(law) as i64).wrapping_mul(7_919) % ENTITIES,
        false => rng.random_range(0..ENTITIES),
    };
    (0..count).map(|_| key(&mut rng).into()).collect()
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).unwrap()
}

fn print(what: &str, latencies: &Histogram<u64>) {
    let us = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{what}: p50 {:.2} us, p99 {:.2} us, p99.9 {:.2} us, max {:.0} us ({} requests)",
        us(0.5),
        us(0.99),
        us(0.999),
        us(1.0),
        latencies.len()
    );
}

/// Requests one after the other.
fn closed(keys: &[Value], mut request: impl FnMut(&Value)) -> Histogram<u64> {
    let mut latencies = histogram();
    keys.iter().take(keys.len() / 10).for_each(&mut request);
    for key in keys {
        let start = Instant::now();
        request(key);
        latencies.saturating_record(start.elapsed().as_nanos() as u64);
    }
    latencies
}

/// Requests at a rate, whose latencies count from when they were due.
fn open_loop(keys: &[Value], per_second: u64, request: impl FnMut(&Value)) -> Histogram<u64> {
    open_loop_with(keys, per_second, request, |_, ()| {})
}

/// As [`open_loop`]; `after` hears the latency of each request, and what the request returned.
fn open_loop_with<T>(
    keys: &[Value],
    per_second: u64,
    mut request: impl FnMut(&Value) -> T,
    mut after: impl FnMut(Duration, T),
) -> Histogram<u64> {
    let (mut latencies, every) = (histogram(), Duration::from_nanos(1_000_000_000 / per_second));
    let start = Instant::now();
    for (number, key) in keys.iter().enumerate() {
        let due = start + every * number as u32;
        // Sleeping takes a little longer than asked for. A service sleeps, too, and does not take a core while it waits.
        if let Some(rest) = due.checked_duration_since(Instant::now() + WAKING) {
            std::thread::sleep(rest);
        }
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        let answer = request(key);
        let latency = due.elapsed();
        latencies.saturating_record(latency.as_nanos() as u64);
        after(latency, answer);
    }
    latencies
}

fn get(form: &str, online: &Online) -> Anyhow<()> {
    let mut out = [0.0; FEATURES];
    for (law, zipf) in [("uniform", false), ("zipf", true)] {
        let keys = keys(zipf, READS);
        let read = |key: &Value| drop(black_box(online.get(std::slice::from_ref(key)).unwrap()));
        print(&format!("get, {form}, {law}, closed"), &closed(&keys, read));
        let latencies = closed(&keys, |key| {
            black_box(online.get_into(std::slice::from_ref(key), &mut out).unwrap());
        });
        print(&format!("get_into, {form}, {law}, closed"), &latencies);
        let rate = 100_000;
        print(&format!("get, {form}, {law}, open at {rate}/s"), &open_loop(&keys, rate, read));
    }
    Ok(())
}

fn many(form: &str, online: &Online) -> Anyhow<()> {
    for (law, zipf) in [("uniform", false), ("zipf", true)] {
        let keys = keys(zipf, READS);
        let batches: Vec<Vec<[Value; 1]>> = keys.chunks(500).map(|keys| keys.iter().map(|key| [key.clone()]).collect()).collect();
        let mut latencies = histogram();
        for batch in &batches {
            let start = Instant::now();
            black_box(online.get_many(batch)?);
            latencies.saturating_record(start.elapsed().as_nanos() as u64);
        }
        print(&format!("get_many of 500, {form}, {law}"), &latencies);
    }
    Ok(())
}

/// A request through ten encoders, of which some were fitted.
async fn encode() -> Anyhow<()> {
    const ROWS: i64 = 10_000;
    let dir = tempfile::tempdir()?;
    let mut rng = StdRng::seed_from_u64(4);
    let float = |rng: &mut StdRng, from: f64, to: f64| -> ArrayRef {
        Arc::new((0..ROWS).map(|_| Some(rng.random_range(from..to))).collect::<Float64Array>())
    };
    let kinds: StringArray = (0..ROWS).map(|i| Some(["a", "b", "c"][i as usize % 3])).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("at", Arc::new(TimestampMicrosecondArray::from((0..ROWS).map(|i| first().micros() + i).collect::<Vec<_>>()))),
        ("x", float(&mut rng, 0.0, 10.0)),
        ("y", float(&mut rng, 0.0, 10.0)),
        ("lat", float(&mut rng, 40.0, 41.0)),
        ("lon", float(&mut rng, -74.0, -73.0)),
        ("lat2", float(&mut rng, 40.0, 41.0)),
        ("lon2", float(&mut rng, -74.0, -73.0)),
        ("kind", Arc::new(kinds)),
        ("fare", float(&mut rng, 0.0, 10.0)),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let file = dir.path().join("rows.parquet");
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&file)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    let store = FeatureStore::open_with(dir.path().join("root").to_str().unwrap(), StoreOptions::default()).await?;
    let table = FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone(Zone::UTC);
    store.ingest(&Ingest::new("rows", table)?.from(file.to_str().unwrap())).await?;
    let set = FeatureSet::rows("ten_v1", "SELECT * FROM rows").table("rows").event_time("at");
    let set = set
        .encode(Number::of("x"))
        .encode(Clip::of("y", 1.0, 9.0).named("clipped"))
        .encode(Arithmetic::minus("x", "y", "difference"))
        .encode(Haversine::between(["lat", "lon"], ["lat2", "lon2"], "km"))
        .encode(Cyclic::hour_of_day("at", Zone::UTC))
        .encode(HashBucket::of("kind", 16).named("bucket"))
        .encode(Bins::of("x", [2.0, 4.0, 6.0]).named("bin"))
        .encode_fitted(Standardize::of("x").named("standard"))
        .encode_fitted(MinMax::of("y").named("scaled"))
        .encode_fitted(OneHot::of("kind", ["a", "b"]).named("kind_is"));
    store.register(set.label("fare").build()?)?;
    store.materialize("ten_v1", first().plus(TimeDelta::days(1))).await?;
    let online = store.online("ten_v1").await?;
    let mut latencies = histogram();
    for i in 0..110_000_i64 {
        let request: Vec<(&str, Value)> = vec![
            ("at", first().plus(TimeDelta::seconds(i)).into()),
            ("x", (i as f64 % 10.0).into()),
            ("y", (i as f64 % 7.0).into()),
            ("lat", 40.5.into()),
            ("lon", (-73.5).into()),
            ("lat2", 40.7.into()),
            ("lon2", (-73.9).into()),
            ("kind", "b".into()),
        ];
        let start = Instant::now();
        black_box(online.encode_row(&request)?);
        if i >= 10_000 {
            latencies.saturating_record(start.elapsed().as_nanos() as u64);
        }
    }
    print("encode_row, ten encoders", &latencies);
    Ok(())
}

/// All rows through the service and through training.
async fn parity(root: &Path) -> Anyhow<()> {
    let store = open(root, false).await?;
    let start = Instant::now();
    let report = store.verify_parity("wide_v1", first().plus(TimeDelta::days(40)), ParitySample::all()).await?;
    println!("{report}\nparity: {:.1} s", start.elapsed().as_secs_f64());
    assert!(report.is_equal());
    Ok(())
}

/// The same rows in sled and in redb: 400 bytes under eight.
async fn peers(root: &Path) -> Anyhow<()> {
    let store = open(root, false).await?;
    let online = store.online("wide_v1").await?;
    let dir = tempfile::tempdir()?;
    let sled = sled::Config::new().path(dir.path().join("sled")).cache_capacity(1 << 30).open()?;
    let redb = redb::Database::create(dir.path().join("redb"))?;
    let table = redb::TableDefinition::<i64, &[u8]>::new("rows");
    let mut out = [0.0; FEATURES];
    for from in (0..ENTITIES).step_by(100_000) {
        let writing = redb.begin_write()?;
        {
            let mut rows = writing.open_table(table)?;
            for id in from..from + 100_000 {
                online.get_into(&[id.into()], &mut out)?;
                let bytes: Vec<u8> = out.iter().flat_map(|x| x.to_le_bytes()).collect();
                sled.insert(id.to_be_bytes(), bytes.as_slice())?;
                rows.insert(id, bytes.as_slice())?;
            }
        }
        writing.commit()?;
    }
    sled.flush()?;
    let id = |key: &Value| match key {
        Value::Int(id) => *id,
        _ => 0,
    };
    for (law, zipf) in [("uniform", false), ("zipf", true)] {
        let keys = keys(zipf, READS);
        let latencies = closed(&keys, |key| drop(black_box(sled.get(id(key).to_be_bytes()).unwrap().unwrap().to_vec())));
        print(&format!("sled's get, {law}, closed"), &latencies);
        let reading = redb::ReadableDatabase::begin_read(&redb)?;
        let rows = reading.open_table(table)?;
        let latencies = closed(&keys, |key| drop(black_box(rows.get(id(key)).unwrap().unwrap().value().to_vec())));
        print(&format!("redb's get, {law}, closed"), &latencies);
    }
    Ok(())
}
