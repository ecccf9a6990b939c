//! What a comparison of published materializations with the facts of now has found. It prints as text.

use std::fmt;

use super::published::{DamagedManifest, shown_as_of};
use crate::{
    feature_set::View,
    manifest::EngineVersions,
    name::{ContentId, SetName, TableName},
    time::{AsOf, Cutoff},
};

/// Files that a line names; of more it gives the number.
const SHOWN_AT_MOST: usize = 3;

/// Which published materializations of a set would be others now, and why; see
/// [`FeatureStore::stale`](crate::FeatureStore::stale). It prints as text.
#[derive(Debug)]
#[non_exhaustive]
pub struct Staleness {
    /// The feature set.
    pub set: SetName,
    /// The views through which the registered definition reads its tables.
    pub views: Vec<View>,
    /// Those that would be others, by their as-ofs and then by their ids. They stay as they are and can be read.
    pub stale: Vec<StaleMaterialization>,
    /// The ids of those that would be the same, in the same order.
    pub current: Vec<ContentId>,
    /// Manifests that cannot be read, in the order of their paths.
    pub damaged: Vec<DamagedManifest>,
}

impl Staleness {
    /// The materialization with this id, if it is stale.
    pub fn of(&self, id: ContentId) -> Option<&StaleMaterialization> {
        self.stale.iter().find(|found| found.id == id)
    }
}

/// A materialization that would be another one now.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StaleMaterialization {
    /// The instant at which its facts were cut.
    pub as_of: AsOf,
    /// Whether facts at exactly the as-of were visible.
    pub cutoff: Cutoff,
    /// Its id.
    pub id: ContentId,
    /// Its rows.
    pub rows: u64,
    /// The id that a materialization as of the same instant would have now; `None` when none can be made: a table of the set is gone,
    /// or the root holds another definition under the set's name.
    pub id_now: Option<ContentId>,
    /// Is the materialization with that id published already? Then nothing is left to be made.
    pub is_renewed: bool,
    /// Everything that differs, one reason or more.
    pub reasons: Vec<StaleReason>,
}

/// Why a materialization would be another one now. It prints as a line.
///
/// Files count and not their rows: new files *may* hold visible rows, by their statistics, and a compaction changes no row.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StaleReason {
    /// Files have come that may hold visible rows: late facts or corrections.
    #[non_exhaustive]
    NewFiles {
        /// The table.
        table: TableName,
        /// The files.
        files: Vec<StaleFile>,
    },
    /// Of one partition files went and others came.
    #[non_exhaustive]
    ReplacedFiles {
        /// The table.
        table: TableName,
        /// The partition as Hive names its folder; empty for a table without partitions.
        partition: String,
        /// The files that went.
        was: Vec<StaleFile>,
        /// The files that came and may hold visible rows.
        now: Vec<StaleFile>,
        /// What replaced them.
        by: Rewrite,
    },
    /// Files are no longer in the table, or can hold no visible row by what is declared and known of them now.
    #[non_exhaustive]
    FilesGone {
        /// The table.
        table: TableName,
        /// The files.
        files: Vec<StaleFile>,
    },
    /// Files of the same paths have other contents, or belong to other partitions.
    #[non_exhaustive]
    FilesChanged {
        /// The table.
        table: TableName,
        /// The files as they are now.
        files: Vec<StaleFile>,
    },
    /// The table is not in the catalog any more.
    #[non_exhaustive]
    Dropped {
        /// The table.
        table: TableName,
    },
    /// Something else is declared about the table: its times, its zone or its keys.
    #[non_exhaustive]
    Declaration {
        /// The table.
        table: TableName,
        /// The parts that differ. "There" is what the materialization was made of, "here" the table as it is now.
        differs: String,
    },
    /// The table has other columns, or has them in another order. They count because a query may select all of them.
    #[non_exhaustive]
    Columns {
        /// The table.
        table: TableName,
        /// Columns that came.
        added: Vec<String>,
        /// Columns that went.
        removed: Vec<String>,
        /// Columns with another type: the name, the type then, and the type now.
        retyped: Vec<(String, String, String)>,
    },
    /// Another definition is registered under the set's name.
    #[non_exhaustive]
    Definition {
        /// The fingerprint of the definition that made it.
        was: ContentId,
        /// The fingerprint of the registered definition.
        now: ContentId,
        /// The parts that differ, if the root still holds the definition of then: "there" is that one, "here" the registered one.
        differs: Option<String>,
    },
    /// Another engine made it. Other code may yield other bits.
    #[non_exhaustive]
    Engine {
        /// The engine that made it.
        was: EngineVersions,
        /// The engine of this program.
        now: EngineVersions,
    },
}

