//! I6: published means complete. Processes are killed, stores fail call by call; nothing is half there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use asof::{
    Aggregate, Error, FeatureSet, FeatureStore, StoreOptions, Value,
    catalog::{FactTable, KnownAt},
    encoder::Number,
    ingest::{CompactOptions, Expect, Ingest, LoadMode, OnViolation},
    storage::Locations,
};
use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, memory::InMemory, path::Path as Key};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    failing_store::{ALL_FAULTS, BREAKS, Calls, Failing, Fault},
    support::{
        bits, bits_of, child, copy_dir, files_below, load_trips, store_with, temp_dir, version_text, write_batch, write_text,
        write_trips,
    },
};

pub(crate) const AS_OF: &str = "2014-07-01T04:00:00Z";
pub(crate) const SETS: [&str; 2] = ["taxi_v1", "zone_demand_v1"];

// --- kill -9 ---------------------------------------------------------------------------------------------------------

/// The files below a root. A killed writer leaves its staging file `<name>#<digits>` beside the name it never got: no
/// listing of an object store shows it, so it is left out here too.
pub(crate) fn published(root: &Path) -> Vec<String> {
    let is_staged = |name: &String| name.rsplit_once('#').is_some_and(|(_, n)| n.bytes().all(|b| b.is_ascii_digit()));
    files_below(root).into_iter().filter(|name| !is_staged(name)).collect()
}

/// How many files lie below a root, staged ones too, while they come and go.
fn stir(root: &Path) -> usize {
    let Ok(entries) = fs::read_dir(root) else { return 0 };
    let entries = entries.flatten().filter(|entry| entry.file_name() != ".asof-cache");
    entries.map(|e| if e.path().is_dir() { stir(&e.path()) } else { 1 }).sum()
}

/// Lets the child make this many files, then a little more, and kills it; was it still at work?
pub(crate) fn kill_after(mut child: Child, root: &Path, new_files: usize, more: Duration) -> bool {
    let (before, start) = (stir(root), Instant::now());
    while stir(root) < before + new_files && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(120), "the child hangs");
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(more);
    let _ = child.kill();
    !child.wait().unwrap().success()
}

