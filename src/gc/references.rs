//! The files that published versions, manifests and records name, which a garbage collection must keep.
//! If one of these cannot be read, the collection ends, because it is not known which files it names.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};

use super::{
    Gc,
    path_kind::{PathKind, path_kind},
};
use crate::{
    catalog::{TableLocation, TableVersion},
    error::Result,
    extract::ExtractRecord,
    layout::{CATALOG, EXTRACTS, MATERIALIZED, MODEL_ARTIFACT, MODELS, TRAINING, facts_folder},
    manifest::{FittedOn, InputTable, Manifest, ModelRecord, TrainingManifest},
    name::{ContentId, TableName},
    storage::{ListedKind, Location},
    time::AsOf,
    workspace::Workspace,
};

const READS_AT_ONCE: usize = 16;

/// Paths below the root by what is to become of them, and the loads whose files are kept.
#[derive(Debug, Default)]
pub(super) struct References {
    /// Named by something that is kept.
    kept: BTreeSet<String>,
    /// The loads of kept versions, by the first digits of their ids.
    pub(super) loads: BTreeSet<String>,
    /// Table versions to be removed, the oldest of each table first.
    pub(super) old_versions: BTreeSet<String>,
    /// Named by versions to be removed. Something that is kept may name them too.
    pub(super) of_old_versions: BTreeSet<String>,
    /// Records and files of expired extracts.
    pub(super) expired: BTreeSet<String>,
    /// The first digits of the keys of the files of kept versions, by table.
    pub(super) tiled_files: BTreeSet<(TableName, String)>,
    /// Folders of registered tables below the root, with a `/` at the end.
    registered: BTreeSet<String>,
}

/// A table version, manifest or record.
struct Publishing {
    path: String,
    kind: PathKind,
    modified: AsOf,
}

/// Reads everything that is published now.
pub(super) async fn references(workspace: &Workspace, gc: &Gc, now: AsOf) -> Result<References> {
    let mut published = Vec::new();
    for folder in [CATALOG, MATERIALIZED, EXTRACTS, TRAINING, MODELS] {
        // Links are followed: readers find what is published behind them, and it may name files below this root.
        for file in workspace.root.child(folder).list_reachable().await? {
            let path = format!("{folder}/{}", file.name);
            let kind = path_kind(&path);
            if file.kind == ListedKind::Object
                && matches!(
                    kind,
                    PathKind::Version(..)
                        | PathKind::Manifest
                        | PathKind::TrainingManifest
                        | PathKind::ExtractRecord(_)
                        | PathKind::ModelRecord
                )
            {
                published.push(Publishing { path, kind, modified: AsOf::from_micros(file.modified_us) });
            }
        }
    }
    let is_old = |modified: AsOf| modified.micros().saturating_add(gc.grace_us) <= now.micros();
    let (records, published): (Vec<_>, Vec<_>) =
        published.into_iter().partition(|publishing| publishing.kind == PathKind::ModelRecord);
    let mut found = References::default();
    let of_models = OfModels::read(workspace, records, &mut found.kept).await?;
    found.old_versions = old_versions(workspace, gc, &published, is_old).await?;
    for publishing in &published {
        if let PathKind::Version(table, number) = &publishing.kind
            && of_models.versions.contains(&(table.clone(), *number))
        {
            found.old_versions.remove(&publishing.path);
        }
    }

    let read = |publishing: Publishing| async move {
        let bytes = workspace.root.get(&publishing.path).await?;
        Ok::<_, crate::error::Error>((publishing, bytes))
    };
    let mut read = futures::stream::iter(published.into_iter().map(read)).buffered(READS_AT_ONCE);
    let (mut registered, mut read_by_materializations) = (BTreeMap::new(), BTreeSet::new());
    let mut extracts: BTreeMap<String, Vec<(ExtractRecord, String, AsOf)>> = BTreeMap::new();
    while let Some((Publishing { path, kind, modified }, bytes)) = read.try_next().await? {
        // Another collection has removed it since it was listed, so it is no longer published.
        let Some(bytes) = bytes else { continue };
        let shown = workspace.root.child(&path).to_string();
        match kind {
            PathKind::Version(..) => {
                let Some(version) = TableVersion::parse(&shown, &bytes)? else { continue };
                let place = match version.location() {
                    TableLocation::Managed => workspace.root.child(&facts_folder(version.table())),
                    TableLocation::External(location) => {
                        let place = workspace.locations.open(location)?;
                        found.add_registered(&workspace.root, &place, &version);
                        registered.insert((version.table().clone(), version.version()), path.clone());
                        place
                    }
                };
                found.add_version(&path, &version, &place);
            }
            PathKind::Manifest => {
                let manifest = Manifest::parse_at(&shown, &bytes)?;
                found.add_manifest(&path, &manifest);
                read_by_materializations.extend(manifest.inputs.into_iter().map(|input| (input.table, input.version)));
            }
            PathKind::TrainingManifest => {
                let manifest = TrainingManifest::parse_at(&shown, &bytes)?;
                found.add_training_set(&path, &manifest);
                if of_models.training_sets.contains(&manifest.id) {
                    found.add_facts(&manifest.origin.inputs);
                }
            }
            PathKind::ExtractRecord(run) => {
                let record = ExtractRecord::parse(&shown, &bytes)?;
                extracts.entry(run.name).or_default().push((record, path, modified));
            }
            _ => {}
        }
    }
    // A materialization over a registered table needs the table's version, which alone says where the files are.
    for path in read_by_materializations.iter().filter_map(|input| registered.get(input)) {
        found.old_versions.remove(path);
    }
    for runs in extracts.into_values() {
        found.add_extracts(runs, now, is_old);
    }
    Ok(found)
}

