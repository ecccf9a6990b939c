//! Draws where rides begin: millions of pick-ups, counted by longitude and latitude shard by shard.
//!
//! ```text
//! cargo run --release --example density_plot                                    # four million made from a seed
//! cargo run --release --example density_plot -- --facts ../shared/data/uber_2014
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

#[path = "../data/manhattan.rs"]
pub mod manhattan;

use std::{error::Error, path::PathBuf, process::ExitCode};

use arrow::{
    array::{Array, AsArray},
    datatypes::Float64Type,
};
use asof::{
    AsOf, FeatureStore,
    catalog::{FactTable, KnownAt},
    ingest::Ingest,
    report::Density,
    shards::ShardRows,
};
use chrono::TimeDelta;
use clap::Parser;
use datafusion::prelude::{col, lit};

/// Draws the density of pick-ups in Manhattan.
#[derive(Parser)]
struct Args {
    /// A folder of Uber's pick-ups of 2014 (`Date/Time,Lat,Lon,Base`), instead of generated ones.
    #[arg(long)]
    facts: Option<PathBuf>,
    /// Where to write the picture.
    #[arg(long, default_value = "density_plot.png")]
    picture: PathBuf,
    /// Generated pick-ups.
    #[arg(long, default_value_t = 4_000_000)]
    pickups: u32,
    /// Shards of the table.
    #[arg(long, default_value_t = 16)]
    shards: usize,
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
    let store = FeatureStore::open(&work.path().join("store").to_string_lossy()).await?;
    let facts = args.facts.clone().unwrap_or_else(|| work.path().join("pickups"));
    if args.facts.is_none() {
        manhattan::write_csv(args.pickups, 7, &facts)?;
        println!("generated {} pick-ups", args.pickups);
    }
    let table = FactTable::new("pickup_at", KnownAt::after(TimeDelta::zero())).zone("America/New_York".parse()?);
    let mut load = Ingest::new("pickups", table)?.from(facts.to_string_lossy()).file_bytes(4 << 20);
    for (from, to) in [("Date/Time", "pickup_at"), ("Lat", "pickup_latitude"), ("Lon", "pickup_longitude")] {
        load = load.rename(from, to);
    }
    let report = store.ingest(&load).await?;
    println!("loaded {} pick-ups", report.rows);

    let counts_passengers = report.version.columns().iter().any(|column| column.name == "passenger_count");
    if !counts_passengers {
        println!("these facts do not count passengers: every pick-up is drawn, not only those with more than one");
    }
    let as_of: AsOf = "2015-01-01".parse()?;
    let grid = store
        .shards("pickups", args.shards, as_of)
        .await?
        .plan(move |rides| {
            let rides = if counts_passengers { rides.filter(col("passenger_count").gt(lit(1)))? } else { rides };
            Ok(rides.select_columns(&["pickup_longitude", "pickup_latitude"])?)
        })
        .map(count)
        .reduce(|whole, shard| Ok(whole.merged(&shard).unwrap_or(shard)))
        .await?
        .ok_or("a table has a shard at least")?;
    grid.write_png(&args.picture)?;
    println!("drew {} pick-ups, {} outside the window, wrote {}", grid.inside(), grid.outside(), args.picture.display());
    Ok(())
}

/// The pick-ups of a shard, counted on Manhattan's window.
fn count(rows: ShardRows) -> asof::Result<Density> {
    let mut grid = Density::new((-74.03, -73.92), (40.70, 40.78), (1000, 1000));
    for batch in rows {
        let batch = batch?;
        let (x, y) = (batch.column(0).as_primitive::<Float64Type>(), batch.column(1).as_primitive::<Float64Type>());
        for row in (0..batch.num_rows()).filter(|&row| x.is_valid(row) && y.is_valid(row)) {
            grid.add(x.value(row), y.value(row));
        }
    }
    Ok(grid)
}
