//! A pinned table as of a horizon, before anything is read: its time rule, and the files that may hold visible rows.
//! Ids are made of these files, and [`AsOfTable`](super::AsOfTable) reads them.

use std::sync::Arc;

use super::Visibility;
use crate::{
    catalog::FileEntry,
    error::Result,
    time::{Horizon, TimeScale},
    workspace::PinnedTable,
};

/// A pinned table as of a horizon.
#[derive(Debug, Clone)]
pub(crate) struct VisibleTable {
    pinned: PinnedTable,
    visibility: Arc<Visibility>,
    /// Positions among the files of the version.
    files: Vec<usize>,
}

impl VisibleTable {
    pub(crate) fn new(pinned: &PinnedTable, horizon: Horizon) -> Result<Self> {
        let visibility = Visibility::new(&pinned.version, horizon)?;
        let files = pinned.version.files().iter().enumerate();
        let files = files.filter(|(_, file)| visibility.admits_some(file)).map(|(position, _)| position).collect();
        Ok(Self { pinned: pinned.clone(), visibility: Arc::new(visibility), files })
    }

    /// Several tables as of one horizon, in their order.
    pub(crate) fn all(pinned: &[PinnedTable], horizon: Horizon) -> Result<Vec<Self>> {
        pinned.iter().map(|pinned| Self::new(pinned, horizon)).collect()
    }

    /// The version and the location.
    pub(crate) fn pinned(&self) -> &PinnedTable {
        &self.pinned
    }

    /// The files that may hold visible rows, in the order of the version.
    pub(crate) fn files(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().map(|&position| &self.pinned.version.files()[position])
    }

    /// How event times are stored.
    pub(crate) fn event_scale(&self) -> TimeScale {
        self.visibility.event_scale()
    }

    pub(crate) fn visibility(&self) -> &Arc<Visibility> {
        &self.visibility
    }
}
