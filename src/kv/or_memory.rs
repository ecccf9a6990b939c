//! A key-value store that is replaced by one in memory when it fails, so that serving goes on.
//! Nothing is copied from the failing store: it is a cache, and its readers rebuild what they miss.

use std::sync::{Arc, OnceLock};

use super::{KeyValue, MemoryKv};
use crate::error::Result;

/// A [`KeyValue`] that uses the disk until its first failure, and memory from then on.
#[derive(Debug)]
pub(super) struct OrMemory {
    disk: Arc<dyn KeyValue>,
    memory: OnceLock<MemoryKv>,
}

impl OrMemory {
    pub(super) fn new(disk: Arc<dyn KeyValue>) -> Self {
        Self { disk, memory: OnceLock::new() }
    }

    fn run<T>(&self, work: impl Fn(&dyn KeyValue) -> Result<T>) -> Result<T> {
        if let Some(memory) = self.memory.get() {
            return work(memory);
        }
        work(self.disk.as_ref()).or_else(|error| {
            let memory = self.memory.get_or_init(|| {
                tracing::warn!(%error, "the cache is kept in memory until the store is opened again");
                MemoryKv::default()
            });
            work(memory)
        })
    }
}

impl KeyValue for OrMemory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.run(|kv| kv.get(key))
    }

    fn put_all(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.run(|kv| kv.put_all(entries))
    }

    fn remove_prefix(&self, prefix: &[u8]) -> Result<()> {
        self.run(|kv| kv.remove_prefix(prefix))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Error;

    /// Fails from its n-th call on.
    #[derive(Debug)]
    struct Failing(MemoryKv, AtomicUsize);

    impl Failing {
        fn call(&self) -> Result<&MemoryKv> {
            let left = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.map(|_| &self.0).map_err(|_| Error::Cache { path: "here".into(), reason: "it fails".into() })
        }
    }

    impl KeyValue for Failing {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
            self.call()?.get(key)
        }

        fn put_all(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
            self.call()?.put_all(entries)
        }

        fn remove_prefix(&self, prefix: &[u8]) -> Result<()> {
            self.call()?.remove_prefix(prefix)
        }
    }

    #[test]
    fn after_a_failure_the_store_is_an_empty_one_that_works() {
        let entry = |key: &str| (key.as_bytes().to_vec(), b"value".to_vec());
        for calls in 0..4 {
            let kv = OrMemory::new(Arc::new(Failing(MemoryKv::default(), AtomicUsize::new(calls))));
            kv.put_all(&[entry("a")]).unwrap();
            kv.get(b"x").unwrap();
            kv.remove_prefix(b"b").unwrap();
            // What was put before the failure is lost, what was put with it is not.
            assert_eq!(kv.get(b"a").unwrap().is_some(), calls == 0);
            kv.put_all(&[entry("b")]).unwrap();
            assert_eq!(kv.get(b"b").unwrap(), Some(b"value".to_vec()));
        }
    }
}
