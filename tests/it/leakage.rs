//! I1: at T only facts visible at T are seen, and what is not visible changes no bit and raises no error.

use asof::{
    AsOf, Error, FeatureSet, FeatureStore, Resources, StoreOptions,
    encoder::{HourOfDay, Number, Standardize},
};
use datafusion::{
    arrow::array::{Float64Array, RecordBatch},
    parquet::{
        arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
        file::properties::{EnabledStatistics, WriterProperties},
    },
};
use proptest::prelude::*;

use crate::support::{
    Trip, answer, bits, cells, copy_dir, count, files_below, instant, made_load, store, store_of, store_with, temp_dir, trip,
    trips_table, write_parquet,
};

const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 1_440 * MINUTE_US;

/// Two in the afternoon by New York's clocks.
fn t() -> AsOf {
    instant("2014-06-16T18:00:00Z")
}

fn is_visible(trip: &Trip) -> bool {
    trip.pickup_us < t().micros() && trip.dropoff_us < t().micros()
}

/// All trips, their hours and what is learned from all of them: nothing that a leak could hide behind.
fn every_trip(name: &str, sql: &str) -> asof::feature_set::RowSetBuilder {
    FeatureSet::rows(name, sql)
        .table("nyc_taxi")
        .event_time("pickup_at")
        .encode(Number::of("trip_distance"))
        .encode(HourOfDay::of("pickup_at", "America/New_York".parse().unwrap()))
        .encode_fitted(Standardize::of("trip_distance"))
}

/// Trips around T; many begin or end at T or a microsecond to either side.
fn any_trip() -> impl Strategy<Value = Trip> {
    let edge = || prop_oneof![Just(-1), Just(0), Just(1)];
    let pickup = prop_oneof![6 => (-9 * 1_440..0i64).prop_map(|m| m * MINUTE_US), 1 => edge(), 1 => 0..2 * DAY_US];
    let way = prop_oneof![4 => (0..90i64).prop_map(|m| m * MINUTE_US), 1 => edge(), 1 => -60 * MINUTE_US..3 * DAY_US];
    (pickup, way, prop::option::weighted(0.2, edge()), 0..4i64, 0.1..20.0, 1..4i64, 2.5..60.0).prop_map(
        |(pickup, way, ends, passengers, miles, zone, fare)| {
            let pickup_us = t().micros() + pickup;
            let dropoff_us = ends.map_or(pickup_us + way, |edge| t().micros() + edge);
            Trip { pickup_us, dropoff_us, passengers, miles, zone, fare }
        },
    )
}

/// A trip like this one that is not visible, with values that would show.
fn hidden(mut trip: Trip) -> Trip {
    if is_visible(&trip) {
        trip.dropoff_us = t().micros();
    }
    Trip { miles: trip.miles * 1e6, fare: trip.fare * -1e6, passengers: 0, ..trip }
}

async fn all_bits(store: &FeatureStore) -> Vec<(u64, Vec<u8>)> {
    store.register(every_trip("every_trip_v1", "SELECT * FROM nyc_taxi").label("fare_amount").build().unwrap()).unwrap();
    let mut found = Vec::new();
    for set in ["taxi_v1", "zone_demand_v1", "every_trip_v1"] {
        let made = store.materialize(set, t()).await.unwrap();
        found.push((made.manifest().rows_seen, bits(&made).await));
    }
    found
}

#[test]
fn rewriting_deleting_and_adding_hidden_facts_changes_no_bit() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let facts = prop::collection::vec((any_trip(), prop::option::of(any_trip())), 0..80);
    let extra = prop::collection::vec(any_trip(), 0..8);
    let config = ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..Default::default() };
    proptest!(config, |(facts in facts, extra in extra)| {
        let told: Vec<Trip> = facts.iter().map(|(fact, _)| fact.clone()).collect();
        let retold = |(fact, other): &(Trip, Option<Trip>)| if is_visible(fact) { Some(fact.clone()) } else { other.clone().map(hidden) };
        let mut rewritten: Vec<Trip> = facts.iter().filter_map(retold).collect();
        rewritten.extend(extra.into_iter().map(hidden));
        let visible = told.iter().filter(|fact| is_visible(fact)).count();
        runtime.block_on(async {
            let ((_a, base), (_b, other)) = (store_of(&told).await, store_of(&rewritten).await);
            assert_eq!((count(&base, t()).await, count(&other, t()).await), (visible, visible));
            let found = all_bits(&base).await;
            assert_eq!(found[2].0 as usize, visible);
            assert!(found == all_bits(&other).await, "a fact that is not visible at {} has changed a row", t());
        });
    });
}

