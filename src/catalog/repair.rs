//! Registers tables whose files other programs write, repairs them to match the files that are there now, and adds and drops
//! their partitions. Nothing is published when nothing has changed, and no file of the table itself is written.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    Catalog, Change, FactTable, FileEntry, TableLocation, TableVersion,
    details::{Details, PlacedPartition},
    discover::{survey, survey_folder},
    hive::{partition_name, typed_value},
    versions::{ATTEMPTS, contention},
};
use crate::{
    error::{Error, Result},
    name::TableName,
    storage::{Location, Locations},
};

/// What a repair found and did.
///
/// ```no_run
/// # async fn repair(store: asof::FeatureStore) -> asof::Result<()> {
/// let report = store.repair("clicks").await?;
/// println!("{report}"); // 1 partitions added, 0 removed, 0 changed, 11 unchanged; ...
/// assert!(store.repair("clicks").await?.is_noop());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RepairReport {
    /// The table as it is now.
    pub version: TableVersion,
    /// Partitions by their Hive names: `year=2014/month=11`. A partition has changed when any of its files was added, removed
    /// or changed.
    pub partitions: Changes,
    /// Files by their paths relative to the table's location. A file has changed when its content has.
    pub files: Changes,
}

/// How the parts of a table have changed. Each list is in the order of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// Parts that are new.
    pub added: Vec<String>,
    /// Parts that are gone.
    pub removed: Vec<String>,
    /// Parts whose content has changed.
    pub changed: Vec<String>,
    /// How many have not changed.
    pub unchanged: usize,
}

impl RepairReport {
    /// Was nothing changed, and nothing published?
    pub fn is_noop(&self) -> bool {
        let none = |changes: &Changes| changes.added.is_empty() && changes.removed.is_empty() && changes.changed.is_empty();
        none(&self.partitions) && none(&self.files)
    }
}

impl std::fmt::Display for RepairReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |c: &Changes, what: &str| {
            let (added, removed, changed) = (c.added.len(), c.removed.len(), c.changed.len());
            format!("{added} {what} added, {removed} removed, {changed} changed, {} unchanged", c.unchanged)
        };
        write!(f, "{}; {}", shown(&self.partitions, "partitions"), shown(&self.files, "files"))
    }
}

/// What happens when a table is registered under a name that another table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnConflict {
    /// It is an error, unless both have the same files and declaration.
    Compare,
    /// The existing table stays as it is.
    Keep,
    /// It is an error.
    Refuse,
}

/// Registers the files at a location as a table, and returns whether this call did so.
pub(crate) async fn register(
    catalog: &Catalog,
    place: &Location,
    table: &TableName,
    declared: FactTable,
    (partition_columns, details): (Vec<super::Column>, Details),
    on_conflict: OnConflict,
) -> Result<(TableVersion, Change)> {
    if on_conflict != OnConflict::Compare
        && let Some(taken) = catalog.find(table).await?
    {
        return taken_by(table, taken, on_conflict);
    }
    let is_from_ddl = !details.columns.is_empty();
    let external = TableLocation::External(place.to_text());
    let blank = TableVersion { details, ..TableVersion::empty(table.clone(), external, declared, partition_columns) };
    let found = survey(place, &blank).await?;
    if found.files.is_empty()
        && let Some((folder, name)) = place.split_file()
        && folder.head(&name).await?.is_some()
    {
        let reason =
            format!("it is a file, and a table is a folder of files: register `{folder}`, or load the file with `ingest`");
        return Err(Error::InvalidLocation { location: place.to_string(), reason });
    }
    if found.files.is_empty() && !is_from_ddl {
        return Err(Error::NoFiles { what: "Parquet files", location: place.to_string() });
    }
    let was_taken = AtomicBool::new(false);
    let version = catalog
        .update(table, |current| {
            was_taken.store(current.is_some(), Ordering::Relaxed);
            match current {
                None => Ok(Some(found.clone())),
                Some(current) if on_conflict == OnConflict::Compare && current.is_same_table(&found) => Ok(None),
                Some(current) => taken_by(table, current, on_conflict).map(|_| None),
            }
        })
        .await?;
    Ok((version, if was_taken.into_inner() { Change::Nothing } else { Change::Done }))
}

fn taken_by(table: &TableName, taken: TableVersion, on_conflict: OnConflict) -> Result<(TableVersion, Change)> {
    let reason = match on_conflict {
        OnConflict::Keep => return Ok((taken, Change::Nothing)),
        OnConflict::Refuse => "exists already; write IF NOT EXISTS, drop it first, or choose another name",
        OnConflict::Compare => "exists already, with other files or another declaration; register the files under another name",
    };
    Err(Error::AlreadyExists { subject: format!("table `{table}`"), reason: reason.into() })
}

