//! Tiles of a set of entities: what the sources of a table keep of one file of facts, loaded instead of the file.
//! Which files may be read from a tile, and under which names tiles lie, is decided by `materialize`; how a tile is made, by `file_tile`.
//!
//! A file whose tile is missing is read apart. Its tile is then added to the operators in the way of one that was loaded, and is stored if
//! it is worth it. If an edge cuts the file, its facts are added as they are, and the tile is for later.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, new_null_array},
    datatypes::{Field, Schema},
};
use datafusion::{
    dataframe::DataFrame,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::ExecutionPlan,
};
use futures::{
    FutureExt, TryStreamExt,
    future::{BoxFuture, join_all},
    join,
};
use tokio::task::JoinSet;

use super::{
    budget::Budget,
    entity_facts::{Reader, ReaderTask, Seen},
    execution::file_context,
    file_tile::{FileReader, Piece, TiledFile, file_tile},
    operator::FactAccumulator,
    restricted::{apart_over, over, reads_apart},
    tasks::{blocking, ended, joined},
    tile_file::{self, TileHead},
    tile_piece::PieceInWork,
    tile_store::{TileStore, UnfinishedTiles},
    window::{TileMerger, WindowTile},
};
use crate::{
    error::{Error, Result},
    name::ContentId,
    numeric::NumberReader,
    scan::AsOfTable,
    storage::Location,
};

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

/// The tiles of a table while it is read.
pub(super) struct TableTiles {
    readers: Arc<Vec<Reader>>,
    /// By reader.
    mergers: Vec<Mutex<ReaderMerger>>,
    table: AsOfTable,
    files: Vec<TiledFile>,
    others: Vec<usize>,
    tasks: usize,
    store: Arc<TileStore>,
    /// How many parts of files are being read apart.
    reading: Arc<AtomicUsize>,
    /// Has something failed? Then what is still being read is of no use.
    has_failed: AtomicBool,
}

/// A file that has been read apart.
struct ReadFile {
    /// Its position, if it has to be read with others.
    left: Option<usize>,
    /// What is left to be done for its tile. Nothing waits for that.
    rest: Option<BoxFuture<'static, ()>>,
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
        let (store, reading, has_failed) = (Arc::new(TileStore::new(folder)), Arc::default(), AtomicBool::new(false));
        Some(Arc::new(Self { readers: readers.clone(), mergers, table, files, others, tasks, store, reading, has_failed }))
    }

    /// Loads tiles and reads files apart. Returns a plan of the facts that are left to be read together; `rows` are all facts of the
    /// table. What is left to be done for new tiles goes to `unfinished`.
    pub(super) async fn read(
        self: Arc<Self>,
        rows: &DataFrame,
        unfinished: &mut UnfinishedTiles,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (stored, missing) = (0..self.files.len()).partition(|&number| self.files[number].stored.is_some());
        // A file that is read apart is one task's for most of the time, so tiles are loaded meanwhile.
        // Both end before an error is told, so that neither holds memory when all is read again without tiles.
        let (unusable, left) = join!(self.load_stored(stored), self.read_apart(rows, missing, unfinished));
        let mut together = self.others.clone();
        together.extend(left?);
        together.extend(self.read_apart(rows, unusable?, unfinished).await?);
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
            match joined(done) {
                Ok(number) => unusable.extend(number),
                Err(error) => return self.failed(error, running).await,
            }
        }
        unusable.sort_unstable();
        Ok(unusable)
    }

    /// Reads files one by one, several at once. Returns the positions of the files that were not read. The tiles of the last files may
    /// still be unfinished.
    async fn read_apart(
        self: &Arc<Self>,
        rows: &DataFrame,
        missing: Vec<usize>,
        unfinished: &mut UnfinishedTiles,
    ) -> Result<Vec<usize>> {
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
            // A file whose tile is unfinished takes memory and a core as one that is read.
            while running.len() + unfinished.count() < self.tasks
                && let Some((number, partitions)) = waiting.next()
            {
                if self.store.wasted_facts() > facts / WASTED_PART {
                    left.push(self.files[number].position);
                    continue;
                }
                running.spawn(read_file(self.clone(), number, plan.clone(), context.clone(), partitions));
            }
            if running.is_empty() && waiting.as_slice().is_empty() {
                break;
            }
            tokio::select! {
                Some(done) = running.join_next() => match joined(done) {
                    Ok(ReadFile { left: position, rest }) => {
                        left.extend(position);
                        rest.into_iter().for_each(|rest| unfinished.start(rest));
                    }
                    Err(error) => return self.failed(error, running).await,
                },
                true = unfinished.next() => {}
                else => break,
            }
        }
        Ok(left)
    }

    /// Ends these tasks after an error of one of them, so that they hold no memory when all is read again without tiles.
    async fn failed<T, U: 'static>(&self, error: Error, running: JoinSet<Result<U>>) -> Result<T> {
        self.has_failed.store(true, Ordering::Relaxed);
        ended(running).await;
        Err(error)
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
    let Ok(Some(bytes)) = tiles.store.get(&stored.name).await else { return Ok(Some(number)) };
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

