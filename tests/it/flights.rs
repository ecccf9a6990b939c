//! `flights_v1` on generated flights, and on real ones when they are there: each feature against a plain count by hand.
//! It reads single rows; that the operators are right in general is the business of `conformance`.

use std::path::Path;

use asof::{AsOf, FeatureStore, temporal::Spine};
use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::{Float64Type, Int64Type, TimestampMicrosecondType},
};

use crate::{
    flights_data as flights,
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
