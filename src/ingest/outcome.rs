//! What became of each source file of a load: loaded, known already, a copy, and why rows were left out.
//! It only tells what others decided.

use std::{collections::BTreeMap, fmt};

use super::{
    sources::{Found, Source},
    suspicion::Examined,
};

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
    /// This call has read it.
    Loaded {
        /// Rows that could be read; those in quarantine are among them.
        rows: u64,
        /// Rows that were read and kept out of the table as they are not as expected.
        quarantined: u64,
        /// Rows that could not be read and were left out, by reason.
        rejected: BTreeMap<String, u64>,
    },
    /// An earlier load has brought its content.
    AlreadyLoaded,
    /// It has the content of another source of this load, and was not loaded a second time.
    CopyOf(String),
}

impl fmt::Display for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            SourceOutcome::AlreadyLoaded => write!(f, "{}: loaded before", self.name),
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

/// Reports of all sources that were found; `examined` are those that this load has read.
pub(crate) fn reports(found: &Found, sources: &[Source], examined: &[Examined<'_>]) -> Vec<SourceReport> {
    let read =
        |source: &Source| sources.iter().zip(examined).find(|(read, _)| read.object == source.object).map(|(_, file)| file);
    let outcome = |source: &Source| match read(source) {
        None => SourceOutcome::AlreadyLoaded,
        Some(file) => SourceOutcome::Loaded {
            rows: file.seen.rows,
            quarantined: file.seen.quarantined,
            rejected: file.rejected.iter().map(|(reason, rejected)| (reason.clone(), rejected.rows)).collect(),
        },
    };
    let own = found.sources.iter().map(|source| SourceReport { name: source.name.clone(), outcome: outcome(source) });
    let copy = |(name, of): &(String, String)| SourceReport { name: name.clone(), outcome: SourceOutcome::CopyOf(of.clone()) };
    own.chain(found.copies.iter().map(copy)).collect()
}