/// Updates a table to the files that are there now.
pub(crate) async fn repair(catalog: &Catalog, locations: &Locations, table: &TableName) -> Result<RepairReport> {
    for _ in 0..ATTEMPTS {
        let current = catalog.latest(table).await?;
        let place = place_of(&current, locations, "there is nothing to repair")?;
        let next = survey(&place, &current).await?;
        let (partitions, files) = (partition_changes(&current, &next), file_changes(&current.files, &next.files));
        let is_same = current.is_same_table(&next)
            && current.partition_columns == next.partition_columns
            && current.details == next.details;
        let published = match is_same {
            true => Some(current),
            false => catalog.publish_after(&current, next).await?,
        };
        if let Some(version) = published {
            return Ok(RepairReport { version, partitions, files });
        }
    }
    Err(contention(table))
}

/// A partition to be added: the value of each column by its name, and its folder if it is not the one that Hive would use.
pub(crate) type NewPartition = (Vec<(String, Option<String>)>, Option<String>);

/// Adds partitions with the files in their folders, in one commit.
pub(crate) async fn add_partitions(
    catalog: &Catalog,
    locations: &Locations,
    table: &TableName,
    partitions: &[NewPartition],
    on_conflict: OnConflict,
) -> Result<(TableVersion, Change)> {
    for _ in 0..ATTEMPTS {
        let current = catalog.latest(table).await?;
        let place = place_of(&current, locations, "load rows into it instead")?;
        let mut next = current.clone();
        let mut change = Change::Nothing;
        for (spec, location) in partitions {
            let values = whole_values(&next, spec)?;
            if partitions_like(&next, spec)?.next().is_some() {
                if on_conflict == OnConflict::Keep {
                    continue;
                }
                let reason = format!("has the partition `{}` already; write IF NOT EXISTS", next.partition_name(&values));
                return Err(Error::AlreadyExists { subject: format!("table `{table}`"), reason });
            }
            let own_folder = location.as_ref().map(|location| folder_of(&place, locations, table, location)).transpose()?;
            let standard = standard_folder(&next, &values);
            let own_folder = own_folder.filter(|folder| *folder != standard);
            let folder = own_folder.as_deref().unwrap_or(&standard);
            if let Some(own) = &own_folder
                && next.files.iter().any(|file| file.path.strip_prefix(own.as_str()).is_some_and(|rest| rest.starts_with('/')))
            {
                let reason = format!("has another partition that files of `{own}` belong to; drop that partition first");
                return Err(Error::InUse { subject: format!("table `{table}`"), reason });
            }
            let files_before = next.files.len();
            next = survey_folder(&place, &next, folder, &values).await?;
            if own_folder.is_some() || next.files.len() == files_before {
                next.details.partitions.push(PlacedPartition { values, folder: own_folder });
            }
            change = Change::Done;
        }
        let published = match change {
            Change::Nothing => Some(current),
            Change::Done => catalog.publish_after(&current, next).await?,
        };
        if let Some(version) = published {
            return Ok((version, change));
        }
    }
    Err(contention(table))
}

/// Removes partitions from a table; their files stay where they are. A spec with only some of the columns means all
/// partitions with these values.
pub(crate) async fn drop_partitions(
    catalog: &Catalog,
    table: &TableName,
    specs: &[Vec<(String, Option<String>)>],
    if_exists: bool,
) -> Result<(TableVersion, Change)> {
    for _ in 0..ATTEMPTS {
        let current = catalog.latest(table).await?;
        let mut next = current.clone();
        for spec in specs {
            let gone: Vec<Vec<Option<String>>> = partitions_like(&next, spec)?.cloned().collect();
            if gone.is_empty() && !if_exists {
                let (columns, values): (Vec<_>, Vec<_>) = spec.iter().cloned().unzip();
                let name = partition_name(columns.iter().map(String::as_str), &values);
                let reason = format!("has no partition `{name}`; write IF EXISTS, or see SHOW PARTITIONS");
                return Err(Error::NotFound { subject: format!("table `{table}`"), reason });
            }
            next.remove_files(|file| gone.contains(&file.partition));
            next.details.partitions.retain(|placed| !gone.contains(&placed.values));
        }
        let is_same = next.files.len() == current.files.len() && next.details == current.details;
        let published = match is_same {
            true => return Ok((current, Change::Nothing)),
            false => catalog.publish_after(&current, next).await?,
        };
        if let Some(version) = published {
            return Ok((version, Change::Done));
        }
    }
    Err(contention(table))
}

