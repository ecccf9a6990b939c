//! One published version of a table: schema, declaration and the exact list of its files.
//! It never changes: a change of the table publishes another version.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::{FactTable, details::Details, expectation::Expect, hive::partition_name};
use crate::{
    error::{Error, Result},
    name::{ContentId, TableName},
    storage::{FileIdentity, Location},
    time::{AsOf, TimeScale, month::Month},
};

/// The version of the catalog's file format.
pub(crate) const FORMAT: u32 = 2;

/// One published version of a fact table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableVersion {
    pub(crate) format: u32,
    pub(crate) table: TableName,
    pub(crate) version: u64,
    pub(crate) location: TableLocation,
    pub(crate) declared: FactTable,
    pub(crate) columns: Vec<Column>,
    pub(crate) partition_columns: Vec<Column>,
    pub(crate) files: Vec<FileEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) loads: Vec<LoadRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) expectations: Vec<Expect>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) renames: Vec<Rename>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) newest_source: Option<SourceSchema>,
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub(crate) details: Details,
}

/// A column of source files that has another name in the table, in every load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rename {
    /// Its name in a source file.
    pub from: String,
    /// Its name in the table.
    pub to: String,
}

/// The columns of a source file, with which those of the next load are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceSchema {
    pub(crate) columns: Vec<SourceColumn>,
    /// Does the order of the columns matter in the file's format?
    pub(crate) is_ordered: bool,
}

/// A column of a source file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceColumn {
    /// Its name in the file.
    pub(crate) found: String,
    /// Its name in the table.
    pub(crate) name: String,
    /// The file's own type, or the one that was inferred.
    #[serde(rename = "type")]
    pub(crate) data_type: String,
}

/// Where a table's files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TableLocation {
    /// Below the store's root, written by `ingest`.
    Managed,
    /// At this path or URL, where they were found by `register_table`.
    External(String),
}

/// A column of a table and its Arrow type, written as Arrow prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Column {
    /// The name.
    pub name: String,
    /// The Arrow type: `Int64`, `Timestamp(µs, "UTC")`, ...
    #[serde(rename = "type")]
    pub data_type: String,
    /// May it hold NULL?
    pub nullable: bool,
}

/// A file of a table version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileEntry {
    /// The path relative to the table's location.
    pub path: String,
    /// The file's identity when it was registered.
    #[serde(flatten)]
    pub identity: FileIdentity,
    /// Rows in the file.
    pub rows: u64,
    /// The values of the partition columns, in their order; NULL is `None`.
    pub partition: Vec<Option<String>>,
    /// Bounds of the event times, if the file has statistics for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Bounds>,
    /// Bounds of the known-at times, if there is such a column and the file has statistics for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Bounds>,
    /// The loads whose rows the file holds; empty for files that were not loaded, or before this was recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loads: Vec<ContentId>,
    /// The size, by the writer's estimate, at which the file was closed. A compaction to files of at most this size skips it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_at: Option<u64>,
}

impl FileEntry {
    /// The hash of what the facts of the file are: its content and the values of its partition columns. `place` is where the table's
    /// files lie.
    pub(crate) fn facts_key(&self, place: &Location) -> ContentId {
        let content = self.identity.content_at(place, &self.path);
        ContentId::of_json(&serde_json::json!([content, self.identity.size, self.partition]))
    }

    /// Does the file lie in the month's partition? In a table of one year every year's month is the same.
    pub(crate) fn is_in(&self, month: Month) -> bool {
        let number = |value: &Option<String>| value.as_ref().and_then(|v| v.parse::<i64>().ok());
        match &self.partition[..] {
            [of_file] => number(of_file) == Some(month.month().into()),
            [year, of_file] => number(year) == Some(month.year().into()) && number(of_file) == Some(month.month().into()),
            _ => false,
        }
    }
}

/// The smallest and largest time in a file, both inclusive, in the column's own unit and zone. If every time is NULL, `min` is
/// larger than `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bounds {
    /// The smallest stored value.
    pub min: i64,
    /// The largest stored value.
    pub max: i64,
    /// How many rows are NULL.
    pub nulls: u64,
}

impl Bounds {
    /// The bounds of no time at all.
    pub(crate) fn empty(nulls: u64) -> Self {
        Self { min: i64::MAX, max: i64::MIN, nulls }
    }

    /// Is every time NULL?
    pub(crate) fn is_empty(&self) -> bool {
        self.min > self.max
    }

    /// The bounds of these times and of those from `min` to `max`.
    pub(crate) fn including(self, min: i64, max: i64) -> Self {
        Self { min: self.min.min(min), max: self.max.max(max), nulls: self.nulls }
    }
}

