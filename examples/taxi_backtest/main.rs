//! The main job: loads a year of taxi trips, backtests a fit per month, draws a picture, compares feature sets, and serves three
//! requests.
//!
//! ```text
//! cargo run --example taxi_backtest                     # trips made from a seed
//! cargo run --example taxi_backtest -- --facts DIR      # real monthly files
//! cargo run --example taxi_backtest -- --gains          # and what each feature adds
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

#[path = "../data/months.rs"]
#[allow(unreachable_pub)]
mod months;
#[path = "../data/taxi.rs"]
pub mod taxi;

use std::{error::Error, path::PathBuf, process::ExitCode};

use asof::{
    FeatureStore, Materialization, StoreOptions,
    backtest::{Backtest, BacktestReport, Folds, Learner, Linear, LinearRegression},
    catalog::{FactTable, KnownAt, TableVersion},
    ingest::{Ingest, LoadReport, OnReject},
    report::{Line, Scatter},
    time::Zone,
};
use chrono::TimeDelta;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use months::months;

/// Backtests the fare of a taxi ride, month by month.
#[derive(Parser)]
struct Args {
    /// A folder of monthly CSV or Parquet files of yellow-taxi trips, instead of generated ones.
    #[arg(long)]
    facts: Option<PathBuf>,
    /// Where to write the picture.
    #[arg(long, default_value = "taxi_backtest.png")]
    picture: PathBuf,
    /// The store's root; a temporary directory when it is left out.
    #[arg(long)]
    root: Option<String>,
    /// Generated trips per month.
    #[arg(long, default_value_t = 5_000)]
    trips_per_month: u32,
    /// Also leave out each feature of `taxi_v2` in turn.
    #[arg(long)]
    gains: bool,
}

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
    let args = Args::parse();
    let work = tempfile::tempdir()?;
    let root = args.root.clone().unwrap_or_else(|| work.path().join("store").to_string_lossy().into_owned());
    let store = FeatureStore::open_with(&root, StoreOptions::default()).await?;
    for set in [asof_features::taxi_v1()?, asof_features::zone_demand_v1()?, asof_features::taxi_v2()?] {
        store.register(set)?;
    }

    // 1. Facts: local New York times without a zone; a fare is known when the trip ends.
    let new_york: Zone = "America/New_York".parse()?;
    let facts = args.facts.clone().unwrap_or_else(|| work.path().join("trips"));
    if args.facts.is_none() {
        let config = taxi::Config { trips_per_month: args.trips_per_month, ..Default::default() };
        taxi::write_csv(&config, &facts)?;
        println!("generated {} trips of {} (seed {})", 12 * config.trips_per_month, config.year, config.seed);
    }
    let table = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone(new_york);
    let load = Ingest::new("nyc_taxi", table)?
        .from(facts.to_string_lossy())
        .rename("pickup_datetime", "pickup_at")
        .rename("dropoff_datetime", "dropoff_at")
        .rename("pickup_location_id", "pickup_zone")
        .on_reject(OnReject::Skip);
    let LoadReport { version, rows, quality, .. } = store.ingest(&load).await?;
    println!("loaded {rows} trips into {} partitions", version.partitions().len());
    // Rows that can be read may still be wrong. The report lists fares below zero, trips that end before they start, columns
    // without values, and what changed from month to month.
    if let Some(quality) = quality {
        println!("{quality}");
    }

    // 2. Fit at each month's first instant on what was visible, and score the month that follows.
    let folds = folds(&version, new_york)?;
    let all = folds.clone();
    let last = folds.iter().last().ok_or("there is no month to score")?.as_of();
    let bar =
        ProgressBar::new(folds.iter().count() as u64).with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} folds")?);
    let steps = bar.clone();
    let backtest = Backtest::new("taxi_v1", "total_amount", folds).on_progress(move |done| steps.set_position(done as u64));
    let report = store.backtest(&backtest).await?;
    bar.finish_and_clear();
    println!("{report}");

    // 3. The last fit as a picture.
    let trained = store.materialize("taxi_v1", last).await?;
    let data = trained.dataset("total_amount").await?;
    let model = LinearRegression::new().fit(&data)?.linear().ok_or("a linear regression is linear")?;
    let (x, y) = (data.records.column(0).to_vec(), data.targets.to_vec());
    let title = format!("Taxi rides in business hours, as known at {last}");
    let line = Some(Line { slope: model.slopes[0], intercept: model.intercept });
    let (x_label, y_label) = ("trip distance (miles)", "total amount (dollars)");
    Scatter { title: &title, x_label, y_label, x: &x, y: &y, line }.write_png(&args.picture)?;
    println!("wrote {}", args.picture.display());

    // 4. Beside a set that draws on what was known of the pick-up zone: with features of each ride's instant, and as a service has them
    // that materializes the zones once a day.
    let fresh = || Backtest::new("taxi_v2", "total_amount", all.clone());
    println!("\n{:<34} {:>8} {:>8} {:>8}", "mean of the folds", "R2", "MAE", "RMSE");
    shown("taxi_v1: distance alone", &report);
    shown("taxi_v2, features of the instant", &store.backtest(&fresh()).await?);
    shown("taxi_v2, refreshed once a day", &store.backtest(&fresh().refreshed(TimeDelta::days(1))).await?);
    if args.gains {
        println!("\n{}", store.feature_gains(&fresh()).await?);
    }

    serve(&store, &trained, &x, &model).await
}

/// A row of the comparison.
fn shown(name: &str, report: &BacktestReport) {
    match report.mean() {
        Some(mean) => println!("{name:<34} {:>8.4} {:>8.4} {:>8.4}", mean.r2, mean.mae, mean.rmse),
        None => println!("{name:<34} nothing to score"),
    }
}

/// 5. Three requests, answered with the states that training learned.
async fn serve(store: &FeatureStore, trained: &Materialization, training: &[f64], model: &Linear) -> Result<(), Box<dyn Error>> {
    let online = store.online_for(trained).await?;
    for &distance in training.iter().step_by((training.len() / 3).max(1)).take(3) {
        let served = online.encode_row(&[("trip_distance", distance.into())])?.number("trip_distance")?.unwrap_or(f64::NAN);
        if served.to_bits() != distance.to_bits() {
            return Err(format!("online {served} and offline {distance} differ").into());
        }
        let dollars = model.intercept + model.slopes[0] * served;
        println!("request: {distance:5.2} miles -> feature {served:?}, as in training; predicted {dollars:.2} dollars");
    }
    println!("online and offline agree bit for bit");
    Ok(())
}

/// A fold for each month that has facts before it. Months with only a few misdated trips are left out.
fn folds(version: &TableVersion, zone: Zone) -> Result<Folds, Box<dyn Error>> {
    let months = months(version, zone);
    let (first, last) = (months.get(1).ok_or("a backtest needs two months of facts")?, months[months.len() - 1]);
    Ok(Folds::monthly(*first, last, zone)?)
}
