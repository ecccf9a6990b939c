//! A service that answers with a model's predictions: the program to copy. A trainer writes a root, and the service opens it: it
//! computes nothing, and needs no facts.
//!
//! ```text
//! cargo run --bin online_serving -- train --root /tmp/fares
//! cargo run --bin online_serving -- serve --root /tmp/fares --listen 127.0.0.1:8080 --cache /tmp/fares-cache
//!
//! curl -d '{"pickup_zone": 161, "pickup_at": "2014-06-01T14:00:00Z", "trip_distance": 2.4}' http://127.0.0.1:8080/predict
//! curl http://127.0.0.1:8080/features/161
//! cargo run --bin online_serving -- train --root /tmp/fares --as-of 2014-06-08     # while it serves
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `train.rs` | writes a root: facts, features, and a model that is recorded on them |
//! | `served.rs` | what is served: features and the model that fits them, replaced in one step |
//! | `service.rs` | the routes |
//! | `model.rs` | the model, and how it predicts |
//! | `json.rs` | JSON to values and back |
//! | `refusal.rs` | answers to requests that cannot be served |
//! | `metrics.rs` | counters in Prometheus' text format |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::{error::Error, process::ExitCode};

use asof::{FeatureStore, StoreOptions};
use clap::Parser;

mod json;
mod metrics;
mod model;
mod refusal;
mod served;
mod service;
#[cfg(feature = "train")]
#[path = "../data/taxi.rs"]
#[allow(dead_code, unreachable_pub)]
mod taxi;
#[cfg(feature = "train")]
mod train;

/// The set of rows, by which a request becomes the features of the model. It draws on [`ZONES`].
const RIDES: &str = "taxi_v2";
/// The set of entities, which is also served by key.
const ZONES: &str = "zone_demand_v1";
/// The name under which the model is recorded.
const MODEL: &str = "fare";

/// What stops a command. Requests are refused with a [`refusal::Refusal`] instead.
type Fault = Box<dyn Error + Send + Sync>;

/// Prices taxi rides.
#[derive(Parser)]
enum Command {
    /// Makes features and a model from generated trips, and publishes both below a root.
    #[cfg(feature = "train")]
    Train(train::Options),
    /// Serves what was published last, and follows what is published later.
    Serve(service::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    // The library warns by `tracing`: of a cache that was rebuilt, of a manifest that is damaged.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let done = match Command::parse() {
        #[cfg(feature = "train")]
        Command::Train(options) => train::train(options).await,
        Command::Serve(options) => service::serve(options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Opens a root. Trainer and service are built with the same definitions, and the root holds only what was made by these.
async fn open(root: &str, options: StoreOptions) -> asof::Result<FeatureStore> {
    let store = FeatureStore::open_with(root, options).await?;
    store.register(asof_features::zone_demand_v1()?)?;
    store.register(asof_features::taxi_v2()?)?;
    Ok(store)
}
