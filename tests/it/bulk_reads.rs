//! Bulk reads: the same bytes as one by one, whatever the settings, and bounds that hold.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use asof::{
    Error, FeatureStore, Resources, StoreOptions,
    storage::{BulkReader, DiskCache, Location, Locations, ObjectMeta, ReadSettings, ReadStatistics, RequestSettings},
};
use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use futures::{FutureExt, StreamExt, TryStreamExt, future::join_all};
use object_store::{GetOptions, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt, memory::InMemory, path::Path as Key};
use proptest::{prelude::*, test_runner::TestRunner};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

use crate::{
    bulk_cache::read_all,
    intercepted_store::{Intercept, Intercepted},
    object_stores::{Place, places, put, replace},
    support::{files_below, temp_dir, write_parquet},
};

/// Bytes from a seed, no two alike.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

pub(crate) async fn fill(at: &Location, sizes: &[usize]) -> Vec<ObjectMeta> {
    join_all(sizes.iter().enumerate().map(|(i, size)| async move {
        put(at, &format!("{:04}", i), noise(i as u64, *size)).await;
    }))
    .await;
    at.list().await.unwrap()
}

async fn empty(at: &Location) {
    let names: Vec<String> = at.list().await.unwrap().iter().map(|o| at.name_of(&o.location)).collect();
    at.delete_many(names).await.unwrap();
}

/// The reference: one object after the other.
pub(crate) async fn one_by_one(at: &Location, objects: &[ObjectMeta]) -> Vec<(ObjectMeta, Bytes)> {
    let mut read = Vec::new();
    for object in objects {
        read.push((object.clone(), at.get(&at.name_of(&object.location)).await.unwrap().unwrap()));
    }
    read
}

pub(crate) fn is_same(a: &[(ObjectMeta, Bytes)], b: &[(ObjectMeta, Bytes)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1 == b.1)
}

pub(crate) fn small(objects: usize, requests: usize, range_bytes: u64, bytes: u64) -> ReadSettings {
    ReadSettings { objects_in_flight: objects, requests_in_flight: requests, range_bytes, bytes_in_flight: bytes }
}

// --- the same bytes --------------------------------------------------------------------------------------------------

#[test]
fn a_bulk_read_is_what_reading_one_by_one_is() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let places = runtime.block_on(places());
    let settings = (0..6_usize, 0..5_usize, 0..4_000_u64, 10_000..30_000_u64);
    let cases = (prop::collection::vec(prop_oneof![0..40_usize, 0..10_000_usize], 0..12), settings, any::<u64>());
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() };
    let outcome = TestRunner::new(config).run(&cases, |(sizes, (objects, requests, range, bytes), seed)| {
        runtime.block_on(async {
            let kept = temp_dir();
            let cache = DiskCache::open(kept.path(), 20_000).unwrap();
            for Place { kind, at, .. } in &places {
                empty(at).await;
                let mut asked = fill(at, &sizes).await;
                // In any order, some of them twice.
                let mut chance = StdRng::seed_from_u64(seed);
                for _ in 0..asked.len() {
                    let (from, to) = (chance.random_range(0..asked.len()), chance.random_range(0..=asked.len()));
                    match chance.random_bool(0.2) {
                        true => asked.insert(to, asked[from].clone()),
                        false => asked.swap(from, to.saturating_sub(1)),
                    }
                }
                let expected = one_by_one(at, &asked).await;
                let reader = BulkReader::new(at).settings(small(objects, requests, range, bytes));
                for reader in [reader.clone(), reader.cache(cache.clone())] {
                    let mut read = reader.get_many(asked.clone());
                    let found: Vec<_> = (&mut read).try_collect().await.unwrap();
                    prop_assert!(is_same(&found, &expected), "{kind}");
                    let total: u64 = asked.iter().map(|o| o.size).sum();
                    let statistics = read.statistics();
                    let counted = (statistics.object_count, statistics.bytes, statistics.total_bytes);
                    prop_assert_eq!(counted, (asked.len() as u64, total, total));
                    let mut found: Vec<_> = reader.get_many_unordered(asked.clone()).try_collect().await.unwrap();
                    let mut expected = expected.clone();
                    found.sort_by(|a, b| a.0.location.cmp(&b.0.location));
                    expected.sort_by(|a, b| a.0.location.cmp(&b.0.location));
                    prop_assert!(is_same(&found, &expected), "{kind}, unordered");
                }
                prop_assert!(cache.used_bytes().unwrap() <= 20_000);
                let folder = temp_dir();
                let brought = BulkReader::new(at).settings(small(objects, requests, range, bytes));
                let brought = brought.download_to(at.list().await.unwrap(), folder.path()).await.unwrap();
                prop_assert_eq!(brought.files.len(), sizes.len());
                for (i, file) in brought.files.iter().enumerate() {
                    prop_assert!(fs::read(file).unwrap() == noise(i as u64, sizes[i]), "{kind} {}", file.display());
                }
            }
            Ok(())
        })
    });
    outcome.unwrap();
}

