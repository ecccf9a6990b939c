//! The disk cache of a store: a repeated query reads no data from the object store, and no query gets an answer from it that the
//! object store would not give.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use asof::{
    CachePlace, DiskCacheSettings, Error, FeatureStore, Resources, StoreOptions, StoreSettings,
    gc::Gc,
    ingest::{CompactOptions, Ingest},
    storage::{DiskCache, Locations},
};
use futures::future::join_all;
use object_store::{ObjectStoreExt, PutPayload, memory::InMemory, path::Path as Key};
use tempfile::TempDir;

use crate::{
    bulk_reads::watched,
    equal_tags::EqualTags,
    intercepted_store::Intercepted,
    object_stores::{put, reaching, replace},
    s3::{client, month_files},
    s3_server::S3Server,
    secrets::Log,
    serving::mount,
    support::{cells, files_below, instant, load_trips, register, store as local_store, temp_dir, trips_table, write_trips},
};

const PLENTY: u64 = 1 << 30;
const QUERY: &str = "SELECT count(*), sum(passenger_count), sum(total_amount), min(pickup_at), max(dropoff_at) FROM nyc_taxi";
const OTHER_COLUMN: &str = "SELECT sum(trip_distance), max(pickup_zone) FROM nyc_taxi WHERE month < 7";

/// Facts on an S3 server that are registered in a root on this disk, and a folder for the cache.
struct Bench {
    server: S3Server,
    root: TempDir,
    kept: TempDir,
    /// The names of the files below `s3://lab/facts`, and here.
    names: Vec<String>,
    facts: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let (server, facts) = (S3Server::start("lab").await.unwrap(), temp_dir());
        month_files(facts.path()).await;
        let bench = Self { server, root: temp_dir(), kept: temp_dir(), names: files_below(facts.path()), facts };
        for name in &bench.names {
            bench.put(name, fs::read(facts_file(&bench, name)).unwrap()).await;
        }
        let store = bench.plain().await;
        store.register_table("nyc_taxi", "s3://lab/facts", trips_table()).await.unwrap();
        bench
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) {
        client(&self.server).put(&Key::from(format!("facts/{name}")), PutPayload::from(bytes)).await.unwrap();
    }

    async fn open(&self, options: StoreOptions) -> FeatureStore {
        let options = options.cache_in_memory().locations(reaching(&self.server));
        FeatureStore::open_with(self.root.path().to_str().unwrap(), options).await.unwrap()
    }

    async fn plain(&self) -> FeatureStore {
        self.open(StoreOptions::default()).await
    }

    async fn cached(&self) -> FeatureStore {
        self.open(StoreOptions::default().disk_cache(self.kept.path(), PLENTY)).await
    }

    /// The answer to a query, and how many requests for data it took.
    async fn ask(&self, store: &FeatureStore, sql: &str) -> (Vec<String>, usize) {
        let before = self.server.gets().len();
        let answer = cells(store, sql, instant("2100-01-01")).await;
        let gets = self.server.gets().split_off(before);
        (answer, gets.iter().filter(|key| key.ends_with(".parquet")).count())
    }

    fn entries(&self) -> Vec<PathBuf> {
        let names = files_below(self.kept.path()).into_iter().filter(|name| name.starts_with("entries"));
        names.map(|name| self.kept.path().join(name)).collect()
    }
}

fn facts_file(bench: &Bench, name: &str) -> PathBuf {
    bench.facts.path().join(name)
}

