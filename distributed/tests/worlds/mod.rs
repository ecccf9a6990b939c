//! A store with facts of several kinds, and all that is asked of it: by one process, and elsewhere. The answers are compared in bits.

use std::{fs, path::Path, sync::Arc};

use asof::{
    Aggregate, AsOf, FeatureSet, FeatureStore, Materialization, WindowLength,
    backtest::{Backtest, Folds, LinearRegression},
    catalog::{FactTable, KnownAt},
    feature_set::{Ahead, Source},
    ingest::Ingest,
    temporal::Spine,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
        util::pretty::pretty_format_batches,
    },
    parquet::arrow::ArrowWriter,
    prelude::SessionContext,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{flights, taxi};

pub(crate) const SETS: [&str; 9] =
    ["taxi_v1", "zone_demand_v1", "flights_v1", "shops_v1", "shop_days_v1", "fares_v1", "per_key_v1", "named_v1", "ahead_v1"];
pub(crate) const AS_OFS: [&str; 2] = ["2014-03-01T00:00:00Z", "2014-03-20T12:00:00Z"];

/// Queries whose answers do not depend on how rows are divided.
pub(crate) const QUERIES: [&str; 9] = [
    "SELECT shop, array_length(make_array(amount, 1.5)) AS n, array_max([version, id]) AS most FROM orders WHERE [kind] = ['pen'] \
     ORDER BY id, version",
    "SELECT t.pickup_at, t.pickup_zone, o.amount, o.known FROM nyc_taxi AS t ASOF JOIN orders AS o \
     MATCH_CONDITION (t.pickup_at > o.at) ON t.pickup_zone = o.shop ORDER BY 1, 2, 3, 4",
    "SELECT pickup_at, pickup_zone, n, paid, kinds, most FROM trailing('nyc_taxi', 'pickup_at', 'orders', 'pickup_zone = shop', \
     '7 days', 'count(*) AS n, sum(amount) AS paid, count(DISTINCT kind) AS kinds', '10 facts', 'max(amount) AS most') \
     ORDER BY 1, 2, 3, 4, 5, 6",
    "SELECT pickup_zone, count(*), min(fare_amount), max(fare_amount) FROM nyc_taxi GROUP BY pickup_zone ORDER BY pickup_zone",
    "SELECT o.shop, count(*) AS n FROM nyc_taxi AS t JOIN orders AS o ON t.pickup_zone = o.shop WHERE o.amount > 50 \
     GROUP BY o.shop HAVING count(*) > 10 ORDER BY o.shop",
    "SELECT DISTINCT date_trunc('day', pickup_at) AS day, date_format(pickup_at, '%Y-%m') AS month FROM nyc_taxi ORDER BY 1, 2",
    "SELECT t.pickup_at, t.pickup_zone, o.amount FROM nyc_taxi AS t ASOF JOIN orders AS o \
     MATCH_CONDITION (t.pickup_at > o.at) ON t.pickup_zone = o.shop WHERE o.amount > 10 ORDER BY 3 DESC, 1, 2 LIMIT 25 OFFSET 5",
    "SELECT f.origin, f.flight, w.temp, p.dep_delay AS before FROM (SELECT * FROM flights ORDER BY scheduled_at, flight, tailnum LIMIT 300) AS f \
     ASOF JOIN weather AS w MATCH_CONDITION (f.scheduled_at > w.time_hour) ON f.origin = w.origin \
     ASOF JOIN flights AS p MATCH_CONDITION (f.scheduled_at > p.scheduled_at) ON f.carrier = p.carrier ORDER BY 1, 2, 3, 4",
    "SELECT count(*) FROM nyc_taxi WHERE fare_amount > (SELECT max(amount) / 20 FROM orders)",
];

/// Fills a store: taxi trips, flights and weather, and orders with corrections.
pub(crate) async fn fill(store: &FeatureStore, work: &Path, trips_per_month: u32) {
    let trips = work.join("trips");
    fs::create_dir_all(&trips).unwrap();
    taxi::write_csv(&taxi::Config { trips_per_month, ..Default::default() }, &trips).unwrap();
    let declared = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse().unwrap());
    store.ingest(&Ingest::new("nyc_taxi", declared).unwrap().from(format!("{}/*.csv", trips.display()))).await.unwrap();
    let of_flights = work.join("flights_csv");
    fs::create_dir_all(&of_flights).unwrap();
    flights::write_csv(&of_flights, 20, 11).unwrap();
    flights::load(store, &of_flights, work).await.unwrap();
    let places = work.join("places");
    fs::create_dir_all(&places).unwrap();
    write(&places.join("places.parquet"), &places_rows());
    store.register_table("places", places.to_str().unwrap(), FactTable::timeless(["place"])).await.unwrap();
    let source = work.join("orders.parquet");
    write(&source, &orders(4_000, 5));
    let declared = FactTable::new("at", KnownAt::column("known")).identity("id").tie_break("version");
    store.ingest(&Ingest::new("orders", declared).unwrap().from(source.to_str().unwrap())).await.unwrap();
}

