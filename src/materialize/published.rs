//! What is published of a set's name, and one materialization by its id alone. Only manifests are read here.
//! A manifest that is damaged is named and keeps nobody from the others.

use std::{fmt, future::ready};

use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::run::{cached_manifest, find, location_of, read_manifest};
use crate::{
    error::{Error, Result},
    feature_set::{FeatureSet, Fingerprint},
    layout::{MANIFEST, MATERIALIZED, is_materialization_folder, materializations_folder},
    manifest::{EngineVersions, Manifest},
    name::{ContentId, SetName, TableName},
    storage::Location,
    text_table::{lines, on_one_line},
    time::{AsOf, Cutoff},
    workspace::Workspace,
};

const READS_AT_ONCE: usize = 16;

/// The published materializations of a set's name; see
/// [`FeatureStore::materializations`](crate::FeatureStore::materializations). It prints as a table.
#[derive(Debug)]
#[non_exhaustive]
pub struct Materializations {
    /// The name of the set.
    pub set: SetName,
    /// The materializations, by their as-ofs and then by their ids.
    pub published: Vec<MaterializationInfo>,
    /// Manifests that cannot be read, in the order of their paths.
    pub damaged: Vec<DamagedManifest>,
}

/// A published materialization, as [`FeatureStore::materializations`](crate::FeatureStore::materializations) lists it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MaterializationInfo {
    /// The instant at which the facts were cut.
    pub as_of: AsOf,
    /// Whether facts at exactly the as-of were visible.
    pub cutoff: Cutoff,
    /// The id, by which [`FeatureStore::open_materialization`](crate::FeatureStore::open_materialization) opens it.
    pub id: ContentId,
    /// Rows in it.
    pub rows: u64,
    /// The size of its files in bytes, as they are compressed.
    pub bytes: u64,
    /// The tables that it was made of with their versions, in the order of the definition.
    pub tables: Vec<(TableName, u64)>,
    /// The fingerprint of the definition that made it.
    pub fingerprint: Fingerprint,
    /// Whether that definition is the one that is registered now.
    pub definition: DefinitionState,
    /// The engine that made it.
    pub engine: EngineVersions,
}

/// Whether the definition that made a materialization is known to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefinitionState {
    /// It is registered.
    Registered,
    /// Another definition is registered under the set's name.
    Other,
    /// No set of the name is registered.
    NotRegistered,
}

/// A manifest that cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub struct DamagedManifest {
    /// The folder of its materialization, below that of the set.
    pub folder: String,
    /// What is wrong with it: [`Error::Corrupt`] or [`Error::Format`].
    pub error: Error,
}

/// What lies in the folder of a materialization.
pub(super) enum Listed {
    Manifest(Box<Manifest>),
    Damaged(DamagedManifest),
}

/// The manifests of a set's name, in the order of their folders. Several are read at once.
pub(super) async fn manifests(workspace: &Workspace, set: &SetName) -> Result<impl Stream<Item = Result<Listed>> + use<>> {
    let folder = workspace.root.child(&materializations_folder(set));
    let objects = folder.list().await?;
    let made: Vec<String> = objects.iter().filter_map(|object| folder_of_manifest(&folder.name_of(&object.location))).collect();
    let reads = made.into_iter().map(move |made| {
        let location = folder.child(&made);
        async move {
            match read_manifest(&location).await {
                // Somebody has removed it since the folder was listed.
                Ok(None) => Ok(None),
                Ok(Some(manifest)) => Ok(Some(Listed::Manifest(Box::new(manifest)))),
                Err(error) if is_damage(&error) => Ok(Some(Listed::Damaged(DamagedManifest { folder: made, error }))),
                Err(other) => Err(other),
            }
        }
    });
    Ok(stream::iter(reads).buffered(READS_AT_ONCE).try_filter_map(|listed| ready(Ok(listed))))
}

