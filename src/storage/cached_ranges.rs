//! Ranges of one version of an object in the disk cache.
//! It sends no request: what it does not have, its caller reads from the store and adds.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use object_store::ObjectMeta;

use super::{DiskCache, Location, disk_cache::CacheLookup, location::blocking};
use crate::error::Result;

/// The cache's entries for one version of an object: store, path, entity tag and size.
#[derive(Debug, Clone)]
pub(super) struct CachedRanges {
    cache: DiskCache,
    version: Arc<str>,
    size: u64,
}

impl CachedRanges {
    /// `None` for objects whose tags mean nothing later or elsewhere: without a tag, on this machine's disk, in memory.
    pub(super) fn of(cache: &DiskCache, place: &Location, object: &ObjectMeta) -> Option<Self> {
        let (origin, e_tag) = (place.origin()?, object.e_tag.as_ref()?);
        let version = format!("{origin}\n{}\n{e_tag}\n{}", object.location, object.size).into();
        Some(Self { cache: cache.clone(), version, size: object.size })
    }

    fn key(&self, range: &Range<u64>) -> String {
        match range {
            range if *range == (0..self.size) => format!("{}\nwhole", self.version),
            range => format!("{}\n{}-{}", self.version, range.start, range.end),
        }
    }

    /// Appends a range to an empty buffer, which stays empty if the cache does not have it.
    pub(super) async fn read(&self, range: &Range<u64>, mut into: BytesMut) -> Result<(BytesMut, CacheLookup)> {
        let (cache, key, length) = (self.cache.clone(), self.key(range), range.end - range.start);
        blocking(move || {
            let found = cache.read(&key, length, &mut into);
            Ok((into, found))
        })
        .await
    }

    /// Adds a range, and returns it.
    pub(super) async fn write(&self, range: &Range<u64>, bytes: BytesMut) -> Result<BytesMut> {
        let (cache, key) = (self.cache.clone(), self.key(range));
        blocking(move || {
            cache.write(&key, &bytes);
            Ok(bytes)
        })
        .await
    }

    /// The ranges that the cache has, in their order; `None` for the others.
    pub(super) async fn look_up(&self, ranges: &[Range<u64>]) -> Vec<Option<Bytes>> {
        let keys: Vec<_> = ranges.iter().map(|range| (self.key(range), range.end - range.start)).collect();
        let (cache, count) = (self.cache.clone(), keys.len());
        let read = move |(key, length): (String, u64)| {
            let mut bytes = BytesMut::new();
            (cache.read(&key, length, &mut bytes) == CacheLookup::Whole).then(|| bytes.freeze())
        };
        let found = blocking(move || Ok(keys.into_iter().map(read).collect())).await;
        found.unwrap_or_else(|_| vec![None; count])
    }

    /// Adds ranges that the store sent. What cannot be written is not in the cache.
    pub(super) async fn add(&self, ranges: Vec<(Range<u64>, Bytes)>) {
        let this = self.clone();
        let add = move || {
            for (range, bytes) in ranges {
                this.cache.write(&this.key(&range), &bytes);
            }
            Ok(())
        };
        let _ = blocking(add).await;
    }
}
