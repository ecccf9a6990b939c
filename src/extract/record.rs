//! The record of an extract: what it is, what it was made of, and which files hold it.
//! It holds no credentials: they are left out of locations, and options of object stores are not written.
//!
//! `extracts/<name>/<run>/extract.json`

use serde::{Deserialize, Serialize};

use crate::{
    catalog::Column,
    error::{Error, Result},
    layout::{EXTRACT_RECORD, run_folder},
    name::TableName,
    storage::{FileIdentity, check_name, seal, unseal},
    time::{AsOf, Horizon},
    value::Value,
    workspace::Part,
};

/// The version of the record's format.
pub(crate) const FORMAT: u32 = 2;

/// The record of a run: published once, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExtractRecord {
    pub(crate) format: u32,
    /// The extract's name.
    pub name: String,
    /// The run: the second in UTC in which it started, and a suffix that tells it from others of that second.
    pub run: String,
    /// The table that queries name: `ctas_<name>_<run>`.
    pub table: TableName,
    /// The query.
    pub sql: String,
    /// The values of its placeholders.
    pub parameters: Vec<Parameter>,
    /// The instant at which facts were cut; `None` when all facts of the pinned versions were seen.
    pub as_of: Option<AsOf>,
    /// The tables that the query names.
    pub inputs: Vec<ExtractInput>,
    /// The columns of the rows.
    pub columns: Vec<Column>,
    /// How many rows there are.
    pub rows: u64,
    /// The files that hold them, in the order of the rows.
    pub parts: Vec<Part>,
    /// When the run began, by the store's clock.
    pub started: AsOf,
    /// When its last file was written, by the store's clock.
    pub ended: AsOf,
    /// How long it is kept.
    pub retention: Retention,
    /// The version of this library that made it.
    pub library: String,
}

/// The value of a placeholder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parameter {
    /// The placeholder's name, without `$`.
    pub name: String,
    /// The value and its type.
    #[serde(flatten)]
    pub value: Value,
}

/// A table that an extract was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExtractInput {
    /// The table.
    pub table: TableName,
    /// The version that was pinned; `None` for an extract, which has only one.
    pub version: Option<u64>,
    /// Where its files lie, without credentials.
    pub location: String,
    /// The files that were read.
    pub files: Vec<ExtractFile>,
}

/// A file that an extract was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExtractFile {
    /// The path relative to the input's location.
    pub path: String,
    /// Size, entity tag, content hash.
    #[serde(flatten)]
    pub identity: FileIdentity,
}

/// How long a run is kept. Without either value it is never removed by a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Retention {
    /// Microseconds after the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_for_us: Option<i64>,
    /// Until this many newer runs of its name exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
}

impl ExtractRecord {
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        seal(&self.table.to_string(), serde_json::to_vec_pretty(self))
    }

    pub(crate) fn parse(path: &str, bytes: &[u8]) -> Result<Self> {
        let remedy = "restore the file from a copy of the root, or delete the folder it lies in";
        let record: Self = unseal(path, bytes, FORMAT, remedy)?;
        let run = RunName { name: record.name.clone(), run: record.run.clone() };
        check_name(path, &format!("{}/{EXTRACT_RECORD}", run.folder()), remedy)?;
        match run.table().is_ok_and(|table| table == record.table) {
            true => Ok(record),
            false => Err(Error::Corrupt { path: path.into(), reason: format!("it names the table of another run; {remedy}") }),
        }
    }

    /// Refuses a query that must not read these rows, since it sees less than they were made of.
    ///
    /// # Errors
    /// [`Error::Definition`] says why it must not.
    pub(crate) fn check_visible(&self, subject: &str, asking: Horizon) -> Result<()> {
        if horizon_of(self.as_of) <= asking {
            return Ok(());
        }
        let asked = asking.as_of;
        let reason = match self.as_of {
            Some(made) => format!(
                "it reads as of {asked}, and table `{}` holds what was visible at {made}: later facts would leak; query as of {made} \
                 or later, or run the extract again as of {asked}",
                self.table
            ),
            None => format!(
                "it reads as of {asked}, and table `{}` was made without an as-of: later facts would leak; read the table with \
                 `FeatureStore::extract`, or run the extract again with `Extract::as_of`",
                self.table
            ),
        };
        Err(Error::Definition { subject: subject.into(), reason })
    }
}

/// How far the query of an extract sees; without an as-of it sees all facts.
pub(crate) fn horizon_of(as_of: Option<AsOf>) -> Horizon {
    as_of.map_or(Horizon::END_OF_TIME, Horizon::before)
}

/// The name of a run, from which its folder and its table's name follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunName {
    pub(crate) name: String,
    pub(crate) run: String,
}

impl RunName {
    /// The table's name.
    pub(crate) fn table(&self) -> Result<TableName> {
        format!("ctas_{}_{}", self.name, self.run).parse()
    }

    /// The run whose table would have this name; `None` when no run's table can.
    pub(crate) fn of_table(table: &TableName) -> Option<Self> {
        let rest = table.table().strip_prefix("ctas_").filter(|_| table.database() == crate::name::DEFAULT_DATABASE)?;
        let (rest, suffix) = rest.rsplit_once('_')?;
        let (name, instant) = rest.rsplit_once('_')?;
        let is_run = suffix.len() == 8 && instant.contains('t') && instant.starts_with(|c: char| c.is_ascii_digit());
        (is_run && !name.is_empty()).then(|| Self { name: name.into(), run: format!("{instant}_{suffix}") })
    }

    /// The folder below the root.
    pub(crate) fn folder(&self) -> String {
        run_folder(&self.name, &self.run)
    }
}
