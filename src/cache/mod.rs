//! The cache of materializations: manifests in the key-value store, and the files of those that are served.
//! What is missing or damaged is rebuilt from the root, and never reported as an absent key.
//!
//! ```text
//! <layout>/manifest/<id>
//! <layout>/kept              the materializations with files, the most recently opened one last
//! ```
//!
//! Every value begins with a checksum of its name and content.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    error::Result,
    kv::KeyValue,
    name::{ContentId, SetName},
    served::{ServedFiles, SharedFile},
};

/// Part of every key. Other versions of the library may write other values.
const LAYOUT: &str = concat!("asof3-", env!("CARGO_PKG_VERSION"));
/// How many materializations of a set keep their files, besides those that are open.
const KEPT_OF_A_SET: usize = 8;
const CHECKSUM_BYTES: usize = 8;

/// The cache of one store.
#[derive(Debug, Clone)]
pub(crate) struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn KeyValue>,
    served: ServedFiles,
    /// Locked while the files to be removed are chosen.
    choosing: Mutex<()>,
}

impl Cache {
    /// The cache in this store and these files. Entries of another layout are removed.
    pub(crate) fn new(store: Arc<dyn KeyValue>, served: ServedFiles) -> Result<Self> {
        if store.get(b"layout")?.as_deref() != Some(LAYOUT.as_bytes()) {
            store.remove_prefix(b"")?;
            store.put_all(&[(b"layout".to_vec(), LAYOUT.into())])?;
        }
        Ok(Self(Arc::new(Inner { store, served, choosing: Mutex::default() })))
    }

    /// The files of materializations that are served.
    pub(crate) fn served(&self) -> &ServedFiles {
        &self.0.served
    }

    /// The manifest of a materialization, as JSON.
    pub(crate) fn manifest(&self, id: ContentId) -> Result<Option<Vec<u8>>> {
        self.get(&manifest_name(id))
    }

    pub(crate) fn put_manifest(&self, id: ContentId, json: &[u8]) -> Result<()> {
        self.put(manifest_name(id), json)
    }

    /// Records that a materialization of this set is opened, and removes the files of the set's least recently opened
    /// materializations that nobody holds, beyond [`KEPT_OF_A_SET`].
    pub(crate) fn note_opened(&self, set: &SetName, id: ContentId, file: &Arc<SharedFile>) -> Result<()> {
        let _one_at_a_time = self.0.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        self.served().keep_last(set, file);
        let known = self.get(&kept_name())?.and_then(|bytes| parse_kept(&bytes)).unwrap_or_default();
        let mut kept: Vec<(SetName, ContentId)> = known.iter().filter(|(_, other)| *other != id).cloned().collect();
        // Files that are not in the list, which may have been lost, count as opened before all others.
        let mut closed: Vec<ContentId> =
            self.served().closed().into_iter().filter(|(of, other)| of == set && *other != id).map(|(_, id)| id).collect();
        closed.sort_by_key(|id| (kept.iter().position(|(_, other)| other == id), *id));
        let excess = (closed.len() + 1).saturating_sub(KEPT_OF_A_SET);
        for id in closed.into_iter().take(excess) {
            self.served().remove(set, id);
            kept.retain(|(_, other)| *other != id);
        }
        kept.push((set.clone(), id));
        if known == kept {
            return Ok(());
        }
        let lines: String = kept.iter().map(|(of, id)| format!("{of} {id}\n")).collect();
        self.put(kept_name(), lines.as_bytes())
    }

    fn get(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(mut bytes) = self.0.store.get(name)? else { return Ok(None) };
        let is_whole = bytes.split_at_checked(CHECKSUM_BYTES).is_some_and(|(sum, value)| checksum(name, value) == sum);
        if !is_whole {
            tracing::warn!(name = %String::from_utf8_lossy(name), "a damaged value in the cache is ignored");
            return Ok(None);
        }
        bytes.drain(..CHECKSUM_BYTES);
        Ok(Some(bytes))
    }

    fn put(&self, name: Vec<u8>, value: &[u8]) -> Result<()> {
        self.0.store.put_all(&[sealed(name, value)])
    }
}

/// One line per materialization: the set and the id.
fn parse_kept(bytes: &[u8]) -> Option<Vec<(SetName, ContentId)>> {
    let line = |line: &str| {
        let (set, id) = line.split_once(' ')?;
        Some((set.parse().ok()?, id.parse().ok()?))
    };
    std::str::from_utf8(bytes).ok()?.lines().map(line).collect()
}

fn manifest_name(id: ContentId) -> Vec<u8> {
    format!("{LAYOUT}/manifest/{id}").into_bytes()
}

fn kept_name() -> Vec<u8> {
    format!("{LAYOUT}/kept").into_bytes()
}

fn sealed(name: Vec<u8>, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let value = [&checksum(&name, value), value].concat();
    (name, value)
}

/// Covers the name too, so that a value under another name counts as damaged.
fn checksum(name: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name).update(value).finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::MemoryKv;

    #[test]
    fn a_value_that_is_damaged_or_has_another_name_is_missing() {
        let store: Arc<dyn KeyValue> = Arc::new(MemoryKv::default());
        let cache = Cache::new(store.clone(), ServedFiles::new(None, false)).unwrap();
        let (one, other) = (ContentId::of(b"1"), ContentId::of(b"2"));
        cache.put_manifest(one, b"{}").unwrap();
        cache.put_manifest(other, b"[]").unwrap();
        assert_eq!(cache.manifest(one).unwrap().as_deref(), Some(b"{}".as_slice()));
        let good = store.get(&manifest_name(one)).unwrap().unwrap();
        let mut flipped = good.clone();
        flipped[8] ^= 1;
        let moved = store.get(&manifest_name(other)).unwrap().unwrap();
        for damaged in [flipped, good[..4].to_vec(), Vec::new(), moved] {
            store.put_all(&[(manifest_name(one), damaged)]).unwrap();
            assert_eq!(cache.manifest(one).unwrap(), None);
        }
    }

    #[test]
    fn what_another_layout_has_left_is_removed() {
        let store: Arc<dyn KeyValue> = Arc::new(MemoryKv::default());
        store.put_all(&[(b"asof1/row/x".to_vec(), b"old".to_vec()), (b"layout".to_vec(), b"asof1".to_vec())]).unwrap();
        let cache = Cache::new(store.clone(), ServedFiles::new(None, false)).unwrap();
        assert_eq!(store.get(b"asof1/row/x").unwrap(), None);
        cache.put_manifest(ContentId::of(b"1"), b"{}").unwrap();
        let again = Cache::new(store, ServedFiles::new(None, false)).unwrap();
        assert!(again.manifest(ContentId::of(b"1")).unwrap().is_some());
    }
}
