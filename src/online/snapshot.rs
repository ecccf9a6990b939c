//! What a live group serves at one moment: one materialization of every set. It never changes.

use std::{fmt, sync::Arc};

use super::serve::Online;
use crate::{
    error::{Error, Result},
    materialize::Materialization,
    name::{SetName, shown},
};

/// The sets of a [`LiveGroup`](super::LiveGroup) as they were served at one moment.
///
/// It never changes, and it answers as long as it is held, however often its group is refreshed. A request that takes one snapshot and
/// reads everything from it sees one materialization of each set.
pub struct Snapshot {
    /// A group has at least one set.
    pub(super) first: ServedSet,
    pub(super) others: Vec<ServedSet>,
    /// The materializations of all sets that the group follows, in its order.
    pub(super) made: Vec<Materialization>,
}

/// A set that was asked for.
pub(super) struct ServedSet {
    pub(super) name: SetName,
    pub(super) online: Arc<Online>,
}

impl Snapshot {
    /// The serving side of the set with this name.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the group was not opened with it. A set that others draw on is one of the group only if it was
    /// named, too.
    pub fn set(&self, name: &str) -> Result<&Arc<Online>> {
        let found = self.served().find(|served| served.name.as_str() == name).map(|served| &served.online);
        found.ok_or_else(|| not_of_group(name, self.served().map(|served| &served.name)))
    }

    /// All sets with their serving sides, in the order in which the group was opened.
    pub fn sets(&self) -> impl Iterator<Item = (&SetName, &Arc<Online>)> {
        self.served().map(|served| (&served.name, &served.online))
    }

    pub(super) fn served(&self) -> impl Iterator<Item = &ServedSet> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// The error about a set that a group does not serve.
pub(super) fn not_of_group<'a>(name: &str, known: impl Iterator<Item = &'a SetName>) -> Error {
    let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
    Error::NotFound {
        subject: format!("feature set `{}`", shown(name)),
        reason: format!("is not one of this live group, which has {}; open a group with it", known.join(", ")),
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.served().map(|served| &served.online)).finish()
    }
}
