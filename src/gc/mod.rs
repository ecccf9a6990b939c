//! Garbage collection: removes what nothing published needs any more, and tells what and why.
//! It never touches the files of registered tables, nor a file below the root whose place it does not know.

mod layout;
mod references;
mod sweep;

use std::fmt;

use chrono::TimeDelta;

use crate::time::saturating_micros;
pub(crate) use sweep::run;

/// What a garbage collection is to do.
///
/// What goes: extracts whose [`Retention`](crate::extract::Retention) is over; files that no table version, materialization or
/// extract names, such as those of loads that were cut off; staging files that never got their name; and, if asked,
/// versions of tables beyond the newest few with the files that only they name.
///
/// Temporary files that ended processes have left on this machine go too, without a grace period: a lock tells who lives.
///
/// What stays: what lies behind a link below the root; everything that is younger than the grace period, so that writers and readers at work lose nothing; every
/// published materialization, and every fact file that one was made of; the newest version of each table.
///
/// ```
/// use asof::gc::Gc;
/// use chrono::TimeDelta;
///
/// let look = Gc::dry_run().keep_versions(3);
/// let clean = Gc::delete().keep_versions(3).grace(TimeDelta::hours(48));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gc {
    pub(crate) mode: GcMode,
    pub(crate) grace_us: i64,
    pub(crate) keep_versions: Option<u64>,
}

/// Whether garbage is only listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcMode {
    /// Lists what would be removed, and removes nothing.
    DryRun,
    /// Removes it.
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

    /// How long ago garbage must have been written, by the object store's own times; 24 hours by default.
    ///
    /// It has to be longer than any load, extract, materialization or query takes, plus what the clocks of machines differ
    /// by. What a run is still writing is garbage until it is published.
    pub fn grace(mut self, grace: TimeDelta) -> Self {
        self.grace_us = saturating_micros(grace).max(0);
        self
    }

    /// Keeps this many of the newest versions of each table, at least one, and those that were the newest within the grace
    /// period. Without it every version is kept.
    pub fn keep_versions(mut self, versions: u32) -> Self {
        self.keep_versions = Some(u64::from(versions.max(1)));
        self
    }
}

/// Why a file is garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Why {
    /// It belongs to an extract whose retention is over.
    Expired,
    /// It is a table version beyond those to keep, or a file that only such versions name.
    OldVersion,
    /// Nothing that was published names it: its writer was cut off, or its table version was removed before.
    Unreferenced,
    /// It was begun on this machine's disk and never got its name.
    Staged,
}

/// A file that is garbage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// The path below the root.
    pub path: String,
    /// Why it is garbage.
    pub why: Why,
    /// Its size.
    pub bytes: u64,
}

/// What a garbage collection removed, or would remove. It prints as a list.
#[derive(Debug, Clone)]
pub struct GcReport {
    /// Whether it was removed.
    pub mode: GcMode,
    /// The garbage, in the order of its removal: first what publishes, then the files.
    pub removed: Vec<Garbage>,
    /// Files that nothing names and that are younger than the grace period: left alone.
    pub young_count: usize,
    /// Paths below the root that this library does not write: left alone, yours to judge.
    pub unknown: Vec<String>,
}

impl GcReport {
    /// Bytes of all garbage.
    pub fn bytes(&self) -> u64 {
        self.removed.iter().map(|garbage| garbage.bytes).sum()
    }
}

impl fmt::Display for GcReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.mode == GcMode::Delete { "removed" } else { "would remove" };
        writeln!(f, "{done} {} files, {} bytes; {} are too young", self.removed.len(), self.bytes(), self.young_count)?;
        for Garbage { path, why, bytes } in &self.removed {
            writeln!(f, "  {path} ({bytes} bytes, {why})")?;
        }
        self.unknown.iter().try_for_each(|path| writeln!(f, "  left alone, not this library's: {path}"))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Expired => "its extract has expired",
            Why::OldVersion => "of an old table version",
            Why::Unreferenced => "nothing names it",
            Why::Staged => "never finished",
        })
    }
}
