//! Making a materialization: find it, or compute it, put its files into the store, and publish the manifest with one put-if-absent.
//! A materialization exists once its manifest is there, and then it is complete.

use std::sync::Arc;

use super::{
    Materialization,
    binding::{bind, check_binding},
    columns::check_columns,
    compute::{Computed, FactsFrom, compute},
    definition::Definition,
};
use crate::{
    catalog::FileEntry,
    error::{Error, Result},
    feature_set::{FeatureSet, RowSet, SetBody},
    layout::{MANIFEST, materialization_folder, materializations_folder},
    manifest::{EngineVersions, FORMAT, InputFile, InputTable, Manifest, materialization_id},
    name::{ContentId, SetName},
    scan::VisibleTable,
    storage::{Location, Published},
    time::{AsOf, Horizon},
    workspace::{PinnedTable, Workspace},
};

/// What a materialization is made of: its tables as of its horizon, in the order of the set's, and the id that they give it.
pub(crate) struct Inputs {
    pub(crate) tables: Vec<VisibleTable>,
    /// The tables as a manifest lists them.
    pub(crate) listed: Vec<InputTable>,
    pub(crate) engine: EngineVersions,
    pub(crate) id: ContentId,
}

impl Inputs {
    /// The materialization of a set as of a horizon, over these versions of its tables and by this program.
    pub(crate) fn of(set: &FeatureSet, horizon: Horizon, pinned: &[PinnedTable]) -> Result<Self> {
        let tables = VisibleTable::all(pinned, horizon)?;
        let listed: Vec<InputTable> = tables.iter().map(input_table).collect();
        let engine = EngineVersions::current();
        let id = materialization_id(&set.name, &set.fingerprint, horizon, &engine, &listed);
        Ok(Self { tables, listed, engine, id })
    }

    /// The manifest of a materialization that is not computed yet.
    pub(super) fn manifest(&self, set: &FeatureSet, horizon: Horizon) -> Manifest {
        Manifest {
            format: FORMAT,
            id: self.id,
            set: set.name.clone(),
            fingerprint: set.fingerprint.clone(),
            as_of: horizon.as_of,
            cutoff: horizon.cutoff,
            engine: self.engine.clone(),
            inputs: self.listed.clone(),
            keys: Vec::new(),
            columns: Vec::new(),
            features: set.features(),
            views: set.views().to_vec(),
            labels: Vec::new(),
            selections: Vec::new(),
            encoders: Vec::new(),
            rows_seen: 0,
            rows: 0,
            parts: Vec::new(),
            partial: Vec::new(),
        }
    }
}

/// The materialization of a set at an instant over the newest versions of its tables.
pub(crate) async fn materialize(workspace: &Arc<Workspace>, set: &FeatureSet, as_of: AsOf) -> Result<Materialization> {
    materialize_pinned(workspace, set, as_of, &workspace.pin_all(&set.tables).await?).await
}

/// As [`materialize`], over these versions of the set's tables, in their order.
///
/// Of calls for one id at the same time in this process one computes, and the others wait for it.
pub(crate) async fn materialize_pinned(
    workspace: &Arc<Workspace>,
    set: &FeatureSet,
    as_of: AsOf,
    pinned: &[PinnedTable],
) -> Result<Materialization> {
    let horizon = set.horizon(as_of);
    let inputs = Arc::new(Inputs::of(set, horizon, pinned)?);
    let find_or_make = || {
        let (workspace, set, inputs) = (workspace.clone(), set.clone(), inputs.clone());
        async move { find_or_make(&workspace, &set, horizon, &inputs).await }
    };
    let manifest = workspace.in_flight.once(inputs.id, find_or_make).await?;
    let location = location_of(workspace, &set.name, as_of, inputs.id);
    Ok(Materialization::new(workspace.clone(), Definition::of(set), location, manifest))
}

async fn find_or_make(workspace: &Workspace, set: &FeatureSet, horizon: Horizon, inputs: &Inputs) -> Result<Arc<Manifest>> {
    let location = location_of(workspace, &set.name, horizon.as_of, inputs.id);
    if let Some(found) = find(workspace, &location, inputs.id).await? {
        return Ok(Arc::new(found));
    }
    let pinned: Vec<PinnedTable> = inputs.tables.iter().map(|table| table.pinned().clone()).collect();
    check(workspace, set, &pinned).await?;
    let mut computed = compute(workspace, set, &inputs.tables, inputs.manifest(set, horizon), FactsFrom::Tiles).await?;
    let mut unfinished = computed.take_unfinished();
    let published = publish(workspace, set, &location, computed).await;
    unfinished.finish().await;
    Ok(Arc::new(published?))
}

