//! Training sets: each row holds what a materialization at its instant holds, bit for bit, and rows come back in their order.
//! What the values should be is the business of the conformance cases; here is what must make no difference to them.

use std::{collections::HashMap, sync::Arc};

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, Resources, StoreOptions, Value,
    catalog::{FactTable, KnownAt},
    feature_set::Source,
    temporal::{AsOfDataFrame, Facts, Lookup, Spine, Window},
    time::Cutoff,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
        compute::concat_batches,
        datatypes::{Int64Type, Schema, TimestampMicrosecondType},
        util::pretty::pretty_format_batches,
    },
    datasource::MemTable,
    prelude::{DataFrame, SessionConfig, SessionContext},
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    asking::{Layout, PLAIN, table},
    parity::{bit_rows, columns, store_of_a_year, whole},
    support::{instant, rows, store, store_with, temp_dir, write_parquet},
};

pub(crate) const SECOND_US: i64 = 1_000_000;

pub(crate) fn session(layout: Layout) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(layout.tasks).with_batch_size(layout.batch_rows);
    SessionContext::new_with_config(config)
}

pub(crate) fn instants(us: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(us.into_iter().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

pub(crate) fn integers(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Int64Array>())
}

pub(crate) fn floats(values: impl IntoIterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Float64Array>())
}

fn texts<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

/// Facts that are known as soon as they happen.
pub(crate) fn known_at_once() -> FactTable {
    FactTable::new("at", KnownAt::after(TimeDelta::zero()))
}

pub(crate) async fn collected(rows: DataFrame) -> RecordBatch {
    let schema = Arc::new(rows.schema().as_arrow().clone());
    concat_batches(&schema, &rows.collect().await.unwrap()).unwrap()
}

fn ids(rows: &RecordBatch) -> Vec<i64> {
    rows.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_training_row_holds_what_a_materialization_at_its_instant_holds() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_of_a_year(root.path(), data.path(), 150).await;
    let set = store.feature_set("zone_demand_v1").unwrap();
    let mut rng = StdRng::seed_from_u64(11);

    // A trip's own begin and end, a microsecond after it, the clock's change, before and after all facts, and any instant.
    let one = store.sql("SELECT pickup_at, dropoff_at FROM nyc_taxi ORDER BY 1, 2 LIMIT 1 OFFSET 700", instant("2016-01-01"));
    let one = collected(one.await.unwrap()).await;
    let [begin, end] = [0, 1].map(|i| one.column(i).as_primitive::<TimestampMicrosecondType>().value(0));
    let year = instant("2014-01-01").micros()..instant("2015-01-01").micros();
    let named = ["2013-06-01", "2014-07-01T04:00:00Z", "2014-11-02T06:45:00Z", "2016-01-01"].map(|t| instant(t).micros());
    let asked: Vec<i64> = named.into_iter().chain([begin, end, end + 1, rng.random_range(year.clone())]).collect();

    let mut spine: Vec<(Option<i64>, i64)> = Vec::new();
    for &t in &asked {
        spine.extend((1..=263).chain([-1, 0, 9_999, i64::MIN]).map(|zone| (Some(zone), t)));
        spine.push((None, t));
    }
    // Rows at other instants, and rows that are there already.
    spine.extend((0..600).map(|_| (rng.random_bool(0.9).then(|| rng.random_range(1..300)), rng.random_range(year.clone()))));
    spine.extend((0..300).map(|i| spine[i * 7]).collect::<Vec<_>>());
    spine.shuffle(&mut rng);
    let rows = batch(vec![
        ("id", integers((0..spine.len() as i64).map(Some))),
        ("pickup_zone", integers(spine.iter().map(|row| row.0))),
        ("at", instants(spine.iter().map(|row| Some(row.1)))),
    ]);
    let ask = async |layout: Layout| {
        let spine = session(layout).read_table(table(rows.clone(), layout)).unwrap();
        collected(store.training_set("zone_demand_v1", Spine::new(spine, "at")).await.unwrap().dataframe().await.unwrap()).await
    };
    let trained = ask(PLAIN).await;
    assert_eq!(trained.columns()[..3], rows.columns()[..], "the spine changed");
    let trained = bit_rows(&columns(&trained, &set.features()));
    for layout in [Layout { batch_rows: 7, partitions: 3, tasks: 2 }, Layout { batch_rows: 500, partitions: 1, tasks: 5 }] {
        let again = ask(layout).await;
        assert_eq!(again.columns()[..3], rows.columns()[..], "the spine changed");
        assert_eq!(bit_rows(&columns(&again, &set.features())), trained, "{layout:?}");
    }

    let nothing = "NULL 0 NULL 0 NULL 0 NULL";
    for t in asked {
        let t = AsOf::from_micros(t);
        let made = store.materialize("zone_demand_v1", t).await.unwrap();
        let online = store.online_for(&made).await.unwrap();
        let offline = whole(&made).await;
        let zones = offline.column_by_name("pickup_zone").unwrap().as_primitive::<Int64Type>().values().to_vec();
        let mut features: HashMap<i64, String> = zones.into_iter().zip(bit_rows(&columns(&offline, &set.features()))).collect();
        let entities = features.len();
        let mut compared = 0;
        for (row, (zone, _)) in spine.iter().enumerate().filter(|(_, (_, at))| *at == t.micros()) {
            let found = zone.and_then(|zone| features.get(&zone)).map_or(nothing, String::as_str);
            assert_eq!(trained[row], found, "zone {zone:?} at {t}");
            let served = bit_rows(&online.get(&[Value::from(*zone)]).unwrap().batch().unwrap()).concat();
            assert_eq!(served, found, "zone {zone:?} at {t}");
            compared += usize::from(found != nothing);
        }
        assert!(compared >= entities);
        features.retain(|zone, _| !(1..=263).contains(zone));
        assert!(features.is_empty(), "zones that the spine has not asked about: {features:?}");
        assert_eq!(entities > 0, t > instant("2014-01-01"), "{entities} zones at {t}");
    }
}

