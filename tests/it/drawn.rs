//! Sets of rows that draw on sets of entities: training, serving and backtests give a row the same bits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use asof::ndarray::{Array1, Array2};
use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, Materialization, Result, Value,
    backtest::{Backtest, Folds, Learner, MeanOnly, Model},
    encoder::{HourOfDay, Log, NotNull, Standardize, TargetMean},
    feature_set::{Ahead, RowSetBuilder, Source},
    ingest::Ingest,
    temporal::Spine,
    time::Span,
    training::Dataset,
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::{Float64Type, Int64Type, TimestampMicrosecondType},
};

use crate::{
    parity::{bit_rows, columns, store_of_a_year, whole},
    support::{instant, temp_dir, trips_table, write_text},
    training::collected,
};

const AS_OF: &str = "2014-07-01T04:00:00Z";
const QUERY: &str = "SELECT pickup_at, dropoff_at, pickup_zone, dropoff_zone, trip_distance, total_amount FROM nyc_taxi";

pub(crate) fn demand(name: &str, max_age: Option<TimeDelta>) -> FeatureSet {
    let set = FeatureSet::entities(name, "nyc_taxi")
        .key("pickup_zone")
        .lookup("fare_amount", "last_fare")
        .lookup("dropoff_zone", "last_to")
        .window(TimeDelta::days(3), [Aggregate::count().named("trips_3d"), Aggregate::mean("fare_amount").named("fare_3d")])
        .all_before([Aggregate::max("tip_amount").named("best_tip")]);
    match max_age {
        Some(age) => set.max_age(age),
        None => set,
    }
    .build()
    .unwrap()
}

pub(crate) fn pairs() -> FeatureSet {
    FeatureSet::entities("pairs_v1", "nyc_taxi")
        .key("pickup_zone")
        .key("dropoff_zone")
        .window(TimeDelta::days(60), [Aggregate::count().named("trips_60d")])
        .also(
            Source::of("nyc_taxi").on_columns("dropoff_zone", "pickup_zone").lookup("trip_distance", "last_distance_from_there"),
        )
        .build()
        .unwrap()
}

/// Draws on three sets, one of them twice.
pub(crate) fn drawing(name: &str, max_age: Option<TimeDelta>) -> RowSetBuilder {
    FeatureSet::rows(name, QUERY)
        .table("nyc_taxi")
        .event_time("pickup_at")
        .features_of(demand("demand_v1", max_age).by(["pickup_zone"]))
        .features_of(demand("demand_v1", max_age).by(["dropoff_zone"]).only(["trips_3d", "last_fare"]).prefixed("there_"))
        .features_of(pairs().by(["pickup_zone", "dropoff_zone"]))
        .pass(["last_fare", "trips_3d", "fare_3d", "there_trips_3d", "there_last_fare", "trips_60d", "last_distance_from_there"])
        .label("total_amount")
}

/// Drawn features as they are at each row's instant, from training sets of the sets of entities.
async fn naive(store: &FeatureStore, rows: &RecordBatch, at: &str) -> BTreeMap<String, Vec<String>> {
    let session = datafusion::prelude::SessionContext::new();
    let spine = |columns: &[(&str, &str)]| {
        let of = |name: &str| rows.column_by_name(name).unwrap().clone();
        let batch = RecordBatch::try_from_iter(columns.iter().map(|(to, from)| (*to, of(from)))).unwrap();
        Spine::new(session.read_batch(batch).unwrap(), "at")
    };
    let mut found = BTreeMap::new();
    for (set, keys, prefix) in [
        ("demand_v1", vec![("pickup_zone", "pickup_zone")], ""),
        ("demand_v1", vec![("pickup_zone", "dropoff_zone")], "there_"),
        ("pairs_v1", vec![("pickup_zone", "pickup_zone"), ("dropoff_zone", "dropoff_zone")], ""),
    ] {
        let mut of_spine = keys.clone();
        of_spine.push(("at", at));
        let features = store.feature_set(set).unwrap().features();
        let made = store.training_set(set, spine(&of_spine)).await.unwrap();
        let rows = collected(made.dataframe().await.unwrap()).await;
        for feature in features {
            // The features of the set that draws are numbers.
            let column = datafusion::arrow::compute::cast(
                rows.column_by_name(&feature).unwrap(),
                &datafusion::arrow::datatypes::DataType::Float64,
            );
            let column = RecordBatch::try_from_iter_with_nullable([("x", column.unwrap(), true)]).unwrap();
            found.insert(format!("{prefix}{feature}"), bit_rows(&column));
        }
    }
    found
}