/// The folder in which a manifest lies, from its name below the folder of its set; `None` for any other file.
fn folder_of_manifest(name: &str) -> Option<String> {
    let (made, MANIFEST) = name.rsplit_once('/')? else { return None };
    (!made.contains('/')).then(|| made.to_owned())
}

/// Is this the error of a file that must not keep others from being read?
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Corrupt { .. } | Error::Format { .. })
}

/// What is published of a set's name. `registered` is the set of this name, if one is registered.
pub(crate) async fn materializations(
    workspace: &Workspace,
    set: SetName,
    registered: Option<&FeatureSet>,
) -> Result<Materializations> {
    let mut listed = std::pin::pin!(manifests(workspace, &set).await?);
    let (mut published, mut damaged) = (Vec::new(), Vec::new());
    while let Some(found) = listed.try_next().await? {
        match found {
            Listed::Manifest(manifest) => published.push(MaterializationInfo::of(*manifest, registered)),
            Listed::Damaged(manifest) => damaged.push(manifest),
        }
    }
    published.sort_by_key(|info| (info.as_of, info.id));
    Ok(Materializations { set, published, damaged })
}

/// The published materialization with this id, of any set: where it lies, and its manifest.
///
/// # Errors
/// [`Error::NotFound`] when there is none, [`Error::Corrupt`] and [`Error::Format`] when its manifest cannot be read.
pub(crate) async fn published(workspace: &Workspace, id: ContentId) -> Result<(Location, Manifest)> {
    // The name of the folder begins with the as-of, which a cached manifest tells.
    if let Some(known) = cached_manifest(workspace, id)? {
        let location = location_of(workspace, &known.set, known.as_of, id);
        if let Some(manifest) = find(workspace, &location, id).await? {
            return Ok((location, manifest));
        }
    }
    let all = workspace.root.child(MATERIALIZED);
    let mut damage = None;
    for object in all.list().await? {
        let name = all.name_of(&object.location);
        let [set, made, MANIFEST] = name.split('/').collect::<Vec<_>>()[..] else { continue };
        if !is_materialization_folder(made, id) {
            continue;
        }
        let location = all.child(set).child(made);
        match read_manifest(&location).await {
            Ok(Some(manifest)) => {
                workspace.cache.put_manifest(id, &manifest.to_json()?)?;
                return Ok((location, manifest));
            }
            Ok(None) => {}
            Err(error) if is_damage(&error) => damage = Some(error),
            Err(other) => return Err(other),
        }
    }
    Err(damage.unwrap_or_else(|| Error::NotFound {
        subject: format!("the materialization {id}"),
        reason: "is not published in this root; `FeatureStore::materializations` lists what is published of a set".into(),
    }))
}

impl MaterializationInfo {
    fn of(manifest: Manifest, registered: Option<&FeatureSet>) -> Self {
        let bytes = manifest.files().map(|part| part.size).sum();
        let definition = match registered {
            None => DefinitionState::NotRegistered,
            Some(set) if set.fingerprint == manifest.fingerprint => DefinitionState::Registered,
            Some(_) => DefinitionState::Other,
        };
        let Manifest { as_of, cutoff, id, rows, inputs, fingerprint, engine, .. } = manifest;
        let tables = inputs.into_iter().map(|input| (input.table, input.version)).collect();
        Self { as_of, cutoff, id, rows, bytes, tables, fingerprint, definition, engine }
    }
}

/// An as-of as reports show it, with its cutoff if that is inclusive.
pub(super) fn shown_as_of(as_of: AsOf, cutoff: Cutoff) -> String {
    match cutoff {
        Cutoff::Exclusive => as_of.to_string(),
        Cutoff::Inclusive => format!("{as_of}, inclusive"),
    }
}

impl fmt::Display for DefinitionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DefinitionState::Registered => "registered",
            DefinitionState::Other => "another",
            DefinitionState::NotRegistered => "not registered",
        })
    }
}

impl fmt::Display for DamagedManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.folder, on_one_line(&self.error.to_string()))
    }
}

const HEADER: [&str; 9] = ["as of", "tables", "definition", "engine", "DataFusion", "time zones", "rows", "bytes", "id"];