/// Some facts: key, time in seconds, value.
fn some_facts() -> impl Strategy<Value = Vec<(Option<i64>, Option<i64>, Option<i64>)>> {
    let maybe = |range: std::ops::Range<i64>| prop::option::weighted(0.93, range);
    prop::collection::vec((maybe(0..4), maybe(0..60), maybe(0..5)), 0..50)
}

pub(crate) fn some_layout() -> impl Strategy<Value = Layout> {
    (1..24usize, 1..5usize, 1..5usize).prop_map(|(batch_rows, partitions, tasks)| Layout { batch_rows, partitions, tasks })
}

const KEYED: [&str; 3] = ["k", "at", "v"];

fn keyed(rows: &[(Option<i64>, Option<i64>, Option<i64>)], names: [&'static str; 3]) -> RecordBatch {
    batch(vec![
        (names[0], integers(rows.iter().map(|row| row.0))),
        (names[1], instants(rows.iter().map(|row| row.1.map(|s| s * SECOND_US)))),
        (names[2], integers(rows.iter().map(|row| row.2))),
    ])
}

#[test]
fn every_spine_row_comes_back_once_in_its_place() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..Default::default() };
    let key = prop::option::weighted(0.9, 0..5i64);
    // Few instants: many rows are the same question, and many facts happen at the instant itself.
    let at = prop::option::weighted(0.9, 0..70i64);
    let spine = prop::collection::vec((key, at), 0..70);
    proptest!(config, |(spine in spine, facts in some_facts(), layout in some_layout(), fact_layout in some_layout())| {
        let rows = batch(vec![
            ("id", integers((0..spine.len() as i64).map(Some))),
            ("k", integers(spine.iter().map(|row| row.0))),
            ("at", instants(spine.iter().map(|row| row.1.map(|s| s * SECOND_US)))),
        ]);
        let naive = |id: i64| {
            let (k, at) = spine[id as usize];
            let visible = facts.iter().filter(|f| k.is_some() && f.0 == k && f.1.is_some() && f.1 < at);
            let newest = visible.clone().map(|f| (f.1, f.2)).max().and_then(|(_, v)| v);
            (newest, visible.filter(|f| f.1.zip(at).is_some_and(|(event, at)| event >= at - 10)).count() as i64)
        };
        runtime.block_on(async {
            let session = session(layout);
            session.register_table("spine", table(rows, layout)).unwrap();
            let facts = session.read_table(table(keyed(&facts, KEYED), fact_layout)).unwrap();
            let facts = Facts::new("facts", facts, known_at_once());
            let lookup = || Lookup::of(facts.clone()).on("k").column_as("v", "newest");
            let count = || [Aggregate::count().named("count")];
            let window = || Window::of(facts.clone()).on("k").trailing(TimeDelta::seconds(10), count());
            let check = |rows: &RecordBatch, order: &[i64], how: &str| {
                assert_eq!(ids(rows), order, "{how}");
                let [newest, count] = ["newest", "count"].map(|c| rows.column_by_name(c).unwrap().as_primitive::<Int64Type>());
                for (i, &id) in order.iter().enumerate() {
                    assert_eq!((newest.iter().nth(i).unwrap(), count.value(i)), naive(id), "{how}, row {id}");
                }
            };
            let all: Vec<i64> = (0..spine.len() as i64).collect();
            let mut latest_first = all.clone();
            latest_first.sort_by_key(|&id| (spine[id as usize].1.is_none(), spine[id as usize].1.map(|at| -at), id));
            let some_backwards: Vec<i64> = all.iter().copied().rev().filter(|id| id % 3 != 1).collect();
            let queries = [
                ("SELECT * FROM spine", all),
                ("SELECT * FROM spine ORDER BY at DESC NULLS LAST, id", latest_first.clone()),
                ("SELECT * FROM spine WHERE id % 3 <> 1 ORDER BY -id", some_backwards),
                ("SELECT * FROM spine ORDER BY at DESC NULLS LAST, id LIMIT 9", latest_first.iter().copied().take(9).collect()),
            ];
            for (sql, order) in queries {
                let spine = session.sql(sql).await.unwrap();
                let one_way = spine.clone().lookup_as_of("at", [lookup()]).unwrap().window_as_of("at", [window()]).unwrap();
                check(&collected(one_way.clone()).await, &order, sql);
                let other_way = spine.window_as_of("at", [window()]).unwrap().lookup_as_of("at", [lookup()]).unwrap();
                check(&collected(other_way).await, &order, sql);
                // What orders the spine is not among the wanted columns, or is the only one.
                let answers = collected(one_way.clone().select_columns(&["newest", "count"]).unwrap()).await;
                let with_ids = collected(one_way.clone()).await;
                assert_eq!(answers.columns(), &with_ids.columns()[3..], "{sql}");
                assert_eq!(ids(&collected(one_way.select_columns(&["id"]).unwrap()).await), order, "{sql}");
            }
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spine_of_many_files_comes_back_in_their_order() {
    let dir = temp_dir();
    let mut next = 0i64;
    // The first files are the largest: whoever is done with the small ones has time to take another's.
    for (i, rows) in [60_000, 40_000, 10_000, 1, 300, 20_000, 7, 50, 900, 4_000, 2, 11].into_iter().enumerate() {
        let columns = [
            ("id", integers((next..next + rows).map(Some))),
            ("k", integers((next..next + rows).map(|id| Some(id % 5)))),
            ("at", instants((0..rows).map(|i| Some(i * 1_000)))),
        ];
        next += rows;
        write_parquet(&dir.path().join(format!("spine/part-{i:02}.parquet")), &columns, None);
    }
    let spine_dir = dir.path().join("spine");
    let facts: Vec<_> = (0..50).map(|i| (Some(i % 5), Some(i), Some(i))).collect();
    let facts = Facts::new("facts", session(PLAIN).read_table(table(keyed(&facts, KEYED), PLAIN)).unwrap(), known_at_once());
    for partitions in [1, 2, 3, 8] {
        let resources = Resources { partitions, batch_rows: 512, ..Default::default() };
        let options = StoreOptions::default().cache_in_memory().resources(resources);
        let store = store_with(&dir.path().join(format!("store-{partitions}")), options).await;
        for _ in 0..4 {
            let spine = store.read_parquet(spine_dir.to_str().unwrap()).await.unwrap();
            let rows = spine.lookup_as_of("at", [Lookup::of(facts.clone()).on("k").column("v")]).unwrap();
            let found = ids(&collected(rows).await);
            assert_eq!(found.len() as i64, next);
            let astray = found.iter().enumerate().find(|(i, id)| *i as i64 != **id);
            assert_eq!(astray, None, "the first row out of place, over {partitions} partitions");
        }
    }
}

fn clock(text: &str) -> AsOf {
    instant(&format!("2014-05-01T{text}Z"))
}

fn clocks<'a>(texts: impl IntoIterator<Item = &'a str>) -> ArrayRef {
    instants(texts.into_iter().map(|text| Some(clock(text).micros())))
}

/// Flights of two airports and carriers, and the weather at the airports, which is known ten minutes later.
async fn airports() -> (tempfile::TempDir, FeatureStore) {
    let dir = temp_dir();
    let flights = [
        ("JFK", "AA", "08:00:00", 5.0),
        ("JFK", "AA", "09:00:00", 15.0),
        ("LGA", "AA", "09:30:00", 40.0),
        ("JFK", "DL", "10:00:00", -3.0),
    ];
    let columns = [
        ("origin", texts(flights.iter().map(|f| Some(f.0)))),
        ("carrier", texts(flights.iter().map(|f| Some(f.1)))),
        ("at", clocks(flights.iter().map(|f| f.2))),
        ("delay", floats(flights.iter().map(|f| Some(f.3)))),
    ];
    write_parquet(&dir.path().join("flights/all.parquet"), &columns, None);
    let readings = [("JFK", "08:00:00", 10.0), ("JFK", "09:00:00", 12.5), ("LGA", "06:00:00", 7.0)];
    let columns = [
        ("station", texts(readings.iter().map(|r| Some(r.0)))),
        ("measured", clocks(readings.iter().map(|r| r.1))),
        ("temp", floats(readings.iter().map(|r| Some(r.2)))),
    ];
    write_parquet(&dir.path().join("weather/all.parquet"), &columns, None);

    let store = store(&dir.path().join("store")).await;
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    store.register_table("flights", &place("flights"), known_at_once()).await.unwrap();
    let later = FactTable::new("measured", KnownAt::after(TimeDelta::minutes(10)));
    store.register_table("weather", &place("weather"), later).await.unwrap();
    let set = FeatureSet::entities("departures_v1", "flights")
        .key("origin")
        .key("carrier")
        .lookup("delay", "last_delay")
        .max_age(TimeDelta::hours(2))
        .window(TimeDelta::hours(2), [Aggregate::count().named("flights_2h")])
        .also(Source::of("weather").on_columns("origin", "station").lookup("temp", "temp").max_age(TimeDelta::hours(1)))
        .also(Source::of("flights").on("carrier").window(TimeDelta::days(1), [Aggregate::mean("delay").named("carrier_delay")]));
    store.register(set.build().unwrap()).unwrap();
    (dir, store)
}

#[tokio::test]
async fn several_tables_answer_one_spine_each_by_its_own_keys_and_clock() {
    let (_dir, store) = airports().await;
    type Row = (Option<&'static str>, Option<&'static str>, &'static str, [Option<f64>; 4]);
    let rows: [Row; 11] = [
        // The flight at nine is not visible at nine; the reading of eight is exactly an hour old.
        (Some("JFK"), Some("AA"), "09:00:00", [Some(5.0), Some(1.0), Some(10.0), Some(5.0)]),
        // That of nine is not yet known, and the one before is too old: no older one takes its place.
        (Some("JFK"), Some("AA"), "09:05:00", [Some(15.0), Some(2.0), None, Some(10.0)]),
        (Some("JFK"), Some("AA"), "09:10:00", [Some(15.0), Some(2.0), None, Some(10.0)]),
        (Some("JFK"), Some("AA"), "09:10:00.000001", [Some(15.0), Some(2.0), Some(12.5), Some(10.0)]),
        (Some("LGA"), Some("AA"), "10:00:00", [Some(40.0), Some(1.0), None, Some(20.0)]),
        // Nobody flew this pair, but the carrier flew.
        (Some("LGA"), Some("DL"), "11:00:00", [None, Some(0.0), None, Some(-3.0)]),
        (Some("JFK"), Some("DL"), "12:00:00", [Some(-3.0), Some(1.0), None, Some(-3.0)]),
        (Some("JFK"), Some("DL"), "12:00:00.000001", [None, Some(0.0), None, Some(-3.0)]),
        // A NULL matches nothing where it is a key, and does not matter where it is none.
        (None, Some("AA"), "10:00:00", [None, Some(0.0), None, Some(20.0)]),
        (Some("JFK"), None, "10:00:00", [None, Some(0.0), Some(12.5), None]),
        (Some("nowhere"), Some("nobody"), "10:00:00", [None, Some(0.0), None, None]),
    ];
    let session = session(PLAIN);
    let spine = batch(vec![
        ("origin", texts(rows.iter().map(|row| row.0))),
        ("carrier", texts(rows.iter().map(|row| row.1))),
        ("t", clocks(rows.iter().map(|row| row.2))),
    ]);
    let all = spine.clone();
    let spine = session.read_batch(spine).unwrap();
    let trained = store.training_set("departures_v1", Spine::new(spine, "t")).await.unwrap().dataframe().await.unwrap();
    let plan =
        pretty_format_batches(&trained.clone().explain(false, false).unwrap().collect().await.unwrap()).unwrap().to_string();
    let physical = plan.split_once("physical_plan").unwrap().1;
    assert_eq!((physical.matches("AsOfLookup").count(), physical.matches("AsOfWindow").count()), (1, 1), "{plan}");

    let trained = collected(trained).await;
    let names: Vec<&str> = trained.schema_ref().fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["origin", "carrier", "t", "last_delay", "flights_2h", "temp", "carrier_delay"]);
    let features = trained.project(&[3, 4, 5, 6]).unwrap();
    let expected = [0, 1, 2, 3].map(|i| match i {
        1 => integers(rows.iter().map(|row| row.3[1].map(|count| count as i64))),
        i => floats(rows.iter().map(|row| row.3[i])),
    });
    let expected = batch(["last_delay", "flights_2h", "temp", "carrier_delay"].into_iter().zip(expected).collect());
    assert_eq!(bit_rows(&features), bit_rows(&expected));

    // A spine in pieces, of which some are empty.
    let empty = || all.slice(0, 0);
    for pieces in [vec![empty(), all.slice(0, 4), empty(), empty(), all.slice(4, 7), empty(), empty()], vec![empty(), empty()]] {
        let count: usize = pieces.iter().map(RecordBatch::num_rows).sum();
        let pieces = MemTable::try_new(all.schema(), vec![pieces]).unwrap();
        let spine = session.read_table(Arc::new(pieces)).unwrap();
        let trained = store.training_set("departures_v1", Spine::new(spine, "t")).await.unwrap().dataframe().await.unwrap();
        let trained = trained.collect().await.unwrap();
        let found: Vec<String> = trained.iter().flat_map(|batch| bit_rows(&batch.project(&[3, 4, 5, 6]).unwrap())).collect();
        assert_eq!(found, bit_rows(&expected)[..count]);
    }
}

#[tokio::test]
async fn an_age_is_judged_at_the_instant_of_the_request() {
    let (_dir, store) = airports().await;
    let made = store.materialize("departures_v1", clock("09:30:00")).await.unwrap();
    // When a fact happened is kept to judge by, and is no feature: it shows nowhere but in the manifest.
    let shown = ["origin", "carrier", "last_delay", "flights_2h", "temp", "carrier_delay"];
    let names = |schema: &Schema| schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&made.schema().unwrap()), shown);
    assert_eq!(names(rows(&made).await[0].schema_ref()), shown);
    let frame = made.dataframe().await.unwrap();
    assert_eq!(names(frame.schema().as_arrow()), shown);
    assert_eq!(frame.count().await.unwrap() as u64, made.rows());
    assert!(made.manifest().columns.iter().any(|column| column.name == "_event_time_1"));
    let online = store.online_for(&made).await.unwrap();
    let jfk = [Value::from("JFK"), Value::from("AA")];
    let refused = online.get(&jfk).unwrap_err();
    assert!(matches!(refused, Error::Definition { .. }), "{refused}");
    assert!(refused.to_string().contains("departures_v1") && refused.to_string().contains("get_at"), "{refused}");

    let served = |at: &str| {
        let row = online.get_at(&jfk, clock(at)).unwrap();
        let names: Vec<String> = row.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["last_delay", "flights_2h", "temp", "carrier_delay"]);
        assert!(row.value("_event_time_1").is_err());
        ["last_delay", "flights_2h", "temp", "carrier_delay"].map(|name| row.number(name).unwrap())
    };
    assert_eq!(served("09:30:00"), [Some(15.0), Some(2.0), Some(12.5), Some(10.0)]);
    assert_eq!(served("10:00:00"), [Some(15.0), Some(2.0), Some(12.5), Some(10.0)]);
    assert_eq!(served("10:00:00.000001"), [Some(15.0), Some(2.0), None, Some(10.0)]);
    assert_eq!(served("11:00:00"), [Some(15.0), Some(2.0), None, Some(10.0)]);
    assert_eq!(served("11:00:00.000001"), [None, Some(2.0), None, Some(10.0)]);
    let forever = online.get_at(&jfk, AsOf::from_micros(i64::MAX)).unwrap();
    assert_eq!(forever.number("temp").unwrap(), None);

    let early = online.get_at(&jfk, clock("09:29:59.999999")).unwrap_err();
    assert!(matches!(early, Error::Definition { .. }) && early.to_string().contains("2014-05-01T09:30:00Z"), "{early}");
    // The flight from LGA happens at the as-of, so that pair is none yet.
    for nobody in [["LGA", "AA"], ["JFK", "nobody"]] {
        assert!(!online.contains(&nobody.map(Value::from)).unwrap());
    }
    assert!(!online.contains(&[Value::Null, "AA".into()]).unwrap());
    // A set without a max age is served at any later instant as it is.
    let plain = FeatureSet::entities("plain_v1", "flights").key("carrier").lookup("delay", "delay").build().unwrap();
    store.register(plain).unwrap();
    let plain = store.online_for(&store.materialize("plain_v1", clock("09:30:00")).await.unwrap()).await.unwrap();
    assert_eq!(plain.get(&["AA".into()]).unwrap(), plain.get_at(&["AA".into()], instant("2030-01-01")).unwrap());
    assert!(matches!(plain.get_at(&["AA".into()], clock("09:00:00")), Err(Error::Definition { .. })));
}

