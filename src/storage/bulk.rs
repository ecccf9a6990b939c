//! Bulk reads: many objects at once, large ones in parallel ranges, within a bound on requests and memory.
//! It reads exactly the objects that were listed: one that has changed since is an error, never other or mixed bytes.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use object_store::ObjectMeta;

use super::{DiskCache, Location, ReadStatistics, fetch::Fetch, statistics::ReadCounters};
use crate::error::{Error, Result};

/// How many requests and bytes a bulk read may have in flight. Zeros count as ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSettings {
    /// The most objects that are being read, or have been read and not yet taken.
    pub objects_in_flight: usize,
    /// The most requests at once; no more than [`RequestSettings::concurrency`](super::RequestSettings::concurrency) are sent.
    pub requests_in_flight: usize,
    /// Objects of more bytes are read in ranges of about this many, in parallel.
    pub range_bytes: u64,
    /// The most bytes of objects that are being read, or have been read and not yet taken. Larger objects are refused. A
    /// download counts ranges instead, and refuses no object.
    pub bytes_in_flight: u64,
}

impl Default for ReadSettings {
    /// 64 objects, 32 requests, ranges of 8 MiB, 1 GiB.
    fn default() -> Self {
        Self { objects_in_flight: 64, requests_in_flight: 32, range_bytes: 8 << 20, bytes_in_flight: 1 << 30 }
    }
}

pub(super) type OnProgress = Arc<dyn Fn(&ReadStatistics) + Send + Sync>;

/// Reads many objects of a location.
///
/// ```no_run
/// # async fn read() -> asof::Result<()> {
/// use asof::storage::{BulkReader, DiskCache, Locations};
/// use futures::TryStreamExt;
///
/// let place = Locations::default().open("s3://bucket/facts")?;
/// let reader = BulkReader::new(&place).cache(DiskCache::open("/var/cache/facts", 10 << 30)?);
/// let mut objects = reader.get_many(place.list().await?);
/// while let Some((object, bytes)) = objects.try_next().await? {
///     println!("{}: {} bytes", object.location, bytes.len());
/// }
/// println!("{}", objects.statistics());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct BulkReader {
    pub(super) place: Location,
    pub(super) settings: ReadSettings,
    pub(super) cache: Option<DiskCache>,
    pub(super) progress: Option<OnProgress>,
}

impl BulkReader {
    /// Reads the objects of this location with the default settings, without a cache.
    pub fn new(place: &Location) -> Self {
        Self { place: place.clone(), settings: ReadSettings::default(), cache: None, progress: None }
    }

    /// Sets the limits.
    pub fn settings(mut self, settings: ReadSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Looks in this cache before each request, and adds what the store answered.
    ///
    /// Objects without an entity tag, and those of this machine's disk and memory, are not cached.
    pub fn cache(mut self, cache: DiskCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Calls this after each request, each piece found in the cache and each object, from the tasks that read.
    pub fn on_progress(mut self, progress: impl Fn(&ReadStatistics) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// The objects with their bytes, in the order given.
    ///
    /// Reading begins with the first poll and runs ahead of the caller as far as the settings allow; dropping the stream
    /// ends it. Each object yields one item. After an error the other objects still come; a loop over `try_next` ends at the
    /// first error.
    ///
    /// # Errors
    /// Items are [`Error::ObjectChanged`] when an object is not what was listed, [`Error::ObjectTooLarge`] when it does not
    /// fit [`ReadSettings::bytes_in_flight`], [`Error::Storage`] when its store fails.
    pub fn get_many(&self, objects: impl IntoIterator<Item = ObjectMeta>) -> BulkRead {
        self.read(objects, Order::AsAsked)
    }

    /// As [`BulkReader::get_many`], but each object comes as soon as it is read.
    ///
    /// # Errors
    /// As [`BulkReader::get_many`].
    pub fn get_many_unordered(&self, objects: impl IntoIterator<Item = ObjectMeta>) -> BulkRead {
        self.read(objects, Order::AsRead)
    }

    fn read(&self, objects: impl IntoIterator<Item = ObjectMeta>, order: Order) -> BulkRead {
        let objects: Vec<ObjectMeta> = objects.into_iter().collect();
        let fetch = Arc::new(Fetch::new(self, ReadCounters::of(objects.iter().map(|object| object.size))));
        let (count, reserving) = (self.settings.objects_in_flight.max(1), fetch.clone());
        // Memory is reserved in the order given, so that an object never waits for a later one.
        let reserved = stream::iter(objects).then(move |object| {
            let fetch = reserving.clone();
            async move {
                let held = fetch.reserve(object.size).await;
                (fetch, object, held)
            }
        });
        let reads = reserved.map(|(fetch, object, held)| {
            // A task of its own: it reads on while the caller is busy, and ends when the stream is dropped.
            let task = SpawnedTask::spawn(async move {
                let bytes = fetch.whole(&object).await?;
                Ok((object, bytes, held))
            });
            async move { task.join().await.map_err(lost)? }
        });
        let read = match order {
            Order::AsAsked => reads.buffered(count).boxed(),
            Order::AsRead => reads.buffer_unordered(count).boxed(),
        };
        // The memory of an object is released when the object is taken.
        let objects = read.map(|read| read.map(|(object, bytes, _held)| (object, bytes))).boxed();
        BulkRead { objects, fetch }
    }
}

/// The error of a background task that did not end.
pub(super) fn lost(cause: tokio::task::JoinError) -> Error {
    Error::lost_task("a background task", cause)
}

#[derive(Clone, Copy)]
enum Order {
    AsAsked,
    AsRead,
}

impl fmt::Debug for BulkReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("BulkReader");
        shown.field("place", &self.place).field("settings", &self.settings).field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// A running bulk read: a stream of objects with their bytes.
#[must_use]
pub struct BulkRead {
    objects: BoxStream<'static, Result<(ObjectMeta, Bytes)>>,
    fetch: Arc<Fetch>,
}

impl BulkRead {
    /// What was read so far; after the last item, the totals.
    pub fn statistics(&self) -> ReadStatistics {
        self.fetch.counters.so_far()
    }
}

impl Stream for BulkRead {
    type Item = Result<(ObjectMeta, Bytes)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.fetch.counters.begin();
        let next = self.objects.poll_next_unpin(cx);
        if matches!(next, Poll::Ready(None)) {
            self.fetch.counters.end();
        }
        next
    }
}

impl fmt::Debug for BulkRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BulkRead({})", self.statistics())
    }
}
