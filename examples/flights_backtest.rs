//! Whether a flight leaves late: a backtest month by month, with features of each flight's instant and with those that a service has
//! that materializes once a day, and what each feature adds.
//!
//! ```text
//! cargo run --release --example flights_backtest                                          # two months of generated flights
//! cargo run --release --example flights_backtest -- --facts ../shared/data/flights_2013   # 252,484 real ones
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::{error::Error, path::PathBuf, process::ExitCode};

use asof::{
    AsOf, FeatureStore, StoreOptions,
    backtest::{Backtest, Folds, LinearRegression, OnRedundant},
    time::Span,
};
use chrono::{DateTime, Days, Months, TimeDelta, Utc};
use clap::Parser;

#[path = "data/flights.rs"]
#[allow(unreachable_pub)]
mod flights;

/// Backtests whether flights leave late.
#[derive(Parser)]
struct Arguments {
    /// A folder with `flights*.csv*` and `weather*.csv*`; generated if not given.
    #[arg(long)]
    facts: Option<PathBuf>,
    /// Generated days, from 1 January 2013.
    #[arg(long, default_value_t = 59)]
    days: u64,
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
    let arguments = Arguments::parse();
    let work = tempfile::tempdir()?;
    let first: DateTime<Utc> = "2013-01-01T05:00:00Z".parse()?;
    let (dir, end) = match &arguments.facts {
        Some(dir) => (dir.clone(), first + Months::new(9)),
        None => {
            let dir = work.path().join("csv");
            flights::write_csv(&dir, arguments.days as i64, 1)?;
            (dir, first + Days::new(arguments.days))
        }
    };
    let root = work.path().join("store");
    let store = FeatureStore::open_with(&root.to_string_lossy(), StoreOptions::default().cache_in_memory()).await?;
    flights::load(&store, &dir, work.path()).await?;
    for set in [asof_features::flights_v1()?, asof_features::flights_v2()?] {
        store.register(set)?;
    }

    // Fit at the beginning of each month but the first, and score the flights of the month. A flight's label is known when it leaves.
    let instant = |at: DateTime<Utc>| AsOf::from_micros(at.timestamp_micros());
    let starts: Vec<_> = (1..9).map(|month| first + Months::new(month)).filter(|start| *start < end).collect();
    let folds =
        starts.iter().map(|start| (instant(*start), Span::new(instant(*start), instant((*start + Months::new(1)).min(end)))));
    let folds = Folds::new(folds)?;
    // Some generated weather is a function of other weather.
    let learner = || LinearRegression::new().on_redundant(OnRedundant::Drop);
    let fresh = || Backtest::with_learner("flights_v2", "late", folds.clone(), learner());
    println!("features of the instant\n{}", store.backtest(&fresh()).await?);
    for (name, every) in [("an hour", 1), ("a day", 24), ("a week", 168)] {
        let report = store.backtest(&fresh().refreshed(TimeDelta::hours(every))).await?;
        let mean = report.mean().ok_or("there is no flight to score")?;
        println!("refreshed once {name}: R2 {:.4}, MAE {:.4}, RMSE {:.4}", mean.r2, mean.mae, mean.rmse);
    }
    println!("\nwhat each feature adds\n{}", store.feature_gains(&fresh()).await?);
    Ok(())
}
