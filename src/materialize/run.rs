//! Making a materialization: find it, or compute it, write its files, and publish the manifest with one put-if-absent.
//! Until the manifest is there nothing is; once it is there everything is.

use std::sync::Arc;

use datafusion::dataframe::DataFrame;

use super::{
    Cache, EngineVersions, InputFile, InputTable, Manifest, Materialization, Parts,
    columns::check_columns,
    entities::{EntityTable, EntityTables, entities, training_rows},
    manifest::{FORMAT, PartialRows, materialization_id},
};
use crate::{
    catalog::{Catalog, Column, FileEntry, TableLocation, TableVersion},
    engine::Engine,
    error::{Error, Result},
    feature_set::{Body, EntitySet, FeatureSet},
    name::ContentId,
    scan::AsOfTable,
    storage::{Location, Locations, Published},
    temporal::Spine,
    time::AsOf,
};

pub(crate) const MANIFEST: &str = "manifest.json";

/// What it takes to make and find materializations.
#[derive(Debug, Clone)]
pub(crate) struct Materializer {
    pub(crate) root: Location,
    pub(crate) catalog: Catalog,
    pub(crate) engine: Engine,
    pub(crate) locations: Locations,
    pub(crate) cache: Cache,
}

/// A table version and where its files lie.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    pub(crate) version: Arc<TableVersion>,
    pub(crate) place: Location,
}

impl Materializer {
    /// The materialization of a set at an instant over the tables as they are now.
    pub(crate) async fn materialize(self: &Arc<Self>, set: &FeatureSet, as_of: AsOf) -> Result<Materialization> {
        self.materialize_pinned(set, as_of, &self.pin(set).await?).await
    }

