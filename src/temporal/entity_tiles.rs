//! Tiles of a set of entities: what the sources of a table keep of one file of facts, loaded instead of the file.
//! Which files may be read from a tile, and under which names tiles lie, is decided by `materialize`.
//!
//! A file whose tile is missing is read apart: its facts are accumulated as if there were no others, which makes its tile. The tile is
//! then added to the operators in the way of one that was loaded, and is stored if it is worth it.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array},
    compute::take,
    datatypes::{Field, Schema},
};
use datafusion::{
    dataframe::DataFrame,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::ExecutionPlan,
};
use futures::{TryStreamExt, join};
use tokio::task::JoinSet;

use super::{
    budget::Budget,
    entity_facts::{GroupState, Reader, ReaderTask, ReaderWindow, Seen},
    execution::file_context,
    fact_chunk::FactChunk,
    keys::GrowingKeys,
    newest_rows::{FoundRows, NewestRows},
    operator::{FactAccumulator, OperatorContext, TemporalOperator},
    restricted::{apart_over, over, reads_apart},
    spine_index::SpineIndex,
    tasks::{blocking, joined},
    tile_file::{self, TileHead},
    window::{TileMerger, Window, WindowTile},
};
use crate::{
    error::Result,
    name::ContentId,
    numeric::{NumberReader, NumberWriter},
    scan::AsOfTable,
    storage::Location,
};

/// A file with fewer facts than so many times the rows of its tile gains too little by it.
const FACTS_PER_ROW: u64 = 4;
/// So does a file that is not this many times as long as its tile.
const BYTES_PER_BYTE: u64 = 2;
/// Once the files without a worthwhile tile have more than this part of the facts that are read apart, the rest is read together.
const WASTED_PART: u64 = 8;
/// Up to this many bytes, a file is read by one task.
const SHARED_BYTES: u64 = 10 << 20;

/// A table some of whose files are read from tiles.
pub(crate) struct TiledTable {
    /// The table with all files that may hold visible rows.
    pub(crate) table: AsOfTable,
    /// Where the tiles of what is asked lie.
    pub(crate) folder: Location,
    /// The files all of whose facts are visible, and for which a tile is there or is to be made.
    pub(crate) files: Vec<TiledFile>,
    /// The positions of the other files.
    pub(crate) others: Vec<usize>,
}

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

/// The tiles of a table while it is read.
pub(super) struct TableTiles {
    readers: Arc<Vec<Reader>>,
    /// By reader.
    mergers: Vec<Mutex<ReaderMerger>>,
    table: AsOfTable,
    folder: Location,
    files: Vec<TiledFile>,
    others: Vec<usize>,
    tasks: usize,
    /// The facts of files that were read apart and got no tile.
    wasted_facts: AtomicU64,
    /// Has every tile so far been written?
    is_writable: AtomicBool,
}

/// What is added to the operators of a reader.
struct ReaderMerger {
    lookup: Option<Box<dyn FactAccumulator>>,
    window: Option<TileMerger>,
    seen: Seen,
}

/// A tile whose bytes have been read.
struct Tile {
    events: (i64, i64),
    parts: Vec<TilePart>,
}

/// What a tile holds for a reader.
struct TilePart {
    keys: Vec<ArrayRef>,
    /// The newest facts of each entity, with all columns of the facts; those that the lookup does not read are NULL.
    rows: Option<RecordBatch>,
    window: Option<WindowTile>,
}

