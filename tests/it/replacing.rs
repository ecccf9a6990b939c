//! Loads that replace: whole months, and the older content of a source that has changed; nothing else ever goes.

use std::path::Path;

use asof::{
    Error, FeatureStore,
    catalog::{FactTable, KnownAt},
    ingest::{CompactOptions, Ingest, LoadMode, LoadOutcome, Month, OnChangedSource, OnOutsideMonth, SourceOutcome},
};
use chrono::TimeDelta;

use crate::support::{cells, instant, store, temp_dir, write_text};

fn rides(from: impl AsRef<Path>) -> Ingest {
    let table = FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone("UTC".parse().unwrap());
    Ingest::new("rides", table).unwrap().from(from.as_ref().to_str().unwrap())
}

/// A file with a ride of this id at noon of each of these days.
fn file(dir: &Path, name: &str, rows: &[(&str, i64)]) -> String {
    let rows: String = rows.iter().map(|(day, id)| format!("{day} 12:00:00,{id}\n")).collect();
    write_text(dir, name, format!("at,id\n{rows}"))
}

async fn ids(store: &FeatureStore) -> String {
    cells(store, "SELECT id FROM rides ORDER BY id", instant("2100-01-01")).await.join(" ")
}

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_month_is_replaced_in_one_commit_and_all_others_stay() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let autumn = file(data.path(), "a.csv", &[("2014-10-01", 1), ("2014-11-01", 2), ("2014-11-02", 3), ("2014-12-01", 4)]);
    store.ingest(&rides(&autumn)).await.unwrap();
    let before = store.describe("rides").await.unwrap();
    let november = file(data.path(), "november.csv", &[("2014-11-05", 20), ("2014-11-06", 21)]);
    let replace = rides(&november).mode(LoadMode::ReplacePartitions);
    let report = store.ingest(&replace).await.unwrap();
    assert_eq!((report.outcome, report.version.version(), report.rows), (LoadOutcome::Loaded, 2, 2));
    assert_eq!(ids(&store).await, "1 4 20 21");
    // The report says what is gone, and so does a later load of the source that had brought it.
    let [gone] = &report.replaced[..] else { panic!("{:?}", report.replaced) };
    assert_eq!((gone.month, gone.rows, gone.sources.as_slice()), (month("2014-11"), 2, &["a.csv".to_owned()][..]));
    let again = store.ingest(&rides(&autumn)).await.unwrap();
    assert_eq!((again.outcome, again.replaced.len()), (LoadOutcome::AlreadyLoaded, 0));
    assert_eq!(again.sources[0].outcome, SourceOutcome::AlreadyLoadedInPart(vec![month("2014-11")]));
    assert_eq!(again.sources[0].to_string(), "a.csv: loaded before; its rows of 2014-11 were replaced since");
    let kept = |month: &str| before.files().iter().find(|f| f.path.contains(month)).unwrap().clone();
    assert!(report.version.files().contains(&kept("month=10/")) && report.version.files().contains(&kept("month=12/")));
    // The same once more is nothing to do; after something was added to the month it is.
    assert_eq!(store.ingest(&replace).await.unwrap().outcome, LoadOutcome::AlreadyLoaded);
    store.ingest(&rides(file(data.path(), "more.csv", &[("2014-11-07", 22)]))).await.unwrap();
    assert_eq!(ids(&store).await, "1 4 20 21 22");
    assert_eq!(store.ingest(&replace).await.unwrap().outcome, LoadOutcome::Loaded);
    assert_eq!(ids(&store).await, "1 4 20 21");
    // A file without rows empties no month, whatever its name.
    let empty = rides(file(data.path(), "rides_2014-11.csv", &[])).mode(LoadMode::ReplacePartitions);
    store.ingest(&empty).await.unwrap();
    assert_eq!(ids(&store).await, "1 4 20 21");
    // A load whose rows are all gone can be loaded again.
    assert_eq!(store.ingest(&rides(data.path().join("more.csv"))).await.unwrap().outcome, LoadOutcome::Loaded);
    assert_eq!(ids(&store).await, "1 4 20 21 22");
    let loads = store.describe("rides").await.unwrap();
    assert_eq!(loads.loads().len(), 4);
    assert_eq!(loads.loads()[0].replaced_months, [month("2014-11")]);
}

#[tokio::test]
async fn a_row_outside_the_months_never_replaces_the_month_it_fell_into() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    store.ingest(&rides(file(data.path(), "old.csv", &[("2008-02-01", 1), ("2008-02-02", 2), ("2014-11-01", 3)]))).await.unwrap();
    let outside = [("2014-11-05", 20), ("2014-11-06", 21), ("2008-02-29", 22)];
    let load = || rides(file(data.path(), "rides_2014-11.csv", &outside)).mode(LoadMode::ReplacePartitions);
    let refused = store.ingest(&load()).await.unwrap_err().to_string();
    for told in ["replaces 2014-11", "1 of its rows", "2008-02", "rides_2014-11.csv` line 4", "ReplaceMonths"] {
        assert!(refused.contains(told), "{told}: {refused}");
    }
    assert_eq!(ids(&store).await, "1 2 3");
    let report = store.ingest(&load().on_outside_month(OnOutsideMonth::Quarantine)).await.unwrap();
    assert_eq!((report.rows, report.quarantined), (2, 1));
    assert_eq!(ids(&store).await, "1 2 20 21");
    let quarantine = store.read_parquet(root.path().join(report.quarantine_file.unwrap()).to_str().unwrap()).await.unwrap();
    assert_eq!(quarantine.count().await.unwrap(), 1);
    store.ingest(&load().on_outside_month(OnOutsideMonth::Append)).await.unwrap();
    assert_eq!(ids(&store).await, "1 2 20 21 22");
    // Named, it is replaced; a month that is named and has no rows is empty afterwards.
    let named = LoadMode::ReplaceMonths(vec![month("2008-02"), month("2014-11")]);
    store.ingest(&load().mode(named.clone())).await.unwrap();
    assert_eq!(ids(&store).await, "20 21 22");
    let only = rides(file(data.path(), "b.csv", &[("2014-11-01", 30)])).mode(named);
    store.ingest(&only).await.unwrap();
    assert_eq!(ids(&store).await, "30");
    assert_eq!(store.ingest(&only).await.unwrap().outcome, LoadOutcome::AlreadyLoaded);
}

