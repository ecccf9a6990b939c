//! What a move builds, and what it asks of those who read meanwhile. That a group moves in one step is tested in `live`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use asof::{Aggregate, AsOf, FeatureSet, FeatureStore, StoreOptions, Value, feature_set::Source, storage::Locations};
use datafusion::arrow::array::{ArrayRef, StringArray};
use object_store::{GetOptions, GetResult, memory::InMemory, path::Path as Key};
use tempfile::TempDir;
use tokio::{runtime::Builder, sync::Semaphore};

use crate::{
    any_key::{second, table},
    intercepted_store::{Intercept, Intercepted},
    support::temp_dir,
    training::{floats, instants, integers, known_at_once},
};

/// More rows than a batch of the published files holds.
const VISITS: i64 = 5_000;

/// Visits of shoppers to shops, one a second, and a score of each shop.
async fn tables(dir: &TempDir, store: &FeatureStore) {
    let all = 0..VISITS;
    let names: StringArray = all.clone().map(|n| (n % 7 > 0).then(|| "ä".repeat(n as usize % 11))).collect();
    let visits: [(&str, ArrayRef); 5] = [
        ("shopper", integers(all.clone().map(Some))),
        ("shop", integers(all.clone().map(|n| Some(n % 40)))),
        ("at", instants(all.clone().map(|n| Some(second(n).micros())))),
        ("spent", floats(all.clone().map(|n| (n % 5 > 0).then_some(n as f64 / 3.0)))),
        ("name", Arc::new(names)),
    ];
    let scores = [
        ("shop", integers((0..50).map(Some))),
        ("at", instants((0..50).map(|n| Some(second(n).micros())))),
        ("score", floats((0..50).map(|n| Some(f64::from(n))))),
    ];
    table(dir, store, "visits", &visits, known_at_once()).await;
    table(dir, store, "scores", &scores, known_at_once()).await;
}

/// Rows by shopper and shop with texts, and rows by shop alone for pairs that never met.
fn pairs() -> FeatureSet {
    let scores = Source::of("scores").on("shop").lookup("score", "score");
    let set = FeatureSet::entities("pairs_v1", "visits").key("shopper").key("shop");
    let set = set.lookup("name", "name").lookup("spent", "spent").all_before([Aggregate::count().named("n")]);
    set.also(scores).build().unwrap()
}

async fn opened(at: &str, options: StoreOptions) -> FeatureStore {
    let store = FeatureStore::open_with(at, options).await.unwrap();
    store.register(pairs()).unwrap();
    store
}

