//! Training sets that are kept: read when facts and definitions are gone, kept once, damaged, and collected.

use std::{collections::BTreeSet, fs};

use asof::{
    Error, FeatureStore, Resources, StoreOptions,
    gc::Gc,
    time::FixedClock,
    training::{Split, TrainingSet},
};
use chrono::TimeDelta;
use futures::TryStreamExt;

use crate::support::{Trip, files_below, instant, made_load, store_with};

use crate::training_sets::{MIDDLE, bits, of_rows, of_spine, register, says, store, trips};

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_set_is_read_when_facts_and_definition_are_gone() {
    let (root, store) = store().await;
    let (train, test) = of_rows(&store, "rides_v1").await.split(Split::by_time(instant(MIDDLE))).await.unwrap();
    let spine = of_spine(&store).await;
    let mut expected = Vec::new();
    for (name, set) in [("rides_train", &train), ("rides_test", &test), ("zones", &spine)] {
        let kept = set.keep(name).await.unwrap();
        assert_eq!(bits(&kept).await, bits(set).await, "{name}");
        assert_eq!(kept.schema().await.unwrap(), set.schema().await.unwrap(), "{name}");
        assert_eq!(kept.summary().await.unwrap(), set.summary().await.unwrap(), "{name}");
        let manifest = kept.manifest().unwrap();
        assert_eq!((manifest.encoders.clone(), manifest.rows), (set.encoders().await.unwrap(), bits(set).await.len() as u64));
        expected.push((name, kept.id().unwrap(), bits(set).await, format!("{:?}", kept.dataset_or_none().await)));
    }
    drop((train, test, spine, store));
    for folder in ["facts", "catalog", "definitions", "materialized", "quality"] {
        let _ = fs::remove_dir_all(root.path().join(folder));
    }

    let later = FixedClock(instant("2040-01-01T00:00:00Z"));
    let store = FeatureStore::open_with(root.path().to_str().unwrap(), StoreOptions::default().cache_in_memory().clock(later));
    let store = store.await.unwrap();
    let report = store.gc(&Gc::delete().grace(TimeDelta::zero())).await.unwrap();
    assert!(report.removed.iter().all(|garbage| !garbage.path.starts_with("training/")), "{report}");
    assert!(report.unknown.iter().all(|path| !path.starts_with("training/")), "{report}");
    for (name, id, rows, dataset) in &expected {
        let kept = store.kept_training_set(name).await.unwrap();
        assert_eq!((kept.id(), &bits(&kept).await), (Some(*id), rows), "{name}");
        assert_eq!(&format!("{:?}", kept.dataset_or_none().await), dataset, "{name}");
        kept.verify().await.unwrap();
        assert!(format!("{kept:?}").contains(&format!("{name}/{id}")), "{kept:?}");
    }

    // What a set of rows has learned cannot be taken back; nothing was learned for a spine.
    let error = store.kept_training_set("rides_train").await.unwrap().split(Split::random(0.5, 1)).await.unwrap_err();
    says(&error, &["learned from all of its rows", "keep the parts"]);
    let (half, other) = store.kept_training_set("zones").await.unwrap().split(Split::random(0.5, 1)).await.unwrap();
    assert_eq!(bits(&half).await.len() + bits(&other).await.len(), 300);

    let error = store.kept_training_set("nothing").await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(store.kept_training_sets("nothing").await.unwrap().is_empty());
    for name in ["", "Rides", "a/b", "../facts"] {
        assert!(matches!(store.kept_training_set(name).await.unwrap_err(), Error::InvalidName { .. }), "{name}");
        assert!(matches!(half.keep(name).await.unwrap_err(), Error::InvalidName { .. }), "{name}");
    }
}

trait DatasetOrNone {
    async fn dataset_or_none(&self) -> Option<asof::training::Dataset>;
}