#[tokio::test]
async fn a_question_leaves_the_session_as_it_was() {
    let session = session(PLAIN);
    let facts = [(Some(1), Some(10), Some(3))];
    session.register_table("facts", table(keyed(&facts, KEYED), PLAIN)).unwrap();
    session.register_table("spine", table(keyed(&[(Some(1), Some(11), None)], ["k", "t", "label"]), PLAIN)).unwrap();
    let ask = async || {
        let facts = Facts::new("facts", session.table("facts").await.unwrap(), known_at_once());
        let spine = session.sql("SELECT * FROM spine").await.unwrap();
        let lookup = Lookup::of(facts.clone()).on("k").column("v");
        let window = Window::of(facts).on("k").all_before([Aggregate::count()]);
        collected(spine.lookup_as_of("t", [lookup]).unwrap().window_as_of("t", [window]).unwrap()).await
    };
    let before = session.copied_config().options().entries();
    // Its tables are still there for the next one, and its settings are its own.
    assert_eq!(ask().await, ask().await);
    let now = session.copied_config().options().entries();
    let settings =
        |entries: Vec<datafusion::config::ConfigEntry>| entries.into_iter().map(|e| (e.key, e.value)).collect::<Vec<_>>();
    assert_eq!(settings(now), settings(before));
}