/// Names of places, some of which no order knows.
fn places_rows() -> RecordBatch {
    RecordBatch::try_from_iter([
        ("place", Arc::new(Int64Array::from_iter_values(50..90)) as ArrayRef),
        ("name", Arc::new(StringArray::from_iter_values((50..90).map(|place| format!("place {place}"))))),
    ])
    .unwrap()
}

/// Orders of early 2014. Every third is corrected later, and some corrections move it to another shop or take the shop away.
fn orders(count: i64, seed: u64) -> RecordBatch {
    let mut rng = StdRng::seed_from_u64(seed);
    let start: AsOf = "2014-01-01T00:00:00Z".parse().unwrap();
    let (mut ids, mut at, mut known, mut versions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut shops, mut amounts, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    for id in 0..count {
        let shop = rng.random_range(1..60_i64);
        let happened = start.micros() + rng.random_range(0..90 * 86_400_000_000_i64);
        for version in 0..if id % 3 == 0 { rng.random_range(1..4_i64) } else { 1 } {
            ids.push(id);
            at.push(happened);
            known.push(happened + version * rng.random_range(1_000_000..30 * 86_400_000_000_i64));
            versions.push(version);
            shops.push(match version {
                0 => Some(shop),
                _ => [Some(shop), Some(shop), Some(shop % 59 + 1), None][rng.random_range(0..4)],
            });
            amounts.push(rng.random_range(0..20_000) as f64 / 7.0);
            kinds.push(["book", "pen", "ink"][rng.random_range(0..3)]);
        }
    }
    let instants = |times: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as ArrayRef;
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
        ("at", instants(at)),
        ("known", instants(known)),
        ("version", Arc::new(Int64Array::from(versions))),
        ("shop", Arc::new(Int64Array::from(shops))),
        ("amount", Arc::new(Float64Array::from(amounts))),
        ("kind", Arc::new(StringArray::from(kinds))),
    ])
    .unwrap()
}

