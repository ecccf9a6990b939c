//! The program to copy: define features, train, backtest, and serve. How busy was the zone when a ride began, and what does it tell
//! about the price?
//!
//! ```text
//! cargo run --release --example end_to_end                                            # a year of generated trips
//! cargo run --release --example end_to_end -- --facts ../shared/data/yellow_10k      # 360,000 real ones
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::{error::Error, path::PathBuf, process::ExitCode};

use asof::{
    AsOf, FeatureStore, StoreOptions,
    backtest::{Backtest, BacktestReport, Folds, Learner, LinearRegression},
    catalog::{FactTable, KnownAt},
    ingest::{Ingest, OnReject},
    time::Zone,
    training::Split,
};
use chrono::{NaiveDate, TimeDelta};
use clap::Parser;
use months::months;

#[path = "data/months.rs"]
#[allow(unreachable_pub)]
mod months;
#[path = "data/taxi.rs"]
#[allow(unreachable_pub)]
mod taxi;

/// Prices taxi rides by distance, demand and time.
#[derive(Parser)]
struct Arguments {
    /// A folder of monthly CSV files of yellow-taxi trips; generated if not given.
    #[arg(long)]
    facts: Option<PathBuf>,
    /// Generated trips per month.
    #[arg(long, default_value_t = 2_000)]
    trips_per_month: u32,
}

/// The features of `taxi_v2`, by what they tell.
const GROUPS: [(&str, &[&str]); 4] = [
    ("distance", &["clipped_trip_distance"]),
    ("demand", &["trips_1h", "trips_24h", "trips_7d", "mean_fare_24h_or_mean", "mean_fare_7d_or_mean"]),
    ("time", &["pickup_at_hour_sin", "pickup_at_hour_cos", "pickup_at_hour_of_week_sin", "pickup_at_hour_of_week_cos"]),
    ("zone", &["total_amount_by_pickup_zone"]),
];

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    // 1. Facts: a table with an event time and a known-at. A fare is known when the trip ends.
    let work = tempfile::tempdir()?;
    let root = work.path().join("store");
    let store = FeatureStore::open_with(&root.to_string_lossy(), StoreOptions::default().cache_in_memory()).await?;
    let arguments = Arguments::parse();
    let facts = arguments.facts.clone().unwrap_or_else(|| work.path().join("trips"));
    if arguments.facts.is_none() {
        taxi::write_csv(&taxi::Config { trips_per_month: arguments.trips_per_month, ..Default::default() }, &facts)?;
    }
    let new_york: Zone = "America/New_York".parse()?;
    let load = Ingest::new("nyc_taxi", FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone(new_york))?
        .from(facts.to_string_lossy())
        .rename("pickup_datetime", "pickup_at")
        .rename("dropoff_datetime", "dropoff_at")
        .rename("pickup_location_id", "pickup_zone")
        .rename("dropoff_location_id", "dropoff_zone")
        .on_reject(OnReject::Skip);
    let loaded = store.ingest(&load).await?;
    println!("loaded {} trips", loaded.rows);

    // 2. Definitions. `taxi_v2` is a set of rows that draws on `zone_demand_v1`, a set of entities.
    for set in [asof_features::zone_demand_v1()?, asof_features::taxi_v1()?, asof_features::taxi_v2()?] {
        store.register(set)?;
    }
    println!("\n{}", store.feature_set("taxi_v2")?.describe());

    // 3. Train: as of the first instant of the last month. The last thirty days are held out, after a day that neither part has.
    let months = months(&loaded.version, new_york);
    let last = month_start(*months.last().ok_or("there are no months")?, new_york)?;
    let rows = store.training_set("taxi_v2", last).await?;
    let (train, test) = rows.split(Split::by_time(last.plus(TimeDelta::days(-30))).embargo(TimeDelta::days(1))).await?;
    let (train, test) = (train.dataset("total_amount").await?, test.dataset("total_amount").await?);
    let model = LinearRegression::new().fit(&train)?;
    let errors = &test.targets - &model.predict(&test.records);
    let error = errors.mapv(f64::abs).mean().unwrap_or(f64::NAN);
    println!("fitted on {} rows, wrong by {error:.2} dollars on {} later ones\n", train.targets.len(), test.targets.len());

    // 4. Backtest, by honest numbers: fit at each month's first instant on what was visible, score the month that follows.
    let first = *months.get(months.len().saturating_sub(6).max(1)).ok_or("a backtest needs two months of trips")?;
    let end = *months.last().ok_or("there are no months")?;
    let backtest = |set: &str| -> Result<Backtest, Box<dyn Error>> {
        Ok(Backtest::new(set, "total_amount", Folds::monthly(first, end, new_york)?))
    };
    println!("{:<38} {:>7} {:>7} {:>7}", "backtest", "R2", "MAE", "RMSE");
    shown("taxi_v1: distance alone", &store.backtest(&backtest("taxi_v1")?).await?);
    shown("taxi_v2, features of the instant", &store.backtest(&backtest("taxi_v2")?).await?);
    for (name, every) in [("an hour", 1), ("a day", 24), ("a week", 168)] {
        let served = backtest("taxi_v2")?.refreshed(TimeDelta::hours(every));
        shown(&format!("taxi_v2, refreshed once {name}"), &store.backtest(&served).await?);
    }
    for (group, features) in GROUPS {
        let without = backtest("taxi_v2")?.without(features.iter().copied());
        shown(&format!("taxi_v2 without {group}"), &store.backtest(&without).await?);
    }

    // 5. Serve: the newest materializations. A request has what is known when a ride is ordered.
    let made = store.materialize("taxi_v2", last).await?;
    store.materialize("zone_demand_v1", last).await?;
    let model = LinearRegression::new().fit(&made.dataset("total_amount").await?)?;
    let online = store.online("taxi_v2").await?;
    let request =
        [("pickup_at", last.plus(TimeDelta::hours(10)).into()), ("pickup_zone", 161.into()), ("trip_distance", 2.4.into())];
    let row = online.encode_row(&request)?;
    let values: Vec<f64> =
        made.manifest().features.iter().map(|name| row.number(name).map(|x| x.unwrap_or(f64::NAN))).collect::<Result<_, _>>()?;
    let features = asof::ndarray::Array2::from_shape_vec((1, values.len()), values)?;
    println!(
        "\na ride of 2.4 miles from zone 161, where {:?} rides began in the hour before {last}: {:.2} dollars",
        row.number("trips_1h")?,
        model.predict(&features)[0]
    );
    Ok(())
}

/// A row of the table.
fn shown(name: &str, report: &BacktestReport) {
    match report.mean() {
        Some(mean) => println!("{name:<38} {:>7.4} {:>7.4} {:>7.4}", mean.r2, mean.mae, mean.rmse),
        None => println!("{name:<38} nothing to score"),
    }
}

fn month_start(month: NaiveDate, zone: Zone) -> Result<AsOf, Box<dyn Error>> {
    let folds = Folds::monthly(month, month, zone)?;
    Ok(folds.iter().next().ok_or("a month has a first instant")?.as_of())
}
