//! How often keys were found. Threads count without waiting for each other.
//! What is found is decided where rows are read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the keys of one served set. All handles that serve it one after the other share the counters.
#[derive(Debug, Default)]
pub(crate) struct ReadCounts {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl ReadCounts {
    /// Counts keys that have a row, and keys without one.
    pub(crate) fn add(&self, hits: u64, misses: u64) {
        for (counter, count) in [(&self.hits, hits), (&self.misses, misses)] {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn reads(&self) -> Reads {
        Reads { hits: self.hits.load(Ordering::Relaxed), misses: self.misses.load(Ordering::Relaxed) }
    }
}

/// How many keys were asked for, since the set was opened. Requests of a set that draws on others ask for keys of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reads {
    /// Keys that have a row in the materialization.
    pub hits: u64,
    /// Keys without a row, which got the answer of a key without facts.
    pub misses: u64,
}
