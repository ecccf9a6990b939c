//! What a model saw, down to the source files that were loaded.
//! It is read from manifests, table versions and listings. Nothing is read of the files themselves, so a file that was changed and
//! has the same size is taken for what it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::record::rows_folder;
use crate::{
    catalog::{TableLocation, TableVersion},
    error::Result,
    layout::{MANIFEST, MODEL_ARTIFACT, facts_folder},
    lineage::{Lineage, Origin},
    manifest::{ArtifactRecord, FittedOn, InputFile, InputTable, Manifest, ModelInput, ModelRecord, TrainingManifest},
    name::{ContentId, TableName},
    storage::Location,
    time::AsOf,
    workspace::{Part, Workspace},
};

/// What a model saw. It prints as an indented tree.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModelOrigin {
    /// The model's name.
    pub name: String,
    /// Its id.
    pub id: ContentId,
    /// When it was recorded.
    pub recorded_at: AsOf,
    /// Its bytes.
    pub artifact: ArtifactRecord,
    /// Whether its bytes are there; unknown for bytes that lie elsewhere.
    pub artifact_state: FileState,
    /// What was said about it.
    pub metadata: BTreeMap<String, String>,
    /// The rows that it was fitted on.
    pub fitted_on: FittedOn,
    /// The number of these rows; `None` when their manifest was removed.
    pub rows: Option<u64>,
    /// The files with these rows; none when their manifest was removed.
    pub row_files: Vec<SeenFile>,
    /// The tables that the rows were made of.
    pub tables: Vec<SeenTable>,
}

/// A table that a model saw.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SeenTable {
    /// The table, its version, and what that was made of: of the loads only those whose rows lie in [`SeenTable::files`].
    pub lineage: Lineage,
    /// The files that could hold rows that the model saw; `None` when the manifest that lists them was removed.
    pub files: Option<Vec<SeenFile>>,
}

/// A file that a model saw.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenFile {
    /// The path relative to the table, or to the folder of the rows.
    pub path: String,
    /// Its size in bytes when the model saw it.
    pub size: u64,
    /// Its content hash, or its store's entity tag with its path.
    pub content: String,
    /// What has become of it.
    pub state: FileState,
}

/// What has become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileState {
    /// It is there, with the size that it had.
    There,
    /// It has another size.
    Changed,
    /// It was removed.
    Gone,
    /// It lies where this store cannot look, or did not look.
    Unknown,
}

/// What the model of this record, in this folder, saw.
pub(super) async fn origin_of(workspace: &Workspace, folder: &Location, record: &ModelRecord) -> Result<ModelOrigin> {
    let artifact_state = match record.artifact.location {
        Some(_) => FileState::Unknown,
        None => match folder.head(MODEL_ARTIFACT).await? {
            Some(object) => FileState::of(object.size, record.artifact.size),
            None => FileState::Gone,
        },
    };
    let rows = Rows::read(workspace, &record.fitted_on).await?;
    let mut tables = Vec::with_capacity(record.inputs.len());
    for (i, input) in record.inputs.iter().enumerate() {
        // The manifest lists the tables in the same order.
        let files = rows.as_ref().and_then(|rows| rows.inputs.get(i)).map(|input| input.files.as_slice());
        tables.push(seen_table(workspace, input, files).await?);
    }
    let row_files = match &rows {
        Some(rows) => {
            let part = |part: &Part| (part.name.clone(), part.size, part.hash.to_string());
            states(&rows_folder(workspace, &record.fitted_on), rows.parts.iter().map(part).collect()).await?
        }
        None => Vec::new(),
    };
    Ok(ModelOrigin {
        name: record.name.clone(),
        id: record.id,
        recorded_at: record.recorded_at,
        artifact: record.artifact.clone(),
        artifact_state,
        metadata: record.metadata.clone(),
        fitted_on: record.fitted_on.clone(),
        rows: rows.map(|rows| rows.count),
        row_files,
        tables,
    })
}

/// What the manifest of a materialization or of a kept training set says.
struct Rows {
    count: u64,
    parts: Vec<Part>,
    inputs: Vec<InputTable>,
}

impl Rows {
    /// `None` when the manifest was removed.
    async fn read(workspace: &Workspace, fitted_on: &FittedOn) -> Result<Option<Self>> {
        let folder = rows_folder(workspace, fitted_on);
        let Some(bytes) = folder.get(MANIFEST).await? else { return Ok(None) };
        let path = folder.child(MANIFEST).to_string();
        Ok(Some(match fitted_on {
            FittedOn::Materialization { .. } => {
                let manifest = Manifest::parse_at(&path, &bytes)?;
                Self { count: manifest.rows, parts: manifest.files().cloned().collect(), inputs: manifest.inputs }
            }
            FittedOn::TrainingSet { .. } => {
                let manifest = TrainingManifest::parse_at(&path, &bytes)?;
                Self { count: manifest.rows, parts: manifest.parts, inputs: manifest.origin.inputs }
            }
        }))
    }
}

