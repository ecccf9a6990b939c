//! Kept training sets: `training/<name>/<id>/`, with a manifest that is put when all files are there.
//! A kept set exists once its manifest does, and is never changed.

use std::sync::Arc;

use arrow::compute::BatchCoalescer;
use futures::TryStreamExt;

use super::training_set::{Rows, TrainingSet};
use crate::{
    catalog::Column,
    error::{Error, Result},
    layout::{MANIFEST, training_set_folder, training_set_id, training_sets_folder},
    manifest::{FORMAT, TrainingManifest, training_set_content_id},
    name::{ContentId, check_identifier},
    storage::{Location, Published},
    time::Clock,
    workspace::{PartsWriter, PublishedParts, Workspace},
};

/// The bytes of a file may depend on where batches end, so rows are written in batches of this many.
const BATCH_ROWS: usize = 8_192;

const REMEDY: &str = "restore it from a copy, or delete the folder it lies in and keep the training set again";

/// Publishes the rows of a training set under a name.
pub(super) async fn keep(set: &TrainingSet, name: &str) -> Result<TrainingSet> {
    check_identifier("training set", name, name)?;
    let (schema, mut rows) = set.plain().await?;
    let columns: Vec<Column> = schema.fields().iter().map(|field| Column::from_field(field)).collect();
    // A type that could not be read again is refused before anything is written.
    Column::schema(&columns)?;
    let mut parts = PartsWriter::new(schema.clone()).threads(set.workspace.engine.partitions());
    let mut batches = BatchCoalescer::new(schema, BATCH_ROWS);
    while let Some(batch) = rows.try_next().await? {
        batches.push_batch(batch)?;
        while let Some(batch) = batches.next_completed_batch() {
            parts.write(&batch)?;
        }
    }
    batches.finish_buffered_batch()?;
    while let Some(batch) = batches.next_completed_batch() {
        parts.write(&batch)?;
    }
    let parts = parts.finish()?;
    let hashes: Vec<ContentId> = parts.hashes().collect();
    let id = training_set_content_id(&set.origin, &columns, &hashes);
    let folder = folder_of(&set.workspace, name, id);
    let found = match read(&folder).await? {
        Some(found) => found,
        None => {
            let parts = parts.publish(&folder).await?;
            let manifest = TrainingManifest {
                format: FORMAT,
                id,
                name: name.into(),
                kept_at: set.clock.now(),
                origin: set.origin.as_ref().clone(),
                columns,
                selections: set.selections().await?,
                encoders: set.encoders().await?,
                rows: parts.iter().map(|part| part.rows).sum(),
                parts,
            };
            match folder.put_if_absent(MANIFEST, manifest.to_json()?).await? {
                Published::New => manifest,
                // Another process kept the same rows first.
                Published::Existed => read(&folder).await?.ok_or_else(|| vanished(&folder))?,
            }
        }
    };
    Ok(opened(&set.workspace, &set.clock, folder, found))
}

/// The training sets that were kept under a name, the one that was kept last at the end.
///
/// # Errors
/// [`Error::InvalidName`], and [`Error::Corrupt`] and [`Error::Format`] for a manifest that cannot be read.
pub(crate) async fn kept_training_sets(
    workspace: &Arc<Workspace>,
    clock: &Arc<dyn Clock>,
    name: &str,
) -> Result<Vec<TrainingSet>> {
    check_identifier("training set", name, name)?;
    let all = workspace.root.child(&training_sets_folder(name));
    let mut found = Vec::new();
    for object in all.list().await? {
        let path = all.name_of(&object.location);
        let Some((folder, MANIFEST)) = path.rsplit_once('/') else { continue };
        let Some(id) = training_set_id(folder) else { continue };
        let folder = folder_of(workspace, name, id);
        found.extend(read(&folder).await?.map(|manifest| (folder, manifest)));
    }
    found.sort_by_key(|(_, manifest)| (manifest.kept_at, manifest.id));
    Ok(found.into_iter().map(|(folder, manifest)| opened(workspace, clock, folder, manifest)).collect())
}

/// As [`kept_training_sets`], the last of them.
///
/// # Errors
/// As [`kept_training_sets`], and [`Error::NotFound`] when there is none.
pub(crate) async fn kept_training_set(workspace: &Arc<Workspace>, clock: &Arc<dyn Clock>, name: &str) -> Result<TrainingSet> {
    kept_training_sets(workspace, clock, name).await?.pop().ok_or_else(|| Error::NotFound {
        subject: format!("training set `{name}`"),
        reason: "was never kept in this store; keep it with `TrainingSet::keep`".into(),
    })
}

fn opened(workspace: &Arc<Workspace>, clock: &Arc<dyn Clock>, folder: Location, manifest: TrainingManifest) -> TrainingSet {
    let origin = Arc::new(manifest.origin.clone());
    let rows = Rows::Kept { parts: PublishedParts::new(folder, REMEDY), manifest: Arc::new(manifest) };
    TrainingSet { workspace: workspace.clone(), clock: clock.clone(), origin, rows }
}

fn folder_of(workspace: &Workspace, name: &str, id: ContentId) -> Location {
    workspace.root.child(&training_sets_folder(name)).child(&training_set_folder(id))
}

async fn read(folder: &Location) -> Result<Option<TrainingManifest>> {
    let bytes = folder.get(MANIFEST).await?;
    bytes.map(|bytes| TrainingManifest::parse_at(&folder.child(MANIFEST).to_string(), &bytes)).transpose()
}

fn vanished(folder: &Location) -> Error {
    Error::Corrupt {
        path: folder.child(MANIFEST).to_string(),
        reason: "it vanished right after another process had published it; does somebody remove files from the root?".into(),
    }
}
