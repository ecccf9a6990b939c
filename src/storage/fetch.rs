//! Reads one object of a bulk read: split into ranges, each from the cache or by one request, joined without copying.
//! Answers of another version are refused: entity tag, size and range of each are compared with what was listed.

use std::{
    io::{Read, Seek, SeekFrom},
    ops::Range,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, ObjectStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    DiskCache, Location,
    bulk::{BulkReader, OnProgress, ReadSettings},
    cached_ranges::CachedRanges,
    disk_cache::CacheLookup,
    location::blocking,
    statistics::ReadCounters,
};
use crate::error::{Error, Result};

/// The unit in which memory is reserved: permits are 32-bit numbers.
const HELD_UNIT_BYTES: u64 = 1 << 10;

/// The state that all tasks of a read share.
pub(super) struct Fetch {
    place: Location,
    settings: ReadSettings,
    cache: Option<DiskCache>,
    progress: Option<OnProgress>,
    requests: Semaphore,
    held: Arc<Semaphore>,
    held_units: u32,
    pub(super) counters: ReadCounters,
}

/// A reservation of memory, released when it is dropped.
pub(super) type Held = Option<OwnedSemaphorePermit>;

impl Fetch {
    pub(super) fn new(reader: &BulkReader, counters: ReadCounters) -> Self {
        let settings = reader.settings.clone();
        let units = settings.bytes_in_flight.div_ceil(HELD_UNIT_BYTES).clamp(1, u64::from(u32::MAX));
        let held_units = u32::try_from(units).unwrap_or(u32::MAX);
        Self {
            place: reader.place.clone(),
            cache: reader.cache.clone(),
            progress: reader.progress.clone(),
            requests: Semaphore::new(settings.requests_in_flight.clamp(1, Semaphore::MAX_PERMITS)),
            held: Arc::new(Semaphore::new(held_units as usize)),
            held_units,
            settings,
            counters,
        }
    }

    /// Waits until this many bytes can be reserved, at most all that there are; in the order of the calls.
    pub(super) async fn reserve(&self, bytes: u64) -> Held {
        let units = bytes.div_ceil(HELD_UNIT_BYTES).clamp(1, u64::from(self.held_units));
        // The semaphore is never closed.
        self.held.clone().acquire_many_owned(u32::try_from(units).unwrap_or(self.held_units)).await.ok()
    }

    /// The URL of the object, for messages.
    pub(super) fn shown(&self, object: &ObjectMeta) -> String {
        self.place.child(&self.place.name_of(&object.location)).to_string()
    }

    /// The ranges that the object is read in: one, or some of about the same length.
    pub(super) fn ranges(&self, size: u64) -> Vec<Range<u64>> {
        let count = size.div_ceil(self.settings.range_bytes.max(1)).max(1);
        let length = size.div_ceil(count).max(1);
        (0..count).map(|i| (i * length).min(size)..((i + 1) * length).min(size)).filter(|r| !r.is_empty() || size == 0).collect()
    }

    /// The object's bytes.
    pub(super) async fn whole(&self, object: &ObjectMeta) -> Result<Bytes> {
        let limit = self.settings.bytes_in_flight.max(1);
        let too_large = || Error::ObjectTooLarge { path: self.shown(object), size: object.size, limit };
        if object.size > limit {
            return Err(too_large());
        }
        let size = usize::try_from(object.size).map_err(|_| too_large())?;
        let ranges = self.ranges(object.size);
        let mut rest = BytesMut::with_capacity(size);
        let mut pieces = Vec::with_capacity(ranges.len());
        for range in ranges {
            let length = usize::try_from(range.end - range.start).map_err(|_| too_large())?;
            let tail = rest.split_off(length);
            pieces.push((range, std::mem::replace(&mut rest, tail)));
        }
        let filled = stream::iter(pieces).map(|(range, piece)| self.fill(object, range, piece));
        let mut filled = filled.buffered(self.settings.requests_in_flight.max(1));
        let mut whole: Option<BytesMut> = None;
        while let Some(piece) = filled.try_next().await? {
            match &mut whole {
                // Both lie next to each other in one allocation, so this only moves a pointer.
                Some(whole) => whole.unsplit(piece),
                None => whole = Some(piece),
            }
        }
        self.counters.finished();
        self.report();
        Ok(whole.unwrap_or_default().freeze())
    }

    pub(super) fn report(&self) {
        if let Some(progress) = &self.progress {
            progress(&self.counters.so_far());
        }
    }

    /// Appends a range of the object to an empty buffer that has room for it.
    pub(super) async fn fill(&self, object: &ObjectMeta, range: Range<u64>, mut piece: BytesMut) -> Result<BytesMut> {
        let length = range.end - range.start;
        let cached = self.cache.as_ref().and_then(|cache| CachedRanges::of(cache, &self.place, object));
        if let Some(cached) = &cached {
            let found;
            (piece, found) = cached.read(&range, piece).await?;
            if found == CacheLookup::Whole {
                self.counters.cached(length);
                self.report();
                return Ok(piece);
            }
        }
        {
            // The semaphore is never closed.
            let _permit = self.requests.acquire().await;
            piece = self.request(object, range.clone(), piece).await?;
        }
        self.counters.requested(length);
        self.report();
        match cached {
            Some(cached) => cached.write(&range, piece).await,
            None => Ok(piece),
        }
    }

    async fn request(&self, object: &ObjectMeta, range: Range<u64>, piece: BytesMut) -> Result<BytesMut> {
        let changed = |change| Error::ObjectChanged { path: self.shown(object), change };
        // By HTTP a weak tag never matches `If-Match`; it is compared below.
        let if_match = object.e_tag.clone().filter(|tag| !tag.starts_with("W/"));
        let options = GetOptions {
            if_unmodified_since: object.e_tag.is_none().then_some(object.last_modified),
            if_match,
            range: (range != (0..object.size)).then(|| GetRange::Bounded(range.clone())),
            ..Default::default()
        };
        let got = self.place.store().get_opts(&object.location, options).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => changed("vanished"),
            object_store::Error::Precondition { .. } => changed("has changed"),
            other => other.into(),
        })?;
        let is_same_tag = object.e_tag.is_none() || got.meta.e_tag.is_none() || got.meta.e_tag == object.e_tag;
        if got.meta.size != object.size || got.range != range || !is_same_tag {
            return Err(changed("has changed"));
        }
        let length = range.end - range.start;
        let piece = take(got, piece, length).await?;
        if piece.len() as u64 != length {
            return Err(Error::UnreadableFile {
                path: self.shown(object),
                reason: format!("its store sent {} bytes of {length}; read it again", piece.len()),
            });
        }
        Ok(piece)
    }
}

/// Reads an answer to its end. One that is too long is read to one byte beyond the expected length.
async fn take(got: GetResult, mut piece: BytesMut, length: u64) -> Result<BytesMut> {
    match got.payload {
        GetResultPayload::File(mut file, path) => {
            let start = got.range.start;
            blocking(move || {
                let mut read = || {
                    file.seek(SeekFrom::Start(start))?;
                    piece.resize(usize::try_from(length).map_err(std::io::Error::other)?, 0);
                    file.read_exact(&mut piece)
                };
                read().map_err(|cause| Error::Io { path, cause })?;
                Ok(piece)
            })
            .await
        }
        GetResultPayload::Stream(mut chunks) => {
            while let Some(chunk) = chunks.try_next().await? {
                let room = usize::try_from(length).unwrap_or(usize::MAX) - piece.len();
                piece.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    piece.extend_from_slice(&chunk[room..room + 1]);
                    break;
                }
            }
            Ok(piece)
        }
    }
}
