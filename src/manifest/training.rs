//! The manifest of a kept training set: what the rows are, what they were made of, how they were split, and which files hold
//! them.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{EngineVersions, FORMAT, InputTable, StepState};
use crate::{
    catalog::Column,
    error::{Error, Result},
    feature_set::Fingerprint,
    layout::{training_set_folder, training_set_id},
    name::{ContentId, SetName},
    storage::{seal, unseal},
    time::{AsOf, Cutoff, TimeScale},
    workspace::Part,
};

/// The manifest of a kept training set: published once, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingManifest {
    pub(crate) format: u32,
    /// The hash of what the rows were made of and of the rows themselves. Equal ids mean the same rows in the same order, bit for
    /// bit.
    pub id: ContentId,
    /// The name under which it is kept.
    pub name: String,
    /// When it was kept first, by the store's clock. The id does not depend on it.
    pub kept_at: AsOf,
    /// What the rows are and what they were made of.
    pub origin: TrainingOrigin,
    /// The columns of the rows, in their order.
    pub columns: Vec<Column>,
    /// What row selections had learned when the rows were selected, in their order.
    pub selections: Vec<StepState>,
    /// What encoders had learned when the rows were encoded, in their order.
    pub encoders: Vec<StepState>,
    /// Rows in it.
    pub rows: u64,
    /// The files that hold the rows, in the order of the rows.
    pub parts: Vec<Part>,
}

/// What the rows of a training set are, and what they were made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingOrigin {
    /// The feature set.
    pub set: SetName,
    /// The definition's hashes.
    pub fingerprint: Fingerprint,
    /// The definition, as the fingerprint takes it.
    pub definition: Arc<serde_json::Value>,
    /// For a set of rows the instant at which its facts were cut; `None` for a spine, each of whose rows has its own.
    pub as_of: Option<AsOf>,
    /// Whether facts at exactly the as-of, or at a row's own instant, are visible.
    pub cutoff: Cutoff,
    /// The versions of the code that made it.
    pub engine: EngineVersions,
    /// The tables it was made of.
    pub inputs: Vec<InputTable>,
    /// The column with each row's instant.
    pub instant: String,
    /// How that column is to be read.
    pub(crate) scale: TimeScale,
    /// The names of the features.
    pub features: Vec<String>,
    /// The names of the labels that the set declares; a spine's labels are among its other columns.
    pub labels: Vec<String>,
    /// The splits, the first one first, and which part of each the rows are.
    pub splits: Vec<(SplitRule, SplitSide)>,
}

/// How rows are divided into a train and a test part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SplitRule {
    /// By the rows' instants.
    Time {
        /// Rows before this instant are for training.
        at: AsOf,
        /// Microseconds from there to the first instant of the test part.
        embargo_us: i64,
    },
    /// By a hash of these columns, so that equal values stay together.
    Entity {
        /// The columns of the entity's key.
        columns: Vec<String>,
        /// The share of the entities that are for training.
        train_fraction: f64,
        /// Seeds the hash.
        seed: u64,
    },
    /// By a hash of the whole row.
    Random {
        /// The share of the rows that are for training.
        train_fraction: f64,
        /// Seeds the hash.
        seed: u64,
    },
}

/// A part of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitSide {
    /// The rows that models and states are fitted on.
    Train,
    /// The rows that models are scored on.
    Test,
}

impl fmt::Display for SplitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SplitRule::Time { at, embargo_us: 0 } => write!(f, "at {at}"),
            SplitRule::Time { at, embargo_us } => {
                write!(f, "at {at}, with an embargo until {}", AsOf::from_micros(at.micros().saturating_add(*embargo_us)))
            }
            SplitRule::Entity { columns, train_fraction, seed } => {
                write!(f, "by {}, {train_fraction} of them for training, seed {seed}", columns.join(", "))
            }
            SplitRule::Random { train_fraction, seed } => write!(f, "{train_fraction} of the rows for training, seed {seed}"),
        }
    }
}

impl fmt::Display for SplitSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SplitSide::Train => "train",
            SplitSide::Test => "test",
        })
    }
}

const REMEDY: &str = "restore it from a copy, or delete the folder it lies in and keep the training set again";

impl TrainingManifest {
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        seal("the manifest of a training set", serde_json::to_vec_pretty(self))
    }

    /// The manifest at this path, which must belong to its folder.
    pub(crate) fn parse_at(path: &str, bytes: &[u8]) -> Result<Self> {
        let manifest: Self = unseal(path, bytes, FORMAT, REMEDY)?;
        let mut folders = path.rsplit('/').skip(1);
        let is_of_folder = folders.next().and_then(training_set_id) == Some(manifest.id);
        match is_of_folder && folders.next() == Some(manifest.name.as_str()) {
            true => Ok(manifest),
            false => Err(Error::Corrupt {
                path: path.into(),
                reason: format!(
                    "it is the manifest of `{}/{}`, and does not belong to its folder; {REMEDY}",
                    manifest.name,
                    training_set_folder(manifest.id)
                ),
            }),
        }
    }
}

/// The id of a kept training set: a hash of all that its rows were made of, and of the files that hold them.
///
/// As in the id of a materialization, neither the number of a table's version counts nor whether a column may hold NULL.
pub(crate) fn training_set_content_id(origin: &TrainingOrigin, columns: &[Column], files: &[ContentId]) -> ContentId {
    let typed = |columns: &[Column]| columns.iter().map(|c| (c.name.clone(), c.data_type.clone())).collect::<Vec<_>>();
    let input = |t: &InputTable| serde_json::json!({ "table": t.table, "declared": t.declared, "columns": typed(&t.columns), "files": t.files });
    let all = serde_json::json!({
        "format": FORMAT, "kind": "training set", "set": origin.set, "definition": origin.fingerprint.id,
        "as_of": origin.as_of, "cutoff": origin.cutoff, "engine": origin.engine,
        "inputs": origin.inputs.iter().map(input).collect::<Vec<_>>(),
        "instant": origin.instant, "scale": origin.scale, "splits": origin.splits,
        "columns": typed(columns), "files": files,
    });
    ContentId::of_json(&all)
}
