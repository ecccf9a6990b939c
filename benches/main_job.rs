//! Benchmarks of the main job: loading, materializing, finding a materialization again, and serving.
//!
//! ```text
//! cargo bench --bench main_job
//! ```
#![allow(clippy::unwrap_used, reason = "a bench stops at the first error")]
#![allow(missing_docs, reason = "criterion's macros write functions without docs")]

use std::{hint::black_box, path::Path};

use asof::{AsOf, FeatureStore, Materialization, StoreOptions, Value, catalog::FactTable, catalog::KnownAt, ingest::Ingest};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::Runtime;

#[path = "../examples/data/taxi.rs"]
#[allow(dead_code, unreachable_pub)]
mod taxi;

const TRIPS_PER_MONTH: u32 = 25_000;
const ROWS: u64 = 12 * TRIPS_PER_MONTH as u64;

async fn open(root: &Path) -> FeatureStore {
    let options = StoreOptions::default().cache_in_memory();
    let store = FeatureStore::open_with(root.to_str().unwrap(), options).await.unwrap();
    store.register(asof_features::taxi_v1().unwrap()).unwrap();
    store.register(asof_features::zone_demand_v1().unwrap()).unwrap();
    store
}

async fn load(store: &FeatureStore, trips: &Path) {
    let table = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse().unwrap());
    store.ingest(&Ingest::new("nyc_taxi", table).unwrap().from(trips.to_str().unwrap())).await.unwrap();
}

async fn materialize(store: &FeatureStore, set: &str) -> Materialization {
    let end_of_year: AsOf = "2015-01-01T05:00:00Z".parse().unwrap();
    store.materialize(set, end_of_year).await.unwrap()
}

fn main_job(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let trips = tempfile::tempdir().unwrap();
    taxi::write_csv(&taxi::Config { trips_per_month: TRIPS_PER_MONTH, ..Default::default() }, trips.path()).unwrap();

    let mut group = criterion.benchmark_group("300,000 trips");
    group.sample_size(10).throughput(Throughput::Elements(ROWS));
    let empty = || {
        let root = tempfile::tempdir().unwrap();
        let store = runtime.block_on(open(root.path()));
        (root, store)
    };
    let loaded = || {
        let (root, store) = empty();
        runtime.block_on(load(&store, trips.path()));
        (root, store)
    };
    type Store = (TempDir, FeatureStore);
    group.bench_function("load CSV", |b| {
        b.iter_batched(
            empty,
            |(root, store): Store| {
                runtime.block_on(load(&store, trips.path()));
                root
            },
            BatchSize::PerIteration,
        );
    });
    for set in ["taxi_v1", "zone_demand_v1"] {
        group.bench_function(format!("materialize {set}"), |b| {
            b.iter_batched(
                loaded,
                |(root, store): Store| {
                    runtime.block_on(materialize(&store, set));
                    root
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();

    let (_root, store) = loaded();
    let made = runtime.block_on(materialize(&store, "taxi_v1"));
    runtime.block_on(materialize(&store, "zone_demand_v1"));
    let (rows, zones) =
        runtime.block_on(async { (store.online_for(&made).await.unwrap(), store.online("zone_demand_v1").await.unwrap()) });
    let mut group = criterion.benchmark_group("one call");
    group.bench_function("materialize again", |b| b.iter(|| runtime.block_on(materialize(&store, "taxi_v1")).id()));
    group.bench_function("online get", |b| b.iter(|| zones.get(black_box(&[Value::Int(161)])).unwrap()));
    group.bench_function("online encode_row", |b| {
        b.iter(|| rows.encode_row(black_box(&[("trip_distance", 2.5.into())])).unwrap())
    });
    group.finish();
}

criterion_group!(benches, main_job);
criterion_main!(benches);
