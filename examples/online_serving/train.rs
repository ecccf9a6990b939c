//! The other side: writes a root that the service opens. A run with a later as-of makes newer features and their model.
//! The trips are generated, and none of this is linked into a service that is built with `--no-default-features`.

use asof::{
    AsOf, FeatureStore, StoreOptions,
    backtest::{Learner, LinearRegression, OnRedundant},
    catalog::{FactTable, KnownAt},
    ingest::{Ingest, OnReject},
    models::NewModel,
};
use clap::Args;

use crate::{Fault, MODEL, RIDES, ZONES, model::LinearModel, taxi};

const TABLE: &str = "nyc_taxi";
const LABEL: &str = "total_amount";
/// January to July 2014.
const MONTHS: std::ops::RangeInclusive<u32> = 1..=7;

#[derive(Args)]
pub(crate) struct Options {
    /// The root: a path, or s3://bucket/prefix. It is made if it is not there.
    #[arg(long)]
    root: String,
    /// The instant of the features: a date, or RFC 3339. Later ones are newer; the trips end with July 2014.
    #[arg(long, default_value = "2014-06-01")]
    as_of: AsOf,
    /// Generated trips per month, of the first run.
    #[arg(long, default_value_t = 3_000)]
    trips_per_month: u32,
}

pub(crate) async fn train(options: Options) -> Result<(), Fault> {
    // Its rows are written and not served: nothing is worth a cache.
    let store = crate::open(&options.root, StoreOptions::default().cache_in_memory()).await?;
    if !store.tables().await?.iter().any(|table| table.table() == TABLE) {
        load(&store, options.trips_per_month).await?;
    }
    // What is drawn on comes first: a service that looks between the two finds newer zones, with which the older model goes on.
    store.materialize(ZONES, options.as_of).await?;
    let made = store.materialize(RIDES, options.as_of).await?;
    // A service goes over to the newer rides when their model is recorded.
    let data = made.dataset(LABEL).await?;
    let fitted = LinearRegression::new().on_redundant(OnRedundant::Drop).fit(&data)?;
    let linear = fitted.linear().ok_or("a linear regression is linear")?;
    let errors = &data.targets - &fitted.predict(&data.records);
    let mae = errors.mapv(f64::abs).mean().unwrap_or(f64::NAN);
    let model = LinearModel { intercept: linear.intercept, coefficients: data.features.into_iter().zip(linear.slopes).collect() };
    let new = NewModel::new(MODEL, &made).artifact(serde_json::to_vec(&model)?).metadata("mae", format!("{mae:.2}"));
    let recorded = store.record_model(new).await?;
    println!("model {} of {} rows as of {}, wrong by {mae:.2} dollars in the mean", recorded.id(), made.rows(), made.as_of());
    Ok(())
}

/// Loads generated trips. The clocks stood in New York, and a fare is known when the trip ends.
async fn load(store: &FeatureStore, trips_per_month: u32) -> Result<(), Fault> {
    let files = tempfile::tempdir()?;
    let config = taxi::Config { trips_per_month, ..Default::default() };
    for month in MONTHS {
        taxi::write_month(&config, month, files.path())?;
    }
    let table = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse()?);
    let load = Ingest::new(TABLE, table)?.from(files.path().to_string_lossy()).on_reject(OnReject::Skip);
    println!("loaded {} trips", store.ingest(&load).await?.rows);
    Ok(())
}
