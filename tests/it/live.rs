//! Refreshing while serving: readers see one refresh at a time and never an older one, whatever is published, lost or damaged.
//! Every row says which day it was made of: a materialization as of day `n` has `n` facts of each shop.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, Materialization, StoreOptions, Value,
    catalog::{FactTable, KnownAt},
    name::ContentId,
    online::{Live, LiveGroup, Online, Snapshot},
    storage::Locations,
    time::Clock,
};
use chrono::TimeDelta;
use datafusion::arrow::array::{Float64Array, Int64Array};
use futures::stream::BoxStream;
use object_store::{GetOptions, GetResult, ObjectMeta, memory::InMemory, path::Path as Key};
use tempfile::TempDir;

use crate::{
    intercepted_store::{Intercept, Intercepted},
    s3,
    s3_server::S3Server,
    secrets::Log,
    support::{child, files_below, instant, temp_dir, write_parquet},
    times::utc_micros,
};

const SHOPS: i64 = 30;
const DAYS: i64 = 12;
const SETS: [&str; 3] = ["shops_v1", "towns_v1", "sales_v1"];

fn day(number: i64) -> AsOf {
    instant("2014-03-01").plus(TimeDelta::days(number))
}

fn day_of(made: &Materialization) -> i64 {
    (made.as_of().micros() - day(0).micros()) / TimeDelta::days(1).num_microseconds().unwrap()
}

/// A visit of each shop on each day.
fn write_visits(file: &Path, shops: i64, days: i64) {
    let visits: Vec<(i64, i64)> = (0..days).flat_map(|day| (0..shops).map(move |shop| (day, shop))).collect();
    let integers = |of: fn(&(i64, i64)) -> i64| Int64Array::from_iter_values(visits.iter().map(of));
    let amounts = Float64Array::from_iter_values(visits.iter().map(|(day, shop)| (day * 100 + shop) as f64));
    let columns: [(&str, datafusion::arrow::array::ArrayRef); 4] = [
        ("at", utc_micros(visits.iter().map(|(number, _)| day(*number).micros()))),
        ("shop", Arc::new(integers(|visit| visit.1))),
        ("town", Arc::new(integers(|visit| visit.1))),
        ("amount", Arc::new(amounts)),
    ];
    write_parquet(file, &columns, None);
}

fn register(store: &FeatureStore) {
    let counted = |name: &str, key: &str| {
        FeatureSet::entities(name, "visits").key(key).all_before([Aggregate::count().named("n")]).build().unwrap()
    };
    let shops = counted("shops_v1", "shop");
    let sales = FeatureSet::rows("sales_v1", "SELECT at, shop, amount FROM visits")
        .table("visits")
        .event_time("at")
        .features_of(shops.by(["shop"]))
        .pass(["n"])
        .label("amount");
    store.register(shops).unwrap();
    store.register(counted("towns_v1", "town")).unwrap();
    store.register(sales.build().unwrap()).unwrap();
}

/// A root with the table of the visits, on a disk or in memory.
struct Place {
    data: TempDir,
    root: TempDir,
    at: String,
    locations: Locations,
}

impl Place {
    async fn on_disk() -> Self {
        let root = temp_dir();
        // Below the temporary directory, so that it can be moved away.
        let at = root.path().join("root").to_str().unwrap().to_owned();
        Self::with(root, at, Locations::default(), SHOPS, DAYS).await
    }

    async fn in_memory() -> Self {
        let locations = Locations::default().mount("memory://live", Arc::new(InMemory::new())).unwrap();
        Self::with(temp_dir(), "memory://live/root".into(), locations, SHOPS, DAYS).await
    }

    async fn with(root: TempDir, at: String, locations: Locations, shops: i64, days: i64) -> Self {
        let data = temp_dir();
        write_visits(&data.path().join("visits.parquet"), shops, days);
        let place = Self { data, root, at, locations };
        let declared = FactTable::new("at", KnownAt::after(TimeDelta::zero()));
        let location = place.data.path().to_str().unwrap();
        place.open().await.register_table("visits", location, declared).await.unwrap();
        place
    }

