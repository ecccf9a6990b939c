//! Timeless tables: one row per key, the same at every instant. Lookups from them in training, materialized and served, against a
//! naive oracle; and what says too little or too much about them is refused.

use std::{collections::BTreeMap, sync::Arc};

use asof::{
    Aggregate, Error, FeatureSet, FeatureStore, Value,
    catalog::{FactTable, KnownAt},
    encoder::Number,
    feature_set::{Ahead, EntitySetBuilder, Source},
    ingest::Ingest,
    temporal::{Lookup, Spine, Window},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch, StringArray},
        datatypes::{Float64Type, TimestampMicrosecondType},
    },
    datasource::MemTable,
    prelude::SessionContext,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::{
    any_key::{SECOND_US, both, second, table},
    bad_input::says,
    parity::{bit_rows, whole},
    support::{answer, bits, cells, files_below, store, temp_dir, write_parquet},
    training::{batch, collected, floats, instants, integers, known_at_once},
};

/// Zones with a capacity and a borough, each of which may be NULL.
type Zones = BTreeMap<i64, (Option<i64>, Option<&'static str>)>;

fn zone_columns(zones: &Zones) -> [(&'static str, ArrayRef); 3] {
    let boroughs: ArrayRef = Arc::new(zones.values().map(|(_, borough)| *borough).collect::<StringArray>());
    [
        ("zone", integers(zones.keys().map(|zone| Some(*zone)))),
        ("capacity", integers(zones.values().map(|(capacity, _)| *capacity))),
        ("borough", boroughs),
    ]
}

fn some_zones(rng: &mut StdRng) -> Zones {
    let boroughs = [Some("Bronx"), Some("Queens"), None];
    let zone = |rng: &mut StdRng| {
        let capacity = (!rng.random_bool(0.2)).then(|| rng.random_range(0..9));
        (rng.random_range(0..8), (capacity, boroughs[rng.random_range(0..3)]))
    };
    (0..6).map(|_| zone(rng)).collect()
}

/// A trip: zone, vendor, second, fare in quarters.
type Trip = (i64, i64, i64, f64);

fn some_trips(rng: &mut StdRng) -> Vec<Trip> {
    let trip = |rng: &mut StdRng| {
        (rng.random_range(0..6), rng.random_range(0..2), rng.random_range(0..20), f64::from(rng.random_range(0..40)) / 4.0)
    };
    (0..40).map(|_| trip(rng)).collect()
}

async fn trips_table(dir: &TempDir, store: &FeatureStore, trips: &[Trip]) {
    let columns = [
        ("zone", integers(trips.iter().map(|trip| Some(trip.0)))),
        ("vendor", integers(trips.iter().map(|trip| Some(trip.1)))),
        ("at", instants(trips.iter().map(|trip| Some(trip.2 * SECOND_US)))),
        ("fare", floats(trips.iter().map(|trip| Some(trip.3)))),
    ];
    table(dir, store, "trips", &columns, known_at_once()).await;
}

fn by_zone(name: &str) -> EntitySetBuilder {
    let fares = [Aggregate::count().named("trips"), Aggregate::sum("fare").named("fares")];
    FeatureSet::entities(name, "trips")
        .key("zone")
        .window(TimeDelta::seconds(6), fares)
        .also(Source::timeless("zones").on("zone").lookup("capacity", "capacity").lookup("borough", "borough"))
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_timeless_table_is_seen_at_every_instant_by_training_and_serving() {
    for seed in 0..3 {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = temp_dir();
        let store = store(&dir.path().join("store")).await;
        let (zones, trips) = (some_zones(&mut rng), some_trips(&mut rng));
        trips_table(&dir, &store, &trips).await;
        table(&dir, &store, "zones", &zone_columns(&zones), FactTable::timeless(["zone"])).await;
        store.register(by_zone("zones_v1").build().unwrap()).unwrap();
        let keys: Vec<Option<i64>> = (0..10).map(Some).chain([None]).collect();
        let asked: Vec<Vec<Value>> = keys.iter().map(|key| vec![key.map_or(Value::Null, Value::Int)]).collect();
        // Long before the first trip, between them, and after the last.
        for at in [-1_000_000_000, 0, 1, 7, 13, 40] {
            let (trained, served, known) = both(&store, "zones_v1", &["zone"], &asked, second(at)).await;
            assert_eq!(trained, served, "seed {seed} at {at} s");
            for ((key, trained), known) in keys.iter().zip(&trained).zip(known) {
                let of_key = || trips.iter().filter(|trip| Some(trip.0) == *key && trip.2 < at);
                let fares: Vec<f64> = of_key().filter(|trip| trip.2 >= at - 6).map(|trip| trip.3).collect();
                let sum = fares.iter().copied().reduce(|a, b| a + b).map(|sum| format!("{:016x}", sum.to_bits()));
                let zone = key.and_then(|key| zones.get(&key));
                let (capacity, borough) = zone.copied().unwrap_or_default();
                let expected = format!("{} {} {} {}", fares.len(), shown(sum), shown(capacity), shown(borough));
                assert_eq!(*trained, expected, "seed {seed}, {key:?} at {at} s");
                // The rows of the timeless table are entities, too: it knows the key.
                assert_eq!(known, zone.is_some() || of_key().next().is_some(), "seed {seed}, {key:?} at {at} s");
            }
        }
    }
}

/// Of two keys a timeless table may know one, or both.
#[tokio::test(flavor = "multi_thread")]
async fn a_timeless_table_may_know_some_of_the_keys() {
    let mut rng = StdRng::seed_from_u64(7);
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    let (zones, trips) = (some_zones(&mut rng), some_trips(&mut rng));
    trips_table(&dir, &store, &trips).await;
    table(&dir, &store, "zones", &zone_columns(&zones), FactTable::timeless(["zone"])).await;
    let permits: BTreeMap<(i64, i64), i64> = (0..8).map(|n| ((n % 7, n % 2), 100 + n)).collect();
    let columns = [
        ("area", integers(permits.keys().map(|(zone, _)| Some(*zone)))),
        ("vendor", integers(permits.keys().map(|(_, vendor)| Some(*vendor)))),
        ("number", integers(permits.values().map(|number| Some(*number)))),
    ];
    table(&dir, &store, "permits", &columns, FactTable::timeless(["vendor", "area"])).await;
    let set = FeatureSet::entities("pairs_v1", "trips")
        .key("zone")
        .key("vendor")
        .all_before([Aggregate::count().named("trips")])
        .also(Source::timeless("zones").on("zone").lookup("capacity", "capacity"))
        .also(Source::timeless("permits").on_columns("zone", "area").on("vendor").lookup("number", "permit"));
    store.register(set.build().unwrap()).unwrap();
    let pairs: Vec<(i64, i64)> = (0..9).flat_map(|zone| (0..3).map(move |vendor| (zone, vendor))).collect();
    let asked: Vec<Vec<Value>> = pairs.iter().map(|&(zone, vendor)| vec![zone.into(), vendor.into()]).collect();
    for at in [0, 9, 40] {
        let (trained, served, known) = both(&store, "pairs_v1", &["zone", "vendor"], &asked, second(at)).await;
        assert_eq!(trained, served, "at {at} s");
        for (((zone, vendor), trained), known) in pairs.iter().zip(&trained).zip(known) {
            let count = trips.iter().filter(|trip| (trip.0, trip.1) == (*zone, *vendor) && trip.2 < at).count();
            let capacity = zones.get(zone).and_then(|(capacity, _)| *capacity);
            let permit = permits.get(&(*zone, *vendor));
            assert_eq!(*trained, format!("{count} {} {}", shown(capacity), shown(permit)), "{zone} {vendor} at {at} s");
            assert_eq!(known, count > 0 || permit.is_some(), "{zone} {vendor} at {at} s");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_rows_draws_from_a_timeless_table() {
    let mut rng = StdRng::seed_from_u64(3);
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    let (zones, trips) = (some_zones(&mut rng), some_trips(&mut rng));
    trips_table(&dir, &store, &trips).await;
    table(&dir, &store, "zones", &zone_columns(&zones), FactTable::timeless(["zone"])).await;
    let entities = by_zone("zones_v1").build().unwrap();
    store.register(entities.clone()).unwrap();
    let rows = FeatureSet::rows("trips_v1", "SELECT at, zone, fare FROM trips")
        .table("trips")
        .event_time("at")
        .features_of(entities.by(["zone"]).only(["trips", "capacity"]))
        .pass(["zone", "trips", "capacity"])
        .label("fare");
    store.register(rows.build().unwrap()).unwrap();
    let made = store.materialize("trips_v1", second(40)).await.unwrap();
    let found = whole(&made).await;
    let column = |name: &str| found.column_by_name(name).unwrap().as_primitive::<Float64Type>().clone();
    let at = found.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>();
    let (zone, capacity, count) = (column("zone"), column("capacity"), column("trips"));
    assert_eq!(found.num_rows(), trips.len());
    for row in 0..found.num_rows() {
        let (at, own) = (at.value(row) / SECOND_US, zone.value(row) as i64);
        let expected = zones.get(&own).and_then(|(capacity, _)| *capacity);
        assert_eq!(capacity.is_valid(row).then(|| capacity.value(row) as i64), expected, "zone {own}");
        let before = trips.iter().filter(|trip| trip.0 == own && trip.2 < at && trip.2 >= at - 6).count();
        assert_eq!(count.value(row) as usize, before);
    }
    // A request has it, too, for a zone without any trip.
    store.materialize("zones_v1", second(40)).await.unwrap();
    let online = store.online("trips_v1").await.unwrap();
    for key in 0..9 {
        let row = online.encode_row(&[("zone", key.into())]).unwrap();
        let expected = zones.get(&key).and_then(|(capacity, _)| *capacity).map(|capacity| capacity as f64);
        assert_eq!(row.number("capacity").unwrap(), expected, "zone {key}");
    }
    // The service is proved against training as that of any other set.
    for set in ["zones_v1", "trips_v1"] {
        let report = store.verify_parity(set, second(40), asof::parity::ParitySample::all()).await.unwrap();
        assert!(report.is_equal(), "{report}");
    }
}

fn two_zones(capacity: i64) -> Zones {
    BTreeMap::from([(1, (Some(capacity), Some("Bronx"))), (2, (None, Some("Queens")))])
}

async fn bench() -> (TempDir, FeatureStore) {
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    trips_table(&dir, &store, &[(1, 0, 1, 2.5), (3, 0, 2, 1.0)]).await;
    table(&dir, &store, "zones", &zone_columns(&two_zones(5)), FactTable::timeless(["zone"])).await;
    (dir, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_descriptions_say_what_is_timeless() {
    let (dir, store) = bench().await;
    let set = by_zone("zones_v1").build().unwrap();
    assert_eq!(set.feature("capacity").unwrap().made_of, "capacity of zones, timeless");
    assert_eq!(set.feature("trips").unwrap().made_of, "count(*) of trips over 6 seconds");
    store.register(set).unwrap();
    let plan = store.plan("zones_v1", second(10)).await.unwrap();
    assert_eq!(plan.tables.iter().map(|table| table.is_timeless).collect::<Vec<_>>(), [false, true]);
    let told = plan.to_string();
    assert!(told.contains("zones, timeless"), "{told}");
    assert!(told.contains("zones by zone, timeless"), "{told}");
    let described = store.describe("zones").await.unwrap();
    assert!(described.declared().is_timeless() && described.to_string().contains("timeless: one row per key"), "{described}");
    assert!(!store.describe("trips").await.unwrap().to_string().contains("timeless"));
    // SQL sees all rows as of any instant, and says so.
    let early = second(-1_000_000_000);
    for as_of in [early, second(10)] {
        assert_eq!(cells(&store, "SELECT count(*) FROM zones", as_of).await, ["2"]);
        assert_eq!(cells(&store, "SELECT borough FROM zones WHERE capacity / zone > 4", as_of).await, ["Bronx"]);
    }
    let joined = "SELECT t.zone, z.borough FROM trips t LEFT JOIN zones z ON t.zone = z.zone ORDER BY 1";
    assert_eq!(cells(&store, joined, second(10)).await, ["1 Bronx", "3 "]);
    let explained = answer(&store, "EXPLAIN SELECT borough FROM zones", early).await.unwrap();
    assert!(explained.contains("visible=[timeless]"), "{explained}");
    let zones = store.facts("zones", early).await.unwrap();
    let spine = batch(vec![("zone", integers([Some(1)])), ("t", instants([Some(0)]))]);
    let spine = Spine::new(SessionContext::new().read_batch(spine).unwrap(), "t");
    let rows = spine.lookup([Lookup::of(zones).on("zone").column("borough")]).unwrap().into_rows();
    let explained = rows.clone().explain(false, false).unwrap().collect().await.unwrap();
    let explained = datafusion::arrow::util::pretty::pretty_format_batches(&explained).unwrap().to_string();
    assert!(explained.contains("visible=[timeless], newest(borough)"), "{explained}");
    assert_eq!(bit_rows(&collected(rows).await), ["1 1970-01-01T00:00:00Z Bronx"]);

    // Hive's DDL declares it as well, and shows what it takes to declare it.
    let location = dir.path().join("zones");
    let create = format!(
        "CREATE EXTERNAL TABLE areas (zone bigint, capacity bigint, borough string) STORED AS PARQUET LOCATION '{}' \
         TBLPROPERTIES ('asof.timeless' = 'true', 'asof.keys' = 'zone')",
        location.display()
    );
    store.execute(&create).await.unwrap();
    assert_eq!(store.describe("areas").await.unwrap().declared(), &FactTable::timeless(["zone"]));
    let shown = store.execute("SHOW CREATE TABLE areas").await.unwrap().to_string();
    assert!(shown.contains("'asof.timeless' = 'true'") && shown.contains("'asof.keys' = 'zone'"), "{shown}");
}

/// A row that has changed is another row at every instant, so it makes other materializations, of the past as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_makes_another_id() {
    let (dir, store) = bench().await;
    store.register(by_zone("zones_v1").build().unwrap()).unwrap();
    let before = store.materialize("zones_v1", second(10)).await.unwrap();
    write_parquet(&dir.path().join("zones/all.parquet"), &zone_columns(&two_zones(6)), None);
    store.repair("zones").await.unwrap();
    let after = store.materialize("zones_v1", second(10)).await.unwrap();
    assert_ne!(before.id(), after.id());
    assert_ne!(bits(&before).await, bits(&after).await);
    assert_eq!(store.materialize("zones_v1", second(10)).await.unwrap().id(), after.id());
}

/// Several instants at once are compared with facts. The rows of a timeless table are visible at any of them, and say nothing about
/// whether another year was meant.
#[tokio::test(flavor = "multi_thread")]
async fn instants_before_every_fact_are_refused_beside_a_timeless_table() {
    let (_dir, store) = bench().await;
    store.register(by_zone("zones_v1").build().unwrap()).unwrap();
    let early = [second(-20), second(-10)];
    let told = store.materialize_many("zones_v1", &early).await.unwrap_err();
    says!(told, Error::Definition { .. }, "the instants of `zones_v1`", "lie before every fact of `trips` (at)");
    let made = store.materialize_many("zones_v1", &[early[0], early[1], second(10)]).await.unwrap();
    assert_eq!(made.iter().map(asof::Materialization::rows).collect::<Vec<_>>(), [2, 2, 3]);
    assert_eq!(store.materialize("zones_v1", early[0]).await.unwrap().id(), made[0].id());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rows_for_a_key_are_refused_with_their_table_key_and_set() {
    let (dir, store) = bench().await;
    // Rows without a key are found by nobody, so there may be several.
    let columns = [
        ("zone", integers([Some(1), Some(7), None, None, Some(7), Some(9), Some(9)])),
        ("capacity", integers((0..7).map(Some))),
        ("borough", Arc::new(StringArray::from(vec!["a"; 7])) as ArrayRef),
    ];
    table(&dir, &store, "twice", &columns, FactTable::timeless(["zone"])).await;
    let twice = |name: &str| {
        let set = FeatureSet::entities(name, "trips").key("zone").all_before([Aggregate::count().named("trips")]);
        set.also(Source::timeless("twice").on("zone").lookup("capacity", "capacity")).build().unwrap()
    };
    store.register(twice("twice_v1")).unwrap();
    let before = files_below(&dir.path().join("store"));
    macro_rules! is_told {
        ($error:expr, $set:expr) => {
            says!(
                $error,
                Error::Definition { .. },
                format!("feature set `{}`: table `twice`", $set),
                "2 rows for zone = 7",
                "(zone)"
            )
        };
    }
    is_told!(store.materialize("twice_v1", second(10)).await.unwrap_err(), "twice_v1");
    let spine = batch(vec![("zone", integers([Some(1)])), ("t", instants([Some(0)]))]);
    let spine = Spine::new(SessionContext::new().read_batch(spine).unwrap(), "t");
    is_told!(store.training_set("twice_v1", spine).await.err().unwrap(), "twice_v1");
    let drawing = FeatureSet::rows("drawing_v1", "SELECT at, zone FROM trips").table("trips").event_time("at");
    let drawing = drawing.features_of(twice("twice_v1").by(["zone"])).encode(Number::of("capacity"));
    store.register(drawing.build().unwrap()).unwrap();
    is_told!(store.materialize("drawing_v1", second(10)).await.unwrap_err(), "drawing_v1");
    let facts = store.facts("twice", second(10)).await.err().unwrap();
    says!(facts, Error::Definition { .. }, "table `twice`", "2 rows for zone = 7");
    assert_eq!(files_below(&dir.path().join("store")), before, "nothing is published");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_says_of_a_table_whether_it_is_timeless() {
    let (dir, store) = bench().await;
    let columns = [("zone", integers([Some(1)])), ("vendor", integers([Some(1)])), ("n", integers([Some(1)]))];
    table(&dir, &store, "pairs", &columns, FactTable::timeless(["zone", "vendor"])).await;
    let counted = |name: &str, table: &str| FeatureSet::entities(name, table).key("zone").key("vendor");
    let trips = |name: &str| counted(name, "trips").all_before([Aggregate::count().named("trips")]);
    let refused = async |set: EntitySetBuilder| {
        let set = set.build().unwrap();
        store.register(set.clone()).unwrap();
        let error = store.materialize(set.name().as_str(), second(10)).await.unwrap_err();
        assert_eq!(store.plan(set.name().as_str(), second(10)).await.unwrap_err().to_string(), error.to_string());
        error
    };
    let unsaid = trips("unsaid_v1").also(Source::of("zones").on("zone").lookup("borough", "borough"));
    says!(
        refused(unsaid).await,
        Error::Definition { .. },
        "feature set `unsaid_v1`: table `zones`",
        "declared timeless",
        "Source::timeless(\"zones\")"
    );
    says!(
        refused(counted("own_v1", "pairs").lookup("n", "n")).await,
        Error::Definition { .. },
        "feature set `own_v1`: table `pairs`",
        "the set's own table is one of facts"
    );
    let untrue = trips("untrue_v1").also(Source::timeless("trips").on("zone").lookup("fare", "fare"));
    says!(refused(untrue).await, Error::Definition { .. }, "feature set `untrue_v1`: table `trips`", "no timeless table");
    let part = trips("part_v1").also(Source::timeless("pairs").on("zone").lookup("n", "n"));
    says!(refused(part).await, Error::Definition { .. }, "table `pairs`", "one row for each (zone, vendor)", "found by (zone)");
    let other = trips("other_v1").also(Source::timeless("zones").on_columns("zone", "capacity").lookup("borough", "b"));
    says!(refused(other).await, Error::Definition { .. }, "table `zones`", "one row for each (zone)", "found by (capacity)");
    let gone = trips("gone_v1").also(Source::timeless("zones").on("zone").lookup("gone", "gone"));
    says!(refused(gone).await, Error::UnknownColumn { .. }, "feature `gone` of feature set `gone_v1`", "no column `gone`");

    // What can be told without the table, when the set is built.
    let built = |source: Source| trips("built_v1").also(source.on("zone")).build().unwrap_err();
    let hour = TimeDelta::hours(1);
    let zones = || Source::timeless("zones");
    says!(built(zones().lookup("borough", "b").max_age(hour)), Error::Definition { .. }, "`built_v1`", "`zones`", "no age");
    let counting = zones().window(hour, [Aggregate::count().named("n")]);
    says!(built(counting), Error::Definition { .. }, "`built_v1`", "`zones` is timeless", "no window of `n`");
    says!(
        built(zones().all_before([Aggregate::sum("capacity")])),
        Error::Definition { .. },
        "`zones` is timeless",
        "`sum_capacity`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_an_event_time_refuses_a_timeless_table() {
    let (_dir, store) = bench().await;
    says!(
        Ingest::new("zones", FactTable::timeless(["zone"])).err().unwrap(),
        Error::Definition { .. },
        "table `zones`",
        "register_table"
    );
    let facts = async || store.facts("zones", second(10)).await.unwrap();
    let spine = || {
        let rows = batch(vec![("zone", integers([Some(1)])), ("t", instants([Some(0)]))]);
        Spine::new(SessionContext::new().read_batch(rows).unwrap(), "t")
    };
    let aged = Lookup::of(facts().await).on("zone").column("borough").max_age(TimeDelta::hours(1));
    says!(spine().lookup([aged]).err().unwrap(), Error::Definition { .. }, "table `zones`", "no age");
    let counted = Window::of(facts().await).on("zone").all_before([Aggregate::count().named("n")]);
    says!(spine().window([counted]).err().unwrap(), Error::Definition { .. }, "table `zones`", "timeless", "`n`");
    // Rows of a query that is declared timeless were not checked for a second row.
    let rows = SessionContext::new().read_batch(RecordBatch::try_from_iter(zone_columns(&two_zones(1))).unwrap()).unwrap();
    let own = asof::temporal::Facts::new("own", rows, FactTable::timeless(["zone"]));
    let own = spine().lookup([Lookup::of(own).on("zone").column("borough")]);
    says!(own.err().unwrap(), Error::Definition { .. }, "table `own`", "FeatureStore::facts");

    for (sql, told) in [
        ("SELECT * FROM trailing('trips', 'at', 'zones', 'zone', '1 hour', 'count(*) AS n')", "`zones` is timeless"),
        (
            "SELECT * FROM trips t ASOF JOIN zones z MATCH_CONDITION (t.zone >= z.capacity) ON t.zone = z.zone",
            "declared timeless",
        ),
        ("SELECT * FROM trips t ASOF JOIN zones z MATCH_CONDITION (t.zone < z.capacity) ON t.zone = z.zone", "declared timeless"),
        ("SELECT * FROM trips t ASOF JOIN zones z MATCH_CONDITION (t.at >= z.capacity) ON t.zone = z.zone", "declared timeless"),
        ("SELECT * FROM trips t ASOF JOIN zones z MATCH_CONDITION (t.at >= z.borough) ON t.zone = z.zone", "declared timeless"),
    ] {
        says!(store.sql(sql, second(10)).await.err().unwrap(), Error::Definition { .. }, told);
    }
    let rows = |name: &str, query: &str| FeatureSet::rows(name, query).table("zones").event_time("at");
    let alone =
        rows("alone_v1", "SELECT TIMESTAMP '2014-01-01T00:00:00Z' AS at, capacity FROM zones").encode(Number::of("capacity"));
    store.register(alone.build().unwrap()).unwrap();
    says!(
        store.materialize("alone_v1", second(10)).await.unwrap_err(),
        Error::Definition { .. },
        "the query of `alone_v1`",
        "timeless tables alone"
    );
    let ahead = Ahead::of("zones").on("zone").window(TimeDelta::seconds(1), [Aggregate::count().named("n")]);
    let ahead = FeatureSet::rows("ahead_v1", "SELECT at, zone FROM trips").table("trips").event_time("at").label_ahead(ahead);
    store.register(ahead.encode(Number::of("zone")).build().unwrap()).unwrap();
    says!(
        store.materialize("ahead_v1", second(10)).await.unwrap_err(),
        Error::Definition { .. },
        "feature set `ahead_v1`",
        "`n` lie ahead in `zones`",
        "timeless"
    );
    // The declaration itself is held to its columns.
    let provider = |columns: Vec<(&str, ArrayRef)>| {
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap())
    };
    let register = async |declared: FactTable| {
        let rows = provider(vec![("zone", integers([Some(1)])), ("at", instants([Some(1)]))]);
        store.register_provider("odd", rows, declared).await.unwrap_err()
    };
    says!(register(FactTable::timeless([""; 0])).await, Error::Definition { .. }, "table `odd`", "no key");
    says!(register(FactTable::timeless(["gone"])).await, Error::UnknownColumn { .. }, "table `odd`", "`gone`");
    says!(register(FactTable::timeless(["zone"]).tie_break("at")).await, Error::Definition { .. }, "table `odd`", "about times");
    let early = FactTable::new("at", KnownAt::after(TimeDelta::seconds(-1)));
    says!(register(early).await, Error::Definition { .. }, "table `odd`", "zero or more");
}