#[tokio::test]
async fn a_fact_at_the_cutoff_is_seen_only_by_an_inclusive_set() {
    // Pick-up and drop-off relative to T, whether an exclusive set sees it, and an inclusive one.
    let cases = [
        (-2, -1, true, true),
        (-1, 0, false, true),
        (-1, 1, false, false),
        (0, -1, false, true),
        (0, 0, false, true),
        (1, -1, false, false),
        (1, 1, false, false),
    ];
    for (i, (pickup, dropoff, exclusive, inclusive)) in cases.into_iter().enumerate() {
        let (pickup_us, dropoff_us) = (t().micros() + pickup, t().micros() + dropoff);
        let (_root, store) = store_of(&[Trip { pickup_us, dropoff_us, ..trip("2014-06-01", 9.5) }]).await;
        store.register(every_trip("exclusive_v1", "SELECT * FROM nyc_taxi").build().unwrap()).unwrap();
        store.register(every_trip("inclusive_v1", "SELECT * FROM nyc_taxi").inclusive().build().unwrap()).unwrap();
        let zones = FeatureSet::entities("inclusive_zones_v1", "nyc_taxi").key("pickup_zone").lookup("fare_amount", "fare");
        let hour = chrono::TimeDelta::hours(1);
        let zones = zones.window(hour, [asof::Aggregate::count().named("trips_1h")]).inclusive();
        store.register(zones.build().unwrap()).unwrap();
        let sees = [exclusive, exclusive, inclusive, inclusive];
        for (set, sees) in ["exclusive_v1", "zone_demand_v1", "inclusive_v1", "inclusive_zones_v1"].into_iter().zip(sees) {
            assert_eq!(store.materialize(set, t()).await.unwrap().rows(), u64::from(sees), "case {i} of {set}");
        }
        assert_eq!(count(&store, t()).await, usize::from(exclusive), "case {i}");
        if inclusive {
            let row = store.online("inclusive_zones_v1").await.unwrap().get(&[1.into()]).unwrap();
            assert_eq!((row.number("fare").unwrap(), row.number("trips_1h").unwrap()), (Some(9.5), Some(1.0)), "case {i}");
        }
    }
}

#[tokio::test]
async fn a_hidden_fact_cannot_even_make_a_query_fail() {
    let seen = |i: i64| Trip {
        pickup_us: t().micros() - i * MINUTE_US - 1,
        dropoff_us: t().micros() - 1 - i,
        passengers: 1 + i % 4,
        miles: i as f64,
        zone: i % 5,
        fare: 10.0,
    };
    let visible: Vec<Trip> = (0..300).map(seen).collect();
    // Hidden trips lie between the visible ones, in the same pages of the same file.
    let poison = |trip: &Trip| Trip { passengers: 0, dropoff_us: t().micros(), ..trip.clone() };
    let poisoned: Vec<Trip> = visible.iter().flat_map(|trip| [trip.clone(), poison(trip)]).collect();
    let queries = [
        "SELECT pickup_at, trip_distance, 100 / passenger_count AS share FROM nyc_taxi",
        "SELECT pickup_at, trip_distance FROM nyc_taxi WHERE 100 / passenger_count > 30",
        "SELECT pickup_at, trip_distance FROM nyc_taxi AS n WHERE n.month = 6 AND 100 / (n.passenger_count * n.month) > 5",
        "SELECT pickup_at, trip_distance FROM (SELECT * FROM nyc_taxi ORDER BY trip_distance LIMIT 200) WHERE 100 / passenger_count > 30",
        "SELECT a.pickup_at, a.trip_distance FROM nyc_taxi AS a JOIN nyc_taxi AS b \
         ON a.pickup_at = b.pickup_at AND 100 / a.passenger_count = 100 / b.passenger_count",
        "SELECT max(pickup_at) AS pickup_at, max(trip_distance) AS trip_distance FROM nyc_taxi GROUP BY 100 / passenger_count",
    ];
    let ((_a, clean), (_b, store)) = (store_of(&visible).await, store_of(&poisoned).await);
    for (i, sql) in queries.into_iter().enumerate() {
        let name = format!("fallible_{i}_v1");
        let mut found = Vec::new();
        for store in [&clean, &store] {
            store.register(every_trip(&name, sql).build().unwrap()).unwrap();
            found.push(bits(&store.materialize(&name, t()).await.unwrap_or_else(|e| panic!("{sql}: {e}"))).await);
        }
        assert!(found[0] == found[1] && !found[0].is_empty(), "{sql}");
        // At a later instant the same facts are visible, and do fail: the test has teeth.
        let later = AsOf::from_micros(t().micros() + 1);
        let failed = store.materialize(&name, later).await.unwrap_err().to_string().replace(' ', "");
        assert!(failed.to_lowercase().contains("dividebyzero"), "{sql}: {failed}");
    }
}

