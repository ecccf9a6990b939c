//! Tiles: a materialization that loads them is the one that reads every file, in every byte, whatever happens to them; and a new month
//! costs about its own file.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use asof::{
    Aggregate, AsOf, FeatureSet, FeatureStore, Materialization, Resources, StoreOptions,
    catalog::{FactTable, KnownAt},
    feature_set::Source,
    gc::{Gc, Reason},
    ingest::{CompactOptions, Ingest},
    materialize::Incremental,
    time::{Clock, FixedClock, SystemClock},
};
use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, Decimal128Array, StringArray, TimestampMicrosecondArray};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    bulk_reads::watched,
    object_stores::put,
    support::{child_command, files_below, instant, temp_dir, write_parquet},
    training::{floats, instants, integers, known_at_once},
};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// The first instant of a month, counted from January 2014.
fn month(number: i64) -> AsOf {
    instant(&format!("{}-{:02}-01", 2014 + number / 12, number % 12 + 1))
}

fn after(at: AsOf, us: i64) -> AsOf {
    AsOf::from_micros(at.micros() + us)
}

/// Facts whose event times lie in a month: many at one time, some of them known late, some without a key or a value.
fn write_facts(file: &Path, number: i64, rows: usize, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut optional = |of: &mut dyn FnMut(&mut StdRng) -> i64| -> Vec<Option<i64>> {
        (0..rows).map(|_| if rng.random_bool(0.05) { None } else { Some(of(&mut rng)) }).collect()
    };
    let k1 = optional(&mut |rng| rng.random_range(0..9));
    let k2 = optional(&mut |rng| rng.random_range(0..3));
    let v = optional(&mut |rng| rng.random());
    let n = optional(&mut |rng| rng.random_range(-50..50));
    let text = optional(&mut |rng| rng.random_range(0..40));
    let (first, end) = (month(number).micros(), month(number + 1).micros());
    // A coarse grid of times, so that facts tie.
    let at: Vec<i64> = (0..rows).map(|_| first + rng.random_range(0..(end - first) / HOUR_US) * HOUR_US).collect();
    let known: Vec<i64> = at.iter().map(|at| at + *[0, 0, HOUR_US, 30 * HOUR_US].choose(&mut rng).unwrap()).collect();
    let amounts = n.iter().map(|n| n.map(|n| i128::from(n) * 7)).collect::<Decimal128Array>();
    let wide = n.iter().map(|n| n.map(|n| i128::from(n) * 10_i128.pow(24))).collect::<Decimal128Array>();
    let float = |v: i64| match v % 97 {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => v as f64 * 1e280,
        3 => -0.0,
        _ => v as f64 / 3e15,
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k1", integers(k1.iter().copied())),
        ("k2", Arc::new(k2.iter().map(|k| k.map(|k| format!("p{k}"))).collect::<StringArray>())),
        ("at", instants(at.iter().copied().map(Some))),
        ("known", instants(known.iter().copied().map(Some))),
        ("v", floats(v.iter().map(|v| v.map(float)))),
        ("n", integers(n.iter().copied())),
        ("text", Arc::new(text.iter().map(|t| t.map(|t| format!("{}ü", t * t))).collect::<StringArray>())),
        ("amount", Arc::new(amounts.with_precision_and_scale(12, 2).unwrap())),
        ("wide", Arc::new(wide.with_precision_and_scale(30, 2).unwrap())),
    ];
    write_parquet(file, &columns, None);
}

/// Facts with local times that are known a while later.
fn write_places(file: &Path, number: i64, rows: usize, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (first, end) = (month(number).micros(), month(number + 1).micros());
    let local: TimestampMicrosecondArray = (0..rows).map(|_| Some(first + rng.random_range(0..end - first))).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k1", integers((0..rows).map(|_| Some(rng.random_range(2..12))))),
        ("at", Arc::new(local)),
        ("heat", floats((0..rows).map(|_| Some(rng.random::<f64>())))),
    ];
    write_parquet(file, &columns, None);
}

