//! Tiles that are made and stored while the result is put together: when the call returns, each is stored as a whole, and the result did
//! not wait for it.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use asof::{
    Aggregate, AsOf, Error, Expression, FeatureSet, FeatureStore, Materialization, Resources, StoreOptions,
    materialize::Incremental,
    storage::{Location, Locations},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::array::{ArrayRef, StringArray},
    parquet::file::properties::WriterProperties,
};
use object_store::{ObjectStore, ObjectStoreExt, PutOptions, PutPayload, PutResult, memory::InMemory, path::Path as Key};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    intercepted_store::{Intercept, Intercepted},
    object_stores::put,
    support::{files_below, temp_dir, write_parquet},
    training::{floats, instants, integers, known_at_once},
};

const FILES: i64 = 3;
/// The facts of a file, one in each microsecond.
const FACTS: i64 = 12_000;
/// The end of all facts.
const END: i64 = FILES * FACTS;

/// Files of many row groups, each of which is a batch of facts. Some facts tie. `d` is zero once, early in the second file.
fn write_facts(dir: &Path) {
    for file in 0..FILES {
        let mut rng = StdRng::seed_from_u64(file as u64);
        let text = (0..FACTS).map(|_| Some(format!("t{}", rng.random_range(0..30)))).collect::<StringArray>();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("k", integers((0..FACTS).map(|_| rng.random_bool(0.9).then(|| rng.random_range(0..40))))),
            ("at", instants((0..FACTS).map(|i| Some(file * FACTS + i / 3 * 3)))),
            ("v", floats((0..FACTS).map(|_| rng.random_bool(0.9).then(|| rng.random_range(-1e6..1e6))))),
            ("d", integers((0..FACTS).map(|i| Some(i64::from((file, i) != (1, 700)) * (i + 1))))),
            ("text", Arc::new(text)),
        ];
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(500)).build();
        write_parquet(&dir.join(format!("{file}.parquet")), &columns, Some(properties));
    }
}

/// At the end of all facts the window of the first set cuts the second file in the middle, and so does that of the second set, which also
/// fails for a fact that it does not see.
fn sets() -> [FeatureSet; 2] {
    let window = TimeDelta::microseconds(END / 2);
    let named = |aggregate: Aggregate, name: &str| aggregate.named(name);
    let all = || FeatureSet::entities("all_v1", "facts").key("k").lookup("v", "last_v").lookup("text", "last_text");
    let sums = [named(Aggregate::sum("v"), "sum"), named(Aggregate::count(), "count"), named(Aggregate::last("text"), "last")];
    let ever = [named(Aggregate::mean("v"), "mean"), named(Aggregate::max_by("text", "v"), "max_by")];
    let quotient = [named(Aggregate::sum(Expression::sql("1000 / d")), "quotient")];
    let failing = FeatureSet::entities("failing_v1", "facts").key("k").window(window, quotient);
    [
        all().window(window, sums).all_before(ever).build().unwrap(),
        failing.all_before([named(Aggregate::count(), "all")]).build().unwrap(),
    ]
}

async fn open(root: &str, facts: &str, options: StoreOptions) -> FeatureStore {
    let store = FeatureStore::open_with(root, options.cache_in_memory()).await.unwrap();
    store.register_table("facts", facts, known_at_once()).await.unwrap();
    sets().into_iter().for_each(|set| store.register(set).unwrap());
    store
}

fn hashes(made: &Materialization) -> Vec<String> {
    made.manifest().parts.iter().map(|part| part.hash.to_string()).collect()
}

/// A tile ends in the hash of all bytes before.
fn is_whole(tile: &[u8]) -> bool {
    let Some((content, checksum)) = tile.split_at_checked(tile.len().wrapping_sub(32)) else { return false };
    blake3::hash(content).as_bytes() == checksum
}

/// Memory in which tiles are stored slowly, and only after a manifest.
struct SlowTiles {
    inner: InMemory,
    fails: bool,
    has_manifest: AtomicBool,
    begun: AtomicUsize,
    done: AtomicUsize,
    /// Tiles for which the manifest was not stored.
    waited_in_vain: AtomicUsize,
}

#[async_trait::async_trait]
impl Intercept for SlowTiles {
    fn inner(&self) -> &InMemory {
        &self.inner
    }

    async fn put(&self, path: &Key, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        if !path.as_ref().contains("/partials/") {
            let put = self.inner.put_opts(path, payload, options).await;
            self.has_manifest.fetch_or(path.as_ref().ends_with("/manifest.json"), Ordering::SeqCst);
            return put;
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut turns = 0;
        while !self.has_manifest.load(Ordering::SeqCst) && turns < 1_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            turns += 1;
        }
        self.waited_in_vain.fetch_add(usize::from(turns == 1_000), Ordering::SeqCst);
        // Whoever does not wait for this has long gone.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let put = match self.fails {
            true => Err(object_store::Error::Generic { store: "test", source: "tiles are not wanted".into() }),
            false => self.inner.put_opts(path, payload, options).await,
        };
        self.done.fetch_add(1, Ordering::SeqCst);
        put
    }
}