#[tokio::test]
async fn a_query_sees_nothing_beyond_its_as_of() {
    let (_root, store) = store_of(&[trip("2014-01-05", 1.0), trip("2014-02-05", 2.0), trip("2014-03-05", 4.0)]).await;
    let sum = "SELECT count(*), sum(fare_amount), max(pickup_at) FROM nyc_taxi";
    assert_eq!(cells(&store, sum, instant("2014-02-05T00:10:00Z")).await, ["1 1.0 2014-01-05T00:00:00Z"]);
    assert_eq!(cells(&store, sum, instant("2014-02-05T00:10:00.000001Z")).await, ["2 3.0 2014-02-05T00:00:00Z"]);
    assert_eq!(cells(&store, sum, instant("2013-01-01")).await, ["0  "]);
    let nested = "WITH n AS (SELECT * FROM nyc_taxi) SELECT (SELECT count(*) FROM nyc_taxi) AS facts, count(*) AS pairs FROM n AS a, n AS b";
    assert_eq!(cells(&store, nested, instant("2014-03-01")).await, ["2 4"]);
}

#[tokio::test]
async fn a_table_is_one_table_by_any_of_its_names() {
    let (_root, store) = store_of(&[trip("2014-01-05", 1.0), trip("2014-02-05", 2.0)]).await;
    assert_eq!(store.tables().await.unwrap()[0].to_string(), "nyc_taxi");
    for from in ["nyc_taxi, nyc_taxi AS n", "\"default\".nyc_taxi AS n, nyc_taxi"] {
        let found = answer(&store, &format!("SELECT count(*) AS facts FROM {from}"), instant("2014-02-01")).await;
        assert!(found.as_ref().is_ok_and(|text| text.contains("| 1 ")), "{from}: {found:?}");
    }
}

#[tokio::test]
async fn clocks_and_chance_are_refused() {
    let (_root, store) = store_of(&[trip("2014-01-05", 1.0)]).await;
    for call in ["now()", "current_timestamp", "current_date", "current_time", "today()", "random()", "uuid()"] {
        let sqls = [
            format!("SELECT {call} AS x FROM nyc_taxi"),
            format!("SELECT * FROM nyc_taxi WHERE (SELECT max({call}) FROM nyc_taxi) IS NULL"),
            format!("SELECT * FROM nyc_taxi ORDER BY {call}"),
            format!("EXPLAIN SELECT {call} AS x FROM nyc_taxi"),
        ];
        for sql in sqls {
            let refused = store.sql(&sql, t()).await.map(|_| ()).unwrap_err();
            assert!(matches!(refused, Error::Volatile { .. }), "{sql}: {refused}");
        }
    }
    let set = every_trip("volatile_v1", "SELECT * FROM nyc_taxi WHERE pickup_at < now()").build().unwrap();
    store.register(set).unwrap();
    let refused = store.materialize("volatile_v1", t()).await.unwrap_err();
    assert!(matches!(&refused, Error::Volatile { function, .. } if function == "now"), "{refused}");
}

