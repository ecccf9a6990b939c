//! asof
pub mod backtest;
pub mod catalog;
pub mod encoder;
mod engine;
pub mod error;
pub mod feature_set;
pub mod ingest;
pub mod kv;
pub mod materialize;
pub mod name;
pub mod online;
pub mod report;
mod scan;
pub mod storage;
mod store;
mod temporal;
pub mod time;
pub mod training;

pub use engine::Resources;
pub use error::{Error, Result};
pub use feature_set::FeatureSet;
pub use materialize::Materialization;
pub use online::Value;
pub use scan::AsOfView;
pub use store::{FeatureStore, StoreOptions};
pub use temporal::Aggregate;
pub use time::AsOf;