async fn tiles_at(at: &Location, store: &SlowTiles) -> Vec<Vec<u8>> {
    let mut tiles = Vec::new();
    for object in at.list().await.unwrap() {
        if object.location.as_ref().contains("/partials/") {
            tiles.push(store.inner.get(&object.location).await.unwrap().bytes().await.unwrap().to_vec());
        }
    }
    tiles
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_waits_for_no_tile_and_the_call_for_all_of_them() {
    let data = temp_dir();
    write_facts(data.path());
    let expected = {
        let root = temp_dir();
        let options = StoreOptions::default().not_incremental();
        let plain = open(root.path().to_str().unwrap(), data.path().to_str().unwrap(), options).await;
        hashes(&plain.materialize("all_v1", AsOf::from_micros(END)).await.unwrap())
    };
    for fails in [false, true] {
        let store = Arc::new(Intercepted(SlowTiles {
            inner: InMemory::new(),
            fails,
            has_manifest: AtomicBool::new(false),
            begun: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            waited_in_vain: AtomicUsize::new(0),
        }));
        let locations = Locations::default().mount("s3://slow", store.clone()).unwrap();
        let facts = locations.open("s3://slow/facts").unwrap();
        for file in 0..FILES {
            let name = format!("{file}.parquet");
            put(&facts, &name, fs::read(data.path().join(&name)).unwrap()).await;
        }
        // A task for each file, since a file whose tile is being stored counts as one that is read.
        let options = || {
            let resources = Resources { partitions: 4, ..Resources::default() };
            StoreOptions::default().incremental_from(1).resources(resources).locations(locations.clone())
        };
        let tiled = open("s3://slow/root", "s3://slow/facts", options()).await;
        let made = tiled.materialize("all_v1", AsOf::from_micros(END)).await.unwrap();
        let counts = [&store.begun, &store.done, &store.waited_in_vain].map(|count| count.load(Ordering::SeqCst));
        let tiles = tiles_at(&locations.open("s3://slow/root").unwrap(), &store).await;
        assert_eq!(hashes(&made), expected);
        // Two files are cut by no edge, and the tile of the third is for later.
        assert_eq!(tiles.len(), if fails { 0 } else { 3 });
        assert!(tiles.iter().all(|tile| is_whole(tile)));
        // After a failure no further tile is stored.
        assert!(counts[0] == 3 || fails && counts[0] > 0, "{counts:?}");
        assert_eq!((counts[1], counts[2]), (counts[0], 0));
        // Another process finds them.
        let other = open("s3://slow/root", "s3://slow/facts", options()).await;
        let planned = other.plan("all_v1", AsOf::from_micros(2 * END)).await.unwrap().tables[0].incremental;
        let from_tiles = if fails { 0 } else { 3 };
        assert_eq!(planned, Incremental::ByFile { from_tiles, read_apart: 3 - from_tiles });
    }
}

/// The files of a root below `partials/`, with their bytes.
fn stored(root: &Path) -> Vec<(String, Vec<u8>)> {
    let names = files_below(root).into_iter().filter(|name| name.starts_with("partials/"));
    names.map(|name| (name.clone(), fs::read(root.join(name)).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tiles_are_the_same_bytes_whichever_thread_adds_the_facts() {
    let (data, plain_root) = (temp_dir(), temp_dir());
    write_facts(data.path());
    let facts = data.path().to_str().unwrap();
    let plain = open(plain_root.path().to_str().unwrap(), facts, StoreOptions::default().not_incremental()).await;
    let mut before: Option<Vec<(String, Vec<u8>)>> = None;
    for partitions in [1, 2, 3, 4, 8, 8] {
        let (root, resources) = (temp_dir(), Resources { partitions, ..Resources::default() });
        let options = StoreOptions::default().incremental_from(1).resources(resources);
        let tiled = open(root.path().to_str().unwrap(), facts, options).await;
        let compare = async |set: &str| {
            let at = AsOf::from_micros(END);
            let (expected, found) = (plain.materialize(set, at).await.unwrap(), tiled.materialize(set, at).await.unwrap());
            assert_eq!(found.manifest(), expected.manifest(), "{set} with {partitions}");
            // The call has returned, so nothing more comes.
            let found = stored(root.path());
            assert!(found.iter().all(|(name, bytes)| name.ends_with(".tile") && is_whole(bytes)));
            found
        };
        let found = compare("all_v1").await;
        assert_eq!(found.len(), FILES as usize);
        // The file that is cut gets no tile of a set that fails for one of its facts; so others may not be read apart.
        let more = compare("failing_v1").await.len() - found.len();
        assert!(more < FILES as usize && (more == 2 || partitions < 3), "{more} with {partitions}");
        assert!(before.replace(found.clone()).is_none_or(|before| before == found), "{partitions}");
    }
}

/// What suffices without tiles suffices with them: a pass that runs out of memory is repeated when its tiles hold none any more.
#[tokio::test(flavor = "multi_thread")]
async fn unfinished_tiles_take_no_memory_from_what_is_read_again() {
    let data = temp_dir();
    write_facts(data.path());
    let facts = data.path().to_str().unwrap();
    let (mut refused, mut made) = (0, 0);
    for step in 0..44_usize {
        let held_bytes = ((4 + step % 4) << 12) << (step / 4);
        let resources = Resources { partitions: 2, held_bytes, ..Resources::default() };
        let options = [StoreOptions::default().not_incremental(), StoreOptions::default().incremental_from(1)];
        let mut found = Vec::new();
        for options in options {
            let root = temp_dir();
            let store = open(root.path().to_str().unwrap(), facts, options.resources(resources.clone())).await;
            let result = store.materialize("all_v1", AsOf::from_micros(END)).await;
            found.push(result.map(|made| made.manifest().clone()));
        }
        match (&found[0], &found[1]) {
            (Ok(plain), Ok(tiled)) => {
                assert_eq!(plain, tiled, "{held_bytes}");
                made += 1;
            }
            (Err(Error::Memory { .. }), Err(Error::Memory { .. }) | Ok(_)) => refused += 1,
            other => panic!("{held_bytes}: {other:?}"),
        }
    }
    assert!(refused > 0 && made > 0, "{refused} {made}");
}