impl TableTiles {
    /// `None` if the readers do not work with tiles: entities have several instants, facts are replaced, or there is no file.
    pub(super) fn new(readers: &Arc<Vec<Reader>>, tiled: TiledTable) -> Option<Arc<Self>> {
        let TiledTable { table, folder, files, others } = tiled;
        let is_fit = |reader: &Reader| reader.shared.index.single_instant().is_some() && reader.input.identity.is_empty();
        if files.is_empty() || !readers.iter().all(is_fit) || files.iter().any(|file| file.levels.len() != readers.len()) {
            return None;
        }
        let mut mergers = Vec::with_capacity(readers.len());
        for reader in readers.iter() {
            let window = match &reader.window {
                Some(window) => Some(TileMerger::new(window.operator.clone())?),
                None => None,
            };
            let lookup = reader.lookup.as_ref().map(|lookup| lookup.operator.clone().accumulator());
            mergers.push(Mutex::new(ReaderMerger { lookup, window, seen: Seen::default() }));
        }
        let tasks = readers.first().map_or(1, |reader| reader.shared.tasks);
        let (wasted_facts, is_writable) = (AtomicU64::new(0), AtomicBool::new(true));
        Some(Arc::new(Self { readers: readers.clone(), mergers, table, folder, files, others, tasks, wasted_facts, is_writable }))
    }

    /// Loads tiles and reads files apart. Returns a plan of the facts that are left to be read together; `rows` are all facts of the
    /// table.
    pub(super) async fn read(self: Arc<Self>, rows: &DataFrame) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (stored, missing) = (0..self.files.len()).partition(|&number| self.files[number].stored.is_some());
        // A file that is read apart is one task's for most of the time, so tiles are loaded meanwhile.
        // Both end before an error is told, so that neither holds memory when all is read again without tiles.
        let (unusable, left) = join!(self.load_stored(stored), self.read_apart(rows, missing));
        let mut together = self.others.clone();
        together.extend(left?);
        together.extend(self.read_apart(rows, unusable?).await?);
        let tiles = self.clone();
        blocking(move || tiles.finish()).await?;
        if together.is_empty() {
            return Ok(None);
        }
        together.sort_unstable();
        Ok(Some(over(rows, self.table.only(&together))?.create_physical_plan().await?))
    }

    /// Adds the stored tiles of files with these numbers. Returns the numbers of those whose tile cannot be used.
    async fn load_stored(self: &Arc<Self>, stored: Vec<usize>) -> Result<Vec<usize>> {
        let (mut unusable, mut stored, mut running) = (Vec::new(), stored.into_iter(), JoinSet::new());
        loop {
            while running.len() < self.tasks
                && let Some(number) = stored.next()
            {
                running.spawn(load(self.clone(), number));
            }
            let Some(done) = running.join_next().await else { break };
            unusable.extend(joined(done)?);
        }
        unusable.sort_unstable();
        Ok(unusable)
    }

    /// Reads files one by one, several at once. Returns the positions of the files that were not read.
    async fn read_apart(self: &Arc<Self>, rows: &DataFrame, missing: Vec<usize>) -> Result<Vec<usize>> {
        let mut left: Vec<usize> = Vec::new();
        if missing.is_empty() {
            return Ok(left);
        }
        let shares = self.tasks.div_ceil(missing.len()) as u64;
        let (mut pieces, mut partitions) = (Vec::new(), Vec::new());
        for &number in &missing {
            let TiledFile { position, bytes, .. } = self.files[number];
            let shares = if bytes > SHARED_BYTES { shares.max(1) } else { 1 };
            let first = pieces.len();
            pieces.extend((0..shares).map(|i| (position, bytes * i / shares, bytes * (i + 1) / shares)));
            partitions.push((number, first..pieces.len()));
        }
        let apart = apart_over(rows, self.table.pieces_apart(&pieces))?;
        let context = file_context(&apart.task_ctx(), apart.schema().fields().len());
        let plan = apart.create_physical_plan().await?;
        // Which facts are those of which file is told by the partition alone.
        if !reads_apart(&plan, &self.table, &pieces) {
            return Ok(missing.iter().map(|&number| self.files[number].position).collect());
        }
        let facts: u64 = missing.iter().map(|&number| self.files[number].rows).sum();
        let (mut waiting, mut running) = (partitions.into_iter(), JoinSet::new());
        loop {
            while running.len() < self.tasks
                && let Some((number, partitions)) = waiting.next()
            {
                if self.wasted_facts.load(Ordering::Relaxed) > facts / WASTED_PART {
                    left.push(self.files[number].position);
                    continue;
                }
                running.spawn(read_file(self.clone(), number, plan.clone(), context.clone(), partitions));
            }
            let Some(done) = running.join_next().await else { break };
            left.extend(joined(done)?);
        }
        Ok(left)
    }

    /// The tile in these bytes, if it is the one with this identity, undamaged, and holds what is read at the instant.
    fn decoded(&self, id: ContentId, bytes: &[u8]) -> Option<Tile> {
        let (TileHead { events, visible_from, .. }, mut from) = tile_file::opened(id, bytes)?;
        let mut parts = Vec::with_capacity(self.readers.len());
        for (reader, merger) in self.readers.iter().zip(&self.mergers) {
            let part = TilePart::loaded(reader, &mut from)?;
            let merger = merger.lock().unwrap_or_else(PoisonError::into_inner);
            if visible_from > reader.shared.index.single_instant()? {
                return None;
            }
            let is_empty = part.keys.iter().all(|keys| keys.is_empty());
            if let (Some(merger), Some(window), false) = (&merger.window, &part.window, is_empty)
                && !merger.admits(window, events)
            {
                return None;
            }
            parts.push(part);
        }
        from.is_at_end().then_some(Tile { events, parts })
    }

    /// Adds a tile to the operators.
    fn add(&self, tile: &Tile) -> Result<()> {
        for ((reader, merger), part) in self.readers.iter().zip(&self.mergers).zip(&tile.parts) {
            if part.keys.iter().all(|keys| keys.is_empty()) {
                continue;
            }
            let numbers = reader.number(&part.keys)?;
            let chunk = part.rows.as_ref().map(|rows| reader.chunk(rows.clone(), false)).transpose()?;
            let mut merger = merger.lock().unwrap_or_else(PoisonError::into_inner);
            merger.seen.add_entities(&numbers, reader.shared.index.entities());
            if let (Some(lookup), Some(chunk)) = (&mut merger.lookup, &chunk) {
                lookup.update(chunk)?;
            }
            if let (Some(merger), Some(window)) = (&mut merger.window, &part.window) {
                merger.merge(window, &numbers, tile.events)?;
            }
        }
        Ok(())
    }

    /// Hands all that was added over to the operators.
    fn finish(&self) -> Result<()> {
        for (reader, merger) in self.readers.iter().zip(&self.mergers) {
            let empty = ReaderMerger { lookup: None, window: None, seen: Seen::default() };
            let mut merger = merger.lock().unwrap_or_else(PoisonError::into_inner);
            let ReaderMerger { lookup, window, seen } = std::mem::replace(&mut *merger, empty);
            seen.hand_over(&reader.shared);
            lookup.map_or(Ok(()), FactAccumulator::finish)?;
            window.into_iter().for_each(TileMerger::finish);
        }
        Ok(())
    }
}

