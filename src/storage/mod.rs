//! Object stores by URL: the store's root, fact tables and source files, on a disk, in memory or on S3.
//! All input and output of this library passes through here or through DataFusion with the same stores.

mod files;
mod inspect;
mod local;
mod location;
mod parquet_io;

pub use files::FileIdentity;
pub(crate) use inspect::{Inspected, inspect};
pub use location::{Location, Locations};
pub(crate) use location::{Published, without_credentials};
pub(crate) use parquet_io::{FinishedParquet, ObjectReader, ParquetFile, read_footer};