async fn assert_drawn(store: &FeatureStore, rows: &RecordBatch, features: &RecordBatch, at: &str) {
    let naive = naive(store, rows, at).await;
    assert_eq!(rows.num_rows(), features.num_rows());
    for field in features.schema().fields() {
        let Some(expected) = naive.get(field.name()) else { continue };
        assert_eq!(bit_rows(&columns(features, &[field.name().clone()])), *expected, "{}", field.name());
    }
}

/// The rows of the query, in the order of a materialization.
async fn queried(store: &FeatureStore) -> RecordBatch {
    let order: Vec<String> = (1..=6).map(|i| format!("{i} NULLS FIRST")).collect();
    let rows = store.sql(&format!("{QUERY} ORDER BY {}", order.join(", ")), instant(AS_OF)).await.unwrap();
    let rows = rows.collect().await.unwrap();
    concat_batches(&rows[0].schema(), &rows).unwrap()
}

pub(crate) fn register(store: &FeatureStore, max_age: Option<TimeDelta>) {
    store.register(demand("demand_v1", max_age)).unwrap();
    store.register(pairs()).unwrap();
}

fn values(rows: &RecordBatch, row: usize, names: &[&str]) -> Vec<(String, Value)> {
    let value = |name: &str| {
        let column = rows.column_by_name(name).unwrap();
        match column.data_type() {
            _ if column.is_null(row) => Value::Null,
            datafusion::arrow::datatypes::DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
            datafusion::arrow::datatypes::DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
            _ => AsOf::from_micros(column.as_primitive::<TimestampMicrosecondType>().value(row)).into(),
        }
    };
    names.iter().map(|name| ((*name).to_owned(), value(name))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_has_the_features_of_its_instant_in_training_and_in_serving() {
    for max_age in [None, Some(TimeDelta::hours(20))] {
        let (data, root) = (temp_dir(), temp_dir());
        let store = store_of_a_year(root.path(), data.path(), 25).await;
        register(&store, max_age);
        let set = drawing("drawing_v1", max_age).build().unwrap();
        store.register(set.clone()).unwrap();
        let made = store.materialize("drawing_v1", instant(AS_OF)).await.unwrap();
        let (rows, features) = (queried(&store).await, columns(&whole(&made).await, &set.features()));
        assert_drawn(&store, &rows, &features, "pickup_at").await;
        let trained = bit_rows(&features);
        assert!(
            features.columns().iter().all(|c| c.null_count() < c.len()) && features.columns().iter().any(|c| c.null_count() > 0)
        );

        // A service whose materializations are those of the row's instant gives every row the bits of training.
        let pickups = rows.column_by_name("pickup_at").unwrap().as_primitive::<TimestampMicrosecondType>();
        let mut needed = vec!["pickup_zone", "dropoff_zone"];
        needed.extend(max_age.map(|_| "pickup_at"));
        for (row, expected) in trained.iter().enumerate() {
            let at = AsOf::from_micros(pickups.value(row));
            let demand = store.materialize("demand_v1", at).await.unwrap();
            let pairs = store.materialize("pairs_v1", at).await.unwrap();
            let online = store.online_with(&made, &[demand.clone(), demand, pairs]).await.unwrap();
            let fields = online.request_schema().unwrap();
            let mut asked: Vec<&str> = fields.fields().iter().map(|f| f.name().as_str()).collect();
            asked.sort_unstable();
            needed.sort_unstable();
            assert_eq!(asked, needed);
            let request = values(&rows, row, &needed);
            let request: Vec<(&str, Value)> = request.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            assert_eq!(
                bit_rows(&online.encode_row(&request).unwrap().batch().unwrap()),
                *std::slice::from_ref(expected),
                "row {row} at {at}"
            );
        }

        // The newest materializations are pinned; a batch is answered as its rows are.
        let online = store.online("drawing_v1").await.unwrap();
        assert!(online.drawn_on().iter().all(|made| made.as_of().micros() == pickups.value(rows.num_rows() - 1)));
        let later = online.drawn_on()[0].as_of();
        let batch = store.sql(&format!("{QUERY} WHERE pickup_at >= '{later}'"), instant("2015-01-01")).await.unwrap();
        let batch = collected(batch).await;
        let whole = bit_rows(&online.encode(&batch).unwrap());
        assert!(whole.len() > 10);
        for (row, expected) in whole.iter().enumerate() {
            assert_eq!(bit_rows(&online.encode(&batch.slice(row, 1)).unwrap()), *std::slice::from_ref(expected));
        }
    }
}

/// Keeps what it is asked to predict.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Array2<f64>>>>);

impl Recorder {
    /// The features of each call, in their order.
    pub(crate) fn recorded(&self) -> Vec<Array2<f64>> {
        self.0.lock().unwrap().clone()
    }
}

impl Learner for Recorder {
    fn name(&self) -> &str {
        "recorder"
    }

    fn fit(&self, _: &Dataset) -> Result<Box<dyn Model>> {
        Ok(Box::new(self.clone()))
    }
}

impl Model for Recorder {
    fn predict(&self, records: &Array2<f64>) -> Array1<f64> {
        self.0.lock().unwrap().push(records.clone());
        Array1::zeros(records.nrows())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backtest_scores_with_fresh_features_or_with_those_that_a_service_had() {
    let max_age = Some(TimeDelta::hours(30));
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_of_a_year(root.path(), data.path(), 60).await;
    register(&store, max_age);
    let features =
        ["last_fare", "trips_3d", "fare_3d", "there_trips_3d", "there_last_fare", "trips_60d", "last_distance_from_there"];
    store.register(drawing("drawing_v1", max_age).keep(NotNull::of_numbers(["total_amount"])).build().unwrap()).unwrap();
    let (fit_at, end) = (instant("2014-05-01T04:00:00Z"), instant("2014-06-01T04:00:00Z"));
    let folds = || Folds::new([(fit_at, Span::new(fit_at, end))]).unwrap();
    let sql = format!(
        "{QUERY} WHERE pickup_at >= '{fit_at}' AND pickup_at < '{end}' ORDER BY {}",
        (1..=6).map(|i| format!("{i} NULLS FIRST")).collect::<Vec<_>>().join(", ")
    );
    let rows = collected(store.sql(&sql, end).await.unwrap()).await;
    let mut differ = 0;
    for every in [None, Some(TimeDelta::days(1)), Some(TimeDelta::hours(7)), Some(TimeDelta::days(400))] {
        let recorder = Recorder::default();
        let backtest = Backtest::with_learner("drawing_v1", "total_amount", folds(), recorder.clone());
        let backtest = match every {
            Some(every) => backtest.refreshed(every),
            None => backtest,
        };
        // Features may be missing, which the recorder does not mind.
        let report = store.backtest(&backtest).await;
        let scored = recorder.recorded().remove(0);
        drop(report);
        assert_eq!(scored.nrows(), rows.num_rows());

        // The same by hand: materializations of the schedule, asked by key at the instant of each row.
        let pickups = rows.column_by_name("pickup_at").unwrap().as_primitive::<TimestampMicrosecondType>();
        for row in (0..rows.num_rows()).step_by(3) {
            let at = pickups.value(row);
            let made_at = match every {
                None => at,
                Some(every) => {
                    let every = every.num_microseconds().unwrap();
                    fit_at.micros() + (at - fit_at.micros()).div_euclid(every) * every
                }
            };
            let zone = |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(row);
            let made = |set: &'static str| store.materialize(set, AsOf::from_micros(made_at));
            let demand = store.online_for(&made("demand_v1").await.unwrap()).await.unwrap();
            let pairs = store.online_for(&made("pairs_v1").await.unwrap()).await.unwrap();
            let here = demand.get_at(&[zone("pickup_zone").into()], AsOf::from_micros(at)).unwrap();
            let there = demand.get_at(&[zone("dropoff_zone").into()], AsOf::from_micros(at)).unwrap();
            let pair = pairs.get(&[zone("pickup_zone").into(), zone("dropoff_zone").into()]).unwrap();
            let expected = [
                here.number("last_fare"),
                here.number("trips_3d"),
                here.number("fare_3d"),
                there.number("trips_3d"),
                there.number("last_fare"),
                pair.number("trips_60d"),
                pair.number("last_distance_from_there"),
            ];
            for ((name, expected), found) in features.iter().zip(expected).zip(scored.row(row)) {
                let expected = expected.unwrap().unwrap_or(f64::NAN);
                assert_eq!(found.to_bits(), expected.to_bits(), "{name} of row {row}, {every:?}: {found} is not {expected}");
            }
            differ += usize::from(made_at != at);
        }
    }
    assert!(differ > 50);
}

#[tokio::test]
async fn mistakes_of_drawn_sets_are_named() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_of_a_year(root.path(), data.path(), 5).await;
    let rows = |name: &str| FeatureSet::rows(name, QUERY).table("nyc_taxi").event_time("pickup_at");
    let encoded = |set: RowSetBuilder| set.pass(["trip_distance"]).label("total_amount");
    let refused = |drawn| encoded(rows("bad_v1").features_of(drawn)).build().unwrap_err().to_string();
    let demand = demand("demand_v1", None);
    let of_rows = encoded(rows("rows_v1")).build().unwrap();
    for (drawn, told) in [
        (demand.by(["pickup_zone", "dropoff_zone"]), "has the key (pickup_zone)"),
        (demand.by(Vec::<String>::new()), "name one column for each key"),
        (demand.by(["pickup_zone"]).only(["trips_9d"]), "draws `trips_9d`, which `demand_v1` does not have"),
        (of_rows.by(["pickup_zone"]), "`rows_v1`, which is a set of rows"),
    ] {
        let text = refused(drawn);
        assert!(text.contains("`bad_v1`") && text.contains(told), "{text}");
    }
    let twice = rows("bad_v1").features_of(demand.by(["pickup_zone"])).features_of(demand.by(["dropoff_zone"]));
    let told = encoded(twice).build().unwrap_err().to_string();
    assert!(told.contains("two of its columns are called `last_fare`"), "{told}");

    // What only the tables can tell.
    let bad = async |set: RowSetBuilder| {
        let set = set.build().unwrap();
        store.register(set.clone()).unwrap();
        let told = store.materialize(set.name().as_str(), instant(AS_OF)).await.unwrap_err();
        store.forget_set(set.name().as_str()).await.unwrap();
        told.to_string()
    };
    let told = bad(encoded(rows("bad_v1").features_of(demand.by(["zone"])))).await;
    assert!(told.contains("`zone`") && told.contains("`bad_v1`"), "{told}");
    let taken = "SELECT pickup_at, pickup_zone, trip_distance, total_amount, 1.0 AS last_fare FROM nyc_taxi";
    let taken = FeatureSet::rows("bad_v1", taken).table("nyc_taxi").event_time("pickup_at");
    let told = bad(encoded(taken.features_of(demand.by(["pickup_zone"])))).await;
    assert!(told.contains("`last_fare`") && told.contains("prefixed"), "{told}");
    let joined = "SELECT a.pickup_at, a.pickup_zone, a.trip_distance, a.total_amount FROM nyc_taxi AS a JOIN nyc_taxi AS b \
                  ON a.pickup_zone = b.pickup_zone";
    let joined = FeatureSet::rows("bad_v1", joined).table("nyc_taxi").event_time("pickup_at");
    let told = bad(encoded(joined.features_of(demand.by(["pickup_zone"])))).await;
    assert!(told.contains("it joins") && told.contains("`bad_v1`"), "{told}");

    // A subquery would bring in facts of the row's future, wherever it stands, with drawn features or a label ahead, and in a backtest.
    let columns = "SELECT pickup_at, pickup_zone, trip_distance, total_amount";
    for (i, query) in [
        format!("{columns}, (SELECT max(total_amount) FROM nyc_taxi x WHERE x.pickup_zone = t.pickup_zone) AS m FROM nyc_taxi t"),
        format!("{columns} FROM nyc_taxi WHERE pickup_at IN (SELECT max(pickup_at) FROM nyc_taxi GROUP BY pickup_zone)"),
        format!("{columns} FROM nyc_taxi t WHERE NOT EXISTS (SELECT 1 FROM nyc_taxi e WHERE e.pickup_at > t.pickup_at)"),
        format!("{columns} FROM (SELECT * FROM nyc_taxi WHERE pickup_zone IN (SELECT dropoff_zone FROM nyc_taxi)) t"),
    ]
    .into_iter()
    .enumerate()
    {
        let rows = || encoded(FeatureSet::rows("bad_v1", &query).table("nyc_taxi").event_time("pickup_at"));
        let ahead = Ahead::of("nyc_taxi").on("pickup_zone").window(TimeDelta::hours(1), [Aggregate::count().named("next")]);
        for set in [rows().features_of(demand.by(["pickup_zone"])), rows().label_ahead(ahead.settle(TimeDelta::hours(9)))] {
            let told = bad(set).await;
            assert!(told.contains("subquery") && told.contains("`bad_v1`"), "{query}: {told}");
        }
        // The fold's rows are materialized before it is known that they cannot be scored.
        let scored = format!("scored{i}_v1");
        let set = FeatureSet::rows(&scored, &query).table("nyc_taxi").event_time("pickup_at");
        store.register(encoded(set).build().unwrap()).unwrap();
        let (from, to) = (instant("2014-02-01T05:00:00Z"), instant("2014-03-01T05:00:00Z"));
        let folds = Folds::new([(from, Span::new(from, to))]).unwrap();
        let told = store.backtest(&Backtest::with_learner(&scored, "total_amount", folds, MeanOnly)).await.unwrap_err();
        assert!(told.to_string().contains("subquery"), "{query}: {told}");
    }
    let grouped = "SELECT max(pickup_at) AS pickup_at, pickup_zone, max(trip_distance) AS trip_distance, max(total_amount) AS total_amount \
                   FROM nyc_taxi GROUP BY pickup_zone";
    let ahead = Ahead::of("nyc_taxi").on("pickup_zone").next("fare_amount", "next");
    let told =
        bad(encoded(FeatureSet::rows("bad_v1", grouped).table("nyc_taxi").event_time("pickup_at").label_ahead(ahead))).await;
    assert!(told.contains("it joins or aggregates") && told.contains("`bad_v1`"), "{told}");

    // An instant after the row was known: its own fare would be the newest one. Trips end after they begin.
    let late = encoded(rows("bad_v1").at("dropoff_at").features_of(demand.by(["pickup_zone"])));
    store.register(late.build().unwrap()).unwrap();
    assert!(store.materialize("bad_v1", instant(AS_OF)).await.is_ok());
    let later =
        "SELECT pickup_at, pickup_at + INTERVAL '9 days' AS later, pickup_zone, trip_distance, total_amount FROM nyc_taxi";
    let later = FeatureSet::rows("later_v1", later).table("nyc_taxi").event_time("pickup_at").at("later");
    let told = bad(encoded(later.features_of(demand.by(["pickup_zone"])))).await;
    assert!(told.contains("`later_v1`") && told.contains("was known at") && told.contains("`later`"), "{told}");

    // No materialization to serve from.
    let set = encoded(rows("served_v1").features_of(demand.by(["pickup_zone"]))).build().unwrap();
    store.register(set).unwrap();
    let made = store.materialize("served_v1", instant(AS_OF)).await.unwrap();
    let told = store.online("served_v1").await.unwrap_err();
    assert!(matches!(told, Error::NotFound { .. }), "{told}");
    assert!(told.to_string().contains("`demand_v1`") && told.to_string().contains("`served_v1`"), "{told}");
    let told = store.online_with(&made, &[]).await.unwrap_err().to_string();
    assert!(told.contains("`demand_v1`") && told.contains("none"), "{told}");
}

#[tokio::test]
async fn a_fingerprint_carries_those_of_the_sets_that_are_drawn_on() {
    let rows = |drawn| {
        let set = FeatureSet::rows("rows_v1", QUERY).table("nyc_taxi").event_time("pickup_at").features_of(drawn);
        set.pass(["last_fare"]).build().unwrap().fingerprint().id
    };
    let by = |set: FeatureSet| set.by(["pickup_zone"]);
    let ids = [
        rows(by(demand("demand_v1", None))),
        rows(by(demand("demand_v2", None))),
        rows(by(demand("demand_v1", Some(TimeDelta::days(1))))),
        rows(demand("demand_v1", None).by(["dropoff_zone"])),
        rows(demand("demand_v1", None).by(["pickup_zone"]).only(["last_fare"])),
    ];
    let distinct: std::collections::BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), ids.len());
    assert_eq!(ids[0], rows(by(demand("demand_v1", None))));
}

/// Encoders read the outputs of encoders before them, in training, scoring and serving.
#[tokio::test]
async fn encoders_follow_one_another() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_of_a_year(root.path(), data.path(), 40).await;
    register(&store, None);
    let zone = "America/New_York".parse().unwrap();
    let set = FeatureSet::rows("chain_v1", QUERY)
        .table("nyc_taxi")
        .event_time("pickup_at")
        .features_of(demand("demand_v1", None).by(["pickup_zone"]))
        .encode(Log::of("trip_distance"))
        .encode_fitted(Standardize::of("log_trip_distance"))
        .encode_fitted(TargetMean::of("total_amount").by("pickup_zone").prior(3.0))
        .encode_fitted(Standardize::of("total_amount_by_pickup_zone"))
        .encode(HourOfDay::of("pickup_at", zone))
        .encode_fitted(TargetMean::of("total_amount").by("pickup_at_hour").named("amount_by_hour"))
        .encode_fitted(Standardize::of("trips_3d"))
        .label("total_amount")
        .build()
        .unwrap();
    store.register(set.clone()).unwrap();
    let made = store.materialize("chain_v1", instant(AS_OF)).await.unwrap();
    let trained = whole(&made).await;
    let numbers = |name: &str| -> Vec<f64> {
        trained.column_by_name(name).unwrap().as_primitive::<Float64Type>().iter().map(|x| x.unwrap_or(f64::NAN)).collect()
    };
    for (plain, scaled) in
        [("log_trip_distance", "log_trip_distance_std"), ("total_amount_by_pickup_zone", "total_amount_by_pickup_zone_std")]
    {
        let (plain, scaled) = (numbers(plain), numbers(scaled));
        let finite: Vec<f64> = plain.iter().copied().filter(|x| x.is_finite()).collect();
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        let deviation = (finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / finite.len() as f64).sqrt();
        for (x, z) in plain.iter().zip(&scaled).filter(|(x, _)| x.is_finite()) {
            assert!(((x - mean) / deviation - z).abs() < 1e-9, "{x} {z}");
        }
    }
    // A request is encoded by the same chain, without any label.
    store.materialize("demand_v1", instant(AS_OF)).await.unwrap();
    let online = store.online("chain_v1").await.unwrap();
    let needed: Vec<String> = online.request_schema().unwrap().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(needed, ["trip_distance", "pickup_zone", "pickup_at"]);
    let request = [
        ("trip_distance", Value::from(2.5)),
        ("pickup_zone", Value::from(161)),
        ("pickup_at", instant("2014-07-02T12:00:00Z").into()),
    ];
    let row = online.encode_row(&request).unwrap();
    let log = row.number("log_trip_distance").unwrap().unwrap();
    assert_eq!(log.to_bits(), 2.5_f64.ln().to_bits());
    assert!(row.number("total_amount_by_pickup_zone_std").unwrap().is_some());
    assert!(row.number("amount_by_hour").unwrap().is_some());
}

