//! What is served is what training saw, with every encoder, after a lost cache, a late load, a collection and a kill; on a disk, in memory
//! and on S3. More than a million values are compared.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use asof::{AsOf, FeatureStore, StoreOptions, gc::Gc, parity::ParitySample, storage::Locations};
use object_store::memory::InMemory;
use tempfile::TempDir;

use crate::{
    crash::kill_after,
    parity::every_encoder,
    parity_reports::{AS_OF, EVERY_COLUMN},
    s3::locations,
    s3_server::S3Server,
    support::{child, files_below, instant, load_trips, store_with, temp_dir, write_trips},
};

/// A root, and how it is opened.
struct Place {
    root: String,
    locations: Locations,
    cache: TempDir,
}

impl Place {
    fn new(root: String, locations: Locations) -> Self {
        Self { root, locations, cache: temp_dir() }
    }

    async fn open(&self) -> FeatureStore {
        let options = StoreOptions::default().locations(self.locations.clone()).cache_dir(self.cache());
        let store = store_with(Path::new(&self.root), options).await;
        store.register(every_encoder(EVERY_COLUMN)).unwrap();
        store
    }

    fn cache(&self) -> PathBuf {
        self.cache.path().join("cache")
    }
}

/// How many values were compared, none of which differs.
async fn verified(store: &FeatureStore, as_of: AsOf, seed: u64) -> u64 {
    let mut values = 0;
    for set in ["every_encoder_v1", "zone_demand_v1", "taxi_v1"] {
        let report = store.verify_parity(set, as_of, ParitySample::rows(700).seed(seed)).await.unwrap();
        assert!(report.is_equal(), "{report}");
        values += report.values;
    }
    values
}

/// Loads trips, and a month of them late; loses the cache and collects in between.
async fn after_each_fault(place: &Place, trips: &Path, late: &Path) -> u64 {
    let (at, later) = (instant(AS_OF), instant("2014-08-01T04:00:00Z"));
    let store = place.open().await;
    load_trips(&store, trips).await;
    let mut values = verified(&store, at, 1).await;
    let made = store.materialize("every_encoder_v1", at).await.unwrap();
    drop(store);

    fs::remove_dir_all(place.cache()).unwrap();
    let store = place.open().await;
    values += verified(&store, at, 2).await;

    // Facts of months before the as-of: the same instant has another materialization now.
    load_trips(&store, late).await;
    values += verified(&store, at, 3).await;
    assert_ne!(store.materialize("every_encoder_v1", at).await.unwrap().id(), made.id());
    values += verified(&store, later, 4).await;

    store.gc(&Gc::delete()).await.unwrap();
    made.verify().await.unwrap();
    values += verified(&store, at, 5).await;
    drop(store);
    values + verified(&place.open().await, later, 6).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_values_are_the_same_after_every_fault() {
    let (trips, late, disk) = (temp_dir(), temp_dir(), temp_dir());
    write_trips(trips.path(), 150);
    let february = files_below(trips.path()).remove(1);
    fs::rename(trips.path().join(&february), late.path().join(&february)).unwrap();
    let server = S3Server::start("lab").await.unwrap();
    let memory = Locations::default().mount("memory://x", Arc::new(InMemory::new())).unwrap();
    let on_disk = Place::new(disk.path().join("root").to_string_lossy().into_owned(), Locations::default());
    let places = [
        Place::new("memory://x/root".into(), memory),
        Place::new("s3://lab/r".into(), locations(&server, server.access_key(), server.secret_key())),
        on_disk,
    ];
    let mut values = 0;
    for place in &places {
        values += after_each_fault(place, trips.path(), late.path()).await;
    }

    // Processes that are killed while they materialize, on the disk.
    let root = Path::new(&places[2].root);
    let kills = [("2014-05-01T04:00:00Z", 0, 7), ("2014-06-01T04:00:00Z", 1, 8), ("2014-09-01T04:00:00Z", 3, 9)];
    for (as_of, new_files, seed) in kills {
        kill_after(child("materialize_every_encoder", root, Path::new(as_of)), root, new_files, Duration::from_millis(3));
        values += verified(&places[2].open().await, instant(as_of), seed).await;
    }
    println!("{values} values");
    assert!(values > 1_000_000, "{values}");
}