/// A load that a version contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoadRecord {
    /// The hash of the sources' contents and of how they were read, so that the same load has the same id.
    pub id: ContentId,
    /// The source files.
    pub sources: Vec<LoadedSource>,
    /// Rows loaded.
    pub rows: u64,
    /// Rows left out, all of them listed in the load's reject file.
    pub rejected: u64,
    /// The hash of the options with which its sources were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reading: Option<ContentId>,
    /// The reject file, relative to the root; `None` when nothing was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reject_file: Option<String>,
    /// The quality report, relative to the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_file: Option<String>,
    /// The file of rows that broke an expectation, relative to the root; `None` when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine_file: Option<String>,
    /// Months whose rows of this load a later load has replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced_months: Vec<Month>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A source file of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoadedSource {
    /// The name relative to the folder it was read from.
    pub name: String,
    /// The content hash, or the store's entity tag with the object's name. A source whose content was loaded before is not
    /// loaded again. Entity tags of different objects cannot be compared.
    pub content: String,
    /// Its rows that could not be read and were left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rejected: u64,
    /// Its size; `None` in loads of older versions of this library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The time of its last change, by the clock of its store; `None` in loads of older versions of this library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<AsOf>,
}

/// A partition of a table version, as `partitions` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Partition {
    /// The partition as Hive names its folder: `year=2014/month=11`.
    pub path: String,
    /// Files in it.
    pub files: usize,
    /// Rows in it.
    pub rows: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// The first and last event time, both inclusive, rounded down to a microsecond; `None` when unknown.
    pub event_times: Option<(AsOf, AsOf)>,
}

impl Column {
    pub(crate) fn from_field(field: &Field) -> Self {
        Self { name: field.name().clone(), data_type: field.data_type().to_string(), nullable: field.is_nullable() }
    }

    pub(crate) fn to_field(&self) -> Result<Field> {
        let data_type: DataType = self.data_type.parse().map_err(|e| Error::Corrupt {
            path: format!("column `{}` in the catalog", self.name),
            reason: format!("`{}` is not an Arrow type ({e})", self.data_type),
        })?;
        Ok(Field::new(&self.name, data_type, self.nullable))
    }

    pub(crate) fn schema(columns: &[Column]) -> Result<SchemaRef> {
        Ok(Arc::new(Schema::new(columns.iter().map(Column::to_field).collect::<Result<Vec<_>>>()?)))
    }
}

impl TableVersion {
    /// A table before its first file.
    pub(crate) fn empty(table: TableName, location: TableLocation, declared: FactTable, partition_columns: Vec<Column>) -> Self {
        Self {
            format: FORMAT,
            table,
            version: 1,
            location,
            declared,
            columns: Vec::new(),
            partition_columns,
            files: Vec::new(),
            loads: Vec::new(),
            expectations: Vec::new(),
            renames: Vec::new(),
            newest_source: None,
            details: Details::default(),
        }
    }

