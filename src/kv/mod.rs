//! The key-value trait behind the cache, with a memory and a sled implementation.
//! Nothing is kept here that cannot be rebuilt from the store's root.

mod memory;
mod or_memory;
mod sled;

use std::{fmt::Debug, path::Path, sync::Arc};

pub use memory::MemoryKv;

use self::{
    or_memory::OrMemory,
    sled::{Failure, SledKv},
};
use crate::error::Result;

/// A flat map of bytes to bytes; all of it is cache.
pub trait KeyValue: Debug + Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Cache`](crate::Error::Cache) when the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Sets all these keys, in order; a reader may see some of them before others.
    ///
    /// # Errors
    /// [`Error::Cache`](crate::Error::Cache) when the store cannot be written.
    fn put_all(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()>;

    /// Removes every key that starts with this prefix; the empty one removes all.
    ///
    /// # Errors
    /// [`Error::Cache`](crate::Error::Cache) when the store cannot be written.
    fn remove_prefix(&self, prefix: &[u8]) -> Result<()>;

    /// Waits until all that was set or removed before is as durable as the store can make it.
    ///
    /// # Errors
    /// [`Error::Cache`](crate::Error::Cache) when the store cannot be written.
    fn flush(&self) -> Result<()>;
}

/// Opens the sled database in this directory, or makes it.
///
/// A directory that is damaged is set aside as `<directory>.damaged-<n>`, of which the newest one is kept, and a new one is
/// made: it is a cache. When there is no room on its disk, or the database fails in use, everything goes on in memory until it
/// is opened again. All of that is told by a warning.
///
/// # Errors
/// [`Error::CacheLocked`](crate::Error::CacheLocked) when another process holds the directory,
/// [`Error::Cache`](crate::Error::Cache) when it cannot be made or written, or not be set aside.
pub fn open(dir: &Path) -> Result<Arc<dyn KeyValue>> {
    match SledKv::open(dir) {
        Ok(kv) => Ok(Arc::new(OrMemory::new(Arc::new(kv)))),
        Err(Failure::Full(reason)) => {
            tracing::warn!(cache = %dir.display(), reason, "the cache is kept in memory");
            Ok(Arc::new(MemoryKv::default()))
        }
        Err(failure) => Err(failure.at(dir)),
    }
}