async fn seen_table(workspace: &Workspace, input: &ModelInput, files: Option<&[InputFile]>) -> Result<SeenTable> {
    let version = workspace.catalog.version(&input.table, input.version).await?;
    let origin = match &version {
        None => Origin::Removed,
        Some(version) => match version.location() {
            TableLocation::External(place) => Origin::Registered(place.clone()),
            TableLocation::Managed => {
                let mut loads = version.loads().to_vec();
                if let Some(ids) = files.and_then(|files| loads_of(version, files)) {
                    loads.retain(|load| ids.contains(&load.id));
                }
                Origin::Loaded(loads)
            }
        },
    };
    let lineage = Lineage { table: input.table.clone(), version: Some(input.version), origin, inputs: Vec::new() };
    let Some(files) = files else { return Ok(SeenTable { lineage, files: None }) };
    let files: Vec<_> = files.iter().map(|file| (file.path.clone(), file.size, file.content.clone())).collect();
    // Where the files of a version lie that is gone, the newest version says.
    let place = match version {
        Some(version) => Some(version),
        None => workspace.catalog.find(&input.table).await?,
    };
    let files = states_of_table(workspace, &input.table, place.as_ref().map(TableVersion::location), files).await?;
    Ok(SeenTable { lineage, files: Some(files) })
}

/// The loads whose rows these files hold; `None` when a file does not say.
fn loads_of(version: &TableVersion, files: &[InputFile]) -> Option<BTreeSet<ContentId>> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let entries: Vec<_> = version.files().iter().filter(|entry| paths.contains(entry.path.as_str())).collect();
    let is_told = entries.len() == paths.len() && entries.iter().all(|entry| !entry.loads.is_empty());
    is_told.then(|| entries.iter().flat_map(|entry| entry.loads.iter().copied()).collect())
}

/// Path, size and content of a file, as they were recorded.
type Recorded = (String, u64, String);

async fn states_of_table(
    workspace: &Workspace,
    table: &TableName,
    location: Option<&TableLocation>,
    files: Vec<Recorded>,
) -> Result<Vec<SeenFile>> {
    let Some(TableLocation::External(place)) = location else {
        return states(&workspace.root.child(&facts_folder(table)), files).await;
    };
    // The table may lie in a store that this process cannot open or ask.
    let found = match workspace.locations.open(place) {
        Ok(place) => states(&place, files.clone()).await,
        Err(error) => Err(error),
    };
    Ok(found.unwrap_or_else(|error| {
        tracing::warn!(%error, %table, "the files of a registered table cannot be looked at");
        files.into_iter().map(|file| seen(file, FileState::Unknown)).collect()
    }))
}

/// What has become of files below this location.
async fn states(below: &Location, files: Vec<Recorded>) -> Result<Vec<SeenFile>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let there: BTreeMap<String, u64> =
        below.list().await?.into_iter().map(|object| (below.name_of(&object.location), object.size)).collect();
    let mut found = Vec::with_capacity(files.len());
    for file in files {
        let size = match there.get(&file.0) {
            Some(size) => Some(*size),
            // Of a partition that lies elsewhere, or under a name that listings write in another way.
            None => below.head(&file.0).await?.map(|object| object.size),
        };
        let state = size.map_or(FileState::Gone, |size| FileState::of(size, file.1));
        found.push(seen(file, state));
    }
    Ok(found)
}

fn seen((path, size, content): Recorded, state: FileState) -> SeenFile {
    SeenFile { path, size, content, state }
}

impl FileState {
    fn of(size: u64, recorded: u64) -> Self {
        if size == recorded { FileState::There } else { FileState::Changed }
    }
}

impl fmt::Display for FileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileState::There => "there",
            FileState::Changed => "changed since",
            FileState::Gone => "removed",
            FileState::Unknown => "not looked at",
        })
    }
}

/// A hash is shortened to its first digits; an entity tag is shown whole.
fn shortened(content: &str) -> String {
    content.parse::<ContentId>().map_or_else(|_| content.to_owned(), |id| id.short())
}

impl fmt::Display for SeenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes, {})", self.path, self.size, shortened(&self.content))?;
        match self.state {
            FileState::There => Ok(()),
            other => write!(f, ": {other}"),
        }
    }
}

impl fmt::Display for ModelOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model {}, recorded {}, id {}", self.name, self.recorded_at, self.id)?;
        let ArtifactRecord { hash, size, location } = &self.artifact;
        write!(f, "  artifact: {size} bytes, {}", hash.short())?;
        match (location, self.artifact_state) {
            (Some(location), _) => writeln!(f, ", at {location}")?,
            (None, FileState::There) => writeln!(f)?,
            (None, other) => writeln!(f, ": {other}")?,
        }
        for (name, value) in &self.metadata {
            writeln!(f, "  {name} = {}", value.escape_debug())?;
        }
        writeln!(f, "  fitted on {}, fingerprint {}", self.fitted_on, self.fitted_on.fingerprint().id.short())?;
        match self.rows {
            Some(rows) => writeln!(f, "    {rows} rows")?,
            None => writeln!(f, "    removed: which rows and files these were is no longer known")?,
        }
        self.row_files.iter().try_for_each(|file| writeln!(f, "      {file}"))?;
        for SeenTable { lineage, files } in &self.tables {
            match files.as_ref().is_some_and(Vec::is_empty) {
                true => writeln!(
                    f,
                    "    {} version {}: no file held a row that was visible",
                    lineage.table,
                    lineage.version.unwrap_or_default()
                )?,
                false => lineage.to_string().lines().try_for_each(|line| writeln!(f, "    {line}"))?,
            }
            files.iter().flatten().try_for_each(|file| writeln!(f, "      {file}"))?;
        }
        Ok(())
    }
}
