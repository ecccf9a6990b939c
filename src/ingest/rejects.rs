//! Rows that cannot be read: counted, and listed with file, line and reason.
//! The list goes to a temporary file as it grows, so that it takes no memory.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::error::{Error, Result};

/// The rejects of one load, shared by its readers.
#[derive(Debug)]
pub(crate) struct Rejects(Mutex<State>);

#[derive(Debug)]
struct State {
    count: u64,
    first: Option<String>,
    list: csv::Writer<File>,
}

fn failed(cause: impl Into<std::io::Error>) -> Error {
    Error::Io { path: PathBuf::from("the temporary list of rejects"), source: cause.into() }
}

impl Rejects {
    pub(crate) fn new() -> Result<Self> {
        let mut list = csv::Writer::from_writer(tempfile::tempfile().map_err(failed)?);
        list.write_record(["file", "line", "column", "value", "reason"]).map_err(failed)?;
        Ok(Self(Mutex::new(State { count: 0, first: None, list })))
    }

    /// Lists a row; `line` counts from 1, in a Parquet file it is the row.
    pub(crate) fn add(&self, file: &str, line: u64, column: &str, value: &str, reason: &str) -> Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += 1;
        if state.first.is_none() {
            state.first = Some(format!("`{file}` line {line}, column `{column}`: `{value}`: {reason}"));
        }
        state.list.write_record([file, &line.to_string(), column, value, reason]).map_err(failed)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// File, line and reason of the first reject.
    pub(crate) fn first(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).first.clone().unwrap_or_default()
    }

    /// The list as CSV.
    pub(crate) fn to_csv(&self) -> Result<Vec<u8>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.list.flush().map_err(failed)?;
        let mut file = state.list.get_ref();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}
