//! The same store on S3: facts, root and materializations behind a real S3 protocol, nothing of it on this disk.

use std::path::Path;

use asof::{
    AsOf, FeatureStore, Materialization, StoreOptions, Value, extract::Extract, gc::Gc, ingest::Ingest, storage::Locations,
};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, aws::AmazonS3Builder, path::Path as Key};

use crate::{
    s3_server::S3Server,
    support::{
        bits, cells, copy_dir, files_below, load_trips, register, store, temp_dir, trips_table, version_text, write_trips,
    },
};

const AS_OF: &str = "2014-07-01T04:00:00Z";
const SETS: [&str; 2] = ["taxi_v1", "zone_demand_v1"];

fn as_of() -> AsOf {
    AS_OF.parse().unwrap()
}

/// How a store reaches the server, with this key and secret.
pub(crate) fn locations(server: &S3Server, key: &str, secret: &str) -> Locations {
    Locations::default()
        .option("aws_endpoint", server.endpoint())
        .option("aws_allow_http", "true")
        .option("aws_region", "us-east-1")
        .option("aws_access_key_id", key)
        .option("aws_secret_access_key", secret)
        .option("aws_virtual_hosted_style_request", "false")
}

/// A store on the server with a memory of its own.
pub(crate) async fn remote(server: &S3Server) -> FeatureStore {
    let options = StoreOptions::default().locations(locations(server, server.access_key(), server.secret_key()));
    let store = FeatureStore::open_with("s3://lab/r", options).await.unwrap();
    register(&store);
    store
}

/// The server's bucket, beside the library.
pub(crate) fn client(server: &S3Server) -> impl ObjectStore {
    AmazonS3Builder::new()
        .with_endpoint(server.endpoint())
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name("lab")
        .with_access_key_id(server.access_key())
        .with_secret_access_key(server.secret_key())
        .build()
        .unwrap()
}

/// `month=N` files of trips below `dir`, as another writer might have left them.
pub(crate) async fn month_files(dir: &Path) {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 60);
    let load = Ingest::new("nyc_taxi", trips_table()).unwrap().by_month_of_one_year().from(data.path().to_str().unwrap());
    store(root.path()).await.ingest(&load).await.unwrap();
    copy_dir(&root.path().join("facts/default/nyc_taxi"), dir);
}

/// Everything that users read of both sets, as text.
async fn answers(store: &FeatureStore) -> String {
    let mut said = String::new();
    for set in SETS {
        let made: Materialization = store.materialize(set, as_of()).await.unwrap();
        made.verify().await.unwrap();
        assert_eq!(made.dataframe().await.unwrap().count().await.unwrap() as u64, made.rows());
        assert!(made.rows() > 10);
        said += &format!("{set} {} {}\n", made.rows(), blake3::hash(&bits(&made).await));
    }
    let online = store.online("zone_demand_v1").await.unwrap();
    for zone in 1..=263 {
        said += &format!("{:?}\n", online.get(&[Value::Int(zone)]).unwrap().batch().unwrap());
    }
    let request = store.online("taxi_v1").await.unwrap().encode_row(&[("trip_distance", 2.5.into())]).unwrap();
    said += &format!("{:?}\n", request.value("trip_distance").unwrap());
    let sql = "SELECT count(*) n, max(pickup_at), max(dropoff_at), sum(passenger_count), min(month), max(month) FROM nyc_taxi";
    let rows = store.sql(sql, as_of()).await.unwrap().collect().await.unwrap();
    said + &format!("{rows:?}")
}

