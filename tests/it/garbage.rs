//! Garbage collection: what goes, what stays, and that nothing is lost whatever happens meanwhile.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use asof::{
    AsOf, Error, FeatureStore, StoreOptions,
    extract::Extract,
    gc::{Gc, GcReport, Reason},
    ingest::{CompactOptions, Expect, OnViolation},
    lineage::Origin,
    storage::Locations,
    time::{Clock, FixedClock, SystemClock},
};
use chrono::TimeDelta;
use object_store::{ObjectStoreExt, memory::InMemory};

use crate::{
    crash::{RIDES_SEEN, load_of, rides},
    failing_store::{ALL_FAULTS, Calls, Failing, Fault},
    support::{
        bits, child, copy_dir, files_below, load_trips, made_load, register, reseal, store_with, temp_dir, trip, trips_table,
        write_trips,
    },
};

/// A store whose clock shows so many hours from now.
async fn in_hours(root: &Path, hours: i64) -> FeatureStore {
    let clock = FixedClock(SystemClock.now().plus(TimeDelta::hours(hours)));
    store_with(root, StoreOptions::default().cache_in_memory().clock(clock)).await
}

fn garbage(report: &GcReport) -> Vec<(String, Reason)> {
    let mut found: Vec<_> = report.removed.iter().map(|garbage| (garbage.path.clone(), garbage.reason)).collect();
    found.sort();
    found
}

/// Dates a file back by two days.
fn age(file: &Path) {
    let before = SystemTime::UNIX_EPOCH + Duration::from_micros((SystemClock.now().micros() - 172_800_000_000) as u64);
    fs::File::options().write(true).open(file).unwrap().set_modified(before).unwrap();
}

const STRAY: [&str; 6] = [
    "facts/default/nyc_taxi/year=2014/month=1/0123456789abcdef-00000-0123456789abcdef.parquet",
    "facts/default/gone/month=1/0123456789abcdef-00000-0123456789abcdef.parquet",
    "rejects/default/nyc_taxi/0123456789abcdef-0123456789abcdef.csv",
    "materialized/taxi_v1/20140701T000000.000000Z-0123/part-00000-0123456789abcdef.parquet",
    "extracts/lost/20140701t000000_01234567/part-00000-0123456789abcdef.parquet",
    "quality/default/nyc_taxi/0123456789abcdef.json",
];
const FOREIGN: [&str; 3] = ["facts/default/nyc_taxi/notes.txt", "quality/default/nyc_taxi/summary.json", "todo.md"];
const STAGED: &str = "catalog/default/nyc_taxi/v0000000009.json#123000001";

