//! The shortest complete program: load facts, materialize features, and serve them.
//!
//! ```text
//! cargo run --example quickstart
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::{error::Error, process::ExitCode};

use asof::{
    Aggregate, AsOf, FeatureSet, FeatureStore, Value,
    catalog::{FactTable, KnownAt},
    ingest::Ingest,
};
use chrono::TimeDelta;

/// Four rides of a morning; the last one has not ended at 10:00.
const RIDES: &str = "\
pickup_at,dropoff_at,zone,fare
2014-11-03 08:10:00,2014-11-03 08:25:00,161,9.5
2014-11-03 09:05:00,2014-11-03 09:20:00,161,12.0
2014-11-03 09:40:00,2014-11-03 09:50:00,237,7.0
2014-11-03 09:45:00,2014-11-03 10:30:00,161,31.5
";

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
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("rides.csv"), RIDES)?;
    let store = FeatureStore::open(&dir.path().join("store").to_string_lossy()).await?;

    // A fare is known when the ride ends. The times are New York local time.
    let rides = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse()?);
    store.ingest(&Ingest::new("rides", rides)?.from(dir.path().join("*.csv").to_string_lossy())).await?;

    let demand = FeatureSet::entities("demand_v1", "rides")
        .key("zone")
        .lookup("fare", "last_fare")
        .window(TimeDelta::hours(1), [Aggregate::count().named("rides_1h"), Aggregate::mean("fare").named("mean_fare_1h")])
        .build()?;
    store.register(demand)?;

    // At 10:00 in New York the ride that began at 9:45 has not ended, so its fare is not known.
    let ten: AsOf = "2014-11-03T10:00:00-05:00".parse()?;
    let made = store.materialize("demand_v1", ten).await?;
    made.dataframe().await?.show().await?;

    let zone = store.online("demand_v1").await?.get(&[Value::Int(161)])?;
    println!(
        "zone 161 served: {} ride in the last hour, last fare {:?}",
        zone.number("rides_1h")?.unwrap_or(0.0),
        zone.value("last_fare")?
    );
    Ok(())
}
