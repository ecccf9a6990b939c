//! The binding of a set's name to its definition: written to the root with the first materialization, and never changed.
//! Definitions are compared by their fingerprints.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    catalog::Change,
    error::{Error, Result},
    feature_set::{FeatureSet, Fingerprint},
    layout::{BINDING, MANIFEST, definition_folder, materializations_folder},
    manifest::FORMAT,
    name::SetName,
    storage::{Location, Published, check_name, seal, unseal},
    workspace::Workspace,
};

/// Which definition a name stands for.
#[derive(Serialize, Deserialize)]
struct Binding {
    format: u32,
    set: SetName,
    fingerprint: Fingerprint,
    declared: Arc<Value>,
}

const REMEDY: &str =
    "; or, if nothing that was published under the other definition is needed any more, see `FeatureStore::forget_set`";

/// Refuses a definition when the root holds another one under its name. A name that the root does not know is free.
pub(crate) async fn check_binding(workspace: &Workspace, set: &FeatureSet) -> Result<()> {
    match read(&binding_location(workspace, &set.name)).await? {
        Some(known) => set.check_same(&known.fingerprint, &known.declared, REMEDY),
        None => Ok(()),
    }
}

/// Binds the name of a set to its definition. Of several simultaneous attempts the first wins, and the others are refused.
pub(super) async fn bind(workspace: &Workspace, set: &FeatureSet) -> Result<()> {
    let location = binding_location(workspace, &set.name);
    let (fingerprint, declared) = (set.fingerprint.clone(), set.declared.clone());
    let binding = Binding { format: FORMAT, set: set.name.clone(), fingerprint, declared };
    let bytes = seal("the binding of a definition", serde_json::to_vec_pretty(&binding))?;
    match location.put_if_absent(BINDING, bytes).await? {
        Published::New => Ok(()),
        Published::Existed => check_binding(workspace, set).await,
    }
}

/// The definition that holds a set's name in the root: its fingerprint, and what it declares.
pub(super) async fn declared(workspace: &Workspace, name: &SetName) -> Result<Option<(Fingerprint, Arc<Value>)>> {
    let binding = read(&binding_location(workspace, name)).await?;
    Ok(binding.map(|binding| (binding.fingerprint, binding.declared)))
}

/// Releases the name of a set of which nothing is published.
pub(crate) async fn forget(workspace: &Workspace, name: &SetName) -> Result<Change> {
    let location = binding_location(workspace, name);
    let Some(known) = location.get(BINDING).await? else { return Ok(Change::Nothing) };
    refuse_published(workspace, name).await?;
    location.delete(BINDING).await?;
    // If somebody has published in the meantime, the name stays bound.
    if let Err(published) = refuse_published(workspace, name).await {
        let _ = location.put_if_absent(BINDING, known).await?;
        return Err(published);
    }
    Ok(Change::Done)
}

async fn refuse_published(workspace: &Workspace, name: &SetName) -> Result<()> {
    let folder = workspace.root.child(&materializations_folder(name));
    let objects = folder.list().await?;
    let names = objects.iter().map(|object| folder.name_of(&object.location));
    let made: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(MANIFEST)?.trim_end_matches('/').to_owned())).collect();
    let Some(first) = made.first() else { return Ok(()) };
    let reason = format!(
        "has {} materializations published, the first as `{}/{first}`, and a published version never changes; name another \
         definition as its next version, or delete their folders first",
        made.len(),
        folder,
    );
    Err(Error::InUse { subject: format!("feature set `{name}`"), reason })
}

fn binding_location(workspace: &Workspace, name: &SetName) -> Location {
    workspace.root.child(&definition_folder(name))
}

async fn read(location: &Location) -> Result<Option<Binding>> {
    let Some(bytes) = location.get(BINDING).await? else { return Ok(None) };
    let path = location.child(BINDING).to_string();
    let remedy = "delete it, and materialize the set by the definition that was published: that writes it again";
    let binding: Binding = unseal(&path, &bytes, FORMAT, remedy)?;
    check_name(&path, &format!("{}/{BINDING}", binding.set), remedy)?;
    Ok(Some(binding))
}
