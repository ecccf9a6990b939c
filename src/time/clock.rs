//! Where "now" comes from, for the few callers that need it.
//! Other modules are given a clock. `tests/it/layers.rs` lists the files that may name [`SystemClock`], with their reasons.

use std::fmt::Debug;

use super::AsOf;

/// A source of the present instant.
pub trait Clock: Debug + Send + Sync {
    /// The present instant.
    fn now(&self) -> AsOf;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one function that reads the wall clock")]
    fn now(&self) -> AsOf {
        AsOf::from(chrono::Utc::now())
    }
}

/// A clock that always shows the same instant, for tests and replays.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub AsOf);

impl Clock for FixedClock {
    fn now(&self) -> AsOf {
        self.0
    }
}
