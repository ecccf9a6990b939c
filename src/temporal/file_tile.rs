//! Makes the tile of one file of facts: its facts are accumulated as if there were no others.
//! Which files get tiles is decided in `entity_tiles`, and on which thread facts are added in `tile_piece`.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::take,
};

use super::{
    budget::Budget,
    entity_facts::{GroupState, Reader, ReaderWindow, Seen},
    fact_chunk::FactChunk,
    keys::GrowingKeys,
    newest_rows::{FoundRows, NewestRows},
    operator::{FactAccumulator, OperatorContext, TemporalOperator},
    spine_index::SpineIndex,
    tile_file::{self, TileHead},
    window::Window,
};
use crate::{error::Result, name::ContentId, numeric::NumberWriter};

/// A file with fewer facts than so many times the rows of its tile gains too little by it.
const FACTS_PER_ROW: u64 = 4;
/// So does a file that is not this many times as long as its tile.
const BYTES_PER_BYTE: u64 = 2;

/// A file that may be read from a tile.
#[derive(Debug, Clone)]
pub(crate) struct TiledFile {
    /// Its position in the table.
    pub(crate) position: usize,
    /// The hash of what its facts are.
    pub(crate) key: ContentId,
    /// Its rows, and about how many of them have no time, according to the catalog.
    pub(crate) rows: u64,
    pub(crate) nulls: u64,
    pub(crate) bytes: u64,
    /// By source, beyond how many of the lengths of its windows all facts lie.
    pub(crate) levels: Vec<usize>,
    /// Do some facts lie beyond more of them? Then a tile of all facts is of no use at this instant, and is made for a later one.
    pub(crate) is_cut: bool,
    /// The tile that it would get.
    pub(crate) own: TileName,
    /// The tile that there is.
    pub(crate) stored: Option<TileName>,
}

/// The name of a tile in its folder, and what identifies it.
#[derive(Debug, Clone)]
pub(crate) struct TileName {
    pub(crate) name: String,
    pub(crate) id: ContentId,
}

impl TiledFile {
    /// Is the stored tile the one that it would get? If it is made again, it was damaged.
    pub(super) fn has_own_stored(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.name == self.own.name)
    }
}

/// A reader of one file of facts, whose entities are numbered by themselves.
pub(super) struct FileReader {
    reader: Reader,
    window: Option<Arc<Window>>,
    lookup_columns: Option<Vec<usize>>,
}

/// What a task finds in its part of a file, for a reader.
pub(super) struct PieceOfReader {
    rows: Option<FoundRows>,
    head: TileHead,
}

impl FileReader {
    pub(super) fn new(of: &Reader, level: usize, budget: &Arc<Budget>) -> Result<Self> {
        let GroupState { types, instants, tasks, .. } = &*of.shared;
        let shared = Arc::new(GroupState {
            numbers: GrowingKeys::new(types)?,
            types: types.clone(),
            index: Arc::new(SpineIndex::of_entities_at(instants)),
            instants: instants.clone(),
            seen_from: Mutex::default(),
            budget: budget.clone(),
            tasks: *tasks,
        });
        let window = match &of.window {
            None => None,
            Some(ReaderWindow { spec, .. }) => {
                let context = OperatorContext::new(&of.input, &shared.index, budget, *tasks)?;
                Some(Arc::new(Window::new(spec, &context, Some(level))?))
            }
        };
        let lookup_columns = of.lookup.as_ref().map(|lookup| lookup.columns.clone());
        Ok(Self { reader: Reader::new(shared, of.input.clone(), Vec::new()), window, lookup_columns })
    }

    /// Appends what the tile holds for this reader. Returns how many rows that are; `None` if they cannot be stored.
    fn store(&self, pieces: Vec<PieceOfReader>, to: &mut NumberWriter) -> Result<Option<usize>> {
        let GroupState { numbers, seen_from, .. } = &*self.reader.shared;
        let seen = seen_from.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let entities: Vec<u32> = (0u32..).zip(&seen).filter(|(_, from)| **from == 0).map(|(entity, _)| entity).collect();
        let positions = UInt32Array::from(entities.clone());
        let mut keys = Vec::new();
        for (i, column) in numbers.columns()?.iter().enumerate() {
            keys.push((format!("key_{i}"), take(column, &positions, None)?));
        }
        let Some(keys) = tile_file::stored_rows(keys) else { return Ok(None) };
        to.slice(&keys);
        let mut count = entities.len();
        let found = FoundRows::joined(pieces.into_iter().filter_map(|piece| piece.rows).collect())?;
        to.unsigned(u64::from(found.is_some()));
        if let (Some(found), Some(columns)) = (found, &self.lookup_columns) {
            count = count.max(found.entities.len());
            let name = |position: &usize| self.reader.input.facts_schema.field(*position).name().clone();
            let Some(rows) = tile_file::stored_rows(columns.iter().map(name).zip(found.columns).collect()) else {
                return Ok(None);
            };
            to.slice(&rows);
        }
        to.unsigned(u64::from(self.window.is_some()));
        self.window.as_ref().map_or(Ok(()), |window| window.stored(&entities, to))?;
        Ok(Some(count))
    }
}

