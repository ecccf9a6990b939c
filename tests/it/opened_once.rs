//! A table is opened once for one question, and read once for all sources of a set that are over it.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
};

use asof::{Aggregate, AsOf, FeatureSet, FeatureStore, StoreOptions, feature_set::Source, temporal::Spine};
use chrono::TimeDelta;
use datafusion::prelude::SessionContext;
use tempfile::TempDir;

use crate::{
    bulk_reads::{Seen, watched},
    object_stores::put,
    support::{temp_dir, write_parquet},
    training::{batch, floats, instants, integers, known_at_once},
};

const AT: AsOf = AsOf::from_micros(1_000);

/// A store with the table `f` of so many files, and what is asked of the files' store.
pub(crate) async fn store_of_watched_files(files: i64) -> (TempDir, FeatureStore, Arc<Seen>) {
    let (locations, at, seen) = watched(8);
    let dir = temp_dir();
    for file in 0..files {
        let name = format!("{file}.parquet");
        let columns = [
            ("k", integers((0..10).map(|i| Some(i % 3)))),
            ("k2", integers((0..10).map(|i| Some(i % 2)))),
            ("at", instants((0..10).map(|i| Some(file * 100 + i)))),
            ("v", floats((0..10).map(|i| Some(i as f64)))),
        ];
        write_parquet(&dir.path().join(&name), &columns, None);
        put(&at, &name, fs::read(dir.path().join(&name)).unwrap()).await;
    }
    let root = dir.path().join("root");
    let options = StoreOptions::default().locations(locations);
    let store = FeatureStore::open_with(root.to_str().unwrap(), options).await.unwrap();
    store.register_table("f", "s3://watched/place", known_at_once()).await.unwrap();
    (dir, store, seen)
}

/// How many requests for files of facts it takes to materialize a set, and how many to plan its training set.
async fn requests(set: FeatureSet) -> (usize, usize) {
    let (_dir, store, seen) = store_of_watched_files(2).await;
    store.register(set).unwrap();
    let so_far = || seen.requests.load(Ordering::SeqCst);

    let before = so_far();
    let made = store.materialize("pairs_v1", AT).await.unwrap();
    assert_eq!(made.rows(), 6);
    let materializing = so_far() - before;

    let columns = [("k", integers([Some(1)])), ("k2", integers([Some(1)])), ("at", instants([Some(50)]))];
    let spine = SessionContext::new().read_batch(batch(columns.to_vec())).unwrap();
    let before = so_far();
    store.training_set("pairs_v1", Spine::new(spine, "at")).await.unwrap();
    (materializing, so_far() - before)
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sources_over_a_table_take_no_more_requests_than_one() {
    let day = |name: &str| (TimeDelta::days(1), [Aggregate::sum("v").named(name)]);
    let set = || {
        let (length, sum) = day("sum");
        FeatureSet::entities("pairs_v1", "f").key("k").key("k2").lookup("v", "last").window(length, sum)
    };
    let by_one_key = |key: &str| {
        let (length, sum) = day(&format!("sum_{key}"));
        Source::of("f").on(key).lookup("v", &format!("last_{key}")).window(length, sum)
    };
    let (materializing, training) = requests(set().build().unwrap()).await;
    assert!(materializing >= 4 && training >= 2, "{materializing} and {training} for two files");
    let several = set().also(by_one_key("k")).also(by_one_key("k2")).build().unwrap();
    assert_eq!(requests(several).await, (materializing, training));
}
