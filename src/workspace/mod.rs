//! What all work on one store shares: root, catalog, engine, locations and cache; table versions pinned with their locations; the
//! files of a result, written and read; and the work in progress. Nothing is computed here.

mod in_flight;
mod parts;
mod plain_types;
mod published_parts;

use std::sync::Arc;

pub(crate) use in_flight::InFlight;
pub use parts::Part;
pub(crate) use parts::{FinishedParts, PartsWriter, part_properties};
pub(crate) use plain_types::{plain_rows, plain_type};
pub(crate) use published_parts::PublishedParts;

use crate::{
    cache::Cache,
    catalog::{Catalog, TableLocation, TableVersion},
    engine::Engine,
    error::Result,
    layout::facts_folder,
    name::TableName,
    storage::{DiskCache, Location, Locations},
};

/// The parts of an open store that materializations, extracts, collections and shards work with.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    pub(crate) root: Location,
    pub(crate) catalog: Catalog,
    pub(crate) engine: Engine,
    pub(crate) locations: Locations,
    pub(crate) cache: Cache,
    /// Holds what scans read of remote fact tables.
    pub(crate) disk_cache: Option<DiskCache>,
    /// The materializations that are being made.
    pub(crate) in_flight: InFlight,
    /// Of files with at least so many facts sets of entities keep tiles; `None` for none.
    pub(crate) incremental_from: Option<u64>,
}

/// A table version and where its files lie.
#[derive(Debug, Clone)]
pub(crate) struct PinnedTable {
    pub(crate) version: Arc<TableVersion>,
    pub(crate) location: Location,
    /// The cache by way of which scans read the files.
    pub(crate) disk_cache: Option<DiskCache>,
}

impl Workspace {
    /// A version of a table, with the location of its files.
    pub(crate) fn pin(&self, version: TableVersion) -> Result<PinnedTable> {
        let location = match version.location() {
            TableLocation::Managed => self.root.child(&facts_folder(version.table())),
            TableLocation::External(location) => self.locations.open(location)?,
        };
        Ok(PinnedTable { version: Arc::new(version), location, disk_cache: self.disk_cache.clone() })
    }

    /// The newest version of a table.
    pub(crate) async fn pin_latest(&self, table: &TableName) -> Result<PinnedTable> {
        self.pin(self.catalog.latest(table).await?)
    }

    /// The newest versions of these tables, in their order.
    pub(crate) async fn pin_all(&self, tables: &[TableName]) -> Result<Vec<PinnedTable>> {
        let mut pinned = Vec::with_capacity(tables.len());
        for table in tables {
            pinned.push(self.pin_latest(table).await?);
        }
        Ok(pinned)
    }
}
