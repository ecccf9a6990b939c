//! Compaction: merges the small files of each month into few large files with exactly the same rows, in one commit.
//! It deletes nothing. Readers of older versions keep their files.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;

use super::{
    plan::table::refuse_external,
    read_back::ReadBack,
    target::Target,
    write::{
        month_writer::{Destination, MonthWriter},
        sort::sorted,
    },
};
use crate::{
    catalog::{Catalog, FileEntry, TableVersion},
    engine::Engine,
    error::{Error, Result},
    layout::facts_folder,
    name::{ContentId, TableName},
    storage::Location,
};

/// How a table is compacted.
///
/// ```
/// use asof::ingest::CompactOptions;
/// let options = CompactOptions::default().file_bytes(256 << 20);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct CompactOptions {
    file_bytes: usize,
}

impl Default for CompactOptions {
    /// Files of 128 MiB.
    fn default() -> Self {
        Self { file_bytes: 128 << 20 }
    }
}

impl CompactOptions {
    /// The target size of a file. Smaller files are merged, and a file is closed once it has reached this size.
    pub fn file_bytes(mut self, bytes: usize) -> Self {
        self.file_bytes = bytes.max(1);
        self
    }
}

/// What a compaction did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CompactReport {
    /// The table's version after the compaction. It is unchanged if nothing was merged.
    pub version: TableVersion,
    /// The partitions with files to merge, in the order of their paths.
    pub partitions: Vec<CompactedPartition>,
}

/// What became of a partition's small files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactedPartition {
    /// The folder below the table: `year=2014/month=11`.
    pub path: String,
    /// The number of small files before.
    pub files_before: usize,
    /// The number of files that hold their rows now.
    pub files_after: usize,
    /// Their rows.
    pub rows: u64,
    /// Whether the small files were replaced.
    pub outcome: PartitionOutcome,
}

/// Whether a partition's files were replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionOutcome {
    /// The merged files are in the table.
    Merged,
    /// Another writer removed some of the files from the table while they were merged. The partition is as that writer left it,
    /// and no version has the merged files.
    Overtaken,
}

/// A partition's files, and what they were merged into.
struct Merged {
    path: String,
    inputs: BTreeSet<String>,
    outputs: Vec<FileEntry>,
    rows: u64,
}

/// Merges the small files of a table.
pub(crate) async fn compact(
    root: &Location,
    catalog: &Catalog,
    engine: &Engine,
    table: &TableName,
    options: &CompactOptions,
) -> Result<CompactReport> {
    let current = catalog.latest(table).await?;
    refuse_external(table, &current)?;
    let mut partitions: BTreeMap<(usize, &str), Vec<&FileEntry>> = BTreeMap::new();
    for file in current.files.iter().filter(|file| is_small(file, options)) {
        let path = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        partitions.entry((path.len(), path)).or_default().push(file);
    }
    let mut merged = Vec::new();
    for ((_, path), files) in partitions.into_iter().filter(|(_, files)| files.len() > 1) {
        merged.push(merge(root, engine, &current, path, &files, options).await?);
    }
    if merged.is_empty() {
        return Ok(CompactReport { version: current, partitions: Vec::new() });
    }
    // Only partitions whose small files are all still in the table are replaced. The rest of the newest version stays.
    let is_whole = |version: &TableVersion, merged: &Merged| {
        let paths: BTreeSet<&str> = version.files.iter().map(|file| file.path.as_str()).collect();
        merged.inputs.iter().all(|input| paths.contains(input.as_str()))
    };
    let done = std::sync::Mutex::new(Vec::new());
    let version = catalog
        .update(table, |newest| {
            let Some(mut next) = newest else {
                return Err(Error::UnknownTable { table: table.to_string(), known: Vec::new() });
            };
            let outcomes: Vec<bool> = merged.iter().map(|merged| is_whole(&next, merged)).collect();
            for (merged, _) in merged.iter().zip(&outcomes).filter(|(_, is_whole)| **is_whole) {
                next.files.retain(|file| !merged.inputs.contains(&file.path));
                next.files.extend(merged.outputs.iter().cloned());
            }
            let is_any = outcomes.contains(&true);
            *done.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = outcomes;
            Ok(is_any.then_some(next))
        })
        .await?;
    let outcomes = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let partitions = merged.into_iter().zip(outcomes).map(|(merged, is_whole)| CompactedPartition {
        path: merged.path,
        files_before: merged.inputs.len(),
        files_after: merged.outputs.len(),
        rows: merged.rows,
        outcome: if is_whole { PartitionOutcome::Merged } else { PartitionOutcome::Overtaken },
    });
    Ok(CompactReport { version, partitions: partitions.collect() })
}

/// Is the file smaller than the target size, and was it not closed for having reached that size?
fn is_small(file: &FileEntry, options: &CompactOptions) -> bool {
    let target = options.file_bytes as u64;
    file.identity.size < target && file.full_at.is_none_or(|size| size < target)
}

/// Writes the rows of a partition's files into new files.
async fn merge(
    root: &Location,
    engine: &Engine,
    version: &TableVersion,
    path: &str,
    files: &[&FileEntry],
    options: &CompactOptions,
) -> Result<Merged> {
    let location = root.child(&facts_folder(&version.table));
    let declared = &version.declared;
    let target = Target::new(declared, version.file_schema()?)?;
    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let identity = serde_json::json!({ "compacted": names, "file_bytes": options.file_bytes });
    // If the loads of one file are not recorded, those of the merged file are unknown too.
    let loads: BTreeSet<ContentId> = match files.iter().any(|file| file.loads.is_empty()) {
        true => BTreeSet::new(),
        false => files.iter().flat_map(|file| file.loads.clone()).collect(),
    };
    let inputs = ReadBack {
        table: version.table.to_string(),
        location: location.clone(),
        files: files.iter().map(|file| (*file).clone()).collect(),
        schema: target.schema.clone(),
        batch_rows: engine.batch_rows(),
    };
    let placed = target.clone();
    let read = |sink| inputs.read_all(sink, move |file, rows, columns| placed.batch(file, rows, columns));
    let event_column = &declared.fact_times(&format!("table `{}`", version.table))?.event.name;
    let mut rows = sorted(engine, &target, event_column, read).await?;
    let to = Destination {
        location,
        partition_columns: version.partition_columns.iter().map(|column| column.name.clone()).collect(),
        file_bytes: options.file_bytes,
        name: ContentId::of_json(&identity),
        loads: loads.into_iter().collect(),
        threads: engine.partitions(),
    };
    let mut writer = MonthWriter::new(declared, &target, to);
    while let Some(batch) = rows.try_next().await? {
        writer.write(&batch).await?;
    }
    let outputs = writer.finish().await?;
    let (before, after): (u64, u64) = (files.iter().map(|f| f.rows).sum(), outputs.iter().map(|f| f.rows).sum());
    let has_moved = outputs.iter().any(|file| file.path.rsplit_once('/').map_or("", |(folder, _)| folder) != path);
    if before != after || has_moved {
        return Err(Error::Corrupt {
            path: format!("table `{}`, {path}", version.table),
            reason: format!("{before} rows became {after} rows, or some belong to another month; nothing was changed"),
        });
    }
    Ok(Merged { path: path.into(), inputs: names.into_iter().map(str::to_owned).collect(), outputs, rows: after })
}