#[tokio::test]
async fn only_queries_of_declared_tables_are_run() {
    let (root, store) = store_of(&[trip("2014-01-05", 1.0)]).await;
    let before = files_below(root.path());
    let target = root.path().join("stolen.csv");
    let statements = [
        "CREATE TABLE copied AS SELECT * FROM nyc_taxi".to_owned(),
        "CREATE VIEW seen AS SELECT * FROM nyc_taxi".into(),
        "DROP TABLE nyc_taxi".into(),
        "INSERT INTO nyc_taxi SELECT * FROM nyc_taxi".into(),
        "DELETE FROM nyc_taxi".into(),
        "UPDATE nyc_taxi SET fare_amount = 0".into(),
        format!("COPY nyc_taxi TO '{}' STORED AS CSV", target.display()),
        format!("EXPLAIN COPY nyc_taxi TO '{}' STORED AS CSV", target.display()),
        format!("CREATE EXTERNAL TABLE e STORED AS CSV LOCATION '{}'", target.display()),
        "SET datafusion.execution.batch_size = 1".into(),
        "SELECT 1; SELECT 2".into(),
        "not sql".into(),
    ];
    for sql in statements {
        assert!(store.sql(&sql, t()).await.is_err(), "{sql}");
    }
    let unknown = store.sql("SELECT * FROM green_taxi", t()).await.map(|_| ()).unwrap_err();
    assert!(matches!(unknown, Error::UnknownTable { .. }), "{unknown}");
    assert_eq!(files_below(root.path()), before);
    assert_eq!(count(&store, t()).await, 1);

    let set = FeatureSet::rows("undeclared_v1", "SELECT * FROM nyc_taxi WHERE pickup_at IN (SELECT pickup_at FROM other)");
    let set = set.table("other").event_time("pickup_at").encode(Number::of("trip_distance")).build().unwrap();
    let data = temp_dir();
    write_parquet(&data.path().join("month=1/a.parquet"), &[("pickup_at", crate::times::utc_micros([0]))], None);
    let other = asof::catalog::FactTable::new("pickup_at", asof::catalog::KnownAt::after(chrono::TimeDelta::zero()));
    store.register_table("other", data.path().to_str().unwrap(), other).await.unwrap();
    store.register(set).unwrap();
    let refused = store.materialize("undeclared_v1", t()).await.unwrap_err();
    assert!(refused.to_string().contains("nyc_taxi"), "{refused}");
}