/// Adds the stored tile of a file. Returns the file's number if there is none, or none that can be used.
async fn load(tiles: Arc<TableTiles>, number: usize) -> Result<Option<usize>> {
    let Some(stored) = tiles.files[number].stored.clone() else { return Ok(Some(number)) };
    // A tile that cannot be read is missing: the file of facts is there.
    let Ok(Some(bytes)) = tiles.folder.get(&stored.name).await else { return Ok(Some(number)) };
    blocking(move || {
        let held = tiles.budget();
        held.grow("tiles", 2 * bytes.len())?;
        match tiles.decoded(stored.id, &bytes) {
            Some(tile) => tiles.add(&tile).map(|()| None),
            None => {
                tracing::debug!(tile = %stored.name, "the tile is damaged or of another make, so its file is read");
                Ok(Some(number))
            }
        }
    })
    .await
}

/// Reads a file apart, adds its tile, and stores the tile if it is worth it. Returns the file's position if it has to be read with others.
async fn read_file(
    tiles: Arc<TableTiles>,
    number: usize,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    partitions: Range<usize>,
) -> Result<Option<usize>> {
    let file = tiles.files[number].clone();
    let (position, rows, own, is_replaced) = (file.position, file.rows, file.own.clone(), file.has_stored(&file.own.name));
    let budget = Arc::new(tiles.budget());
    let readers = tiles.readers.iter().zip(&file.levels).map(|(reader, level)| FileReader::new(reader, *level, &budget));
    let readers = Arc::new(readers.collect::<Result<Vec<_>>>()?);
    let mut running = JoinSet::new();
    for partition in partitions {
        let stream = plan.execute(partition, context.clone())?;
        let whole = file.is_cut.then(|| tiles.readers.clone());
        running.spawn(read_piece(readers.clone(), whole, stream));
    }
    let mut pieces = Some(Vec::new());
    while let Some(done) = running.join_next().await {
        let piece = joined(done)?;
        pieces = pieces.zip(piece).map(|(mut pieces, piece)| {
            pieces.push(piece);
            pieces
        });
    }
    let added = tiles.clone();
    let is_cut = file.is_cut;
    let made = blocking(move || match (pieces, is_cut) {
        // The facts of a file that is cut have been added as they are.
        (Some(pieces), true) => Ok(file_tile(&readers, pieces, &file).unwrap_or(None)),
        (Some(pieces), false) => added.made(&readers, pieces, &file, &budget),
        (None, _) => Ok(None),
    })
    .await?;
    let is_added = made.is_some();
    match made {
        Some((bytes, true)) => tiles.store(&own.name, bytes, is_replaced).await,
        Some((_, false)) | None => drop(tiles.wasted_facts.fetch_add(rows, Ordering::Relaxed)),
    }
    // Without a tile nothing was added: the file holds values that do not come back, or its statistics are wrong.
    Ok((!is_cut && !is_added).then_some(position))
}

