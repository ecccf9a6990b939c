//! Which published materialization of a set is the newest.
//! Manifests are read from the latest as-of on, by the names of their folders, until one is found: older ones cannot be the newest. One
//! that was read is not read again while its object is the same, so that looking again costs one listing.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use object_store::ObjectMeta;

use super::{
    Materialization,
    binding::check_binding,
    definition::Definition,
    run::{location_of, read_manifest},
};
use crate::{
    error::{Error, Result},
    feature_set::FeatureSet,
    layout::{MANIFEST, as_of_of_folder, materializations_folder},
    manifest::Manifest,
    name::ContentId,
    time::{AsOf, Horizon},
    workspace::Workspace,
};

/// The order of the materializations of one definition: by the as-of, an inclusive one after an exclusive one; then by the sum of
/// the versions of their tables, since two of one as-of differ in their facts, and the one over later versions knows more; then by
/// the id. No two are equal, and no clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    horizon: Horizon,
    versions: u64,
    id: ContentId,
}

impl Rank {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let versions = manifest.inputs.iter().fold(0, |sum: u64, input| sum.saturating_add(input.version));
        Self { horizon: manifest.horizon(), versions, id: manifest.id }
    }
}

/// What has been seen of the published manifests of one set.
#[derive(Debug, Default)]
pub(crate) struct SeenManifests {
    /// By the folders that they lie in.
    seen: BTreeMap<String, Seen>,
    /// Of those that were read, the newest.
    newest: Option<Materialization>,
}

#[derive(Debug)]
struct Seen {
    object: ObjectVersion,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A materialization of this definition.
    Own(Rank),
    /// One of another definition.
    Foreign,
    /// It could not be read. It is tried again each time.
    Unreadable,
}

/// What tells that an object was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ObjectVersion {
    size: u64,
    modified: DateTime<Utc>,
    e_tag: Option<String>,
}

impl SeenManifests {
    /// The newest published materialization of a set, of those made by this definition. See [`Rank`].
    ///
    /// A manifest that cannot be read, or has another format, is passed over with a warning, which is not repeated for the same
    /// object.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Format`] when there are only such manifests, [`Error::AlreadyExists`] when there is none and
    /// another definition holds the name, and whatever the listing fails with.
    pub(crate) async fn newest(&mut self, workspace: &Arc<Workspace>, set: &FeatureSet) -> Result<Option<Materialization>> {
        let mut skipped = self.look(workspace, set).await?;
        while let Some(rank) = self.ranks().max() {
            if let Some(newest) = self.newest.as_ref().filter(|newest| newest.id() == rank.id) {
                return Ok(Some(newest.clone()));
            }
            // The newest one that was read is gone, and this one is now the newest.
            match self.open(workspace, set, rank).await {
                Ok(opened) => self.newest = opened,
                Err(error @ (Error::Corrupt { .. } | Error::Format { .. })) => skipped = Some(error),
                Err(other) => return Err(other),
            }
            if self.newest.as_ref().is_none_or(|newest| newest.id() != rank.id) {
                // It changed since it was listed. Older ones may not have been read yet.
                self.seen.retain(|_, seen| seen.what != What::Own(rank));
                skipped = self.look(workspace, set).await?.or(skipped);
            }
        }
        match skipped {
            Some(error) => Err(error),
            // Perhaps because another definition holds the name.
            None => check_binding(workspace, set).await.map(|()| None),
        }
    }

    /// How many manifests could not be read when they were looked at last.
    pub(crate) fn unreadable(&self) -> usize {
        self.seen.values().filter(|seen| seen.what == What::Unreadable).count()
    }

    fn ranks(&self) -> impl Iterator<Item = Rank> {
        self.seen.values().filter_map(|seen| match seen.what {
            What::Own(rank) => Some(rank),
            What::Foreign | What::Unreadable => None,
        })
    }

    async fn open(&self, workspace: &Arc<Workspace>, set: &FeatureSet, rank: Rank) -> Result<Option<Materialization>> {
        let location = location_of(workspace, &set.name, rank.horizon.as_of, rank.id);
        let manifest = read_manifest(&location).await?;
        Ok(manifest.map(|manifest| Materialization::new(workspace.clone(), Definition::of(set), location, manifest)))
    }

    /// Lists the manifests and reads those that are new and may be the newest. Returns why the last unreadable one cannot be read.
    async fn look(&mut self, workspace: &Arc<Workspace>, set: &FeatureSet) -> Result<Option<Error>> {
        let folder = workspace.root.child(&materializations_folder(&set.name));
        let mut listed = BTreeMap::new();
        for object in folder.list().await? {
            let name = folder.name_of(&object.location);
            if let Some((made, MANIFEST)) = name.rsplit_once('/') {
                listed.insert(made.to_owned(), ObjectVersion::of(&object));
            }
        }
        self.seen.retain(|made, seen| listed.get(made) == Some(&seen.object));
        let mut latest = self.ranks().map(|rank| rank.horizon.as_of).max();
        let mut skipped = None;
        // A name that tells no as-of is read in any case.
        let mut in_order: Vec<(Option<AsOf>, String, ObjectVersion)> =
            listed.into_iter().map(|(made, object)| (as_of_of_folder(&made), made, object)).collect();
        in_order.sort_by_key(|(as_of, ..)| (as_of.is_some(), Reverse(*as_of)));
        for (as_of, made, object) in in_order {
            let known = self.seen.get(&made).map(|seen| seen.what);
            let is_older = as_of.is_some_and(|as_of| latest.is_some_and(|latest| as_of < latest));
            if is_older || known.is_some_and(|what| what != What::Unreadable) {
                continue;
            }
            // A manifest that cannot be read, or has another format, must not keep the others from being served.
            let what = match read_manifest(&folder.child(&made)).await {
                Ok(Some(manifest)) if manifest.fingerprint == set.fingerprint => {
                    let rank = Rank::of(&manifest);
                    latest = latest.max(Some(manifest.as_of));
                    if self.newest.as_ref().is_none_or(|newest| rank > Rank::of(newest.manifest())) {
                        let location = location_of(workspace, &set.name, manifest.as_of, manifest.id);
                        self.newest = Some(Materialization::new(workspace.clone(), Definition::of(set), location, manifest));
                    }
                    What::Own(rank)
                }
                Ok(Some(_)) => What::Foreign,
                Ok(None) => continue,
                Err(error @ (Error::Corrupt { .. } | Error::Format { .. })) => {
                    if known.is_none() {
                        tracing::warn!(%error, "skipped a manifest that cannot be read");
                    }
                    skipped = Some(error);
                    What::Unreadable
                }
                Err(other) => return Err(other),
            };
            self.seen.insert(made, Seen { object, what });
        }
        Ok(skipped)
    }
}

impl ObjectVersion {
    fn of(object: &ObjectMeta) -> Self {
        Self { size: object.size, modified: object.last_modified, e_tag: object.e_tag.clone() }
    }
}

/// The newest published materialization of a set; as [`SeenManifests::newest`].
pub(crate) async fn newest(workspace: &Arc<Workspace>, set: &FeatureSet) -> Result<Option<Materialization>> {
    SeenManifests::default().newest(workspace, set).await
}

/// The error about a set of which nothing is published.
pub(crate) fn never_materialized(set: &FeatureSet) -> Error {
    Error::NotFound {
        subject: format!("feature set `{}`", set.name),
        reason: "has no published materialization of this definition; materialize it first".into(),
    }
}