/// What took files of a partition away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rewrite {
    /// A compaction, by what is recorded: the other files hold as many rows of the same loads.
    Compacted,
    /// Anything else: a load that replaces rows, a repair, a compaction before or after late facts, or a compaction of files that no table
    /// version tells of any more, because a collection has removed the version.
    Replaced,
}

/// A file of a table that makes the difference.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaleFile {
    /// The path relative to the table.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Rows in it, visible or not; `None` for a file of a table version that was removed.
    pub rows: Option<u64>,
}

/// How many files, and how many rows if that is known.
fn counted(files: &[StaleFile]) -> String {
    let plural = if files.len() == 1 { "" } else { "s" };
    let rows: Option<u64> = files.iter().map(|file| file.rows).sum();
    let rows = rows.map_or_else(String::new, |rows| format!(" with {rows} row{}", if rows == 1 { "" } else { "s" }));
    format!("{} file{plural}{rows}", files.len())
}

/// The first of these, and how many more there are.
fn first_of<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(SHOWN_AT_MOST);
    let shown = names.take(SHOWN_AT_MOST).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

fn paths(files: &[StaleFile]) -> String {
    first_of(files.iter().map(|file| file.path.as_str()))
}

impl fmt::Display for StaleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewFiles { table, files } => {
                write!(f, "late facts or corrections in `{table}`: {} came, {}", counted(files), paths(files))
            }
            Self::ReplacedFiles { table, partition, was, now, by } => {
                let place = if partition.is_empty() { format!("`{table}`") } else { format!("{partition} of `{table}`") };
                let done = match by {
                    Rewrite::Compacted => "compacted into",
                    Rewrite::Replaced => "replaced by",
                };
                write!(f, "files of {place}: {} {done} {}, {}", counted(was), counted(now), paths(now))
            }
            Self::FilesGone { table, files } => {
                write!(f, "files of `{table}` are gone from it or hold nothing visible: {}, {}", counted(files), paths(files))
            }
            Self::FilesChanged { table, files } => {
                write!(f, "files of `{table}` have changed: {} now, {}", counted(files), paths(files))
            }
            Self::Dropped { table } => write!(f, "table `{table}` is not in the catalog any more, so none can be made"),
            Self::Declaration { table, differs } => {
                write!(f, "another declaration of `{table}` than that of the materialization: {differs}")
            }
            Self::Columns { table, added, removed, retyped } => {
                let mut parts = Vec::new();
                for (names, what) in [(added, "added"), (removed, "removed")] {
                    if !names.is_empty() {
                        parts.push(format!("{what} {}", first_of(names.iter().map(String::as_str))));
                    }
                }
                parts.extend(retyped.iter().map(|(name, was, now)| format!("`{name}` was {was} and is {now}")));
                let parts = if parts.is_empty() { "they have another order".to_owned() } else { parts.join("; ") };
                write!(f, "other columns of `{table}`: {parts}")
            }
            Self::Definition { was, now, differs } => {
                let differs = differs.as_ref().map_or_else(String::new, |parts| format!(": {parts}"));
                write!(f, "another definition, {} and not {}{differs}", now.short(), was.short())
            }
            Self::Engine { was, now } => write!(f, "another engine: {was} then, {now} now"),
        }
    }
}

impl fmt::Display for StaleMaterialization {
    /// The materialization, and a line per reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { as_of, cutoff, id, rows, id_now, is_renewed, reasons } = self;
        writeln!(f, "as of {}: {id} with {rows} row{}", shown_as_of(*as_of, *cutoff), if *rows == 1 { "" } else { "s" })?;
        reasons.iter().try_for_each(|reason| writeln!(f, "  {reason}"))?;
        match id_now {
            Some(now) if *is_renewed => writeln!(f, "  published anew as {now}"),
            Some(now) => writeln!(f, "  would be {now}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Staleness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, views, stale, current, damaged } = self;
        let all = stale.len() + current.len();
        writeln!(f, "{set}: {} of {all} materialization{} would differ now", stale.len(), if all == 1 { "" } else { "s" })?;
        if !stale.is_empty() {
            views.iter().try_for_each(|view| writeln!(f, "view {}", view.shown()))?;
        }
        stale.iter().try_for_each(|found| write!(f, "{found}"))?;
        damaged.iter().try_for_each(|manifest| writeln!(f, "cannot be read: {manifest}"))
    }
}
