//! Extracts: the rows of a query, kept as a table of their own, with a record of what they were made of.
//! Feature sets cannot read them.
//!
//! [`FeatureStore::ctas`](crate::FeatureStore::ctas) is `CREATE TABLE ... AS SELECT` as a method. It runs a query against pinned
//! table versions, writes its rows under `extracts/<name>/<run>/`, and publishes them as the table `ctas_<name>_<run>` by one
//! put-if-absent of their [`ExtractRecord`]. A reader sees a run whole or not at all. Two runs of one name are two tables.
//!
//! # Time
//!
//! | an extract | holds | can be read by |
//! |---|---|---|
//! | as of T | what was visible at T | queries as of T or later, extracts, its own handle |
//! | without an as-of | all facts that have an event time | extracts without an as-of, its own handle |
//!
//! So a query as of T never reaches a fact that was not visible at T, through any chain of extracts: every extract that it can
//! read was cut at T or before, and so were the extracts that this one was made of.

mod definition;
mod handle;
mod published;
mod record;

pub use definition::Extract;
pub use handle::ExtractRun;
pub(crate) use published::{find, runs, schemas, tables};
pub use record::{ExtractFile, ExtractInput, ExtractRecord, Parameter, Retention};
pub(crate) use record::{FORMAT, RunName, horizon_of};
