//! The cache on disk: the one file that names sled.
//! It holds no truth: a directory that cannot be read may be deleted.

use std::{
    io::ErrorKind,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
};

use super::KeyValue;
use crate::error::{Error, Result};

const MEMORY_BYTES: u64 = 64 << 20;

/// A [`KeyValue`] on disk.
#[derive(Debug)]
pub(super) struct SledKv {
    dir: PathBuf,
    db: sled::Db,
}

impl SledKv {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let opened = caught(dir, || sled::Config::new().path(dir).cache_capacity(MEMORY_BYTES).open())?;
        match opened {
            Ok(db) => Ok(Self { dir: dir.into(), db }),
            // sled says "could not acquire lock" as an i/o error of the kind `Other`.
            Err(sled::Error::Io(cause))
                if cause.kind() == ErrorKind::WouldBlock || cause.to_string().contains("acquire lock") =>
            {
                Err(Error::CacheLocked { path: dir.into() })
            }
            Err(cause) => Err(Error::Cache { path: dir.into(), reason: cause.to_string() }),
        }
    }

    fn run<T>(&self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T> {
        caught(&self.dir, || work(&self.db))?.map_err(|cause| Error::Cache { path: self.dir.clone(), reason: cause.to_string() })
    }
}

/// sled panics on some damaged files. All of it is cache, so that is an error like any other.
fn caught<T>(dir: &Path, work: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| Error::Cache { path: dir.into(), reason: "its files are damaged".into() })
}

impl KeyValue for SledKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.run(|db| Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    fn put_all(&self, entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<()> {
        let mut batch = sled::Batch::default();
        for (key, value) in entries {
            batch.insert(key, value);
        }
        self.run(|db| db.apply_batch(batch))
    }

    fn count_prefix(&self, prefix: &[u8]) -> Result<u64> {
        self.run(|db| db.scan_prefix(prefix).keys().try_fold(0, |count, key| key.map(|_| count + 1)))
    }

    fn remove_prefix(&self, prefix: &[u8]) -> Result<()> {
        self.run(|db| {
            let mut batch = sled::Batch::default();
            for key in db.scan_prefix(prefix).keys() {
                batch.remove(key?);
            }
            db.apply_batch(batch)
        })
    }
}
