//! Garbage collection: removes what nothing published needs any more, and reports each file with the reason.
//! It never touches the files of registered tables, or files below the root that this library did not write.

mod path_kind;
mod references;
mod sweep;

use std::fmt;

use chrono::TimeDelta;

use crate::time::saturating_micros;
pub(crate) use sweep::run;

/// The settings of a garbage collection.
///
/// It removes:
///
/// - extracts whose [`Retention`](crate::extract::Retention) is over;
/// - files that no table version, materialization, kept training set, extract or recorded model names, such as those of
///   interrupted loads;
/// - tiles (see [`StoreOptions::incremental_from`](crate::StoreOptions::incremental_from)) of files that no table version lists;
/// - staging files that were never renamed;
/// - with [`Gc::keep_versions`], old table versions and the files that only they name;
/// - temporary files on this machine of processes that have ended, without a grace period.
///
/// It keeps:
///
/// - everything younger than the grace period, so that running writers and readers lose nothing;
/// - every published materialization, and every fact file that one was made of;
/// - every kept training set, but not the facts that it was made of, unless a recorded model was fitted on it;
/// - every recorded model, and the table versions, with their files, that the rows were made of on which it was fitted;
/// - the newest version of each table;
/// - everything behind a link below the root.
///
/// ```
/// use asof::gc::Gc;
/// use chrono::TimeDelta;
///
/// let look = Gc::dry_run().keep_versions(3);
/// let clean = Gc::delete().keep_versions(3).grace(TimeDelta::hours(48));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Gc {
    pub(crate) mode: GcMode,
    pub(crate) grace_us: i64,
    pub(crate) keep_versions: Option<u64>,
}

/// Whether garbage is only listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcMode {
    /// Lists garbage and removes nothing.
    DryRun,
    /// Removes garbage.
    Delete,
}

impl Gc {
    /// Lists what [`Gc::delete`] would remove.
    pub fn dry_run() -> Self {
        Self { mode: GcMode::DryRun, grace_us: saturating_micros(TimeDelta::hours(24)), keep_versions: None }
    }

    /// Removes garbage.
    pub fn delete() -> Self {
        Self { mode: GcMode::Delete, ..Self::dry_run() }
    }

    /// The age from which garbage is removed, by the object store's modification times; 24 hours by default.
    ///
    /// It must be longer than any load, extract, materialization or query takes, plus the difference between the clocks of the
    /// machines: the files of a running writer are garbage until they are published.
    pub fn grace(mut self, grace: TimeDelta) -> Self {
        self.grace_us = saturating_micros(grace).max(0);
        self
    }

    /// Keeps this many of the newest versions of each table (at least one), and those that were the newest within the grace
    /// period. Without this setting every version is kept.
    pub fn keep_versions(mut self, versions: u32) -> Self {
        self.keep_versions = Some(u64::from(versions.max(1)));
        self
    }
}

/// Why a file is garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// It belongs to an extract whose retention is over.
    Expired,
    /// It is an old table version, or a file that only old versions name.
    OldVersion,
    /// Nothing published names it: its writer was interrupted, or the table version that named it has been removed.
    Unreferenced,
    /// It is a staging file that was never renamed.
    Staged,
}

/// A file that is garbage.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Garbage {
    /// The path below the root.
    pub path: String,
    /// Why it is garbage.
    pub reason: Reason,
    /// Its size.
    pub bytes: u64,
}

/// What a garbage collection removed, or would remove. It prints as a list.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GcReport {
    /// Whether the garbage was removed or only listed.
    pub mode: GcMode,
    /// The garbage, in the order of removal: publishing files (table versions and records) first, then the files they name.
    pub removed: Vec<Garbage>,
    /// The number of garbage files that were kept because they are younger than the grace period.
    pub young_count: usize,
    /// Paths below the root that this library did not write. They are kept.
    pub unknown: Vec<String>,
}

impl GcReport {
    /// The total size of the garbage in bytes.
    pub fn bytes(&self) -> u64 {
        self.removed.iter().map(|garbage| garbage.bytes).sum()
    }
}

impl fmt::Display for GcReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.mode == GcMode::Delete { "removed" } else { "would remove" };
        writeln!(
            f,
            "{done} {} files, {} bytes; {} more are younger than the grace period",
            self.removed.len(),
            self.bytes(),
            self.young_count
        )?;
        for Garbage { path, reason, bytes } in &self.removed {
            writeln!(f, "  {path} ({bytes} bytes, {reason})")?;
        }
        self.unknown.iter().try_for_each(|path| writeln!(f, "  kept, not written by this library: {path}"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Expired => "its extract has expired",
            Reason::OldVersion => "it is of an old table version",
            Reason::Unreferenced => "nothing names it",
            Reason::Staged => "it was never finished",
        })
    }
}
