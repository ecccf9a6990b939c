//! Computes a materialization again from the very inputs that its manifest names, and compares the result with what was published.
//! Nothing is written to the root: the files lie on this machine's disk until they are compared.

use std::{fmt, sync::Arc};

use arrow::array::RecordBatch;
use futures::{TryStreamExt, stream::BoxStream};
use tokio::sync::mpsc;

use super::{
    Materialization,
    compute::{Computed, FactsFrom, compute},
    definition::{check_engine, shown},
    published::shown_as_of,
    row_difference::{DifferentValue, first_difference},
    run::Inputs,
    stale::{of_declaration, of_files},
};
use crate::{
    catalog::{Column, FileEntry, TableLocation, TableVersion},
    error::{Error, Result},
    feature_set::FeatureSet,
    manifest::{InputTable, Manifest, StepState},
    name::{ContentId, SetName},
    storage::FileIdentity,
    time::{AsOf, Cutoff},
    workspace::{FinishedParts, Part, PinnedTable, Workspace},
};

/// Batches that wait to be compared.
const QUEUE: usize = 2;

/// What a replay of a materialization has found; see [`FeatureStore::replay`](crate::FeatureStore::replay). It prints as text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Replay {
    /// The feature set.
    pub set: SetName,
    /// The as-of of the materialization.
    pub as_of: AsOf,
    /// Whether facts at exactly the as-of are visible.
    pub cutoff: Cutoff,
    /// The id of the materialization.
    pub id: ContentId,
    /// Rows that were computed.
    pub rows: u64,
    /// The files of both sides, in the order of the rows, and then those of the partial rows.
    pub files: Vec<ReplayedFile>,
    /// Everything that differs in rows or in what was learned; nothing if the rows are the same, bit for bit.
    pub differences: Vec<ReplayDifference>,
}

/// A file of a materialization, and the one that a replay has in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayedFile {
    /// The file as it is published; `None` if the replay has more files.
    pub published: Option<Part>,
    /// The file of the replay; `None` if more files are published. Its name is the one that it would have.
    pub computed: Option<Part>,
}

/// What a replay has otherwise than what is published. It prints as a line.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ReplayDifference {
    /// There are more or fewer rows.
    #[non_exhaustive]
    Rows {
        /// The key of the partial rows; empty for the rows of the materialization.
        by: Vec<String>,
        /// Rows that are published.
        published: u64,
        /// Rows of the replay.
        computed: u64,
    },
    /// A value has other bits. It is the first one in the order of the rows, and of the columns within a row.
    #[non_exhaustive]
    Value {
        /// The key of the partial rows; empty for the rows of the materialization.
        by: Vec<String>,
        /// The number of the row, from 0.
        row: u64,
        /// The column.
        column: String,
        /// The published value, and its bits.
        published: String,
        /// The value of the replay, and its bits.
        computed: String,
    },
    /// The columns have other names or types, and their values were not compared.
    #[non_exhaustive]
    Columns {
        /// The key of the partial rows; empty for the rows of the materialization.
        by: Vec<String>,
        /// The published columns.
        published: Vec<Column>,
        /// The columns of the replay.
        computed: Vec<Column>,
    },
    /// A row selection or an encoder has learned something else, or has left another number of rows.
    #[non_exhaustive]
    Learned {
        /// The step.
        step: String,
    },
    /// The query had another number of rows, or there were more or fewer entities.
    #[non_exhaustive]
    RowsSeen {
        /// The number in the manifest.
        published: u64,
        /// The number of the replay.
        computed: u64,
    },
}

impl Replay {
    /// Are the rows and what was learned the same, bit for bit?
    ///
    /// Equal rows may lie in files of other bytes: these also depend on [`Resources`](crate::Resources), which divide rows into
    /// batches. [`Replay::has_same_files`] tells whether the bytes of the files are the same, too.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }

    /// Have all files the published hashes? Then so have their rows, and no published file was read.
    pub fn has_same_files(&self) -> bool {
        self.files.iter().all(ReplayedFile::is_same)
    }
}

impl ReplayedFile {
    fn is_same(&self) -> bool {
        let hash = |part: &Option<Part>| part.as_ref().map(|part| part.hash);
        hash(&self.published) == hash(&self.computed)
    }
}

/// Computes a materialization again and compares it. `set` is the definition that made it.
pub(crate) async fn replay(workspace: &Arc<Workspace>, set: &FeatureSet, made: &Materialization) -> Result<Replay> {
    let manifest = made.manifest();
    let (own, other) = (workspace.root.to_string(), made.workspace().root.to_string());
    if own != other {
        return Err(Error::Definition {
            subject: shown(manifest),
            reason: format!(
                "it lies in the root {other} and not in {own}, whose tables would be read; replay it with its own store"
            ),
        });
    }
    check_engine(manifest)?;
    let mut pinned = Vec::with_capacity(manifest.inputs.len());
    for input in &manifest.inputs {
        pinned.push(pin_input(workspace, manifest, input).await?);
    }
    let inputs = Inputs::of(set, manifest.horizon(), &pinned)?;
    check_inputs(manifest, &inputs, &pinned)?;
    let blank = inputs.manifest(set, manifest.horizon());
    // What was published may have been made from tiles: it is proved from the facts themselves.
    let computed = compute(workspace, set, &inputs.tables, blank, FactsFrom::Files).await?;
    compared(made, computed).await
}

