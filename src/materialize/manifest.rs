//! The manifest: what a materialization is, what it was made of, and which files hold it.
//! It holds no wall-clock time: two processes that make the same materialization write the same manifest.

use serde::{Deserialize, Serialize};

use crate::{
    catalog::{Column, FactTable},
    error::{Error, Result},
    feature_set::{Fingerprint, State},
    name::{ContentId, SetName, TableName},
    storage::{seal, unseal},
    time::{AsOf, Cutoff},
};

/// The version of the manifest's format, part of every materialization's identity.
pub(crate) const FORMAT: u32 = 2;

/// What a materialization is: published once, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub(crate) format: u32,
    /// The hash of the definition, the inputs, the as-of and the format: same id, same rows, same order, same bits.
    pub id: ContentId,
    /// The feature set.
    pub set: SetName,
    /// The definition's hashes.
    pub fingerprint: Fingerprint,
    /// The instant, in microseconds UTC.
    pub as_of: AsOf,
    /// Whether facts at exactly the as-of are visible.
    pub cutoff: Cutoff,
    /// The tables it was made of, and their files that may hold visible rows.
    pub inputs: Vec<InputTable>,
    /// The key's columns, for a set of entities.
    pub keys: Vec<String>,
    /// The columns of the rows.
    pub columns: Vec<Column>,
    /// The names of the features.
    pub features: Vec<String>,
    /// The names of the labels.
    pub labels: Vec<String>,
    /// What row selections learned, in their order.
    pub selections: Vec<StepState>,
    /// What encoders learned, in their order.
    pub encoders: Vec<StepState>,
    /// Rows of the extract, or entities.
    pub rows_seen: u64,
    /// Rows in the materialization.
    pub rows: u64,
    /// The files that hold the rows, in the order of the rows.
    pub parts: Vec<Part>,
}

/// A table that a materialization was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputTable {
    /// The table.
    pub table: TableName,
    /// The version it was read at.
    pub version: u64,
    /// What was declared about it: its times, zone and keys.
    pub declared: FactTable,
    /// The files that may hold rows visible at the as-of; the others were not opened.
    pub files: Vec<InputFile>,
    /// Rows without an event time, which are never visible, as far as statistics tell.
    pub null_event_times: u64,
}

/// A file that a materialization was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// The path relative to the table.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Content hash, or the store's entity tag.
    pub content: String,
}

/// What a row selection or encoder learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepState {
    /// The step's name.
    pub name: String,
    /// Its revision.
    pub revision: u32,
    /// Its state as JSON; null for steps that learn nothing.
    pub state: State,
    /// Rows that were left after a row selection; `None` for encoders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_left: Option<u64>,
}

/// A file that holds rows of a materialization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The file's name beside the manifest.
    pub name: String,
    /// Rows in it.
    pub rows: u64,
    /// Size in bytes.
    pub size: u64,
    /// Content hash.
    pub hash: ContentId,
}

impl Manifest {
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        seal("a manifest", serde_json::to_vec_pretty(self))
    }

    /// A manifest as it was published; `path` names it in errors.
    pub(crate) fn parse(path: &str, bytes: &[u8]) -> Result<Self> {
        unseal(path, bytes, FORMAT, REMEDY)
    }

    /// The manifest at this path, which must be that of the folder it lies in.
    pub(crate) fn parse_at(path: &str, bytes: &[u8]) -> Result<Self> {
        let manifest = Self::parse(path, bytes)?;
        let mut folders = path.rsplit('/').skip(1);
        let is_of_folder = folders.next().is_some_and(|folder| folder.ends_with(&format!("-{}", manifest.id)));
        match is_of_folder && folders.next() == Some(manifest.set.as_str()) {
            true => Ok(manifest),
            false => Err(Error::Corrupt {
                path: path.into(),
                reason: format!("it is the manifest of `{}` {}, not of its folder; {REMEDY}", manifest.set, manifest.id),
            }),
        }
    }
}

const REMEDY: &str = "delete the folder it lies in and materialize again";

/// The id of a materialization: a hash of all that determines its rows.
pub(crate) fn materialization_id(
    set: &SetName,
    fingerprint: &Fingerprint,
    as_of: AsOf,
    cutoff: Cutoff,
    inputs: &[InputTable],
) -> ContentId {
    let inputs: Vec<_> =
        inputs.iter().map(|t| serde_json::json!({ "table": t.table, "declared": t.declared, "files": t.files })).collect();
    let all = serde_json::json!({
        "format": FORMAT, "set": set, "definition": fingerprint.id, "as_of": as_of, "cutoff": cutoff, "inputs": inputs,
    });
    ContentId::of_json(&all)
}
