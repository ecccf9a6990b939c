//! Serving from the cache: it is filled by who serves, pushes nothing out that is held, and is mended when it lost something.
//! A key that has a row is never said to be missing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use asof::{
    Aggregate, AsOf, Error, ErrorKind, FeatureSet, FeatureStore, Materialization, Resources, StoreOptions, Value,
    catalog::{FactTable, KnownAt},
    online::{Live, LiveGroup, Online},
};
use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::{
    support::{bits, child, files_below, instant, temp_dir, write_parquet},
    times::utc_micros,
};

const SHOPS: i64 = 400;

/// A fact for each shop, with a text of about 100 bytes.
fn write_shops(file: &Path, shops: i64) {
    let note = |shop: i64| format!("{}-{shop}", blake3::hash(&shop.to_le_bytes()).to_hex());
    let columns: [(&str, ArrayRef); 3] = [
        ("at", utc_micros(0..shops)),
        ("shop", Arc::new(Int64Array::from_iter_values(0..shops))),
        ("note", Arc::new(StringArray::from_iter_values((0..shops).map(note)))),
    ];
    write_parquet(file, &columns, None);
}

async fn open(root: &Path, options: StoreOptions) -> asof::Result<FeatureStore> {
    let store = FeatureStore::open_with(root.to_str().unwrap(), options).await?;
    let set = FeatureSet::entities("shops_v1", "shops").key("shop").lookup("note", "note");
    store.register(set.all_before([Aggregate::count()]).build().unwrap()).unwrap();
    Ok(store)
}

/// A root with the table of the shops.
async fn root_of(shops: i64) -> (TempDir, TempDir) {
    let (data, root) = (temp_dir(), temp_dir());
    write_shops(&data.path().join("facts.parquet"), shops);
    let store = open(root.path(), StoreOptions::default().cache_in_memory()).await.unwrap();
    let declared = FactTable::new("at", KnownAt::after(TimeDelta::zero()));
    store.register_table("shops", data.path().to_str().unwrap(), declared).await.unwrap();
    (data, root)
}

fn day(number: i64) -> AsOf {
    instant("2014-03-01").plus(TimeDelta::days(number))
}

/// The first shop whose row is not what it should be.
fn wrong(online: &Online, shops: impl IntoIterator<Item = i64>) -> Option<String> {
    shops.into_iter().find_map(|shop| {
        let found = online.get(&[shop.into()]).map(|row| row.value("note").unwrap());
        let expected = format!("{}-{shop}", blake3::hash(&shop.to_le_bytes()).to_hex());
        (found.as_ref().ok() != Some(&Value::Text(expected))).then(|| format!("shop {shop}: {found:?}"))
    })
}

fn caches(dir: &TempDir) -> [StoreOptions; 2] {
    [StoreOptions::default().cache_in_memory(), StoreOptions::default().cache_dir(dir.path().join("cache"))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_that_exists_is_found_while_others_push_rows_out_and_fill_in_theirs() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    for options in caches(&dir) {
        let store = open(root.path(), options).await.unwrap();
        let mut made: Vec<Materialization> = Vec::new();
        for number in 0..14 {
            made.push(store.materialize("shops_v1", day(number)).await.unwrap());
        }
        let held = store.online_for(&made[0]).await.unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut gets = 0;
                while !is_over.load(Ordering::Relaxed) {
                    if let Some(wrong) = wrong(&held, (0..SHOPS).step_by(7)) {
                        return Err(wrong);
                    }
                    gets += 1;
                }
                Ok(gets)
            });
            let outcome = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    let tasks = (0..6_usize).map(|task| {
                        let (store, made) = (store.clone(), made.clone());
                        tokio::spawn(async move {
                            for turn in 0..12 {
                                let online = store.online_for(&made[(task * 5 + turn * 3) % made.len()]).await.unwrap();
                                if let Some(wrong) = wrong(&online, (turn as i64..SHOPS).step_by(11)) {
                                    return Some(wrong);
                                }
                            }
                            None
                        })
                    });
                    let mut outcome = None;
                    for task in tasks.collect::<Vec<_>>() {
                        outcome = outcome.or(task.await.unwrap());
                    }
                    outcome
                })
            });
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(outcome, None);
            assert!(reader.join().unwrap().unwrap() > 0);
        });
        assert!(!held.contains(&[SHOPS.into()]).unwrap());
    }
}