/// Everything that a store says of its table and its sets.
async fn testimony(store: &FeatureStore, root: &Path) -> String {
    let mut said = format!("{:?}\n{:?}\n", store.tables().await.unwrap(), store.partitions("nyc_taxi").await.unwrap());
    said += &version_text(&store.describe("nyc_taxi").await.unwrap());
    for set in SETS {
        let made = store.materialize(set, AS_OF.parse().unwrap()).await.unwrap();
        made.verify().await.unwrap();
        said += &format!(
            "\n{} {} {:?}",
            made.id(),
            serde_json::to_string(made.manifest()).unwrap(),
            blake3::hash(&bits(&made).await)
        );
    }
    let online = store.online("zone_demand_v1").await.unwrap();
    for zone in 1..=263 {
        said += &format!("\n{:?}", online.get(&[Value::Int(zone)]).unwrap());
    }
    said + "\n" + &published(root).join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_killed_anywhere_is_completed_by_a_rerun() {
    let (data, whole) = (temp_dir(), temp_dir());
    write_trips(data.path(), 40);
    let store = store_with(whole.path(), StoreOptions::default()).await;
    load_trips(&store, data.path()).await;
    let expected = testimony(&store, whole.path()).await;

    let (mut chance, mut cut_off) = (StdRng::seed_from_u64(1), 0);
    for new_files in [0, 1, 2, 4, 7, 10, 13, 14] {
        let root = temp_dir();
        let child = child("ingest", root.path(), data.path());
        cut_off += usize::from(kill_after(child, root.path(), new_files, Duration::from_micros(chance.random_range(0..4_000))));
        // Whatever is there, a reader sees the whole load or none of it.
        let store = store_with(root.path(), StoreOptions::default()).await;
        match store.describe("nyc_taxi").await {
            Ok(version) => assert_eq!((version.version(), version.rows()), (1, 480)),
            Err(error) => assert!(matches!(error, Error::UnknownTable { .. }), "{error}"),
        }
        load_trips(&store, data.path()).await;
        assert_eq!(testimony(&store, root.path()).await, expected, "killed after {new_files} files");
    }
    println!("{cut_off} of 8 loads were cut off");
    assert!(cut_off > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_materialization_killed_anywhere_is_completed_by_a_rerun() {
    let (data, whole, loaded) = (temp_dir(), temp_dir(), temp_dir());
    write_trips(data.path(), 40);
    let store = store_with(whole.path(), StoreOptions::default()).await;
    load_trips(&store, data.path()).await;
    copy_dir(whole.path(), loaded.path());
    let expected = testimony(&store, whole.path()).await;

    let (mut chance, mut cut_off) = (StdRng::seed_from_u64(2), 0);
    for new_files in [0, 1, 1, 2, 3, 4, 5, 6] {
        let root = temp_dir();
        copy_dir(loaded.path(), root.path());
        let child = child("materialize", root.path(), Path::new(AS_OF));
        cut_off += usize::from(kill_after(child, root.path(), new_files, Duration::from_micros(chance.random_range(0..20_000))));
        let store = store_with(root.path(), StoreOptions::default()).await;
        for set in SETS {
            match store.online(set).await {
                Ok(online) => online.materialization().verify().await.unwrap(),
                Err(error) => assert!(matches!(error, Error::NotFound { .. }), "{error}"),
            }
        }
        assert_eq!(testimony(&store, root.path()).await, expected, "killed after {new_files} files");
    }
    println!("{cut_off} of 8 materializations were cut off");
    assert!(cut_off > 0);
}

// --- a store that fails its k-th call --------------------------------------------------------------------------------

/// A root in memory, opened through this object store.
pub(crate) async fn open(store: Arc<dyn ObjectStore>) -> asof::Result<FeatureStore> {
    let locations = Locations::default().mount("memory://x", store)?;
    let store = FeatureStore::open_with("memory://x/root", StoreOptions::default().locations(locations)).await?;
    register(&store)?;
    Ok(store)
}

/// Makes a set of rows and one of entities over `rides` known.
pub(crate) fn register(store: &FeatureStore) -> asof::Result<()> {
    store.register(
        FeatureSet::rows("fares_v1", "SELECT at, miles, fare FROM rides")
            .table("rides")
            .event_time("at")
            .encode(Number::of("miles"))
            .label("fare")
            .build()?,
    )?;
    store.register(
        FeatureSet::entities("zones_v1", "rides")
            .key("zone")
            .lookup("fare", "last_fare")
            .window(TimeDelta::days(40), [Aggregate::count().named("rides_40d"), Aggregate::mean("fare")])
            .build()?,
    )
}

pub(crate) const RIDES_SEEN: &str = "2014-03-01T00:00:00Z";

/// Two files of rides, which meet in one month.
pub(crate) fn rides(dir: &Path) -> [PathBuf; 2] {
    let january =
        "at,zone,miles,fare\n2014-01-05 10:00:00,1,2.5,11\n2014-01-06 11:00:00,2,1.5,7.25\n2014-02-01 09:00:00,1,3,14\n";
    let february = "at,zone,miles,fare\n2014-02-02 10:00:00,3,2,9\n2014-02-03 11:30:00,2,8.5,30.5\n";
    [("january.csv", january), ("february.csv", february)].map(|(name, text)| write_text(dir, name, text).into())
}

pub(crate) fn load_of(file: &Path) -> Ingest {
    let table = FactTable::new("at", KnownAt::after(TimeDelta::hours(1))).zone("UTC".parse().unwrap());
    Ingest::new("rides", table).unwrap().from(file.to_str().unwrap())
}

/// What a reader sees of the table: its newest version and all rows, or that there is none.
async fn table_seen(store: &FeatureStore) -> String {
    match store.describe("rides").await {
        Ok(version) => {
            let rows = store.sql("SELECT * FROM rides ORDER BY at, zone", RIDES_SEEN.parse().unwrap()).await.unwrap();
            format!("{}\n{:?}", version_text(&version), bits_of(&rows.collect().await.unwrap()))
        }
        Err(error) => {
            assert!(matches!(error, Error::UnknownTable { .. }), "{error}");
            "nothing".into()
        }
    }
}

/// What a reader sees of a set: the published rows, or that there are none.
async fn set_seen(store: &FeatureStore, set: &str) -> String {
    match store.online(set).await {
        Ok(online) => {
            let made = online.materialization();
            made.verify().await.unwrap();
            format!("{} {:?} {:?}", made.id(), serde_json::to_string(made.manifest()).unwrap(), bits(made).await)
        }
        Err(error) => {
            assert!(matches!(error, Error::NotFound { .. }), "{error}");
            "nothing".into()
        }
    }
}

pub(crate) type Job = fn(FeatureStore, PathBuf) -> BoxFuture<'static, asof::Result<()>>;
pub(crate) type Seen = fn(FeatureStore) -> BoxFuture<'static, String>;

/// Runs a job on copies of a root, failing every call once; returns the calls that a run makes.
pub(crate) async fn fail_every_call(
    base: &InMemory,
    data: &Path,
    job: Job,
    seen: Seen,
    faults: &[Fault],
    only: fn(&str) -> bool,
) -> Vec<String> {
    // A clone of a memory store holds the same objects, a fork the same ones in a store of its own.
    let look = async |memory: &InMemory| seen(open(Arc::new(memory.clone())).await.unwrap()).await;
    let handle = async |memory: &InMemory, calls: &Arc<Calls>| {
        open(Arc::new(Failing { inner: memory.clone(), calls: calls.clone() })).await
    };
    let run = async |store: &asof::Result<FeatureStore>| match store {
        Ok(store) => job(store.clone(), data.into()).await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let calls = |k, fault| Arc::new(Calls { k, fault, count: AtomicUsize::new(0), log: Mutex::default() });

    let before = look(&base.fork()).await;
    let (whole, all) = (base.fork(), calls(usize::MAX, Fault::Refused));
    run(&handle(&whole, &all).await).await.unwrap();
    let (after, all) = (look(&whole).await, all.log.lock().unwrap().clone());
    assert_ne!(before, after);
    for (k, fault) in (0..all.len()).flat_map(|k| faults.iter().map(move |fault| (k, *fault))) {
        if !only(&all[k]) || fault == Fault::Truncated && !all[k].starts_with("get") {
            continue;
        }
        let (memory, calls) = (base.fork(), calls(k, fault));
        let store = handle(&memory, &calls).await;
        let outcome = run(&store).await;
        assert!(calls.count.load(Ordering::SeqCst) > k, "call {k} was never made");
        let told = format!("call {k}, {}, {fault:?}: {outcome:?}", calls.log.lock().unwrap()[k]);
        let left = look(&memory).await;
        assert!(left == before || left == after, "{told} left a half:\n{left}");
        assert!(outcome.is_err() || left == after, "{told} says it is done and it is not");
        // The rerun is one of the same process when there is one, else of the next.
        let store = if store.is_ok() { store } else { handle(&memory, &calls).await };
        run(&store).await.unwrap_or_else(|e| panic!("{told}, and the rerun fails: {e}"));
        assert_eq!(look(&memory).await, after, "{told}, and the rerun made something else");
    }
    all
}

fn load(store: FeatureStore, data: PathBuf) -> BoxFuture<'static, asof::Result<()>> {
    async move { store.ingest(&load_of(&data)).await.map(drop) }.boxed()
}

fn table(store: FeatureStore) -> BoxFuture<'static, String> {
    async move { table_seen(&store).await }.boxed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_whose_any_call_fails_leaves_the_old_table_or_the_new() {
    let data = temp_dir();
    let [january, february] = rides(data.path());
    let base = InMemory::new();
    // The first load, into an empty root ...
    let calls = fail_every_call(&base, &january, load, table, ALL_FAULTS, |_| true).await;
    println!("first load: {calls:#?}");
    assert!(calls.len() >= 10);
    // ... and the second, which adds to a month that is there.
    open(Arc::new(base.clone())).await.unwrap().ingest(&load_of(&january)).await.unwrap();
    let calls = fail_every_call(&base, &february, load, table, ALL_FAULTS, |_| true).await;
    assert!(calls.iter().any(|call| call.ends_with("catalog/default/rides/v0000000002.json")), "{calls:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_of_large_files_fails_as_cleanly_in_the_middle_of_an_upload() {
    // Texts that do not compress, so that a file is uploaded in parts.
    let (data, mut chance) = (temp_dir(), StdRng::seed_from_u64(3));
    let mut note = || -> String { (0..1 << 20).map(|_| char::from(chance.random_range(b' '..=b'~'))).collect() };
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values((0..14).map(|_| note())));
    let at = TimestampMicrosecondArray::from_iter_values((0..14).map(|day| 1_388_916_000_000_000 + day * 86_400_000_000));
    let columns: [(&str, ArrayRef); 2] = [("at", Arc::new(at.with_timezone("UTC"))), ("note", notes)];
    let large = write_batch(data.path(), "large.parquet", &RecordBatch::try_from_iter(columns).unwrap());
    let large = PathBuf::from(large);
    let rows: Seen =
        |store| async move { store.describe("rides").await.map_or_else(|_| "nothing".into(), |v| version_text(&v)) }.boxed();
    let of_uploads = |call: &str| ["begin", "part", "complete"].contains(&call.split(' ').next().unwrap_or_default());
    let calls = fail_every_call(&InMemory::new(), &large, load, rows, BREAKS, of_uploads).await;
    assert!(calls.iter().filter(|call| of_uploads(call)).count() >= 4, "{calls:#?}");
}

/// The load of a source that lies in the failing store itself, with keys to compare and a month to replace.
fn load_within(store: FeatureStore, source: PathBuf) -> BoxFuture<'static, asof::Result<()>> {
    let load = load_of(&source).expect(Expect::unique(["at", "zone"]));
    let load = load.expect(Expect::range("fare", 0.0..=20.0).on_violation(OnViolation::Quarantine));
    async move { store.ingest(&load.mode(LoadMode::ReplacePartitions)).await.map(drop) }.boxed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_from_within_a_failing_store_never_takes_a_part_for_the_whole() {
    let data = temp_dir();
    let [january, february] = rides(data.path());
    let base = InMemory::new();
    let store = open(Arc::new(base.clone())).await.unwrap();
    store.ingest(&load_of(&january)).await.unwrap();
    let text = fs::read(&february).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    std::io::Write::write_all(&mut gzip, &text).unwrap();
    let at = TimestampMicrosecondArray::from_iter_values((0..40).map(|hour| 1_391_428_800_000_000 + hour * 3_600_000_000));
    let columns: [(&str, ArrayRef); 3] = [
        ("at", Arc::new(at.with_timezone("UTC"))),
        ("zone", Arc::new(Int64Array::from_iter_values(0..40))),
        ("fare", Arc::new(Float64Array::from_iter_values((0..40).map(f64::from)))),
    ];
    let rows = write_batch(data.path(), "february.parquet", &RecordBatch::try_from_iter(columns).unwrap());
    let lines = String::from_utf8(text.clone()).unwrap();
    let mut lines = lines.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let object = |cells: Vec<&str>| {
        let quote = |cell: &str| if cell.contains(':') { format!("{cell:?}") } else { cell.to_owned() };
        let fields: Vec<String> = names.iter().zip(cells).map(|(name, cell)| format!("{name:?}: {}", quote(cell))).collect();
        format!("{{{}}}\n", fields.join(", "))
    };
    let lines: String = lines.map(object).collect();
    let zstd = zstd::encode_all(lines.as_bytes(), 3).unwrap();
    let sources = [
        ("csv", text),
        ("csv.gz", gzip.finish().unwrap()),
        ("parquet", fs::read(rows).unwrap()),
        ("jsonl", lines.into()),
        ("jsonl.zst", zstd),
    ];
    for (ending, bytes) in sources {
        let key = format!("data/february.{ending}");
        base.put(&Key::from(key.as_str()), bytes.into()).await.unwrap();
        let source = PathBuf::from(format!("memory://x/{key}"));
        let calls = fail_every_call(&base, &source, load_within, table, ALL_FAULTS, |_| true).await;
        for read in [format!("get {key}"), "get catalog/".into(), "put root/quarantine/".into(), "put root/quality/".into()] {
            let is_there = calls.iter().any(|call| call.replacen("root/catalog", "catalog", 1).starts_with(&read));
            assert!(is_there || ending == "parquet", "{read}: {calls:#?}");
        }
    }
}

fn compact(store: FeatureStore, _: PathBuf) -> BoxFuture<'static, asof::Result<()>> {
    async move { store.compact("rides", &CompactOptions::default()).await.map(drop) }.boxed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_whose_any_call_fails_leaves_the_old_files_or_the_new() {
    let data = temp_dir();
    let [january, february] = rides(data.path());
    let base = InMemory::new();
    let store = open(Arc::new(base.clone())).await.unwrap();
    for file in [&january, &february] {
        store.ingest(&load_of(file)).await.unwrap();
    }
    let calls = fail_every_call(&base, data.path(), compact, table, ALL_FAULTS, |_| true).await;
    assert!(calls.iter().any(|call| call.starts_with("get root/facts/")), "{calls:#?}");
    assert!(calls.iter().any(|call| call.ends_with("catalog/default/rides/v0000000003.json")), "{calls:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_materialization_whose_any_call_fails_is_there_whole_or_not_at_all() {
    let data = temp_dir();
    let [january, february] = rides(data.path());
    let base = InMemory::new();
    let store = open(Arc::new(base.clone())).await.unwrap();
    for file in [&january, &february] {
        store.ingest(&load_of(file)).await.unwrap();
    }
    // Two sets at once are two publications: a reader may find the first without the second.
    for (set, job) in [
        (
            "fares_v1",
            (|store, _| async move { store.materialize("fares_v1", RIDES_SEEN.parse()?).await.map(drop) }.boxed()) as Job,
        ),
        ("zones_v1", |store, _| async move { store.materialize("zones_v1", RIDES_SEEN.parse()?).await.map(drop) }.boxed()),
    ] {
        let seen: Seen = match set {
            "fares_v1" => |store| async move { set_seen(&store, "fares_v1").await }.boxed(),
            _ => |store| async move { set_seen(&store, "zones_v1").await }.boxed(),
        };
        let calls = fail_every_call(&base, &january, job, seen, BREAKS, |_| true).await;
        println!("{set}: {calls:#?}");
        assert!(calls.len() >= 10);
    }
}

/// What a reader sees of the catalog: databases, tables, and all of the table `facts`.
fn catalog(store: FeatureStore) -> BoxFuture<'static, String> {
    async move {
        let mut said = format!("{:?} {:?}", store.databases().await.unwrap(), store.tables().await.unwrap());
        match store.describe("facts").await {
            Ok(version) => {
                let rows = store.sql("SELECT * FROM facts ORDER BY at, zone", RIDES_SEEN.parse().unwrap()).await.unwrap();
                said += &format!("{}\n{:?}", version_text(&version), bits_of(&rows.collect().await.unwrap()));
                said += &store.execute("SHOW PARTITIONS facts").await.unwrap().lines().join(" ");
            }
            Err(error) => assert!(matches!(error, Error::UnknownTable { .. }), "{error}"),
        }
        said
    }
    .boxed()
}

const CREATE_FACTS: &str = "CREATE EXTERNAL TABLE IF NOT EXISTS facts PARTITIONED BY (month int) STORED AS PARQUET LOCATION \
    'memory://x/facts' TBLPROPERTIES ('asof.event_time' = 'at', 'asof.delay' = '1 hour')";

/// Files of `month=N`, written by somebody else.
async fn put_facts(memory: &InMemory, months: impl IntoIterator<Item = i64>) {
    use object_store::ObjectStoreExt;
    for month in months {
        let at = TimestampMicrosecondArray::from(vec![1_388_916_000_000_000 + month * 1_000_000]).with_timezone("UTC");
        let zone: ArrayRef = Arc::new(StringArray::from(vec![format!("z{month}")]));
        let dir = temp_dir();
        let batch = RecordBatch::try_from_iter([("at", Arc::new(at) as ArrayRef), ("zone", zone)]).unwrap();
        let bytes = fs::read(write_batch(dir.path(), "a.parquet", &batch)).unwrap();
        memory.put(&Key::from(format!("facts/month={month}/a.parquet")), PutPayload::from(bytes)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_and_repair_whose_any_call_fails_leave_the_old_catalog_or_the_new() {
    let dir = temp_dir();
    let base = InMemory::new();
    put_facts(&base, 1..=3).await;
    let create: Job = |store, _| async move { store.execute(CREATE_FACTS).await.map(drop) }.boxed();
    let calls = fail_every_call(&base, dir.path(), create, catalog, ALL_FAULTS, |_| true).await;
    println!("create: {calls:#?}");
    open(Arc::new(base.clone())).await.unwrap().execute(CREATE_FACTS).await.unwrap();

    // One month more, one less, one that is another.
    let changed = base.fork();
    put_facts(&changed, [4]).await;
    {
        use object_store::ObjectStoreExt;
        changed.delete(&Key::from("facts/month=1/a.parquet")).await.unwrap();
        let other = changed.get(&Key::from("facts/month=3/a.parquet")).await.unwrap().bytes().await.unwrap();
        changed.put(&Key::from("facts/month=2/a.parquet"), PutPayload::from(other)).await.unwrap();
    }
    let repair: Job = |store, _| async move { store.execute("MSCK REPAIR TABLE facts").await.map(drop) }.boxed();
    // The old version's files are gone, so that what is seen of it is its description alone.
    let described: Seen = |store| async move { version_text(&store.describe("facts").await.unwrap()) }.boxed();
    let calls = fail_every_call(&changed, dir.path(), repair, described, ALL_FAULTS, |_| true).await;
    println!("repair: {calls:#?}");
    assert!(calls.iter().any(|call| call.ends_with("facts/v0000000002.json")));

    for job in [
        (|store, _| {
            async move { store.execute("ALTER TABLE facts DROP IF EXISTS PARTITION (month = 2)").await.map(drop) }.boxed()
        }) as Job,
        |store, _| async move { store.execute("DROP TABLE IF EXISTS facts").await.map(drop) }.boxed(),
        |store, _| async move { store.execute("CREATE DATABASE IF NOT EXISTS sales").await.map(drop) }.boxed(),
        |store, _| {
            async move {
                let add = "ALTER TABLE facts ADD IF NOT EXISTS PARTITION (month = 9) LOCATION 'memory://x/facts/late' PARTITION (month = 8)";
                store.execute(add).await.map(drop)
            }
            .boxed()
        },
    ] {
        let calls = fail_every_call(&base, dir.path(), job, catalog, ALL_FAULTS, |_| true).await;
        assert!(calls.len() >= 3, "{calls:#?}");
    }
}
