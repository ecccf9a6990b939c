//! The record of a model: what its bytes are, what it was fitted on, and what was said about it.
//! `models/<name>/<id>/model.json`

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{FORMAT, InputTable, StepState};
use crate::{
    error::Result,
    feature_set::Fingerprint,
    layout::{MODEL_RECORD, model_folder, models_folder},
    name::{ContentId, SetName, TableName},
    storage::{check_name, seal, unseal},
    time::AsOf,
};

/// The record of a model: published once, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelRecord {
    pub(crate) format: u32,
    /// See [`model_content_id`].
    pub(crate) id: ContentId,
    pub(crate) name: String,
    /// When it was recorded first, by the store's clock. The id does not depend on it.
    pub(crate) recorded_at: AsOf,
    pub(crate) artifact: ArtifactRecord,
    pub(crate) fitted_on: FittedOn,
    /// The table versions that the rows were made of, so that they are known when the rows are gone.
    pub(crate) inputs: Vec<ModelInput>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A table version that the rows of a model were made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModelInput {
    pub(crate) table: TableName,
    pub(crate) version: u64,
}

/// The bytes of a model: their hash, their size, and where they lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArtifactRecord {
    /// The hash of the bytes.
    pub hash: ContentId,
    /// Their number.
    pub size: u64,
    /// The path or URL, without credentials, of bytes that lie elsewhere; `None` for bytes below the store's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// The published rows that a model was fitted on. It prints as part of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FittedOn {
    /// A materialization.
    #[non_exhaustive]
    Materialization {
        /// The feature set.
        set: SetName,
        /// The instant at which its facts were cut.
        as_of: AsOf,
        /// The id of the materialization.
        id: ContentId,
        /// The definition's hashes.
        fingerprint: Fingerprint,
        /// The hash of what the set's encoders had learned. Sets without fitted encoders have the same one at every as-of.
        learned: ContentId,
    },
    /// A training set that was kept.
    #[non_exhaustive]
    TrainingSet {
        /// The name under which it was kept.
        name: String,
        /// The id of the training set.
        id: ContentId,
        /// The feature set.
        set: SetName,
        /// For a set of rows the instant at which its facts were cut; `None` for a spine, each of whose rows has its own.
        as_of: Option<AsOf>,
        /// The definition's hashes.
        fingerprint: Fingerprint,
        /// The hash of what the set's encoders had learned. The part of a split has other states than a materialization.
        learned: ContentId,
    },
}

impl FittedOn {
    /// The feature set.
    pub fn set(&self) -> &SetName {
        match self {
            FittedOn::Materialization { set, .. } | FittedOn::TrainingSet { set, .. } => set,
        }
    }

    /// The hashes of the feature set's definition.
    pub fn fingerprint(&self) -> &Fingerprint {
        match self {
            FittedOn::Materialization { fingerprint, .. } | FittedOn::TrainingSet { fingerprint, .. } => fingerprint,
        }
    }

    /// The id of the materialization or of the kept training set.
    pub fn id(&self) -> ContentId {
        match self {
            FittedOn::Materialization { id, .. } | FittedOn::TrainingSet { id, .. } => *id,
        }
    }

    /// The hash of what the set's encoders had learned.
    pub(crate) fn learned(&self) -> ContentId {
        match self {
            FittedOn::Materialization { learned, .. } | FittedOn::TrainingSet { learned, .. } => *learned,
        }
    }
}

impl fmt::Display for FittedOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FittedOn::Materialization { set, as_of, id, .. } => write!(f, "the materialization {id} of `{set}` as of {as_of}"),
            FittedOn::TrainingSet { name, id, set, as_of, .. } => {
                write!(f, "the training set {name}/{id} of `{set}`")?;
                as_of.map_or(Ok(()), |as_of| write!(f, " as of {as_of}"))
            }
        }
    }
}

impl ModelInput {
    /// The versions of these tables.
    pub(crate) fn all(tables: &[InputTable]) -> Vec<Self> {
        tables.iter().map(|input| Self { table: input.table.clone(), version: input.version }).collect()
    }
}

