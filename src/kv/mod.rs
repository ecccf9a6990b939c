//! The key-value trait behind the cache, with a memory and a sled implementation.
//! It is a cache: everything in it can be rebuilt from the store's root.

mod memory;
mod or_memory;
mod sled;

use std::{fmt::Debug, path::Path, sync::Arc};

pub(crate) use memory::MemoryKv;

use self::{
    or_memory::OrMemory,
    sled::{Failure, SledKv},
};
use crate::{claimed_dir::Owner, error::Result};

/// A flat map of bytes to bytes, used as a cache: whatever it loses is rebuilt.
pub(crate) trait KeyValue: Debug + Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Cache`](crate::Error::Cache) when the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Sets all these keys, in order. It is not atomic: a reader may see some of them before others.
    ///
    /// # Errors
    /// [`Error::Cache`](crate::Error::Cache) when the store cannot be written.
    fn put_all(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()>;

    /// Removes every key that starts with this prefix; the empty one removes all.
    ///
    /// # Errors
    /// [`Error::Cache`](crate::Error::Cache) when the store cannot be written.
    fn remove_prefix(&self, prefix: &[u8]) -> Result<()>;
}

/// Opens the sled database in this directory, or makes it. A directory of a user that holds anything else is refused.
///
/// A damaged directory is renamed to `<directory>.damaged-<n>` and replaced by a new one; only the newest damaged directory is
/// kept. When its disk is full, or the database fails in use, the cache is kept in memory until it is opened again. Each of
/// these logs a warning.
///
/// # Errors
/// [`Error::CacheLocked`](crate::Error::CacheLocked) when another process holds the directory,
/// [`Error::Cache`](crate::Error::Cache) when it cannot be made, written or renamed, or holds files of somebody else.
pub(crate) fn open(dir: &Path, owner: Owner) -> Result<Arc<dyn KeyValue>> {
    match SledKv::open(dir, owner) {
        Ok(kv) => Ok(Arc::new(OrMemory::new(Arc::new(kv)))),
        Err(Failure::Full(reason)) => {
            tracing::warn!(cache = %dir.display(), reason, "the cache is kept in memory");
            Ok(Arc::new(MemoryKv::default()))
        }
        Err(failure) => Err(failure.at(dir)),
    }
}
