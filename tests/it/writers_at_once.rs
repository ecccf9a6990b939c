//! Writers of one root at the same time: stores, processes, and a writer that is overtaken right before it publishes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use asof::{
    AsOf, FeatureStore, StoreOptions,
    ingest::{CompactOptions, Expect, Ingest, LoadMode, LoadOutcome, OnViolation, PartitionOutcome},
};
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectStore, PutOptions, PutPayload, PutResult, memory::InMemory, path::Path as Key};

use crate::{
    crash::{AS_OF, RIDES_SEEN, SETS, load_of, open, published, rides},
    intercepted_store::{Intercept, Intercepted},
    support::{bits, cells, child, load_trips, store_with, temp_dir, write_text, write_trips},
};

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_load_into_one_table_at_once_and_nothing_is_lost() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 20);
    let open = || store_with(root.path(), StoreOptions::default().cache_in_memory());
    let months: Vec<PathBuf> = (1..=6).map(|m| data.path().join(format!("taxi_2014-{m:02}.csv"))).collect();
    let load_all = |store: FeatureStore, months: Vec<PathBuf>| {
        tokio::spawn(async move {
            for month in months {
                let report = load_trips(&store, &month).await;
                assert_eq!((report.outcome, report.rows), (LoadOutcome::Loaded, 20));
            }
        })
    };
    let (a, b) = (open().await, open().await);
    let (a, b) = tokio::join!(load_all(a, months[..3].to_vec()), load_all(b, months[3..].to_vec()));
    a.and(b).unwrap();
    let version = open().await.describe("nyc_taxi").await.unwrap();
    assert_eq!((version.version(), version.loads().len(), version.rows()), (6, 6, 120));
    for file in version.files() {
        let bytes = fs::read(root.path().join("facts/default/nyc_taxi").join(&file.path)).unwrap();
        assert_eq!(bytes.len() as u64, file.identity.size);
    }
}