    /// Removes files. A load that has no rows left is removed too, so that its sources can be loaded again.
    pub(crate) fn remove_files(&mut self, is_gone: impl Fn(&FileEntry) -> bool) -> Vec<FileEntry> {
        let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.files).into_iter().partition(is_gone);
        let loads = |files: &[FileEntry]| files.iter().flat_map(|file| file.loads.clone()).collect::<BTreeSet<_>>();
        let (hit, left) = (loads(&gone), loads(&stay));
        self.loads.retain(|load| !hit.contains(&load.id) || left.contains(&load.id));
        self.files = stay;
        gone
    }

    /// The table's name.
    pub fn table(&self) -> &TableName {
        &self.table
    }

    /// The version's number, counting from 1.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The declaration of the table.
    pub fn declared(&self) -> &FactTable {
        &self.declared
    }

    /// The columns that the files hold.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The columns that folder names hold.
    pub fn partition_columns(&self) -> &[Column] {
        &self.partition_columns
    }

    /// The files of this version, in the order of their paths.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The loads that this version contains.
    pub fn loads(&self) -> &[LoadRecord] {
        &self.loads
    }

    /// The expectations for rows that are loaded.
    pub fn expectations(&self) -> &[Expect] {
        &self.expectations
    }

    /// The columns of source files that have another name in the table, as its loads declared them.
    pub fn renames(&self) -> &[Rename] {
        &self.renames
    }

    /// Where the files are.
    pub fn location(&self) -> &TableLocation {
        &self.location
    }

    /// Rows of all files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|f| f.rows).sum()
    }

    /// The schema of the files, without the partition columns.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the catalog holds a type that this library does not know.
    pub fn file_schema(&self) -> Result<SchemaRef> {
        Column::schema(&self.columns)
    }

    /// The partitions, in the order of time; those without a known time come last, in the order of their names.
    pub fn partitions(&self) -> Vec<Partition> {
        let mut empty: BTreeMap<(usize, String), Partition> = BTreeMap::new();
        for values in self.details.partitions.iter().map(|placed| &placed.values) {
            let path = self.partition_name(values);
            empty.insert((path.len(), path.clone()), Partition { path, files: 0, rows: 0, bytes: 0, event_times: None });
        }
        self.partitions_with(empty, &self.files)
    }

    /// The partitions of some of its files, in the same order.
    pub(crate) fn partitions_of<'a>(&self, files: impl IntoIterator<Item = &'a FileEntry>) -> Vec<Partition> {
        self.partitions_with(BTreeMap::new(), files)
    }

    fn partitions_with<'a>(
        &self,
        mut found: BTreeMap<(usize, String), Partition>,
        files: impl IntoIterator<Item = &'a FileEntry>,
    ) -> Vec<Partition> {
        let scale = self.event_scale().ok();
        for file in files {
            let path = self.partition_name(&file.partition);
            // Numbers in order, 2 before 10: shorter paths come first.
            let entry = found.entry((path.len(), path.clone())).or_insert_with(|| Partition {
                path,
                files: 0,
                rows: 0,
                bytes: 0,
                event_times: None,
            });
            entry.files += 1;
            entry.rows += file.rows;
            entry.bytes += file.identity.size;
            if let (Some(scale), Some(event)) = (scale, file.event)
                && !event.is_empty()
            {
                let instant = |value| AsOf::from_micros(scale.instant_us(value));
                let (min, max) = (instant(event.min), instant(event.max));
                entry.event_times = Some(entry.event_times.map_or((min, max), |(a, b)| (a.min(min), b.max(max))));
            }
        }
        let mut partitions: Vec<_> = found.into_values().collect();
        partitions.sort_by_key(|p| (p.event_times.is_none(), p.event_times));
        partitions
    }

    /// The name that Hive gives the folder of the partition with these values: `year=2014/month=11`.
    pub(crate) fn partition_name(&self, values: &[Option<String>]) -> String {
        partition_name(self.partition_columns.iter().map(|column| column.name.as_str()), values)
    }

    pub(crate) fn event_scale(&self) -> Result<TimeScale> {
        let schema = self.file_schema()?;
        let subject = format!("table `{}`", self.table);
        self.declared.scale(&subject, &self.declared.fact_times(&subject)?.event, &schema)
    }

    /// Do both have the same files and the same declaration?
    pub(crate) fn is_same_table(&self, other: &TableVersion) -> bool {
        let same_files = self.files.len() == other.files.len()
            && self
                .files
                .iter()
                .zip(&other.files)
                .all(|(a, b)| a.path == b.path && a.partition == b.partition && a.identity.content() == b.identity.content());
        let same_columns = self.columns == other.columns && self.partition_columns == other.partition_columns;
        self.location == other.location && self.declared == other.declared && same_columns && same_files
    }

    /// The rows whose event time is NULL, as far as statistics say. They are never visible.
    pub fn null_event_times(&self) -> u64 {
        self.files.iter().filter_map(|f| f.event).map(|bounds| bounds.nulls).sum()
    }
}

impl fmt::Display for TableVersion {
    /// What `DESCRIBE` shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} version {}: {} rows in {} files", self.table, self.version, self.rows(), self.files.len())?;
        if self.declared.is_timeless() {
            writeln!(f, "  timeless: one row per key, the same at every instant")?;
        }
        let role = |name: &str| {
            let mut roles = Vec::new();
            if Some(name) == self.declared.event_column() {
                roles.push("event time".to_owned());
            }
            if Some(name) == self.declared.known_column() {
                roles.push("known at".to_owned());
            }
            if self.declared.keys.iter().any(|key| key == name) {
                roles.push("key".to_owned());
            }
            let old_names = self.renames.iter().filter(|rename| rename.to == name);
            roles.extend(old_names.map(|rename| format!("from `{}`", rename.from)));
            roles.join(", ")
        };
        for column in &self.columns {
            writeln!(f, "  {:<24} {:<24} {}", column.name, column.data_type, role(&column.name))?;
        }
        for column in &self.partition_columns {
            writeln!(f, "  {:<24} {:<24} partition", column.name, column.data_type)?;
        }
        Ok(())
    }
}
