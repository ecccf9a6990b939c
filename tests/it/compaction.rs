//! Compaction: fewer files, exactly the same rows, and nothing that another writer did is lost.

use std::{collections::BTreeMap, fs, path::Path};

use asof::{
    Error, FeatureStore, Resources, StoreOptions,
    ingest::{CompactOptions, Expect, PartitionOutcome},
};
use datafusion::arrow::util::pretty::pretty_format_batches;
use proptest::prelude::*;

use crate::support::{Trip, files_below, instant, made_load, store, store_with, temp_dir, trip, trips_table, write_trips};

/// All rows, in an order that does not depend on the files; floats are written so that their bits can be read back.
async fn rows(store: &FeatureStore) -> String {
    let order = "pickup_at, dropoff_at, passenger_count, trip_distance, pickup_zone, fare_amount, total_amount";
    let rows = store.sql(&format!("SELECT * FROM nyc_taxi ORDER BY {order}"), instant("2100-01-01")).await.unwrap();
    pretty_format_batches(&rows.collect().await.unwrap()).unwrap().to_string()
}

async fn load_each(store: &FeatureStore, dir: &Path, loads: &[Vec<Trip>]) {
    for (i, trips) in loads.iter().enumerate() {
        store.ingest(&made_load(&dir.join(format!("{i:03}.csv")), trips)).await.unwrap();
    }
}

fn files_of(version: &asof::catalog::TableVersion) -> BTreeMap<String, usize> {
    let mut files = BTreeMap::new();
    for file in version.files() {
        *files.entry(file.path.rsplit_once('/').unwrap().0.to_owned()).or_default() += 1;
    }
    files
}

#[tokio::test]
async fn small_files_become_one_a_month_with_the_same_rows_and_a_second_run_does_nothing() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let loads: Vec<Vec<Trip>> = (1..=9)
        .map(|day| {
            vec![
                trip(&format!("2014-02-0{day}T12:00:00Z"), 0.1 * f64::from(day)),
                trip(&format!("2014-01-0{day}T12:00:00Z"), -0.0),
            ]
        })
        .collect();
    load_each(&store, data.path(), &loads).await;
    let (before, had) = (rows(&store).await, store.describe("nyc_taxi").await.unwrap());
    let report = store.compact("nyc_taxi", &CompactOptions::default()).await.unwrap();
    let told: Vec<_> =
        report.partitions.iter().map(|p| (p.path.as_str(), p.files_before, p.files_after, p.rows, p.outcome)).collect();
    let merged = PartitionOutcome::Merged;
    assert_eq!(told, [("year=2014/month=1", 9, 1, 9, merged), ("year=2014/month=2", 9, 1, 9, merged)]);
    assert_eq!((report.version.version(), report.version.files().len(), report.version.rows()), (10, 2, 18));
    assert_eq!(report.version.loads(), had.loads());
    assert!(report.version.files().iter().all(|file| file.loads.len() == 9));
    assert_eq!(rows(&store).await, before);
    // Readers that pinned the older version still find its files.
    let place = root.path().join("facts/default/nyc_taxi");
    assert!(had.files().iter().all(|file| place.join(&file.path).is_file()));
    let (again, left) = (store.compact("nyc_taxi", &CompactOptions::default()).await.unwrap(), files_below(root.path()));
    assert_eq!((again.version, again.partitions.len()), (report.version, 0));
    assert_eq!(files_below(root.path()), left);
    // What is added later is merged with what is there.
    let more = made_load(&data.path().join("more.csv"), &[trip("2014-01-20T12:00:00Z", 3.0)]);
    store.ingest(&more).await.unwrap();
    let report = store.compact("nyc_taxi", &CompactOptions::default()).await.unwrap();
    assert_eq!(report.partitions.len(), 1);
    assert_eq!(files_of(&report.version).into_values().collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn full_files_are_closed_and_left_alone_whatever_their_size_became() {
    let (data, root) = (temp_dir(), temp_dir());
    let resources = Resources { batch_rows: 10, ..Default::default() };
    let store = store_with(root.path(), StoreOptions::default().cache_in_memory().resources(resources)).await;
    let day = |i: u32| trip(&format!("2014-01-{:02}T{:02}:00:00Z", 1 + i % 28, i / 28), f64::from(i));
    load_each(&store, data.path(), &(0..10).map(|load| (0..20).map(|i| day(load * 20 + i)).collect()).collect::<Vec<_>>()).await;
    let before = rows(&store).await;
    // So small that each batch fills a file, which is much larger on the disk than the estimate, or smaller.
    for file_bytes in [1_000, 4_000, 1 << 20] {
        let options = CompactOptions::default().file_bytes(file_bytes);
        let first = store.compact("nyc_taxi", &options).await.unwrap();
        assert_eq!(rows(&store).await, before);
        let second = store.compact("nyc_taxi", &options).await.unwrap();
        assert!(second.partitions.is_empty(), "{file_bytes}: {first:?} {second:?}");
    }
    let files = files_of(&store.describe("nyc_taxi").await.unwrap());
    assert!(files.values().all(|count| *count == 1), "{files:?}");
}

#[tokio::test]
async fn columns_that_came_later_are_null_in_older_rows() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    load_each(&store, data.path(), &[vec![trip("2014-01-01T12:00:00Z", 1.0)]]).await;
    let wider = data.path().join("wider.csv");
    fs::write(&wider, "pickup_at,dropoff_at,surge\n2014-01-02 12:00:00,2014-01-02 12:30:00,1.5\n").unwrap();
    let load = asof::ingest::Ingest::new("nyc_taxi", trips_table()).unwrap().from(wider.to_str().unwrap());
    store.ingest(&load).await.unwrap();
    let before = rows(&store).await;
    let report = store.compact("nyc_taxi", &CompactOptions::default()).await.unwrap();
    assert_eq!((report.version.files().len(), report.version.rows()), (1, 2));
    assert_eq!(rows(&store).await, before);
}

