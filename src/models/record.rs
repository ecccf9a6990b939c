//! Records models, finds them and removes them: `models/<name>/<id>/`, with a record that is put when the artifact is there.
//! A model exists once its record does, and is never changed.

use std::sync::Arc;

use super::{NewModel, RecordedModel, artifact::Prepared};
use crate::{
    catalog::Change,
    error::{Error, Result},
    layout::{
        MANIFEST, MODEL_RECORD, MODELS, materialization_folder, materializations_folder, model_folder, model_id, models_folder,
        training_set_folder, training_sets_folder,
    },
    manifest::{FORMAT, FittedOn, ModelRecord, model_content_id},
    name::{ContentId, SetName, check_identifier},
    storage::{Location, Published},
    time::Clock,
    workspace::Workspace,
};

/// Records a model, or finds it.
pub(crate) async fn record(workspace: &Arc<Workspace>, clock: &dyn Clock, mut new: NewModel) -> Result<RecordedModel> {
    check_identifier("model", &new.name, &new.name)?;
    let subject = new.subject();
    new.check_metadata()?;
    let (fitted_on, inputs) = new.fitted.published(&subject)?;
    let source = new.artifact.take().ok_or_else(|| Error::Definition {
        subject: subject.clone(),
        reason: "it has no artifact; give its bytes, a file, or where they lie: `NewModel::artifact`, `artifact_file`, \
                 `artifact_at`"
            .into(),
    })?;
    if rows_folder(workspace, &fitted_on).head(MANIFEST).await?.is_none() {
        return Err(Error::NotFound {
            subject: fitted_on.to_string(),
            reason: format!("is not published below this root, so {subject} cannot be tied to it; record the model in its store"),
        });
    }
    let artifact = Prepared::of(&workspace.locations, &subject, source).await?;
    let id = model_content_id(&new.name, &artifact.record, &fitted_on, &new.metadata);
    let folder = folder_of(workspace, &new.name, id);
    if let Some(found) = read(&folder).await? {
        artifact.mend(&folder).await?;
        return Ok(RecordedModel::new(workspace.clone(), folder, found));
    }
    artifact.put(&folder).await?;
    let record = ModelRecord {
        format: FORMAT,
        id,
        name: new.name,
        recorded_at: clock.now(),
        artifact: artifact.record,
        fitted_on,
        inputs,
        metadata: new.metadata,
    };
    let record = match folder.put_if_absent(MODEL_RECORD, record.to_json()?).await? {
        Published::New => record,
        // Another process recorded the same model first.
        Published::Existed => read(&folder).await?.ok_or_else(|| Error::Corrupt {
            path: folder.child(MODEL_RECORD).to_string(),
            reason: "it vanished right after another process had published it; does somebody remove files from the root?".into(),
        })?,
    };
    Ok(RecordedModel::new(workspace.clone(), folder, record))
}

/// The models of a name, the one that was recorded last at the end.
pub(crate) async fn models(workspace: &Arc<Workspace>, name: &str) -> Result<Vec<RecordedModel>> {
    check_identifier("model", name, name)?;
    let mut found = records_below(&workspace.root.child(&models_folder(name)), 1).await?;
    found.sort_by_key(|(_, record)| (record.recorded_at, record.id));
    Ok(found.into_iter().map(|(folder, record)| RecordedModel::new(workspace.clone(), folder, record)).collect())
}

/// The model of this name that was recorded last.
pub(crate) async fn model(workspace: &Arc<Workspace>, name: &str) -> Result<RecordedModel> {
    models(workspace, name).await?.pop().ok_or_else(|| Error::NotFound {
        subject: format!("model `{name}`"),
        reason: "is not recorded in this store: it never was, it was forgotten, or the root is not where it was; \
                 `FeatureStore::record_model` records it"
            .into(),
    })
}

/// Removes the record of a model. A garbage collection removes its artifact. The record is not read, since it may be damaged.
pub(crate) async fn forget(workspace: &Workspace, name: &str, id: ContentId) -> Result<Change> {
    check_identifier("model", name, name)?;
    let folder = folder_of(workspace, name, id);
    if folder.head(MODEL_RECORD).await?.is_none() {
        return Ok(Change::Nothing);
    }
    folder.delete(MODEL_RECORD).await?;
    Ok(Change::Done)
}

/// Refuses to release the name of a set that a recorded model was fitted on.
pub(crate) async fn refuse_used(workspace: &Workspace, set: &SetName) -> Result<()> {
    let mut users = records_below(&workspace.root.child(MODELS), 2).await?;
    users.retain(|(_, record)| record.fitted_on.set() == set);
    let Some((_, first)) = users.first() else { return Ok(()) };
    let reason = format!(
        "is in use by {} recorded models, the first `{}` {}; name another definition as its next version, or forget these models \
         with `FeatureStore::forget_model`",
        users.len(),
        first.name,
        first.id,
    );
    Err(Error::InUse { subject: format!("feature set `{set}`"), reason })
}

/// The folder of what a model was fitted on.
pub(super) fn rows_folder(workspace: &Workspace, fitted_on: &FittedOn) -> Location {
    match fitted_on {
        FittedOn::Materialization { set, as_of, id, .. } => {
            workspace.root.child(&materializations_folder(set)).child(&materialization_folder(*as_of, *id))
        }
        FittedOn::TrainingSet { name, id, .. } => {
            workspace.root.child(&training_sets_folder(name)).child(&training_set_folder(*id))
        }
    }
}

/// The records in the folders that lie so many levels below this one.
async fn records_below(above: &Location, levels: usize) -> Result<Vec<(Location, ModelRecord)>> {
    let mut found = Vec::new();
    for object in above.list().await? {
        let path = above.name_of(&object.location);
        let Some((inside, MODEL_RECORD)) = path.rsplit_once('/') else { continue };
        let is_model = inside.split('/').count() == levels && inside.rsplit('/').next().and_then(model_id).is_some();
        if !is_model {
            continue;
        }
        let folder = above.child(inside);
        // Somebody may have forgotten the model since the folder was listed.
        found.extend(read(&folder).await?.map(|record| (folder, record)));
    }
    Ok(found)
}

fn folder_of(workspace: &Workspace, name: &str, id: ContentId) -> Location {
    workspace.root.child(&models_folder(name)).child(&model_folder(id))
}

async fn read(folder: &Location) -> Result<Option<ModelRecord>> {
    let bytes = folder.get(MODEL_RECORD).await?;
    bytes.map(|bytes| ModelRecord::parse_at(&folder.child(MODEL_RECORD).to_string(), &bytes)).transpose()
}