fn fares(csv: &str, dir: &std::path::Path) -> Ingest {
    Ingest::new("nyc_taxi", trips_table()).unwrap().from(write_text(dir, "fares.csv", csv))
}

async fn target_means(csv: &str, encoder: TargetMean) -> (Materialization, RecordBatch) {
    let (data, root) = (temp_dir(), temp_dir());
    let store = FeatureStore::open(root.path().to_str().unwrap()).await.unwrap();
    store.ingest(&fares(csv, data.path())).await.unwrap();
    let set = FeatureSet::rows("fares_v1", "SELECT pickup_at, dropoff_at, zone, fare FROM nyc_taxi").table("nyc_taxi");
    let set = set.event_time("pickup_at").encode_fitted(encoder).label("fare").build().unwrap();
    store.register(set).unwrap();
    let made = store.materialize("fares_v1", instant("2015-01-01")).await.unwrap();
    let rows = whole(&made).await;
    (made, rows)
}

/// Begin, end, zone and fare of a ride.
type Fare = (i64, i64, Option<i64>, Option<f64>);

/// A ride every 37 minutes.
fn fares_csv(fare: impl Fn(usize) -> Option<f64>) -> (String, Vec<Fare>) {
    let start = instant("2014-03-01T05:00:00Z").micros();
    let mut csv = "pickup_at,dropoff_at,zone,fare\n".to_owned();
    let mut rows = Vec::new();
    for i in 0..97_usize {
        let begin = start + i as i64 * 37 * 60_000_000;
        // Some labels are known before their row's instant.
        let end = begin + ((i * 7 % 13) as i64 - 2) * 20 * 60_000_000;
        let zone = (i % 11 != 5).then_some((i * i % 7) as i64);
        let text = |x: Option<String>| x.unwrap_or_default();
        let at = |us: i64| AsOf::from_micros(us).to_string();
        csv += &format!(
            "{},{},{},{}\n",
            at(begin),
            at(end),
            text(zone.map(|z| z.to_string())),
            text(fare(i).map(|f| f.to_string()))
        );
        rows.push((begin, end, zone, fare(i)));
    }
    (csv, rows)
}

