//! What several themes need: small trips, stores in temporary directories, rows as text to compare.

use std::{fs, path::Path};

use asof::{
    FeatureStore, Materialization, StoreOptions,
    catalog::{FactTable, KnownAt},
    ingest::{Ingest, LoadReport},
};
use datafusion::arrow::array::RecordBatch;
use futures::TryStreamExt;
use tempfile::TempDir;

use crate::taxi;

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