fn used_bytes(folder: &Path, limit: u64) -> u64 {
    DiskCache::open(folder, limit).unwrap().used_bytes().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_query_reads_no_data_from_the_object_store() {
    let bench = Bench::new().await;
    let (expected, asked) = bench.ask(&bench.plain().await, QUERY).await;
    let store = bench.cached().await;
    let (answer, first) = bench.ask(&store, QUERY).await;
    assert_eq!((&answer, first), (&expected, asked), "the first one asks for what it would without a cache");
    assert_eq!(bench.ask(&store, QUERY).await, (expected.clone(), 0));
    // Another handle on the folder, as a later process opens it.
    let later = bench.cached().await;
    assert_eq!(bench.ask(&later, QUERY).await, (expected.clone(), 0));
    assert_eq!(bench.ask(&later, &format!("SELECT * FROM ({QUERY})")).await, (expected, 0));
    // Other columns are read once, too.
    let (expected, _) = bench.ask(&bench.plain().await, OTHER_COLUMN).await;
    let (answer, asked) = bench.ask(&store, OTHER_COLUMN).await;
    assert_eq!(answer, expected);
    assert!(asked > 0);
    assert_eq!(bench.ask(&later, OTHER_COLUMN).await, (expected, 0));
    assert!(bench.entries().iter().all(|entry| fs::metadata(entry).unwrap().len() > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_a_store_are_read_back() {
    let (root, kept) = (temp_dir(), temp_dir());
    let resources = Resources { partitions: 3, ..Default::default() };
    let options = StoreOptions::default().cache_in_memory().resident_rows().resources(resources.clone()).incremental_from(7);
    let options = options.disk_cache(kept.path(), 1_000);
    let store = FeatureStore::open_with(root.path().to_str().unwrap(), options).await.unwrap();
    let disk_cache = Some(DiskCacheSettings { dir: kept.path().into(), limit_bytes: 1_000 });
    let incremental_from = Some(7);
    let expected = StoreSettings { cache: CachePlace::Memory, disk_cache, resident_rows: true, incremental_from, resources };
    assert_eq!(store.settings(), &expected);
    let again = StoreOptions::default().settings(store.settings().clone()).cache_dir(root.path().join("kv"));
    let again = FeatureStore::open_with(root.path().to_str().unwrap(), again).await.unwrap();
    assert_eq!(again.settings(), &StoreSettings { cache: CachePlace::Dir(root.path().join("kv")), ..expected });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_replaced_is_never_read_from_the_cache() {
    let bench = Bench::new().await;
    let store = bench.cached().await;
    let (old, _) = bench.ask(&store, QUERY).await;
    let (name, other) = (&bench.names[0], &bench.names[1]);
    bench.put(name, fs::read(facts_file(&bench, other)).unwrap()).await;
    let error = store.sql(QUERY, instant("2100-01-01")).await.unwrap_err();
    assert!(matches!(error, Error::FileChanged { .. }) && error.to_string().contains(name.as_str()), "{error}");
    store.repair("nyc_taxi").await.unwrap();
    let (new, asked) = bench.ask(&store, QUERY).await;
    assert!(asked > 0 && new != old);
    assert_eq!(new, bench.ask(&bench.plain().await, QUERY).await.0);
    assert_eq!(bench.ask(&store, QUERY).await, (new, 0));
    // The first content again, under its first tag.
    bench.put(name, fs::read(facts_file(&bench, name)).unwrap()).await;
    store.repair("nyc_taxi").await.unwrap();
    assert_eq!(bench.ask(&store, QUERY).await, (old, 0));
    // One that is gone is gone, whatever is kept of it.
    client(&bench.server).delete(&Key::from(format!("facts/{name}"))).await.unwrap();
    let error = store.sql(QUERY, instant("2100-01-01")).await.unwrap_err();
    assert!(matches!(error, Error::FileChanged { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_entries_are_read_again() {
    let bench = Bench::new().await;
    let store = bench.cached().await;
    let (expected, _) = bench.ask(&store, QUERY).await;
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.clear(),
        |bytes| bytes.fill(0),
    ];
    for damage in damages {
        for entry in bench.entries() {
            let mut bytes = fs::read(&entry).unwrap();
            damage(&mut bytes);
            fs::write(&entry, bytes).unwrap();
        }
        let (answer, asked) = bench.ask(&store, QUERY).await;
        assert_eq!(answer, expected);
        assert!(asked > 0);
        assert_eq!(bench.ask(&store, QUERY).await, (expected.clone(), 0), "mended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_somebody_else_is_left_alone_and_queries_go_on_without_it() {
    let bench = Bench::new().await;
    let mine = bench.kept.path().join("entries/aa/mine");
    fs::create_dir_all(mine.parent().unwrap()).unwrap();
    fs::write(&mine, "mine").unwrap();
    let refused = DiskCache::open(bench.kept.path(), 1).unwrap_err();
    assert!(matches!(&refused, Error::Cache { reason, .. } if reason.contains("asof-disk-cache")), "{refused}");
    let (expected, asked) = bench.ask(&bench.plain().await, QUERY).await;
    let store = bench.cached().await;
    for _ in 0..2 {
        assert_eq!(bench.ask(&store, QUERY).await, (expected.clone(), asked));
    }
    assert_eq!((fs::read_to_string(&mine).unwrap().as_str(), files_below(bench.kept.path()).len()), ("mine", 1));
    // Nor is a mark that is a directory one, nor a long file.
    let mark = bench.kept.path().join("asof-disk-cache");
    fs::create_dir(&mark).unwrap();
    DiskCache::open(bench.kept.path(), 1).unwrap_err();
    fs::remove_dir(&mark).unwrap();
    fs::write(&mark, [b'n'; 1_000]).unwrap();
    DiskCache::open(bench.kept.path(), 1).unwrap_err();
    // A running cache whose folder is replaced leaves the new one alone, too.
    fs::remove_dir_all(bench.kept.path()).unwrap();
    let store = bench.open(StoreOptions::default().disk_cache(bench.kept.path(), 20_000)).await;
    bench.ask(&store, QUERY).await;
    fs::remove_dir_all(bench.kept.path()).unwrap();
    fs::create_dir_all(mine.parent().unwrap()).unwrap();
    fs::write(&mine, vec![7; 100_000]).unwrap();
    for _ in 0..2 {
        assert_eq!(bench.ask(&store, QUERY).await, (expected.clone(), asked));
    }
    assert_eq!(files_below(bench.kept.path()), ["entries/aa/mine"]);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn pipes_and_directories_in_the_place_of_entries_are_removed() {
    let bench = Bench::new().await;
    let (expected, _) = bench.ask(&bench.plain().await, QUERY).await;
    let store = bench.cached().await;
    bench.ask(&store, QUERY).await;
    let put_a_pipe = |entry: &Path| assert!(std::process::Command::new("mkfifo").arg(entry).status().unwrap().success());
    let put_a_directory = |entry: &Path| fs::create_dir_all(entry.join("below")).unwrap();
    for put in [&put_a_pipe as &dyn Fn(&Path), &put_a_directory] {
        for entry in bench.entries() {
            fs::remove_file(&entry).unwrap();
            put(&entry);
        }
        for cached in [&store, &bench.cached().await] {
            assert_eq!(bench.ask(cached, QUERY).await.0, expected);
        }
        assert_eq!(bench.ask(&store, QUERY).await, (expected.clone(), 0), "what was removed is cached again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_share_a_folder_stay_within_its_bytes_and_answer_right() {
    const LIMIT: u64 = 60_000;
    let bench = Bench::new().await;
    let plain = bench.plain().await;
    let expected = [bench.ask(&plain, QUERY).await.0, bench.ask(&plain, OTHER_COLUMN).await.0];
    let askers = (0..4).map(|_| async {
        // Each opens the folder for itself, as processes do.
        let store = bench.open(StoreOptions::default().disk_cache(bench.kept.path(), LIMIT)).await;
        for round in 0..6 {
            let sql = [QUERY, OTHER_COLUMN][round % 2];
            assert_eq!(cells(&store, sql, instant("2100-01-01")).await, expected[round % 2]);
            assert!(used_bytes(bench.kept.path(), LIMIT) <= LIMIT);
        }
    });
    join_all(askers).await;
    let used = used_bytes(bench.kept.path(), LIMIT);
    assert!((LIMIT / 4..=LIMIT).contains(&used), "{used}");
    // A cache that holds nothing changes no answer.
    let store = bench.open(StoreOptions::default().disk_cache(bench.kept.path(), 0)).await;
    assert_eq!(bench.ask(&store, QUERY).await.0, expected[0]);
    assert_eq!(used_bytes(bench.kept.path(), 0), 0);
}

/// One thread, so that the log is of all that opening does.
#[tokio::test(flavor = "current_thread")]
async fn a_folder_that_cannot_be_used_is_a_warning_and_changes_no_answer() {
    let bench = Bench::new().await;
    let (expected, asked) = bench.ask(&bench.plain().await, QUERY).await;
    // A file where the folder should be.
    let elsewhere = temp_dir();
    let file = elsewhere.path().join("file");
    fs::write(&file, "").unwrap();
    let log = Log::default();
    let listening = tracing::subscriber::set_default(log.clone());
    let store = bench.open(StoreOptions::default().disk_cache(file.join("below"), PLENTY)).await;
    drop(listening);
    let said = log.text();
    assert!(said.contains("read without the disk cache") && said.contains("file/below"), "{said}");
    for _ in 0..2 {
        assert_eq!(bench.ask(&store, QUERY).await, (expected.clone(), asked));
    }
    // One that cannot be written any more, and one that is gone.
    let store = bench.cached().await;
    fs::remove_dir_all(bench.kept.path().join("entries")).unwrap();
    fs::write(bench.kept.path().join("entries"), "").unwrap();
    for _ in 0..2 {
        assert_eq!(bench.ask(&store, QUERY).await, (expected.clone(), asked));
    }
    fs::remove_dir_all(bench.kept.path()).unwrap();
    let restarted = bench.cached().await;
    fs::remove_dir_all(bench.kept.path()).unwrap();
    for cached in [&store, &restarted] {
        assert_eq!(bench.ask(cached, QUERY).await.0, expected);
    }
    // What is made anew is a cache again, to the next process too.
    assert!(bench.kept.path().join("entries").is_dir());
    DiskCache::open(bench.kept.path(), PLENTY).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_cache_changes_no_answer() {
    let bench = Bench::new().await;
    let Some(_mounted) = mount(&["-t", "tmpfs", "-o", "size=48k", "tmpfs"], bench.kept.path()) else { return };
    let (expected, _) = bench.ask(&bench.plain().await, QUERY).await;
    let store = bench.cached().await;
    for _ in 0..3 {
        let (answer, asked) = bench.ask(&store, QUERY).await;
        assert_eq!(answer, expected);
        assert!(asked > 0, "the disk does not hold all of it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_read_the_store_itself_does() {
    let (server, kept, data) = (S3Server::start("lab").await.unwrap(), temp_dir(), [temp_dir(), temp_dir()]);
    let options = StoreOptions::default().locations(reaching(&server)).disk_cache(kept.path(), PLENTY);
    let store = FeatureStore::open_with("s3://lab/r", options.clone()).await.unwrap();
    register(&store);
    for (number, data) in data.iter().enumerate() {
        write_trips(data.path(), 20 + 10 * number as u32);
        for name in files_below(data.path()) {
            // A source is known by its name.
            fs::rename(data.path().join(&name), data.path().join(format!("{number}-{name}"))).unwrap();
        }
        load_trips(&store, data.path()).await;
    }
    let ask = || cells(&store, QUERY, instant("2100-01-01"));
    let expected = ask().await;
    let version = store.describe("nyc_taxi").await.unwrap();

    // The end of a file, spoilt on the server's disk under its old tag: queries have the good bytes, a compaction reads the bad.
    let spoilt = server.object_file(&format!("r/facts/default/nyc_taxi/{}", version.files()[0].path));
    let good = fs::read(&spoilt).unwrap();
    fs::write(&spoilt, [&good[..good.len() - 4], b"oops"].concat()).unwrap();
    assert_eq!(ask().await, expected);
    let plain = FeatureStore::open_with("s3://lab/r", StoreOptions::default().locations(reaching(&server))).await.unwrap();
    let error = plain.sql(QUERY, instant("2100-01-01")).await.unwrap().collect().await.map_err(Error::from).unwrap_err();
    assert!(matches!(error, Error::UnreadableFile { .. } | Error::Query(_)), "{error:?}");
    let error = store.compact("nyc_taxi", &CompactOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::UnreadableFile { .. }), "{error:?}");
    fs::write(&spoilt, &good).unwrap();

    // So does the verification of what was published.
    let made = store.materialize("taxi_v1", instant("2014-07-01")).await.unwrap();
    made.dataframe().await.unwrap().collect().await.unwrap();
    let parts: Vec<String> = server.gets().into_iter().filter(|key| key.contains("materialized/taxi_v1")).collect();
    let part = server.object_file(parts.iter().find(|key| key.ends_with(".parquet")).unwrap());
    let good = fs::read(&part).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 3] ^= 1;
    fs::write(&part, bad).unwrap();
    assert!(matches!(made.verify().await, Err(Error::Corrupt { .. })));
    fs::write(&part, &good).unwrap();
    made.verify().await.unwrap();

    // A collection removes files, whatever is kept of them, and an old version is then gone.
    store.compact("nyc_taxi", &CompactOptions::default()).await.unwrap();
    assert_eq!(ask().await, expected);
    let old = [("nyc_taxi", version.version())];
    store.sql_at(QUERY, instant("2100-01-01"), &old).await.unwrap();
    store.gc(&Gc::delete().keep_versions(1).grace(chrono::TimeDelta::zero())).await.unwrap();
    assert!(store.sql_at(QUERY, instant("2100-01-01"), &old).await.is_err());
    assert_eq!(ask().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_reads_its_sources_from_the_store() {
    let bench = Bench::new().await;
    let store = bench.cached().await;
    bench.ask(&store, QUERY).await;
    let (name, other) = (&bench.names[0], &bench.names[1]);
    let load = |table| Ingest::new(table, trips_table()).unwrap().from(format!("s3://lab/facts/{name}"));
    let first = store.ingest(&load("first")).await.unwrap().rows;
    bench.put(name, fs::read(facts_file(&bench, other)).unwrap()).await;
    store.ingest(&load("second")).await.unwrap();
    let months = |table| format!("SELECT count(*), min(month), max(month) FROM {table}");
    let (one, two) = (bench.ask(&store, &months("first")).await.0, bench.ask(&store, &months("second")).await.0);
    assert!(first > 0 && one != two, "{one:?} {two:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_a_lasting_version_are_not_kept() {
    let (facts, kept) = (temp_dir(), temp_dir());
    month_files(facts.path()).await;
    let (memory, weak) = (InMemory::new(), InMemory::new());
    for name in files_below(facts.path()) {
        for store in [&memory, &weak] {
            store.put(&Key::from(format!("facts/{name}")), fs::read(facts.path().join(&name)).unwrap().into()).await.unwrap();
        }
    }
    let locations = Locations::default().mount("memory://m", Arc::new(memory)).unwrap();
    let weak = Intercepted(EqualTags { inner: weak, tag: "W/\"1\"" });
    let locations = locations.mount("s3://weak", Arc::new(weak)).unwrap();
    for place in [facts.path().to_str().unwrap(), "memory://m/facts", "s3://weak/facts"] {
        let root = temp_dir();
        let options = StoreOptions::default().cache_in_memory().locations(locations.clone()).disk_cache(kept.path(), PLENTY);
        let store = FeatureStore::open_with(root.path().to_str().unwrap(), options).await.unwrap();
        store.register_table("nyc_taxi", place, trips_table()).await.unwrap();
        let plain = local_store(temp_dir().path()).await;
        plain.register_table("nyc_taxi", facts.path().to_str().unwrap(), trips_table()).await.unwrap();
        for _ in 0..2 {
            let expected = cells(&plain, QUERY, instant("2100-01-01")).await;
            assert_eq!(cells(&store, QUERY, instant("2100-01-01")).await, expected, "{place}");
        }
        assert_eq!(used_bytes(kept.path(), PLENTY), 0, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answers_with_another_version_is_not_believed() {
    let (facts, kept) = (temp_dir(), temp_dir());
    month_files(facts.path()).await;
    let names = files_below(facts.path());
    let (locations, at, seen) = watched(64);
    for name in &names {
        put(&at, name, fs::read(facts.path().join(name)).unwrap()).await;
    }
    seen.ignore_conditions();
    for options in [StoreOptions::default(), StoreOptions::default().disk_cache(kept.path(), PLENTY)] {
        let root = temp_dir();
        let options = options.cache_in_memory().locations(locations.clone());
        let store = FeatureStore::open_with(root.path().to_str().unwrap(), options).await.unwrap();
        store.register_table("nyc_taxi", "s3://watched/place", trips_table()).await.unwrap();
        let rows = store.sql(QUERY, instant("2100-01-01")).await.unwrap();
        replace(&at, &names[0], &fs::read(facts.path().join(&names[0])).unwrap()).await;
        let error = rows.collect().await.map_err(Error::from).unwrap_err();
        assert!(error.to_string().contains("has changed"), "{error}");
    }
}