    async fn open(&self) -> FeatureStore {
        self.open_with(StoreOptions::default()).await
    }

    async fn open_with(&self, options: StoreOptions) -> FeatureStore {
        let options = options.cache_in_memory().locations(self.locations.clone());
        let store = FeatureStore::open_with(&self.at, options).await.unwrap();
        register(&store);
        store
    }

    fn path(&self) -> &Path {
        Path::new(&self.at)
    }

    fn move_away(&self) {
        fs::rename(self.path(), self.root.path().join("away")).unwrap();
    }

    fn move_back(&self) {
        fs::rename(self.root.path().join("away"), self.path()).unwrap();
    }

    /// A file of a materialization.
    fn file_of(&self, id: ContentId, ending: &str) -> std::path::PathBuf {
        let id = id.to_string();
        let name = files_below(self.path()).into_iter().find(|name| name.contains(&id) && name.ends_with(ending));
        self.path().join(name.unwrap())
    }
}

async fn publish(store: &FeatureStore, sets: &[&str], number: i64) -> Vec<ContentId> {
    let mut ids = Vec::new();
    for set in sets {
        ids.push(store.materialize(set, day(number)).await.unwrap().id());
    }
    ids
}

/// The day that the rows of a set of entities tell; which row differs from its materialization, if one does.
fn told_by_keys(online: &Online) -> Result<i64, String> {
    let made = online.materialization();
    for shop in [0, 13, SHOPS - 1] {
        let found = online.get(&[Value::Int(shop)]).and_then(|row| row.number("n")).map_err(|e| e.to_string())?;
        if found != Some(day_of(made) as f64) {
            return Err(format!("shop {shop} has {found:?} in {made:?}"));
        }
    }
    Ok(day_of(made))
}

/// The day that the requests of a set of rows tell, which is that of the set that it draws on.
fn told_by_requests(online: &Online) -> Result<i64, String> {
    let drawn = day_of(online.drawn_on()[0]);
    let found = online.encode_row(&[("shop", Value::Int(7))]).and_then(|row| row.number("n")).map_err(|e| e.to_string())?;
    (found == Some(drawn as f64)).then_some(drawn).ok_or_else(|| format!("{found:?} is drawn from day {drawn}"))
}

/// The day of a snapshot of all sets, if they all are of one day and each row is.
fn told_by(snapshot: &Snapshot) -> Result<i64, String> {
    let [shops, towns, sales] = SETS.map(|name| snapshot.set(name).unwrap());
    let days = [told_by_keys(shops)?, told_by_keys(towns)?, told_by_requests(sales)?, day_of(sales.materialization())];
    let is_one = sales.drawn_on()[0].id() == shops.materialization().id() && days.iter().all(|day| *day == days[0]);
    is_one.then_some(days[0]).ok_or_else(|| format!("a mix: {days:?}"))
}

