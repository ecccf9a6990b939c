//! Rows that cannot be read: counted, and listed with file, line and reason.
//! The list goes to a temporary file as it grows, so that it takes no memory.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Seek,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::read_rows::Reject;
use crate::{
    error::{Error, Result},
    name::ContentId,
};

/// Reasons that are counted each on its own.
const REASONS: usize = 1_000;

/// The rejects of one load, shared by its readers.
#[derive(Debug)]
pub(crate) struct Rejects(Mutex<State>);

#[derive(Debug)]
struct State {
    count: u64,
    first: Option<String>,
    by_reason: BTreeMap<String, u64>,
    by_file: BTreeMap<String, u64>,
    list: csv::Writer<File>,
}

fn failed(cause: impl Into<std::io::Error>) -> Error {
    Error::Io { path: PathBuf::from("the temporary list of rejects"), source: cause.into() }
}

impl Rejects {
    pub(crate) fn new() -> Result<Self> {
        let mut list = csv::Writer::from_writer(tempfile::tempfile().map_err(failed)?);
        list.write_record(["file", "line", "column", "value", "reason"]).map_err(failed)?;
        Ok(Self(Mutex::new(State { count: 0, first: None, by_reason: BTreeMap::new(), by_file: BTreeMap::new(), list })))
    }

    /// Lists a row of a file.
    pub(crate) fn add(&self, file: &str, reject: &Reject) -> Result<()> {
        let Reject { line, column, value, reason } = reject;
        let reason = &**reason;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += 1;
        if state.first.is_none() {
            state.first = Some(format!("`{file}` line {line}, column `{column}`: `{value}`: {reason}"));
        }
        // Reasons may name what they found; as many as people read are told apart.
        let reason_key =
            if state.by_reason.len() < REASONS || state.by_reason.contains_key(reason) { reason } else { "other reasons" };
        *state.by_reason.entry(reason_key.to_owned()).or_default() += 1;
        *state.by_file.entry(file.to_owned()).or_default() += 1;
        state.list.write_record([file, &line.to_string(), column.as_str(), value.as_str(), reason]).map_err(failed)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Rejected rows by their reason.
    pub(crate) fn by_reason(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_reason.clone()
    }

    /// Rejected rows of a file.
    pub(crate) fn of_file(&self, shown: &str) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_file.get(shown).copied().unwrap_or(0)
    }

    /// File, line and reason of the first reject.
    pub(crate) fn first(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).first.clone().unwrap_or_default()
    }

    /// The list as a CSV file, and its hash.
    pub(crate) fn to_csv(&self) -> Result<(File, ContentId)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.list.flush().map_err(failed)?;
        let mut file = state.list.get_ref().try_clone().map_err(failed)?;
        file.rewind().map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file).map_err(failed)?;
        Ok((file, hasher.finalize().into()))
    }
}
