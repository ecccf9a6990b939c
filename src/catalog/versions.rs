//! Publishes table versions: one small file per version, each by put-if-absent.
//! No update is lost: the slower of two writers sees the other's version and applies its change again.
//!
//! `catalog/<database>/<table>/v0000000001.json`. The last version of a dropped table is a tombstone with the next number, so
//! that a drop conflicts with every other change. A later table of the same name continues the numbers.

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{TableVersion, version::FORMAT};
use crate::{
    error::{Error, Result},
    layout::{CATALOG, table_folder, version_file, version_number},
    name::TableName,
    storage::{Location, Published, check_name, seal, unseal},
    time::AsOf,
};

pub(super) const ATTEMPTS: u32 = 20;
/// The most bytes of a tombstone, which has a name and three numbers. A larger file is a table, without reading it.
const TOMBSTONE_BYTES: u64 = 1024;
const READS_AT_ONCE: usize = 16;

/// The catalog of a store.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    pub(super) root: Location,
}

/// A version of a table as [`FeatureStore::versions`](crate::FeatureStore::versions) lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionInfo {
    /// The number, counting from 1.
    pub version: u64,
    /// Whether there is a table in it.
    pub state: VersionState,
    /// When it was published, by the store's clock.
    pub published_at: AsOf,
}

/// Whether there is a table in a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VersionState {
    /// A table with these files. This version stays readable.
    Table,
    /// The table was dropped here.
    Dropped,
}

/// Whether a request to make or remove something changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was made or removed.
    Done,
    /// Nothing was changed: it existed already, or did not exist.
    Nothing,
}

/// A file that marks a table as dropped.
#[derive(Serialize)]
struct Tombstone {
    format: u32,
    table: TableName,
    version: u64,
    dropped: bool,
}

/// The content of a version's file.
enum VersionContent {
    Table(Box<TableVersion>),
    Dropped,
}

impl Catalog {
    pub(crate) fn new(root: &Location) -> Self {
        Self { root: root.child(CATALOG) }
    }

    /// All tables, in the order of their names.
    pub(crate) async fn tables(&self) -> Result<Vec<TableName>> {
        // Sorted by path, so that the newest version of a table comes last.
        let mut newest: Vec<(TableName, String, u64)> = Vec::new();
        for object in self.root.list().await? {
            let path = self.root.name_of(&object.location);
            if let [database, table, file] = path.split('/').collect::<Vec<_>>()[..]
                && version_number(file).is_some()
                && let Ok(name) = format!("{database}.{table}").parse()
            {
                newest.pop_if(|(known, ..)| *known == name);
                newest.push((name, path, object.size));
            }
        }
        let checked = stream::iter(newest.into_iter().map(|(name, path, size)| async move {
            let is_live = size > TOMBSTONE_BYTES || matches!(self.read(&self.root, &path).await?, VersionContent::Table(_));
            Ok::<_, Error>(is_live.then_some(name))
        }));
        let checked: Vec<Option<TableName>> = checked.buffered(READS_AT_ONCE).try_collect().await?;
        let mut names: Vec<TableName> = checked.into_iter().flatten().collect();
        names.sort();
        Ok(names)
    }

    /// The newest version of a table, or `None` when there is no such table.
    pub(crate) async fn find(&self, table: &TableName) -> Result<Option<TableVersion>> {
        Ok(self.newest(table).await?.1)
    }

    /// The newest version number of a table, 0 when it never existed, and the table unless it was dropped there.
    async fn newest(&self, table: &TableName) -> Result<(u64, Option<TableVersion>)> {
        let folder = self.folder(table);
        let names = folder.list().await?.into_iter().map(|object| folder.name_of(&object.location));
        let Some((number, newest)) = names.filter_map(|name| Some((version_number(&name)?, name))).max() else {
            return Ok((0, None));
        };
        match self.read(&folder, &newest).await? {
            VersionContent::Table(version) => Ok((number, Some(*version))),
            VersionContent::Dropped => Ok((number, None)),
        }
    }

    /// The version of this number, or `None` if there is none or the table was dropped there.
    pub(crate) async fn version(&self, table: &TableName, number: u64) -> Result<Option<TableVersion>> {
        let (folder, name) = (self.folder(table), version_file(number));
        let Some(bytes) = folder.get(&name).await? else { return Ok(None) };
        TableVersion::parse(&format!("{folder}/{name}"), &bytes)
    }

    /// The newest version of a table.
    pub(crate) async fn latest(&self, table: &TableName) -> Result<TableVersion> {
        match self.find(table).await? {
            Some(version) => Ok(version),
            None => Err(self.unknown(table).await?),
        }
    }

    async fn unknown(&self, table: &TableName) -> Result<Error> {
        let known = self.tables().await?.iter().map(ToString::to_string).collect();
        Ok(Error::UnknownTable { table: table.to_string(), known })
    }

    /// This version of a table, even if the table was dropped since.
    pub(crate) async fn at(&self, table: &TableName, version: u64) -> Result<TableVersion> {
        let (folder, name) = (self.folder(table), version_file(version));
        let reason = match folder.head(&name).await? {
            Some(_) => match self.read(&folder, &name).await? {
                VersionContent::Table(version) => return Ok(*version),
                VersionContent::Dropped => format!("was dropped at version {version}; ask for an earlier one"),
            },
            None => match self.versions(table).await?.last() {
                Some(last) => format!("has no version {version}; its versions are 1 to {}", last.version),
                None => return Err(self.unknown(table).await?),
            },
        };
        Err(Error::NotFound { subject: format!("table `{table}`"), reason })
    }