fn litter(root: &Path) {
    for name in STRAY.iter().chain(&FOREIGN).chain([&STAGED]) {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), "litter").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_names_goes_and_what_something_needs_stays() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 30);
    let store = in_hours(root.path(), 0).await;
    let loaded = load_trips(&store, data.path()).await;
    for set in ["taxi_v1", "zone_demand_v1"] {
        store.materialize(set, "2014-07-01".parse().unwrap()).await.unwrap();
    }
    let kept = store.ctas("kept", "SELECT * FROM nyc_taxi").await.unwrap();
    let of_load = format!("quality/default/nyc_taxi/{}.json", loaded.version.loads()[0].id.short());
    fs::create_dir_all(root.path().join("quality/default/nyc_taxi")).unwrap();
    fs::write(root.path().join(&of_load), "{}").unwrap();
    let needed = files_below(root.path());
    assert!(garbage(&store.gc(&Gc::delete()).await.unwrap()).is_empty());
    litter(root.path());

    // Of today's files nothing goes, and the report says how many wait.
    let report = store.gc(&Gc::delete()).await.unwrap();
    assert_eq!((report.removed.len(), report.young_count), (0, STRAY.len() + 1));
    // The day after tomorrow a dry run lists what a deletion removes.
    let later = in_hours(root.path(), 48).await;
    let mut expected: Vec<_> = STRAY.iter().map(|path| ((*path).to_owned(), Reason::Unreferenced)).collect();
    expected.push((STAGED.into(), Reason::Staged));
    expected.sort();
    let all = files_below(root.path());
    let dry = later.gc(&Gc::dry_run()).await.unwrap();
    assert_eq!(garbage(&dry), expected);
    assert_eq!((dry.bytes(), files_below(root.path())), (6 * expected.len() as u64, all));
    let report = later.gc(&Gc::delete()).await.unwrap();
    assert_eq!(report.removed, dry.removed);
    let mut unknown = report.unknown.clone();
    unknown.sort();
    assert_eq!(unknown, FOREIGN);
    let mut left = needed.clone();
    left.extend(FOREIGN.map(String::from));
    left.sort();
    assert_eq!(files_below(root.path()), left);
    assert!(report.to_string().contains("todo.md"), "{report}");
    // A second run finds nothing, and everything can be read.
    assert!(later.gc(&Gc::delete()).await.unwrap().removed.is_empty());
    later.online("taxi_v1").await.unwrap().materialization().verify().await.unwrap();
    later.extract(&kept.table().to_string()).await.unwrap().verify().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn extracts_go_when_their_retention_is_over() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = in_hours(root.path(), 0).await;
    store.ingest(&made_load(&data.path().join("a.csv"), &[trip("2014-11-01T08:00:00Z", 1.0)])).await.unwrap();
    let sql = "SELECT fare_amount FROM nyc_taxi";
    let (mut last, mut days, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for hours in 0..4 {
        // Each run an hour after the one before, so that their order is known.
        let store = in_hours(root.path(), hours - 4).await;
        last.push(store.ctas_with(&Extract::new("last", sql).unwrap().keep_last(2)).await.unwrap().table().to_string());
        days.push(store.ctas_with(&Extract::new("days", sql).unwrap().keep_for(7)).await.unwrap().table().to_string());
        both.push(
            store.ctas_with(&Extract::new("both", sql).unwrap().keep_for(7).keep_last(3)).await.unwrap().table().to_string(),
        );
    }
    let names = async |name: &str| -> Vec<String> {
        in_hours(root.path(), 0).await.extracts(name).await.unwrap().iter().map(|run| run.table.to_string()).collect()
    };
    // Within the grace period nothing goes.
    assert!(store.gc(&Gc::delete()).await.unwrap().removed.is_empty());
    let report = in_hours(root.path(), 30).await.gc(&Gc::delete()).await.unwrap();
    assert!(report.removed.iter().all(|garbage| garbage.reason == Reason::Expired));
    // Records go before rows.
    let records: Vec<bool> = report.removed.iter().map(|garbage| garbage.path.ends_with("extract.json")).collect();
    assert_eq!(records, [true, true, true, false, false, false]);
    assert_eq!(
        (names("last").await, names("days").await, names("both").await),
        (last[2..].to_vec(), days.clone(), both[1..].to_vec())
    );
    assert!(matches!(store.extract(&last[0]).await, Err(Error::UnknownTable { .. })));
    in_hours(root.path(), 24 * 8).await.gc(&Gc::delete()).await.unwrap();
    assert_eq!((names("last").await.len(), names("days").await.len(), names("both").await.len()), (2, 0, 0));
    assert_eq!(files_below(root.path()).iter().filter(|file| file.starts_with("extracts/")).count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_go_only_when_asked_and_never_what_a_materialization_was_made_of() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 20);
    let store = in_hours(root.path(), 0).await;
    for month in 1..=3 {
        load_trips(&store, &data.path().join(format!("taxi_2014-{month:02}.csv"))).await;
    }
    let made = store.materialize("taxi_v1", "2014-03-01".parse().unwrap()).await.unwrap();
    let extract = store.ctas("all", "SELECT * FROM nyc_taxi").await.unwrap();
    // A fourth version that has dropped all files but one, as a replaced partition or a compaction leaves it.
    let catalog = root.path().join("catalog/default/nyc_taxi");
    fs::copy(catalog.join("v0000000003.json"), catalog.join("v0000000004.json")).unwrap();
    let dropped = Mutex::new(Vec::new());
    reseal(&catalog.join("v0000000004.json"), |version| {
        version["version"] = 4.into();
        let files = version["files"].as_array_mut().unwrap().split_off(1);
        *dropped.lock().unwrap() = files.iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect();
    });
    let dropped: Vec<String> = dropped.into_inner().unwrap();

    let later = in_hours(root.path(), 48).await;
    assert!(later.gc(&Gc::delete()).await.unwrap().removed.is_empty());
    assert!(
        store.gc(&Gc::delete().keep_versions(1)).await.unwrap().removed.is_empty(),
        "within the grace period readers may hold them"
    );
    let report = later.gc(&Gc::delete().keep_versions(1)).await.unwrap();
    assert!(report.removed.iter().all(|garbage| garbage.reason == Reason::OldVersion), "{report}");
    let named: Vec<&str> = made.manifest().inputs[0].files.iter().map(|file| file.path.as_str()).collect();
    let mut expected: Vec<String> = (1..=3).map(|n| format!("catalog/default/nyc_taxi/v{n:010}.json")).collect();
    let lost = dropped.iter().filter(|path| !named.contains(&path.as_str())).map(|path| format!("facts/default/nyc_taxi/{path}"));
    expected.extend(lost);
    assert!(expected.len() > 3 && dropped.iter().any(|path| named.contains(&path.as_str())));
    assert_eq!(garbage(&report).into_iter().map(|(path, _)| path).collect::<Vec<_>>(), expected);
    let described = later.describe("nyc_taxi").await.unwrap();
    assert_eq!((described.version(), described.files().len()), (4, 1));
    later.sql("SELECT * FROM nyc_taxi", "2015-01-01".parse().unwrap()).await.unwrap().collect().await.unwrap();
    // The extract has its rows, and its lineage says what is no longer kept.
    later.extract(&extract.table().to_string()).await.unwrap().verify().await.unwrap();
    let lineage = later.lineage(&extract.table().to_string()).await.unwrap();
    assert!(matches!(lineage.inputs[0].origin, Origin::Removed));
    assert!(later.gc(&Gc::delete().keep_versions(1)).await.unwrap().removed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_registered_tables_are_never_touched_even_below_the_root() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 10);
    let store = in_hours(root.path(), 0).await;
    load_trips(&store, data.path()).await;
    let own = root.path().join("mine");
    copy_dir(&root.path().join("facts/default/nyc_taxi"), &own);
    store.register_table("mine", own.to_str().unwrap(), trips_table()).await.unwrap();
    // Even where this library keeps its own.
    let theirs = root.path().join("facts/default/theirs");
    copy_dir(&own, &theirs);
    fs::write(theirs.join("month=1.parquet#12"), "being written").unwrap();
    store.register_table("taken", theirs.to_str().unwrap(), trips_table()).await.unwrap();
    fs::write(root.path().join("todo.md#12"), "not ours").unwrap();
    let before = files_below(root.path());
    let report = in_hours(root.path(), 1_000).await.gc(&Gc::delete().keep_versions(1)).await.unwrap();
    assert!(report.removed.is_empty() && report.unknown.is_empty(), "{report}");
    assert_eq!(files_below(root.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_file_that_cannot_be_read_stops_the_collection() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 10);
    let store = in_hours(root.path(), 0).await;
    load_trips(&store, data.path()).await;
    store.materialize("taxi_v1", "2014-07-01".parse().unwrap()).await.unwrap();
    store.ctas("kept", "SELECT * FROM nyc_taxi").await.unwrap();
    litter(root.path());
    let later = in_hours(root.path(), 48).await;
    let publishing: Vec<String> = files_below(root.path())
        .into_iter()
        .filter(|name| ["manifest.json", "extract.json", "v0000000001.json"].iter().any(|end| name.ends_with(end)))
        .collect();
    assert_eq!(publishing.len(), 3);
    for name in publishing {
        let whole = fs::read(root.path().join(&name)).unwrap();
        fs::write(root.path().join(&name), &whole[..whole.len() / 2]).unwrap();
        let before = files_below(root.path());
        let error = later.gc(&Gc::delete()).await.unwrap_err();
        assert!(matches!(&error, Error::Corrupt { path, .. } if path.ends_with(&name)), "{error}");
        assert_eq!(files_below(root.path()), before);
        fs::write(root.path().join(&name), whole).unwrap();
    }
    assert_eq!(later.gc(&Gc::delete()).await.unwrap().removed.len(), STRAY.len() + 1);
}

// --- crashes ---------------------------------------------------------------------------------------------------------

async fn open_later(store: Arc<dyn object_store::ObjectStore>) -> asof::Result<FeatureStore> {
    let clock = FixedClock(SystemClock.now().plus(TimeDelta::hours(24 * 40)));
    let locations = Locations::default().mount("memory://x", store)?;
    FeatureStore::open_with("memory://x/root", StoreOptions::default().locations(locations).clock(clock)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_whose_any_call_fails_leaves_readers_right_and_is_completed_by_a_rerun() {
    let data = temp_dir();
    let [january, february] = rides(data.path());
    let base = InMemory::new();
    let store = crate::crash::open(Arc::new(base.clone())).await.unwrap();
    for file in [&january, &february] {
        store.ingest(&load_of(file)).await.unwrap();
    }
    store.materialize("fares_v1", RIDES_SEEN.parse().unwrap()).await.unwrap();
    let kept = store.ctas("fares", "SELECT * FROM rides").await.unwrap();
    let old = store.ctas_with(&Extract::new("old", "SELECT * FROM rides").unwrap().keep_for(1)).await.unwrap();
    for name in STRAY {
        base.put(&format!("root/{name}").into(), "litter".into()).await.unwrap();
    }
    let gc = Gc::delete().keep_versions(1);
    let whole = base.fork();
    let calls = Arc::new(Calls { k: usize::MAX, fault: Fault::Refused, count: AtomicUsize::new(0), log: Mutex::default() });
    let failing = |memory: &InMemory, calls: &Arc<Calls>| Arc::new(Failing { inner: memory.clone(), calls: calls.clone() });
    let report = open_later(failing(&whole, &calls)).await.unwrap().gc(&gc).await.unwrap();
    // Stray files, the expired extract's two, and the first version.
    assert_eq!(report.removed.len(), STRAY.len() + 3, "{report}");
    let listed = async |memory: &InMemory| -> Vec<String> {
        use futures::TryStreamExt;
        use object_store::ObjectStore;
        let objects: Vec<_> = memory.list(None).try_collect().await.unwrap();
        let mut names: Vec<String> = objects.iter().map(|object| object.location.to_string()).collect();
        names.sort();
        names
    };
    let (clean, count) = (listed(&whole).await, calls.count.load(Ordering::SeqCst));
    println!("{:#?}", calls.log.lock().unwrap());
    assert!(count > 20);
    for (k, fault) in (0..count).flat_map(|k| ALL_FAULTS.iter().map(move |fault| (k, *fault))) {
        let memory = base.fork();
        let calls = Arc::new(Calls { k, fault, count: AtomicUsize::new(0), log: Mutex::default() });
        if let Ok(store) = open_later(failing(&memory, &calls)).await {
            let _ = store.gc(&gc).await;
        }
        let store = open_later(Arc::new(memory.clone())).await.unwrap();
        register(&store);
        // What is published can be read; the expired extract is there whole or not at all.
        assert_eq!(store.describe("rides").await.unwrap().version(), 2);
        assert_eq!(store.sql("SELECT * FROM rides", RIDES_SEEN.parse().unwrap()).await.unwrap().count().await.unwrap(), 5);
        store.extract(&kept.table().to_string()).await.unwrap().verify().await.unwrap();
        match store.extract(&old.table().to_string()).await {
            Ok(run) => run.verify().await.unwrap(),
            Err(error) => assert!(matches!(error, Error::UnknownTable { .. }), "{error}"),
        }
        store.gc(&gc).await.unwrap();
        assert_eq!(listed(&memory).await, clean, "call {k}, {fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_killed_anywhere_is_completed_by_a_rerun() {
    let (data, loaded) = (temp_dir(), temp_dir());
    write_trips(data.path(), 20);
    let store = in_hours(loaded.path(), 0).await;
    load_trips(&store, data.path()).await;
    store.materialize("taxi_v1", "2014-07-01".parse().unwrap()).await.unwrap();
    let kept = store.ctas("kept", "SELECT * FROM nyc_taxi").await.unwrap();
    for _ in 0..4 {
        store.ctas_with(&Extract::new("old", "SELECT * FROM nyc_taxi").unwrap().keep_last(1)).await.unwrap();
    }
    drop(store);
    let mut cut_off = 0;
    for more in [0, 1, 5, 20, 60, 120, 250, 500] {
        let root = temp_dir();
        copy_dir(loaded.path(), root.path());
        litter(root.path());
        for i in 0..200 {
            fs::write(root.path().join(format!("facts/default/nyc_taxi/year=2014/month=1/{i}.parquet")), "litter").unwrap();
        }
        let before = files_below(root.path()).len();
        let mut child = child("gc", root.path(), root.path());
        while files_below(root.path()).len() + more / 4 >= before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(100));
        }
        let _ = child.kill();
        cut_off += usize::from(!child.wait().unwrap().success());
        let store = in_hours(root.path(), 0).await;
        for record in store.extracts("old").await.unwrap() {
            store.extract(&record.table.to_string()).await.unwrap().verify().await.unwrap();
        }
        store.extract(&kept.table().to_string()).await.unwrap().verify().await.unwrap();
        store.gc(&Gc::delete().grace(TimeDelta::zero())).await.unwrap();
        assert!(store.gc(&Gc::dry_run().grace(TimeDelta::zero())).await.unwrap().removed.is_empty());
        assert_eq!(store.extracts("old").await.unwrap().len(), 1);
        store.online("taxi_v1").await.unwrap().materialization().verify().await.unwrap();
        assert_eq!(store.sql("SELECT * FROM nyc_taxi", "2016-01-01".parse().unwrap()).await.unwrap().count().await.unwrap(), 240);
    }
    println!("{cut_off} of 8 were cut off");
    assert!(cut_off > 0);
}

// --- others at work --------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_beside_loads_extracts_and_materializations_loses_nothing() {
    let (data, whole, root) = (temp_dir(), temp_dir(), temp_dir());
    write_trips(data.path(), 30);
    let months: Vec<_> = (1..=6).map(|month| data.path().join(format!("taxi_2014-{month:02}.csv"))).collect();
    // The very files that the writers are about to make lie there from a crash of two days ago: a writer that took them for
    // its own would see them go.
    let store = in_hours(whole.path(), 0).await;
    for month in &months {
        load_trips(&store, month).await;
    }
    let as_of: AsOf = "2014-07-01".parse().unwrap();
    let expected = bits(&store.materialize("taxi_v1", as_of).await.unwrap()).await;
    copy_dir(whole.path(), root.path());
    for name in files_below(root.path()) {
        let file = root.path().join(&name);
        if name.ends_with(".parquet") { age(&file) } else { fs::remove_file(&file).unwrap() }
    }
    let old = files_below(root.path());
    assert!(old.len() > 6);

    let open = || async { in_hours(root.path(), 0).await };
    let done = Arc::new(AtomicBool::new(false));
    let collector = {
        let (store, done) = (open().await, done.clone());
        tokio::spawn(async move {
            let mut removed = 0;
            while !done.load(Ordering::SeqCst) {
                removed += store.gc(&Gc::delete()).await.unwrap().removed.len();
            }
            removed
        })
    };
    let store = open().await;
    for month in &months {
        load_trips(&store, month).await;
        let made = store.ctas("seen", "SELECT * FROM nyc_taxi").await.unwrap();
        made.verify().await.unwrap();
    }
    let made = store.materialize("taxi_v1", as_of).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    done.store(true, Ordering::SeqCst);
    println!("{} files were collected beside the writers", collector.await.unwrap());

    let store = open().await;
    let version = store.describe("nyc_taxi").await.unwrap();
    assert_eq!((version.version(), version.rows()), (6, 180));
    for file in version.files() {
        assert!(root.path().join("facts/default/nyc_taxi").join(&file.path).is_file(), "{} is lost", file.path);
    }
    made.verify().await.unwrap();
    assert_eq!(bits(&made).await, expected);
    for record in store.extracts("seen").await.unwrap() {
        store.extract(&record.table.to_string()).await.unwrap().verify().await.unwrap();
    }
    assert!(store.gc(&Gc::dry_run()).await.unwrap().removed.is_empty());
}

/// What a table answers now.
async fn rows_of(store: &FeatureStore, table: &str) -> usize {
    let rows = store.sql(&format!("SELECT * FROM {table}"), "2015-01-01".parse().unwrap()).await.unwrap();
    rows.count().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_lie_elsewhere_keep_their_files_when_the_table_there_is_dropped() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 10);
    let store = in_hours(root.path(), 0).await;
    load_trips(&store, data.path()).await;
    let months = root.path().join("facts/default/nyc_taxi/year=2014");
    let own = data.path().join("own");
    copy_dir(&months.join("month=2"), &own.join("year=2014/month=2"));
    store.register_table("own", own.to_str().unwrap(), trips_table()).await.unwrap();
    let january = months.join("month=1");
    let add = format!("ALTER TABLE own ADD PARTITION (year = 2014, month = 1) LOCATION '{}'", january.display());
    store.execute(&add).await.unwrap();
    store.drop_table("nyc_taxi").await.unwrap();

    let (before, files) = (rows_of(&store, "own").await, files_below(&january));
    let later = in_hours(root.path(), 1_000).await;
    // Twice: what the first run removes must not be what the second one needed to know.
    let removed = later.gc(&Gc::delete().keep_versions(1)).await.unwrap().removed;
    assert!(removed.iter().any(|garbage| garbage.path.contains("month=3/")), "{removed:?}");
    later.gc(&Gc::delete().keep_versions(1)).await.unwrap();
    assert_eq!((rows_of(&later, "own").await, files_below(&january)), (before, files));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_registered_table_outlive_it_and_so_does_what_was_made_of_them() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 10);
    let store = in_hours(root.path(), 0).await;
    load_trips(&store, data.path()).await;
    let theirs = root.path().join("facts/default/theirs");
    copy_dir(&root.path().join("facts/default/nyc_taxi"), &theirs);
    store.drop_table("nyc_taxi").await.unwrap();
    store.register_table("nyc_taxi", theirs.to_str().unwrap(), trips_table()).await.unwrap();
    store.materialize("taxi_v1", "2014-07-01".parse().unwrap()).await.unwrap();
    store.register_table("taken", theirs.to_str().unwrap(), trips_table()).await.unwrap();
    store.drop_table("nyc_taxi").await.unwrap();
    store.drop_table("taken").await.unwrap();
    let before = files_below(&theirs);
    let later = in_hours(root.path(), 1_000).await;
    for _ in 0..3 {
        later.gc(&Gc::delete().keep_versions(1)).await.unwrap();
    }
    assert_eq!(files_below(&theirs), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_compaction_left_and_what_loads_report_is_known() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = in_hours(root.path(), 0).await;
    let cheap = Expect::range("fare", 0.0..=20.0).on_violation(OnViolation::Quarantine);
    for file in rides(data.path()) {
        store.ingest(&load_of(&file).expect(cheap.clone())).await.unwrap();
    }
    let small = store.describe("rides").await.unwrap();
    store.compact("rides", &CompactOptions::default()).await.unwrap();
    let (rows, files) = (rows_of(&store, "rides").await, store.describe("rides").await.unwrap().files().len());
    assert!(rows == 4 && files < small.files().len());

    let later = in_hours(root.path(), 48).await;
    let report = later.gc(&Gc::delete()).await.unwrap();
    assert!(report.removed.is_empty() && report.unknown.is_empty(), "{report}");
    let report = later.gc(&Gc::delete().keep_versions(1)).await.unwrap();
    let facts = report.removed.iter().filter(|garbage| garbage.path.starts_with("facts/")).count();
    assert!(facts > 0 && report.removed.iter().all(|garbage| garbage.reason == Reason::OldVersion), "{report}");
    assert!(report.unknown.is_empty());
    assert_eq!(rows_of(&later, "rides").await, rows);
    // The reports and the row that was kept out are those of loads that the table still holds.
    let kept = |folder: &str| files_below(root.path()).iter().filter(|file| file.starts_with(folder)).count();
    assert_eq!((kept("quality/"), kept("quarantine/"), later.quality("rides").await.unwrap().reports.len()), (2, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_rerun_is_about_to_name_is_young_again() {
    let (data, root) = (temp_dir(), temp_dir());
    let text = "at,zone,miles,fare\n2014-01-05 10:00:00,1,2.5,11\n2014-01-06 11:00:00,2,1.5,-7\nnever,2,1,1\n";
    let file = crate::support::write_text(data.path(), "rides.csv", text);
    let positive = Expect::range("fare", 0.0..=1e9).on_violation(OnViolation::Quarantine);
    let load = load_of(Path::new(&file)).expect(positive).on_reject(asof::ingest::OnReject::Skip);
    let store = in_hours(root.path(), 0).await;
    store.ingest(&load).await.unwrap();
    let (commit, aside) = (root.path().join("catalog/default/rides/v0000000001.json"), data.path().join("commit"));
    // Cut off before its commit, two days ago.
    fs::rename(&commit, &aside).unwrap();
    let of_load = files_below(root.path());
    for kind in ["facts/", "quality/", "quarantine/", "rejects/"] {
        assert!(of_load.iter().any(|name| name.starts_with(kind)), "{of_load:?}");
    }
    of_load.iter().for_each(|name| age(&root.path().join(name)));
    // The rerun, as it is at the moment before its commit: a collection finds nothing that it may remove.
    store.ingest(&load).await.unwrap();
    fs::rename(&commit, &aside).unwrap();
    let report = store.gc(&Gc::delete()).await.unwrap();
    assert!(report.removed.is_empty(), "{report}");
    fs::rename(&aside, &commit).unwrap();
    assert_eq!(store.quality("rides").await.unwrap().lost, []);
    let more = crate::support::write_text(data.path(), "more.csv", "at,zone,miles,fare\n2014-02-05 10:00:00,1,2.5,11\n");
    store.ingest(&load_of(Path::new(&more))).await.unwrap();
    assert_eq!(store.sql("SELECT * FROM rides", RIDES_SEEN.parse().unwrap()).await.unwrap().count().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_that_was_put_last_stays_whatever_its_writers_clock_shows() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = in_hours(root.path(), 0).await;
    store.ingest(&made_load(&data.path().join("a.csv"), &[trip("2014-11-01T08:00:00Z", 1.0)])).await.unwrap();
    let extract = Extract::new("zones", "SELECT fare_amount FROM nyc_taxi").unwrap().keep_last(1);
    let first = store.ctas_with(&extract).await.unwrap();
    let behind = in_hours(root.path(), -48).await;
    let last = behind.ctas_with(&extract).await.unwrap();
    in_hours(root.path(), 30).await.gc(&Gc::delete()).await.unwrap();
    assert!(store.extract(&last.table().to_string()).await.is_ok());
    assert!(matches!(store.extract(&first.table().to_string()).await, Err(Error::UnknownTable { .. })));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_behind_a_link_is_removed_and_what_is_published_there_is_known() {
    use std::os::unix::fs::symlink;
    let (data, root, outside) = (temp_dir(), temp_dir(), temp_dir());
    write_trips(data.path(), 30);
    let store = in_hours(root.path(), 0).await;
    load_trips(&store, data.path()).await;
    store.materialize("zone_demand_v1", "2014-07-01".parse().unwrap()).await.unwrap();
    // Files that would be garbage here lie elsewhere; a link leads up; one of the root's own folders is kept on another disk.
    let stray = "month=1/0123456789abcdef-00000-0123456789abcdef.parquet";
    fs::create_dir_all(outside.path().join("month=1")).unwrap();
    fs::write(outside.path().join(stray), "outside").unwrap();
    age(&outside.path().join(stray));
    symlink(outside.path(), root.path().join("facts/default/elsewhere")).unwrap();
    symlink(outside.path().join(stray), root.path().join("facts/default/nyc_taxi/0123456789abcdef-file.parquet")).unwrap();
    symlink(root.path(), root.path().join("facts/default/up")).unwrap();
    symlink(root.path(), root.path().join("materialized/up")).unwrap();
    fs::rename(root.path().join("catalog"), outside.path().join("catalog")).unwrap();
    symlink(outside.path().join("catalog"), root.path().join("catalog")).unwrap();
    let report = in_hours(root.path(), 48).await.gc(&Gc::delete()).await.unwrap();
    assert!(report.removed.is_empty(), "{report}");
    assert!(report.unknown.contains(&"facts/default/up".to_owned()), "{report}");
    assert_eq!(fs::read(outside.path().join(stray)).unwrap(), b"outside");
    fs::remove_file(root.path().join("materialized/up")).unwrap();
    store.online("zone_demand_v1").await.unwrap().materialization().verify().await.unwrap();
    assert!(rows_of(&store, "nyc_taxi").await > 0);
}
