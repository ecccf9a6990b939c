//! Which files of facts a set of entities need not read again: what is asked of a table, under which names the tiles of its files lie,
//! and which of them there are. What a tile holds is up to `temporal`.
//!
//! A tile may stand for its file at an instant if all facts of the file are visible there, and lie between two neighbouring edges of the
//! windows of each source. Both follow from the bounds of the file's times in the catalog.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Value, json};

use super::entities::sources_of_table;
use crate::{
    catalog::{Bounds, FileEntry},
    error::Result,
    feature_set::{EntitySet, FactsOf, Source},
    layout::{tile_file, tile_of, tiles_folder},
    manifest::EngineVersions,
    name::ContentId,
    scan::{AsOfTable, VisibleTable},
    storage::Location,
    temporal::{Aggregate, TILE_FORMAT, TileName, TiledFile, TiledTable},
    time::{AsOf, Cutoff},
    workspace::{PinnedTable, Workspace},
};

/// The most sources over one table for which there are tiles: their levels are part of a file's name.
const MOST_SOURCES: usize = 40;

/// How a materialization of a set of entities reads a table: [`PlannedTable::incremental`](super::PlannedTable::incremental).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incremental {
    /// File by file, where that is possible.
    ByFile {
        /// Files whose tile is there. They are not opened, unless their tile turns out to be damaged.
        from_tiles: usize,
        /// Further files that are read by themselves, so that a later materialization has their tiles. A tile that would not be worth
        /// it is not kept.
        read_apart: usize,
    },
    /// As a whole, always: the table is timeless, and all of its rows are visible at every instant.
    Timeless,
    /// As a whole, always: facts of the table are replaced by later versions, so a file says nothing by itself.
    ReplacedFacts,
    /// As a whole: an aggregate over everything before the instant holds every value (a median, a mode, a distinct count) or a sketch of
    /// all of them (an approximate distinct count), so what a file contributes could be as long as the file.
    EveryValueHeld,
    /// As a whole, always: a window follows a calendar, ends before the instant, or holds a number of facts or those since the last one of a
    /// kind, so where a file lies is not decided by its times alone.
    OtherLengths,
    /// As a whole, always: the set reads a view, whose rows may depend on other files than that of their fact.
    View,
    /// As a whole: the store keeps no tiles, the set is one of rows, or it has very many sources over the table.
    Off,
}

impl fmt::Display for Incremental {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Incremental::ByFile { from_tiles, read_apart } => {
                write!(f, "{from_tiles} files from their tiles, {read_apart} read apart")
            }
            Incremental::Timeless => f.write_str("read as a whole, since it is timeless"),
            Incremental::ReplacedFacts => f.write_str("read as a whole, since facts are replaced by later versions"),
            Incremental::EveryValueHeld => {
                f.write_str("read as a whole, since an aggregate over everything holds every value or a sketch of them")
            }
            Incremental::OtherLengths => {
                f.write_str(
                    "read as a whole, since a window follows a calendar, ends before the instant, or holds a number of facts or those since \
                     the last one of a kind",
                )
            }
            Incremental::View => f.write_str("read as a whole, since the set reads a view"),
            Incremental::Off => f.write_str("read as a whole"),
        }
    }
}

/// How the files of a table are read.
pub(super) enum TableFiles {
    Whole(Incremental),
    ByFile(Box<FilesByTile>),
}

/// The files of a table that may be read from tiles, and the tiles that there are.
pub(super) struct FilesByTile {
    folder: Location,
    /// What is asked of the table.
    question: ContentId,
    /// By path.
    files: BTreeMap<String, TiledFile>,
}