async fn explained(rows: DataFrame, analyzed: bool) -> String {
    let told = rows.explain(false, analyzed).unwrap().collect().await.unwrap();
    pretty_format_batches(&told).unwrap().to_string()
}

#[tokio::test]
async fn a_plan_says_which_rule_it_follows_and_what_it_did() {
    let session = session(PLAIN);
    let fact_rows = [(Some(1), Some(10), Some(3)), (Some(1), Some(20), Some(4)), (Some(7), Some(20), Some(5))];
    let facts = session.read_table(table(keyed(&fact_rows, KEYED), PLAIN)).unwrap();
    let spine =
        || session.read_batch(batch(vec![("k", integers([Some(1), Some(2)])), ("t", instants([Some(15), Some(20)]))])).unwrap();
    let delayed =
        |seconds: i64| Facts::new("trips", facts.clone(), FactTable::new("at", KnownAt::after(TimeDelta::seconds(seconds))));
    let lookup = |seconds: i64, cutoff: Cutoff| {
        let lookup = Lookup::of(delayed(seconds)).on("k").column("v").cutoff(cutoff).max_age(TimeDelta::seconds(9));
        spine().lookup_as_of("t", [lookup]).unwrap()
    };
    let shown = explained(lookup(0, Cutoff::Exclusive), false).await;
    for part in ["AsOfLookup: at=", "table `trips` on [", "visible=[trips.at < spine.t]", "newest(v)", "max_age=9 seconds"] {
        // In the logical plan and in the physical one.
        assert_eq!(shown.matches(part).count(), 2, "`{part}` in\n{shown}");
    }
    assert!(explained(lookup(0, Cutoff::Inclusive), false).await.contains("visible=[trips.at <= spine.t]"));
    assert!(explained(lookup(60, Cutoff::Exclusive), false).await.contains("visible=[trips.at + 1 minute < spine.t]"));

    let window = |cutoff: Cutoff| {
        let declared = FactTable::new("at", KnownAt::column("at"));
        let window = Window::of(Facts::new("trips", facts.clone(), declared)).on("k").cutoff(cutoff);
        let window = window.trailing(TimeDelta::hours(1), [Aggregate::sum("v")]).all_before([Aggregate::count()]);
        spine().window_as_of("t", [window]).unwrap()
    };
    let shown = explained(window(Cutoff::Exclusive), false).await;
    for part in [
        "AsOfWindow: at=",
        "visible=[trips.at < spine.t and trips.at < spine.t]",
        "sum_v=[Sum(v) over 1 hour]",
        "count=[Count() over everything before]",
    ] {
        assert_eq!(shown.matches(part).count(), 2, "`{part}` in\n{shown}");
    }
    assert!(explained(window(Cutoff::Inclusive), false).await.contains("visible=[trips.at <= spine.t and trips.at <= spine.t]"));

    for (rows, name) in [(lookup(0, Cutoff::Exclusive), "AsOfLookup"), (window(Cutoff::Exclusive), "AsOfWindow")] {
        let shown = explained(rows, true).await;
        let line = shown.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{shown}"));
        // Two of the three facts are about an entity of the spine.
        for part in [
            "output_rows=2",
            "spine_rows=2",
            "facts_rows=3",
            "facts_of_entities=2",
            "peak_mem_used=",
            "facts_time=",
            "answer_time=",
        ] {
            assert!(line.contains(part), "`{part}` in\n{line}");
        }
    }
}