    /// All versions under a table's name, the oldest first.
    pub(crate) async fn versions(&self, table: &TableName) -> Result<Vec<VersionInfo>> {
        let folder = self.folder(table);
        let listed = folder.list().await?;
        let numbered = listed.into_iter().filter_map(|object| {
            let name = folder.name_of(&object.location);
            Some((version_number(&name)?, name, object))
        });
        let infos = stream::iter(numbered.map(|(version, name, object)| {
            let folder = &folder;
            async move {
                let is_table =
                    object.size > TOMBSTONE_BYTES || matches!(self.read(folder, &name).await?, VersionContent::Table(_));
                let state = if is_table { VersionState::Table } else { VersionState::Dropped };
                let published_at = AsOf::from_micros(object.last_modified.timestamp_micros());
                Ok::<_, Error>(VersionInfo { version, state, published_at })
            }
        }));
        let mut infos: Vec<VersionInfo> = infos.buffered(READS_AT_ONCE).try_collect().await?;
        infos.sort_by_key(|info| info.version);
        Ok(infos)
    }

    /// Publishes what `change` makes of the newest version; `None` means that there is nothing to change.
    ///
    /// When another writer is faster, `change` is applied again to the new version.
    pub(crate) async fn update(
        &self,
        table: &TableName,
        change: impl Fn(Option<TableVersion>) -> Result<Option<TableVersion>>,
    ) -> Result<TableVersion> {
        for _ in 0..ATTEMPTS {
            let (number, current) = self.newest(table).await?;
            let Some(next) = change(current.clone())? else {
                return match current {
                    Some(current) => Ok(current),
                    None => Err(self.unknown(table).await?),
                };
            };
            if let Some(published) = self.publish(number, next).await? {
                return Ok(published);
            }
        }
        Err(contention(table))
    }

    /// Publishes the version after `base`; `None` when another writer was faster.
    pub(crate) async fn publish_after(&self, base: &TableVersion, next: TableVersion) -> Result<Option<TableVersion>> {
        self.publish(base.version, next).await
    }

    async fn publish(&self, after: u64, mut next: TableVersion) -> Result<Option<TableVersion>> {
        next.version = following(after, &next.table)?;
        next.files.sort_by(|a, b| a.path.cmp(&b.path));
        let bytes = to_json(&next.table, &next)?;
        let published = self.folder(&next.table).put_if_absent(&version_file(next.version), bytes).await?;
        Ok((published == Published::New).then_some(next))
    }

    /// Drops a table in one commit. Its files and earlier versions stay.
    pub(crate) async fn drop_table(&self, table: &TableName) -> Result<Change> {
        for _ in 0..ATTEMPTS {
            let (number, current) = self.newest(table).await?;
            if current.is_none() {
                return Ok(Change::Nothing);
            }
            let version = following(number, table)?;
            let tombstone = Tombstone { format: FORMAT, table: table.clone(), version, dropped: true };
            let bytes = to_json(table, &tombstone)?;
            if self.folder(table).put_if_absent(&version_file(version), bytes).await? == Published::New {
                return Ok(Change::Done);
            }
        }
        Err(contention(table))
    }

    async fn read(&self, folder: &Location, name: &str) -> Result<VersionContent> {
        let path = format!("{folder}/{name}");
        let bytes = folder.get(name).await?.ok_or_else(|| Error::Corrupt {
            path: path.clone(),
            reason: "it vanished while it was read; list the table again".into(),
        })?;
        parse(&path, &bytes)
    }

    fn folder(&self, table: &TableName) -> Location {
        self.root.child(&table_folder(table))
    }
}

pub(super) fn contention(table: &TableName) -> Error {
    Error::Contention { subject: format!("table `{table}`"), attempts: ATTEMPTS }
}

/// The number of the version after this one.
fn following(version: u64, table: &TableName) -> Result<u64> {
    let next = version.checked_add(1).filter(|next| version_number(&version_file(*next)).is_some());
    next.ok_or_else(|| Error::Limit {
        subject: format!("table `{table}`"),
        reason: format!("has {version} versions, and a catalog numbers no more; register it under another name"),
    })
}

/// Compact JSON: the version of a table of ten thousand partitions has a few megabytes.
fn to_json(table: &TableName, value: &impl Serialize) -> Result<Vec<u8>> {
    seal(&table.to_string(), serde_json::to_vec(value))
}

impl TableVersion {
    /// A version as it was published, `None` where the table was dropped; `path` names it in errors.
    pub(crate) fn parse(path: &str, bytes: &[u8]) -> Result<Option<Self>> {
        Ok(match parse(path, bytes)? {
            VersionContent::Table(version) => Some(*version),
            VersionContent::Dropped => None,
        })
    }
}

const REMEDY: &str = "restore the file from a copy of the root, or register the table again under another name";

fn parse(path: &str, bytes: &[u8]) -> Result<VersionContent> {
    #[derive(Deserialize)]
    struct VersionHead {
        table: TableName,
        version: u64,
        #[serde(default)]
        dropped: bool,
    }
    let VersionHead { table, version, dropped } = unseal(path, bytes, FORMAT, REMEDY)?;
    check_name(path, &format!("{}/{}", table_folder(&table), version_file(version)), REMEDY)?;
    match dropped {
        true => Ok(VersionContent::Dropped),
        false => unseal(path, bytes, FORMAT, REMEDY).map(|version| VersionContent::Table(Box::new(version))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_wrap() {
        let table: TableName = "rides".parse().unwrap();
        assert_eq!(following(7, &table).unwrap(), 8);
        for last in [9_999_999_999, u64::MAX] {
            assert!(following(last, &table).is_err());
        }
    }
}