/// What recorded models were fitted on, as far as it would not be kept otherwise.
#[derive(Default)]
struct OfModels {
    /// The table versions of it, which say where the facts came from.
    versions: BTreeSet<(TableName, u64)>,
    /// The training sets, whose facts are kept.
    training_sets: BTreeSet<ContentId>,
}

impl OfModels {
    /// Reads these records, and adds them and their artifacts to what is kept.
    async fn read(workspace: &Workspace, records: Vec<Publishing>, kept: &mut BTreeSet<String>) -> Result<Self> {
        let mut found = Self::default();
        let read = |path: String| async move { Ok::<_, crate::error::Error>((workspace.root.get(&path).await?, path)) };
        let paths = records.into_iter().map(|publishing| publishing.path);
        let mut read = futures::stream::iter(paths.map(read)).buffered(READS_AT_ONCE);
        while let Some((bytes, path)) = read.try_next().await? {
            // Somebody has forgotten the model since it was listed.
            let Some(bytes) = bytes else { continue };
            let record = ModelRecord::parse_at(&workspace.root.child(&path).to_string(), &bytes)?;
            found.versions.extend(record.inputs.into_iter().map(|input| (input.table, input.version)));
            if let FittedOn::TrainingSet { id, .. } = record.fitted_on {
                found.training_sets.insert(id);
            }
            if record.artifact.location.is_none() {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                kept.insert(format!("{folder}/{MODEL_ARTIFACT}"));
            }
            kept.insert(path);
        }
        Ok(found)
    }
}

/// The versions beyond those to be kept that were not the newest within the grace period. A version stops being the newest when
/// the next one is published. The last version of a dropped registered table is kept too: it says where its files are.
async fn old_versions(
    workspace: &Workspace,
    gc: &Gc,
    published: &[Publishing],
    is_old: impl Fn(AsOf) -> bool,
) -> Result<BTreeSet<String>> {
    let Some(keep) = gc.keep_versions else { return Ok(BTreeSet::new()) };
    let mut tables: BTreeMap<&TableName, Vec<(u64, &Publishing)>> = BTreeMap::new();
    for publishing in published {
        if let PathKind::Version(table, number) = &publishing.kind {
            tables.entry(table).or_default().push((*number, publishing));
        }
    }
    let mut old = BTreeSet::new();
    for mut versions in tables.into_values() {
        versions.sort_by_key(|(number, _)| *number);
        let mut spare = versions.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
        if let [.., (_, last), (_, newest)] = versions[..]
            && spare + 1 >= versions.len()
            && version_at(workspace, &newest.path).await?.is_none()
            && version_at(workspace, &last.path).await?.is_some_and(|last| matches!(last.location(), TableLocation::External(_)))
        {
            spare = versions.len() - 2;
        }
        let replaced = versions.windows(2).take(spare);
        old.extend(replaced.filter(|pair| is_old(pair[1].1.modified)).map(|pair| pair[0].1.path.clone()));
    }
    Ok(old)
}