impl fmt::Display for Materializations {
    /// A line per materialization, and then a line per damaged manifest. The definition is shown by the first digits of its fingerprint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, published, damaged } = self;
        writeln!(f, "{set}: {} materialization{}", published.len(), if published.len() == 1 { "" } else { "s" })?;
        let row = |info: &MaterializationInfo| {
            let tables = info.tables.iter().map(|(table, version)| format!("{table} {version}")).collect::<Vec<_>>();
            vec![
                shown_as_of(info.as_of, info.cutoff),
                tables.join(", "),
                format!("{} {}", info.fingerprint.id.short(), info.definition),
                info.engine.revision.to_string(),
                info.engine.datafusion.clone(),
                info.engine.time_zones.clone(),
                info.rows.to_string(),
                info.bytes.to_string(),
                info.id.to_string(),
            ]
        };
        if !published.is_empty() {
            let rows: Vec<Vec<String>> =
                std::iter::once(HEADER.map(str::to_owned).to_vec()).chain(published.iter().map(row)).collect();
            lines(&rows, 6).iter().try_for_each(|line| writeln!(f, "{line}"))?;
        }
        damaged.iter().try_for_each(|manifest| writeln!(f, "cannot be read: {manifest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_lies_directly_in_the_folder_of_its_materialization() {
        assert_eq!(folder_of_manifest(&format!("20141101T-ab/{MANIFEST}")).as_deref(), Some("20141101T-ab"));
        for other in [MANIFEST.to_owned(), format!("a/b/{MANIFEST}"), "a/part-0.parquet".to_owned()] {
            assert_eq!(folder_of_manifest(&other), None, "{other}");
        }
    }

    #[test]
    fn the_list_lines_up_and_names_what_is_damaged() {
        let hash = ContentId::of(b"x");
        let info = |as_of: i64, cutoff, rows| MaterializationInfo {
            as_of: AsOf::from_micros(as_of),
            cutoff,
            id: hash,
            rows,
            bytes: 10 * rows,
            tables: vec![("trips".parse().unwrap(), 3), ("weather".parse().unwrap(), 12)],
            fingerprint: Fingerprint { id: hash, declared: hash, behaviour: hash },
            definition: DefinitionState::Registered,
            engine: EngineVersions { revision: 4, datafusion: "55.0.0".into(), time_zones: "2025b".into() },
        };
        let error = Error::Corrupt { path: "root/a".into(), reason: "it was\ncut off".into() };
        let list = Materializations {
            set: "trips_v1".parse().unwrap(),
            published: vec![info(0, Cutoff::Exclusive, 7), info(1_000_000, Cutoff::Inclusive, 1_000)],
            damaged: vec![DamagedManifest { folder: "a".into(), error }],
        };
        let told = list.to_string();
        let told: Vec<&str> = told.lines().collect();
        let line = |cells: [&str; 9]| {
            let [as_of, tables, definition, engine, datafusion, zones, rows, bytes, id] = cells;
            format!(
                "{as_of:<31}  {tables:<19}  {definition:<27}  {engine:<6}  {datafusion:<10}  {zones:<10}  {rows:>4}  {bytes:>5}  {id:>64}"
            )
        };
        assert_eq!(told[0], "trips_v1: 2 materializations");
        assert_eq!(told[1], line(HEADER));
        let definition = format!("{} registered", hash.short());
        let first =
            ["1970-01-01T00:00:00Z", "trips 3, weather 12", &definition, "4", "55.0.0", "2025b", "7", "70", &hash.to_string()];
        assert_eq!(told[2], line(first));
        assert!(
            told[3].starts_with("1970-01-01T00:00:01Z, inclusive  trips 3") && told[3].contains("  1000  10000  "),
            "{}",
            told[3]
        );
        assert_eq!(told[4], "cannot be read: a: `root/a` is damaged: it was cut off");
        assert_eq!(told.len(), 5);
    }
}
