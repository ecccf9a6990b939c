//! How often keys were found. Threads count without waiting for each other.
//! What is found is decided where rows are read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the keys of one served set.
#[derive(Debug, Default)]
pub(crate) struct ReadCounts {
    hits: AtomicU64,
    misses: AtomicU64,
}

#[allow(dead_code, reason = "the read path counts")]
impl ReadCounts {
    /// A key that has a row.
    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// A key without a row.
    pub(crate) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(crate) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    pub(crate) fn reads(&self) -> Reads {
        Reads { hits: self.hits(), misses: self.misses() }
    }
}

/// How many keys were asked for, since the set was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reads {
    /// Keys that have a row in the materialization.
    pub hits: u64,
    /// Keys without a row, which got the answer of a key without facts.
    pub misses: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_lose_no_count() {
        let counts = ReadCounts::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let counts = &counts;
                scope.spawn(move || (0..10_000).for_each(|i| if i % 4 == thread { counts.miss() } else { counts.hit() }));
            }
        });
        assert_eq!(counts.reads(), Reads { hits: 30_000, misses: 10_000 });
    }
}
