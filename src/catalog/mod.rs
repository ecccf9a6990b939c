//! The catalog: which fact tables exist, what their times mean, and which files each version of them holds.
//! It reads no rows; a version, once published, never changes.

mod discover;
mod hive;
mod spec;
mod version;
mod versions;

pub(crate) use discover::{discover, file_facts};
pub(crate) use hive::{is_hidden, partition_path};
pub use spec::{FactTable, KnownAt, TimeColumn};
pub(crate) use version::FORMAT;
pub use version::{Bounds, Column, FileEntry, LoadRecord, LoadedSource, Partition, Rename, TableLocation, TableVersion};
pub(crate) use version::{SourceColumn, SourceSchema};
pub(crate) use versions::Catalog;
