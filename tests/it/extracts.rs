//! Extracts: what they hold, what their records say, who may read them, and what a crash leaves of them.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, time::Duration};

use asof::{
    AsOf, Error, FeatureStore, StoreOptions,
    extract::{Extract, ExtractRun},
    lineage::Origin,
    storage::Locations,
    time::FixedClock,
};
use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::FutureExt;
use object_store::memory::InMemory;

use crate::{
    crash::{Job, RIDES_SEEN, Seen, fail_every_call, kill_after, load_of, open, rides},
    failing_store::ALL_FAULTS,
    support::{
        cells, child, copy_dir, files_below, instant, load_trips, store, store_of, store_with, temp_dir, trip, write_text,
        write_trips,
    },
};

async fn rows_of(run: &ExtractRun) -> Vec<String> {
    let text = pretty_format_batches(&run.dataframe().await.unwrap().collect().await.unwrap()).unwrap().to_string();
    let mut rows: Vec<String> = text.lines().filter(|l| l.starts_with('|')).skip(1).map(str::to_owned).collect();
    rows.sort();
    rows
}

/// Three trips, of which the second is under way at noon of the 2nd.
async fn three() -> (tempfile::TempDir, FeatureStore) {
    store_of(&[trip("2014-11-01T08:00:00Z", 1.0), trip("2014-11-02T11:55:00Z", 2.0), trip("2014-11-03T08:00:00Z", 3.0)]).await
}

const NOON: &str = "2014-11-02T12:00:00Z";

#[tokio::test]
async fn an_extract_holds_what_was_visible_and_its_record_says_what_it_was_made_of() {
    let (data, root) = (temp_dir(), temp_dir());
    let now = instant("2020-05-06T07:08:09Z");
    let options = StoreOptions::default().cache_in_memory().clock(FixedClock(now));
    let store = store_with(root.path(), options).await;
    write_trips(data.path(), 30);
    load_trips(&store, data.path()).await;

    let sql = write_text(
        data.path(),
        "busy.sql",
        "SELECT pickup_zone AS zone, count(*) AS trips FROM nyc_taxi\nWHERE trip_distance > $miles AND date_diff($unit, pickup_at, $until) >= 0 GROUP BY pickup_zone",
    );
    let until = instant("2014-06-01");
    let extract = Extract::from_file("busy", &sql).unwrap().param("miles", 1.5).param("unit", "day").param("until", until);
    let extract = extract.as_of(until).keep_for(30).keep_last(2);
    let made = store.ctas_with(&extract).await.unwrap();
    let asked = "SELECT pickup_zone AS zone, count(*) AS trips FROM nyc_taxi WHERE trip_distance > 1.5 GROUP BY pickup_zone";
    let direct = cells(&store, &format!("{asked} ORDER BY zone"), until).await;
    let kept = cells(&store, &format!("SELECT * FROM {} ORDER BY zone", made.table()), until).await;
    assert!(direct.len() > 10);
    assert_eq!(direct, kept);
    made.verify().await.unwrap();

    let record = made.record();
    assert_eq!(record.table.to_string(), format!("ctas_busy_{}", record.run));
    assert!(record.run.starts_with("20200506t070809_"), "{}", record.run);
    assert_eq!((record.started, record.ended, record.as_of), (now, now, Some(until)));
    assert_eq!(record.sql, fs::read_to_string(&sql).unwrap());
    assert_eq!(record.parameters.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["miles", "unit", "until"]);
    assert_eq!(record.library, env!("CARGO_PKG_VERSION"));
    assert_eq!((record.rows, record.parts.len()), (direct.len() as u64, 1));
    // Only files that may hold visible trips count as inputs, with what identifies them.
    let [input] = record.inputs.as_slice() else { panic!("{record:?}") };
    let version = store.describe("nyc_taxi").await.unwrap();
    assert_eq!((input.table.to_string().as_str(), input.version), ("nyc_taxi", Some(1)));
    assert!(!input.files.is_empty() && input.files.len() < version.files().len());
    assert!(
        input
            .files
            .iter()
            .all(|f| f.identity.hash.is_some() && version.files().iter().any(|v| v.path == f.path && v.identity == f.identity))
    );
    // What another process reads is what this one was told.
    let other = crate::support::store(root.path()).await;
    assert_eq!(other.extract(&made.table().to_string()).await.unwrap().record(), record);
    assert_eq!(other.extracts("busy").await.unwrap(), std::slice::from_ref(record));
    assert!(other.tables().await.unwrap().contains(made.table()));
    assert!(files_below(root.path()).contains(&format!("extracts/busy/{}/extract.json", record.run)));
    // It is no fact table.
    assert!(matches!(other.describe(&made.table().to_string()).await, Err(Error::Definition { .. })));
    assert!(matches!(other.shards(&made.table().to_string(), 2, AsOf::END_OF_TIME).await, Err(Error::UnknownTable { .. })));
}

