//! What a bulk read has done so far: objects, bytes, requests, seconds.
//! No result of this library depends on these numbers.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What a bulk read has done, so far or in total.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct ReadStatistics {
    /// Objects to read.
    pub total_object_count: u64,
    /// Their bytes, as listed.
    pub total_bytes: u64,
    /// Objects that are done: read, or skipped by a download that has them already.
    pub object_count: u64,
    /// Bytes read, from the store and from the cache.
    pub bytes: u64,
    /// Requests that the store answered; a request that the client repeated counts once.
    pub request_count: u64,
    /// Bytes that came from the disk cache; no request was sent for them.
    pub cached_bytes: u64,
    /// Objects that a download had already.
    pub skipped_object_count: u64,
    /// Time from the first poll until now, or until the last object was done.
    pub elapsed: Duration,
}

impl ReadStatistics {
    /// Bits read per second, in 10^9.
    pub fn gigabits_per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.bytes as f64 * 8.0 / 1e9 / seconds } else { 0.0 }
    }
}

impl fmt::Display for ReadStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} objects, {} of {} bytes ({} from the cache) in {} requests, {:.3} s, {:.3} Gb/s",
            self.object_count,
            self.total_object_count,
            self.bytes,
            self.total_bytes,
            self.cached_bytes,
            self.request_count,
            self.elapsed.as_secs_f64(),
            self.gigabits_per_second()
        )
    }
}

/// The numbers behind [`ReadStatistics`], counted by all tasks of a read.
#[derive(Debug, Default)]
pub(super) struct ReadCounters {
    total_objects: u64,
    total_bytes: u64,
    objects: AtomicU64,
    skipped: AtomicU64,
    bytes: AtomicU64,
    cached: AtomicU64,
    requests: AtomicU64,
    began: OnceLock<Instant>,
    ended: OnceLock<Instant>,
}

/// The one place where durations are measured.
#[allow(clippy::disallowed_methods, reason = "the duration of a read is reported, and nothing depends on it")]
fn now() -> Instant {
    Instant::now()
}

impl ReadCounters {
    pub(super) fn of(sizes: impl IntoIterator<Item = u64>) -> Self {
        let (mut total_objects, mut total_bytes) = (0, 0_u64);
        for size in sizes {
            total_objects += 1;
            total_bytes = total_bytes.saturating_add(size);
        }
        Self { total_objects, total_bytes, ..Self::default() }
    }

    pub(super) fn begin(&self) {
        self.began.get_or_init(now);
    }

    pub(super) fn end(&self) {
        self.ended.get_or_init(now);
    }

    pub(super) fn requested(&self, bytes: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn cached(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.cached.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn finished(&self) {
        self.objects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        self.finished();
    }

    pub(super) fn so_far(&self) -> ReadStatistics {
        let end = || self.ended.get().copied().unwrap_or_else(now);
        ReadStatistics {
            total_object_count: self.total_objects,
            total_bytes: self.total_bytes,
            object_count: self.objects.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            request_count: self.requests.load(Ordering::Relaxed),
            cached_bytes: self.cached.load(Ordering::Relaxed),
            skipped_object_count: self.skipped.load(Ordering::Relaxed),
            elapsed: self.began.get().map_or(Duration::ZERO, |began| end().saturating_duration_since(*began)),
        }
    }
}