/// Threads that read until they are joined, and that no day may go back for.
struct Readers {
    is_over: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

impl Readers {
    fn start(count: usize, read: impl Fn() -> Result<i64, String> + Clone + Send + 'static) -> Self {
        let (is_over, reads) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let threads = (0..count).map(|_| {
            let (is_over, reads, read) = (is_over.clone(), reads.clone(), read.clone());
            std::thread::spawn(move || {
                let mut last = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let told = read()?;
                    if told < last {
                        return Err(format!("day {told} after day {last}"));
                    }
                    last = told;
                    reads.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let threads = threads.collect();
        Self { is_over, reads, threads }
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    fn join(mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
        assert!(self.reads() > 0);
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come about that {what}");
}

/// A clock that a test sets.
#[derive(Debug, Clone, Default)]
struct Hand(Arc<AtomicI64>);

impl Hand {
    fn set(&self, number: i64) -> AsOf {
        self.0.store(day(number).micros(), Ordering::SeqCst);
        day(number)
    }
}

impl Clock for Hand {
    fn now(&self) -> AsOf {
        AsOf::from_micros(self.0.load(Ordering::SeqCst))
    }
}

// --- moving ------------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_moves_in_one_step_and_what_is_held_goes_on_answering() {
    for place in [Place::in_memory().await, Place::on_disk().await] {
        let store = place.open().await;
        publish(&store, &SETS, 1).await;
        let group = store.live_group(SETS).await.unwrap();
        let mut held = vec![group.current()];
        let readers = Readers::start(2, {
            let group = group.clone();
            move || told_by(&group.current())
        });
        for number in 2..=3 {
            // One by one, so that there are moments at which the root holds a mix.
            let ids = publish(&store, &SETS, number).await;
            let refresh = group.refresh().await.unwrap();
            let mut moved: Vec<_> = refresh.moved.iter().map(|moved| (moved.to, moved.from_as_of, moved.to_as_of)).collect();
            moved.sort_by_key(|(to, ..)| ids.iter().position(|id| id == to));
            let expected: Vec<_> = ids.iter().map(|id| (*id, day(number - 1), day(number))).collect();
            assert_eq!(moved, expected, "{refresh}");
            assert_eq!(told_by(&group.current()), Ok(number));
            held.push(group.current());
            assert!(!group.refresh().await.unwrap().has_moved());
            assert!(Arc::ptr_eq(held.last().unwrap(), &group.current()));
        }
        readers.join();
        // What was taken before answers as it did.
        let told: Vec<_> = held.iter().map(|snapshot| told_by(snapshot)).collect();
        assert_eq!(told, [Ok(1), Ok(2), Ok(3)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_is_drawn_on_moves_alone_and_is_the_same_for_all_that_draw_on_it() {
    let place = Place::in_memory().await;
    let store = place.open().await;
    publish(&store, &["shops_v1", "sales_v1"], 2).await;
    let (alone, group) = (store.live("sales_v1").await.unwrap(), store.live_group(["sales_v1", "shops_v1"]).await.unwrap());
    assert_eq!(told_by_requests(&alone.current()), Ok(2));
    let [third] = publish(&store, &["shops_v1"], 3).await[..] else { panic!() };
    let refresh = alone.refresh().await.unwrap();
    assert_eq!(refresh.moved.iter().map(|m| (m.set.as_str(), m.to)).collect::<Vec<_>>(), [("shops_v1", third)]);
    let now = alone.current();
    assert_eq!((day_of(now.materialization()), told_by_requests(&now)), (2, Ok(3)));
    assert_eq!(alone.status().drawn_on[0].id, third);
    // Two sets of a group move by one move.
    group.refresh().await.unwrap();
    let now = group.current();
    let (sales, shops) = (now.set("sales_v1").unwrap(), now.set("shops_v1").unwrap());
    assert_eq!((sales.drawn_on()[0].id(), shops.materialization().id()), (third, third));
    assert_eq!((told_by_requests(sales), told_by_keys(shops)), (Ok(3), Ok(3)));
    // An older one that is published later is no newer one.
    publish(&store, &["shops_v1"], 1).await;
    assert!(!alone.refresh().await.unwrap().has_moved() && !group.refresh().await.unwrap().has_moved());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_refreshes_at_once_one_moves_and_one_that_is_dropped_changes_nothing() {
    let place = Place::in_memory().await;
    let store = place.open().await;
    publish(&store, &["shops_v1"], 1).await;
    let live = store.live("shops_v1").await.unwrap();
    for number in 2..=4 {
        publish(&store, &["shops_v1"], number).await;
        drop(tokio::time::timeout(Duration::ZERO, live.refresh()).await);
        let before = told_by_keys(&live.current()).unwrap();
        let tasks = (0..8).map(|_| {
            let live = live.clone();
            tokio::spawn(async move { live.refresh().await.unwrap().has_moved() })
        });
        let mut moves = 0;
        for task in tasks.collect::<Vec<_>>() {
            moves += i64::from(task.await.unwrap());
        }
        assert_eq!((before + moves, told_by_keys(&live.current())), (number, Ok(number)));
    }
}

/// The other side of the next test: publishes a day after the other, up to this one.
pub(crate) async fn publish_visits(store: &FeatureStore, last: &Path) {
    register(store);
    for number in 2..=last.to_str().unwrap().parse().unwrap() {
        publish(store, &["shops_v1"], number).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_follows_what_another_process_publishes() {
    let place = Place::on_disk().await;
    let store = place.open().await;
    publish(&store, &["shops_v1"], 1).await;
    let [watched, other] = [store.live("shops_v1").await.unwrap(), store.live("shops_v1").await.unwrap()];
    let watch = watched.watch(Duration::from_millis(5)).unwrap();
    let readers = Readers::start(1, {
        let live = watched.clone();
        move || told_by_keys(&live.current())
    });
    let mut publisher = child("visits", place.path(), Path::new("4"));
    until("the fourth day is served", || day_of(watched.current().materialization()) == 4).await;
    assert!(tokio::task::block_in_place(|| publisher.wait()).unwrap().success());
    readers.join();
    // Each handle moves when it is refreshed.
    assert_eq!(told_by_keys(&other.current()), Ok(1));
    drop(watch);
    tokio::time::sleep(Duration::from_millis(50)).await;
    publish(&store, &["shops_v1"], 5).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(told_by_keys(&watched.current()), Ok(4));
    assert_eq!(other.refresh().await.unwrap().moved[0].to_as_of, day(5));
}

/// As [`a_watch_follows_what_another_process_publishes`], with two handles on S3 that share nothing but the bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_follows_what_is_published_on_s3() {
    let server = S3Server::start("lab").await.unwrap();
    let locations = s3::locations(&server, server.access_key(), server.secret_key());
    let place = Place::with(temp_dir(), "s3://lab/r".into(), locations, SHOPS, DAYS).await;
    let trainer = place.open().await;
    publish(&trainer, &["shops_v1"], 1).await;
    let service = place.open().await;
    let live = service.live("shops_v1").await.unwrap();
    let watch = live.watch(Duration::from_millis(5)).unwrap();
    assert_eq!(told_by_keys(&live.current()), Ok(1));
    for day in [2, 3] {
        publish(&trainer, &["shops_v1"], day).await;
        until("the next day is served", || day_of(live.current().materialization()) == day).await;
        assert_eq!(told_by_keys(&live.current()), Ok(day));
    }
    drop(watch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_count_the_keys_that_they_draw_by() {
    let place = Place::in_memory().await;
    let store = place.open().await;
    publish(&store, &SETS, 2).await;
    let sales = store.online("sales_v1").await.unwrap();
    for (shop, n) in [(7, 2.0), (SHOPS + 100, 0.0), (8, 2.0)] {
        assert_eq!(sales.encode_row(&[("shop", Value::Int(shop))]).unwrap().number("n").unwrap(), Some(n));
    }
    assert_eq!((sales.reads().hits, sales.reads().misses), (2, 1));
}

// --- failing -----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_fails_serves_on_and_tells_since_when() {
    let (place, clock) = (Place::on_disk().await, Hand::default());
    let store = place.open_with(StoreOptions::default().clock(clock.clone())).await;
    publish(&store, &SETS, 1).await;
    let opened = clock.set(2);
    let group = store.live_group(SETS).await.unwrap();
    let health = || {
        let status = group.status();
        assert!(status.iter().all(|s| (s.last_refresh, s.failing_since) == (status[0].last_refresh, status[0].failing_since)));
        (status[0].last_refresh, status[0].failing_since, status[0].last_error.clone())
    };
    let status = &group.status()[0];
    assert_eq!((status.set.as_str(), status.as_of, status.age), ("shops_v1", day(1), TimeDelta::days(1)));
    assert_eq!(status.rows, SHOPS as u64);
    assert!(status.bytes > 0 && !status.is_pinned && status.unreadable == 0);
    assert_eq!(health(), (opened, None, None));

    place.move_away();
    let since = clock.set(3);
    for number in 3..6 {
        clock.set(number);
        let error = group.refresh().await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }) && error.to_string().contains("served on"), "{error}");
        assert_eq!(health(), (opened, Some(since), Some(error.to_string())));
        assert_eq!(told_by(&group.current()), Ok(1));
    }
    place.move_back();
    let again = clock.set(6);
    assert!(!group.refresh().await.unwrap().has_moved());
    assert_eq!(health(), (again, None, None));
    publish(&store, &SETS, 2).await;
    clock.set(7);
    assert_eq!(group.refresh().await.unwrap().moved.len(), 3);
    assert_eq!(told_by(&group.current()), Ok(2));

    // One set of a group cannot be opened: none moves.
    let ids = publish(&store, &SETS, 3).await;
    let part = place.file_of(ids[1], ".parquet");
    let content = fs::read(&part).unwrap();
    fs::write(&part, "gone").unwrap();
    let since = clock.set(8);
    let error = group.refresh().await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!((health().1, told_by(&group.current())), (Some(since), Ok(2)));
    fs::write(&part, content).unwrap();
    assert_eq!(group.refresh().await.unwrap().moved.len(), 3);
    assert_eq!((health().1, told_by(&group.current())), (None, Ok(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_manifest_is_passed_over_and_never_moves_back() {
    let place = Place::on_disk().await;
    let store = place.open().await;
    let mut ids = Vec::new();
    for number in 1..=2 {
        ids.extend(publish(&store, &["shops_v1"], number).await);
    }
    let damage = |id| fs::write(place.file_of(id, "manifest.json"), "{").unwrap();
    damage(ids[1]);
    let live = store.live("shops_v1").await.unwrap();
    assert_eq!((told_by_keys(&live.current()), live.status().unreadable), (Ok(1), 1));
    ids.extend(publish(&store, &["shops_v1"], 3).await);
    live.refresh().await.unwrap();
    assert_eq!(told_by_keys(&live.current()), Ok(3));
    // What is served is damaged, and the newest that can be read is older.
    damage(ids[2]);
    assert!(!live.refresh().await.unwrap().has_moved());
    let status = live.status();
    assert_eq!((told_by_keys(&live.current()), status.unreadable, status.failing_since), (Ok(3), 2, None));
    // None can be read any more.
    damage(ids[0]);
    let error = live.refresh().await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(live.status().failing_since.is_some());
    publish(&store, &["shops_v1"], 4).await;
    live.refresh().await.unwrap();
    assert_eq!((told_by_keys(&live.current()), live.status().unreadable, live.status().last_error), (Ok(4), 3, None));
    // Another handle, opened now, begins with it.
    assert_eq!(told_by_keys(&store.live("shops_v1").await.unwrap().current()), Ok(4));
}

/// One thread, so that the log is of all that the watch does.
#[tokio::test(flavor = "current_thread")]
async fn a_watch_logs_each_change_once() {
    let place = Place::on_disk().await;
    let store = place.open().await;
    publish(&store, &["shops_v1"], 1).await;
    let live = store.live("shops_v1").await.unwrap();
    let log = Log::default();
    let listening = tracing::subscriber::set_default(log.clone());
    let watch = live.watch(Duration::from_millis(2)).unwrap();
    for _ in 0..2 {
        place.move_away();
        until("refreshes fail", || live.status().failing_since.is_some()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        place.move_back();
        until("refreshes succeed", || live.status().failing_since.is_none()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(watch);
    drop(listening);
    let said = log.text();
    let times = |text: &str| said.lines().filter(|line| line.contains(text)).count();
    assert_eq!((times("cannot be refreshed"), times("refreshed again")), (2, 2), "{said}");
}

// --- pinning -----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_set_stays_until_it_is_released() {
    let place = Place::on_disk().await;
    let store = place.open().await;
    let first = publish(&store, &SETS, 1).await;
    publish(&store, &SETS, 2).await;
    let (group, other) = (store.live_group(SETS).await.unwrap(), store.live("shops_v1").await.unwrap());
    let days = |group: &LiveGroup| {
        let now = group.current();
        let [shops, towns, sales] = SETS.map(|name| now.set(name).unwrap());
        [
            told_by_keys(shops).unwrap(),
            told_by_keys(towns).unwrap(),
            told_by_requests(sales).unwrap(),
            day_of(sales.materialization()),
        ]
    };
    assert_eq!(days(&group), [2, 2, 2, 2]);
    // The set that draws on it moves with it.
    group.pin("shops_v1", first[0]).await.unwrap();
    assert_eq!(days(&group), [1, 2, 1, 2]);
    let pinned: Vec<_> = group.status().iter().map(|status| status.is_pinned).collect();
    assert_eq!((pinned, group.status()[2].drawn_on[0].is_pinned), (vec![true, false, false], true));
    publish(&store, &SETS, 3).await;
    assert_eq!(group.refresh().await.unwrap().moved.len(), 2);
    assert_eq!(days(&group), [1, 3, 1, 3]);
    group.pin("sales_v1", first[2]).await.unwrap();
    assert_eq!(days(&group), [1, 3, 1, 1]);
    group.unpin("shops_v1").unwrap();
    assert_eq!(days(&group), [1, 3, 1, 1]);
    group.refresh().await.unwrap();
    assert_eq!(days(&group), [3, 3, 3, 1]);
    group.unpin("sales_v1").unwrap();
    group.refresh().await.unwrap();
    assert_eq!(days(&group), [3, 3, 3, 3]);
    // A pin concerns its handle alone, and what is served is pinned without the root.
    assert_eq!(told_by_keys(&other.current()), Ok(2));
    place.move_away();
    other.pin(other.current().materialization().id()).await.unwrap();
    other.refresh().await.unwrap();
    place.move_back();
    other.refresh().await.unwrap();
    assert_eq!((told_by_keys(&other.current()), other.status().is_pinned), (Ok(2), true));
    other.unpin();
    other.refresh().await.unwrap();
    assert_eq!((told_by_keys(&other.current()), other.status().is_pinned), (Ok(3), false));

    let error = group.pin("towns_v1", first[0]).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }) && error.to_string().contains("towns_v1"), "{error}");
    let error = group.pin("nobody_v1", first[0]).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }) && error.to_string().contains("towns_v1"), "{error}");
    assert!(matches!(group.unpin("nobody_v1"), Err(Error::NotFound { .. })));
    assert_eq!(days(&group), [3, 3, 3, 3]);
    assert!(group.status().iter().all(|status| !status.is_pinned));
}

// --- opening -----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_followed_is_refused() {
    let place = Place::in_memory().await;
    let store = place.open().await;
    assert!(matches!(store.live("nobody_v1").await.unwrap_err(), Error::UnknownFeatureSet { .. }));
    assert!(matches!(store.live("shops_v1").await.unwrap_err(), Error::NotFound { .. }));
    assert!(matches!(store.live_group(Vec::<&str>::new()).await.unwrap_err(), Error::Definition { .. }));
    publish(&store, &["sales_v1"], 1).await;
    let told = store.live("sales_v1").await.unwrap_err().to_string();
    assert!(told.contains("`shops_v1`, on which `sales_v1` draws, has no published"), "{told}");
    publish(&store, &["shops_v1"], 1).await;
    let group = store.live_group(["shops_v1", "shops_v1"]).await.unwrap();
    let names: Vec<String> = group.current().sets().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["shops_v1"]);
    assert!(matches!(group.current().set("sales_v1"), Err(Error::NotFound { .. })));

    let live: Live = store.live("sales_v1").await.unwrap();
    assert!(matches!(live.watch(Duration::ZERO).unwrap_err(), Error::Definition { .. }));
    let elsewhere = live.clone();
    let watched = std::thread::spawn(move || {
        let outside = elsewhere.watch(Duration::from_secs(1)).unwrap_err();
        let without_timers = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let inside = without_timers.block_on(async { elsewhere.watch(Duration::from_secs(1)).unwrap_err() });
        (outside, inside)
    });
    let (outside, inside) = watched.join().unwrap();
    assert!(matches!(outside, Error::System { .. }) && outside.to_string().contains("inside"), "{outside}");
    assert!(matches!(inside, Error::System { .. }) && inside.to_string().contains("enable_all"), "{inside}");
    drop(live.watch(Duration::MAX).unwrap());
}

/// Counts what is asked of it.
struct Counted {
    inner: InMemory,
    gets: AtomicUsize,
    manifests: AtomicUsize,
    lists: AtomicUsize,
}

#[async_trait::async_trait]
impl Intercept for Counted {
    fn inner(&self) -> &InMemory {
        &self.inner
    }

    async fn get(&self, path: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.manifests.fetch_add(usize::from(path.as_ref().ends_with("manifest.json")), Ordering::SeqCst);
        object_store::ObjectStore::get_opts(&self.inner, path, options).await
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        object_store::ObjectStore::list(&self.inner, prefix)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_finds_nothing_newer_costs_a_listing_for_each_set() {
    let counted = Arc::new(Intercepted(Counted { inner: InMemory::new(), gets: 0.into(), manifests: 0.into(), lists: 0.into() }));
    let locations = Locations::default().mount("memory://counted", counted.clone()).unwrap();
    let place = Place::with(temp_dir(), "memory://counted/root".into(), locations, 3, 6).await;
    let store = place.open().await;
    for number in 1..=4 {
        publish(&store, &["shops_v1", "sales_v1"], number).await;
    }
    let (live, drawing) = (store.live("shops_v1").await.unwrap(), store.live("sales_v1").await.unwrap());
    let asked = || (counted.lists.swap(0, Ordering::SeqCst), counted.gets.swap(0, Ordering::SeqCst));
    asked();
    for _ in 0..3 {
        assert!(!live.refresh().await.unwrap().has_moved());
        assert_eq!(asked(), (1, 0));
        assert!(!drawing.refresh().await.unwrap().has_moved());
        assert_eq!(asked(), (2, 0));
    }
    // Of what is there, the new manifest alone is read, and the files that it names.
    publish(&store, &["shops_v1"], 5).await;
    asked();
    assert!(live.refresh().await.unwrap().has_moved());
    let (lists, gets) = asked();
    assert!(lists == 1 && gets < 16, "{lists} listings, {gets} reads");
    // Who opens a set reads the manifest of the newest one, however many there are.
    counted.manifests.store(0, Ordering::SeqCst);
    assert_eq!(day_of(store.live("shops_v1").await.unwrap().current().materialization()), 5);
    assert_eq!(counted.manifests.load(Ordering::SeqCst), 1);
}

// --- for a long time -----------------------------------------------------------------------------------------------------

/// Ten million reads under a thousand moves. About as long as it takes to materialize a thousand times:
///
/// ```text
/// cargo test --release --test it -- --ignored --nocapture live::ten_million
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn ten_million_reads_under_a_thousand_moves() {
    const MOVES: i64 = 1_000;
    const READS: u64 = 10_000_000;
    let root = temp_dir();
    let at = root.path().join("root").to_str().unwrap().to_owned();
    let place = Place::with(root, at, Locations::default(), SHOPS, MOVES + 2).await;
    let store = place.open().await;
    publish(&store, &["shops_v1"], 1).await;
    let live = store.live("shops_v1").await.unwrap();
    let mut held = vec![live.current()];
    let readers = Readers::start(3, {
        let live = live.clone();
        move || told_by_keys(&live.current())
    });
    for number in 2..=MOVES + 1 {
        publish(&store, &["shops_v1"], number).await;
        assert!(live.refresh().await.unwrap().has_moved());
        if number % 100 == 0 {
            held.push(live.current());
            println!("{number} moves, {} reads", 3 * readers.reads());
        }
    }
    // Each reading asks for three keys.
    while 3 * readers.reads() < READS && readers.threads.iter().all(|thread| !thread.is_finished()) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    readers.join();
    assert!(held.iter().all(|online| told_by_keys(online).is_ok()));
}
