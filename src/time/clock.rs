//! Where "now" comes from, for the few callers that need one.
//! No module of this library calls a clock on its own: a clock is passed in.

use std::fmt::Debug;

use super::AsOf;

/// A source of the present instant, passed to what needs one.
pub trait Clock: Debug + Send + Sync {
    /// The present instant.
    fn now(&self) -> AsOf;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> AsOf {
        AsOf::from(chrono::Utc::now())
    }
}

/// A clock that stands still, for tests and replays.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub AsOf);

impl Clock for FixedClock {
    fn now(&self) -> AsOf {
        self.0
    }
}
