//! The binding of a set's name to its definition: made in the root with the first materialization, and never changed.
//! It compares fingerprints; what a definition means is no business of its own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MANIFEST, Materializer, manifest::FORMAT};
use crate::{
    catalog::Change,
    error::{Error, Result},
    feature_set::{FeatureSet, Fingerprint},
    name::SetName,
    storage::{Location, Published, check_name, seal, unseal},
};

const BINDING: &str = "binding.json";

/// Which definition a name stands for.
#[derive(Serialize, Deserialize)]
struct Binding {
    format: u32,
    set: SetName,
    fingerprint: Fingerprint,
    declared: Arc<Value>,
}

const REMEDY: &str = "; or, when nothing that was published of the other one is wanted any more, see `FeatureStore::forget_set`";

impl Materializer {
    /// Refuses a definition when the root holds another one under its name. A name that the root does not know is free.
    pub(crate) async fn check_binding(&self, set: &FeatureSet) -> Result<()> {
        match read(&self.binding_place(&set.name)).await? {
            Some(known) => set.check_same(&known.fingerprint, &known.declared, REMEDY),
            None => Ok(()),
        }
    }

    /// Binds the name of a set to its definition. Of several at once the first one wins, and the others are refused.
    pub(super) async fn bind(&self, set: &FeatureSet) -> Result<()> {
        let place = self.binding_place(&set.name);
        let (fingerprint, declared) = (set.fingerprint.clone(), set.declared.clone());
        let binding = Binding { format: FORMAT, set: set.name.clone(), fingerprint, declared };
        let bytes = seal("the binding of a definition", serde_json::to_vec_pretty(&binding))?;
        match place.put_if_absent(BINDING, bytes).await? {
            Published::New => Ok(()),
            Published::Existed => self.check_binding(set).await,
        }
    }

    /// Lets a name go of which nothing is published.
    pub(crate) async fn forget(&self, name: &SetName) -> Result<Change> {
        let place = self.binding_place(name);
        let Some(known) = place.get(BINDING).await? else { return Ok(Change::Nothing) };
        self.refuse_published(name).await?;
        place.delete(BINDING).await?;
        // Somebody may have published in the meantime: then the name stays bound.
        if let Err(published) = self.refuse_published(name).await {
            let _ = place.put_if_absent(BINDING, known).await?;
            return Err(published);
        }
        Ok(Change::Done)
    }

    async fn refuse_published(&self, name: &SetName) -> Result<()> {
        let folder = self.root.child("materialized").child(name.as_str());
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

    fn binding_place(&self, name: &SetName) -> Location {
        self.root.child("definitions").child(name.as_str())
    }
}

async fn read(place: &Location) -> Result<Option<Binding>> {
    let Some(bytes) = place.get(BINDING).await? else { return Ok(None) };
    let path = place.child(BINDING).to_string();
    let remedy = "delete it, and materialize the set by the definition that was published: that writes it again";
    let binding: Binding = unseal(&path, &bytes, FORMAT, remedy)?;
    check_name(&path, &format!("{}/{BINDING}", binding.set), remedy)?;
    Ok(Some(binding))
}