#[tokio::test]
async fn no_extract_leaks_into_an_earlier_question() {
    let (_root, store) = three().await;
    let (noon, later) = (instant(NOON), instant("2014-12-01"));
    let sql = "SELECT pickup_at, fare_amount FROM nyc_taxi";
    let at_noon = store.ctas_with(&Extract::new("trips", sql).unwrap().as_of(noon)).await.unwrap();
    let at_end = store.ctas_with(&Extract::new("trips", sql).unwrap().as_of(later)).await.unwrap();
    let of_all = store.ctas("trips", sql).await.unwrap();
    assert_eq!((at_noon.rows(), at_end.rows(), of_all.rows()), (1, 3, 3));
    assert_eq!((at_noon.record().as_of, of_all.record().as_of), (Some(noon), None));

    let count = |run: &ExtractRun| format!("SELECT count(*) FROM {}", run.table());
    for (run, as_of, may) in [
        (&at_noon, noon, true),
        (&at_noon, later, true),
        (&at_noon, AsOf::from_micros(noon.micros() - 1), false),
        (&at_end, noon, false),
        (&at_end, later, true),
        (&of_all, later, false),
        (&of_all, AsOf::from_micros(i64::MAX - 1), false),
        (&of_all, AsOf::END_OF_TIME, true),
    ] {
        match store.sql(&count(run), as_of).await {
            Ok(rows) => drop((assert!(may, "{} at {as_of}", run.table()), rows.collect().await.unwrap())),
            Err(error) => {
                assert!(!may && matches!(error, Error::Definition { .. }), "{error}");
                assert!(error.to_string().contains("leak") && error.to_string().contains(&run.table().to_string()), "{error}");
            }
        }
        // The same holds inside a subquery, beside a fact table, and of an extract made of it.
        let nested = format!("SELECT * FROM nyc_taxi WHERE fare_amount IN (SELECT fare_amount FROM {})", run.table());
        assert_eq!(store.sql(&nested, as_of).await.is_ok(), may);
        let again = Extract::new("again", format!("SELECT * FROM {}", run.table())).unwrap();
        assert_eq!(store.ctas_with(&again.clone().as_of(as_of)).await.is_ok(), may);
        assert!(store.ctas_with(&again).await.is_ok());
    }
    // Nor is it a table of facts.
    let windows = format!("SELECT * FROM trailing(nyc_taxi, pickup_at, {}, 'vendor_id', '1 day', 'count(*)')", at_noon.table());
    let refused = store.sql(&windows, later).await.unwrap_err();
    assert!(matches!(refused, Error::Definition { .. }) && refused.to_string().contains("is an extract"), "{refused}");
    // An extract of extracts, without an as-of, is no way around.
    let again = store.ctas("again", &format!("SELECT * FROM {}", at_noon.table())).await.unwrap();
    assert!(store.sql(&count(&again), later).await.is_err());
    // Nor may a feature set be made of one.
    let set = asof::FeatureSet::rows("leaky_v1", &format!("SELECT pickup_at, fare_amount FROM {}", at_end.table()))
        .table(&at_end.table().to_string())
        .event_time("pickup_at")
        .label("fare_amount")
        .encode(asof::encoder::Number::of("fare_amount"))
        .build();
    if let Ok(set) = set {
        store.register(set).unwrap();
        assert!(matches!(store.materialize("leaky_v1", noon).await, Err(Error::UnknownTable { .. })));
    }
}