impl TableFiles {
    /// Finds the tiles of a table, the `number`th of the set.
    pub(super) async fn find(
        workspace: &Workspace,
        set: &EntitySet,
        tables: &[VisibleTable],
        number: usize,
        (as_of, cutoff): (AsOf, Cutoff),
    ) -> Self {
        let Some(least) = workspace.incremental_from else { return TableFiles::Whole(Incremental::Off) };
        let visible = &tables[number];
        let PinnedTable { version, location, .. } = visible.pinned();
        let sources: Vec<&Source> = sources_of_table(set, number);
        if sources.len() > MOST_SOURCES {
            return TableFiles::Whole(Incremental::Off);
        }
        if version.declared().is_timeless() {
            return TableFiles::Whole(Incremental::Timeless);
        }
        if !set.views.is_empty() {
            return TableFiles::Whole(Incremental::View);
        }
        if !version.declared().identity.is_empty() {
            return TableFiles::Whole(Incremental::ReplacedFacts);
        }
        let Some(lengths) = sources.iter().map(|source| Lengths::of(source)).collect::<Option<Vec<Lengths<'_>>>>() else {
            return TableFiles::Whole(Incremental::OtherLengths);
        };
        if lengths.iter().any(Lengths::hold_every_value) {
            return TableFiles::Whole(Incremental::EveryValueHeld);
        }
        let scale = visible.event_scale();
        let question = question(set, tables, number, cutoff);
        let folder = workspace.root.child(&tiles_folder(version.table(), question));
        let mut files = BTreeMap::new();
        for file in visible.files().filter(|file| file.rows >= least.max(1) && visible.visibility().admits_all(file)) {
            let Some(Bounds { min, max, .. }) = file.event else { continue };
            let ticks = (scale.instant_us(min), scale.instant_us(max));
            let places: Vec<Place> = lengths.iter().map(|lengths| lengths.place(as_of.micros(), ticks)).collect();
            let levels: Vec<usize> = places.iter().map(|place| place.level).collect();
            if lengths.iter().zip(&levels).all(|(lengths, level)| lengths.are_stored(*level)) {
                let (key, is_cut) = (file.facts_key(location), places.iter().any(|place| place.is_cut));
                files.insert(file.path.clone(), TiledFile { is_cut, ..tiled_file(question, file, key, levels) });
            }
        }
        let mut found = FilesByTile { folder, question, files };
        found.find_stored().await;
        // The tile of a file that an edge cuts is for later. The file itself is read.
        found.files.retain(|_, file| !file.is_cut || file.stored.is_none());
        TableFiles::ByFile(Box::new(found))
    }

    /// As plans show it.
    pub(super) fn shown(&self) -> Incremental {
        match self {
            TableFiles::Whole(why) => *why,
            TableFiles::ByFile(found) => {
                let files = &found.files;
                let from_tiles = files.values().filter(|file| file.stored.is_some()).count();
                Incremental::ByFile { from_tiles, read_apart: files.len() - from_tiles }
            }
        }
    }

    /// What `temporal` needs to read the opened table so; `None` if it is read as a whole.
    pub(super) fn of(self, table: AsOfTable) -> Option<TiledTable> {
        let TableFiles::ByFile(found) = self else { return None };
        let FilesByTile { folder, mut files, .. } = *found;
        let (mut tiled, mut others) = (Vec::new(), Vec::new());
        for (position, file) in table.files().enumerate() {
            match files.remove(&file.path) {
                Some(own) => tiled.push(TiledFile { position, ..own }),
                None => others.push(position),
            }
        }
        (!tiled.is_empty()).then_some(TiledTable { table, folder, files: tiled, others })
    }
}

impl FilesByTile {
    /// Finds which tiles there are, with one listing. A listing that fails finds none: the files of facts are there.
    async fn find_stored(&mut self) {
        if self.files.is_empty() {
            return;
        }
        let listed = self.folder.list().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "tiles cannot be listed, so files are read");
            Vec::new()
        });
        let mut by_key: BTreeMap<String, Vec<(Vec<usize>, String)>> = BTreeMap::new();
        for object in listed {
            let name = self.folder.name_of(&object.location);
            if let Some((key, levels)) = tile_of(&name) {
                by_key.entry(key.to_owned()).or_default().push((levels, name));
            }
        }
        for file in self.files.values_mut() {
            let Some(tiles) = by_key.get(&file.key.short()) else { continue };
            // A tile that was made when the facts lay in more windows holds at least what is needed now. The best one holds no more.
            let is_enough = |levels: &[usize]| {
                levels.len() == file.levels.len() && levels.iter().zip(&file.levels).all(|(made, needed)| made <= needed)
            };
            let enough = tiles.iter().filter(|(levels, _)| is_enough(levels));
            let best = enough.max_by_key(|(levels, _)| levels.iter().sum::<usize>());
            file.stored =
                best.map(|(levels, name)| TileName { name: name.clone(), id: identity(self.question, file.key, levels) });
        }
    }
}

fn tiled_file(question: ContentId, file: &FileEntry, key: ContentId, levels: Vec<usize>) -> TiledFile {
    let nulls = |bounds: Option<Bounds>| bounds.map_or(0, |bounds| bounds.nulls);
    TiledFile {
        position: 0,
        key,
        rows: file.rows,
        nulls: nulls(file.event).saturating_add(nulls(file.known)),
        bytes: file.identity.size,
        own: TileName { name: tile_file(key, &levels), id: identity(question, key, &levels) },
        is_cut: false,
        stored: None,
        levels,
    }
}

/// What identifies a tile.
fn identity(question: ContentId, file: ContentId, levels: &[usize]) -> ContentId {
    ContentId::of_json(&json!([question, file, levels]))
}

/// Where the facts of a file lie among the windows of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Beyond how many lengths all of them lie, the shortest first.
    level: usize,
    /// Do some of them lie beyond more?
    is_cut: bool,
}

/// The lengths of the windows of a source, the shortest first, and what is aggregated over each.
struct Lengths<'a>(Vec<(Option<i64>, Vec<&'a Aggregate>)>);

impl<'a> Lengths<'a> {
    /// `None` if a window follows a calendar or ends before the instant, or newer facts decide what it holds.
    fn of(source: &'a Source) -> Option<Self> {
        let mut lengths: Vec<(Option<i64>, Vec<&Aggregate>)> = Vec::new();
        for (length, aggregates) in source.windows.iter().filter(|(_, aggregates)| !aggregates.is_empty()) {
            let length = length.fixed_us()?;
            match lengths.iter_mut().find(|(known, _)| *known == length) {
                Some((_, known)) => known.extend(aggregates),
                None => lengths.push((length, aggregates.iter().collect())),
            }
        }
        lengths.sort_by_key(|(length, _)| (length.is_none(), *length));
        Some(Self(lengths))
    }