/// The served files of a cache directory by their names.
fn files(cache: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(cache.join("served")).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_builds_the_file_that_opening_builds() {
    let (dir, caches) = (temp_dir(), [temp_dir(), temp_dir()]);
    let root = dir.path().join("store");
    let [mover, opener] = [0, 1].map(|i| StoreOptions::default().cache_dir(caches[i].path()));
    let mover = opened(root.to_str().unwrap(), mover).await;
    tables(&dir, &mover).await;
    let instants: [AsOf; 3] = [2_000, 4_000, VISITS + 1].map(second);
    mover.materialize("pairs_v1", instants[0]).await.unwrap();
    let live = mover.live("pairs_v1").await.unwrap();
    for at in &instants[1..] {
        mover.materialize("pairs_v1", *at).await.unwrap();
        assert!(live.refresh().await.unwrap().has_moved());
    }
    let opener = opened(root.to_str().unwrap(), opener).await;
    for made in mover.materializations("pairs_v1").await.unwrap().published {
        opener.online_for(&opener.open_materialization(made.id).await.unwrap()).await.unwrap();
    }
    let [moved, opened] = caches.map(|cache| files(cache.path()));
    assert_eq!(moved.len(), 3);
    assert!(moved == opened, "{:?} and {:?}", moved.keys(), opened.keys());
    // The files hold what they should: a pair that met, and one of which only the shop is known.
    let (met, never_met) = (live.get(&[4_001.into(), 1.into()]).unwrap(), live.get(&[4_001.into(), 49.into()]).unwrap());
    assert_eq!((met.number("n").unwrap(), met.number("spent").unwrap()), (Some(1.0), Some(4_001.0 / 3.0)));
    assert_eq!((never_met.number("n").unwrap(), never_met.number("score").unwrap()), (Some(0.0), Some(49.0)));
}

/// Answers requests for part files of the root only as far as permits go, once it is closed.
struct Gate {
    inner: InMemory,
    is_closed: AtomicBool,
    is_waited_at: AtomicBool,
    permits: Semaphore,
}

#[async_trait::async_trait]
impl Intercept for Gate {
    fn inner(&self) -> &InMemory {
        &self.inner
    }

    async fn get(&self, path: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        if self.is_closed.load(Ordering::SeqCst) && path.as_ref().contains("/part-") {
            self.is_waited_at.store(true, Ordering::SeqCst);
            self.permits.acquire().await.unwrap().forget();
        }
        object_store::ObjectStore::get_opts(&self.inner, path, options).await
    }
}

/// On one worker thread, so that a move that kept it would keep the reads from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn reads_are_answered_while_a_move_stands_still() {
    let gate = Gate { inner: InMemory::new(), is_closed: false.into(), is_waited_at: false.into(), permits: Semaphore::new(0) };
    let gate = Arc::new(Intercepted(gate));
    let locations = Locations::default().mount("memory://gate", gate.clone()).unwrap();
    let dir = temp_dir();
    let store = opened("memory://gate/root", StoreOptions::default().cache_in_memory().locations(locations)).await;
    tables(&dir, &store).await;
    store.materialize("pairs_v1", second(2_000)).await.unwrap();
    let live = store.live("pairs_v1").await.unwrap();
    store.materialize("pairs_v1", second(VISITS + 1)).await.unwrap();
    gate.is_closed.store(true, Ordering::SeqCst);
    let refresh = tokio::spawn({
        let live = live.clone();
        async move { live.refresh().await }
    });
    let read = |key: i64| live.get(&[Value::Int(key), Value::Int(key % 40)]).unwrap().number("n").unwrap();
    // The old rows answer, however far the move has come: before its first request, and after each one.
    let mut steps = 0;
    while !refresh.is_finished() {
        if gate.is_waited_at.swap(false, Ordering::SeqCst) {
            for key in (0..VISITS).step_by(97) {
                assert_eq!(read(key), Some(f64::from(u8::from(key < 2_000))), "{key} at step {steps}");
            }
            assert_eq!(live.status().as_of, second(2_000));
            steps += 1;
            gate.permits.add_permits(1);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(refresh.await.unwrap().unwrap().has_moved());
    assert!(steps > 1, "the move made {steps} requests for parts");
    assert_eq!(read(VISITS - 1), Some(1.0));
}

/// Remembers the threads that asked for part files.
struct Asking {
    inner: InMemory,
    threads: Mutex<BTreeSet<String>>,
}

#[async_trait::async_trait]
impl Intercept for Asking {
    fn inner(&self) -> &InMemory {
        &self.inner
    }

    async fn get(&self, path: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        if path.as_ref().contains("/part-") {
            self.threads.lock().unwrap().insert(thread::current().name().unwrap_or("?").into());
        }
        object_store::ObjectStore::get_opts(&self.inner, path, options).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_moves_on_the_threads_of_the_runtime_in_which_it_began() {
    let asking = Arc::new(Intercepted(Asking { inner: InMemory::new(), threads: Mutex::default() }));
    let locations = Locations::default().mount("memory://asking", asking.clone()).unwrap();
    let dir = temp_dir();
    let store = opened("memory://asking/root", StoreOptions::default().cache_in_memory().locations(locations)).await;
    tables(&dir, &store).await;
    store.materialize("pairs_v1", second(2_000)).await.unwrap();
    let live = store.live("pairs_v1").await.unwrap();
    let background = Builder::new_multi_thread().worker_threads(1).thread_name("moves").enable_all().build().unwrap();
    store.materialize("pairs_v1", second(3_000)).await.unwrap();
    asking.threads.lock().unwrap().clear();
    let watch = {
        let _inside = background.enter();
        live.watch(Duration::from_millis(5)).unwrap()
    };
    let mut waited = 0;
    while live.status().as_of != second(3_000) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        waited += 1;
        assert!(waited < 6_000, "it did not move");
    }
    assert_eq!(*asking.threads.lock().unwrap(), BTreeSet::from(["moves".to_owned()]));
    drop(watch);
    background.shutdown_background();
}
