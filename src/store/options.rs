//! The options of opening a store: its cache, its object stores, its resources and its clock.

use std::{path::PathBuf, sync::Arc};

use crate::{engine::Resources, storage::Locations, time::Clock};

/// How a store is opened.
///
/// | | methods |
/// |---|---|
/// | settings | [`cache_dir`](Self::cache_dir), [`cache_in_memory`](Self::cache_in_memory), [`resources`](Self::resources) |
/// | components | [`locations`](Self::locations) with settings and mounted stores, [`clock`](Self::clock) |
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct StoreOptions {
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) memory_cache: bool,
    pub(super) locations: Locations,
    pub(super) resources: Resources,
    pub(super) clock: Option<Arc<dyn Clock>>,
}

impl StoreOptions {
    /// Keeps the cache in this directory, which one process at a time can use.
    ///
    /// By default a root on this machine has its cache in `.asof-cache` below the root, and any other root has it in memory. A
    /// damaged directory is renamed to `<directory>.damaged-<n>` and replaced by a new one, with a warning. On a full disk the
    /// cache is kept in memory until the store is opened again.
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(dir.into());
        self
    }

    /// Keeps the cache in memory: nothing is locked, and each process rebuilds it from the root.
    pub fn cache_in_memory(mut self) -> Self {
        self.memory_cache = true;
        self
    }

    /// How object stores are opened: options, credentials, shared stores.
    pub fn locations(mut self, locations: Locations) -> Self {
        self.locations = locations;
        self
    }

    /// How much memory and how many tasks a query may use.
    pub fn resources(mut self, resources: Resources) -> Self {
        self.resources = resources;
        self
    }

    /// The clock that gives the current time when an extract is made and when a collection decides what has expired; the machine's
    /// clock by default. No query result depends on it.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }
}
