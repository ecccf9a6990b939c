//! Credentials show nowhere: not in a log, an error, a name, a debug output or a file below the root.

use std::{
    fmt::{Debug, Write},
    path::Path,
    sync::{Arc, Mutex},
};

use asof::{
    AsOf, FeatureStore, StoreOptions,
    ingest::Ingest,
    storage::{BulkReader, DiskCache, Locations, RequestSettings},
};
use futures::TryStreamExt;
use tracing::{Event, Metadata, Subscriber, field::Field, span};

use crate::{
    object_stores::reaching,
    s3_server::S3Server,
    support::{files_below, register, temp_dir, trips_table, write_trips},
};

/// Writes down all that is logged on this thread, at every level.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl tracing::field::Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Log {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    fn line(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Line<'_>)) {
        let mut text = self.0.lock().unwrap();
        write!(text, "{} {}", metadata.target(), metadata.name()).unwrap();
        record(&mut Line(&mut text));
        text.push('\n');
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.line(span.metadata(), |line| span.record(line));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Line(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.line(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn told(texts: &mut Vec<String>, error: &impl std::error::Error) {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, " {error} {error:?}").unwrap();
        cause = error.source();
    }
    texts.push(text);
}

fn bytes_below(folder: &Path, texts: &mut Vec<String>) {
    for name in files_below(folder) {
        let bytes = std::fs::read(folder.join(&name)).unwrap();
        texts.push(format!("{name}\n{}", String::from_utf8_lossy(&bytes)));
    }
}

