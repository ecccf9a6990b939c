//! A recorded model: what it is, its bytes, and whether a service gives it what it was fitted on.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;

use super::{ModelOrigin, origin::origin_of};
use crate::{
    error::{Error, Result},
    layout::MODEL_ARTIFACT,
    manifest::{ArtifactRecord, FittedOn, Manifest, ModelRecord, learned},
    materialize::Materialization,
    name::ContentId,
    online::Online,
    storage::Location,
    time::AsOf,
    workspace::Workspace,
};

/// A model that was recorded; found by [`FeatureStore::model`](crate::FeatureStore::model). It never changes.
#[derive(Clone)]
pub struct RecordedModel {
    workspace: Arc<Workspace>,
    folder: Location,
    record: Arc<ModelRecord>,
}

const REMEDY: &str = "restore it from a copy, or record the model again with the same artifact, which puts it there again";

impl RecordedModel {
    pub(super) fn new(workspace: Arc<Workspace>, folder: Location, record: ModelRecord) -> Self {
        Self { workspace, folder, record: Arc::new(record) }
    }

    /// The name under which it was recorded.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// The hash of all that was recorded: the name, the artifact's hash, size and location, what it was fitted on, the metadata.
    pub fn id(&self) -> ContentId {
        self.record.id
    }

    /// When it was recorded first, by the clock of the store that recorded it.
    pub fn recorded_at(&self) -> AsOf {
        self.record.recorded_at
    }

    /// The rows that it was fitted on.
    pub fn fitted_on(&self) -> &FittedOn {
        &self.record.fitted_on
    }

    /// What was said about it, by name.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.record.metadata
    }

    /// The hash, the size and the place of its bytes.
    pub fn artifact_record(&self) -> &ArtifactRecord {
        &self.record.artifact
    }

    /// Its bytes, in memory, after their hash was compared with the recorded one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when they are gone or are not what was recorded, and [`Error::NotFound`] when they lie elsewhere:
    /// [`RecordedModel::artifact_record`] says where, and [`ContentId::of`] makes the hash to compare.
    pub async fn artifact(&self) -> Result<Bytes> {
        let ArtifactRecord { hash, size, location } = &self.record.artifact;
        if let Some(location) = location {
            return Err(Error::NotFound {
                subject: format!("the artifact of {}", self.subject()),
                reason: format!("lies at `{location}`, and not in this store; read it there: {size} bytes with the hash {hash}"),
            });
        }
        let damaged = |what: &str| Error::Corrupt {
            path: self.folder.child(MODEL_ARTIFACT).to_string(),
            reason: format!("{what}; {REMEDY}"),
        };
        let bytes = self.folder.get(MODEL_ARTIFACT).await?.ok_or_else(|| damaged("it has vanished"))?;
        if bytes.len() as u64 != *size {
            return Err(damaged(&format!("it has {} bytes, and {size} were recorded", bytes.len())));
        }
        match ContentId::of(&bytes) == *hash {
            true => Ok(bytes),
            false => Err(damaged("its content is not what was recorded")),
        }
    }

    /// Refuses a materialization whose features the model must not be given: one of another definition than the model was fitted
    /// on, or one whose encoders have learned something else.
    ///
    /// A service asks this before it uses a model, and again whenever it goes over to a newer materialization. Sets of entities,
    /// and sets of rows whose encoders learn nothing, may be refreshed: each materialization of the same definition will do. The
    /// encoders of other sets of rows have learned something else at each as-of, and the model is right only with the
    /// materialization that it was fitted on, or with one whose encoders have learned just the same. No materialization has the
    /// states of the train part of a split: to serve such a model, fit it on the whole materialization in the end.
    ///
    /// ```no_run
    /// # async fn serve(store: asof::FeatureStore) -> asof::Result<()> {
    /// let model = store.model("fare").await?;
    /// let online = store.online("taxi_v1").await?;
    /// model.check_serves(&online)?;
    /// let weights = model.artifact().await?;
    /// # let _ = weights;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Definition`] names both, with their ids and fingerprints, and says what to serve.
    pub fn check_serves(&self, served: &impl AsRef<Materialization>) -> Result<()> {
        let (fitted_on, served) = (self.fitted_on(), served.as_ref().manifest());
        let is_same_definition = fitted_on.fingerprint() == &served.fingerprint;
        if is_same_definition && fitted_on.learned() == learned(&served.encoders) {
            return Ok(());
        }
        let Manifest { id, set, as_of, fingerprint, .. } = served;
        let (was, remedy) = match (is_same_definition, fitted_on) {
            (false, _) => ("another definition".to_owned(), format!("serve `{}` with the definition of then", fitted_on.set())),
            (true, FittedOn::Materialization { id, .. }) => (
                "encoders that have learned something else".into(),
                format!("serve the materialization {id} with `FeatureStore::online_for`"),
            ),
            (true, FittedOn::TrainingSet { .. }) => (
                "encoders that have learned something else".into(),
                "serve a materialization over the same facts and as-of, if the training set was not split".into(),
            ),
        };
        Err(Error::Definition {
            subject: self.subject(),
            reason: format!(
                "it was fitted on {fitted_on}, with the fingerprint {}, and the materialization {id} of `{set}` as of {as_of}, \
                 with the fingerprint {}, has {was}; {remedy}, or fit the model on what is served",
                fitted_on.fingerprint().id,
                fingerprint.id,
            ),
        })
    }

    /// What the model saw: its rows, their tables and versions, the files of these, the loads, and the source files. It prints as
    /// a tree. What has been removed is named as removed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Format`] for a manifest or a table version that cannot be read.
    pub async fn why(&self) -> Result<ModelOrigin> {
        origin_of(&self.workspace, &self.folder, &self.record).await
    }

    fn subject(&self) -> String {
        format!("model `{}` {}", self.record.name, self.record.id)
    }
}

impl fmt::Debug for RecordedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordedModel({}/{}, fitted on {})", self.record.name, self.record.id, self.record.fitted_on)
    }
}

impl AsRef<Materialization> for Materialization {
    fn as_ref(&self) -> &Materialization {
        self
    }
}

impl AsRef<Materialization> for Online {
    fn as_ref(&self) -> &Materialization {
        self.materialization()
    }
}
