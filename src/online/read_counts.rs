//! How many reads by key found a row.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts reads by key. All handles that serve one set after the other share it.
#[derive(Debug, Default)]
pub(crate) struct ReadCounts {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl ReadCounts {
    /// Counts reads that found a row of the key's own, and reads that did not.
    pub(crate) fn add(&self, hits: u64, misses: u64) {
        for (counter, count) in [(&self.hits, hits), (&self.misses, misses)] {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}