/// The values of the partitions that a spec means. Values are compared by the types of their columns: `01` is the month 1.
pub(crate) fn partitions_like<'a>(
    version: &'a TableVersion,
    spec: &[(String, Option<String>)],
) -> Result<impl Iterator<Item = &'a Vec<Option<String>>> + use<'a>> {
    let mut wanted = Vec::with_capacity(spec.len());
    for (name, value) in spec {
        let (position, data_type) = partition_column(version, name)?;
        wanted.push((position, data_type.clone(), typed(version, name, value.as_deref(), &data_type)?));
    }
    let all = version.files.iter().map(|file| &file.partition).chain(version.details.partitions.iter().map(|p| &p.values));
    Ok(all.filter(move |values| {
        wanted.iter().all(|(i, data_type, value)| {
            let own = values.get(*i).and_then(|own| typed_value(own.as_deref(), data_type));
            own.as_ref() == Some(value)
        })
    }))
}

fn partition_column(version: &TableVersion, name: &str) -> Result<(usize, arrow::datatypes::DataType)> {
    let lower = name.to_lowercase();
    match version.partition_columns.iter().position(|column| column.name.to_lowercase() == lower) {
        Some(position) => Ok((position, version.partition_columns[position].to_field()?.data_type().clone())),
        None => Err(Error::UnknownColumn {
            subject: format!("the partitioning of table `{}`", version.table),
            column: name.into(),
            known: version.partition_columns.iter().map(|column| column.name.clone()).collect(),
        }),
    }
}

fn typed(
    version: &TableVersion,
    name: &str,
    value: Option<&str>,
    data_type: &arrow::datatypes::DataType,
) -> Result<datafusion::common::ScalarValue> {
    typed_value(value, data_type).ok_or_else(|| Error::ColumnType {
        subject: format!("table `{}`", version.table),
        column: name.into(),
        found: data_type.to_string(),
        needed: format!("`{}` is not a value of that type", value.unwrap_or("NULL")),
    })
}

/// The values of all partition columns, in their order.
fn whole_values(version: &TableVersion, spec: &[(String, Option<String>)]) -> Result<Vec<Option<String>>> {
    let mut values = vec![None; version.partition_columns.len()];
    let mut given = vec![false; values.len()];
    for (name, value) in spec {
        let (position, data_type) = partition_column(version, name)?;
        typed(version, name, value.as_deref(), &data_type)?;
        (values[position], given[position]) = (value.clone(), true);
    }
    match given.iter().position(|given| !given) {
        None if !values.is_empty() => Ok(values),
        missing => {
            let reason = match missing {
                Some(i) => format!("a new partition needs a value for `{}`", version.partition_columns[i].name),
                None => "it is not partitioned; repair it to add new files".into(),
            };
            Err(Error::Definition { subject: format!("table `{}`", version.table), reason })
        }
    }
}

/// The folder where Hive puts a partition, relative to the table's location.
fn standard_folder(version: &TableVersion, values: &[Option<String>]) -> String {
    version.partition_name(values)
}

/// A folder that was given as a path or URL, relative to the table's location.
fn folder_of(place: &Location, locations: &Locations, table: &TableName, location: &str) -> Result<String> {
    let folder = locations.open(location)?;
    place.name_of_place(&folder).filter(|name| !name.is_empty()).ok_or_else(|| Error::Definition {
        subject: format!("table `{table}`"),
        reason: format!(
            "the location `{folder}` is not a folder on the disk or in the bucket of the table, `{place}`; register it as a table of \
             its own"
        ),
    })
}

fn place_of(version: &TableVersion, locations: &Locations, instead: &str) -> Result<Location> {
    match version.location() {
        TableLocation::External(location) => locations.open(location),
        TableLocation::Managed => Err(Error::Definition {
            subject: format!("table `{}`", version.table),
            reason: format!("this store wrote its files, and no other program may add any; {instead}"),
        }),
    }
}

fn file_changes(before: &[FileEntry], after: &[FileEntry]) -> Changes {
    let contents = |files: &[FileEntry]| files.iter().map(|f| (f.path.clone(), f.identity.content())).collect();
    changes(contents(before), contents(after))
}

fn partition_changes(before: &TableVersion, after: &TableVersion) -> Changes {
    let contents = |version: &TableVersion| {
        let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for placed in &version.details.partitions {
            found.entry(version.partition_name(&placed.values)).or_default();
        }
        for file in &version.files {
            let name = version.partition_name(&file.partition);
            found.entry(name).or_default().push((file.path.clone(), file.identity.content()));
        }
        // The files of a table without partitions are in none.
        found.remove("");
        found
    };
    changes(contents(before), contents(after))
}

fn changes<T: PartialEq>(before: BTreeMap<String, T>, mut after: BTreeMap<String, T>) -> Changes {
    let mut all = Changes::default();
    for (name, was) in before {
        match after.remove(&name) {
            None => all.removed.push(name),
            Some(is) if is == was => all.unchanged += 1,
            Some(_) => all.changed.push(name),
        }
    }
    all.added = after.into_keys().collect();
    all
}