#[tokio::test]
async fn what_cannot_be_extracted_is_refused_and_leaves_nothing() {
    let (root, store) = three().await;
    let before = files_below(root.path());
    let refused = async |sql: &str| store.ctas("x", sql).await.unwrap_err();
    assert!(matches!(refused("SELECT now() AS t FROM nyc_taxi").await, Error::Volatile { .. }));
    assert!(matches!(refused("SELECT random() AS r FROM nyc_taxi").await, Error::Volatile { .. }));
    assert!(matches!(refused("SELECT * FROM nothing").await, Error::UnknownTable { .. }));
    assert!(matches!(refused("SELECT * FROM ctas_x_20140101t000000_01234567").await, Error::UnknownTable { .. }));
    assert!(matches!(refused("SELECT 1 AS a, 2 AS a").await, Error::Query(_) | Error::Definition { .. }));
    assert!(matches!(refused("CREATE TABLE x AS SELECT 1").await, Error::Statement { .. }));
    assert!(matches!(refused("SELECT * FROM nyc_taxi WHERE pickup_zone = $zone").await, Error::Definition { .. }));
    let twice = Extract::new("x", "SELECT $a AS a").unwrap().param("a", 1).param("a", 2);
    assert!(matches!(store.ctas_with(&twice).await, Err(Error::Definition { .. })));
    let unused = Extract::new("x", "SELECT 1 AS a").unwrap().param("b", 1);
    assert!(matches!(store.ctas_with(&unused).await, Err(Error::Definition { .. })));
    let nan = Extract::new("x", "SELECT $a AS a").unwrap().param("a", f64::NAN);
    assert!(matches!(store.ctas_with(&nan).await, Err(Error::Definition { .. })));
    for name in ["", "Upper", "a-b", "../x", &"x".repeat(97)] {
        assert!(matches!(Extract::new(name, "SELECT 1"), Err(Error::InvalidName { .. })), "{name}");
    }
    assert!(matches!(Extract::from_file("x", "no/such.sql"), Err(Error::Io { .. })));
    assert!(matches!(store.extract("ctas_x_20140101t000000_01234567").await, Err(Error::UnknownTable { .. })));
    assert_eq!(files_below(root.path()), before);
}

#[tokio::test]
async fn parameters_are_values_of_their_types_never_text() {
    let (_root, store) = three().await;
    let attack = "x' OR '1' = '1";
    let extract = Extract::new("typed", "SELECT $text AS text, $number AS number, $flag AS flag, $at AS at, $none AS nothing FROM nyc_taxi WHERE fare_amount >= $least ORDER BY fare_amount LIMIT $most").unwrap();
    let extract = extract.param("text", attack).param("number", 7).param("flag", true).param("at", instant(NOON));
    let made = store.ctas_with(&extract.param("none", asof::Value::Null).param("least", 2.0).param("most", 1)).await.unwrap();
    assert_eq!(rows_of(&made).await, [format!("| {attack} | 7      | true | {NOON} |         |")]);
    let types: Vec<String> = made.record().columns.iter().map(|c| c.data_type.clone()).collect();
    assert_eq!(types, ["Utf8", "Int64", "Boolean", "Timestamp(µs, \"UTC\")", "Null"]);
    let attacked =
        Extract::new("typed", "SELECT * FROM nyc_taxi WHERE CAST(pickup_zone AS VARCHAR) = $text").unwrap().param("text", attack);
    let made = store.ctas_with(&attacked).await.unwrap();
    assert_eq!(made.rows(), 0);
    // Without rows there is still a table, with its columns.
    assert_eq!((made.dataframe().await.unwrap().count().await.unwrap(), made.schema().unwrap().fields().len()), (0, 9));
}

#[tokio::test]
async fn lineage_leads_back_to_the_files_that_were_loaded() {
    let (_root, store) = three().await;
    let first = store.ctas("first", "SELECT fare_amount FROM nyc_taxi").await.unwrap();
    let second = store.ctas("second", &format!("SELECT sum(fare_amount) AS fares FROM {}", first.table())).await.unwrap();
    assert_eq!(rows_of(&second).await, ["| 6.0   |"]);
    let lineage = store.lineage(&second.table().to_string()).await.unwrap();
    assert!(matches!(&lineage.origin, Origin::Extract(record) if *record.table.to_string() == second.table().to_string()));
    let [of_first] = lineage.inputs.as_slice() else { panic!("{lineage}") };
    assert_eq!((&of_first.table, of_first.version), (first.table(), None));
    let [facts] = of_first.inputs.as_slice() else { panic!("{lineage}") };
    assert_eq!((facts.table.to_string().as_str(), facts.version), ("nyc_taxi", Some(1)));
    assert!(matches!(&facts.origin, Origin::Loaded(loads) if loads[0].sources[0].name == "trips.csv"));
    let told = lineage.to_string();
    assert!(
        told.contains("SELECT sum(fare_amount)")
            && told.contains("    nyc_taxi version 1: loaded from trips.csv (")
            && told.contains(" bytes, changed 20"),
        "{told}"
    );
    let loaded = store.describe("nyc_taxi").await.unwrap().loads()[0].sources[0].content.clone();
    assert!(told.contains(&loaded[..16]), "{told}");
    assert!(matches!(store.lineage("nothing").await, Err(Error::UnknownTable { .. })));
}