/// Reads a file apart, and adds its tile, or its facts if an edge cuts it.
async fn read_file(
    tiles: Arc<TableTiles>,
    number: usize,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    partitions: Range<usize>,
) -> Result<ReadFile> {
    let (file, store) = (tiles.files[number].clone(), tiles.store.clone());
    let budget = Arc::new(tiles.budget());
    let new_reader = |(reader, level): (&Reader, &usize)| Ok(Arc::new(FileReader::new(reader, *level, &budget)?));
    let readers: Vec<Arc<FileReader>> = tiles.readers.iter().zip(&file.levels).map(new_reader).collect::<Result<_>>()?;
    let mut running = JoinSet::new();
    for partition in partitions {
        let stream = plan.execute(partition, context.clone())?;
        running.spawn(read_piece(tiles.clone(), PieceInWork::new(&readers, &budget), file.is_cut, stream));
    }
    let mut pieces = Some(Vec::new());
    while let Some(done) = running.join_next().await {
        let piece = match joined(done) {
            Ok(piece) => piece,
            Err(error) => return tiles.failed(error, running).await,
        };
        pieces = pieces.zip(piece).map(|(mut pieces, piece)| {
            pieces.push(piece);
            pieces
        });
    }
    let found = async move {
        match pieces {
            Some(pieces) => {
                join_all(pieces.into_iter().map(PieceInWork::finished)).await.into_iter().collect::<Result<Vec<_>>>().map(Some)
            }
            None => Ok(None),
        }
    };
    // The memory of the readers is released with them.
    let held = budget.another();
    if file.is_cut {
        // Its facts have been added as they are, so the result needs no tile. What fails for the tile is no error.
        let rest = async move {
            let own = file.clone();
            let made = match found.await {
                Ok(Some(found)) => blocking(move || file_tile(&readers, found, &own)).await.unwrap_or(None),
                _ => None,
            };
            if let Some(rest) = store.rest(file, made, held) {
                rest.await;
            }
        };
        return Ok(ReadFile { left: None, rest: Some(rest.boxed()) });
    }
    let (position, own) = (file.position, file.clone());
    let Some(found) = found.await? else { return Ok(ReadFile { left: Some(position), rest: None }) };
    let made = blocking(move || tiles.made(&readers, found, &own, &budget)).await?;
    // Without a tile nothing was added: the file holds values that do not come back, or its statistics are wrong.
    let left = made.is_none().then_some(position);
    Ok(ReadFile { left, rest: store.rest(file, made, held) })
}

impl TableTiles {
    /// Memory for a tile while it is added; it is released when this is dropped.
    fn budget(&self) -> Budget {
        self.readers[0].shared.budget.another()
    }

    /// Makes the tile of a file and adds it. Returns its bytes, and whether they are worth being stored.
    fn made(
        &self,
        readers: &[Arc<FileReader>],
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
}

/// Counts a part of a file while it is read.
struct Reading(Arc<AtomicUsize>);

impl Reading {
    fn of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads a part of a file for its tile. If an edge cuts the file, its facts are also added as they are, and what fails for the tile alone is
/// no error: then there is no tile.
async fn read_piece(
    tiles: Arc<TableTiles>,
    piece: PieceInWork,
    is_cut: bool,
    stream: SendableRecordBatchStream,
) -> Result<Option<PieceInWork>> {
    let mut piece = Some(piece);
    let read = read_facts(&tiles, &mut piece, is_cut, stream).await;
    match (read, piece) {
        (Ok(true), piece) => Ok(piece),
        (Ok(false), None) => Ok(None),
        (Err(error), None) => Err(error),
        (read, Some(piece)) => {
            piece.ended().await;
            read.map(|_| None)
        }
    }
}

/// Adds the facts of a part of a file. Returns whether all have been read.
async fn read_facts(
    tiles: &TableTiles,
    piece: &mut Option<PieceInWork>,
    is_cut: bool,
    mut stream: SendableRecordBatchStream,
) -> Result<bool> {
    let reading = Reading::of(&tiles.reading);
    let whole = if is_cut { tiles.readers.as_slice() } else { &[] };
    let mut direct: Vec<ReaderTask<'_>> = whole.iter().map(ReaderTask::new).collect();
    while let Some(batch) = stream.try_next().await? {
        if tiles.has_failed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if let Some(own) = piece {
            let has_idle_core = reading.0.load(Ordering::Relaxed) < tiles.tasks;
            match own.add(batch.clone(), has_idle_core).await {
                Err(error) if !is_cut => return Err(error),
                Err(_) => *piece = None,
                Ok(()) => {}
            }
        }
        direct.iter_mut().try_for_each(|task| task.add(batch.clone()))?;
    }
    direct.into_iter().try_for_each(ReaderTask::finish)?;
    Ok(true)
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
