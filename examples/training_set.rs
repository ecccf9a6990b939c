//! Builds a training set of flights: each with the weather and the delays that were known before its scheduled hour.
//!
//! ```text
//! cargo run --release --example training_set                                            # a month of generated flights
//! cargo run --release --example training_set -- --facts ../shared/data/flights_2013     # 252,484 real ones
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::{error::Error, path::PathBuf, process::ExitCode};

use asof::{AsOf, FeatureStore, StoreOptions, temporal::Spine};
use clap::Parser;
use datafusion::prelude::{col, lit};

#[path = "data/flights.rs"]
#[allow(unreachable_pub)]
mod flights;

/// Makes a training set of flights.
#[derive(Parser)]
struct Arguments {
    /// A folder with `flights*.csv*` and `weather*.csv*`; generated if not given.
    #[arg(long)]
    facts: Option<PathBuf>,
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
    let work = tempfile::tempdir()?;
    let dir = match Arguments::parse().facts {
        Some(dir) => dir,
        None => {
            let dir = work.path().join("csv");
            flights::write_csv(&dir, 31, 1)?;
            dir
        }
    };
    let root = work.path().join("store");
    let store = FeatureStore::open_with(&root.to_string_lossy(), StoreOptions::default().cache_in_memory()).await?;
    flights::load(&store, &dir, work.path()).await?;
    store.register(asof_features::flights_v1()?)?;

    // The spine: every flight that left, at its scheduled hour, with its delay as the label.
    let end = AsOf::END_OF_TIME;
    let spine = store
        .sql(
            "SELECT time_hour AS at, origin, carrier, tailnum, dep_delay AS label FROM flights WHERE dep_delay IS NOT NULL \
             ORDER BY time_hour, origin, carrier, flight, dest",
            end,
        )
        .await?;
    let rows = store.training_set("flights_v1", Spine::new(spine, "at")).await?.dataframe().await?.cache().await?;
    println!("{} flights, {} columns", rows.clone().count().await?, rows.schema().fields().len());
    let shown = ["at", "origin", "carrier", "tailnum", "label", "temp", "wind_speed", "carrier_delay_1d", "tailnum_delay_1d"];
    rows.clone().select_columns(&shown)?.limit(20_000.min(rows.clone().count().await? / 2), Some(8))?.show().await?;

    // A check that the features predict something: flights whose aircraft was late on the day before.
    let late = rows.filter(col("tailnum_delay_1d").gt(lit(10.0)))?;
    let mean = datafusion::functions_aggregate::expr_fn::avg(col("label"));
    println!("mean delay in minutes where the aircraft was more than ten minutes late on the day before, and how many:");
    let count = datafusion::functions_aggregate::expr_fn::count(col("label"));
    late.aggregate(vec![], vec![mean.alias("mean_delay"), count.alias("flights")])?.show().await?;

    // The same set, materialized for serving: the values at the last instant, by key.
    let as_of: AsOf = "2013-02-01".parse()?;
    let made = store.materialize("flights_v1", as_of).await?;
    println!("{} entities as of {as_of}, id {}", made.rows(), made.id());
    Ok(())
}
