//! What several themes need: small trips, stores in temporary directories, rows as text to compare.

#![allow(unreachable_pub)]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use asof::{
    AsOf, Error, FeatureStore, Materialization, Result, StoreOptions,
    catalog::{FactTable, KnownAt, TableVersion},
    extract::Extract,
    gc::Gc,
    ingest::{CompactOptions, Expect, Ingest, LoadReport, OnViolation},
};
use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        datatypes::DataType,
        util::pretty::pretty_format_batches,
    },
    parquet::{arrow::ArrowWriter, file::properties::WriterProperties},
};
use futures::TryStreamExt;
use tempfile::TempDir;

use crate::{crash, incremental, live, parity, parity_reports, serving, taxi};

/// A directory that is gone with the test.
pub fn temp_dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Taxi trips of 2014 as monthly CSV files in `dir`, from a seed.
pub fn write_trips(dir: &Path, trips_per_month: u32) {
    taxi::write_csv(&taxi::Config { trips_per_month, ..Default::default() }, dir).unwrap();
}

/// How the tests declare taxi trips.
pub fn trips_table() -> FactTable {
    FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse().unwrap())
}

/// A store that knows both published sets, its cache in memory.
pub async fn store(root: &Path) -> FeatureStore {
    store_with(root, StoreOptions::default().cache_in_memory()).await
}

pub async fn store_with(root: &Path, options: StoreOptions) -> FeatureStore {
    let store = FeatureStore::open_with(root.to_str().unwrap(), options).await.unwrap();
    register(&store);
    store
}

pub fn register(store: &FeatureStore) {
    store.register(asof_features::taxi_v1().unwrap()).unwrap();
    store.register(asof_features::zone_demand_v1().unwrap()).unwrap();
}

/// Loads all CSV files of a folder into `nyc_taxi`.
pub async fn load_trips(store: &FeatureStore, dir: &Path) -> LoadReport {
    let load = Ingest::new("nyc_taxi", trips_table()).unwrap().from(dir.to_str().unwrap());
    store.ingest(&load).await.unwrap()
}

/// All rows of a materialization.
pub async fn rows(materialization: &Materialization) -> Vec<RecordBatch> {
    materialization.batches().await.unwrap().try_collect().await.unwrap()
}

/// All rows as bytes, bit for bit: floats keep their bits, rows their order; batches mean nothing.
pub async fn bits(materialization: &Materialization) -> Vec<u8> {
    bits_of(&rows(materialization).await)
}

pub fn bits_of(batches: &[RecordBatch]) -> Vec<u8> {
    use datafusion::arrow::{compute::concat_batches, ipc::writer::StreamWriter};
    let Some(first) = batches.first() else { return Vec::new() };
    let whole = concat_batches(&first.schema(), batches).unwrap();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &whole.schema()).unwrap();
    writer.write(&whole).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

