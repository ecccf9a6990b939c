//! Rejects: rows that cannot be read. They are counted, and listed with file, line and reason.
//! The list is written to a temporary file as it grows, so that it takes no memory.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::Seek,
    sync::{Mutex, PoisonError},
};

use crate::{
    error::{Error, Result},
    name::ContentId,
};

/// Why a value was refused.
pub(crate) type RejectReason = Cow<'static, str>;

/// A row that cannot be read. Its texts are cut, as messages show them.
pub(crate) struct Reject {
    /// The line, from 1; in a Parquet file the row.
    pub(crate) line: u64,
    pub(crate) column: String,
    pub(crate) value: String,
    pub(crate) reason: RejectReason,
}

/// The most reasons that are counted separately, over all files.
const REASONS: usize = 10_000;
const OTHERS: &str = "other reasons";

/// The rejects of one load, shared by its readers.
#[derive(Debug)]
pub(crate) struct Rejects(Mutex<RejectCounts>);

#[derive(Debug)]
struct RejectCounts {
    count: u64,
    reasons: usize,
    by_file: BTreeMap<String, BTreeMap<String, Rejected>>,
    list: csv::Writer<File>,
}

/// Rows that were rejected for one reason.
#[derive(Debug, Clone)]
pub(crate) struct Rejected {
    pub(crate) rows: u64,
    /// File, line, column and value of the first of them, and the reason.
    pub(crate) first: String,
    /// How many rows of the load had been rejected before it.
    before: u64,
}

fn failed(cause: impl Into<std::io::Error>) -> Error {
    Error::System { subject: "the temporary list of rejects".into(), cause: cause.into() }
}

/// Where a row lies and why it is rejected. Empty parts are left out.
fn described(file: &str, line: u64, column: &str, value: &str, reason: &str) -> String {
    let column = if column.is_empty() { String::new() } else { format!(", column `{column}`") };
    let value = if value.is_empty() { String::new() } else { format!("`{value}`: ") };
    format!("`{file}` line {line}{column}: {value}{reason}")
}

/// The reason with the most rows; of two with equal counts the one that came first.
pub(crate) fn commonest(reasons: impl Iterator<Item = Rejected>) -> Option<Rejected> {
    reasons.max_by_key(|reason| (reason.rows, std::cmp::Reverse(reason.before)))
}

impl Rejects {
    pub(crate) fn new() -> Result<Self> {
        let mut list = csv::Writer::from_writer(tempfile::tempfile().map_err(failed)?);
        list.write_record(["file", "line", "column", "value", "reason"]).map_err(failed)?;
        Ok(Self(Mutex::new(RejectCounts { count: 0, reasons: 0, by_file: BTreeMap::new(), list })))
    }

    /// Adds a row of a file.
    pub(crate) fn add(&self, file: &str, reject: &Reject) -> Result<()> {
        let Reject { line, column, value, reason } = reject;
        let reason = &**reason;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.count;
        state.count += 1;
        if !state.by_file.contains_key(file) {
            state.by_file.insert(file.to_owned(), BTreeMap::new());
        }
        let is_full = state.reasons >= REASONS;
        let mut new = 0;
        if let Some(of_file) = state.by_file.get_mut(file) {
            // A reason may contain a value, so their number is bounded.
            let key = if is_full && !of_file.contains_key(reason) { OTHERS } else { reason };
            match of_file.get_mut(key) {
                Some(known) => known.rows += 1,
                None => {
                    of_file.insert(
                        key.to_owned(),
                        Rejected { rows: 1, first: described(file, *line, column, value, reason), before },
                    );
                    new = 1;
                }
            }
        }
        state.reasons += new;
        state.list.write_record([file, &line.to_string(), column.as_str(), value.as_str(), reason]).map_err(failed)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// The number of rejected rows by reason.
    pub(crate) fn by_reason(&self) -> BTreeMap<String, u64> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<String, u64> = BTreeMap::new();
        for (reason, rejected) in state.by_file.values().flatten() {
            *all.entry(reason.clone()).or_default() += rejected.rows;
        }
        all
    }

    /// The rejected rows of a file by reason.
    pub(crate) fn of_file(&self, shown: &str) -> BTreeMap<String, Rejected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_file.get(shown).cloned().unwrap_or_default()
    }

    /// The commonest reason over all files; of two with equal counts the one that came first.
    pub(crate) fn commonest(&self) -> Option<Rejected> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<&str, Rejected> = BTreeMap::new();
        for (reason, rejected) in state.by_file.values().flatten() {
            match all.get_mut(reason.as_str()) {
                None => drop(all.insert(reason, rejected.clone())),
                Some(known) => {
                    let rows = known.rows + rejected.rows;
                    let earlier = if rejected.before < known.before { rejected } else { &*known };
                    *known = Rejected { rows, ..earlier.clone() };
                }
            }
        }
        commonest(all.into_values())
    }

    /// The list as a CSV file, and its hash.
    pub(crate) fn to_csv(&self) -> Result<(File, ContentId)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.list.flush().map_err(failed)?;
        let mut file = state.list.get_ref().try_clone().map_err(failed)?;
        file.rewind().map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file).map_err(failed)?;
        Ok((file, ContentId::from_hash(hasher.finalize())))
    }
}
