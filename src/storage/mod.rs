//! Object stores by URL: the store's root, fact tables and source files, on a disk, in memory or on S3.
//! All input and output of this library passes through here or through DataFusion with the same stores.
//!
//! | to | see |
//! |---|---|
//! | open a location | [`Locations::open`] |
//! | set time-outs, retries and requests in flight | [`RequestSettings`] |
//! | list, read, publish and delete objects | [`Location`] |
//! | read many or large objects fast | [`BulkReader`] |
//! | cache or download objects to this machine's disk | [`DiskCache`], [`BulkReader::download_to`] |
//! | cache what a store's queries read | [`StoreOptions::disk_cache`](crate::StoreOptions::disk_cache) |

mod bulk;
mod cached_ranges;
mod clients;
mod contain;
mod disk_cache;
mod download;
mod encodings;
mod failure;
mod fetch;
mod files;
mod guard;
mod inspect;
mod listing;
mod local;
mod local_file;
mod location;
mod locations;
mod parquet_io;
mod parquet_scan;
mod parquet_write;
mod schema_depth;
mod scratch;
mod sealed;
mod staging;
mod statistics;

pub use bulk::{BulkRead, BulkReader, ReadSettings};
pub use clients::RequestSettings;
pub use disk_cache::DiskCache;
pub use download::Download;
pub use files::FileIdentity;
pub use location::{Location, Published};
pub use locations::Locations;
pub use object_store::ObjectMeta;
pub use statistics::ReadStatistics;

pub(crate) use contain::{contained, contained_rows};
pub(crate) use encodings::suited_to;
pub(crate) use inspect::{Inspected, inspect};
pub(crate) use listing::ListedKind;
pub(crate) use locations::{redacted, without_credentials};
pub(crate) use parquet_io::{ObjectReader, read_footer, read_unchanged_footer};
#[cfg(feature = "cluster")]
pub(crate) use parquet_scan::PinnedScan;
pub(crate) use parquet_scan::{ParquetTable, is_pinned_scan, pinned_source};
pub(crate) use parquet_write::{FinishedParquet, ParquetFile};
pub(crate) use scratch::{dir as scratch_dir, file as scratch_file, sweep as sweep_scratch};
pub(crate) use sealed::{check_name, seal, unseal};
pub(crate) use staging::chance;