/// Every file below a directory, as sorted paths relative to it; the cache is left out.
pub fn files_below(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, base: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, base, found);
            } else {
                found.push(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.retain(|path| !path.starts_with(".asof-cache"));
    found.sort();
    found
}

/// A table version as JSON without entity tags, which differ between two copies of one root.
pub fn version_text(version: &TableVersion) -> String {
    let mut value = serde_json::to_value(version).unwrap();
    for file in value["files"].as_array_mut().unwrap() {
        file.as_object_mut().unwrap().remove("e_tag");
    }
    serde_json::to_string_pretty(&value).unwrap()
}

/// Changes what a sealed file says, and gives it the checksum that it should have then.
pub fn reseal(path: &Path, change: impl Fn(&mut serde_json::Value)) {
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    value.as_object_mut().unwrap().remove("checksum");
    change(&mut value);
    let text = value.to_string();
    let text = text.strip_suffix('}').unwrap();
    let checksum = blake3::hash(text.as_bytes()).to_hex();
    fs::write(path, format!("{text},\n  \"checksum\": \"{checksum}\"\n}}\n")).unwrap();
}

/// A file with this text.
pub fn write_text(dir: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A Parquet file with these rows.
pub fn write_batch(dir: &Path, name: &str, rows: &RecordBatch) -> String {
    let columns: Vec<(&str, ArrayRef)> =
        rows.schema_ref().fields().iter().zip(rows.columns()).map(|(f, c)| (f.name().as_str(), c.clone())).collect();
    write_parquet(&dir.join(name), &columns, None);
    dir.join(name).to_str().unwrap().to_owned()
}

/// Copies all files below a directory.
pub fn copy_dir(from: &Path, to: &Path) {
    for name in files_below(from) {
        fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// What a child process is to do, where, and with which source files.
const CHILD_JOB: &str = "ASOF_TEST_CHILD_JOB";

/// This test binary again, as another process that does one job; see [`child_job`].
pub fn child(job: &str, root: &Path, data: &Path) -> Child {
    child_command(&[], job, root, data).spawn().unwrap()
}

/// As [`child`], to be changed before it is spawned, and behind another program that runs it.
pub fn child_command(behind: &[&str], job: &str, root: &Path, data: &Path) -> Command {
    let own = std::env::current_exe().unwrap();
    let mut command = match behind {
        [] => Command::new(own),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(own);
            command
        }
    };
    command
        .args(["--exact", "support::child_job", "--nocapture"])
        .env(CHILD_JOB, format!("{job}|{}|{}", root.display(), data.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The other side of [`child`]: without a job in the environment there is nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn child_job() {
    let Ok(job) = std::env::var(CHILD_JOB) else { return };
    let [job, root, data] = job.split('|').collect::<Vec<_>>()[..] else { panic!("{job}") };
    // Processes at work at once have a cache each.
    let options = match job {
        "ingest_each"
        | "compact"
        | "add_even_partitions"
        | "add_odd_partitions"
        | "rides_each"
        | "rides_unique"
        | "gc_each"
        | "record_model"
        | "tiles"
        | "serve_shops" => StoreOptions::default().cache_in_memory(),
        _ => StoreOptions::default(),
    };
    let store = store_with(Path::new(root), options).await;
    match job {
        "ingest_each" => {
            for name in files_below(Path::new(data)) {
                load_trips(&store, &Path::new(data).join(name)).await;
            }
        }
        "rides_each" => {
            for name in files_below(Path::new(data)) {
                // Many writers at once: whoever is overtaken too often tries again.
                while let Err(error) = store.ingest(&crash::load_of(&Path::new(data).join(&name))).await {
                    assert!(matches!(error, Error::Contention { .. }), "{error}");
                }
            }
        }
        "rides_unique" => {
            let unique = Expect::unique(["zone"]).on_violation(OnViolation::Quarantine);
            let load = crash::load_of(Path::new(data)).expect(unique);
            assert_eq!(store.ingest(&load).await.unwrap().quarantined, 1);
        }
        // Until it is killed.
        "gc_each" => loop {
            store.gc(&Gc::delete()).await.unwrap();
        },
        // Until it is killed.
        "compact" => loop {
            match store.compact("nyc_taxi", &CompactOptions::default()).await {
                Ok(_) | Err(Error::UnknownTable { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                Err(error) => panic!("{error}"),
            }
        },
        "load_rides" => drop(store.ingest(&crash::load_of(Path::new(data))).await.unwrap()),
        "register_rides" => {
            let table = asof::catalog::FactTable::new("at", asof::catalog::KnownAt::after(chrono::TimeDelta::zero()));
            drop(store.register_table("registered", data, table.zone("UTC".parse().unwrap())).await.unwrap());
        }
        "ingest" => drop(load_trips(&store, Path::new(data)).await),
        "materialize" => {
            for set in ["taxi_v1", "zone_demand_v1"] {
                store.materialize(set, data.parse().unwrap()).await.unwrap();
            }
        }
        "materialize_every_encoder" => {
            store.register(parity::every_encoder(parity_reports::EVERY_COLUMN)).unwrap();
            for set in ["every_encoder_v1", "zone_demand_v1", "taxi_v1"] {
                store.materialize(set, data.parse().unwrap()).await.unwrap();
            }
        }
        "record_model" => {
            let made = store.materialize("zone_demand_v1", data.parse().unwrap()).await.unwrap();
            let new = asof::models::NewModel::new("demand", &made).artifact(b"weights".to_vec());
            drop(store.record_model(new).await.unwrap());
        }
        "add_even_partitions" | "add_odd_partitions" => {
            let first = usize::from(job == "add_odd_partitions");
            for part in (first..16).step_by(2) {
                store.execute(&format!("ALTER TABLE t ADD PARTITION (part = {part})")).await.unwrap();
            }
        }
        "ctas" => {
            let sql = "SELECT pickup_zone, total_amount FROM nyc_taxi";
            let extract = Extract::new("zones", sql).unwrap().as_of(data.parse().unwrap());
            for _ in 0..3 {
                store.ctas_with(&extract).await.unwrap();
            }
        }
        "tiles" => incremental::materialize_hours(Path::new(root), data.parse().unwrap()).await,
        "serve_shops" => serving::build_again_and_again(Path::new(root), Path::new(data)).await,
        "visits" => live::publish_visits(&store, Path::new(data)).await,
        "gc" => drop(store.gc(&Gc::delete().grace(chrono::TimeDelta::zero())).await.unwrap()),
        "hold" => {
            fs::write(data, "opened").unwrap();
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        other => panic!("{other}"),
    }
}

/// A trip that a test makes up; times in microseconds UTC.
#[derive(Debug, Clone)]
pub struct Trip {
    pub pickup_us: i64,
    pub dropoff_us: i64,
    pub passengers: i64,
    pub miles: f64,
    pub zone: i64,
    pub fare: f64,
}

/// A trip of ten minutes, a passenger and two miles.
pub fn trip(pickup: &str, fare: f64) -> Trip {
    let pickup_us = instant(pickup).micros();
    Trip { pickup_us, dropoff_us: pickup_us + 600_000_000, passengers: 1, miles: 2.0, zone: 1, fare }
}

pub fn instant(text: &str) -> AsOf {
    text.parse().unwrap()
}

/// The load of one CSV file with these trips, which it writes.
pub fn made_load(file: &Path, trips: &[Trip]) -> Ingest {
    let mut text = "pickup_at,dropoff_at,passenger_count,trip_distance,pickup_zone,fare_amount,total_amount\n".to_owned();
    for t in trips {
        let (pickup, dropoff) = (AsOf::from_micros(t.pickup_us), AsOf::from_micros(t.dropoff_us));
        text += &format!("{pickup},{dropoff},{},{},{},{},{}\n", t.passengers, t.miles, t.zone, t.fare, t.fare + 1.0);
    }
    fs::write(file, text).unwrap();
    let mut load = Ingest::new("nyc_taxi", trips_table()).unwrap().from(file.to_str().unwrap());
    for column in ["passenger_count", "pickup_zone"] {
        load = load.column_type(column, DataType::Int64);
    }
    for column in ["trip_distance", "fare_amount", "total_amount"] {
        load = load.column_type(column, DataType::Float64);
    }
    load
}

/// A store that holds these trips, and its root.
pub async fn store_of(trips: &[Trip]) -> (TempDir, FeatureStore) {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    store.ingest(&made_load(&data.path().join("trips.csv"), trips)).await.unwrap();
    (root, store)
}

/// The answer to a query as a table of text.
pub async fn answer(store: &FeatureStore, sql: &str, as_of: AsOf) -> Result<String> {
    let batches = store.sql(sql, as_of).await?.collect().await.map_err(Error::from)?;
    Ok(pretty_format_batches(&batches)?.to_string())
}

/// The cells of an answer, row by row, without its header and frame.
pub async fn cells(store: &FeatureStore, sql: &str, as_of: AsOf) -> Vec<String> {
    let text = answer(store, sql, as_of).await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with('|')).skip(1);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" ")).collect()
}

pub async fn count(store: &FeatureStore, as_of: AsOf) -> usize {
    cells(store, "SELECT count(*) FROM nyc_taxi", as_of).await[0].parse().unwrap()
}

/// Writes a Parquet file with these columns, and the folders it lies in.
pub fn write_parquet(file: &Path, columns: &[(&str, ArrayRef)], properties: Option<WriterProperties>) {
    let batch = RecordBatch::try_from_iter(columns.iter().map(|(name, array)| (*name, Arc::clone(array)))).unwrap();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(file).unwrap(), batch.schema(), properties).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}