fn facts_table() -> FactTable {
    FactTable::new("at", KnownAt::column("known"))
}

fn places_table() -> FactTable {
    FactTable::new("at", KnownAt::after(TimeDelta::hours(5))).zone("Europe/Berlin".parse().unwrap())
}

/// Every aggregate whose states are stored.
fn every(prefix: &str) -> Vec<Aggregate> {
    let named = |aggregate: Aggregate, name: &str| aggregate.named(format!("{prefix}_{name}"));
    vec![
        named(Aggregate::count(), "count"),
        named(Aggregate::count_of("v"), "count_v"),
        named(Aggregate::sum("v"), "sum"),
        named(Aggregate::sum("n"), "sum_n"),
        named(Aggregate::sum("amount"), "amounts"),
        named(Aggregate::mean("wide"), "wide"),
        named(Aggregate::mean("n").filter("n > -20 AND text <> '9ü'"), "mean"),
        named(Aggregate::stddev("v"), "stddev"),
        named(Aggregate::variance("n"), "variance"),
        named(Aggregate::variance("amount"), "variance_amount"),
        named(Aggregate::min("v"), "min"),
        named(Aggregate::max("text"), "max_text"),
        named(Aggregate::min("text").filter("n < 0"), "min_text"),
        named(Aggregate::max("wide"), "max_wide"),
        named(Aggregate::first("v"), "first"),
        named(Aggregate::last("text"), "last_text"),
        named(Aggregate::max_by("text", "v"), "max_by"),
        named(Aggregate::min_by("v", "text"), "min_by"),
    ]
}

fn sets() -> Vec<FeatureSet> {
    let pairs = |name: &str| {
        let places = Source::of("places").on("k1").lookup("heat", "heat").max_age(TimeDelta::days(3));
        let places = places.window(TimeDelta::days(45), [Aggregate::mean("heat").named("mean_heat")]);
        let by_k2 = Source::of("facts").on("k2").lookup("text", "text_of_k2").window(TimeDelta::days(61), every("k2"));
        FeatureSet::entities(name, "facts")
            .key("k1")
            .key("k2")
            .lookup("n", "last_n")
            .lookup("text", "last_text")
            .window(TimeDelta::days(20), every("twenty"))
            .window(TimeDelta::days(20), [Aggregate::median("v"), Aggregate::last_k("text", 3).named("three")])
            .all_before(every("all"))
            .also(by_k2)
            .also(places)
    };
    let old = FeatureSet::entities("old_v1", "facts").key("k1").window(TimeDelta::days(31), [Aggregate::mode("text")]);
    vec![
        pairs("pairs_v1").build().unwrap(),
        pairs("inclusive_v1").inclusive().build().unwrap(),
        FeatureSet::entities("last_v1", "facts").key("k1").lookup("v", "v").lookup("known", "known").build().unwrap(),
        old.build().unwrap(),
    ]
}

const SETS: [&str; 4] = ["pairs_v1", "inclusive_v1", "last_v1", "old_v1"];

async fn open(root: &Path, options: StoreOptions) -> FeatureStore {
    let store = FeatureStore::open_with(root.to_str().unwrap(), options.cache_in_memory()).await.unwrap();
    sets().into_iter().for_each(|set| store.register(set).unwrap());
    store
}

/// Loads the files of a month into both tables.
async fn load(store: &FeatureStore, facts: &Path, places: &Path) {
    let load = |table: &str, declared: FactTable, file: &Path| {
        Ingest::new(table, declared).unwrap().from(file.to_str().unwrap().to_owned())
    };
    store.ingest(&load("facts", facts_table(), facts)).await.unwrap();
    store.ingest(&load("places", places_table(), places)).await.unwrap();
}

/// The files of a month.
fn written(data: &Path, number: i64, rows: usize, seed: u64) -> [PathBuf; 2] {
    let [facts, places] = ["facts", "places"].map(|table| data.join(format!("{table}-{number}-{seed}.parquet")));
    write_facts(&facts, number, rows, seed);
    write_places(&places, number, rows / 2, seed);
    [facts, places]
}