    /// As [`Materializer::materialize`], over these versions of the tables.
    pub(crate) async fn materialize_pinned(
        self: &Arc<Self>,
        set: &FeatureSet,
        as_of: AsOf,
        pinned: &[Pinned],
    ) -> Result<Materialization> {
        let inputs = pinned.iter().map(|p| input_table(p, as_of, set)).collect::<Result<Vec<_>>>()?;
        let engine = EngineVersions::current();
        let id = materialization_id(&set.name, &set.fingerprint, as_of, set.cutoff, &engine, &inputs);
        if let Some(found) = self.find(set, as_of, id).await? {
            return Ok(found);
        }
        self.check_binding(set).await?;
        let mut manifest = Manifest {
            format: FORMAT,
            id,
            set: set.name.clone(),
            fingerprint: set.fingerprint.clone(),
            as_of,
            cutoff: set.cutoff,
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
        let place = self.place(set, as_of, id);
        match &set.body {
            Body::Rows(rows) => self.write_rows(rows, pinned, &place, &mut manifest).await?,
            Body::Entities(entities) => {
                check_columns(set, entities, pinned)?;
                self.write_entities(entities, pinned, &place, &mut manifest).await?;
            }
        }
        manifest.rows = manifest.parts.iter().map(|part| part.rows).sum();
        // As late as can be: a definition that cannot be materialized yet may still be edited.
        self.bind(set).await?;
        let published = match place.put_if_absent(MANIFEST, manifest.to_json()?).await? {
            Published::New => manifest,
            // Another process was faster: its rows are these rows.
            Published::Existed => self.read_manifest(&place).await?.ok_or_else(|| vanished(&place))?,
        };
        self.cache.put_manifest(&published)?;
        Ok(Materialization::new(self.clone(), set.clone(), place, published))
    }

    /// The materialization with this id, if it is published.
    async fn find(self: &Arc<Self>, set: &FeatureSet, as_of: AsOf, id: ContentId) -> Result<Option<Materialization>> {
        let place = self.place(set, as_of, id);
        // What the cache knows counts only while the root holds it: somebody may have removed what was damaged.
        let manifest = match self.cache.manifest(id)? {
            Some(manifest) if place.head(MANIFEST).await?.is_some() => manifest,
            _ => match self.read_manifest(&place).await? {
                Some(manifest) => {
                    self.cache.put_manifest(&manifest)?;
                    manifest
                }
                None => return Ok(None),
            },
        };
        Ok(Some(Materialization::new(self.clone(), set.clone(), place, manifest)))
    }

    /// The published materialization of a set with the newest as-of, of those made by this very definition.
    pub(crate) async fn newest(self: &Arc<Self>, set: &FeatureSet) -> Result<Option<Materialization>> {
        let folder = self.root.child("materialized").child(set.name.as_str());
        let mut newest: Option<Manifest> = None;
        let mut skipped = None;
        for object in folder.list().await? {
            let name = folder.name_of(&object.location);
            let Some((made, MANIFEST)) = name.rsplit_once('/') else { continue };
            // A manifest that cannot be read, or of another format, must not keep the others from being served.
            let manifest = match self.read_manifest(&folder.child(made)).await {
                Ok(Some(manifest)) => manifest,
                Ok(None) => continue,
                Err(error @ (Error::Corrupt { .. } | Error::Format { .. })) => {
                    tracing::warn!(%error, "skipped a manifest that cannot be read");
                    skipped = Some(error);
                    continue;
                }
                Err(other) => return Err(other),
            };
            // Two of one as-of differ in their facts: the later versions of the tables are the better knowledge.
            let rank = |m: &Manifest| (m.as_of, m.inputs.iter().map(|i| i.version).sum::<u64>(), m.id);
            let is_newer = newest.as_ref().is_none_or(|known| rank(&manifest) > rank(known));
            if manifest.fingerprint == set.fingerprint && is_newer {
                newest = Some(manifest);
            }
        }
        match (newest, skipped) {
            (Some(manifest), _) => {
                let place = self.place(set, manifest.as_of, manifest.id);
                Ok(Some(Materialization::new(self.clone(), set.clone(), place, manifest)))
            }
            (None, Some(error)) => Err(error),
            // Perhaps because the name is another definition's.
            (None, None) => self.check_binding(set).await.map(|()| None),
        }
    }

    async fn read_manifest(&self, place: &Location) -> Result<Option<Manifest>> {
        let bytes = place.get(MANIFEST).await?;
        bytes.map(|bytes| Manifest::parse_at(&format!("{place}/{MANIFEST}"), &bytes)).transpose()
    }

    /// `materialized/<set>/<as-of>-<id>`: the as-of is there for people, the id tells them apart.
    fn place(&self, set: &FeatureSet, as_of: AsOf, id: ContentId) -> Location {
        let instant =
            as_of.to_datetime().map_or_else(|| as_of.micros().to_string(), |t| t.format("%Y%m%dT%H%M%S%.6fZ").to_string());
        self.root.child("materialized").child(set.name.as_str()).child(&format!("{instant}-{id}"))
    }

    /// The newest versions of the set's tables.
    pub(crate) async fn pin(&self, set: &FeatureSet) -> Result<Vec<Pinned>> {
        let mut pinned = Vec::with_capacity(set.tables.len());
        for table in &set.tables {
            pinned.push(self.pin_table(Arc::new(self.catalog.latest(table).await?))?);
        }
        Ok(pinned)
    }

    pub(crate) fn pin_table(&self, version: Arc<TableVersion>) -> Result<Pinned> {
        let place = match version.location() {
            TableLocation::Managed => self.root.child("facts").child(version.table().database()).child(version.table().table()),
            TableLocation::External(location) => self.locations.open(location)?,
        };
        Ok(Pinned { version, place })
    }

    async fn write_entities(&self, set: &EntitySet, tables: &[Pinned], place: &Location, manifest: &mut Manifest) -> Result<()> {
        let EntityTables { whole, partial } = entities(&self.engine, set, tables, manifest.as_of, manifest.cutoff).await?;
        let threads = self.engine.partitions();
        manifest.keys = set.keys.clone();
        manifest.columns = whole.schema.fields().iter().map(|f| Column::from_field(f)).collect();
        manifest.rows_seen = whole.rows as u64;
        manifest.parts = written(whole, threads).await?.publish(place).await?;
        for (i, rows) in partial.into_iter().enumerate() {
            let keys = rows.keys.clone();
            let columns = rows.schema.fields().iter().map(|f| Column::from_field(f)).collect();
            let parts = written(rows, threads).await?.named(&format!("by-{i}")).publish(place).await?;
            manifest.partial.push(PartialRows { keys, columns, rows: parts.iter().map(|part| part.rows).sum(), parts });
        }
        Ok(())
    }

    /// The spine with the features of a set as they were at each row's own instant.
    pub(crate) async fn training_rows(&self, set: &FeatureSet, spine: Spine) -> Result<DataFrame> {
        let Body::Entities(entities) = &set.body else {
            let reason = "it has a training row per row of its extract, and no keys to find features by; materialize it, or ask a \
                          set of entities";
            return Err(Error::Definition { subject: format!("feature set `{}`", set.name), reason: reason.into() });
        };
        self.check_binding(set).await?;
        let pinned = self.pin(set).await?;
        check_columns(set, entities, &pinned)?;
        training_rows(&self.engine, entities, &pinned, set.cutoff, spine).await
    }
}

/// Rows in files on this machine's disk.
async fn written(rows: EntityTable, threads: usize) -> Result<Parts> {
    let work = tokio::task::spawn_blocking(move || {
        let mut parts = Parts::new(rows.schema.clone()).threads(threads);
        for batch in rows.batches() {
            parts.write(&batch?)?;
        }
        Ok(parts)
    });
    work.await.map_err(|e| Error::lost_task("writing the rows of a set of entities", e))?
}

fn vanished(place: &Location) -> Error {
    Error::Corrupt {
        path: format!("{place}/{MANIFEST}"),
        reason: "it has just vanished; is another process cleaning the root?".into(),
    }
}

fn input_table(pinned: &Pinned, as_of: AsOf, set: &FeatureSet) -> Result<InputTable> {
    let files = AsOfTable::candidates(&pinned.version, as_of, set.cutoff)?;
    Ok(InputTable {
        table: pinned.version.table().clone(),
        version: pinned.version.version(),
        declared: pinned.version.declared().clone(),
        columns: pinned.version.columns().iter().chain(pinned.version.partition_columns()).cloned().collect(),
        null_event_times: pinned.version.null_event_times(),
        files: files.into_iter().map(|file| input_file(&pinned.place, file)).collect(),
    })
}

fn input_file(place: &Location, file: &FileEntry) -> InputFile {
    let (size, content) = (file.identity.size, file.identity.content_at(place, &file.path));
    InputFile { path: file.path.clone(), size, content, partition: file.partition.clone() }
}