/// What a task has found in its part of a file: how many facts there are, and what each reader keeps of them.
pub(super) type Piece = (u64, Vec<PieceOfReader>);

/// What a task does with its part of a file, for all readers.
pub(super) struct PieceTasks {
    facts: u64,
    tasks: Vec<PieceTask>,
}

impl PieceTasks {
    pub(super) fn new(readers: &[Arc<FileReader>]) -> Self {
        Self { facts: 0, tasks: readers.iter().map(PieceTask::new).collect() }
    }

    /// Adds the facts of a batch.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        self.facts += batch.num_rows() as u64;
        self.tasks.iter_mut().try_for_each(|task| task.add(batch.clone()))
    }

    /// What has been found, when all facts have been added.
    pub(super) fn finish(self) -> Result<Piece> {
        Ok((self.facts, self.tasks.into_iter().map(PieceTask::finish).collect::<Result<_>>()?))
    }
}

/// What a task does with its part of a file, for a reader.
struct PieceTask {
    of: Arc<FileReader>,
    window: Option<Box<dyn FactAccumulator>>,
    rows: Option<NewestRows>,
    seen: Seen,
    head: TileHead,
}

impl PieceTask {
    fn new(of: &Arc<FileReader>) -> Self {
        Self {
            of: of.clone(),
            window: of.window.clone().map(TemporalOperator::accumulator),
            rows: of.lookup_columns.clone().map(NewestRows::new),
            seen: Seen::default(),
            head: TileHead::empty(),
        }
    }

    fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let Reader { shared, input, .. } = &self.of.reader;
        let chunk: FactChunk = self.of.reader.chunk(batch, false)?;
        self.seen.add(&chunk, shared);
        let TileHead { events, visible_from, .. } = &mut self.head;
        events.0 = chunk.event.iter().copied().fold(events.0, i64::min);
        events.1 = chunk.event.iter().copied().fold(events.1, i64::max);
        *visible_from = chunk.visible_from.iter().copied().fold(*visible_from, i64::max);
        if let Some(window) = &mut self.window {
            window.update(&chunk)?;
        }
        match &mut self.rows {
            Some(rows) => rows.add(&chunk, shared.index.entities(), &input.logical.subject, &shared.budget),
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<PieceOfReader> {
        self.seen.hand_over(&self.of.reader.shared);
        self.window.map_or(Ok(()), FactAccumulator::finish)?;
        Ok(PieceOfReader { rows: self.rows.map(|rows| rows.gathered()).transpose()?, head: self.head })
    }
}

/// The tile of a file, and whether it is worth being stored; `None` if there can be none.
pub(super) fn file_tile(readers: &[Arc<FileReader>], pieces: Vec<Piece>, file: &TiledFile) -> Result<Option<(Vec<u8>, bool)>> {
    let facts: u64 = pieces.iter().map(|(facts, _)| facts).sum();
    // A fact that the catalog's bounds do not know of may be hidden now and visible later.
    if facts > file.rows || facts.saturating_add(file.nulls) < file.rows {
        return Ok(None);
    }
    let mut head = TileHead { facts, ..TileHead::empty() };
    let mut by_reader: Vec<Vec<PieceOfReader>> = readers.iter().map(|_| Vec::new()).collect();
    for (reader, piece) in pieces.into_iter().flat_map(|(_, pieces)| pieces.into_iter().enumerate()) {
        head.events = (head.events.0.min(piece.head.events.0), head.events.1.max(piece.head.events.1));
        head.visible_from = head.visible_from.max(piece.head.visible_from);
        by_reader[reader].push(piece);
    }
    let (mut body, mut most) = (NumberWriter::default(), 0);
    for (reader, pieces) in readers.iter().zip(by_reader) {
        let Some(rows) = reader.store(pieces, &mut body)? else { return Ok(None) };
        most = most.max(rows as u64);
    }
    let bytes = tile_file::sealed(file.own.id, &head, &body);
    let is_worth_it = facts >= FACTS_PER_ROW * most && file.bytes >= BYTES_PER_BYTE * bytes.len() as u64;
    Ok(Some((bytes, is_worth_it)))
}