/// The table in a version's file; `None` if it is a tombstone, or has been removed since it was listed.
async fn version_at(workspace: &Workspace, path: &str) -> Result<Option<TableVersion>> {
    match workspace.root.get(path).await? {
        Some(bytes) => TableVersion::parse(&workspace.root.child(path).to_string(), &bytes),
        None => Ok(None),
    }
}

/// The folder below the root in which a registered table lies, or an empty path if the table's location contains the root;
/// `None` for a table elsewhere.
fn below(root: &Location, location: &Location) -> Option<String> {
    let inside = |name: &String| !name.starts_with('/');
    if location.name_of_place(root).as_ref().is_some_and(inside) {
        return Some(String::new());
    }
    root.name_of_place(location).filter(inside).map(|name| format!("{name}/"))
}

impl References {
    /// Whether this file is kept, whatever its kind.
    pub(super) fn keeps(&self, path: &str) -> bool {
        self.kept.contains(path) || self.registered.iter().any(|folder| path.starts_with(folder))
    }

    /// Adds the folders of a registered table, including partitions with locations of their own.
    fn add_registered(&mut self, root: &Location, location: &Location, version: &TableVersion) {
        let elsewhere = version.files().iter().map(|file| file.path.as_str()).filter(|path| path.starts_with('/'));
        let folders = elsewhere.filter_map(|path| path.rsplit_once('/')).map(|(folder, _)| location.child(folder));
        self.registered.extend(folders.chain([location.clone()]).filter_map(|location| below(root, &location)));
    }

    fn add_version(&mut self, path: &str, version: &TableVersion, place: &Location) {
        let is_kept = !self.old_versions.contains(path);
        if is_kept {
            let keys = version.files().iter().map(|file| (version.table().clone(), file.facts_key(place).short()));
            self.tiled_files.extend(keys);
            for load in version.loads() {
                self.loads.insert(load.id.short());
                self.kept.extend(load.reject_file.clone());
            }
        }
        if *version.location() == TableLocation::Managed {
            let files = version.files().iter().map(|file| fact_path(version.table(), &file.path));
            if is_kept { self.kept.extend(files) } else { self.of_old_versions.extend(files) }
        }
    }

    /// The facts that a materialization was made of are kept as long as it exists.
    fn add_manifest(&mut self, path: &str, manifest: &Manifest) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.kept.insert(path.into());
        self.kept.extend(manifest.files().map(|part| format!("{folder}/{}", part.name)));
        self.add_facts(&manifest.inputs);
    }

    fn add_facts(&mut self, inputs: &[InputTable]) {
        for input in inputs {
            // Files of registered tables are not below this path, so the paths made for them match nothing.
            self.kept.extend(input.files.iter().map(|file| fact_path(&input.table, &file.path)));
        }
    }

    /// The rows of a kept training set are its own: the facts that it was made of may go, unless a model needs them.
    fn add_training_set(&mut self, path: &str, manifest: &TrainingManifest) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.kept.insert(path.into());
        self.kept.extend(manifest.parts.iter().map(|part| format!("{folder}/{}", part.name)));
    }

    fn add_extracts(&mut self, mut runs: Vec<(ExtractRecord, String, AsOf)>, now: AsOf, is_old: impl Fn(AsOf) -> bool) {
        // Newest first, by the object store's times: a writer's clock may be days behind.
        runs.sort_by(|(a, _, put_a), (b, _, put_b)| (put_b, b.started, &b.run).cmp(&(put_a, a.started, &a.run)));
        for (newer_count, (record, path, modified)) in runs.into_iter().enumerate() {
            let has_aged =
                record.retention.keep_for_us.is_some_and(|kept| record.ended.micros().saturating_add(kept) <= now.micros());
            let is_overtaken = record.retention.keep_last.is_some_and(|kept| newer_count >= kept as usize);
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let files = record.parts.iter().map(|part| format!("{folder}/{}", part.name)).chain([path.clone()]);
            match (has_aged || is_overtaken) && is_old(modified) {
                true => self.expired.extend(files),
                false => self.kept.extend(files),
            }
        }
    }
}

fn fact_path(table: &TableName, path: &str) -> String {
    format!("{}/{path}", facts_folder(table))
}
