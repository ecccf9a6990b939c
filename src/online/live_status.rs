//! What a refresh moved, and what a live group serves: the values that a service logs and exports. Nothing is refreshed here.

use std::fmt;

use chrono::TimeDelta;

use super::read_counts::Reads;
use crate::{
    name::{ContentId, SetName},
    time::AsOf,
};

/// What a refresh moved. All of it became visible in one step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Refresh {
    /// The sets that moved to a newer materialization: those of the group, and those that they draw on. Empty when nothing is newer.
    pub moved: Vec<Moved>,
}

impl Refresh {
    /// Whether anything moved.
    pub fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }
}

/// The moves, separated by commas; `nothing newer` if there is none.
impl fmt::Display for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.moved.is_empty() {
            return f.write_str("nothing newer");
        }
        let moved: Vec<String> = self.moved.iter().map(ToString::to_string).collect();
        f.write_str(&moved.join(", "))
    }
}

/// A set that moved from one materialization to another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moved {
    /// The set.
    pub set: SetName,
    /// The materialization that was served.
    pub from: ContentId,
    /// Its as-of.
    pub from_as_of: AsOf,
    /// The materialization that is served now.
    pub to: ContentId,
    /// Its as-of.
    pub to_as_of: AsOf,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, from, from_as_of, to, to_as_of } = self;
        write!(f, "`{set}` from {from_as_of} ({}) to {to_as_of} ({})", from.short(), to.short())
    }
}

/// What is served of one set, and whether it is still followed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveStatus {
    /// The set.
    pub set: SetName,
    /// The materialization that is served.
    pub id: ContentId,
    /// Its as-of.
    pub as_of: AsOf,
    /// How long ago the as-of was, by the store's clock. Negative for an as-of in the future.
    pub age: TimeDelta,
    /// The rows of the materialization.
    pub rows: u64,
    /// The size of its published files, in bytes.
    pub bytes: u64,
    /// How many keys were asked for since the handle was opened, over all materializations.
    pub reads: Reads,
    /// Whether [`LiveGroup::pin`](super::LiveGroup::pin) holds it where it is.
    pub is_pinned: bool,
    /// The materializations of the sets that it draws on, each set once.
    pub drawn_on: Vec<DrawnStatus>,
    /// How many published manifests of the set, and of those that it draws on, could not be read at the last check. They were passed
    /// over. If there are any, a newer materialization than the one that is served may be damaged.
    pub unreadable: usize,
    /// The instant of the last check that succeeded, by the store's clock; at first that of opening. One check is made of the whole
    /// group.
    pub last_refresh: AsOf,
    /// The instant of the first check that failed after that; `None` when the last one succeeded.
    pub failing_since: Option<AsOf>,
    /// What the last check failed with; `None` when it succeeded.
    pub last_error: Option<String>,
}

/// A materialization that a set of rows draws on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrawnStatus {
    /// The set of entities.
    pub set: SetName,
    /// The materialization.
    pub id: ContentId,
    /// Its as-of.
    pub as_of: AsOf,
    /// Whether it is pinned.
    pub is_pinned: bool,
}
