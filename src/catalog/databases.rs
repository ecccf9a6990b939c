//! Databases, which are made and dropped by one put-if-absent each, as tables are.
//! A database has no location: each of its tables has one.
//!
//! `catalog/<database>/v0000000001.json`. The database `default` always exists, and so does any that has a table, so that a
//! table that is made while its database is dropped is not lost.

use serde::{Deserialize, Serialize};

use super::{Catalog, Change, version::FORMAT, versions::ATTEMPTS};
use crate::{
    error::{Error, Result},
    layout::{version_file, version_number},
    name::{DEFAULT_DATABASE, check_identifier},
    storage::{Published, check_name, seal, unseal},
};

#[derive(Debug, Serialize, Deserialize)]
struct DatabaseVersion {
    format: u32,
    database: String,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    dropped: bool,
}

impl Catalog {
    /// All databases, in the order of their names.
    pub(crate) async fn databases(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.tables().await?.into_iter().map(|table| table.database().to_owned()).collect();
        names.push(DEFAULT_DATABASE.into());
        let mut newest: Vec<(String, u64)> = Vec::new();
        for object in self.root.list().await? {
            let path = self.root.name_of(&object.location);
            if let [database, file] = path.split('/').collect::<Vec<_>>()[..]
                && let Some(number) = version_number(file)
            {
                newest.pop_if(|(known, _)| known == database);
                newest.push((database.into(), number));
            }
        }
        for (database, number) in newest {
            if !self.read_database(&database, number).await?.dropped {
                names.push(database);
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Makes a database.
    pub(crate) async fn create_database(&self, name: &str, comment: Option<String>) -> Result<Change> {
        check_database(name)?;
        for _ in 0..ATTEMPTS {
            let (number, current) = self.newest_database(name).await?;
            if name == DEFAULT_DATABASE || current.is_some_and(|current| !current.dropped) {
                return Ok(Change::Nothing);
            }
            if self.put_database(name, number + 1, comment.clone(), false).await? == Published::New {
                return Ok(Change::Done);
            }
        }
        Err(contention(name))
    }

    /// Removes a database that holds no table.
    pub(crate) async fn drop_database(&self, name: &str) -> Result<Change> {
        check_database(name)?;
        let subject = || format!("database `{name}`");
        if name == DEFAULT_DATABASE {
            let reason = "it holds the tables without a database, and cannot be dropped".into();
            return Err(Error::Definition { subject: subject(), reason });
        }
        for _ in 0..ATTEMPTS {
            let (number, current) = self.newest_database(name).await?;
            let tables = self.tables().await?;
            let own: Vec<_> = tables.iter().filter(|table| table.database() == name).map(ToString::to_string).collect();
            if !own.is_empty() {
                let reason = format!("still holds {}; drop these tables first", own.join(", "));
                return Err(Error::InUse { subject: subject(), reason });
            }
            if current.is_none_or(|current| current.dropped) {
                return Ok(Change::Nothing);
            }
            if self.put_database(name, number + 1, None, true).await? == Published::New {
                return Ok(Change::Done);
            }
        }
        Err(contention(name))
    }

    async fn newest_database(&self, name: &str) -> Result<(u64, Option<DatabaseVersion>)> {
        let folder = self.root.child(name);
        let listed = folder.list().await?;
        let newest = listed.iter().filter_map(|object| version_number(&folder.name_of(&object.location))).max();
        match newest {
            Some(number) => Ok((number, Some(self.read_database(name, number).await?))),
            None => Ok((0, None)),
        }
    }

    async fn read_database(&self, name: &str, number: u64) -> Result<DatabaseVersion> {
        let (folder, file) = (self.root.child(name), version_file(number));
        let path = format!("{folder}/{file}");
        let bytes = folder.get(&file).await?.unwrap_or_default();
        let remedy = "restore the file from a copy of the root";
        let found: DatabaseVersion = unseal(&path, &bytes, FORMAT, remedy)?;
        check_name(&path, &format!("{}/{}", found.database, version_file(found.version)), remedy)?;
        Ok(found)
    }

    async fn put_database(&self, name: &str, version: u64, comment: Option<String>, dropped: bool) -> Result<Published> {
        let entry = DatabaseVersion { format: FORMAT, database: name.into(), version, comment, dropped };
        let bytes = seal(name, serde_json::to_vec(&entry))?;
        self.root.child(name).put_if_absent(&version_file(version), bytes).await
    }
}

fn check_database(name: &str) -> Result<()> {
    check_identifier("database", name, name)?;
    match name {
        "information_schema" => {
            let reason = "the database `information_schema` is reserved for the catalog".into();
            Err(Error::InvalidName { what: "database", value: name.into(), reason })
        }
        _ => Ok(()),
    }
}

fn contention(name: &str) -> Error {
    Error::Contention { subject: format!("database `{name}`"), attempts: ATTEMPTS }
}