/// The hash of what encoders have learned, in their order. Requests are encoded alike with equal states of one definition.
pub(crate) fn learned(encoders: &[StepState]) -> ContentId {
    let states: Vec<_> = encoders.iter().map(|step| (&step.name, step.revision, &step.state)).collect();
    ContentId::of_json(&serde_json::json!(states))
}

/// The id of a recorded model: a hash of all that was recorded except the time.
pub(crate) fn model_content_id(
    name: &str,
    artifact: &ArtifactRecord,
    fitted_on: &FittedOn,
    metadata: &BTreeMap<String, String>,
) -> ContentId {
    let all = serde_json::json!({
        "format": FORMAT, "kind": "model", "name": name, "artifact": artifact, "fitted_on": fitted_on, "metadata": metadata,
    });
    ContentId::of_json(&all)
}

const REMEDY: &str = "restore it from a copy, or remove it with `FeatureStore::forget_model` (its folders are its name and id) and \
                      record it again";

impl ModelRecord {
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        seal("the record of a model", serde_json::to_vec_pretty(self))
    }

    /// The record at this path, which must belong to its folder.
    pub(crate) fn parse_at(path: &str, bytes: &[u8]) -> Result<Self> {
        let record: Self = unseal(path, bytes, FORMAT, REMEDY)?;
        let own = format!("{}/{}/{MODEL_RECORD}", models_folder(&record.name), model_folder(record.id));
        check_name(path, &own, REMEDY)?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted_on(learned: &[u8]) -> FittedOn {
        let hash = ContentId::of(b"x");
        let fingerprint = Fingerprint { id: hash, declared: hash, behaviour: hash };
        let (set, learned) = ("taxi_v1".parse().unwrap(), ContentId::of(learned));
        FittedOn::Materialization { set, as_of: AsOf::from_micros(5), id: hash, fingerprint, learned }
    }

    #[test]
    fn all_that_is_recorded_makes_the_id_and_the_time_does_not() {
        let artifact = |bytes: &[u8], location: Option<&str>| ArtifactRecord {
            hash: ContentId::of(bytes),
            size: bytes.len() as u64,
            location: location.map(str::to_owned),
        };
        let metadata = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let ids = [
            model_content_id("fare", &artifact(b"a", None), &fitted_on(b"1"), &metadata(&[])),
            model_content_id("other", &artifact(b"a", None), &fitted_on(b"1"), &metadata(&[])),
            model_content_id("fare", &artifact(b"b", None), &fitted_on(b"1"), &metadata(&[])),
            model_content_id("fare", &artifact(b"a", Some("s3://b/a")), &fitted_on(b"1"), &metadata(&[])),
            model_content_id("fare", &artifact(b"a", None), &fitted_on(b"2"), &metadata(&[])),
            model_content_id("fare", &artifact(b"a", None), &fitted_on(b"1"), &metadata(&[("k", "1")])),
            model_content_id("fare", &artifact(b"a", None), &fitted_on(b"1"), &metadata(&[("k", "2")])),
        ];
        for (i, id) in ids.iter().enumerate() {
            assert!(!ids[..i].contains(id), "{i}");
        }
    }

    #[test]
    fn a_record_comes_back_and_belongs_to_its_folder() {
        let artifact = ArtifactRecord { hash: ContentId::of(b"a"), size: 1, location: None };
        let id = model_content_id("fare", &artifact, &fitted_on(b"1"), &BTreeMap::new());
        let record = ModelRecord {
            format: FORMAT,
            id,
            name: "fare".into(),
            recorded_at: AsOf::from_micros(7),
            artifact,
            fitted_on: fitted_on(b"1"),
            inputs: vec![ModelInput { table: "trips".parse().unwrap(), version: 3 }],
            metadata: BTreeMap::new(),
        };
        let bytes = record.to_json().unwrap();
        let path = |name: &str, id: ContentId| format!("memory://x/{}/{}/{MODEL_RECORD}", models_folder(name), model_folder(id));
        assert_eq!(ModelRecord::parse_at(&path("fare", id), &bytes).unwrap(), record);
        assert!(ModelRecord::parse_at(&path("fares", id), &bytes).is_err());
        assert!(ModelRecord::parse_at(&path("fare", ContentId::of(b"y")), &bytes).is_err());
    }
}