/// Two stores with the same facts: one that reads all files, and one with tiles of all files.
async fn both(data: &Path, roots: [&Path; 2], months: i64) -> [FeatureStore; 2] {
    let plain = open(roots[0], StoreOptions::default().not_incremental()).await;
    let tiled = open(roots[1], StoreOptions::default().incremental_from(1)).await;
    for number in 0..months {
        let [facts, places] = written(data, number, 6_000, number as u64);
        for store in [&plain, &tiled] {
            load(store, &facts, &places).await;
        }
    }
    [plain, tiled]
}

fn tiles(root: &Path) -> Vec<String> {
    files_below(root).into_iter().filter(|name| name.starts_with("partials/")).collect()
}

/// Materializes a set with and without tiles, and compares ids, counts, and files with their hashes.
async fn compared(plain: &FeatureStore, tiled: &FeatureStore, set: &str, at: AsOf) -> Materialization {
    let (expected, found) = (plain.materialize(set, at).await.unwrap(), tiled.materialize(set, at).await.unwrap());
    assert_eq!(found.manifest(), expected.manifest(), "{set} as of {at}");
    found
}

/// How many files of `facts` would come from tiles, and how many would be read apart.
async fn planned(store: &FeatureStore, set: &str, at: AsOf) -> (usize, usize) {
    match store.plan(set, at).await.unwrap().tables[0].incremental {
        Incremental::ByFile { from_tiles, read_apart } => (from_tiles, read_apart),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tiles_change_no_bit_whatever_is_loaded_and_compacted_in_between() {
    for seed in 0..2 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (data, one, other) = (temp_dir(), temp_dir(), temp_dir());
        let resources = Resources { partitions: 1 + 3 * seed as usize, ..Resources::default() };
        let plain = open(one.path(), StoreOptions::default().not_incremental()).await;
        let tiled = open(other.path(), StoreOptions::default().incremental_from(1).resources(resources)).await;
        let mut loaded = 0;
        for number in 0..5 {
            loaded += 1;
            let mut files = vec![written(data.path(), number, 6_000, 100 * seed + loaded)];
            if number > 1 && rng.random_bool(0.4) {
                // Facts of an earlier month, in a file of their own.
                loaded += 1;
                files.push(written(data.path(), rng.random_range(0..number), 300, 100 * seed + loaded));
            }
            for [facts, places] in &files {
                for store in [&plain, &tiled] {
                    load(store, facts, places).await;
                }
            }
            if rng.random_bool(0.3) {
                for store in [&plain, &tiled] {
                    store.compact("facts", &CompactOptions::default()).await.unwrap();
                }
            }
            let somewhere = after(month(0), rng.random_range(0..40 + 30 * number) * DAY_US + rng.random_range(0..3) * HOUR_US);
            let close = after(month(number + 1), rng.random_range(-3..3 * 24) * HOUR_US);
            compared(&plain, &tiled, "pairs_v1", somewhere).await;
            for set in SETS {
                for at in [month(number + 1), close] {
                    compared(&plain, &tiled, set, at).await;
                }
            }
        }
        assert!(tiles(one.path()).is_empty() && !tiles(other.path()).is_empty());
        for set in SETS {
            let (from_tiles, _) = planned(&tiled, set, after(month(5), 5 * DAY_US)).await;
            assert!(from_tiles >= 3, "{set}: {from_tiles}");
        }
        // Backwards in time tiles hold too little or too much, and are not used for that.
        for number in (0..5).rev() {
            compared(&plain, &tiled, "pairs_v1", after(month(number), rng.random_range(0..24) * HOUR_US + 1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_tile_is_no_tile_and_is_made_again() {
    let (data, one, other) = (temp_dir(), temp_dir(), temp_dir());
    let [plain, tiled] = both(data.path(), [one.path(), other.path()], 4).await;
    compared(&plain, &tiled, "pairs_v1", after(month(4), 3 * DAY_US)).await;
    let (found, good) = (tiles(other.path()), |name: &String| fs::read(other.path().join(name)).unwrap());
    let good: Vec<Vec<u8>> = found.iter().map(good).collect();
    // A month of each table is cut by an edge, and its tile is for later. The newest month of facts needs a median.
    assert_eq!(found.len(), 7, "{found:?}");
    let mut rng = StdRng::seed_from_u64(5);
    for round in 0..6 {
        for (i, (name, bytes)) in found.iter().zip(&good).enumerate() {
            let mut damaged = bytes.clone();
            match round {
                0 => damaged.clear(),
                1 => damaged.truncate(bytes.len() - 1),
                2 => damaged.truncate(rng.random_range(0..bytes.len())),
                3 => damaged = good[(i + 1) % good.len()].clone(),
                4 => damaged.extend_from_slice(b"more"),
                _ => damaged[rng.random_range(0..bytes.len())] ^= 1 << rng.random_range(0..8),
            }
            fs::write(other.path().join(name), damaged).unwrap();
        }
        let at = after(month(4), 3 * DAY_US + (round + 1) * HOUR_US);
        compared(&plain, &tiled, "pairs_v1", at).await;
        let is_whole = |(name, bytes): &(&String, &Vec<u8>)| fs::read(other.path().join(name)).unwrap() == **bytes;
        assert_eq!(found.iter().zip(&good).filter(is_whole).count(), 5, "those that were loaded, in round {round}");
    }
    // All of them are gone.
    fs::remove_dir_all(other.path().join("partials")).unwrap();
    compared(&plain, &tiled, "pairs_v1", after(month(4), 4 * DAY_US)).await;
    assert_eq!(tiles(other.path()), found);
}

/// Twelve files of 20,000 facts about 50 entities in a store that counts bytes. The bytes of materializations before the last file is
/// visible, and then after it.
async fn bytes_read(options: StoreOptions) -> (u64, u64, Vec<u64>) {
    let (locations, at, seen) = watched(8);
    let (dir, root) = (temp_dir(), temp_dir());
    let mut sizes = Vec::new();
    for file in 0..12 {
        let mut rng = StdRng::seed_from_u64(file as u64);
        let name = format!("{file:02}.parquet");
        let columns = [
            ("k", integers((0..20_000).map(|i| Some(i % 50)))),
            ("at", instants((0..20_000).map(|i| Some(file * 20_000 + i)))),
            ("v", floats((0..20_000).map(|_| Some(rng.random::<f64>())))),
            ("w", floats((0..20_000).map(|_| Some(rng.random::<f64>())))),
        ];
        write_parquet(&dir.path().join(&name), &columns, None);
        let bytes = fs::read(dir.path().join(&name)).unwrap();
        sizes.push(bytes.len() as u64);
        put(&at, &name, bytes).await;
    }
    let options = options.locations(locations).cache_in_memory();
    let store = FeatureStore::open_with(root.path().to_str().unwrap(), options).await.unwrap();
    store.register_table("f", "s3://watched/place", known_at_once()).await.unwrap();
    let set = FeatureSet::entities("sums_v1", "f").key("k").lookup("v", "last");
    let set = set.all_before([Aggregate::count(), Aggregate::sum("v"), Aggregate::max("w")]);
    store.register(set.build().unwrap()).unwrap();
    let mut read = Vec::new();
    for facts in [11 * 20_000, 12 * 20_000] {
        let before = seen.asked_bytes.load(Ordering::SeqCst);
        let made = store.materialize("sums_v1", AsOf::from_micros(facts)).await.unwrap();
        assert_eq!(made.rows(), 50);
        read.push(seen.asked_bytes.load(Ordering::SeqCst) - before);
    }
    (read[0], read[1], sizes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_costs_its_own_bytes() {
    let (plain_first, plain_second, sizes) = bytes_read(StoreOptions::default().not_incremental()).await;
    let (first, second, _) = bytes_read(StoreOptions::default().incremental_from(1)).await;
    let whole: u64 = sizes.iter().sum();
    assert!(plain_second > whole * 9 / 10, "{plain_second} of {whole}");
    assert!(first <= plain_first + plain_first / 20, "the first run reads each file once: {first} and {plain_first}");
    // The end of a file, with its footer, is asked for in one piece.
    assert!(second <= sizes[11] + (256 << 10) + 1_000, "{second} for a file of {} bytes", sizes[11]);
    assert!(second * 100 <= plain_second * 9, "{second} of {plain_second}");
    // Files with fewer facts are read as they are.
    let (_, second, _) = bytes_read(StoreOptions::default().incremental_from(20_001)).await;
    assert_eq!(second, plain_second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_which_files_come_from_tiles_and_why_none_do() {
    let (data, one, other) = (temp_dir(), temp_dir(), temp_dir());
    let [plain, tiled] = both(data.path(), [one.path(), other.path()], 4).await;
    let at = after(month(4), 3 * DAY_US);
    // The edge of 61 days cuts a file, whose tile is made for later. The newest file needs a median, and gets none.
    assert_eq!(planned(&tiled, "pairs_v1", at).await, (0, 3));
    assert_eq!(planned(&tiled, "last_v1", at).await, (0, 4));
    assert_eq!(planned(&tiled, "old_v1", at).await, (0, 3), "a mode over 31 days needs the newest file alone");
    compared(&plain, &tiled, "pairs_v1", at).await;
    let next = after(at, HOUR_US);
    assert_eq!(planned(&tiled, "pairs_v1", next).await, (2, 0));
    assert_eq!(planned(&tiled, "last_v1", next).await, (0, 4), "sets do not share tiles");
    assert_eq!(planned(&tiled, "pairs_v1", after(at, 30 * DAY_US)).await, (3, 1), "also the one that the edge of 61 days cut");
    let plan = tiled.plan("pairs_v1", next).await.unwrap();
    assert!(plan.to_string().contains("facts: 2 files from their tiles, 0 read apart"), "{plan}");
    assert_eq!(plain.plan("pairs_v1", next).await.unwrap().tables[0].incremental, Incremental::Off);

    let all = FeatureSet::entities("all_v1", "facts").key("k1").all_before([Aggregate::median("v")]);
    tiled.register(all.build().unwrap()).unwrap();
    let plan = tiled.plan("all_v1", at).await.unwrap();
    assert_eq!(plan.tables[0].incremental, Incremental::EveryValueHeld);
    assert!(plan.to_string().contains("holds every value"), "{plan}");
    let rides = Ingest::new("rides", facts_table().identity("n")).unwrap();
    tiled.ingest(&rides.from(data.path().join("facts-0-0.parquet").to_str().unwrap().to_owned())).await.unwrap();
    let corrected = FeatureSet::entities("corrected_v1", "rides").key("k1").all_before([Aggregate::sum("v")]);
    tiled.register(corrected.build().unwrap()).unwrap();
    let plan = tiled.plan("corrected_v1", at).await.unwrap();
    assert_eq!(plan.tables[0].incremental, Incremental::ReplacedFacts);
    assert!(plan.to_string().contains("replaced by later versions"), "{plan}");
    let before = tiles(other.path());
    for set in ["all_v1", "corrected_v1"] {
        tiled.materialize(set, at).await.unwrap();
    }
    assert_eq!(tiles(other.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_few_facts_about_each_entity_gets_no_tile() {
    let (data, root) = (temp_dir(), temp_dir());
    for file in 0..2_i64 {
        let columns = [
            ("k", integers((0..3_000).map(Some))),
            ("at", instants((0..3_000).map(|i| Some(file * 3_000 + i)))),
            ("v", floats((0..3_000).map(|i| Some(i as f64)))),
        ];
        write_parquet(&data.path().join(format!("{file}.parquet")), &columns, None);
    }
    let store = open(root.path(), StoreOptions::default().incremental_from(1)).await;
    store.register_table("f", data.path().to_str().unwrap(), known_at_once()).await.unwrap();
    let set = FeatureSet::entities("few_v1", "f").key("k").lookup("v", "v").all_before([Aggregate::count()]);
    store.register(set.build().unwrap()).unwrap();
    assert_eq!(store.materialize("few_v1", AsOf::from_micros(10_000)).await.unwrap().rows(), 3_000);
    assert!(tiles(root.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_costs_the_tiles_and_nothing_else() {
    let (data, one, other) = (temp_dir(), temp_dir(), temp_dir());
    let [plain, tiled] = both(data.path(), [one.path(), other.path()], 3).await;
    fs::write(other.path().join("partials"), "a file where a folder should be").unwrap();
    for hours in 0..2 {
        compared(&plain, &tiled, "pairs_v1", after(month(3), 3 * DAY_US + hours * HOUR_US)).await;
    }
    assert_eq!(fs::read(other.path().join("partials")).unwrap(), b"a file where a folder should be");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_removes_the_tiles_of_files_that_no_version_lists() {
    let (data, one, other) = (temp_dir(), temp_dir(), temp_dir());
    let [plain, tiled] = both(data.path(), [one.path(), other.path()], 3).await;
    let [facts, places] = written(data.path(), 0, 6_000, 77);
    for store in [&plain, &tiled] {
        load(store, &facts, &places).await;
    }
    let at = after(month(3), 3 * DAY_US);
    compared(&plain, &tiled, "last_v1", at).await;
    let before = tiles(other.path());
    assert_eq!(before.len(), 4);
    // The two files of January become one.
    for store in [&plain, &tiled] {
        store.compact("facts", &CompactOptions::default()).await.unwrap();
    }
    let later = StoreOptions::default().incremental_from(1).clock(FixedClock(SystemClock.now().plus(TimeDelta::hours(48))));
    let later = open(other.path(), later).await;
    let of_tiles = |report: &asof::gc::GcReport| {
        let tiles = report.removed.iter().filter(|garbage| garbage.path.starts_with("partials/"));
        tiles.map(|garbage| (garbage.path.clone(), garbage.reason)).collect::<Vec<_>>()
    };
    let kept = later.gc(&Gc::delete()).await.unwrap();
    assert!(of_tiles(&kept).is_empty() && kept.unknown.is_empty(), "an old version lists the files: {kept}");
    let report = later.gc(&Gc::delete().keep_versions(1)).await.unwrap();
    let removed = of_tiles(&report);
    assert!(removed.len() == 2 && removed.iter().all(|(_, reason)| *reason == Reason::Unreferenced), "{report}");
    assert_eq!(
        tiles(other.path()),
        before.iter().filter(|name| removed.iter().all(|(gone, _)| gone != *name)).cloned().collect::<Vec<_>>()
    );
    assert_eq!(planned(&tiled, "last_v1", after(at, HOUR_US)).await, (2, 1));
    compared(&plain, &tiled, "last_v1", after(at, HOUR_US)).await;
}

/// The work of another process; see `support::child_job`.
pub(crate) async fn materialize_hours(root: &Path, from: AsOf) {
    let store = open(root, StoreOptions::default().incremental_from(1)).await;
    for hours in 0..3 {
        for set in SETS {
            store.materialize(set, after(from, hours * HOUR_US)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_make_and_load_the_same_tiles_agree() {
    let (data, one, other) = (temp_dir(), temp_dir(), temp_dir());
    let [plain, tiled] = both(data.path(), [one.path(), other.path()], 3).await;
    let at = after(month(3), 3 * DAY_US);
    let from = at.to_string();
    let mut children: Vec<_> =
        (0..3).map(|_| child_command(&[], "tiles", other.path(), Path::new(&from)).spawn().unwrap()).collect();
    materialize_hours(other.path(), at).await;
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    for hours in 0..3 {
        for set in SETS {
            compared(&plain, &tiled, set, after(at, hours * HOUR_US)).await;
        }
    }
    assert!(!tiles(other.path()).is_empty());
}
