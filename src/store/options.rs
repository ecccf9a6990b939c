//! How a store is opened: its cache, its object stores, its resources and its clock.
//! It opens nothing.

use std::{path::PathBuf, sync::Arc};

use crate::{engine::Resources, storage::Locations, time::Clock};

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) memory_cache: bool,
    pub(super) locations: Locations,
    pub(super) resources: Resources,
    pub(super) clock: Option<Arc<dyn Clock>>,
}

impl StoreOptions {
    /// Keeps the cache in this directory, which one process can hold at a time.
    ///
    /// Without it, a root on this machine has its cache in `.asof-cache` below the root, any other in memory. A directory that
    /// is damaged is set aside as `<directory>.damaged-<n>` and made anew, with a warning; on a full disk the cache goes on in
    /// memory until the store is opened again.
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(dir.into());
        self
    }

    /// Keeps the cache in memory: nothing is locked, and it is rebuilt from the root by each process.
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