/// Refuses a set that does not fit its tables, and one whose name the root holds for another definition.
pub(super) async fn check(workspace: &Workspace, set: &FeatureSet, pinned: &[PinnedTable]) -> Result<()> {
    check_binding(workspace, set).await?;
    match &set.body {
        SetBody::Rows(rows) => check_drawn(workspace, rows, pinned).await,
        SetBody::Entities(entities) => check_columns(&workspace.engine, set, entities, pinned).await,
    }
}

/// Puts the files of a materialization into the store, and publishes its manifest.
pub(super) async fn publish(
    workspace: &Workspace,
    set: &FeatureSet,
    location: &Location,
    computed: Computed,
) -> Result<Manifest> {
    let manifest = computed.publish(location).await?;
    // As late as possible: a definition that cannot be materialized yet may still be edited.
    bind(workspace, set).await?;
    let published = match location.put_if_absent(MANIFEST, manifest.to_json()?).await? {
        Published::New => manifest,
        // Another process published first: its rows are these rows.
        Published::Existed => read_manifest(location).await?.ok_or_else(|| vanished(location))?,
    };
    workspace.cache.put_manifest(published.id, &published.to_json()?)?;
    Ok(published)
}

/// Refuses sets that are drawn on and do not fit their tables, or whose names the root holds for other definitions.
pub(crate) async fn check_drawn(workspace: &Workspace, set: &RowSet, pinned: &[PinnedTable]) -> Result<()> {
    for drawn in &set.drawn {
        check_binding(workspace, &drawn.set).await?;
        if let Some(entities) = drawn.entities() {
            check_columns(&workspace.engine, &drawn.set, entities, pinned).await?;
        }
    }
    Ok(())
}

/// The manifest with this id, if it is published at this location.
pub(super) async fn find(workspace: &Workspace, location: &Location, id: ContentId) -> Result<Option<Manifest>> {
    // A cached manifest counts only while the root has the manifest: somebody may have removed a damaged materialization.
    match cached_manifest(workspace, id)? {
        Some(manifest) if location.head(MANIFEST).await?.is_some() => Ok(Some(manifest)),
        _ => match read_manifest(location).await? {
            Some(manifest) => {
                workspace.cache.put_manifest(manifest.id, &manifest.to_json()?)?;
                Ok(Some(manifest))
            }
            None => Ok(None),
        },
    }
}

/// The manifest with this id in the cache; `None` when it is not there or cannot be read.
pub(super) fn cached_manifest(workspace: &Workspace, id: ContentId) -> Result<Option<Manifest>> {
    let found = workspace.cache.manifest(id)?;
    Ok(found.and_then(|json| Manifest::parse("the cache", &json).ok()).filter(|manifest| manifest.id == id))
}

pub(super) async fn read_manifest(location: &Location) -> Result<Option<Manifest>> {
    let bytes = location.get(MANIFEST).await?;
    bytes.map(|bytes| Manifest::parse_at(&format!("{location}/{MANIFEST}"), &bytes)).transpose()
}

pub(super) fn location_of(workspace: &Workspace, set: &SetName, as_of: AsOf, id: ContentId) -> Location {
    workspace.root.child(&materializations_folder(set)).child(&materialization_folder(as_of, id))
}

fn vanished(location: &Location) -> Error {
    Error::Corrupt {
        path: format!("{location}/{MANIFEST}"),
        reason: "it vanished right after another process had published it; does somebody remove files from the root?".into(),
    }
}

/// A table with its files that may hold visible rows.
pub(crate) fn input_table(visible: &VisibleTable) -> InputTable {
    let PinnedTable { version, location, .. } = visible.pinned();
    InputTable {
        table: version.table().clone(),
        version: version.version(),
        declared: version.declared().clone(),
        columns: version.columns().iter().chain(version.partition_columns()).cloned().collect(),
        null_event_times: version.null_event_times(),
        files: visible.files().map(|file| input_file(location, file)).collect(),
    }
}

fn input_file(location: &Location, file: &FileEntry) -> InputFile {
    let (size, content) = (file.identity.size, file.identity.content_at(location, &file.path));
    InputFile { path: file.path.clone(), size, content, partition: file.partition.clone() }
}