/// The version of a table that a materialization was made of. One that a collection has removed is put together from the manifest, which
/// lists the files that count.
async fn pin_input(workspace: &Workspace, manifest: &Manifest, input: &InputTable) -> Result<PinnedTable> {
    let version = match workspace.catalog.version(&input.table, input.version).await? {
        Some(version) => version,
        None => {
            // Where the files lie, the newest version says; a collection removes no version that would be needed for it.
            let newest = workspace.catalog.find(&input.table).await?;
            let location = newest.map_or(TableLocation::Managed, |newest| newest.location().clone());
            from_manifest(input, location).ok_or_else(|| Error::MadeOtherwise {
                subject: shown(manifest),
                reason: format!(
                    "was made of version {} of table `{}`, which was removed and which alone says what its files were; its rows can \
                     be read, but not be computed again",
                    input.version, input.table
                ),
            })?
        }
    };
    workspace.pin(version)
}

/// A table version with the files of a manifest; `None` if the content of one is not told by its hash.
fn from_manifest(input: &InputTable, location: TableLocation) -> Option<TableVersion> {
    let partition_columns = input.files.first().map_or(0, |file| file.partition.len());
    let (columns, partition_columns) = input.columns.split_at_checked(input.columns.len().checked_sub(partition_columns)?)?;
    let files = input.files.iter().map(|file| {
        Some(FileEntry {
            path: file.path.clone(),
            identity: FileIdentity { size: file.size, e_tag: None, hash: Some(file.content.parse().ok()?) },
            // A manifest does not list files without rows. Nothing else depends on the number.
            rows: 1,
            partition: file.partition.clone(),
            // Files of unknown times may hold visible rows, as all files of a manifest may.
            event: None,
            known: None,
            loads: Vec::new(),
            full_at: None,
        })
    });
    Some(TableVersion {
        version: input.version,
        columns: columns.to_vec(),
        files: files.collect::<Option<_>>()?,
        ..TableVersion::empty(input.table.clone(), location, input.declared.clone(), partition_columns.to_vec())
    })
}

/// Refuses inputs that are not those of the manifest.
fn check_inputs(manifest: &Manifest, inputs: &Inputs, pinned: &[PinnedTable]) -> Result<()> {
    if inputs.id == manifest.id {
        return Ok(());
    }
    let tables = manifest.inputs.iter().zip(&inputs.listed).zip(pinned);
    let differs = tables.flat_map(|((was, now), pinned)| {
        let files = of_files(was, now, &pinned.version, None);
        of_declaration(was, now).into_iter().chain(files)
    });
    let differs = differs.map(|reason| reason.to_string()).collect::<Vec<_>>().join("; ");
    let differs = if differs.is_empty() { "its id is not the hash of what its manifest names".to_owned() } else { differs };
    Err(Error::MadeOtherwise {
        subject: shown(manifest),
        reason: format!(
            "was made of other inputs than the root holds as these versions of its tables: {differs}; its rows can be read, but not be \
             computed again"
        ),
    })
}

/// Rows by all of the keys, or by some of them.
struct Group<'a> {
    by: &'a [String],
    columns: &'a [Column],
    parts: &'a [Part],
}

/// The rows of a materialization, then its partial rows.
fn groups(manifest: &Manifest) -> impl Iterator<Item = Group<'_>> {
    let partial = manifest.partial.iter().map(|rows| Group { by: &rows.keys, columns: &rows.columns, parts: &rows.parts });
    std::iter::once(Group { by: &[], columns: &manifest.columns, parts: &manifest.parts }).chain(partial)
}

async fn compared(made: &Materialization, computed: Computed) -> Result<Replay> {
    let published = made.manifest();
    // As it would be read again, so that numbers are compared as they are written.
    let again = Manifest::parse("the manifest of a replay", &computed.manifest()?.to_json()?)?;
    let (mut files, mut differences) = (Vec::new(), Vec::new());
    if published.rows_seen != again.rows_seen {
        differences.push(ReplayDifference::RowsSeen { published: published.rows_seen, computed: again.rows_seen });
    }
    for (was, now) in [(&published.selections, &again.selections), (&published.encoders, &again.encoders)] {
        differences.extend(learned(was, now));
    }
    for ((was, now), rows) in groups(published).zip(groups(&again)).zip(computed.into_files()) {
        let count = was.parts.len().max(now.parts.len());
        let of_group =
            (0..count).map(|i| ReplayedFile { published: was.parts.get(i).cloned(), computed: now.parts.get(i).cloned() });
        let of_group: Vec<ReplayedFile> = of_group.collect();
        if !of_group.iter().all(ReplayedFile::is_same) {
            differences.extend(of_rows(made, &was, &now, rows).await?);
        }
        files.extend(of_group);
    }
    let Manifest { set, as_of, cutoff, id, .. } = published;
    Ok(Replay { set: set.clone(), as_of: *as_of, cutoff: *cutoff, id: *id, rows: again.rows, files, differences })
}

