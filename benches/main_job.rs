//! Benchmarks of the main job: loading, materializing, finding a materialization again, and serving.
//!
//! ```text
//! cargo bench --bench main_job
//! ```
#![allow(clippy::print_stderr, reason = "a program prints")]
#![allow(missing_docs, reason = "criterion's macros write functions without docs")]

use std::{fmt::Display, hint::black_box, path::Path};

use asof::{AsOf, FeatureStore, Materialization, StoreOptions, Value, catalog::FactTable, catalog::KnownAt, ingest::Ingest};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::Runtime;

#[path = "../examples/data/taxi.rs"]
#[allow(dead_code, unreachable_pub)]
mod taxi;

const TRIPS_PER_MONTH: u32 = 25_000;
const ROWS: u64 = 12 * TRIPS_PER_MONTH as u64;

/// What a step made; an error ends the bench with its message.
fn done<T>(step: Result<T, impl Display>) -> T {
    step.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        std::process::exit(1)
    })
}

async fn open(root: &Path) -> FeatureStore {
    let options = StoreOptions::default().cache_in_memory();
    let store = done(FeatureStore::open_with(&root.to_string_lossy(), options).await);
    done(store.register(done(asof_features::taxi_v1())));
    done(store.register(done(asof_features::zone_demand_v1())));
    store
}

async fn load(store: &FeatureStore, trips: &Path) {
    let table = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone(done("America/New_York".parse()));
    done(store.ingest(&done(Ingest::new("nyc_taxi", table)).from(trips.to_string_lossy())).await);
}

async fn materialize(store: &FeatureStore, set: &str) -> Materialization {
    let end_of_year: AsOf = done("2015-01-01T05:00:00Z".parse());
    done(store.materialize(set, end_of_year).await)
}

fn main_job(criterion: &mut Criterion) {
    let runtime = done(Runtime::new());
    let trips = done(tempfile::tempdir());
    done(taxi::write_csv(&taxi::Config { trips_per_month: TRIPS_PER_MONTH, ..Default::default() }, trips.path()));

    let mut group = criterion.benchmark_group("300,000 trips");
    group.sample_size(10).throughput(Throughput::Elements(ROWS));
    let empty = || {
        let root = done(tempfile::tempdir());
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
        runtime.block_on(async { (done(store.online_for(&made).await), done(store.online("zone_demand_v1").await)) });
    let mut group = criterion.benchmark_group("one call");
    group.bench_function("materialize again", |b| b.iter(|| runtime.block_on(materialize(&store, "taxi_v1")).id()));
    group.bench_function("online get", |b| b.iter(|| done(zones.get(black_box(&[Value::Int(161)])))));
    group.bench_function("online encode_row", |b| b.iter(|| done(rows.encode_row(black_box(&[("trip_distance", 2.5.into())])))));
    group.finish();
}

criterion_group!(benches, main_job);
criterion_main!(benches);
