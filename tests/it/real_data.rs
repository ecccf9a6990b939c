//! Real trips, when they are there: the dirt of real files, and agreement with NumPy.

use std::path::{Path, PathBuf};

use asof::{
    AsOf, FeatureStore,
    backtest::{Learner, LinearRegression},
    ingest::{Ingest, LoadReport},
};
use serde_json::Value;

use crate::support::{store, temp_dir, trips_table};

/// A folder of the shared data, or `None`, said aloud, when it is not there.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

async fn load_yellow(store: &FeatureStore, dir: &Path) -> LoadReport {
    let load = Ingest::new("nyc_taxi", trips_table())
        .unwrap()
        .from(dir.to_str().unwrap())
        .rename("pickup_datetime", "pickup_at")
        .rename("dropoff_datetime", "dropoff_at")
        .rename("pickup_location_id", "pickup_zone");
    store.ingest(&load).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_regression_agrees_with_numpy() {
    let Some(dir) = shared("yellow_10k") else { return };
    let root = temp_dir();
    let store = store(root.path()).await;
    let report = load_yellow(&store, &dir).await;
    assert_eq!((report.rows, report.rejected), (360_000, 0));

    let fixture: Value = serde_json::from_str(include_str!("../fixtures/taxi_v1_numpy.json")).unwrap();
    for expected in fixture["as_ofs"].as_array().unwrap() {
        let as_of = AsOf::from_micros(expected["as_of_us"].as_i64().unwrap());
        let made = store.materialize("taxi_v1", as_of).await.unwrap();
        let manifest = made.manifest();
        assert_eq!(manifest.rows_seen, expected["rows_seen"].as_u64().unwrap(), "{as_of}");
        assert_eq!(manifest.selections[0].rows_left, expected["rows_inliers"].as_u64(), "{as_of}");
        assert_eq!(manifest.rows, expected["rows_kept"].as_u64().unwrap(), "{as_of}");
        for column in ["trip_distance", "total_amount"] {
            let found = &manifest.selections[0].state[column];
            close(found["low"].as_f64().unwrap(), expected["bounds"][column][0].as_f64().unwrap());
            close(found["high"].as_f64().unwrap(), expected["bounds"][column][1].as_f64().unwrap());
        }
        let data = made.dataset("total_amount").await.unwrap();
        let linear = LinearRegression::new().fit(&data).unwrap().linear().unwrap();
        close(linear.slopes[0], expected["slope"].as_f64().unwrap());
        close(linear.intercept, expected["intercept"].as_f64().unwrap());
    }
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found} is not {expected}");
}
