//! An embedded feature store, correct in time, on Apache DataFusion.
//!
//! asof turns **facts** (observations stored as they were made) into **features** as they could have been known at an
//! instant, keeps them for training, and serves the same values to a model at inference.
//!
//! # A tour by task
//!
//! | to | see |
//! |---|---|
//! | open a store on a disk or on S3 | [`FeatureStore::open`], [`StoreOptions`], [`storage::Locations`] |
//! | read many or large objects as bytes | [`storage::BulkReader`], [`storage::DiskCache`] |
//! | load files, or register them where they lie | [`FeatureStore::ingest`], [`FeatureStore::register_table`], [`catalog::FactTable`] |
//! | register, repair and look at tables in Hive's SQL | [`FeatureStore::execute`], [`ddl`] |
//! | query what was visible at an instant | [`FeatureStore::sql`], [`AsOf`], the rule in [`mod@time`] |
//! | query that at each row's own instant | [`temporal`], in SQL [`ASOF JOIN`](sql::asof_join) and [`trailing`](sql::trailing) |
//! | keep a query's rows, and know what they were made of | [`FeatureStore::ctas`], [`extract`], [`FeatureStore::lineage`], [`mod@lineage`] |
//! | clean up | [`FeatureStore::gc`], [`gc::Gc`] |
//! | decide about an error | [`Error::kind`], [`Error::is_retryable`] |
//! | use functions of Presto and Athena | [`sql::functions`] |
//! | run Rust over a table's files in parallel | [`FeatureStore::shards`], [`shards`] |
//! | define features | [`FeatureSet`], [`encoder`], [`Aggregate`] |
//! | write an encoder | [`encoder::Encoder`], [`encoder::FittedEncoder`], [`encoder::encoder_fn`], [`AsOfView`] |
//! | describe and compare definitions | [`FeatureSet::describe`], [`FeatureSet::diff`] |
//! | know what a materialization would read and compute | [`FeatureStore::plan`], [`MaterializationPlan`] |
//! | list what is published, open it by its id, and know what would differ now | [`FeatureStore::materializations`], [`FeatureStore::open_materialization`], [`FeatureStore::stale`] |
//! | compute a materialization again and compare it | [`FeatureStore::replay`] |
//! | get training data | [`FeatureStore::training_set`], [`training::TrainingSet`], [`FeatureStore::materialize`], [`training::Dataset`] |
//! | split it, sum it up, keep it | [`training::Split`], [`training::Summary`], [`FeatureStore::kept_training_set`] |
//! | serve a model | [`FeatureStore::online`], [`online::Online`] |
//! | follow new materializations while serving | [`FeatureStore::live`], [`FeatureStore::live_group`], [`online::LiveGroup`] |
//! | record a model, and know in a year what it saw | [`FeatureStore::record_model`], [`FeatureStore::why_model`], [`models`] |
//! | prove that a service serves what training saw | [`FeatureStore::verify_parity`], [`mod@parity`] |
//! | backtest and watch drift | [`FeatureStore::backtest`], [`mod@backtest`] |
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> asof::Result<()> {
//! use asof::{AsOf, FeatureStore};
//!
//! let store = FeatureStore::open("memory://docs").await?;
//! let as_of: AsOf = "2014-11-01".parse()?;
//! let one = store.sql("SELECT 1 AS x", as_of).await?;
//! assert_eq!(one.count().await?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Flags
//!
//! | flag | default | brings |
//! |---|---|---|
//! | `aws` | on | stores on S3 and what speaks its protocol: `s3://` |
//! | `linfa` | on | `backtest::LinearRegression`, `backtest::Backtest::new`, `encoder::Pca`, `encoder::KMeans`, and `linfa::Dataset::from` for a [`training::Dataset`] |
//! | `gcp` | off | stores on Google Cloud Storage: `gs://` |
//! | `azure` | off | stores on Azure Blob Storage: `az://` |
//! | `cluster` | off | `cluster::Codec` and `cluster::object_stores`, for plans that run in other processes |
//! | `plot` | off | PNG plots: `report::Scatter`, `report::Density` |
//!
//! `aws`, `gcp` and `azure` share an HTTP client with TLS, which the first of them brings. Without its flag, a URL is refused with
//! an error that names the flag; a store that is mounted ([`storage::Locations::mount`]) needs none.
//!
//! A service that only reads a store on its own disk needs no flag:
//!
//! ```toml
//! asof = { path = "../asof", default-features = false }
//! ```

pub mod backtest;
mod cache;
pub mod catalog;
mod claimed_dir;
pub mod cluster;
mod ctas;
pub mod ddl;
pub mod encoder;
mod engine;
pub mod error;
pub mod extract;
pub mod feature_set;
pub mod gc;
pub mod ingest;
mod kv;
mod layout;
pub mod lineage;
mod manifest;
pub mod materialize;
pub mod models;
pub mod name;
mod numeric;
pub mod online;
pub mod parity;
pub mod report;
mod scan;
mod served;
pub mod shards;
pub mod sql;
pub mod storage;
mod store;
pub mod temporal;
mod text_table;
pub mod time;
pub mod training;
pub mod value;
mod workspace;

/// The libraries whose types appear in this one's signatures, as it was built with them: naming them through here keeps a
/// program on the same versions.
pub use {arrow, datafusion, ndarray, object_store};

pub use encoder::AsOfView;
pub use engine::Resources;
pub use error::{Error, ErrorKind, Result};
pub use feature_set::FeatureSet;
pub use materialize::{Materialization, MaterializationPlan};
pub use store::{CachePlace, DiskCacheSettings, FeatureStore, StoreOptions, StoreSettings};
pub use temporal::{Aggregate, Expression, WindowLength};
pub use time::AsOf;
pub use value::Value;

/// The programs of the README and of the pages in `docs/`, compiled with the doc tests.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/catalogs-and-ddl.md")]
    struct CatalogsAndDdl;
    #[doc = include_str!("../docs/coming-from-chronon.md")]
    struct ComingFromChronon;
    #[doc = include_str!("../docs/coming-from-kaskada.md")]
    struct ComingFromKaskada;
    #[doc = include_str!("../docs/coming-from-openmldb.md")]
    struct ComingFromOpenMldb;
    #[doc = include_str!("../docs/composing-sets.md")]
    struct ComposingSets;
    #[doc = include_str!("../docs/encoders.md")]
    struct Encoders;
    #[doc = include_str!("../docs/extracts-and-gc.md")]
    struct ExtractsAndGc;
    #[doc = include_str!("../docs/feature-sets.md")]
    struct FeatureSets;
    #[doc = include_str!("../docs/loading.md")]
    struct Loading;
    #[doc = include_str!("../docs/materializations.md")]
    struct Materializations;
    #[doc = include_str!("../docs/models.md")]
    struct Models;
    #[doc = include_str!("../docs/object-stores.md")]
    struct ObjectStores;
    #[doc = include_str!("../docs/parity.md")]
    struct Parity;
    #[doc = include_str!("../docs/serving.md")]
    struct Serving;
    #[doc = include_str!("../docs/sql-in-time.md")]
    struct SqlInTime;
    #[doc = include_str!("../docs/training-sets.md")]
    struct TrainingSets;
}