#[tokio::test]
async fn what_is_not_this_stores_or_has_changed_is_refused() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    load_each(&store, data.path(), &[vec![trip("2014-01-01T12:00:00Z", 1.0)], vec![trip("2014-01-02T12:00:00Z", 1.0)]]).await;
    let place = root.path().join("facts/default/nyc_taxi");
    store.register_table("outside", place.to_str().unwrap(), trips_table()).await.unwrap();
    let options = CompactOptions::default();
    assert!(matches!(store.compact("outside", &options).await, Err(Error::Definition { .. })));
    assert!(matches!(store.set_expectations("outside", &[Expect::not_null("x")]).await, Err(Error::Definition { .. })));
    assert!(matches!(store.compact("nobody", &options).await, Err(Error::UnknownTable { .. })));
    let version = store.describe("nyc_taxi").await.unwrap();
    let file = place.join(&version.files()[0].path);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(store.compact("nyc_taxi", &options).await, Err(Error::FileChanged { .. })));
    fs::remove_file(&file).unwrap();
    assert!(matches!(store.compact("nyc_taxi", &options).await, Err(Error::FileChanged { .. })));
    assert_eq!(store.describe("nyc_taxi").await.unwrap(), version);
}

#[tokio::test]
async fn compaction_spills_where_memory_is_short() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 1_500);
    let resources = Resources { memory_bytes: 1 << 20, ..Default::default() };
    let store = store_with(root.path(), StoreOptions::default().cache_in_memory().resources(resources)).await;
    for month in 1..=3 {
        let january = fs::read_to_string(data.path().join("taxi_2014-01.csv")).unwrap();
        let name = data.path().join(format!("part{month}.csv"));
        let (header, rows) = january.split_once('\n').unwrap();
        let part: Vec<&str> = rows.lines().skip(month - 1).step_by(3).collect();
        fs::write(&name, format!("{header}\n{}\n", part.join("\n"))).unwrap();
        crate::support::load_trips(&store, &name).await;
    }
    let before = store.describe("nyc_taxi").await.unwrap();
    let report = store.compact("nyc_taxi", &CompactOptions::default()).await.unwrap();
    assert_eq!((report.version.rows(), report.version.files().len()), (before.rows(), 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever was loaded in whatever parts: the same rows, files sorted by time, and nothing left to do.
    #[test]
    fn compaction_changes_no_row(
        loads in proptest::collection::vec(proptest::collection::vec((0_i64..90 * 24, 0_u32..1_000), 1..12), 1..6),
        file_bytes in prop_oneof![Just(1_usize), Just(3_000), Just(1 << 20)],
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (data, root) = (temp_dir(), temp_dir());
            let resources = Resources { batch_rows: 4, ..Default::default() };
            let store = store_with(root.path(), StoreOptions::default().cache_in_memory().resources(resources)).await;
            let start = instant("2014-01-01").micros();
            let made = |(load, rows): (usize, &Vec<(i64, u32)>)| -> Vec<Trip> {
                let one = |(row, (hour, fare)): (usize, &(i64, u32))| {
                    let mut trip = trip("2014-01-01T00:00:00Z", f64::from(*fare) / 7.0);
                    trip.pickup_us = start + hour * 3_600_000_000;
                    trip.dropoff_us = trip.pickup_us + 1;
                    // No two loads are the same content.
                    trip.zone = (load * 1_000 + row) as i64;
                    trip
                };
                rows.iter().enumerate().map(one).collect()
            };
            load_each(&store, data.path(), &loads.iter().enumerate().map(made).collect::<Vec<_>>()).await;
            let before = rows(&store).await;
            let options = CompactOptions::default().file_bytes(file_bytes);
            let report = store.compact("nyc_taxi", &options).await.unwrap();
            assert_eq!(rows(&store).await, before);
            for file in report.version.files() {
                let bounds = file.event.unwrap();
                assert!(bounds.min <= bounds.max && file.rows > 0);
            }
            assert!(store.compact("nyc_taxi", &options).await.unwrap().partitions.is_empty());
        });
    }
}
