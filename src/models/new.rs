//! What is to be recorded: a name, an artifact, the rows that it was fitted on, and metadata.
//! Nothing is checked before it is recorded.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;

use crate::{
    error::{Error, Result},
    manifest::{FittedOn, ModelInput, learned},
    materialize::Materialization,
    name::ContentId,
    training::TrainingSet,
};

/// The most entries of metadata.
const ENTRIES_AT_MOST: usize = 128;
/// The longest name of an entry, in bytes.
const KEY_BYTES_AT_MOST: usize = 128;
/// The longest value of an entry, in bytes.
const VALUE_BYTES_AT_MOST: usize = 16 << 10;

/// A model that [`FeatureStore::record_model`](crate::FeatureStore::record_model) is to record.
///
/// ```no_run
/// # async fn train(store: asof::FeatureStore) -> asof::Result<()> {
/// use asof::models::NewModel;
///
/// let made = store.materialize("taxi_v1", "2014-11-01".parse()?).await?;
/// let weights: Vec<u8> = vec![1, 2, 3]; // the model, as its library writes it
/// let new = NewModel::new("fare", &made).artifact(weights).metadata("rmse", "3.1");
/// let model = store.record_model(new).await?;
/// println!("{model:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct NewModel {
    pub(super) name: String,
    pub(super) fitted: FittedRows,
    pub(super) artifact: Option<ArtifactSource>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Where the bytes of a new model come from.
#[derive(Clone)]
pub(super) enum ArtifactSource {
    Bytes(Bytes),
    File(String),
    Elsewhere { location: String, hash: ContentId, size: u64 },
}

impl NewModel {
    /// A model of this name that was fitted on these rows: a materialization, or a training set that was kept. A name is made of
    /// lower-case ASCII letters, digits and underscores, a letter first. Models of one name are told apart by their ids.
    pub fn new(name: impl Into<String>, fitted_on: impl Into<FittedRows>) -> Self {
        Self { name: name.into(), fitted: fitted_on.into(), artifact: None, metadata: BTreeMap::new() }
    }

    /// The model's bytes, which are stored below the root. Of several artifacts the last counts.
    pub fn artifact(mut self, bytes: impl Into<Bytes>) -> Self {
        self.artifact = Some(ArtifactSource::Bytes(bytes.into()));
        self
    }

    /// A file with the model's bytes, a path of this machine or a URL. It is copied below the root, without being held in memory.
    /// Of several artifacts the last counts.
    pub fn artifact_file(mut self, location: impl Into<String>) -> Self {
        self.artifact = Some(ArtifactSource::File(location.into()));
        self
    }

    /// Bytes that stay where they are: any path or URL, the hash of the bytes, and their number. Nothing is read there, now or
    /// later. A path is made absolute. User, password and query of a URL are left out, because they may hold credentials. Of
    /// several artifacts the last counts.
    pub fn artifact_at(mut self, location: impl Into<String>, hash: ContentId, size: u64) -> Self {
        self.artifact = Some(ArtifactSource::Elsewhere { location: location.into(), hash, size });
        self
    }

    /// Something to be known about the model: a score, a parameter, a commit. Of several values of one name the last counts. At
    /// most 128 names of 1 to 128 bytes without control characters are taken, with values of at most 16 KiB.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// How messages name it.
    pub(super) fn subject(&self) -> String {
        format!("model `{}`", self.name)
    }

    pub(super) fn check_metadata(&self) -> Result<()> {
        let limit = |reason: String| Err(Error::Limit { subject: format!("the metadata of {}", self.subject()), reason });
        if self.metadata.len() > ENTRIES_AT_MOST {
            return limit(format!("has {} names; give at most {ENTRIES_AT_MOST}", self.metadata.len()));
        }
        for (name, value) in &self.metadata {
            if name.is_empty() || name.len() > KEY_BYTES_AT_MOST || name.contains(char::is_control) {
                let reason = format!("use 1 to {KEY_BYTES_AT_MOST} bytes without control characters");
                return Err(Error::InvalidName { what: "name of metadata", value: name.escape_debug().to_string(), reason });
            }
            if value.len() > VALUE_BYTES_AT_MOST {
                return limit(format!(
                    "has {} bytes under `{name}`, and a value may have {VALUE_BYTES_AT_MOST}; put them into the artifact, or \
                     give where they lie",
                    value.len()
                ));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for NewModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewModel({}, fitted on {:?})", self.name, self.fitted)
    }
}

/// Rows that a model was fitted on; made of a [`Materialization`] or of a [`TrainingSet`] that was kept.
#[derive(Clone)]
pub struct FittedRows(Rows);

#[derive(Clone)]
enum Rows {
    Published(Box<(FittedOn, Vec<ModelInput>)>),
    /// A training set, as messages name it.
    NotKept(String),
}

impl FittedRows {
    /// The rows, and the table versions that they were made of.
    ///
    /// # Errors
    /// [`Error::Definition`] for a training set that was not kept.
    pub(super) fn published(&self, subject: &str) -> Result<(FittedOn, Vec<ModelInput>)> {
        match &self.0 {
            Rows::Published(rows) => Ok(rows.as_ref().clone()),
            Rows::NotKept(set) => Err(Error::Definition {
                subject: subject.into(),
                reason: format!(
                    "it was fitted on {set}, which is not kept, so nobody could find its rows again; keep it with \
                     `TrainingSet::keep`, and give what that returns"
                ),
            }),
        }
    }
}

impl From<&Materialization> for FittedRows {
    fn from(made: &Materialization) -> Self {
        let manifest = made.manifest();
        let fitted_on = FittedOn::Materialization {
            set: manifest.set.clone(),
            as_of: manifest.as_of,
            id: manifest.id,
            fingerprint: manifest.fingerprint.clone(),
            learned: learned(&manifest.encoders),
        };
        Self(Rows::Published(Box::new((fitted_on, ModelInput::all(&manifest.inputs)))))
    }
}

impl From<&TrainingSet> for FittedRows {
    fn from(set: &TrainingSet) -> Self {
        let Some(manifest) = set.manifest() else {
            return Self(Rows::NotKept(format!("a training set of `{}`", set.origin().set)));
        };
        let fitted_on = FittedOn::TrainingSet {
            name: manifest.name.clone(),
            id: manifest.id,
            set: manifest.origin.set.clone(),
            as_of: manifest.origin.as_of,
            fingerprint: manifest.origin.fingerprint.clone(),
            learned: learned(&manifest.encoders),
        };
        Self(Rows::Published(Box::new((fitted_on, ModelInput::all(&manifest.origin.inputs)))))
    }
}

impl fmt::Debug for FittedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rows::Published(rows) => write!(f, "{}", rows.0),
            Rows::NotKept(set) => write!(f, "{set}, not kept"),
        }
    }
}
