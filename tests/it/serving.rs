//! Serving from the cache: it is filled by who serves, pushes nothing out that is held, and is mended when it lost something.
//! A key that has a row is never said to be missing.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use asof::{
    Aggregate, AsOf, Error, ErrorKind, FeatureSet, FeatureStore, Materialization, Resources, StoreOptions, Value,
    catalog::{FactTable, KnownAt},
    online::Online,
};
use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::{
    support::{bits, files_below, instant, temp_dir, write_parquet},
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

/// The database of a cache directory that no store holds. A process that another test starts holds it too, from its fork until it
/// executes its program.
fn opened(cache: impl AsRef<Path>) -> sled::Db {
    for _ in 0..500 {
        if let Ok(db) = sled::open(cache.as_ref()) {
            return db;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    sled::open(cache.as_ref()).unwrap()
}

/// The names of what is in a cache directory that nobody holds.
fn names_in(cache: &Path) -> Vec<String> {
    let db = opened(cache);
    db.iter().keys().map(|key| String::from_utf8_lossy(&key.unwrap()).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_into_the_cache_when_they_are_served_and_not_before() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    let cache = dir.path().join("cache");
    let rows = || names_in(&cache).iter().filter(|name| name.contains("/rows/")).count();
    let options = || StoreOptions::default().cache_dir(&cache);
    let store = open(root.path(), options()).await.unwrap();
    store.materialize("shops_v1", day(0)).await.unwrap();
    drop(store);
    assert_eq!(rows(), 0);
    let store = open(root.path(), options()).await.unwrap();
    assert_eq!(wrong(&store.online("shops_v1").await.unwrap(), 0..SHOPS), None);
    drop(store);
    assert!((10..100).contains(&rows()), "{}", rows());
    // They are opened without the published files, which are only looked for.
    let store = open(root.path(), options()).await.unwrap();
    let part = files_below(root.path()).into_iter().find(|name| name.ends_with(".parquet")).unwrap();
    fs::write(root.path().join(part), "gone").unwrap();
    assert_eq!(wrong(&store.online("shops_v1").await.unwrap(), 0..SHOPS), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_damaged_blocks_are_read_again_from_the_published_files() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    let cache = dir.path().join("cache");
    let options = || StoreOptions::default().cache_dir(&cache);
    let store = open(root.path(), options()).await.unwrap();
    store.materialize("shops_v1", day(0)).await.unwrap();
    store.online("shops_v1").await.unwrap();
    drop(store);
    let mut random = StdRng::seed_from_u64(11);
    for round in 0..12 {
        let db = opened(&cache);
        for entry in db.iter() {
            let (name, value) = entry.unwrap();
            let mut value = value.to_vec();
            match random.random_range(0..6) {
                0 => drop(db.remove(&name).unwrap()),
                1 => {
                    let at = random.random_range(0..value.len());
                    value[at] ^= 1 << random.random_range(0..8);
                    db.insert(&name, value).unwrap();
                }
                2 => drop(db.insert(&name, &value[..random.random_range(0..value.len())]).unwrap()),
                _ => {}
            }
        }
        drop(db);
        let store = open(root.path(), options()).await.unwrap();
        let online = store.online("shops_v1").await.unwrap();
        assert_eq!(wrong(&online, 0..SHOPS), None, "round {round}");
        assert!(!online.contains(&[SHOPS.into()]).unwrap());
    }
}

#[tokio::test]
async fn a_lost_block_is_mended_on_the_thread_of_a_runtime_or_told_when_the_files_are_gone() {
    let ((_data, root), dir) = (root_of(SHOPS).await, temp_dir());
    let cache = dir.path().join("cache");
    let options = || StoreOptions::default().cache_dir(&cache);
    let store = open(root.path(), options()).await.unwrap();
    store.materialize("shops_v1", day(0)).await.unwrap();
    store.online("shops_v1").await.unwrap();
    drop(store);
    let lose = || {
        let db = opened(&cache);
        let rows = db.iter().keys().map(Result::unwrap).filter(|name| String::from_utf8_lossy(name).contains("/rows/"));
        rows.for_each(|name| drop(db.remove(name).unwrap()));
    };
    lose();
    let store = open(root.path(), options()).await.unwrap();
    assert_eq!(wrong(&store.online("shops_v1").await.unwrap(), 0..SHOPS), None);
    drop(store);

    lose();
    let store = open(root.path(), options()).await.unwrap();
    let online = store.online("shops_v1").await.unwrap();
    let parts = root.path().join("materialized/shops_v1");
    fs::rename(&parts, root.path().join("away")).unwrap();
    for shop in [0, SHOPS / 2, SHOPS - 1] {
        let error = online.get(&[shop.into()]).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains("vanished"), "{error}");
    }
    fs::rename(root.path().join("away"), &parts).unwrap();
    assert_eq!(wrong(&online, 0..SHOPS), None);
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
