//! What a load removes from its table: whole months, or the older content of changed sources with all rows that share a file
//! with it.
//!
//! The plan needs only the lists of a table version. The commit makes it again on the newest version.

use std::collections::BTreeSet;

use super::identity::reading_id;
use crate::{
    catalog::{FileEntry, LoadRecord, LoadedSource, TableVersion},
    error::{Error, Result},
    ingest::{
        load::Ingest,
        mode::{LoadMode, OnChangedSource},
        sources::SourceFile,
    },
    name::ContentId,
    time::month::Month,
};

/// Loads that are removed from a table because their sources have changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Removal {
    loads: BTreeSet<ContentId>,
    /// The paths of their files.
    files: BTreeSet<String>,
}

/// Does a load that stays hold this content already?
pub(crate) fn has_loaded(version: &TableVersion, removal: &Removal, source: &SourceFile) -> bool {
    let content = source.content();
    let staying = version.loads.iter().filter(|load| !removal.loads.contains(&load.id));
    staying.flat_map(|load| &load.sources).any(|known| known.content == content)
}

/// Is the load in the table, and do the months of its rows and the months that `mode` names hold no other rows?
pub(crate) fn is_in_place(version: &TableVersion, load: ContentId, mode: &LoadMode) -> bool {
    let Some(record) = find_load(version, load) else { return false };
    let own: BTreeSet<_> = version.files.iter().filter(|f| f.loads.contains(&load)).map(|f| &f.partition).collect();
    let named: &[Month] = if let LoadMode::ReplaceMonths(months) = mode { months } else { &[] };
    let mut concerned = version.files.iter().filter(|f| own.contains(&f.partition) || named.iter().any(|month| f.is_in(*month)));
    let is_there = record.rows == 0 || !own.is_empty();
    is_there && record.replaced_months.is_empty() && concerned.all(|file| file.loads == [load])
}

pub(crate) fn find_load(version: &TableVersion, load: ContentId) -> Option<&LoadRecord> {
    version.loads.iter().find(|known| known.id == load)
}

/// The loads and files with the older content of changed sources, and all loads and files that share rows with them.
///
/// # Errors
/// [`Error::ChangedSource`] if changed sources are refused. [`Error::ReadOtherwise`] if a source with unreadable rows would be
/// read in another way than before. [`Error::Definition`] if sources that must be loaded again are not part of this load.
pub(crate) fn changed_sources(ingest: &Ingest, sources: &[SourceFile], version: &TableVersion) -> Result<Removal> {
    let mut removal = Removal::default();
    if ingest.mode.replaces_months() {
        return Ok(removal);
    }
    let reading = reading_id(ingest);
    for load in version.loads.iter().filter(|load| load.reading.is_some_and(|id| id != reading)) {
        let same = |known: &&LoadedSource| sources.iter().any(|source| source.identity.content() == known.content);
        let Some(known) = load.sources.iter().filter(|known| known.rejected > 0).find(same) else { continue };
        if ingest.on_changed_source != OnChangedSource::Replace {
            return Err(Error::ReadOtherwise {
                table: ingest.table.to_string(),
                source_name: known.name.clone(),
                rejected: known.rejected,
            });
        }
        removal.loads.insert(load.id);
    }
    if ingest.on_changed_source == OnChangedSource::Append {
        return Ok(removal);
    }
    let holds = |load: &LoadRecord, source: &SourceFile| load.sources.iter().any(|known| known.name == source.name);
    let nothing = Removal::default();
    let is_new = |source: &&SourceFile| !has_loaded(version, &nothing, source);
    for source in sources.iter().filter(is_new) {
        let older = version.loads.iter().filter(|load| holds(load, source));
        for load in older {
            if ingest.on_changed_source == OnChangedSource::Refuse {
                return Err(Error::ChangedSource { table: ingest.table.to_string(), source_name: source.name.clone() });
            }
            removal.loads.insert(load.id);
        }
    }
    if !removal.loads.is_empty() {
        removal.add_shared_files(ingest, version)?;
        removal.check_complete(ingest, sources, version)?;
    }
    Ok(removal)
}

impl Removal {
    /// Adds the files of the loads, and all loads and files that share rows with them: compaction mixes loads in a file.
    fn add_shared_files(&mut self, ingest: &Ingest, version: &TableVersion) -> Result<()> {
        if version.files.iter().any(|file| file.loads.is_empty()) {
            return Err(refused(
                ingest,
                "a source has changed, and the table has files for which the loads are not recorded; load all of its sources \
                 into a new table, or replace their months with `LoadMode::ReplacePartitions`"
                    .into(),
            ));
        }
        loop {
            let touched = version.files.iter().filter(|file| file.loads.iter().any(|load| self.loads.contains(load)));
            let (loads, files): (Vec<_>, Vec<_>) = touched.map(|file| (file.loads.clone(), file.path.clone())).unzip();
            let known = (self.loads.len(), self.files.len());
            self.loads.extend(loads.concat());
            self.files.extend(files);
            if known == (self.loads.len(), self.files.len()) {
                return Ok(());
            }
        }
    }

    /// Checks that all sources of the removed loads are loaded again.
    fn check_complete(&self, ingest: &Ingest, sources: &[SourceFile], version: &TableVersion) -> Result<()> {
        let removed = version.loads.iter().filter(|load| self.loads.contains(&load.id));
        for load in removed.clone() {
            if let Some(month) = load.replaced_months.first() {
                let reason = format!(
                    "a source has changed that was loaded together with rows of {month}, and a later load has replaced that \
                     month; replace months with `LoadMode::ReplacePartitions` instead"
                );
                return Err(refused(ingest, reason));
            }
        }
        let missing: BTreeSet<&str> = removed
            .flat_map(|load| &load.sources)
            .map(|known| known.name.as_str())
            .filter(|name| sources.iter().all(|source| source.name != *name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names = missing.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let reason = format!(
            "a source has changed, and its older rows share files with rows of {names}. Add these sources to this load, so \
             that they are loaded again too, or replace months with `LoadMode::ReplacePartitions`"
        );
        Err(refused(ingest, reason))
    }

    /// Removes the loads, and all files of these months, from a version.
    pub(crate) fn apply(&self, version: &mut TableVersion, months: &[Month]) {
        version.files.retain(|file| !self.files.contains(&file.path));
        version.loads.retain(|load| !self.loads.contains(&load.id));
        if months.is_empty() {
            return;
        }
        let removed = version.remove_files(|file| months.iter().any(|month| file.is_in(*month)));
        for load in &mut version.loads {
            let of_load = removed.iter().filter(|file| file.loads.contains(&load.id));
            let replaced: Vec<Month> =
                of_load.flat_map(|file| months.iter().filter(|month| file.is_in(**month)).copied()).collect();
            load.replaced_months.extend(replaced);
            load.replaced_months.sort_unstable();
            load.replaced_months.dedup();
        }
    }

    /// The files that stay in a version.
    pub(crate) fn files_kept(&self, version: &TableVersion, months: &[Month]) -> Vec<FileEntry> {
        let mut version = version.clone();
        self.apply(&mut version, months);
        version.files
    }
}

fn refused(ingest: &Ingest, reason: String) -> Error {
    Error::Definition { subject: format!("the load into `{}`", ingest.table), reason }
}
