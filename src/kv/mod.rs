//! The key-value trait behind the cache, with a memory and a sled implementation.
//! Nothing is kept here that cannot be rebuilt from the store's root.

mod memory;
mod sled;

use std::{fmt::Debug, path::Path, sync::Arc};

pub use memory::MemoryKv;

use crate::error::Result;

/// A flat, ordered map of bytes to bytes; all of it is cache.
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
    fn put_all(&self, entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<()>;

    /// How many keys start with this prefix.
    ///
    /// # Errors
    /// [`Error::Cache`](crate::Error::Cache) when the store cannot be read.
    fn count_prefix(&self, prefix: &[u8]) -> Result<u64>;

    /// Removes every key that starts with this prefix.
    ///
    /// # Errors
    /// [`Error::Cache`](crate::Error::Cache) when the store cannot be written.
    fn remove_prefix(&self, prefix: &[u8]) -> Result<()>;
}

/// Opens the sled database in this directory, or makes it.
///
/// # Errors
/// [`Error::CacheLocked`](crate::Error::CacheLocked) when another process holds the directory,
/// [`Error::Cache`](crate::Error::Cache) when it cannot be read.
pub fn open(dir: &Path) -> Result<Arc<dyn KeyValue>> {
    Ok(Arc::new(sled::SledKv::open(dir)?))
}
