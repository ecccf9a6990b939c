//! The catalog: which fact tables exist, what their times mean, and which files each version of them has.
//! It reads no rows. A published version never changes.

mod databases;
mod details;
mod discover;
pub(crate) mod expectation;
mod footer;
mod hive;
mod hive_type;
mod repair;
mod spec;
mod version;
mod versions;

pub(crate) use details::{DeclaredColumn, Details, TIMESTAMPS};
pub(crate) use footer::file_facts;
pub(crate) use hive::{is_hidden, partition_path, typed_value};
pub(crate) use hive_type::HiveType;
pub use repair::{Changes, RepairReport};
pub(crate) use repair::{NewPartition, OnConflict, add_partitions, drop_partitions, partitions_like, register, repair};
pub(crate) use spec::FactTimes;
pub use spec::{FactTable, KnownAt, TimeColumn};
pub use version::{Bounds, Column, FileEntry, LoadRecord, LoadedSource, Partition, Rename, TableLocation, TableVersion};
pub(crate) use version::{FORMAT, SourceColumn, SourceSchema};
pub(crate) use versions::Catalog;
pub use versions::{Change, VersionInfo, VersionState};