fn write(file: &Path, rows: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(fs::File::create(file).unwrap(), rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

/// Registers all sets.
pub(crate) fn register(store: &FeatureStore) {
    let demand = asof_features::zone_demand_v1().unwrap();
    let shops = FeatureSet::entities("shops_v1", "orders")
        .key("shop")
        .lookup("amount", "last_amount")
        .max_age(TimeDelta::days(20))
        .window(TimeDelta::days(7), [Aggregate::count().named("orders_7d"), Aggregate::sum("amount").named("paid_7d")])
        .window(TimeDelta::days(30), [Aggregate::median("amount").named("median_30d"), Aggregate::mode("kind").named("kind_30d")])
        .build()
        .unwrap();
    let shop_days = FeatureSet::entities("shop_days_v1", "orders")
        .key("shop")
        .key("kind")
        .window(WindowLength::facts(5), [Aggregate::mean("amount").named("mean_5")])
        .window(WindowLength::since("amount > 2500"), [Aggregate::count().named("since_dear")])
        .inclusive()
        .build()
        .unwrap();
    let per_key = FeatureSet::entities("per_key_v1", "nyc_taxi")
        .key("pickup_zone")
        .key("passenger_count")
        .window(TimeDelta::days(3), [Aggregate::count().named("trips_3d"), Aggregate::stddev("fare_amount").named("spread_3d")])
        .also(
            Source::of("orders")
                .on_columns("pickup_zone", "shop")
                .lookup("amount", "newest_order")
                .window(TimeDelta::days(10), [Aggregate::count().filter("amount > 100 AND kind <> 'ink'").named("orders_10d")]),
        )
        .build()
        .unwrap();
    let named = FeatureSet::entities("named_v1", "orders")
        .key("shop")
        .window(TimeDelta::days(4), [Aggregate::count().named("orders_4d"), Aggregate::top_k("kind", 2).named("kinds_4d")])
        .also(Source::timeless("places").on_columns("shop", "place").lookup("name", "name"))
        .build()
        .unwrap();
    let ahead = FeatureSet::rows("ahead_v1", "SELECT pickup_at, pickup_zone, trip_distance FROM nyc_taxi")
        .table("nyc_taxi")
        .event_time("pickup_at")
        .features_of(demand.by(["pickup_zone"]).only(["trips_24h", "last_fare"]))
        .pass(["trips_24h", "last_fare"])
        .label_ahead(
            Ahead::of("nyc_taxi")
                .on("pickup_zone")
                .window(TimeDelta::hours(9), [Aggregate::count().named("next_trips")])
                .settle(TimeDelta::hours(5)),
        )
        .build()
        .unwrap();
    let fares =
        FeatureSet::rows("fares_v1", "SELECT pickup_at, pickup_zone, dropoff_zone, trip_distance, total_amount FROM nyc_taxi")
            .table("nyc_taxi")
            .event_time("pickup_at")
            .features_of(demand.by(["pickup_zone"]))
            .features_of(demand.by(["dropoff_zone"]).only(["trips_1h"]).prefixed("dropoff_"))
            .pass(["trips_1h", "dropoff_trips_1h"])
            .label("total_amount")
            .build()
            .unwrap();
    let (taxi, flights) = (asof_features::taxi_v1().unwrap(), asof_features::flights_v1().unwrap());
    for set in [taxi, demand, flights, shops, shop_days, per_key, named, ahead, fares] {
        store.register(set).unwrap();
    }
}

pub(crate) fn instant(text: &str) -> AsOf {
    text.parse().unwrap()
}

/// What a store makes of all sets at all instants.
pub(crate) async fn materialized(store: &FeatureStore) -> Vec<Materialization> {
    let mut made = Vec::new();
    for set in SETS {
        for as_of in AS_OFS {
            made.push(store.materialize(set, instant(as_of)).await.unwrap_or_else(|e| panic!("{set} as of {as_of}: {e}")));
        }
    }
    made
}

/// The answer to a query.
pub(crate) async fn answer(store: &FeatureStore, sql: &str) -> String {
    let rows = store.sql(sql, instant(AS_OFS[1])).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    shown(&rows.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}")))
}

fn shown(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

/// A training set over a spine of this process, in no order, with keys and instants that are NULL.
pub(crate) async fn training_set(store: &FeatureStore, set: &str) -> String {
    let mut rng = StdRng::seed_from_u64(3);
    let start = instant("2014-01-10T00:00:00Z").micros();
    let mut some = |n: i64| (0..500).map(|i| (i % 37 != 5).then(|| rng.random_range(0..n))).collect::<Vec<Option<i64>>>();
    let (keys, more, times) = (some(70), some(6), some(70 * 86_400_000_000));
    let times: Vec<Option<i64>> = times.into_iter().map(|time| time.map(|time| time + start)).collect();
    let kinds: Vec<&str> = (0..500).map(|i| ["book", "pen", "ink"][i % 3]).collect();
    let rows = RecordBatch::try_from_iter([
        ("pickup_zone", Arc::new(Int64Array::from(keys.clone())) as ArrayRef),
        ("shop", Arc::new(Int64Array::from(keys))),
        ("passenger_count", Arc::new(Int64Array::from(more))),
        ("kind", Arc::new(StringArray::from(kinds))),
        ("at", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))),
        ("number", Arc::new(Int64Array::from_iter_values(0..500))),
    ])
    .unwrap();
    let spine = SessionContext::new().read_batches([rows.slice(0, 123), rows.slice(123, 377)]).unwrap();
    let made = store.training_set(set, Spine::new(spine, "at")).await.unwrap_or_else(|e| panic!("{set}: {e}"));
    shown(&made.dataframe().await.unwrap().collect().await.unwrap())
}

/// A training set whose spine is the sorted answer of a query with an operator of its own. Its rows have the order of the spine.
async fn over_sorted_spine(store: &FeatureStore, spine_of: &FeatureStore) -> String {
    let spine = "SELECT t.pickup_at AS at, t.pickup_zone, o.kind, t.dropoff_at, t.fare_amount FROM nyc_taxi AS t ASOF JOIN orders AS o \
                 MATCH_CONDITION (t.pickup_at > o.at) ON t.pickup_zone = o.shop ORDER BY t.fare_amount, t.pickup_at, t.dropoff_at, t.pickup_zone";
    let spine = spine_of.sql(spine, instant(AS_OFS[1])).await.unwrap();
    let made = store.training_set("zone_demand_v1", Spine::new(spine, "at")).await.unwrap();
    shown(&made.dataframe().await.unwrap().collect().await.unwrap())
}

/// A backtest over several folds, as text.
async fn backtest(store: &FeatureStore) -> String {
    let month = |month| chrono::NaiveDate::from_ymd_opt(2014, month, 1).unwrap();
    let months = Folds::monthly(month(2), month(4), "America/New_York".parse().unwrap()).unwrap();
    let asked = Backtest::with_learner("fares_v1", "total_amount", months, LinearRegression::new());
    store.backtest(&asked).await.unwrap().to_string()
}

/// Compares what a store answers here and elsewhere.
pub(crate) async fn compare(here: &FeatureStore, elsewhere: &FeatureStore) {
    for sql in QUERIES {
        assert_eq!(answer(elsewhere, sql).await, answer(here, sql).await, "{sql}");
    }
    for set in ["zone_demand_v1", "shops_v1", "shop_days_v1", "per_key_v1"] {
        assert_eq!(training_set(elsewhere, set).await, training_set(here, set).await, "{set}");
    }
    let sorted = over_sorted_spine(here, here).await;
    assert_eq!(over_sorted_spine(elsewhere, here).await, sorted);
    assert_eq!(over_sorted_spine(elsewhere, elsewhere).await, sorted);
    assert_eq!(backtest(elsewhere).await, backtest(here).await);
    for made in materialized(here).await {
        let manifest = made.manifest();
        let replayed = elsewhere.replay(&made).await.unwrap_or_else(|e| panic!("{} as of {}: {e}", manifest.set, manifest.as_of));
        assert!(
            replayed.is_equal() && replayed.has_same_files(),
            "{} as of {}: {:?}",
            manifest.set,
            manifest.as_of,
            replayed.differences
        );
    }
}
