//! Finds a published materialization by its id, whatever else is published. Nothing is made.

use std::sync::Arc;

use super::{
    Materialization,
    definition::Definition,
    run::{location_of, read_manifest},
};
use crate::{
    error::Result,
    feature_set::FeatureSet,
    layout::{MANIFEST, is_materialization_folder, materializations_folder},
    name::ContentId,
    workspace::Workspace,
};

/// The published materialization of this set with this id; `None` if there is none, or if another definition made it.
///
/// # Errors
/// [`Error::Corrupt`](crate::Error::Corrupt) and [`Error::Format`](crate::Error::Format) for a manifest that cannot be read.
pub(crate) async fn find_by_id(workspace: &Arc<Workspace>, set: &FeatureSet, id: ContentId) -> Result<Option<Materialization>> {
    let folder = workspace.root.child(&materializations_folder(&set.name));
    for object in folder.list().await? {
        let name = folder.name_of(&object.location);
        let Some((made, MANIFEST)) = name.rsplit_once('/') else { continue };
        if !is_materialization_folder(made, id) {
            continue;
        }
        let manifest = read_manifest(&folder.child(made)).await?;
        if let Some(manifest) = manifest.filter(|manifest| manifest.fingerprint == set.fingerprint) {
            let location = location_of(workspace, &set.name, manifest.as_of, manifest.id);
            return Ok(Some(Materialization::new(workspace.clone(), Definition::of(set), location, manifest)));
        }
    }
    Ok(None)
}