#[tokio::test]
async fn explain_shows_the_rule_and_what_was_not_opened() {
    let (data, root) = (temp_dir(), temp_dir());
    let resources = Resources { batch_rows: 1, ..Default::default() };
    let store = store_with(root.path(), StoreOptions::default().cache_in_memory().resources(resources)).await;
    let trips = ["2014-01-05", "2014-02-05", "2014-02-20", "2014-03-05"].map(|day| trip(day, 1.0));
    // One row a batch and one byte a file: a file a trip.
    store.ingest(&made_load(&data.path().join("trips.csv"), &trips).file_bytes(1)).await.unwrap();
    let mut shown = Vec::new();
    for as_of in ["2014-01-01", "2014-02-05T00:00:00.000001Z", "2014-02-10", "2014-04-01"] {
        let plan = answer(&store, "EXPLAIN SELECT count(*) FROM nyc_taxi WHERE trip_distance > 1", instant(as_of)).await.unwrap();
        assert!(plan.contains(&format!("as_of={}, cutoff=exclusive", instant(as_of))), "{plan}");
        assert!(plan.contains(&format!("pickup_at < {0} and dropoff_at < {0}", instant(as_of))), "{plan}");
        let pruned = &plan[plan.find("partitions_pruned=").unwrap()..];
        shown.push(pruned.split_whitespace().take(2).collect::<String>());
    }
    // The second trip has begun at the second instant, but not ended.
    let expected = [(3, 4), (2, 3), (1, 2), (0, 0)].map(|(p, f)| format!("partitions_pruned={p}/3,files_pruned={f}/4"));
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn facts_in_the_wrong_folder_are_neither_lost_nor_leaked() {
    let months =
        (1..=6).flat_map(|month| (0..20).map(move |i| trip(&format!("2014-{month:02}-{:02}T15:00:00Z", 1 + i), f64::from(i))));
    let trips: Vec<Trip> = months.enumerate().map(|(i, t)| Trip { zone: i as i64 % 3, miles: i as f64, ..t }).collect();
    let (root, told) = store_of(&trips).await;
    // The folders say the opposite of the truth: month 1 holds June, month 6 January.
    let (from, lies, silent) = (root.path().join("facts/default/nyc_taxi/year=2014"), temp_dir(), temp_dir());
    for month in 1..=6 {
        copy_dir(&from.join(format!("month={month}")), &lies.path().join(format!("month={}", 7 - month)));
    }
    // The same without statistics: nothing is known of any file before it is read.
    for name in files_below(lies.path()) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(lies.path().join(&name)).unwrap()).unwrap();
        let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        let schema = batches[0].schema();
        let columns: Vec<_> =
            schema.fields().iter().zip(batches[0].columns()).map(|(f, c)| (f.name().as_str(), c.clone())).collect();
        let properties = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
        write_parquet(&silent.path().join(name), &columns, Some(properties));
    }
    for place in [&lies, &silent] {
        let root = temp_dir();
        let store = store(root.path()).await;
        store.register_table("nyc_taxi", place.path().to_str().unwrap(), trips_table()).await.unwrap();
        for as_of in ["2014-01-10T15:10:00Z", "2014-03-20T15:00:00.000001Z", "2014-08-01"] {
            let as_of = instant(as_of);
            assert_eq!(count(&store, as_of).await, count(&told, as_of).await, "{as_of}");
            for set in ["taxi_v1", "zone_demand_v1"] {
                let (a, b) = (told.materialize(set, as_of).await.unwrap(), store.materialize(set, as_of).await.unwrap());
                assert!(a.rows() > 0 && bits(&a).await == bits(&b).await, "{set} as of {as_of}");
            }
        }
    }
}

#[tokio::test]
async fn hidden_facts_do_not_even_change_how_a_sum_is_rounded() {
    let t = t().micros();
    let (_data, told) = registered((0..3_000).map(|i| (t - 1 - i, 0.1 * i as f64))).await;
    // Between the visible facts lie as many hidden ones: other pages, row groups and batches.
    let (_other, retold) = registered((0..3_000).flat_map(|i| [(t - 1 - i, 0.1 * i as f64), (t + i % 7, 1e9)])).await;
    let sql = "SELECT max(pickup_at) AS pickup_at, sum(trip_distance) AS trip_distance FROM nyc_taxi";
    let mut found = Vec::new();
    for store in [&told, &retold] {
        let set = FeatureSet::rows("summed_v1", sql).table("nyc_taxi").event_time("pickup_at");
        store.register(set.encode(Number::of("trip_distance")).build().unwrap()).unwrap();
        found.push(bits(&store.materialize("summed_v1", self::t()).await.unwrap()).await);
    }
    assert!(found[0] == found[1]);
}

/// A store with these facts, times and distances, where they lie, in row groups of a thousand.
async fn registered(facts: impl Iterator<Item = (i64, f64)>) -> ([tempfile::TempDir; 2], FeatureStore) {
    let (times, distances): (Vec<i64>, Vec<f64>) = facts.unzip();
    let (data, root) = (temp_dir(), temp_dir());
    let distances = std::sync::Arc::new(Float64Array::from(distances)) as _;
    let columns = [("pickup_at", crate::times::utc_micros(times)), ("trip_distance", distances)];
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1_000)).build();
    write_parquet(&data.path().join("facts.parquet"), &columns, Some(properties));
    let store = store(root.path()).await;
    let declared = asof::catalog::FactTable::new("pickup_at", asof::catalog::KnownAt::after(chrono::TimeDelta::zero()));
    store.register_table("nyc_taxi", data.path().to_str().unwrap(), declared).await.unwrap();
    ([data, root], store)
}