/// The steps that have learned something else.
fn learned(was: &[StepState], now: &[StepState]) -> Vec<ReplayDifference> {
    let count = was.len().max(now.len());
    let differing = (0..count).filter_map(|i| {
        let (was, now) = (was.get(i), now.get(i));
        let step = was.or(now).filter(|_| was != now)?;
        Some(ReplayDifference::Learned { step: step.name.clone() })
    });
    differing.collect()
}

/// How rows differ whose files are not those that were published.
async fn of_rows(
    made: &Materialization,
    was: &Group<'_>,
    now: &Group<'_>,
    computed: FinishedParts,
) -> Result<Vec<ReplayDifference>> {
    let types = |columns: &[Column]| -> Vec<(String, String)> {
        columns.iter().map(|column| (column.name.clone(), column.data_type.clone())).collect()
    };
    let by = was.by.to_vec();
    if types(was.columns) != types(now.columns) {
        return Ok(vec![ReplayDifference::Columns { by, published: was.columns.to_vec(), computed: now.columns.to_vec() }]);
    }
    let mut differences = Vec::new();
    let rows = |parts: &[Part]| parts.iter().map(|part| part.rows).sum::<u64>();
    if rows(was.parts) != rows(now.parts) {
        differences.push(ReplayDifference::Rows { by: by.clone(), published: rows(was.parts), computed: rows(now.parts) });
    }
    let published = made.published_parts().batches(was.parts).await?;
    if let Some(DifferentValue { row, column, one, other }) = different_value(published, computed).await? {
        differences.push(ReplayDifference::Value { by, row, column, published: one, computed: other });
    }
    Ok(differences)
}

/// Reads the published rows and hands them to a thread that may block on the disk, where they are compared.
async fn different_value(
    mut published: BoxStream<'static, Result<RecordBatch>>,
    computed: FinishedParts,
) -> Result<Option<DifferentValue>> {
    let (sender, mut receiver) = mpsc::channel::<RecordBatch>(QUEUE);
    let compare = tokio::task::spawn_blocking(move || {
        let published = std::iter::from_fn(|| receiver.blocking_recv().map(Ok));
        first_difference(published, computed.batches())
    });
    let read = async move {
        let sender = sender;
        while let Some(batch) = published.try_next().await? {
            // The receiver is gone once a difference was found.
            if sender.send(batch).await.is_err() {
                break;
            }
        }
        Ok::<_, Error>(())
    };
    let (found, read) = futures::join!(compare, read);
    // Rows that cannot be read end the comparison too early.
    read?;
    found.map_err(|e| Error::lost_task("comparing the rows of a replay", e))?
}

impl fmt::Display for ReplayDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |by: &[String]| if by.is_empty() { "rows".to_owned() } else { format!("rows by {}", by.join(", ")) };
        let listed = |columns: &[Column]| {
            columns.iter().map(|column| format!("{} {}", column.name, column.data_type)).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Rows { by, published, computed } => {
                write!(f, "{published} {} are published, and {computed} were computed", of(by))
            }
            Self::Value { by, row, column, published, computed } => {
                write!(f, "`{column}` in row {row} of the {}: {published} published, {computed} computed", of(by))
            }
            Self::Columns { by, published, computed } => {
                write!(f, "the {} have other columns: published {}; computed {}", of(by), listed(published), listed(computed))
            }
            Self::Learned { step } => write!(f, "`{step}` has learned something else, or left another number of rows"),
            Self::RowsSeen { published, computed } => {
                write!(f, "{published} rows or entities were seen, and {computed} by the replay")
            }
        }
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, as_of, cutoff, id, rows, files, differences } = self;
        let verdict = match (self.is_equal(), self.has_same_files()) {
            (true, true) => "the same files",
            (true, false) => "the same rows, in files of other bytes",
            (false, _) => "NOT the same",
        };
        writeln!(f, "{set} as of {}: {verdict}", shown_as_of(*as_of, *cutoff))?;
        writeln!(f, "  id        {id}")?;
        writeln!(f, "  computed  {rows} rows")?;
        let name = |part: &Option<Part>| part.as_ref().map_or_else(|| "nothing".to_owned(), |part| part.name.clone());
        for file in files.iter().filter(|file| !file.is_same()) {
            writeln!(f, "  file      {} is published, {} was computed", name(&file.published), name(&file.computed))?;
        }
        differences.iter().try_for_each(|difference| writeln!(f, "  differs   {difference}"))
    }
}