impl TableTiles {
    /// Memory for a tile while it is added; it is released when this is dropped.
    fn budget(&self) -> Budget {
        self.readers[0].shared.budget.another()
    }

    /// Makes the tile of a file and adds it. Returns its bytes, and whether they are worth being stored.
    fn made(
        &self,
        readers: &[FileReader],
        pieces: Vec<Piece>,
        file: &TiledFile,
        budget: &Budget,
    ) -> Result<Option<(Vec<u8>, bool)>> {
        let Some((bytes, is_worth_it)) = file_tile(readers, pieces, file)? else { return Ok(None) };
        budget.grow("tiles", 2 * bytes.len())?;
        let Some(tile) = self.decoded(file.own.id, &bytes) else { return Ok(None) };
        self.add(&tile)?;
        Ok(Some((bytes, is_worth_it)))
    }

    /// Stores a tile. A tile that cannot be stored costs time later, and nothing else.
    async fn store(&self, name: &str, bytes: Vec<u8>, is_replaced: bool) {
        if !self.is_writable.load(Ordering::Relaxed) {
            return;
        }
        let written = match is_replaced {
            true => self.folder.put(name, bytes).await,
            false => self.folder.put_if_absent(name, bytes).await.map(drop),
        };
        if let Err(error) = written {
            self.is_writable.store(false, Ordering::Relaxed);
            tracing::warn!(%error, "tiles are not kept: the next materialization reads the same files again");
        }
    }
}

impl TiledFile {
    /// Is the stored tile the one of this name? If it is made again, it was damaged.
    fn has_stored(&self, name: &str) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.name == name)
    }
}

/// A reader of one file of facts, whose entities are numbered by themselves.
struct FileReader {
    reader: Reader,
    window: Option<Arc<Window>>,
    lookup_columns: Option<Vec<usize>>,
}

/// What a task finds in its part of a file, for a reader.
struct PieceOfReader {
    rows: Option<FoundRows>,
    head: TileHead,
}