/// One thread, so that the log is of all that the client does; the server has a thread of its own and is not listened to.
#[tokio::test(flavor = "current_thread")]
async fn key_id_and_secret_show_nowhere() {
    let log = Log::default();
    let _listening = tracing::subscriber::set_default(log.clone());
    let (server, data, root, kept) = (S3Server::start("lab").await.unwrap(), temp_dir(), temp_dir(), temp_dir());
    write_trips(data.path(), 5);
    let once = RequestSettings { retry_count: 1, ..Default::default() };
    let good = reaching(&server).requests(once.clone()).option("aws_session_token", "s3ssionT0ken");
    let wrong_secret = good.clone().option("aws_secret_access_key", "wr0ngSecretWr0ngSecret");
    let wrong_key = good.clone().option("aws_access_key_id", "AKIAUNKNOWNKEY000000");
    let nowhere = good.clone().option("aws_endpoint", "http://127.0.0.1:1");
    let endpoint_with_password = good.clone().option("aws_endpoint", "http://user:p4ssw0rd@127.0.0.1:1");
    let endpoint_with_query = good.clone().option("aws_endpoint", "http://127.0.0.1:1/?sig=s1gn4ture");
    let no_option = good.clone().option("aws_s3cret", "p4ssw0rd");
    let no_bool = good.clone().option("aws_allow_http", "p4ssw0rd");

    let mut texts = Vec::new();
    let urls =
        ["s3://lab/r", "s3://nobucket/r", "s3://user:p4ssw0rd@lab/r?sig=s1gn4ture", "s3://u:p4ssw0rd@la b/r?sig=s1gn4ture"];
    let ways: [&Locations; 7] =
        [&wrong_secret, &wrong_key, &nowhere, &endpoint_with_password, &endpoint_with_query, &no_option, &no_bool];
    for locations in ways {
        texts.push(format!("{locations:?} {locations:#?}"));
        for url in urls {
            let options = StoreOptions::default().locations(locations.clone()).cache_in_memory();
            texts.push(format!("{options:?}"));
            told(&mut texts, &FeatureStore::open_with(url, options.clone()).await.unwrap_err());
            let here = temp_dir();
            let store = FeatureStore::open_with(here.path().to_str().unwrap(), options).await.unwrap();
            told(&mut texts, &store.register_table("t", &format!("{url}/facts"), trips_table()).await.unwrap_err());
            for statement in [
                format!("CREATE EXTERNAL TABLE t (a int) STORED AS PARQUET LOCATION '{url}/facts'"),
                format!("CREATE EXTERNAL TABLE t LOCATION '{url}/facts' STORED AS PARQUET"),
                format!("'{url}/facts'"),
                format!("CREATE EXTERNAL TABLE t (a int) LOCATION \"{url}/facts\" STORED"),
                format!("CREATE EXTERNAL TABLE t (a int) STORED AS PARQUET LOCATION '{url}/facts"),
                format!("ALTER TABLE t ADD PARTITION (month = 1) LOCATION '{url}/facts'"),
                format!(
                    "CREATE EXTERNAL TABLE t (pickup_at timestamp) STORED AS PARQUET LOCATION '{url}/facts' \
                     TBLPROPERTIES ('asof.event_time' = 'pickup_at', 'asof.delay' = '0 seconds')"
                ),
            ] {
                told(&mut texts, &store.execute(&statement).await.unwrap_err());
            }
            // SQL, and texts where names belong.
            for statement in [
                format!("SELECT * FROM '{url}/facts'"),
                format!("SELECT * FROM \"{url}/facts\""),
                format!("SELECT * FROM read_parquet('{url}/facts')"),
                format!("SELECT '{url}/facts' FROM"),
                format!("COPY t TO '{url}/facts'"),
                format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{url}/facts'"),
                format!("SET x = '{url}'"),
            ] {
                told(&mut texts, &store.sql(&statement, "2014-07-01".parse().unwrap()).await.map(drop).unwrap_err());
            }
            told(&mut texts, &Ingest::new(url, trips_table()).map(drop).unwrap_err());
            told(&mut texts, &store.describe(url).await.map(drop).unwrap_err());
            told(&mut texts, &store.materialize(url, "2014-07-01".parse().unwrap()).await.map(drop).unwrap_err());
            told(&mut texts, &store.register_table(url, "x", trips_table()).await.map(drop).unwrap_err());
            let load = Ingest::new("t", trips_table()).unwrap().from(format!("{url}/*.csv"));
            texts.push(format!("{load:?}"));
            told(&mut texts, &store.ingest(&load).await.unwrap_err());
            told(&mut texts, &store.read_parquet(url).await.map(drop).unwrap_err());
            bytes_below(here.path(), &mut texts);
            match locations.open(url) {
                Err(error) => told(&mut texts, &error),
                Ok(place) => {
                    texts.push(format!("{place} {place:?} {:?}", BulkReader::new(&place)));
                    told(&mut texts, &place.list().await.unwrap_err());
                    told(&mut texts, &place.get("x").await.unwrap_err());
                    told(&mut texts, &place.put_if_absent("x", "y").await.unwrap_err());
                    told(&mut texts, &place.delete_many(["x"]).await.unwrap_err());
                }
            }
        }
    }
    let no_bucket = good.open("s3://nobucket/x").unwrap();
    told(&mut texts, &no_bucket.get("x").await.unwrap_err());
    for cause in ["SignatureDoesNotMatch", "check the credentials", "NoSuchBucket", "cannot be reached", "no option `aws_s3cret`"]
    {
        assert!(texts.iter().any(|text| text.contains(cause)), "{cause}");
    }

    // What works, keeps nothing either: a load from S3 to S3, a materialization, bulk reads by way of a cache.
    let options = StoreOptions::default().locations(good.clone()).cache_dir(root.path().join("kv"));
    let url = "s3://user:p4ssw0rd@lab/r?sig=s1gn4ture";
    let store = FeatureStore::open_with(url, options).await.unwrap();
    register(&store);
    let sources = good.open("s3://lab/sources").unwrap();
    for name in files_below(data.path()) {
        sources.upload(&name, std::fs::File::open(data.path().join(&name)).unwrap()).await.unwrap();
    }
    let load = Ingest::new("nyc_taxi", trips_table()).unwrap().from("s3://user:p4ssw0rd@lab/sources/*.csv");
    texts.push(format!("{:?}", store.ingest(&load).await.unwrap()));
    let as_of: AsOf = "2014-07-01T04:00:00Z".parse().unwrap();
    for set in ["taxi_v1", "zone_demand_v1"] {
        let made = store.materialize(set, as_of).await.unwrap();
        texts.push(format!("{made:?} {:?} {:?}", made.manifest(), store.online(set).await.unwrap()));
    }
    texts.push(format!("{store:?} {}", store.describe("nyc_taxi").await.unwrap()));
    let cache = DiskCache::open(kept.path().join("cache"), 1 << 30).unwrap();
    let reader = BulkReader::new(&sources).cache(cache);
    let objects = sources.list().await.unwrap();
    let mut reading = reader.get_many(objects.clone());
    assert_eq!((&mut reading).try_collect::<Vec<_>>().await.unwrap().len(), objects.len());
    texts.push(format!("{reader:?} {reading:?}"));
    reader.download_to(objects, kept.path().join("files")).await.unwrap();
    assert!(files_below(kept.path()).len() > 24 && files_below(server.root()).len() > 24);
    bytes_below(kept.path(), &mut texts);
    bytes_below(server.root(), &mut texts);
    bytes_below(root.path(), &mut texts);

    let log = log.0.lock().unwrap().clone();
    assert!(log.contains("object_store"), "the log hears what clients say: {}", log.len());
    texts.push(log);
    let hidden = [
        server.access_key(),
        server.secret_key(),
        "s3ssionT0ken",
        "wr0ngSecretWr0ngSecret",
        "AKIAUNKNOWNKEY000000",
        "p4ssw0rd",
        "s1gn4ture",
    ];
    for text in &texts {
        for hidden in hidden {
            let found = text.split_once(hidden).map(|(before, _)| before.chars().rev().take(300).collect::<String>());
            let found = found.map(|before| before.chars().rev().collect::<String>());
            assert_eq!(found, None, "{hidden} shows");
        }
    }
}
