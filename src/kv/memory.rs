//! A key-value store in memory, for remote roots without a cache directory and for tests.
//! Its content is lost when its last handle is dropped.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use super::KeyValue;
use crate::error::Result;

/// A [`KeyValue`] that keeps everything in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryKv(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl KeyValue for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn put_all(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(entries.iter().cloned());
        Ok(())
    }

    fn remove_prefix(&self, prefix: &[u8]) -> Result<()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }
}