/// Handles are shared by the threads of a service.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Online>();
    is_shared::<Live>();
    is_shared::<LiveGroup>();
};

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_that_is_held_goes_on_answering_whatever_is_opened_after_it() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    for options in caches(&dir) {
        let store = open(root.path(), options).await.unwrap();
        let first = store.online_for(&store.materialize("shops_v1", day(0)).await.unwrap()).await.unwrap();
        for number in 1..=20 {
            let online = store.online_for(&store.materialize("shops_v1", day(number)).await.unwrap()).await.unwrap();
            assert_eq!(wrong(&online, [3]), None);
        }
        // It reads its rows where they are: the published files are not needed.
        let parts = root.path().join("materialized/shops_v1");
        fs::rename(&parts, root.path().join("away")).unwrap();
        assert_eq!(wrong(&first, 0..SHOPS), None);
        fs::rename(root.path().join("away"), &parts).unwrap();
    }
}

/// The served files in a cache directory.
fn served_in(cache: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(cache.join("served")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_into_the_cache_when_they_are_served_and_not_before() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    let cache = dir.path().join("cache");
    let options = || StoreOptions::default().cache_dir(&cache);
    let store = open(root.path(), options()).await.unwrap();
    let id = store.materialize("shops_v1", day(0)).await.unwrap().id();
    assert!(served_in(&cache).is_empty());
    assert_eq!(wrong(&store.online("shops_v1").await.unwrap(), 0..SHOPS), None);
    let file = cache.join(format!("served/shops_v1.{id}.rows"));
    assert_eq!(served_in(&cache), std::slice::from_ref(&file));
    drop(store);
    // It is opened without the published files, which are only looked for, and not written again.
    let written = fs::metadata(&file).unwrap().modified().unwrap();
    for options in [options(), options().resident_rows()] {
        let store = open(root.path(), options).await.unwrap();
        let part = files_below(root.path()).into_iter().find(|name| name.ends_with(".parquet")).unwrap();
        fs::write(root.path().join(part), "gone").unwrap();
        assert_eq!(wrong(&store.online("shops_v1").await.unwrap(), 0..SHOPS), None);
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_that_were_opened_last_stay_and_those_that_somebody_holds() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    let cache = dir.path().join("cache");
    let store = open(root.path(), StoreOptions::default().cache_dir(&cache)).await.unwrap();
    let mut made: Vec<Materialization> = Vec::new();
    for number in 0..14 {
        made.push(store.materialize("shops_v1", day(number)).await.unwrap());
    }
    let there = || -> Vec<usize> {
        let names: Vec<String> = served_in(&cache).iter().map(|path| path.to_str().unwrap().to_owned()).collect();
        (0..14).filter(|&i| names.iter().any(|name| name.contains(&made[i].id().to_string()))).collect()
    };
    let held = store.online_for(&made[0]).await.unwrap();
    for made in &made[1..12] {
        store.online_for(made).await.unwrap();
    }
    assert_eq!(there(), [0, 4, 5, 6, 7, 8, 9, 10, 11]);
    // One that is opened again is among the last.
    store.online_for(&made[4]).await.unwrap();
    store.online_for(&made[12]).await.unwrap();
    assert_eq!(there(), [0, 4, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(wrong(&held, 0..SHOPS), None);
    drop(held);
    store.online_for(&made[13]).await.unwrap();
    assert_eq!(there(), [4, 7, 8, 9, 10, 11, 12, 13]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_was_building_is_removed() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    let cache = dir.path().join("cache");
    let options = || StoreOptions::default().cache_dir(&cache);
    let store = open(root.path(), options()).await.unwrap();
    store.materialize("shops_v1", day(0)).await.unwrap();
    drop(store);
    fs::write(cache.join("served/.building-x"), "half of it").unwrap();
    let store = open(root.path(), options()).await.unwrap();
    assert!(served_in(&cache).is_empty());
    assert_eq!(wrong(&store.online("shops_v1").await.unwrap(), 0..SHOPS), None);
    assert_eq!(served_in(&cache).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_built_again_from_the_published_ones() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    let cache = dir.path().join("cache");
    let options = || StoreOptions::default().cache_dir(&cache);
    let store = open(root.path(), options()).await.unwrap();
    store.materialize("shops_v1", day(0)).await.unwrap();
    store.online("shops_v1").await.unwrap();
    drop(store);
    let file = served_in(&cache).remove(0);
    let good = fs::read(&file).unwrap();
    let mut random = StdRng::seed_from_u64(11);
    for round in 0..60 {
        let mut bytes = good.clone();
        match round % 4 {
            0 => bytes.truncate(random.random_range(0..good.len())),
            1 => bytes.extend([0; 9]),
            2 => (0..20).for_each(|_| bytes[random.random_range(0..good.len())] ^= 1 << random.random_range(0..8)),
            // What a power failure leaves of a file: a page of zeros.
            _ => {
                let at = random.random_range(0..good.len() - 4_096);
                bytes[at..at + 4_096].fill(0);
            }
        }
        fs::write(&file, &bytes).unwrap();
        let options = if round % 8 < 4 { options() } else { options().resident_rows() };
        let store = open(root.path(), options).await.unwrap();
        let online = store.online("shops_v1").await.unwrap();
        assert_eq!(wrong(&online, 0..SHOPS), None, "round {round}");
        assert!(!online.contains(&[SHOPS.into()]).unwrap());
        assert!(good == fs::read(&file).unwrap(), "round {round}: another file");
    }
}

/// Changes a byte of every row in the file.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let rows = bytes.len() / 4;
    bytes[rows..].iter_mut().step_by(7).for_each(|byte| *byte ^= 0x11);
    let good = fs::read(file).unwrap();
    // The footer stays, so that the file is opened.
    let footer = good.windows(9).rposition(|bytes| bytes == b"{\"layout\"").unwrap();
    bytes[footer..].copy_from_slice(&good[footer..]);
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_row_is_mended_on_the_thread_of_a_runtime_or_told_when_the_files_are_gone() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    let cache = dir.path().join("cache");
    let store = open(root.path(), StoreOptions::default().cache_dir(&cache)).await.unwrap();
    store.materialize("shops_v1", day(0)).await.unwrap();
    let online = store.online("shops_v1").await.unwrap();
    let file = served_in(&cache).remove(0);
    // The file is damaged while it is open.
    damage(&file);
    assert_eq!(wrong(&online, 0..SHOPS), None);

    let parts = root.path().join("materialized/shops_v1");
    fs::rename(&parts, root.path().join("away")).unwrap();
    damage(&file);
    for shop in [0, SHOPS / 2, SHOPS - 1] {
        let error = online.get(&[shop.into()]).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains("vanished"), "{error}");
    }
    fs::rename(root.path().join("away"), &parts).unwrap();
    assert_eq!(wrong(&online, 0..SHOPS), None);
}

/// What the child of the next test does until it is killed: serves from a new cache, again and again.
pub(crate) async fn build_again_and_again(root: &Path, cache: &Path) {
    loop {
        let store = open(root, StoreOptions::default().cache_dir(cache)).await.unwrap();
        for number in 0..3 {
            let online = store.online_for(&store.materialize("shops_v1", day(number)).await.unwrap()).await.unwrap();
            assert_eq!(wrong(&online, (0..SHOPS).step_by(50)), None);
        }
        drop(store);
        fs::remove_dir_all(cache.join("served")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_while_it_builds_or_serves_leaves_nothing_wrong() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    let cache = dir.path().join("cache");
    let mut random = StdRng::seed_from_u64(21);
    let (mut unfinished, mut whole) = (0, 0);
    for round in 0..20 {
        let mut serving = child("serve_shops", root.path(), &cache);
        let mut waited = 0;
        // It has begun to build; then it is killed at some moment.
        while served_in(&cache).is_empty() {
            assert!(serving.try_wait().unwrap().is_none() && waited < 6_000, "round {round}: the child does not serve");
            std::thread::sleep(Duration::from_millis(1));
            waited += 1;
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..30_000)));
        serving.kill().unwrap();
        serving.wait().unwrap();
        for file in served_in(&cache) {
            if file.to_str().unwrap().contains(".building-") { unfinished += 1 } else { whole += 1 }
        }
        let store = open(root.path(), StoreOptions::default().cache_dir(&cache)).await.unwrap();
        assert!(!served_in(&cache).iter().any(|file| file.to_str().unwrap().contains(".building-")));
        for number in 0..3 {
            let online = store.online_for(&store.materialize("shops_v1", day(number)).await.unwrap()).await.unwrap();
            assert_eq!(wrong(&online, 0..SHOPS), None, "round {round}");
        }
        drop(store);
        fs::remove_dir_all(cache.join("served")).unwrap();
    }
    println!("of 20 kills: {unfinished} unfinished files, {whole} whole ones");
    assert!(unfinished + whole > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_at_once_and_numbers_are_what_single_reads_give() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    for options in caches(&dir).into_iter().chain([StoreOptions::default().cache_in_memory().resident_rows()]) {
        let store = open(root.path(), options).await.unwrap();
        store
            .register(
                FeatureSet::entities("counts_v1", "shops")
                    .key("shop")
                    .lookup("shop", "id")
                    .all_before([Aggregate::count()])
                    .build()
                    .unwrap(),
            )
            .unwrap();
        for set in ["shops_v1", "counts_v1"] {
            store.materialize(set, day(0)).await.unwrap();
        }
        let (shops, counts) = (store.online("shops_v1").await.unwrap(), store.online("counts_v1").await.unwrap());
        // Keys repeat, are unknown, and are NULL.
        let mut random = StdRng::seed_from_u64(5);
        let keys: Vec<[Value; 1]> = (0..500)
            .map(|_| [if random.random_bool(0.1) { Value::Null } else { random.random_range(-9..SHOPS + 9).into() }])
            .collect();
        for online in [&shops, &counts] {
            let batch = online.get_many(&keys).unwrap();
            assert_eq!((batch.num_rows(), batch.schema_ref()), (500, online.features()));
            let single: Vec<RecordBatch> = keys.iter().map(|key| online.get(key).unwrap().batch().unwrap()).collect();
            assert_eq!(batch, datafusion::arrow::compute::concat_batches(online.features(), &single).unwrap());
            assert_eq!(online.get_many(&keys[..0]).unwrap().num_rows(), 0);
        }
        let mut numbers = [0.0; 2];
        for key in &keys {
            let (row, is_there) = (counts.get(key).unwrap(), counts.get_into(key, &mut numbers).unwrap());
            assert_eq!(is_there, counts.contains(key).unwrap());
            for (number, feature) in numbers.iter().zip(["id", "count"]) {
                assert_eq!(number.to_bits(), row.number(feature).unwrap().unwrap_or(f64::NAN).to_bits());
            }
        }
        let says = |error: Error, text: &str| assert!(error.to_string().contains(text), "{error}");
        says(counts.get_into(&[1.into()], &mut [0.0]).unwrap_err(), "has 2 features, and there is room for 1");
        says(shops.get_into(&[1.into()], &mut numbers).unwrap_err(), "`note`");
        says(shops.get_many(&[[Value::from("x")]]).unwrap_err(), "`shop`");
        says(shops.get_many(&[[1.into(), 2.into()]]).unwrap_err(), "2 values were given");
    }
}

// --- places where nothing can be written -------------------------------------------------------------------------------

/// A mount that is undone with the test; `None`, with a message, where the test may not mount.
pub(crate) struct Mounted(std::path::PathBuf);

pub(crate) fn mount(arguments: &[&str], at: &Path) -> Option<Mounted> {
    let done = Command::new("mount").args(arguments).arg(at).output();
    match done {
        Ok(done) if done.status.success() => Some(Mounted(at.into())),
        other => {
            println!("skipped: this test may not mount: {other:?}");
            None
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_cache_stops_no_answer_and_no_later_open() {
    const MANY: i64 = 60_000;
    let ((_data, root), dir) = (root_of(MANY).await, temp_dir());
    let Some(mounted) = mount(&["-t", "tmpfs", "-o", "size=3m", "tmpfs"], dir.path()) else { return };
    let options = || StoreOptions::default().cache_dir(dir.path().join("cache"));
    for number in 0..3 {
        let store = open(root.path(), options()).await.unwrap();
        let online = store.online_for(&store.materialize("shops_v1", day(number)).await.unwrap()).await.unwrap();
        assert_eq!(wrong(&online, (0..MANY).step_by(501)), None, "open {number}");
        drop((online, store));
    }
    // There is room again.
    drop(mounted);
    let store = open(root.path(), options()).await.unwrap();
    assert_eq!(wrong(&store.online("shops_v1").await.unwrap(), (0..MANY).step_by(501)), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_cannot_be_made_is_kept_in_memory_unless_its_place_was_given() {
    let (_data, root) = root_of(SHOPS).await;
    let store = open(root.path(), StoreOptions::default()).await.unwrap();
    store.materialize("shops_v1", day(0)).await.unwrap();
    drop(store);
    fs::remove_dir_all(root.path().join(".asof-cache")).unwrap();
    // A file where the directory should be.
    fs::write(root.path().join(".asof-cache"), "").unwrap();
    let store = open(root.path(), StoreOptions::default()).await.unwrap();
    assert_eq!(wrong(&store.online("shops_v1").await.unwrap(), 0..SHOPS), None);
    let given = open(root.path(), StoreOptions::default().cache_dir(root.path().join(".asof-cache/below"))).await;
    let error = given.map(drop).unwrap_err();
    assert!(matches!(error, Error::Cache { .. }), "{error:?}");
    assert!(error.to_string().contains("StoreOptions::cache_dir"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_may_only_be_read_is_read_and_served_and_says_so_when_it_is_written_to() {
    let (_data, root) = root_of(SHOPS).await;
    let store = open(root.path(), StoreOptions::default()).await.unwrap();
    let expected = store.materialize("shops_v1", day(0)).await.unwrap().rows();
    drop(store);
    let at = root.path().to_str().unwrap();
    let Some(_bound) = mount(&["--bind", at], root.path()) else { return };
    let Some(_read_only) = mount(&["-o", "remount,bind,ro"], root.path()) else { return };
    // With a cache below it, and without one.
    let store = open(root.path(), StoreOptions::default()).await.unwrap();
    let made = store.materialize("shops_v1", day(0)).await.unwrap();
    assert_eq!((made.rows(), bits(&made).await.is_empty()), (expected, false));
    assert_eq!(wrong(&store.online("shops_v1").await.unwrap(), 0..SHOPS), None);
    let answer = store.sql("SELECT * FROM shops", day(0)).await.unwrap().count().await.unwrap();
    assert_eq!(answer, SHOPS as usize);
    let ctas = store.ctas("notes", "SELECT note FROM shops").await.map(drop);
    for error in [store.materialize("shops_v1", day(1)).await.map(drop).unwrap_err(), ctas.unwrap_err()] {
        let told = error.to_string();
        assert!(matches!(error, Error::ReadOnly { .. }) && told.contains("Read-only") && told.contains(at), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_somebody_else_is_refused_as_a_cache_and_stays_as_it_is() {
    let (root, dir) = (temp_dir(), temp_dir());
    let mine = dir.path().join("mine");
    fs::create_dir(&mine).unwrap();
    for name in ["db", "conf", "thesis.txt"] {
        fs::write(mine.join(name), name).unwrap();
        let error = open(root.path(), StoreOptions::default().cache_dir(&mine)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Cache { path, reason } if *path == mine && reason.contains("asof-online-cache")),
            "{error}"
        );
        assert_eq!(fs::read_to_string(mine.join(name)).unwrap(), name);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
    // Beside a damaged cache a directory of that name may be somebody's as well.
    let cache = dir.path().join("cache");
    let beside = |number: usize| dir.path().join(format!("cache.damaged-{number}"));
    fs::create_dir(beside(1)).unwrap();
    fs::write(beside(1).join("mine"), "mine").unwrap();
    for _ in 0..2 {
        drop(open(root.path(), StoreOptions::default().cache_dir(&cache)).await.unwrap());
        fs::remove_file(cache.join("db")).unwrap();
        fs::create_dir(cache.join("db")).unwrap();
    }
    drop(open(root.path(), StoreOptions::default().cache_dir(&cache)).await.unwrap());
    assert_eq!(fs::read_to_string(beside(1).join("mine")).unwrap(), "mine");
    assert_eq!((beside(2).exists(), beside(3).exists()), (false, true));
    let error = open(root.path(), StoreOptions::default().cache_dir("")).await.unwrap_err();
    assert!(matches!(&error, Error::Cache { reason, .. } if reason.contains("empty")), "{error}");
    // An empty one is taken, and taken again.
    let fresh = dir.path().join("fresh");
    fs::create_dir(&fresh).unwrap();
    for _ in 0..2 {
        open(root.path(), StoreOptions::default().cache_dir(&fresh)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_out_of_their_range_are_refused_when_a_store_is_opened() {
    let root = temp_dir();
    let usual = Resources::default();
    for (resources, name) in [
        (Resources { batch_rows: 0, ..usual.clone() }, "`batch_rows` is 0"),
        (Resources { batch_rows: usize::MAX, ..usual.clone() }, "between 1 and 1048576"),
        (Resources { partitions: 0, ..usual.clone() }, "`partitions` is 0"),
        (Resources { partitions: usize::MAX, ..usual.clone() }, "between 1 and 4096"),
    ] {
        let error = open(root.path(), StoreOptions::default().resources(resources)).await.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(name), "{error}");
    }
}