/// Copies some months of trips into a folder of their own.
fn months_in(from: &Path, to: &Path, months: std::ops::RangeInclusive<u32>) {
    for month in months {
        let name = format!("taxi_2014-{month:02}.csv");
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// Every file of the newest version is there, whole, and holds its rows; each content was loaded once.
async fn is_sound(root: &Path, loads: usize, rows: u64) {
    let store = store_with(root, StoreOptions::default().cache_in_memory()).await;
    let version = store.describe("nyc_taxi").await.unwrap();
    assert_eq!((version.loads().len(), version.rows()), (loads, rows));
    for file in version.files() {
        let bytes = fs::read(root.join("facts/default/nyc_taxi").join(&file.path)).unwrap();
        assert_eq!(Some(asof::name::ContentId::of(&bytes)), file.identity.hash, "{}", file.path);
    }
    let distinct = "SELECT count(*), count(DISTINCT pickup_at) FROM nyc_taxi";
    let distinct = cells(&store, distinct, "2100-01-01".parse().unwrap()).await;
    assert!(distinct[0].starts_with(&format!("{rows} ")), "{distinct:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_load_into_one_table_at_once_and_nothing_is_lost_or_twice() {
    let (data, one, two, root) = (temp_dir(), temp_dir(), temp_dir(), temp_dir());
    write_trips(data.path(), 20);
    // Four months are in both folders.
    months_in(data.path(), one.path(), 1..=8);
    months_in(data.path(), two.path(), 5..=12);
    let children = [child("ingest_each", root.path(), one.path()), child("ingest_each", root.path(), two.path())];
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    is_sound(root.path(), 12, 240).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_load_and_compact_one_table_at_once_lose_nothing() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 20);
    let january = fs::read_to_string(data.path().join("taxi_2014-01.csv")).unwrap();
    let (header, trips) = january.split_once('\n').unwrap();
    // Many small loads of one month, so that there is always something to compact.
    let parts = temp_dir();
    for (i, trip) in trips.lines().enumerate() {
        write_text(parts.path(), &format!("part{i:02}.csv"), format!("{header}\n{trip}\n"));
    }
    let mut compacting = child("compact", root.path(), parts.path());
    let mut loading = child("ingest_each", root.path(), parts.path());
    assert!(loading.wait().unwrap().success());
    assert!(compacting.try_wait().unwrap().is_none(), "the compaction has failed");
    // Killed wherever it is.
    compacting.kill().unwrap();
    compacting.wait().unwrap();
    is_sound(root.path(), 20, 20).await;
    let store = store_with(root.path(), StoreOptions::default().cache_in_memory()).await;
    let version = store.compact("nyc_taxi", &CompactOptions::default()).await.unwrap().version;
    println!("version {} with {} files", version.version(), version.files().len());
    assert!(version.version() > 20, "nothing was compacted meanwhile");
    is_sound(root.path(), 20, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_make_one_materialization_at_once_with_one_id_and_the_same_bits() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 40);
    let open = || store_with(root.path(), StoreOptions::default().cache_in_memory());
    load_trips(&open().await, data.path()).await;
    for set in SETS {
        let make = |store: FeatureStore| {
            tokio::spawn(async move {
                let made = store.materialize(set, AS_OF.parse::<AsOf>().unwrap()).await.unwrap();
                made.verify().await.unwrap();
                (made.id(), bits(&made).await)
            })
        };
        let (a, b) = tokio::join!(make(open().await), make(open().await));
        assert_eq!(a.unwrap(), b.unwrap());
    }
    let manifests = published(root.path()).into_iter().filter(|name| name.ends_with("manifest.json")).count();
    assert_eq!(manifests, SETS.len());
}

/// Calls `meanwhile` once, right before the table's version is published.
struct Interrupted {
    inner: InMemory,
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
}

#[async_trait::async_trait]
impl Intercept for Interrupted {
    fn inner(&self) -> &InMemory {
        &self.inner
    }

    async fn put(&self, key: &Key, bytes: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        if key.as_ref().contains("catalog/") {
            let meanwhile = self.meanwhile.lock().unwrap().take();
            if let Some(meanwhile) = meanwhile {
                meanwhile.await;
            }
        }
        self.inner.put_opts(key, bytes, options).await
    }
}

/// A store of which another one, on the same root, loads `file` at the moment before it publishes.
async fn overtaken(memory: &InMemory, file: &Path) -> FeatureStore {
    overtaken_by(memory, load_of(file)).await
}

async fn overtaken_by(memory: &InMemory, load: Ingest) -> FeatureStore {
    let other = open(Arc::new(memory.clone())).await.unwrap();
    let meanwhile = async move { drop(other.ingest(&load).await.unwrap()) }.boxed();
    let interrupted = Interrupted { inner: memory.clone(), meanwhile: Mutex::new(Some(meanwhile)) };
    open(Arc::new(Intercepted(interrupted))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_overtaken_by_another_file_adds_to_it() {
    let data = temp_dir();
    let [january, february] = rides(data.path());
    let memory = InMemory::new();
    let report = overtaken(&memory, &february).await.ingest(&load_of(&january)).await.unwrap();
    assert_eq!((report.outcome, report.rows, report.version.version()), (LoadOutcome::Loaded, 3, 2));
    assert_eq!((report.version.loads().len(), report.version.rows()), (2, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_overtaken_by_itself_says_so() {
    let data = temp_dir();
    let [january, _] = rides(data.path());
    let memory = InMemory::new();
    let report = overtaken(&memory, &january).await.ingest(&load_of(&january)).await.unwrap();
    assert_eq!((report.version.version(), report.version.rows()), (1, 3));
    // It was the other store that loaded the rows.
    assert_eq!((report.outcome, report.rows), (LoadOutcome::AlreadyLoaded, 3));
    let rows = open(Arc::new(memory)).await.unwrap().sql("SELECT * FROM rides", RIDES_SEEN.parse().unwrap()).await.unwrap();
    assert_eq!(rows.count().await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_of_keys_that_is_overtaken_compares_them_again() {
    let data = temp_dir();
    let [january, february] = rides(data.path());
    let memory = InMemory::new();
    let unique = |file: &Path| load_of(file).expect(Expect::unique(["zone"]).on_violation(OnViolation::Quarantine));
    // Either file by itself has one zone twice or none; together they share a zone.
    let report = overtaken_by(&memory, unique(&february)).await.ingest(&unique(&january)).await.unwrap();
    assert_eq!((report.rows, report.quarantined, report.version.rows()), (1, 2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_is_overtaken_keeps_what_the_other_did() {
    let data = temp_dir();
    let [january, february] = rides(data.path());
    let third = write_text(data.path(), "third.csv", "at,zone,miles,fare\n2014-02-20 10:00:00,7,1,1\n");
    for (load, outcome, files, rows) in [
        // Its new file is not among those that were merged.
        (load_of(Path::new(&third)), PartitionOutcome::Merged, 3, 6),
        // It took them away.
        (load_of(Path::new(&third)).mode(LoadMode::ReplacePartitions), PartitionOutcome::Overtaken, 2, 3),
    ] {
        let memory = InMemory::new();
        let store = open(Arc::new(memory.clone())).await.unwrap();
        for file in [&january, &february] {
            store.ingest(&load_of(file)).await.unwrap();
        }
        let report = overtaken_by(&memory, load).await.compact("rides", &CompactOptions::default()).await.unwrap();
        assert_eq!(report.partitions.iter().map(|p| p.outcome).collect::<Vec<_>>(), [outcome]);
        assert_eq!((report.version.files().len(), report.version.rows()), (files, rows));
        let seen = store.sql("SELECT * FROM rides", RIDES_SEEN.parse().unwrap()).await.unwrap();
        assert_eq!(seen.count().await.unwrap() as u64, rows);
    }
}