impl DatasetOrNone for TrainingSet {
    /// The matrices of a set of rows.
    async fn dataset_or_none(&self) -> Option<asof::training::Dataset> {
        match self.origin().labels.is_empty() {
            true => None,
            false => Some(self.dataset("total_amount").await.unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_rows_are_kept_once() {
    let (root, _store) = store().await;
    let at = async |day: u32, partitions, batch_rows| {
        let clock = FixedClock(instant(&format!("2030-01-{day:02}")));
        let resources = Resources { partitions, batch_rows, ..Resources::default() };
        let options = StoreOptions::default().cache_in_memory().clock(clock).resources(resources);
        let store = store_with(root.path(), options).await;
        register(&store);
        store
    };
    let (one, two) = (at(1, 1, 7).await, at(2, 4, 8_192).await);
    let first = of_spine(&one).await.keep("zones").await.unwrap();
    let files = files_below(root.path());
    let again = of_spine(&two).await.keep("zones").await.unwrap();
    assert_eq!(again.id(), first.id());
    assert_eq!(again.manifest(), first.manifest());
    assert_eq!(files_below(root.path()), files);
    // A part of a split is another set, and is the newest.
    let (half, other) = of_spine(&two).await.split(Split::random(0.5, 1)).await.unwrap();
    let (half, other) = (half.keep("zones").await.unwrap(), other.keep("others").await.unwrap());
    assert!(half.id() != first.id() && half.id() != other.id());
    assert_eq!(one.kept_training_set("zones").await.unwrap().id(), half.id());
    let ids: Vec<_> = one.kept_training_sets("zones").await.unwrap().iter().map(TrainingSet::id).collect();
    assert_eq!(ids, [first.id(), half.id()]);
    // The same rows of other facts are another set.
    let rides = of_rows(&one, "plain_v1").await.keep("plain").await.unwrap();
    two.ingest(&made_load(
        &root.path().join("more.csv"),
        &[Trip { pickup_us: instant("2015-01-01").micros(), ..trips()[0].clone() }],
    ))
    .await
    .unwrap();
    assert_eq!(of_rows(&one, "plain_v1").await.keep("plain").await.unwrap().id(), rides.id(), "a later fact is not visible");
    assert_ne!(of_spine(&two).await.keep("zones").await.unwrap().id(), first.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_set_that_was_changed_is_an_error() {
    let (root, store) = store().await;
    let kept = of_rows(&store, "rides_v1").await.keep("rides").await.unwrap();
    let folder = root.path().join(format!("training/rides/{}", kept.id().unwrap()));
    let part = folder.join(&kept.manifest().unwrap().parts[0].name);
    let good = fs::read(&part).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(&part, &bad).unwrap();
    let open = async || store.kept_training_set("rides").await;
    let read = async || open().await.unwrap().batches().await.unwrap().try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(read().await, Error::Corrupt { .. }));
    assert!(matches!(open().await.unwrap().dataframe().await.unwrap_err(), Error::Corrupt { .. }));
    says(&open().await.unwrap().verify().await.unwrap_err(), &["parquet", "keep the training set again"]);
    fs::remove_file(&part).unwrap();
    says(&open().await.unwrap().summary().await.unwrap_err(), &["vanished"]);
    fs::write(&part, &good).unwrap();
    open().await.unwrap().verify().await.unwrap();

    let manifest = folder.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("total_amount", "total_amounts")).unwrap();
    assert!(matches!(open().await.unwrap_err(), Error::Corrupt { .. }));
    // Copied to another name by hand.
    fs::write(&manifest, &text).unwrap();
    let copy = root.path().join(format!("training/others/{}", kept.id().unwrap()));
    fs::create_dir_all(&copy).unwrap();
    fs::write(copy.join("manifest.json"), &text).unwrap();
    says(&store.kept_training_set("others").await.unwrap_err(), &["does not belong to its folder"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_left_behind_is_garbage_and_the_facts_of_a_kept_set_may_go() {
    let (root, store) = store().await;
    let kept = of_rows(&store, "rides_v1").await.keep("rides").await.unwrap();
    let stray = format!("training/rides/{}/part-00000-0123456789abcdef.parquet", "ab".repeat(32));
    fs::create_dir_all(root.path().join(&stray).parent().unwrap()).unwrap();
    fs::write(root.path().join(&stray), "x").unwrap();
    fs::write(root.path().join("training/rides/notes.txt"), "mine").unwrap();
    let _ = store.drop_table("nyc_taxi").await.unwrap();
    let report = store.gc(&Gc::delete().grace(TimeDelta::zero()).keep_versions(1)).await.unwrap();
    let removed: BTreeSet<_> = report.removed.iter().map(|garbage| garbage.path.as_str()).collect();
    assert!(removed.contains(stray.as_str()), "{report}");
    assert!(removed.iter().any(|path| path.starts_with("facts/")), "{report}");
    assert_eq!(report.unknown, ["training/rides/notes.txt"]);
    kept.verify().await.unwrap();
    assert_eq!(store.kept_training_set("rides").await.unwrap().id(), kept.id());
}
