//! `flights_v1` on generated flights, and on real ones when they are there: each feature against a plain count by hand.
//! It reads single rows; that the operators are right in general is the business of `conformance`.

use std::path::Path;

use asof::{
    AsOf, FeatureStore,
    backtest::{Backtest, Folds, LinearRegression, OnRedundant},
    temporal::Spine,
    time::Span,
};
use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::{Float64Type, Int64Type, TimestampMicrosecondType},
};

use crate::{
    flights_data as flights, parity,
    real_data::shared,
    support::{store_with, temp_dir},
};

async fn rows(store: &FeatureStore, sql: &str) -> RecordBatch {
    let rows = store.sql(sql, "2100-01-01".parse().unwrap()).await.unwrap();
    whole(rows).await
}

async fn whole(rows: datafusion::prelude::DataFrame) -> RecordBatch {
    let schema = std::sync::Arc::new(rows.schema().as_arrow().clone());
    concat_batches(&schema, &rows.collect().await.unwrap()).unwrap()
}

const HOUR_US: i64 = 3_600_000_000;

/// Compares every `step`-th flight's features with loops over all flights and readings.
async fn check(dir: &Path, step: usize) {
    let work = temp_dir();
    let store = store_with(&work.path().join("store"), asof::StoreOptions::default().cache_in_memory()).await;
    flights::load(&store, dir, work.path()).await.unwrap();
    store.register(asof_features::flights_v1().unwrap()).unwrap();

    let all = rows(&store, "SELECT scheduled_at, departed_at, carrier, tailnum, CAST(dep_delay AS DOUBLE) d FROM flights").await;
    let weather = rows(&store, "SELECT time_hour, origin, CAST(temp AS DOUBLE) temp FROM weather").await;
    let times = |batch: &RecordBatch, i: usize| batch.column(i).as_primitive::<TimestampMicrosecondType>().clone();
    let texts = |batch: &RecordBatch, i: usize| batch.column(i).as_string::<i32>().clone();
    let (scheduled, departed) = (times(&all, 0), times(&all, 1));
    let (carriers, tails, delays) = (texts(&all, 2), texts(&all, 3), all.column(4).as_primitive::<Float64Type>().clone());
    let (readings, airports) = (times(&weather, 0), texts(&weather, 1));
    let temps = weather.column(2).as_primitive::<Float64Type>().clone();

    let spine = "SELECT time_hour AS at, origin, carrier, tailnum FROM flights ORDER BY time_hour, origin, carrier, flight, dest";
    let spine = store.sql(spine, "2100-01-01".parse().unwrap()).await.unwrap();
    let made = whole(store.training_set("flights_v1", Spine::new(spine, "at")).await.unwrap().dataframe().await.unwrap()).await;
    assert_eq!(made.num_rows(), all.num_rows());
    let (ats, origins, of_carrier, of_tail) = (times(&made, 0), texts(&made, 1), texts(&made, 2), texts(&made, 3));
    let number = |name: &str, row: usize| {
        let column = made.column_by_name(name).unwrap().as_primitive::<Float64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    for row in (0..made.num_rows()).step_by(step) {
        let t = ats.value(row);
        let newest = (0..weather.num_rows())
            .filter(|&i| airports.value(i) == origins.value(row) && readings.value(i) < t)
            .max_by_key(|&i| (readings.value(i), if temps.is_valid(i) { temps.value(i).to_bits() } else { 0 }))
            .filter(|&i| readings.value(i) >= t - 3 * HOUR_US);
        let temp = newest.and_then(|i| temps.is_valid(i).then(|| temps.value(i)));
        assert_eq!(number("temp", row), temp, "row {row}");
        let keyed = [("carrier", &carriers, &of_carrier), ("tailnum", &tails, &of_tail)];
        for (key, values, own) in keyed {
            for (name, length) in [("1d", 24 * HOUR_US), ("7d", 168 * HOUR_US)] {
                let seen: Vec<f64> = (0..all.num_rows())
                    .filter(|&i| own.is_valid(row) && values.is_valid(i) && values.value(i) == own.value(row))
                    .filter(|&i| scheduled.value(i) >= t - length && scheduled.value(i) < t)
                    .filter(|&i| departed.is_valid(i) && departed.value(i) < t && delays.is_valid(i))
                    .map(|i| delays.value(i))
                    .collect();
                let count = made.column_by_name(&format!("{key}_departures_{name}")).unwrap().as_primitive::<Int64Type>();
                assert_eq!(count.value(row), seen.len() as i64, "row {row}: {key} {name}");
                // Delays are whole minutes, so any order of adding gives the exact sum.
                let mean = (!seen.is_empty()).then(|| seen.iter().sum::<f64>() / seen.len() as f64);
                assert_eq!(number(&format!("{key}_delay_{name}"), row), mean, "row {row}: {key} {name}");
            }
        }
    }
    let as_of: AsOf = "2013-01-20".parse().unwrap();
    let served = store.materialize("flights_v1", as_of).await.unwrap();
    assert!(served.rows() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_flights_see_the_weather_and_delays_that_were_known() {
    let dir = temp_dir();
    flights::write_csv(dir.path(), 20, 7).unwrap();
    check(dir.path(), 101).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_flights_see_the_weather_and_delays_that_were_known() {
    let Some(dir) = shared("flights_2013") else { return };
    check(&dir, 25_013).await;
}

/// `flights_v2` on these flights: a request has the bits of its training row when the materialization it draws on is that of its
/// instant; the share of late flights of a carrier does not show a flight its own label; a fold is scored fresh and as served daily.
async fn check_v2(dir: &Path, [as_of, end]: [&str; 2], step: usize) {
    let work = temp_dir();
    let store = store_with(&work.path().join("store"), asof::StoreOptions::default().cache_in_memory()).await;
    flights::load(&store, dir, work.path()).await.unwrap();
    for set in [asof_features::flights_v1(), asof_features::flights_v2()] {
        store.register(set.unwrap()).unwrap();
    }
    let [as_of, end]: [AsOf; 2] = [as_of, end].map(|at| at.parse().unwrap());
    let made = store.materialize("flights_v2", as_of).await.unwrap();
    let trained = parity::whole(&made).await;
    // In the order of a materialization: event time, then the other columns of the query.
    let query = "SELECT scheduled_at, departed_at, origin, carrier, tailnum, CASE WHEN dep_delay >= 15 THEN 1.0 ELSE 0.0 END AS late \
                 FROM flights WHERE dep_delay IS NOT NULL ORDER BY 1 NULLS FIRST, 2 NULLS FIRST, 3 NULLS FIRST, 4 NULLS FIRST, \
                 5 NULLS FIRST, 6 NULLS FIRST";
    let queried = whole(store.sql(query, as_of).await.unwrap()).await;
    assert_eq!(queried.num_rows(), trained.num_rows());

    // All features but the one that is learned from the label, which encodes a training row apart.
    let features: Vec<String> = made.manifest().features.iter().filter(|name| *name != "late_by_carrier").cloned().collect();
    let expected = parity::bit_rows(&parity::columns(&trained, &features));
    let scheduled = queried.column(0).as_primitive::<TimestampMicrosecondType>();
    let mut compared = 0;
    for row in (0..queried.num_rows()).step_by(step) {
        let drawn = store.materialize("flights_v1", AsOf::from_micros(scheduled.value(row))).await.unwrap();
        let online = store.online_with(&made, &[drawn]).await.unwrap();
        let answer = online.encode(&queried.slice(row, 1)).unwrap();
        assert_eq!(parity::bit_rows(&parity::columns(&answer, &features)), [expected[row].clone()], "row {row}");
        compared += 1;
    }
    assert!(compared > 3);

    // By hand: the flights of the carrier before the scheduled departure that had left by then.
    let departed = queried.column(1).as_primitive::<TimestampMicrosecondType>();
    let (carriers, late) = (queried.column(3).as_string::<i32>(), queried.column(5).as_primitive::<Float64Type>());
    let found = trained.column_by_name("late_by_carrier").unwrap().as_primitive::<Float64Type>();
    for row in (0..queried.num_rows()).step_by(step) {
        let at = scheduled.value(row);
        let before = || (0..queried.num_rows()).filter(move |&i| scheduled.value(i) < at && departed.value(i) < at);
        let share = |rows: &mut dyn Iterator<Item = usize>| {
            rows.fold((0.0, 0.0), |(sum, count), row| (sum + late.value(row), count + 1.0))
        };
        let (all, of_all) = share(&mut before());
        let (own, of_own) = share(&mut before().filter(|&i| carriers.value(i) == carriers.value(row)));
        let expected = (own + 50.0 * all / of_all) / (of_own + 50.0);
        let expected = if of_all > 0.0 { expected } else { 0.2 };
        assert!((found.value(row) - expected).abs() < 1e-9, "row {row}: {} is not {expected}", found.value(row));
    }

    for refreshed in [None, Some(chrono::TimeDelta::days(1))] {
        let folds = Folds::new([(as_of, Span::new(as_of, end))]).unwrap();
        // Generated visibility is a function of the temperature.
        let learner = LinearRegression::new().on_redundant(OnRedundant::Drop);
        let backtest = Backtest::with_learner("flights_v2", "late", folds, learner);
        let backtest = match refreshed {
            Some(every) => backtest.refreshed(every),
            None => backtest,
        };
        let report = store.backtest(&backtest).await.unwrap();
        let metrics = report.mean().unwrap();
        println!(
            "flights_v2, scored from {as_of} to {end}, refreshed {refreshed:?}: {metrics:?}, {} rows",
            report.folds[0].rows_scored
        );
        assert!(metrics.r2.is_finite() && metrics.mae < 0.5, "{metrics:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flights_v2_serves_what_it_was_trained_with() {
    let dir = temp_dir();
    flights::write_csv(dir.path(), 14, 7).unwrap();
    check_v2(dir.path(), ["2013-01-12", "2013-01-14"], 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_flights_v2_serve_what_they_were_trained_with() {
    let Some(dir) = shared("flights_2013") else { return };
    check_v2(&dir, ["2013-02-01", "2013-03-01"], 4_999).await;
}
