//! The report of a load: what became of each source file, which rows were left out, and which rows were replaced.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    check::{history::FileSummary, quality::QualityReport},
    plan::changes::SchemaChange,
    sources::{FoundSources, SourceFile},
};
use crate::{
    catalog::{LoadRecord, TableVersion},
    name::ContentId,
    time::month::Month,
};

/// What a load did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoadReport {
    /// Whether this call loaded the rows or an earlier one did.
    pub outcome: LoadOutcome,
    /// The table's version that holds the load.
    pub version: TableVersion,
    /// Rows loaded.
    pub rows: u64,
    /// Rows that could not be read and were left out.
    pub rejected: u64,
    /// The list of rejected rows with file, line and reason, relative to the root; `None` if there are none.
    pub reject_file: Option<String>,
    /// Rows in quarantine; 0 for an earlier load whose quality report is lost.
    pub quarantined: u64,
    /// The Parquet file of the quarantined rows and the reasons, relative to the root; `None` if there are none.
    pub quarantine_file: Option<String>,
    /// The quality report; `None` for an earlier load whose report is lost.
    pub quality: Option<QualityReport>,
    /// What became of each source file, in the order in which the files were found.
    pub sources: Vec<SourceReport>,
    /// The rows that this load replaced, by month. They may include rows of sources that are not part of this load. Empty for a
    /// load that appends.
    pub replaced: Vec<ReplacedRows>,
    /// What changed in the columns from one source file to the next, in the order of the files. The first file is compared with
    /// the last file of the table's previous load. Empty if nothing was loaded.
    pub schema_changes: Vec<SchemaChange>,
}

/// Whether a load was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadOutcome {
    /// This call loaded the rows.
    Loaded,
    /// All sources had been loaded before. Nothing was changed, and the report is that of the table's last load.
    AlreadyLoaded,
}

/// A source file of a load.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceReport {
    /// The name relative to the folder or glob that was given.
    pub name: String,
    /// What became of it.
    pub outcome: SourceOutcome,
}

/// What became of a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceOutcome {
    /// This call read it.
    Loaded {
        /// Rows that could be read, including those in quarantine.
        rows: u64,
        /// Rows in quarantine.
        quarantined: u64,
        /// Rows that could not be read and were left out, by reason.
        rejected: BTreeMap<String, u64>,
    },
    /// An earlier load read its content.
    AlreadyLoaded,
    /// An earlier load read its content, and later loads have replaced these months. The replaced rows of the source are loaded
    /// again only by a load that replaces these months and has the source.
    AlreadyLoadedInPart(Vec<Month>),
    /// It has the same content as another source of this load and was not loaded a second time.
    CopyOf(String),
}

impl fmt::Display for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            SourceOutcome::AlreadyLoaded => write!(f, "{}: loaded before", self.name),
            SourceOutcome::AlreadyLoadedInPart(months) => {
                write!(f, "{}: loaded before; its rows of {} were replaced since", self.name, listed(months))
            }
            SourceOutcome::CopyOf(other) => write!(f, "{}: a copy of {other}, not loaded again", self.name),
            SourceOutcome::Loaded { rows, quarantined, rejected } => {
                write!(f, "{}: {rows} rows", self.name)?;
                if *quarantined > 0 {
                    write!(f, ", {quarantined} of them in quarantine")?;
                }
                rejected.iter().try_for_each(|(reason, rows)| write!(f, ", {rows} rejected ({reason})"))
            }
        }
    }
}

/// Rows of a month that a load has replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplacedRows {
    /// The month whose rows were replaced.
    pub month: Month,
    /// The number of rows.
    pub rows: u64,
    /// The sources of the loads that the rows came from, in the order of their names.
    pub sources: Vec<String>,
}

impl fmt::Display for ReplacedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} rows replaced, of {}", self.month, self.rows, self.sources.join(", "))
    }
}

fn listed(months: &[Month]) -> String {
    months.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The rows of these months of a version.
pub(crate) fn replaced_rows(version: &TableVersion, months: &[Month]) -> Vec<ReplacedRows> {
    let of_month = |month: &Month| {
        let files = || version.files.iter().filter(|file| file.is_in(*month));
        let loads: BTreeSet<ContentId> = files().flat_map(|file| file.loads.iter().copied()).collect();
        let sources = version.loads.iter().filter(|load| loads.contains(&load.id)).flat_map(|load| &load.sources);
        let sources: BTreeSet<String> = sources.map(|source| source.name.clone()).collect();
        let rows = files().map(|file| file.rows).sum();
        (rows > 0).then(|| ReplacedRows { month: *month, rows, sources: sources.into_iter().collect() })
    };
    months.iter().filter_map(of_month).collect()
}

/// Reports of all sources that were found. `sources` and `files` are those that this load read, `loads` are those of the table.
pub(crate) fn reports(
    found: &FoundSources,
    sources: &[SourceFile],
    files: &[FileSummary],
    loads: &[LoadRecord],
) -> Vec<SourceReport> {
    let read =
        |source: &SourceFile| sources.iter().zip(files).find(|(read, _)| read.object == source.object).map(|(_, file)| file);
    let replaced = |source: &SourceFile| -> Vec<Month> {
        let content = source.content();
        let holds = |load: &&LoadRecord| load.sources.iter().any(|known| known.content == content);
        loads.iter().filter(holds).flat_map(|load| load.replaced_months.iter().copied()).collect()
    };
    let outcome = |source: &SourceFile| match read(source) {
        None => match replaced(source) {
            months if months.is_empty() => SourceOutcome::AlreadyLoaded,
            months => SourceOutcome::AlreadyLoadedInPart(months),
        },
        Some(file) => SourceOutcome::Loaded {
            rows: file.stats.rows,
            quarantined: file.stats.quarantined,
            rejected: file.rejected.iter().map(|(reason, rejected)| (reason.clone(), rejected.rows)).collect(),
        },
    };
    let own = found.sources.iter().map(|source| SourceReport { name: source.name.clone(), outcome: outcome(source) });
    let copy = |(name, of): &(String, String)| SourceReport { name: name.clone(), outcome: SourceOutcome::CopyOf(of.clone()) };
    own.chain(found.copies.iter().map(copy)).collect()
}
