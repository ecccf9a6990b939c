//! Extracts: the rows of a query, kept as a table under a name of their own, with a record of what they were made of.
//! They are not features: nothing that a feature set needs may come from one.
//!
//! `CREATE TABLE ... AS SELECT`, as a call: [`FeatureStore::ctas`](crate::FeatureStore::ctas) runs a query against pinned
//! table versions, writes its rows under `extracts/<name>/<run>/`, and publishes them as the table `ctas_<name>_<run>` by one
//! put-if-absent of their [`ExtractRecord`]. A reader sees all of a run or none of it; two runs of one name are two tables.
//!
//! # Time
//!
//! | an extract | holds | may be read by |
//! |---|---|---|
//! | as of T | what was visible at T | queries as of T or later, extracts, its own handle |
//! | without an as-of | all facts that have an event time | extracts without an as-of, its own handle |
//!
//! So no query as of T can reach, over however many extracts, a fact that was not visible at T: what it may read was cut at
//! T or before, and what that was made of was, too.

mod definition;
mod handle;
mod published;
mod record;

pub use definition::Extract;
pub use handle::ExtractRun;
pub(crate) use published::{find, runs, schemas, tables};
pub use record::{ExtractFile, ExtractInput, ExtractRecord, Parameter, Retention};
pub(crate) use record::{FOLDER, FORMAT, RECORD, RunName};