fn smoothed<'a>(rows: impl Iterator<Item = &'a Fare> + Clone, zone: Option<i64>, prior: f64) -> f64 {
    let labels = |rows: &mut dyn Iterator<Item = &'a Fare>| -> (f64, f64) {
        rows.filter_map(|row| row.3).fold((0.0, 0.0), |(sum, count), label| (sum + label, count + 1.0))
    };
    let (sum, count) = labels(&mut rows.clone());
    let mean = sum / count;
    let (own, n) = if zone.is_none() { (0.0, 0.0) } else { labels(&mut rows.filter(|row| row.2 == zone)) };
    if own + n + prior == 0.0 { mean } else { (own + prior * mean) / (n + prior) }
}

#[tokio::test]
async fn a_row_is_never_encoded_by_its_own_label() {
    let fare = |i: usize| (i % 17 != 3).then(|| 5.0 + (i * 31 % 23) as f64 / 4.0);
    let (csv, rows) = fares_csv(fare);
    let (prior, output) = (4.0, "fare_by_zone");
    let encoder = || TargetMean::of("fare").by("zone").prior(prior);
    let in_order = || encoder().in_order_of("pickup_at", "dropoff_at");
    let column = |batch: &RecordBatch| -> Vec<Option<f64>> {
        batch.column_by_name(output).unwrap().as_primitive::<Float64Type>().iter().collect()
    };
    let near = |found: Option<f64>, expected: f64, row: usize| match found {
        Some(found) => assert!((found - expected).abs() < 1e-9, "row {row}: {found} is not {expected}"),
        None => assert!(expected.is_nan(), "row {row}: NULL is not {expected}"),
    };
    let (_, out_of_fold) = target_means(&csv, encoder()).await;
    for (row, found) in column(&out_of_fold).into_iter().enumerate() {
        let others = rows.iter().enumerate().filter(|(other, _)| other % 5 != row % 5).map(|(_, other)| other);
        near(found, smoothed(others, rows[row].2, prior), row);
    }
    let (_, in_time) = target_means(&csv, in_order()).await;
    for (row, found) in column(&in_time).into_iter().enumerate() {
        near(found, smoothed(rows.iter().filter(|other| other.0.max(other.1) < rows[row].0), rows[row].2, prior), row);
    }

    // Another label of one row leaves the feature of that row as it is, to the last bit, and changes others.
    for (encoder, before) in [(encoder(), column(&out_of_fold)), (in_order(), column(&in_time))] {
        for changed in [0, 8, 45, 96] {
            let (csv, _) = fares_csv(|i| if i == changed { Some(1e6) } else { fare(i) });
            let (_, after) = target_means(&csv, encoder.clone()).await;
            let after = column(&after);
            assert_eq!(after[changed].map(f64::to_bits), before[changed].map(f64::to_bits), "row {changed}");
            assert!(changed == 96 || after != before, "row {changed}");
        }
    }
}

#[tokio::test]
async fn requests_are_encoded_by_all_rows() {
    let fare = |i: usize| Some(5.0 + (i * 31 % 23) as f64 / 4.0);
    let (csv, rows) = fares_csv(fare);
    let (made, _) = target_means(&csv, TargetMean::of("fare").by("zone").prior(2.0)).await;
    let state = &made.manifest().encoders[0].state;
    for zone in 0..7 {
        let Some(found) = state["values"][zone.to_string()].as_f64() else { continue };
        assert!((found - smoothed(rows.iter(), Some(zone), 2.0)).abs() < 1e-9);
    }
}