    /// Does an aggregate over everything before the instant hold every value? Then no file can be left out, however old it is.
    fn hold_every_value(&self) -> bool {
        let everything = self.0.iter().filter(|(length, _)| length.is_none());
        everything.flat_map(|(_, aggregates)| aggregates).any(|aggregate| !aggregate.is_stored())
    }

    /// Where facts with event times from the first to the last of these ticks lie at an instant. A window of length w at T holds the
    /// events of `[T - w, T)`.
    fn place(&self, instant: i64, events: (i64, i64)) -> Place {
        let start = |length: Option<i64>| length.map_or(i64::MIN, |length| instant.saturating_sub(length));
        let beyond = |event: i64| self.0.iter().filter(|(length, _)| start(*length) > event).count();
        let level = beyond(events.1);
        Place { level, is_cut: beyond(events.0) != level }
    }

    /// Can all be stored that windows of these lengths need, from the given one on?
    fn are_stored(&self, level: usize) -> bool {
        self.0.iter().skip(level).all(|(_, aggregates)| aggregates.iter().all(|aggregate| aggregate.is_stored()))
    }
}

/// The hash of all that a tile depends on besides its file: what is asked of the table, how it is declared, and the code. Neither the
/// instant belongs to it nor the other files.
fn question(set: &EntitySet, tables: &[VisibleTable], number: usize, cutoff: Cutoff) -> ContentId {
    let version = &tables[number].pinned().version;
    let columns = |table: usize| {
        let version = &tables[table].pinned().version;
        version.columns().iter().chain(version.partition_columns()).cloned().collect::<Vec<_>>()
    };
    // Keys are compared in a type that follows from those of all tables.
    let key_types = |key: &String| {
        let mut types = BTreeSet::new();
        for (source, of) in set.sources.iter().zip(&set.facts_of_source) {
            // A set with a view has no tiles.
            let FactsOf::Table(table) = *of else { continue };
            let on = source.on.iter().filter(|(own, _)| own == key);
            let names: Vec<&String> = on.map(|(_, column)| column).collect();
            types
                .extend(columns(table).into_iter().filter(|column| names.contains(&&column.name)).map(|column| column.data_type));
        }
        types
    };
    let sources: Vec<Value> = sources_of_table(set, number).into_iter().map(|source| json!(source)).collect();
    ContentId::of_json(&json!({
        "format": TILE_FORMAT,
        "engine": EngineVersions::current(),
        "table": version.table(),
        "declared": version.declared(),
        "columns": columns(number),
        "keys": set.keys.iter().map(|key| json!([key, key_types(key)])).collect::<Vec<_>>(),
        "cutoff": cutoff,
        "sources": sources,
    }))
}

/// How all tables of a set are read.
pub(super) async fn table_files(
    workspace: &Workspace,
    set: &EntitySet,
    tables: &[VisibleTable],
    at: (AsOf, Cutoff),
) -> Result<Vec<TableFiles>> {
    let mut all = Vec::with_capacity(tables.len());
    for number in 0..tables.len() {
        all.push(TableFiles::find(workspace, set, tables, number, at).await);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_level_counts_the_lengths_that_do_not_reach_back_to_the_facts() {
        let of = |us: i64| TimeDelta::microseconds(us);
        let source = Source::of("t")
            .on("k")
            .all_before([Aggregate::count()])
            .window(of(100), [Aggregate::sum("v"), Aggregate::median("v")])
            .window(of(10), [Aggregate::mode("v")])
            .window(of(1_000), []);
        let lengths = Lengths::of(&source).unwrap();
        assert!(lengths.0.len() == 3 && !lengths.hold_every_value());
        assert!(Lengths::of(&Source::of("t").all_before([Aggregate::median("v")])).unwrap().hold_every_value());
        // Windows at 500 begin at 490 and at 400.
        for (events, level) in [
            ((490, 499), (0, false)),
            ((400, 489), (1, false)),
            ((-5, 399), (2, false)),
            ((489, 490), (0, true)),
            ((399, 495), (0, true)),
            ((399, 400), (1, true)),
            ((i64::MIN, i64::MIN), (2, false)),
        ] {
            let (level, is_cut) = level;
            assert_eq!(lengths.place(500, events), Place { level, is_cut }, "{events:?}");
        }
        assert_eq!([0, 1, 2, 3].map(|level| lengths.are_stored(level)), [false, false, true, true]);
        let first = lengths.place(i64::MIN, (i64::MIN, 0));
        assert_eq!(first, Place { level: 0, is_cut: false }, "nothing lies before the first instant");
        let none = Source::of("t").on("k").lookup("v", "v");
        assert_eq!(Lengths::of(&none).unwrap().place(500, (i64::MIN, i64::MAX)), Place { level: 0, is_cut: false });
    }
}