#[tokio::test]
async fn a_changed_source_is_refused_or_replaced_or_another_file_as_asked() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    file(data.path(), "a.csv", &[("2014-10-01", 1), ("2014-11-01", 2)]);
    file(data.path(), "b.csv", &[("2014-11-02", 3), ("2014-12-01", 4)]);
    store.ingest(&rides(data.path())).await.unwrap();
    let b = file(data.path(), "b.csv", &[("2014-11-02", 30), ("2015-01-01", 40)]);
    let refused = store.ingest(&rides(data.path())).await.unwrap_err();
    assert!(matches!(&refused, Error::ChangedSource { source_name, .. } if source_name == "b.csv"), "{refused}");
    // By itself it cannot be taken out: the rows of a.csv lie in the same files.
    let alone = rides(&b).on_changed_source(OnChangedSource::Replace);
    let refused = store.ingest(&alone).await.unwrap_err().to_string();
    assert!(refused.contains("`a.csv`"), "{refused}");
    assert_eq!(ids(&store).await, "1 2 3 4");
    // With its folder it can, in one commit; a second run is nothing to do.
    let folder = rides(data.path()).on_changed_source(OnChangedSource::Replace);
    let report = store.ingest(&folder).await.unwrap();
    assert_eq!((report.outcome, report.rows, report.version.version()), (LoadOutcome::Loaded, 4, 2));
    assert_eq!(ids(&store).await, "1 2 30 40");
    assert_eq!(report.version.loads().len(), 1);
    assert_eq!(store.ingest(&folder).await.unwrap().outcome, LoadOutcome::AlreadyLoaded);
    // The older content is no longer loaded, and could come back.
    file(data.path(), "b.csv", &[("2014-11-02", 3), ("2014-12-01", 4)]);
    store.ingest(&folder).await.unwrap();
    assert_eq!(ids(&store).await, "1 2 3 4");
    // Another file that shares the name is added.
    let elsewhere = temp_dir();
    let other = file(elsewhere.path(), "b.csv", &[("2014-11-09", 5)]);
    store.ingest(&rides(&other).on_changed_source(OnChangedSource::Append)).await.unwrap();
    assert_eq!(ids(&store).await, "1 2 3 4 5");
}

#[tokio::test]
async fn what_compaction_has_mixed_goes_together_or_not_at_all() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    for (name, day, id) in [("a.csv", "2014-11-01", 1), ("b.csv", "2014-11-02", 2), ("c.csv", "2014-12-01", 3)] {
        store.ingest(&rides(file(data.path(), name, &[(day, id)]))).await.unwrap();
    }
    store.compact("rides", &CompactOptions::default()).await.unwrap();
    let b = file(data.path(), "b.csv", &[("2014-11-02", 20)]);
    let refused = store.ingest(&rides(&b).on_changed_source(OnChangedSource::Replace)).await.unwrap_err().to_string();
    assert!(refused.contains("`a.csv`") && !refused.contains("`c.csv`"), "{refused}");
    let both = rides(&b).from(data.path().join("a.csv").to_str().unwrap()).on_changed_source(OnChangedSource::Replace);
    store.ingest(&both).await.unwrap();
    assert_eq!(ids(&store).await, "1 3 20");
    // Where months of the older load were replaced since, its source cannot bring them back.
    let c = file(data.path(), "c.csv", &[("2014-12-01", 30), ("2015-01-01", 31)]);
    store.ingest(&rides(&c).on_changed_source(OnChangedSource::Replace)).await.unwrap();
    let december = file(data.path(), "d.csv", &[("2014-12-05", 32)]);
    store.ingest(&rides(&december).mode(LoadMode::ReplacePartitions)).await.unwrap();
    assert_eq!(ids(&store).await, "1 20 31 32");
    let c = file(data.path(), "c.csv", &[("2014-12-01", 40), ("2015-01-01", 41)]);
    let refused = store.ingest(&rides(&c).on_changed_source(OnChangedSource::Replace)).await.unwrap_err().to_string();
    assert!(refused.contains("2014-12") && refused.contains("ReplacePartitions"), "{refused}");
    assert_eq!(ids(&store).await, "1 20 31 32");
}

#[tokio::test]
async fn months_of_one_year_are_replaced_by_their_number() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let first = file(data.path(), "a.csv", &[("2014-03-01", 1), ("2014-04-01", 2)]);
    store.ingest(&rides(first).by_month_of_one_year()).await.unwrap();
    let second = rides(file(data.path(), "b.csv", &[("2014-03-02", 3)])).by_month_of_one_year();
    store.ingest(&second.mode(LoadMode::ReplacePartitions)).await.unwrap();
    assert_eq!(ids(&store).await, "2 3");
}