/// A service has a cache of its own and needs no facts: they are gone before it starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_opens_what_a_trainer_wrote_without_the_facts() {
    let (server, data, cache) = (S3Server::start("lab").await.unwrap(), temp_dir(), temp_dir());
    write_trips(data.path(), 60);
    let trainer = remote(&server).await;
    load_trips(&trainer, data.path()).await;
    for set in SETS {
        trainer.materialize(set, as_of()).await.unwrap();
    }
    let keys: Vec<[Value; 1]> = (0..270).map(|zone| [Value::Int(zone)]).collect();
    let expected = trainer.online("zone_demand_v1").await.unwrap().get_many(&keys).unwrap();
    let client = client(&server);
    let all: Vec<_> = client.list(Some(&Key::from("r"))).try_collect().await.unwrap();
    for object in all.iter().filter(|object| object.location.as_ref().ends_with(".parquet")) {
        if object.location.as_ref().starts_with("r/facts/") {
            client.delete(&object.location).await.unwrap();
        }
    }
    let open = async || {
        let options = StoreOptions::default().locations(locations(&server, server.access_key(), server.secret_key()));
        let store = FeatureStore::open_with("s3://lab/r", options.cache_dir(cache.path().join("service"))).await.unwrap();
        register(&store);
        store
    };
    let request = [("trip_distance", Value::Float(2.5))];
    let encoded = trainer.online("taxi_v1").await.unwrap().encode_row(&request).unwrap();
    for is_first in [true, false] {
        let service = open().await;
        let group = service.live_group(SETS).await.unwrap();
        let now = group.current();
        let zones = now.set("zone_demand_v1").unwrap();
        assert_eq!(zones.get_many(&keys).unwrap(), expected);
        assert_eq!(now.set("taxi_v1").unwrap().encode_row(&request).unwrap(), encoded);
        assert!(!group.refresh().await.unwrap().has_moved());
        if is_first {
            // The second one reads its file, and the published rows are not needed any more.
            for object in all.iter().filter(|object| object.location.as_ref().contains("materialized/zone_demand_v1")) {
                if object.location.as_ref().ends_with(".parquet") {
                    client.delete(&object.location).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extracts_are_made_and_collected_on_s3_and_hold_no_credentials() {
    let (server, data) = (S3Server::start("lab").await.unwrap(), temp_dir());
    write_trips(data.path(), 20);
    let store = remote(&server).await;
    load_trips(&store, data.path()).await;
    let extract = Extract::new("zones", "SELECT pickup_zone, count(*) AS trips FROM nyc_taxi GROUP BY pickup_zone").unwrap();
    let extract = extract.as_of(as_of()).keep_last(1);
    let old = store.ctas_with(&extract).await.unwrap();
    // The second of a run is part of its name, and orders runs.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let new = store.ctas_with(&extract).await.unwrap();
    let count = format!("SELECT sum(trips) FROM {}", new.table());
    assert_eq!(cells(&store, &count, as_of()).await, cells(&store, "SELECT count(*) FROM nyc_taxi", as_of()).await);
    assert_eq!(
        store
            .shards("nyc_taxi", 5, AsOf::END_OF_TIME)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap()
            .iter()
            .map(|b| b.num_rows())
            .sum::<usize>(),
        240
    );

    let client = client(&server);
    let record = client.get(&Key::from(format!("r/extracts/zones/{}/extract.json", new.record().run))).await.unwrap();
    let record = String::from_utf8(record.bytes().await.unwrap().into()).unwrap();
    assert!(record.contains("s3://lab/r/facts/default/nyc_taxi"), "{record}");
    assert!(!record.contains(server.secret_key()) && !record.contains(server.access_key()), "{record}");

    client.put(&Key::from("r/facts/default/nyc_taxi/month=1/stray.parquet"), PutPayload::from("stray")).await.unwrap();
    let gc = Gc::delete().grace(chrono::TimeDelta::zero());
    let listed = store.gc(&Gc::dry_run().grace(chrono::TimeDelta::zero())).await.unwrap();
    let removed = store.gc(&gc).await.unwrap();
    assert_eq!((listed.removed.len(), &listed.removed), (3, &removed.removed), "{removed}");
    assert!(store.extract(&old.table().to_string()).await.is_err());
    store.extract(&new.table().to_string()).await.unwrap().verify().await.unwrap();
    assert!(store.gc(&gc).await.unwrap().removed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_lie_on_s3_are_registered_and_answered_from_there() {
    let (server, facts, root) = (S3Server::start("lab").await.unwrap(), temp_dir(), temp_dir());
    month_files(facts.path()).await;
    let client = client(&server);
    for name in files_below(facts.path()) {
        assert!(name.starts_with("month="), "{name}");
        let bytes = std::fs::read(facts.path().join(&name)).unwrap();
        client.put(&Key::from(format!("facts/{name}")), PutPayload::from(bytes)).await.unwrap();
    }

    let local = store(root.path()).await;
    let here = local.register_table("nyc_taxi", facts.path().to_str().unwrap(), trips_table()).await.unwrap();
    let first = remote(&server).await;
    let there = first.register_table("nyc_taxi", "s3://lab/facts", trips_table()).await.unwrap();
    assert_eq!((there.rows(), there.files().len(), there.columns()), (here.rows(), here.files().len(), here.columns()));
    // Registering reads footers, and the same place again is the same table.
    assert_eq!(first.register_table("nyc_taxi", "s3://lab/facts", trips_table()).await.unwrap().version(), 1);
    assert_eq!(answers(&first).await, answers(&local).await);

    // Another process finds what is published without reading one fact.
    let (second, seen) = (remote(&server).await, server.gets().len());
    for set in SETS {
        let (made, found) = (first.materialize(set, as_of()).await.unwrap(), second.materialize(set, as_of()).await.unwrap());
        assert_eq!((made.id(), made.manifest()), (found.id(), found.manifest()));
    }
    let gets = server.gets().split_off(seen);
    assert!(!gets.is_empty() && gets.iter().all(|key| key.ends_with(".json")), "{gets:?}");
    let seen = server.gets().len();
    assert_eq!(answers(&second).await, answers(&local).await);
    let gets = server.gets().split_off(seen);
    let (facts, sets): (Vec<_>, Vec<_>) = gets.iter().filter(|k| k.ends_with(".parquet")).partition(|k| k.starts_with("facts/"));
    assert!(!facts.is_empty() && !sets.is_empty(), "sql reads facts, rows come from the materialization: {gets:?}");

    // A file that is written again, of the same size even, is another file.
    let name = there.files()[0].path.clone();
    let key = Key::from(format!("facts/{name}"));
    let mut bytes = client.get(&key).await.unwrap().bytes().await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    client.put(&key, PutPayload::from(bytes)).await.unwrap();
    let error = second.sql("SELECT * FROM nyc_taxi", as_of()).await.unwrap_err();
    assert!(matches!(error, asof::Error::FileChanged { .. }) && error.to_string().contains(&name), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_on_s3_holds_what_a_root_on_a_disk_holds() {
    let (server, data, root) = (S3Server::start("lab").await.unwrap(), temp_dir(), temp_dir());
    write_trips(data.path(), 60);
    let (local, remote) = (store(root.path()).await, remote(&server).await);
    for store in [&local, &remote] {
        load_trips(store, data.path()).await;
    }
    let (here, there) = (local.describe("nyc_taxi").await.unwrap(), remote.describe("nyc_taxi").await.unwrap());
    assert_eq!(version_text(&here), version_text(&there));
    assert_eq!(answers(&local).await, answers(&remote).await);
    // What this library wrote is known by its hash: the ids are those of the disk too.
    for set in SETS {
        assert_eq!(local.materialize(set, as_of()).await.unwrap().id(), remote.materialize(set, as_of()).await.unwrap().id());
    }
    let stored: Vec<_> = client(&server).list(None).try_collect().await.unwrap();
    let mut stored: Vec<String> = stored.iter().map(|o| o.location.as_ref().trim_start_matches("r/").to_owned()).collect();
    stored.sort();
    assert_eq!(stored, files_below(root.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_show_in_no_error_and_no_debug_output() {
    let (server, data) = (S3Server::start("lab").await.unwrap(), temp_dir());
    write_trips(data.path(), 5);
    let (key, secret) = (server.access_key(), "wr0ngSecretWr0ngSecretWr0ngSecret");
    let mut texts = Vec::new();
    for (key, secret) in [(key, secret), ("AKIAUNKNOWNKEY000000", server.secret_key())] {
        let bad = locations(&server, key, secret).option("aws_session_token", "t0kenT0ken");
        let options = StoreOptions::default().locations(bad);
        texts.push(format!("{options:?} {options:#?}"));
        // The root itself, and a good root that reads from a place with these credentials.
        let error = FeatureStore::open_with("s3://lab/r", options.clone()).await.unwrap_err();
        texts.push(format!("{error} {error:?} {error:#?}"));
        let here = temp_dir();
        let store = FeatureStore::open_with(here.path().to_str().unwrap(), options.cache_in_memory()).await.unwrap();
        let registered = store.register_table("nyc_taxi", "s3://lab/facts", trips_table()).await.unwrap_err();
        let loaded =
            store.ingest(&Ingest::new("nyc_taxi", trips_table()).unwrap().from("s3://lab/facts/*.csv")).await.unwrap_err();
        texts.push(format!("{registered} {registered:?} {loaded} {loaded:?} {store:?}"));
    }
    let store = remote(&server).await;
    load_trips(&store, data.path()).await;
    let made = store.materialize("zone_demand_v1", as_of()).await.unwrap();
    texts.push(format!("{store:?} {made:?} {:?} {:#?}", store.online("zone_demand_v1").await.unwrap(), made.manifest()));
    let good = StoreOptions::default().locations(locations(&server, key, server.secret_key()));
    let store = FeatureStore::open_with("s3://user:p4ssw0rd@lab/r?token=t0kenT0ken#x", good).await;
    texts.push(store.map_or_else(|e| format!("{e} {e:?}"), |s| format!("{s:?}")));
    texts.push(format!("{:?}", FeatureStore::open("gs://user:p4ssw0rd@lab/r?token=t0kenT0ken").await.unwrap_err()));
    for text in &texts {
        println!("{text}");
        for hidden in [secret, server.secret_key(), "t0kenT0ken", "p4ssw0rd"] {
            assert!(!text.contains(hidden), "{hidden} shows in {text}");
        }
    }
    // What has failed tells where, and which access was refused.
    assert!(texts[1].contains("403") || texts[1].contains("Denied") || texts[1].contains("Signature"), "{}", texts[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_url_is_neither_told_nor_kept() {
    let (server, facts, root) = (S3Server::start("lab").await.unwrap(), temp_dir(), temp_dir());
    month_files(facts.path()).await;
    let client = client(&server);
    for name in files_below(facts.path()) {
        let bytes = std::fs::read(facts.path().join(&name)).unwrap();
        client.put(&Key::from(format!("facts/{name}")), PutPayload::from(bytes)).await.unwrap();
    }
    let good = locations(&server, server.access_key(), server.secret_key());
    let options = StoreOptions::default().locations(good).cache_in_memory();
    let store = FeatureStore::open_with(root.path().to_str().unwrap(), options).await.unwrap();
    let url = "s3://user:p4ssw0rd@lab";
    let mut texts = Vec::new();
    let load = |source: &str| Ingest::new("nyc_taxi", trips_table()).unwrap().from(format!("{url}/{source}"));
    for source in ["nowhere", "nowhere/*.csv", "["] {
        let error = store.ingest(&load(source)).await.unwrap_err();
        texts.push(format!("{error} {error:?}"));
    }
    let error = store.register_table("nyc_taxi", &format!("{url}/nowhere"), trips_table()).await.unwrap_err();
    texts.push(format!("{error} {error:?}"));
    let table = store.register_table("nyc_taxi", &format!("{url}/facts"), trips_table()).await.unwrap();
    texts.push(format!("{table} {table:?}"));
    for name in files_below(root.path()) {
        texts.push(format!("{name}: {}", std::fs::read_to_string(root.path().join(&name)).unwrap()));
    }
    let shown: Vec<_> =
        texts.iter().filter(|text| text.contains("p4ssw0rd")).map(|text| text.chars().take(160).collect::<String>()).collect();
    assert!(shown.is_empty(), "{}", shown.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_a_disk_has_spoilt_under_their_old_tag_are_an_error_and_no_panic() {
    let (server, data) = (S3Server::start("lab").await.unwrap(), temp_dir());
    write_trips(data.path(), 60);
    let store = remote(&server).await;
    load_trips(&store, data.path()).await;
    let made = store.materialize("taxi_v1", as_of()).await.unwrap();
    let expected = bits(&made).await;
    let stored: Vec<_> = client(&server).list(None).try_collect().await.unwrap();
    let is_part = |key: &&String| key.contains("materialized/taxi_v1") && key.ends_with(".parquet");
    let keys: Vec<String> = stored.iter().map(|o| o.location.to_string()).collect();
    let part = server.object_file(keys.iter().find(is_part).unwrap());
    let good = std::fs::read(&part).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 3] ^= 1;
    std::fs::write(&part, &bad).unwrap();
    assert!(matches!(made.verify().await, Err(asof::Error::Corrupt { .. })));
    std::fs::write(&part, &good).unwrap();
    made.verify().await.unwrap();
    assert_eq!(bits(&made).await, expected);

    let name = store.describe("nyc_taxi").await.unwrap().files()[0].path.clone();
    let fact = server.object_file(&format!("r/facts/default/nyc_taxi/{name}"));
    let good = std::fs::read(&fact).unwrap();
    std::fs::write(&fact, vec![0x5a; good.len()]).unwrap();
    let rows = store.sql("SELECT * FROM nyc_taxi", as_of()).await.unwrap().collect().await.unwrap_err();
    println!("{rows}");
    std::fs::write(&fact, good).unwrap();
    assert!(store.sql("SELECT * FROM nyc_taxi", as_of()).await.unwrap().count().await.unwrap() > 0);
}