#[tokio::test]
async fn credentials_are_in_no_record() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 5);
    let shared = Arc::new(InMemory::new());
    let locations = Locations::default().option("aws_secret_access_key", "SECRET-OF-MINE").mount("s3://bucket", shared).unwrap();
    let store =
        FeatureStore::open_with(root.path().to_str().unwrap(), StoreOptions::default().cache_in_memory().locations(locations))
            .await
            .unwrap();
    load_trips(&store, data.path()).await;
    let made = store.ctas("quiet", "SELECT * FROM nyc_taxi").await.unwrap();
    let path = root.path().join("extracts/quiet").join(&made.record().run).join("extract.json");
    let record = fs::read_to_string(path).unwrap();
    assert!(record.contains("\"inputs\"") && !record.contains("SECRET"), "{record}");
    assert!(!store.lineage(&made.table().to_string()).await.unwrap().to_string().contains("SECRET"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_of_one_name_at_once_are_two_tables() {
    let (root, _) = three().await;
    let make = || async {
        let own = crate::support::store(root.path()).await;
        own.ctas("same", "SELECT fare_amount FROM nyc_taxi").await.unwrap()
    };
    let runs = futures::future::join_all((0..8).map(|_| make())).await;
    let tables: BTreeSet<String> = runs.iter().map(|run| run.table().to_string()).collect();
    assert_eq!(tables.len(), 8);
    let store = store(root.path()).await;
    assert_eq!(store.extracts("same").await.unwrap().len(), 8);
    for table in tables {
        store.extract(&table).await.unwrap().verify().await.unwrap();
    }
}

// --- crashes ---------------------------------------------------------------------------------------------------------

/// The different contents of the extract's runs: a rerun makes another run of the same content.
async fn contents(store: &FeatureStore) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for record in store.extracts("fares").await.unwrap() {
        let run = store.extract(&record.table.to_string()).await.unwrap();
        run.verify().await.unwrap();
        found.insert(format!("{:?} {:?}", rows_of(&run).await, record.parts));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extract_whose_any_call_fails_is_there_whole_or_not_at_all() {
    let data = temp_dir();
    let [january, _] = rides(data.path());
    let base = InMemory::new();
    open(Arc::new(base.clone())).await.unwrap().ingest(&load_of(&january)).await.unwrap();
    let job: Job = |store, _: PathBuf| {
        async move {
            let extract = Extract::new("fares", "SELECT at, fare FROM rides ORDER BY at")?.as_of(RIDES_SEEN.parse()?);
            store.ctas_with(&extract).await.map(drop)
        }
        .boxed()
    };
    let seen: Seen = |store| async move { format!("{:?}", contents(&store).await) }.boxed();
    let calls = fail_every_call(&base, &january, job, seen, ALL_FAULTS, |_| true).await;
    println!("{calls:#?}");
    assert!(calls.len() >= 6 && calls.last().unwrap().ends_with("extract.json"), "{calls:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extract_killed_anywhere_leaves_whole_runs_only() {
    let (data, loaded) = (temp_dir(), temp_dir());
    write_trips(data.path(), 40);
    load_trips(&store_with(loaded.path(), StoreOptions::default()).await, data.path()).await;
    let mut cut_off = 0;
    for (new_files, more) in [(0, 0), (0, 900), (1, 0), (1, 300), (2, 100), (3, 0), (4, 200), (5, 0)] {
        let root = temp_dir();
        copy_dir(loaded.path(), root.path());
        let child = child("ctas", root.path(), std::path::Path::new("2014-07-01"));
        cut_off += usize::from(kill_after(child, root.path(), new_files, Duration::from_micros(more)));
        let store = store_with(root.path(), StoreOptions::default()).await;
        let runs = store.extracts("zones").await.unwrap();
        for record in &runs {
            store.extract(&record.table.to_string()).await.unwrap().verify().await.unwrap();
        }
        let sql = "SELECT pickup_zone, total_amount FROM nyc_taxi";
        let again = store.ctas_with(&Extract::new("zones", sql).unwrap().as_of(instant("2014-07-01"))).await.unwrap();
        assert!(runs.iter().all(|run| (run.rows, &run.columns) == (again.rows(), &again.record().columns)));
        assert_eq!(store.extracts("zones").await.unwrap().len(), runs.len() + 1);
    }
    println!("{cut_off} of 8 were cut off");
    assert!(cut_off > 0);
}
