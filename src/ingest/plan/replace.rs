//! What a load takes out of the table: whole months, or the older content of changed sources with all that lies mixed with it.
//! It plans over a version's lists and reads no file; the plan is made again at the commit, against the newest version.

use std::collections::BTreeSet;

use super::identity::reading_id;
use crate::{
    catalog::{LoadRecord, LoadedSource, TableVersion},
    error::{Error, Result},
    ingest::{
        load::Ingest,
        mode::{LoadMode, OnChangedSource},
        sources::Source,
    },
    name::ContentId,
    time::month::Month,
};

/// What goes in the commit of a load.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outgoing {
    /// Loads that are replaced whole.
    pub(crate) loads: BTreeSet<ContentId>,
    /// The paths of their files.
    pub(crate) files: BTreeSet<String>,
}

/// Does a load that stays hold this content already?
pub(crate) fn has_loaded(version: &TableVersion, outgoing: &Outgoing, source: &Source) -> bool {
    let content = source.content();
    let staying = version.loads.iter().filter(|load| !outgoing.loads.contains(&load.id));
    staying.flat_map(|load| &load.sources).any(|known| known.content == content)
}

/// Is every row of the months that this load has rows in its own already, and of nobody else?
pub(crate) fn is_in_place(version: &TableVersion, load: ContentId, mode: &LoadMode) -> bool {
    let Some(record) = version.loads.iter().find(|known| known.id == load) else { return false };
    let mine: BTreeSet<_> = version.files.iter().filter(|f| f.loads.contains(&load)).map(|f| &f.partition).collect();
    let named: &[Month] = if let LoadMode::ReplaceMonths(months) = mode { months } else { &[] };
    let concerned = version.files.iter().filter(|f| mine.contains(&f.partition) || named.iter().any(|month| f.is_in(*month)));
    let is_there = record.rows == 0 || !mine.is_empty();
    is_there && record.replaced_months.is_empty() && concerned.into_iter().all(|file| file.loads == [load])
}

/// The loads and files that hold the older content of changed sources, and all that lies mixed with them.
///
/// # Errors
/// [`Error::ChangedSource`] when changed sources are refused, and [`Error::ReadOtherwise`] when one would be read in another
/// way than before, when rows of it could not be read; [`Error::Definition`] when what would have to go with them is
/// not part of this load.
pub(crate) fn changed(ingest: &Ingest, sources: &[Source], version: &TableVersion) -> Result<Outgoing> {
    let mut outgoing = Outgoing::default();
    if ingest.mode.replaces_months() {
        return Ok(outgoing);
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
        outgoing.loads.insert(load.id);
    }
    if ingest.on_changed_source == OnChangedSource::Append {
        return Ok(outgoing);
    }
    let holds = |load: &LoadRecord, source: &Source| load.sources.iter().any(|known| known.name == source.name);
    let nothing = Outgoing::default();
    let is_new = |source: &&Source| !has_loaded(version, &nothing, source);
    for source in sources.iter().filter(is_new) {
        let older = version.loads.iter().filter(|load| holds(load, source));
        for load in older {
            if ingest.on_changed_source == OnChangedSource::Refuse {
                return Err(Error::ChangedSource { table: ingest.table.to_string(), source_name: source.name.clone() });
            }
            outgoing.loads.insert(load.id);
        }
    }
    if outgoing.loads.is_empty() {
        return Ok(outgoing);
    }
    let refused = |reason: String| Error::Definition { subject: format!("the load into `{}`", ingest.table), reason };
    if version.files.iter().any(|file| file.loads.is_empty()) {
        return Err(refused(
            "a source has changed, and the table holds files of which it is not known what was loaded into them; load all of \
             its sources into a new table, or replace their months with `LoadMode::ReplacePartitions`"
                .into(),
        ));
    }
    // Files hold rows of several loads after compaction: what lies in one file goes together.
    loop {
        let touched = version.files.iter().filter(|file| file.loads.iter().any(|load| outgoing.loads.contains(load)));
        let (loads, files): (Vec<_>, Vec<_>) = touched.map(|file| (file.loads.clone(), file.path.clone())).unzip();
        let known = (outgoing.loads.len(), outgoing.files.len());
        outgoing.loads.extend(loads.concat());
        outgoing.files.extend(files);
        if known == (outgoing.loads.len(), outgoing.files.len()) {
            break;
        }
    }
    let gone = version.loads.iter().filter(|load| outgoing.loads.contains(&load.id));
    for load in gone.clone() {
        if let Some(month) = load.replaced_months.first() {
            return Err(refused(format!(
                "a source has changed that was loaded together with rows of {month}, which were replaced since; replace months \
                 with `LoadMode::ReplacePartitions` instead"
            )));
        }
    }
    let missing: BTreeSet<&str> = gone
        .flat_map(|load| &load.sources)
        .map(|known| known.name.as_str())
        .filter(|name| sources.iter().all(|source| source.name != *name))
        .collect();
    if !missing.is_empty() {
        let names = missing.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(refused(format!(
            "a source has changed whose older rows lie in one file with those of {names}: name these sources in this load too, \
             so that they are loaded again, or replace months with `LoadMode::ReplacePartitions`"
        )));
    }
    Ok(outgoing)
}

/// Takes everything out of a version that a load replaces.
pub(crate) fn take_out(version: &mut TableVersion, outgoing: &Outgoing, months: &[Month]) {
    version.files.retain(|file| !outgoing.files.contains(&file.path));
    version.loads.retain(|load| !outgoing.loads.contains(&load.id));
    if months.is_empty() {
        return;
    }
    let gone = version.remove_files(|file| months.iter().any(|month| file.is_in(*month)));
    for load in &mut version.loads {
        let of_it = gone.iter().filter(|file| file.loads.contains(&load.id));
        let replaced: Vec<Month> = of_it.flat_map(|file| months.iter().filter(|month| file.is_in(*month)).copied()).collect();
        load.replaced_months.extend(replaced);
        load.replaced_months.sort_unstable();
        load.replaced_months.dedup();
    }
}