// --- a store that counts, waits, changes and lies --------------------------------------------------------------------

type Hook = Box<dyn Fn(usize) -> bool + Send + Sync>;

/// Memory behind a slow line that counts its readers.
struct Watched {
    inner: InMemory,
    seen: Arc<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    pub(crate) asked_bytes: AtomicU64,
    /// Before the n-th request: rewrite the object `changing`?
    changes_at: Mutex<Option<Hook>>,
    ignores_conditions: Mutex<bool>,
    cut_bytes: AtomicUsize,
}

impl Seen {
    /// Answers with the newest version from now on, whatever is asked for.
    pub(crate) fn ignore_conditions(&self) {
        *self.ignores_conditions.lock().unwrap() = true;
    }
}

/// Counts one reader less when it goes.
struct Leaves(Arc<Seen>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Intercept for Watched {
    fn inner(&self) -> &InMemory {
        &self.inner
    }

    async fn get(&self, key: &Key, mut options: GetOptions) -> object_store::Result<GetResult> {
        let seen = self.seen.clone();
        let number = seen.requests.fetch_add(1, Ordering::SeqCst);
        let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        let leaves = Leaves(seen.clone());
        seen.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
        let change = seen.changes_at.lock().unwrap().as_ref().is_some_and(|hook| hook(number));
        if change {
            let size = self.inner.head(key).await?.size;
            self.inner.put(key, vec![0x5a; size as usize].into()).await?;
        }
        if *seen.ignores_conditions.lock().unwrap() {
            (options.if_match, options.if_unmodified_since) = (None, None);
        }
        let is_head = options.head;
        let mut got = self.inner.get_opts(key, options).await?;
        if !is_head {
            seen.asked_bytes.fetch_add(got.range.end - got.range.start, Ordering::SeqCst);
        }
        let mut keep = ((got.range.end - got.range.start) as usize).saturating_sub(seen.cut_bytes.load(Ordering::SeqCst));
        if let GetResultPayload::Stream(chunks) = got.payload {
            let chunks = chunks.map(move |chunk| {
                let _here = &leaves;
                chunk.map(|chunk| {
                    let cut = chunk.slice(..chunk.len().min(keep));
                    keep -= cut.len();
                    cut
                })
            });
            // The last bytes take their time.
            let slow = chunks.then(|chunk| tokio::time::sleep(Duration::from_millis(1)).map(|()| chunk));
            got.payload = GetResultPayload::Stream(slow.boxed());
        }
        Ok(got)
    }
}

/// A place in a watched store, under a scheme whose objects are cached.
pub(crate) fn watched(concurrency: usize) -> (Locations, Location, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let store = Arc::new(Intercepted(Watched { inner: InMemory::new(), seen: seen.clone() }));
    let requests = RequestSettings { concurrency, ..Default::default() };
    let locations = Locations::default().requests(requests).mount("s3://watched", store).unwrap();
    let at = locations.open("s3://watched/place").unwrap();
    (locations, at, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_reach_their_limit_and_never_pass_it() {
    // One large object in ranges, and many small ones: either kind fills the line alone.
    for sizes in [vec![40_000], vec![10; 60], [vec![9_000; 3], vec![1; 40]].concat()] {
        let (_, at, seen) = watched(64);
        let objects = fill(&at, &sizes).await;
        let read = BulkReader::new(&at).settings(small(16, 5, 1_000, 1 << 20)).get_many(objects.clone());
        assert_eq!(read.try_collect::<Vec<_>>().await.unwrap().len(), sizes.len());
        assert_eq!(seen.most.load(Ordering::SeqCst), 5);
        let folder = temp_dir();
        seen.most.store(0, Ordering::SeqCst);
        BulkReader::new(&at).settings(small(16, 5, 1_000, 1 << 20)).download_to(objects, folder.path()).await.unwrap();
        assert_eq!(seen.most.load(Ordering::SeqCst), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_store_holds_for_all_that_read_from_it() {
    let (locations, at, seen) = watched(3);
    let objects = fill(&at, &[5_000; 20]).await;
    let readers = (0..4).map(|_| {
        let at = locations.clone().open("s3://watched/place").unwrap();
        BulkReader::new(&at).settings(small(8, 8, 1_000, 1 << 20)).get_many(objects.clone()).try_collect::<Vec<_>>()
    });
    let one_by_one = (0..10).map(|i| at.get(["0001", "0002"][i % 2]));
    let (read, _) = tokio::join!(join_all(readers), join_all(one_by_one));
    assert!(read.into_iter().all(|read| read.unwrap().len() == 20));
    assert_eq!(seen.most.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_keep_to_the_limit_too_even_if_it_is_one() {
    let (locations, at, seen) = watched(1);
    let folder = temp_dir();
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20_000));
    for file in 0..8 {
        let name = format!("{file}.parquet");
        write_parquet(&folder.path().join(&name), &[("a", column.clone()), ("b", column.clone())], None);
        put(&at, &name, fs::read(folder.path().join(&name)).unwrap()).await;
    }
    let resources = Resources { partitions: 8, ..Default::default() };
    let options = StoreOptions::default().locations(locations).resources(resources);
    let store = FeatureStore::open_with("s3://watched/root", options).await.unwrap();
    let rows = store.read_parquet("s3://watched/place").await.unwrap();
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(60), rows.collect())
            .await
            .unwrap()
            .unwrap()
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        160_000
    );
    assert!(seen.requests.load(Ordering::SeqCst) >= 16);
    assert_eq!(seen.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_in_flight_are_bounded_however_slow_the_reader() {
    let (_, at, seen) = watched(64);
    let sizes: Vec<usize> = (0..60).map(|i| i * 37 % 3_000).collect();
    let objects = fill(&at, &sizes).await;
    let mut read = BulkReader::new(&at).settings(small(50, 8, 700, 8_192)).get_many(objects);
    let mut taken = 0;
    while let Some((object, _)) = read.try_next().await.unwrap() {
        taken += object.size;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let held = seen.asked_bytes.load(Ordering::SeqCst) - taken;
        assert!(held <= 8_192, "{held} bytes are held");
    }
    assert_eq!(taken, sizes.iter().sum::<usize>() as u64);

    // A large object is refused before anything is asked, and a download brings it all the same.
    let large = noise(7, 20_000);
    put(&at, "large", large.clone()).await;
    let object = at.head("large").await.unwrap().unwrap();
    let before = seen.requests.load(Ordering::SeqCst);
    let reader = BulkReader::new(&at).settings(small(50, 8, 700, 8_192));
    let error = reader.get_many([object.clone()]).try_next().await.unwrap_err();
    assert!(matches!(&error, Error::ObjectTooLarge { size: 20_000, limit: 8_192, .. }), "{error}");
    assert!(error.to_string().contains("s3://watched/place/large"), "{error}");
    assert_eq!(seen.requests.load(Ordering::SeqCst), before);
    let folder = temp_dir();
    let brought = reader.download_to([object], folder.path()).await.unwrap();
    assert!(fs::read(&brought.files[0]).unwrap() == large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_read_ends() {
    let (_, at, seen) = watched(64);
    let objects = fill(&at, &[100; 400]).await;
    let mut read = BulkReader::new(&at).settings(small(4, 2, 1_000, 1 << 20)).get_many(objects);
    assert!(read.try_next().await.unwrap().is_some());
    drop(read);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(seen.requests.load(Ordering::SeqCst) < 20);
    assert_eq!(seen.now.load(Ordering::SeqCst), 0);
}

// --- objects that change ---------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_changes_after_it_was_listed_is_an_error_that_names_it() {
    for Place { kind, at, .. } in &places().await {
        let kept = temp_dir();
        let cache = DiskCache::open(kept.path(), 1 << 20).unwrap();
        let objects = fill(at, &[500, 5_000, 50, 5]).await;
        // The same size; longer and shorter; gone. The first and last are what they were.
        for change in ["same size", "longer", "shorter", "gone"] {
            let listed = at.list().await.unwrap();
            assert_eq!(listed.len(), objects.len());
            match change {
                "same size" => replace(at, "0001", &vec![7; listed[1].size as usize]).await,
                "longer" => replace(at, "0001", &[7; 9_000]).await,
                "shorter" => replace(at, "0001", &[7; 10]).await,
                _ => at.delete("0001").await.unwrap(),
            }
            let reader = BulkReader::new(at).settings(small(2, 3, 1_000, 1 << 20)).cache(cache.clone());
            let read: Vec<_> = reader.get_many(listed.clone()).collect().await;
            let error = read[1].as_ref().unwrap_err();
            let what = if change == "gone" { "vanished" } else { "has changed" };
            assert!(matches!(error, Error::ObjectChanged { .. }), "{kind} {change}: {error}");
            assert!(error.to_string().contains(&format!("0001` {what}")), "{kind}: {error}");
            assert!(error.to_string().contains(&at.to_string()), "{kind}: {error}");
            assert!(read.iter().enumerate().all(|(i, read)| i == 1 || read.is_ok()), "{kind} {change}: the others still come");
            let folder = temp_dir();
            let error = reader.download_to(listed, folder.path()).await.unwrap_err();
            assert!(matches!(error, Error::ObjectChanged { .. }), "{kind}: {error}");
            assert!(!folder.path().join("0001").exists());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_two_versions_are_never_mixed() {
    for ignores_conditions in [false, true] {
        for change_at in 0..10 {
            let (_, at, seen) = watched(64);
            let objects = fill(&at, &[10_000]).await;
            *seen.ignores_conditions.lock().unwrap() = ignores_conditions;
            *seen.changes_at.lock().unwrap() = Some(Box::new(move |number| number == change_at));
            let read = BulkReader::new(&at).settings(small(1, 2, 1_000, 1 << 20)).get_many(objects.clone());
            let error = read.try_collect::<Vec<_>>().await.unwrap_err();
            assert!(matches!(error, Error::ObjectChanged { change: "has changed", .. }), "{change_at}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_short_is_an_error_and_is_not_kept() {
    let (_, at, seen) = watched(64);
    let objects = fill(&at, &[100, 3_000]).await;
    let kept = temp_dir();
    let reader = BulkReader::new(&at).settings(small(4, 4, 1_000, 1 << 20)).cache(DiskCache::open(kept.path(), 1 << 20).unwrap());
    seen.cut_bytes.store(1, Ordering::SeqCst);
    for read in reader.get_many(objects.clone()).collect::<Vec<_>>().await {
        let error = read.unwrap_err();
        assert!(matches!(&error, Error::UnreadableFile { path, .. } if path.starts_with("s3://watched/place/0")), "{error}");
    }
    seen.cut_bytes.store(0, Ordering::SeqCst);
    let read: Vec<_> = reader.get_many(objects.clone()).try_collect().await.unwrap();
    assert!(is_same(&read, &one_by_one(&at, &objects).await));
}

// --- downloads -------------------------------------------------------------------------------------------------------

async fn bring(at: &Location, folder: &Path) -> (u64, u64) {
    let reader = BulkReader::new(at).settings(small(3, 3, 1_000, 1 << 20));
    let brought = reader.download_to(at.list().await.unwrap(), folder).await.unwrap();
    for file in &brought.files {
        let name = file.strip_prefix(folder).unwrap().to_str().unwrap();
        assert!(fs::read(file).unwrap() == at.get(name).await.unwrap().unwrap(), "{name}");
    }
    (brought.statistics.request_count, brought.statistics.skipped_object_count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_brings_only_what_is_not_there() {
    for Place { kind, at, .. } in &places().await {
        let folder = temp_dir();
        for (name, size) in [("a b/100% #x", 0), ("year=2014/month=1/part+ü", 700), ("large", 4_500)] {
            put(at, name, noise(size as u64, size)).await;
        }
        assert_eq!(bring(at, folder.path()).await, (7, 0), "{kind}");
        assert_eq!(bring(at, folder.path()).await, (0, 3), "{kind}: a rerun");
        // Changed there; removed, cut, and touched here.
        replace(at, "large", &noise(1, 4_500)).await;
        assert_eq!(bring(at, folder.path()).await, (5, 2), "{kind}: another version of the same size");
        fs::remove_file(folder.path().join("a b/100% #x")).unwrap();
        assert_eq!(bring(at, folder.path()).await, (1, 2), "{kind}");
        fs::write(folder.path().join("large"), "cut").unwrap();
        assert_eq!(bring(at, folder.path()).await, (5, 2), "{kind}");
        fs::write(folder.path().join("large"), noise(2, 4_500)).unwrap();
        assert_eq!(bring(at, folder.path()).await, (5, 2), "{kind}");
        // What a killed download has left: parts, and a line that is not whole.
        let own = folder.path().join(".asof-download");
        fs::write(own.join("parts/0"), "half").unwrap();
        let book = fs::read_to_string(own.join("files.jsonl")).unwrap();
        fs::write(own.join("files.jsonl"), &book[..book.len() - 20]).unwrap();
        assert_eq!(bring(at, folder.path()).await, (5, 2), "{kind}");
        assert_eq!(fs::read_dir(own.join("parts")).unwrap().count(), 0);
        // Others are where they were, and two at once do not get into each other's way.
        let (one, two) = tokio::join!(bring(at, folder.path()), bring(at, folder.path()));
        assert_eq!((one, two), ((0, 3), (0, 3)), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_grows_to_what_was_asked() {
    let (_, at, _) = watched(64);
    let objects = fill(&at, &[2_500; 8]).await;
    let seen: Arc<Mutex<Vec<ReadStatistics>>> = Arc::default();
    let telling = seen.clone();
    let reader = BulkReader::new(&at).settings(small(2, 2, 1_000, 1 << 20));
    let reader = reader.on_progress(move |statistics| telling.lock().unwrap().push(*statistics));
    let (_, last) = read_all(&reader, &objects).await;
    let seen = seen.lock().unwrap();
    // Three ranges and an end for each object.
    assert_eq!(seen.len(), 8 * 4);
    assert!(seen.iter().all(|s| s.total_bytes == 20_000 && s.total_object_count == 8 && s.bytes <= 20_000));
    assert!(seen.iter().any(|s| s.bytes > 0 && s.bytes < 20_000));
    assert_eq!((last.object_count, last.bytes, last.request_count, last.cached_bytes), (8, 20_000, 24, 0));
    assert!(last.elapsed > Duration::ZERO);
    let rate = last.gigabits_per_second() * last.elapsed.as_secs_f64();
    assert!((rate - 0.00016).abs() < 1e-9, "{rate}");
    assert!(last.to_string().contains("8 of 8 objects"), "{last}");
}

#[tokio::test]
async fn no_object_is_written_outside_of_the_folder_or_over_another() {
    let (outside, folder) = (temp_dir(), temp_dir());
    let top = Locations::default().mount("memory://names", Arc::new(InMemory::new())).unwrap().open("memory://names").unwrap();
    let absolute = outside.path().join("stolen").to_str().unwrap().trim_start_matches('/').to_owned();
    let place = top.child("facts");
    let put = async |name: &str| {
        let _ = top.put_if_absent(name, name.to_owned()).await.unwrap();
        top.head(name).await.unwrap().unwrap()
    };
    let good = put("facts/a/b.parquet").await;
    for (name, word) in [
        (absolute.as_str(), "below the location"),
        ("facts/.asof-download/parts/0", "own files"),
        ("facts/.ASOF-download/x", "own files"),
        ("facts/a\\..\\b", "backslash"),
        ("facts/a", "is an object too"),
        ("facts/a/b.parquet/c", "is an object too"),
    ] {
        let object = put(name).await;
        let error = BulkReader::new(&place).download_to([good.clone(), object], folder.path()).await.unwrap_err();
        assert!(matches!(error, Error::InvalidName { .. }) && error.to_string().contains(word), "{name}: {error}");
        assert_eq!(files_below(folder.path()), [""; 0], "{name}");
    }
    // `..` in a key is two letters that a store keeps; it is escaped before it is a path.
    let dots = put("facts/../up").await;
    let brought = BulkReader::new(&place).download_to([good.clone(), dots], folder.path()).await.unwrap();
    assert!(brought.files.iter().all(|file| file.starts_with(folder.path())), "{brought:?}");
    assert_eq!(std::fs::read(folder.path().join("a/b.parquet")).unwrap(), b"facts/a/b.parquet");
    #[cfg(unix)]
    {
        let linked = temp_dir();
        std::os::unix::fs::symlink(outside.path(), linked.path().join("a")).unwrap();
        let error = BulkReader::new(&place).download_to([good], linked.path()).await.unwrap_err();
        assert!(error.to_string().contains("link"), "{error}");
    }
    assert_eq!(files_below(outside.path()), [""; 0]);
}
