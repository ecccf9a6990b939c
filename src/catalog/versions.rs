//! Where table versions are published: one small file a version, each put-if-absent.
//! Two writers never lose an update: the later one sees the other's version and applies its change again.
//!
//! `catalog/<database>/<table>/v0000000001.json`

use super::{TableVersion, version::FORMAT};
use crate::{
    error::{Error, Result},
    name::TableName,
    storage::{Location, Published},
};

const ATTEMPTS: u32 = 20;

/// The catalog of a store.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    root: Location,
}

impl Catalog {
    pub(crate) fn new(root: &Location) -> Self {
        Self { root: root.child("catalog") }
    }

    /// All tables, in the order of their names.
    pub(crate) async fn tables(&self) -> Result<Vec<TableName>> {
        let mut names = Vec::new();
        for object in self.root.list().await? {
            let name = self.root.name_of(&object.location);
            if let [database, table, _] = name.split('/').collect::<Vec<_>>()[..]
                && let Ok(name) = format!("{database}.{table}").parse()
            {
                names.push(name);
            }
        }
        names.dedup();
        Ok(names)
    }

    /// The newest version of a table, or `None`.
    pub(crate) async fn find(&self, table: &TableName) -> Result<Option<TableVersion>> {
        let folder = self.folder(table);
        let names = folder.list().await?.into_iter().map(|object| folder.name_of(&object.location));
        let Some(newest) = names.filter(|name| number_of(name).is_some()).max() else { return Ok(None) };
        let path = format!("{folder}/{newest}");
        let bytes = folder.get(&newest).await?.ok_or_else(|| Error::Corrupt {
            path: path.clone(),
            reason: "it vanished while it was read; list the table again".into(),
        })?;
        parse(&path, &bytes).map(Some)
    }

    /// The version of this number, or `None` when it is not there (any more).
    pub(crate) async fn version(&self, table: &TableName, number: u64) -> Result<Option<TableVersion>> {
        let (folder, name) = (self.folder(table), format!("v{number:010}.json"));
        folder.get(&name).await?.map(|bytes| parse(&format!("{folder}/{name}"), &bytes)).transpose()
    }

    /// The newest version of a table.
    pub(crate) async fn latest(&self, table: &TableName) -> Result<TableVersion> {
        match self.find(table).await? {
            Some(version) => Ok(version),
            None => {
                let known = self.tables().await?.iter().map(ToString::to_string).collect();
                Err(Error::UnknownTable { table: table.to_string(), known })
            }
        }
    }

    /// Publishes what `change` makes of the newest version; `None` means that there is nothing to change.
    ///
    /// Applied again when another writer was faster.
    pub(crate) async fn update(
        &self,
        table: &TableName,
        change: impl Fn(Option<TableVersion>) -> Result<Option<TableVersion>>,
    ) -> Result<TableVersion> {
        for _ in 0..ATTEMPTS {
            let current = self.find(table).await?;
            let number = current.as_ref().map_or(0, |c| c.version) + 1;
            let Some(mut next) = change(current.clone())? else {
                return current.ok_or_else(|| Error::UnknownTable { table: table.to_string(), known: Vec::new() });
            };
            next.version = number;
            next.files.sort_by(|a, b| a.path.cmp(&b.path));
            let bytes = serde_json::to_vec_pretty(&next)
                .map_err(|e| Error::Corrupt { path: table.to_string(), reason: e.to_string() })?;
            if self.folder(table).put_if_absent(&format!("v{number:010}.json"), bytes).await? == Published::New {
                return Ok(next);
            }
        }
        Err(Error::Contention { what: format!("table `{table}`"), attempts: ATTEMPTS })
    }

    fn folder(&self, table: &TableName) -> Location {
        self.root.child(table.database()).child(table.table())
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix('v')?.strip_suffix(".json")?.parse().ok()
}

impl TableVersion {
    /// A version as it was published; `path` names it in errors.
    pub(crate) fn parse(path: &str, bytes: &[u8]) -> Result<Self> {
        parse(path, bytes)
    }
}

fn parse(path: &str, bytes: &[u8]) -> Result<TableVersion> {
    let damaged = |e: serde_json::Error| Error::Corrupt {
        path: path.into(),
        reason: format!("{e}; restore the file from a copy of the root, or register the table again under another name"),
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(damaged)?;
    if value["format"] != FORMAT {
        return Err(Error::Format { path: path.into(), found: value["format"].to_string(), expected: FORMAT });
    }
    serde_json::from_value(value).map_err(damaged)
}
