//! Rows of a materialization by key, served from the cache. They are read from the published files when they are first served, and
//! again when the cache has lost them. A key is reported missing only if the published rows do not have it.

use std::sync::{Arc, PoisonError};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::SchemaRef,
};
use futures::TryStreamExt;

use super::{Materialization, keyed::RowCodec};
use crate::{
    cache::{CachedRow, CachedRows, Directory, Pin},
    error::{Error, Result},
};

/// The rows of a materialization of entities by key. They stay in the cache as long as this value lives.
pub(crate) struct KeyedRows {
    made: Materialization,
    group: CachedRows,
    codec: RowCodec,
    directory: Directory,
    pin: Arc<Pin>,
}

impl KeyedRows {
    /// Opens a group of rows. They are read from the published files unless the cache has them all.
    ///
    /// Group 0 has all keys of the set; the other groups are the partial rows.
    pub(crate) async fn open(made: &Materialization, group: usize) -> Result<Self> {
        let cache = &made.workspace().cache;
        let (codec, group) = (made.codec(group)?, CachedRows { id: made.id(), index: group });
        let pin = cache.pin(group.id);
        let directory = {
            let _one_at_a_time = pin.opening.lock().await;
            cache.note_opened(&made.set().name, group.id)?;
            match cache.directory(group)? {
                Some(directory) => directory,
                None => fill(made, group, &codec).await?,
            }
        };
        Ok(Self { made: made.clone(), group, codec, directory, pin })
    }

    /// The key's columns.
    pub(crate) fn key_schema(&self) -> &SchemaRef {
        self.codec.key_schema()
    }

    /// The other columns.
    pub(crate) fn value_schema(&self) -> &SchemaRef {
        self.codec.value_schema()
    }

    /// The other columns of the row with this key, given as one-row columns of the key's types; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the cache has lost the row and it cannot be read from the published files.
    pub(crate) fn get(&self, key: &[ArrayRef]) -> Result<Option<RecordBatch>> {
        let key = self.codec.key(key)?;
        let mut found = self.find(&key)?;
        if found == CachedRow::Lost {
            self.refill(&key)?;
            found = self.find(&key)?;
        }
        match found {
            CachedRow::Row(row) => self.codec.decode(&row).map(Some),
            CachedRow::Nothing => Ok(None),
            CachedRow::Lost => Err(Error::Corrupt {
                path: format!("the cached rows of {:?}", self.made),
                reason: "they were lost again right after they had been written; give the store another cache directory".into(),
            }),
        }
    }

    fn find(&self, key: &[u8]) -> Result<CachedRow> {
        self.made.workspace().cache.find(self.group, &self.directory, key)
    }

    /// Reads lost rows again, on a thread with a runtime of its own: the caller may be on a thread that must not block on its own
    /// runtime.
    fn refill(&self, key: &[u8]) -> Result<()> {
        let failed = |cause| Error::System { subject: "a thread that reads published rows again".into(), cause };
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
            let _one_at_a_time = self.pin.refilling.lock().unwrap_or_else(PoisonError::into_inner);
            if self.find(key)? != CachedRow::Lost {
                return Ok(());
            }
            tracing::warn!(materialization = ?self.made, "the cache has lost rows; they are read again from the published files");
            runtime.block_on(fill(&self.made, self.group, &self.codec)).map(drop)
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, work).map_err(failed)?;
            thread.join().unwrap_or_else(|_| {
                let subject = "reading the published rows again".into();
                Err(Error::Internal { subject, reason: "its thread panicked".into() })
            })
        })
    }
}

/// Puts all rows of a group into the cache, replacing what is there.
async fn fill(made: &Materialization, group: CachedRows, codec: &RowCodec) -> Result<Directory> {
    let mut filling = made.workspace().cache.fill(group);
    let mut batches = made.group_batches(group.index).await?;
    while let Some(batch) = batches.try_next().await? {
        let (keys, rows) = codec.encode(&batch)?;
        keys.iter().zip(rows.iter()).try_for_each(|(key, row)| filling.push(key.as_ref(), row.as_ref()))?;
    }
    filling.finish()
}
