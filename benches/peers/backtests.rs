//! Backtests of taxi trips, and what scoring them costs beside everything else: a second run finds its materializations.
//! Each prints one line.

use std::{path::Path, time::Instant};

use asof::{
    FeatureSet, FeatureStore, StoreOptions,
    backtest::{Backtest, BacktestReport, Folds, LinearRegression, OnRedundant},
    catalog::{FactTable, KnownAt},
    encoder::{Clip, NotNull},
    ingest::{Ingest, OnReject},
    time::{Span, Zone},
};
use chrono::TimeDelta;

use super::{
    Anyhow, peak_mb,
    sets::{read_bytes, rounded},
};

#[path = "../../examples/data/months.rs"]
#[allow(dead_code, unreachable_pub)]
mod months;
#[path = "../../examples/data/taxi.rs"]
#[allow(dead_code, unreachable_pub)]
mod taxi;

/// Trips of so many a month are generated where there are no files.
const TRIPS_PER_MONTH: u32 = 100_000;

/// The newest fare of the zone, which may be of any age.
fn last_fare() -> Anyhow<FeatureSet> {
    let query = "SELECT pickup_at, pickup_zone, trip_distance, total_amount FROM nyc_taxi";
    let set = FeatureSet::rows("last_fare_v1", query)
        .table("nyc_taxi")
        .event_time("pickup_at")
        .features_of(asof_features::zone_demand_v1()?.by(["pickup_zone"]).only(["last_fare"]))
        .keep(NotNull::of_numbers(["total_amount", "trip_distance"]))
        .encode(Clip::of("trip_distance", 0.0, 30.0))
        .label("total_amount");
    Ok(set.build()?)
}

/// Backtests of monthly files of trips in a folder.
pub(super) async fn backtests(dir: &str) -> Anyhow<()> {
    let folder = Path::new(dir);
    if !folder.exists() {
        taxi::write_csv(&taxi::Config { trips_per_month: TRIPS_PER_MONTH, ..Default::default() }, folder)?;
    }
    let root = tempfile::tempdir()?;
    let store = FeatureStore::open_with(&root.path().to_string_lossy(), StoreOptions::default().cache_in_memory()).await?;
    for set in [asof_features::taxi_v1()?, asof_features::zone_demand_v1()?, asof_features::taxi_v2()?, last_fare()?] {
        store.register(set)?;
    }
    let zone: Zone = "America/New_York".parse()?;
    let load = Ingest::new("nyc_taxi", FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone(zone))?;
    let load = load
        .from(dir)
        .rename("pickup_datetime", "pickup_at")
        .rename("dropoff_datetime", "dropoff_at")
        .rename("pickup_location_id", "pickup_zone")
        .on_reject(OnReject::Skip);
    let version = store.ingest(&load).await?.version;
    let months = months::months(&version, zone);
    let (first, last) = (months.get(1).ok_or("a backtest needs two months")?, months[months.len() - 1]);
    let monthly = Folds::monthly(*first, last, zone)?;
    let ends: Vec<_> = monthly.iter().map(|fold| fold.scored().end).collect();
    // Each model is scored on the six months that follow.
    let half_years = monthly.iter().enumerate().map(|(i, fold)| {
        let end = ends[(i + 5).min(ends.len() - 1)];
        (fold.as_of(), Span::new(fold.as_of(), end))
    });
    let half_years = Folds::new(half_years)?;
    let of = |set: &str, folds: &Folds| {
        Backtest::with_learner(set, "total_amount", folds.clone(), LinearRegression::new().on_redundant(OnRedundant::Drop))
    };
    let kinds = [
        ("taxi_v1", of("taxi_v1", &monthly)),
        ("taxi_v1_half_years", of("taxi_v1", &half_years)),
        ("taxi_v2", of("taxi_v2", &monthly)),
        ("taxi_v2_refreshed", of("taxi_v2", &monthly).refreshed(TimeDelta::days(1))),
        ("last_fare_v1", of("last_fare_v1", &monthly)),
    ];
    let mut measured = serde_json::Map::new();
    for (name, backtest) in kinds {
        let start = Instant::now();
        let report = store.backtest(&backtest).await?;
        let whole_seconds = rounded(start.elapsed().as_secs_f64());
        let (mut seconds, mut bytes) = (f64::INFINITY, 0);
        for _ in 0..3 {
            let (start, before) = (Instant::now(), read_bytes());
            let again = store.backtest(&backtest).await?;
            assert_eq!(again, report);
            (seconds, bytes) = (seconds.min(start.elapsed().as_secs_f64()), read_bytes() - before);
        }
        let of_run = serde_json::json!({
            "whole_seconds": whole_seconds, "scoring_seconds": rounded(seconds), "scoring_read_mb": bytes / 1_000_000,
            "rows_scored": report.folds.iter().map(|fold| fold.rows_scored).sum::<u64>(), "checksum": checksum(&report),
        });
        measured.insert(name.to_owned(), of_run);
    }
    let line = serde_json::json!({
        "task": "backtest", "engine": "asof", "folds": monthly.iter().count(), "rows": version.rows(), "runs": measured,
        "peak_mb": peak_mb(),
    });
    println!("{line}");
    Ok(())
}

/// The bits of all metrics, as one number.
fn checksum(report: &BacktestReport) -> u64 {
    let metrics = report.folds.iter().filter_map(|fold| fold.metrics);
    metrics.fold(0, |sum: u64, m| sum.rotate_left(7) ^ m.r2.to_bits() ^ m.mae.to_bits().rotate_left(21) ^ m.rmse.to_bits())
}
