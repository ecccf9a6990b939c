//! How a store is opened: its settings, which are data, and its components, which live: object stores and clock.

use std::{path::PathBuf, sync::Arc};

use super::settings::{CachePlace, DiskCacheSettings, StoreSettings};
use crate::{engine::Resources, storage::Locations, time::Clock};

/// How a store is opened.
///
/// | | methods |
/// |---|---|
/// | settings | [`cache_dir`](Self::cache_dir), [`cache_in_memory`](Self::cache_in_memory), [`resident_rows`](Self::resident_rows), [`disk_cache`](Self::disk_cache), [`incremental_from`](Self::incremental_from), [`not_incremental`](Self::not_incremental), [`resources`](Self::resources), or all at once [`settings`](Self::settings) |
/// | components | [`locations`](Self::locations) with credentials and mounted stores, [`clock`](Self::clock) |
///
/// Of several calls for one setting the last counts. The settings can be read back from the open store
/// ([`FeatureStore::settings`](crate::FeatureStore::settings)).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct StoreOptions {
    pub(super) settings: StoreSettings,
    pub(super) locations: Locations,
    pub(super) clock: Option<Arc<dyn Clock>>,
}

impl StoreOptions {
    /// Sets all settings, for example those from a file.
    pub fn settings(mut self, settings: StoreSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Keeps the cache in this directory, which one process at a time can use. It is empty, does not exist yet, or was made by this
    /// library: a directory that holds anything else is refused, and stays as it is.
    ///
    /// By default a root on this machine has its cache in `.asof-cache` below the root, and any other root has it in memory. A
    /// damaged directory is renamed to `<directory>.damaged-<n>` and replaced by a new one, with a warning. On a full disk the
    /// cache is kept in memory until the store is opened again.
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.settings.cache = CachePlace::Dir(dir.into());
        self
    }

    /// Keeps the cache in memory: nothing is locked, and each process rebuilds it from the root.
    pub fn cache_in_memory(mut self) -> Self {
        self.settings.cache = CachePlace::Memory;
        self
    }

    /// Holds the rows that are served by key in memory as a whole. By default memory holds only their index (11 to 21 bytes a row), and
    /// each read takes its row from the file. A cache in memory holds all rows in any case.
    pub fn resident_rows(mut self) -> Self {
        self.settings.resident_rows = true;
        self
    }

    /// Keeps what queries read of fact tables in object stores in this directory, up to this many bytes, so that a later query
    /// reads it from the disk.
    ///
    /// What is kept belongs to one version of a file: store, path, entity tag, size and range. Each query first asks the store
    /// which version a file has, as it does without this cache, so a file that was replaced is never read from here. Tables on
    /// this machine's disk, and files without a strong entity tag, are not kept. Several stores and processes can share a
    /// directory if each gives the same limit. An entry that was damaged is read again from the store. A directory that cannot
    /// be made or written or holds files of somebody else, or a full disk, is a warning, and the store is read as without this
    /// cache.
    ///
    /// Only queries read from it. Loads, compactions, repairs, collections and the verification of what was published read the
    /// store itself. A store that was [mounted](Locations::mount) is known by its URL, so two stores that are mounted under one
    /// URL need a directory each.
    pub fn disk_cache(mut self, dir: impl Into<PathBuf>, limit_bytes: u64) -> Self {
        self.settings.disk_cache = Some(DiskCacheSettings { dir: dir.into(), limit_bytes });
        self
    }

    /// Materializations of sets of entities keep a *tile* of each file of facts with at least this many facts, below the root in
    /// `partials/`: what the file contributes to the set. A later materialization loads tiles instead of the files, so that a new
    /// month costs about the reading of its own file. By default there are no tiles. Reading a file of less than 50,000 facts takes no longer than
    /// planning to read it apart.
    ///
    /// Results are the same bits with and without tiles. Tiles are a cache: they may be deleted at any time, and one that is damaged
    /// or missing is made again from its file. Which files would come from tiles is shown by
    /// [`FeatureStore::plan`](crate::FeatureStore::plan).
    ///
    /// ```
    /// use asof::StoreOptions;
    /// let options = StoreOptions::default().incremental_from(1_000_000);
    /// ```
    pub fn incremental_from(mut self, facts: u64) -> Self {
        self.settings.incremental_from = Some(facts);
        self
    }

    /// Materializations neither keep nor use tiles, which is the default: each reads all files of facts. See [`StoreOptions::incremental_from`].
    pub fn not_incremental(mut self) -> Self {
        self.settings.incremental_from = None;
        self
    }

    /// How much memory and how many tasks a query may use.
    pub fn resources(mut self, resources: Resources) -> Self {
        self.settings.resources = resources;
        self
    }

    /// How object stores are opened: options, credentials, shared stores.
    pub fn locations(mut self, locations: Locations) -> Self {
        self.locations = locations;
        self
    }

    /// The clock that gives the current time when an extract is made and when a collection decides what has expired; the machine's
    /// clock by default. No query result depends on it.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }
}