impl FileReader {
    fn new(of: &Reader, level: usize, budget: &Arc<Budget>) -> Result<Self> {
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
type Piece = (u64, Vec<PieceOfReader>);

/// Reads a part of a file for all readers. If the facts are also to be added as they are, to the operators of `whole`, they are, and
/// what fails for the tile alone is no error: then there is no tile.
async fn read_piece(
    readers: Arc<Vec<FileReader>>,
    whole: Option<Arc<Vec<Reader>>>,
    mut stream: SendableRecordBatchStream,
) -> Result<Option<Piece>> {
    let is_needed = whole.is_none();
    let mut direct: Vec<ReaderTask<'_>> = whole.iter().flat_map(|readers| readers.iter()).map(ReaderTask::new).collect();
    let mut tasks: Option<Vec<PieceTask<'_>>> = Some(readers.iter().map(PieceTask::new).collect());
    let mut facts = 0;
    while let Some(batch) = stream.try_next().await? {
        facts += batch.num_rows() as u64;
        direct.iter_mut().try_for_each(|task| task.add(batch.clone()))?;
        if let Some(own) = &mut tasks {
            match own.iter_mut().try_for_each(|task| task.add(batch.clone())) {
                Err(error) if is_needed => return Err(error),
                Err(_) => tasks = None,
                Ok(()) => {}
            }
        }
    }
    direct.into_iter().try_for_each(ReaderTask::finish)?;
    let Some(tasks) = tasks else { return Ok(None) };
    match tasks.into_iter().map(PieceTask::finish).collect::<Result<Vec<_>>>() {
        Err(error) if is_needed => Err(error),
        found => Ok(found.ok().map(|pieces| (facts, pieces))),
    }
}

/// What a task does with its part of a file, for a reader.
struct PieceTask<'a> {
    of: &'a FileReader,
    window: Option<Box<dyn FactAccumulator>>,
    rows: Option<NewestRows>,
    seen: Seen,
    head: TileHead,
}

impl<'a> PieceTask<'a> {
    fn new(of: &'a FileReader) -> Self {
        Self {
            of,
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
fn file_tile(readers: &[FileReader], pieces: Vec<Piece>, file: &TiledFile) -> Result<Option<(Vec<u8>, bool)>> {
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

impl TilePart {
    /// Reads what a tile holds for a reader; `None` if that is not what the reader needs.
    fn loaded(reader: &Reader, from: &mut NumberReader<'_>) -> Option<Self> {
        let keys = tile_file::loaded_rows(from.slice()?)?;
        let (entities, types) = (keys.num_rows(), &reader.shared.types);
        let has_types = keys.num_columns() == types.len() && keys.columns().iter().zip(types).all(|(c, t)| c.data_type() == t);
        let rows = match from.unsigned()? {
            0 => None,
            1 => Some(whole_rows(reader, &tile_file::loaded_rows(from.slice()?)?)?),
            _ => return None,
        };
        let window = match (from.unsigned()?, &reader.window) {
            (0, None) => None,
            (1, Some(window)) => Some(window.operator.loaded(entities, from)?),
            _ => return None,
        };
        let is_looked_up = rows.is_some() == (reader.lookup.is_some() && entities > 0);
        (has_types && is_looked_up).then_some(Self { keys: keys.columns().to_vec(), rows, window })
    }
}

/// The rows with all columns of the facts; `None` if a column is missing or has another type.
fn whole_rows(reader: &Reader, rows: &RecordBatch) -> Option<RecordBatch> {
    let (schema, columns) = (&reader.input.facts_schema, &reader.lookup.as_ref()?.columns);
    let mut whole: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (position, field) in schema.fields().iter().enumerate() {
        whole.push(match columns.contains(&position) {
            true => rows.column_by_name(field.name()).filter(|column| column.data_type() == field.data_type())?.clone(),
            false => new_null_array(field.data_type(), rows.num_rows()),
        });
    }
    let fields = schema.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), true));
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), whole).ok()
}
