//! SQL over the tables of a store: which tables a query names, how it is read, checked and planned.
//!
//! [`FeatureStore::sql`](crate::FeatureStore::sql), extracts and the queries of feature sets all pass through here. They accept
//! DataFusion's SQL, and beyond it:
//!
//! | form | gives |
//! |---|---|
//! | [`ASOF JOIN`](asof_join) | to each row the closest fact |
//! | [`trailing`] | to each row aggregates over the facts in windows that end there |
//! | [`functions`] | the functions of Presto and Athena |
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use asof::{AsOf, FeatureStore, catalog::{FactTable, KnownAt}, ingest::Ingest};
//! use datafusion::arrow::util::pretty::pretty_format_batches;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
//! // Rides, whose fare is known when they end, and requests, known at once.
//! std::fs::write(path("rides.csv"), "\
//! began,ended,zone,fare
//! 2014-11-03T08:00:00Z,2014-11-03T08:20:00Z,161,9.5
//! 2014-11-03T08:30:00Z,2014-11-03T09:10:00Z,161,31.5
//! ")?;
//! std::fs::write(path("requests.csv"), "\
//! at,zone
//! 2014-11-03T09:00:00Z,161
//! 2014-11-03T10:00:00Z,161
//! ")?;
//! let store = FeatureStore::open("memory://sql").await?;
//! let rides = FactTable::new("began", KnownAt::column("ended"));
//! let requests = FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero()));
//! store.ingest(&Ingest::new("rides", rides)?.from(path("rides.csv"))).await?;
//! store.ingest(&Ingest::new("requests", requests)?.from(path("requests.csv"))).await?;
//!
//! let as_of: AsOf = "2014-12-01".parse()?;
//! // At nine the ride of half past eight is under way: its fare is not known.
//! let last = "SELECT q.at, r.fare FROM requests AS q \
//!             ASOF JOIN rides AS r MATCH_CONDITION (q.at > r.began) ON q.zone = r.zone ORDER BY q.at";
//! let rows = store.sql(last, as_of).await?.collect().await?;
//! assert_eq!(pretty_format_batches(&rows)?.to_string(), "\
//! +----------------------+------+
//! | at                   | fare |
//! +----------------------+------+
//! | 2014-11-03T09:00:00Z | 9.5  |
//! | 2014-11-03T10:00:00Z | 31.5 |
//! +----------------------+------+");
//!
//! let window = "SELECT at, rides, mean_fare FROM trailing('requests', 'at', 'rides', 'zone', \
//!               '1 day', 'count(*) AS rides, avg(fare) AS mean_fare') ORDER BY at";
//! let rows = store.sql(window, as_of).await?.collect().await?;
//! assert_eq!(pretty_format_batches(&rows)?.to_string(), "\
//! +----------------------+-------+-----------+
//! | at                   | rides | mean_fare |
//! +----------------------+-------+-----------+
//! | 2014-11-03T09:00:00Z | 1     | 9.5       |
//! | 2014-11-03T10:00:00Z | 2     | 20.5      |
//! +----------------------+-------+-----------+");
//! # Ok(())
//! # }
//! ```

pub mod asof_join;
pub mod functions;
pub mod trailing;

mod calls;
mod expressions;
mod facts;
mod ignored_clauses;
mod information_schema;
mod interval;
mod origin;
mod parameters;
mod query;
mod row_times;
mod show;
mod statement;
mod tables;
mod view;

pub(crate) use expressions::ExpressionCheck;
pub(crate) use facts::{facts, no_facts};
#[cfg(feature = "cluster")]
pub(crate) use functions::{NamedFunctions, OwnFunctions};
pub(crate) use information_schema::InformationSchema;
pub(crate) use query::{QueryContext, has_subquery, plan_is_rowwise, query, query_with, table_rows};
pub(crate) use row_times::{KNOWN_COLUMN, TimedRows, known_rows, rows_with_times};
pub(crate) use tables::{QueryTables, open_tables, tables_in};
pub(crate) use view::{ViewText, check_view, no_view_facts, view_facts};
