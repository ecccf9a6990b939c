//! What is kept of materializations in the key-value store: manifests, and rows by key.
//! All of it is rebuilt from the root when it is missing or does not parse; a set of rows is whole only under its marker.

use std::sync::Arc;

use super::Manifest;
use crate::{error::Result, kv::KeyValue, name::ContentId};

/// Part of every key: another layout of the cache, another version.
const LAYOUT: &str = "asof1";
const KEPT_SETS_OF_ROWS: usize = 8;

/// The cache of one store.
#[derive(Debug, Clone)]
pub(crate) struct Cache(Arc<dyn KeyValue>);

impl Cache {
    pub(crate) fn new(store: Arc<dyn KeyValue>) -> Self {
        Self(store)
    }

    pub(crate) fn manifest(&self, id: ContentId) -> Result<Option<Manifest>> {
        let found = self.0.get(&key("manifest", id))?;
        Ok(found.and_then(|bytes| Manifest::parse("the cache", &bytes).ok()).filter(|manifest| manifest.id == id))
    }

    pub(crate) fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.0.put_all(vec![(key("manifest", manifest.id), manifest.to_json()?)])
    }

    /// Are all rows of this materialization here?
    pub(crate) fn has_rows(&self, id: ContentId) -> Result<bool> {
        Ok(self.0.get(&key("complete", id))?.is_some())
    }

    /// How many rows of this materialization are here.
    pub(crate) fn count_rows(&self, id: ContentId) -> Result<u64> {
        self.0.count_prefix(&row_name(id, &[]))
    }

    /// The row under an encoded key.
    pub(crate) fn row(&self, id: ContentId, row_key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.0.get(&row_name(id, row_key))
    }

    /// Keeps rows of a materialization; they count only once [`Cache::mark_complete`] was called.
    pub(crate) fn put_rows(&self, id: ContentId, rows: Vec<(Vec<u8>, Vec<u8>)>) -> Result<()> {
        self.0.put_all(rows.into_iter().map(|(row_key, row)| (row_name(id, &row_key), row)).collect())
    }

    /// Forgets the rows of older materializations of a set, beyond the few that are served side by side.
    pub(crate) fn evict(&self, set: &str, newest: ContentId) -> Result<()> {
        let list = format!("{LAYOUT}/kept/{set}").into_bytes();
        let known = self.0.get(&list)?.unwrap_or_default();
        let known = String::from_utf8(known).unwrap_or_default();
        let mut kept: Vec<&str> = known.split_whitespace().collect();
        let newest = newest.to_string();
        kept.retain(|id| *id != newest);
        kept.push(&newest);
        while kept.len() > KEPT_SETS_OF_ROWS {
            let oldest = kept.remove(0);
            // First the marker: rows that are gone must not look complete.
            for what in ["complete", "row"] {
                self.0.remove_prefix(format!("{LAYOUT}/{what}/{oldest}").as_bytes())?;
            }
        }
        self.0.put_all(vec![(list, kept.join(" ").into_bytes())])
    }

    /// From here on a key without a row is a key that the materialization does not hold.
    pub(crate) fn mark_complete(&self, id: ContentId) -> Result<()> {
        self.0.put_all(vec![(key("complete", id), Vec::new())])
    }
}

fn key(what: &str, id: ContentId) -> Vec<u8> {
    format!("{LAYOUT}/{what}/{id}").into_bytes()
}

fn row_name(id: ContentId, row_key: &[u8]) -> Vec<u8> {
    let mut name = key("row", id);
    name.push(b'/');
    name.extend_from_slice(row_key);
    name
}
