//! asof's questions on an Apache Ballista cluster.
//!
//! A [`Cluster`] is a scheduler and its executors. `store.on(&cluster)` asks the questions of a store there, with the same rows, ids and
//! content. [`Cluster::local`] starts the processes on this machine; [`Cluster::connect`] uses those that run elsewhere.
//!
//! ```no_run
//! # async fn on_a_cluster() -> Result<(), Box<dyn std::error::Error>> {
//! use asof::{AsOf, FeatureStore};
//! use asof_distributed::Cluster;
//!
//! let store = FeatureStore::open("s3://bucket/prefix").await?;
//! let cluster = Cluster::connect("df://scheduler:50050").await?;
//! let frame = store.on(&cluster).sql("SELECT count(*) FROM trips", AsOf::END_OF_TIME).await?;
//! # let _ = frame;
//! # Ok(())
//! # }
//! ```
//!
//! `docs/cluster.md` says when a cluster helps, how to start one, and what fails how.

mod address;
mod checked_rows;
mod cluster;
mod connections;
mod engine;
mod envelope;
mod error;
mod executor;
mod executor_options;
mod executors;
mod full;
mod held;
mod job;
mod jobs;
pub mod limits;
mod local;
mod logs;
mod losses;
mod no_stores;
mod rows;
mod scheduler;
mod scheduler_options;
mod scratch;
mod settings;
mod signals;
mod status;
mod version;

pub use cluster::{Cluster, Options};
pub use error::{ClusterError, error_of};
pub use executor::run_executor;
pub use executor_options::ExecutorOptions;
pub use local::{LocalOptions, Processes};
pub use logs::init_logs;
pub use scheduler::run_scheduler;
pub use scheduler_options::SchedulerOptions;
pub use signals::end_with_input;
pub use status::{ExecutorStatus, Status, status_of};
pub use version::version;

/// The program of the page on clusters, compiled with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/cluster.md")]
struct Clusters;
