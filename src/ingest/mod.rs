//! Loading: source files into a registered fact table of month folders.
//! A load is one commit: readers see all of it or none of it. A source file that was loaded before is not loaded again.
//!
//! ```text
//! plan     sources, names, types, what the load replaces                              plan/
//! read     CSV, JSON lines and Parquet into the table's columns; rejects              read/
//! check    expectations, profiles, anomalies, unique keys; quarantine, quality report check/
//! write    sort by month and event time, month files                                  write/
//! commit   one put-if-absent of the next table version                                commit.rs
//! ```
//!
//! `run.rs` calls these steps. The folders `read`, `check` and `write` do not use each other; what they share is in files of this
//! folder, which use none of them. `tests/it/ingest_rooms.rs` checks that.

mod check;
mod commit;
mod compact;
mod excerpt;
mod expectations;
mod fact_files;
mod limits;
mod load;
mod mode;
mod names;
mod options;
mod outcome;
mod plan;
mod queue;
mod read;
mod read_back;
mod rejects;
mod row_check;
mod run;
mod sources;
mod target;
mod time_format;
mod write;

pub use check::{
    anomaly::Anomaly,
    drift::{Drift, Measure},
    profile::Extreme,
    quality::{ColumnQuality, ExpectationQuality, FileQuality, LostReport, Quality, QualityReport},
};
pub(crate) use compact::compact;
pub use compact::{CompactOptions, CompactReport, CompactedPartition, PartitionOutcome};
pub(crate) use expectations::set_expectations;
pub use limits::ReadLimits;
pub use load::{Ingest, OnReject};
pub use mode::{LoadMode, OnAnomaly, OnChangedSource, OnOutsideMonth};
pub use options::{CsvOptions, Format};
pub use outcome::{LoadOutcome, LoadReport, ReplacedRows, SourceOutcome, SourceReport};
pub use plan::changes::{ColumnChange, SchemaChange};
pub(crate) use read::csv_texts::{csv_texts, typed};
pub(crate) use run::run;

pub use crate::{
    catalog::expectation::{Expect, OnViolation},
    time::month::Month,
};
