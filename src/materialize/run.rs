//! Making a materialization: find it, or compute it, write its files, and publish the manifest with one put-if-absent.
//! A materialization exists once its manifest is there, and then it is complete.

use std::sync::Arc;

use super::{
    Materialization,
    binding::{bind, check_binding},
    columns::check_columns,
    entities::{EntityTable, EntityTables, entities},
    row_set::write_rows,
};
use crate::{
    catalog::{Column, FileEntry},
    error::{Error, Result},
    feature_set::{EntitySet, FeatureSet, RowSet, SetBody},
    layout::{MANIFEST, PartOf, materialization_folder, materializations_folder},
    manifest::{EngineVersions, FORMAT, InputFile, InputTable, Manifest, PartialRows, materialization_id},
    name::ContentId,
    scan::VisibleTable,
    storage::{Location, Published},
    time::AsOf,
    workspace::{PartsWriter, PinnedTable, Workspace},
};

/// The materialization of a set at an instant over the newest versions of its tables.
pub(crate) async fn materialize(workspace: &Arc<Workspace>, set: &FeatureSet, as_of: AsOf) -> Result<Materialization> {
    materialize_pinned(workspace, set, as_of, &workspace.pin_all(&set.tables).await?).await
}

/// As [`materialize`], over these versions of the set's tables, in their order.
pub(crate) async fn materialize_pinned(
    workspace: &Arc<Workspace>,
    set: &FeatureSet,
    as_of: AsOf,
    pinned: &[PinnedTable],
) -> Result<Materialization> {
    let mut missing = match find_or_begin(workspace, set, as_of, pinned).await? {
        Found::Published(found) => return Ok(found),
        Found::Missing(missing) => missing,
    };
    check(workspace, set, pinned).await?;
    let Missing { tables, location, manifest, .. } = &mut *missing;
    match &set.body {
        SetBody::Rows(rows) => write_rows(&workspace.engine, rows, tables, location, manifest).await?,
        SetBody::Entities(entities) => write_entities(workspace, entities, tables, location, manifest).await?,
    }
    publish(workspace, set, *missing).await
}

/// What there is of a materialization.
pub(super) enum Found {
    Published(Materialization),
    Missing(Box<Missing>),
}

/// A materialization that is not published.
pub(super) struct Missing {
    /// The tables of the set, as of its horizon.
    pub(super) tables: Vec<VisibleTable>,
    pub(super) location: Location,
    /// All that is known before the rows are made.
    pub(super) manifest: Manifest,
}

/// The materialization of a set at an instant over these versions of its tables, or what is needed to make it.
pub(super) async fn find_or_begin(
    workspace: &Arc<Workspace>,
    set: &FeatureSet,
    as_of: AsOf,
    pinned: &[PinnedTable],
) -> Result<Found> {
    let horizon = set.horizon(as_of);
    let tables = VisibleTable::all(pinned, horizon)?;
    let inputs: Vec<InputTable> = tables.iter().map(input_table).collect();
    let engine = EngineVersions::current();
    let id = materialization_id(&set.name, &set.fingerprint, horizon, &engine, &inputs);
    if let Some(found) = find(workspace, set, as_of, id).await? {
        return Ok(Found::Published(found));
    }
    let manifest = Manifest {
        format: FORMAT,
        id,
        set: set.name.clone(),
        fingerprint: set.fingerprint.clone(),
        as_of: horizon.as_of,
        cutoff: horizon.cutoff,
        engine,
        inputs,
        keys: Vec::new(),
        columns: Vec::new(),
        features: set.features(),
        labels: Vec::new(),
        selections: Vec::new(),
        encoders: Vec::new(),
        rows_seen: 0,
        rows: 0,
        parts: Vec::new(),
        partial: Vec::new(),
    };
    let location = location_of(workspace, set, as_of, id);
    Ok(Found::Missing(Box::new(Missing { tables, location, manifest })))
}

/// Refuses a set that does not fit its tables, and one whose name the root holds for another definition.
pub(super) async fn check(workspace: &Workspace, set: &FeatureSet, pinned: &[PinnedTable]) -> Result<()> {
    check_binding(workspace, set).await?;
    match &set.body {
        SetBody::Rows(rows) => check_drawn(workspace, rows, pinned).await,
        SetBody::Entities(entities) => check_columns(set, entities, pinned),
    }
}

/// Publishes a materialization whose files are in their place.
pub(super) async fn publish(workspace: &Arc<Workspace>, set: &FeatureSet, made: Missing) -> Result<Materialization> {
    let Missing { location, mut manifest, .. } = made;
    manifest.rows = manifest.parts.iter().map(|part| part.rows).sum();
    // As late as possible: a definition that cannot be materialized yet may still be edited.
    bind(workspace, set).await?;
    let published = match location.put_if_absent(MANIFEST, manifest.to_json()?).await? {
        Published::New => manifest,
        // Another process published first: its rows are these rows.
        Published::Existed => read_manifest(&location).await?.ok_or_else(|| vanished(&location))?,
    };
    workspace.cache.put_manifest(published.id, &published.to_json()?)?;
    Ok(Materialization::new(workspace.clone(), set.clone(), location, published))
}

/// Refuses sets that are drawn on and do not fit their tables, or whose names the root holds for other definitions.
pub(crate) async fn check_drawn(workspace: &Workspace, set: &RowSet, pinned: &[PinnedTable]) -> Result<()> {
    for drawn in &set.drawn {
        check_binding(workspace, &drawn.set).await?;
        if let Some(entities) = drawn.entities() {
            check_columns(&drawn.set, entities, pinned)?;
        }
    }
    Ok(())
}

/// The materialization with this id, if it is published.
async fn find(workspace: &Arc<Workspace>, set: &FeatureSet, as_of: AsOf, id: ContentId) -> Result<Option<Materialization>> {
    let location = location_of(workspace, set, as_of, id);
    // A cached manifest counts only while the root has the manifest: somebody may have removed a damaged materialization.
    let manifest = match cached_manifest(workspace, id)? {
        Some(manifest) if location.head(MANIFEST).await?.is_some() => manifest,
        _ => match read_manifest(&location).await? {
            Some(manifest) => {
                workspace.cache.put_manifest(manifest.id, &manifest.to_json()?)?;
                manifest
            }
            None => return Ok(None),
        },
    };
    Ok(Some(Materialization::new(workspace.clone(), set.clone(), location, manifest)))
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

pub(super) fn location_of(workspace: &Workspace, set: &FeatureSet, as_of: AsOf, id: ContentId) -> Location {
    workspace.root.child(&materializations_folder(&set.name)).child(&materialization_folder(as_of, id))
}

/// Makes the rows of a set of entities and writes their files to `location`.
async fn write_entities(
    workspace: &Workspace,
    set: &EntitySet,
    tables: &[VisibleTable],
    location: &Location,
    manifest: &mut Manifest,
) -> Result<()> {
    let entities = entities(&workspace.engine, set, tables, &[manifest.as_of], manifest.cutoff).await?;
    write_entity_tables(workspace, set, entities.at(0)?, location, manifest).await
}

/// Writes the files of a set of entities to `location`.
pub(super) async fn write_entity_tables(
    workspace: &Workspace,
    set: &EntitySet,
    EntityTables { whole, partial }: EntityTables,
    location: &Location,
    manifest: &mut Manifest,
) -> Result<()> {
    let threads = workspace.engine.partitions();
    manifest.keys = set.keys.clone();
    manifest.columns = whole.schema.fields().iter().map(|f| Column::from_field(f)).collect();
    manifest.rows_seen = whole.len() as u64;
    manifest.parts = written(whole, threads).await?.publish(location).await?;
    for (i, rows) in partial.into_iter().enumerate() {
        let keys = rows.keys.clone();
        let columns = rows.schema.fields().iter().map(|f| Column::from_field(f)).collect();
        let parts = written(rows, threads).await?.of(PartOf::PartialRows(i)).publish(location).await?;
        manifest.partial.push(PartialRows { keys, columns, rows: parts.iter().map(|part| part.rows).sum(), parts });
    }
    Ok(())
}

/// Rows in files on this machine's disk.
async fn written(rows: EntityTable, threads: usize) -> Result<PartsWriter> {
    let work = tokio::task::spawn_blocking(move || {
        let mut parts = PartsWriter::new(rows.schema.clone()).threads(threads);
        for batch in rows.batches() {
            parts.write(&batch?)?;
        }
        Ok(parts)
    });
    work.await.map_err(|e| Error::lost_task("writing the rows of a set of entities", e))?
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
