//! Writes what a service answers to Parquet files, on a thread of its own. A service never waits for it.
//! Nothing is compared here; see `replay`.

use std::{
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array},
    compute::{CastOptions, cast_with_options, concat_batches},
    datatypes::{Schema, SchemaRef},
};
use parquet::arrow::ArrowWriter;

use super::log_columns::{EXTENSION, KEY, LogEntries, OPEN, REQUEST, log_file_name, log_schema};
use crate::{
    error::{Error, Result},
    feature_set::{SetBody, select_inputs},
    name::{ContentId, SetName},
    online::{FeatureRow, Online},
    storage::chance,
    time::{AsOf, instant_type},
    value::Value,
    workspace::part_properties,
};

/// Rows that the thread gathers before it encodes them.
const GATHERED_ROWS: usize = 4_096;

/// When a log begins its next file, and how much waits to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedLogOptions {
    /// Rows of a file, at least 1. A crash loses the rows of the file that is being written, and those that wait.
    pub rows_per_file: u64,
    /// The size at which a file is closed, in bytes; rows are gathered, so files are somewhat larger.
    pub bytes_per_file: usize,
    /// Calls of `record_key` and `record_request` whose rows may wait to be written, at least 1. If more are waiting, the rows of a
    /// call are dropped and counted.
    pub queue: usize,
}

impl Default for ServedLogOptions {
    /// A million rows, 64 MiB, and 8,192 calls.
    fn default() -> Self {
        Self { rows_per_file: 1_000_000, bytes_per_file: 64 << 20, queue: 8_192 }
    }
}

/// What became of the rows of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recorded {
    /// They wait to be written.
    Queued,
    /// They were dropped and counted: the queue was full, or the thread has stopped because of an error, which
    /// [`ServedLog::finish`] returns.
    Dropped,
}

/// What a log has written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServedLogSummary {
    /// Rows in the files.
    pub rows: u64,
    /// Rows that were dropped.
    pub dropped: u64,
    /// The files, in the order in which they were written.
    pub files: Vec<PathBuf>,
}

/// A log of what an [`Online`] answers: Parquet files in a folder of this machine, to be compared later by
/// [`FeatureStore::verify_served_log`](crate::FeatureStore::verify_served_log).
///
/// Rows go through a bounded queue to a thread that writes them. Recording never waits: when the queue is full, rows are dropped and
/// counted. A file that is being written is called `<name>.parquet.open`, and gets its name, which ends in a hash of its content, when it is complete
/// and on the disk. So a
/// crash loses the rows of one file and those in the queue, and the other files can be read. Dropping a log completes its file and waits for that;
/// [`ServedLog::finish`] also says whether it worked.
///
/// A log belongs to one `Online`. A service that opens a newer materialization begins a log for it, in the same folder if it likes:
/// names never collide, also between processes. All methods take `&self`, and a log can be shared between threads.
///
/// ```no_run
/// # async fn serve(store: asof::FeatureStore, now: asof::AsOf) -> asof::Result<()> {
/// use asof::{Value, parity::ServedLog};
///
/// let online = store.online("zone_demand_v1").await?;
/// let log = ServedLog::create("served/zone_demand_v1", &online)?;
/// let key = [Value::Int(161)];
/// let row = online.get(&key)?;
/// let _ = log.record_key(&key, now, &row)?;
/// let written = log.finish()?;
/// println!("{} rows in {} files, {} dropped", written.rows, written.files.len(), written.dropped);
/// println!("{}", store.verify_served_log("served/zone_demand_v1").await?);
/// # Ok(())
/// # }
/// ```
pub struct ServedLog {
    set: SetName,
    asked: SchemaRef,
    is_keyed: bool,
    features: SchemaRef,
    schema: SchemaRef,
    id: String,
    as_of: AsOf,
    drawn_on: String,
    dropped: Arc<Dropped>,
    sender: Option<SyncSender<RecordBatch>>,
    writer: Option<JoinHandle<Result<Written>>>,
}

/// Rows that were not written.
#[derive(Debug, Default)]
struct Dropped {
    all: AtomicU64,
    /// Those that no file has counted yet.
    uncounted: AtomicU64,
}

/// The rows and the files that were written.
type Written = (u64, Vec<PathBuf>);

impl ServedLog {
    /// Begins a log in this folder, which is made if it does not exist.
    ///
    /// # Errors
    /// [`Error::Definition`] for a URL and for an empty path, [`Error::Io`] when the folder cannot be made, [`Error::System`] when no thread can be started.
    pub fn create(folder: impl AsRef<Path>, online: &Online) -> Result<Self> {
        Self::create_with(folder, online, ServedLogOptions::default())
    }

    /// As [`ServedLog::create`], with options.
    ///
    /// # Errors
    /// As [`ServedLog::create`]; and [`Error::Definition`] for options that are 0.
    pub fn create_with(folder: impl AsRef<Path>, online: &Online, options: ServedLogOptions) -> Result<Self> {
        let (folder, made) = (folder.as_ref().to_path_buf(), online.materialization());
        let set = made.manifest().set.clone();
        if options.rows_per_file == 0 || options.bytes_per_file == 0 || options.queue == 0 {
            return Err(Error::Definition {
                subject: format!("the log of what is served of `{set}`"),
                reason: "each of its options must be at least 1".into(),
            });
        }
        let shown = folder.display().to_string();
        if shown.is_empty() || shown.contains("://") {
            let reason = format!(
                "`{shown}` is no folder of this machine; a log is written to a local folder, and can be copied elsewhere"
            );
            return Err(Error::Definition { subject: format!("the log of what is served of `{set}`"), reason });
        }
        fs::create_dir_all(&folder).map_err(|cause| Error::Io { path: folder.clone(), cause })?;
        let columns = made.schema()?;
        let of = |names: &[String]| -> Result<SchemaRef> {
            let positions = names.iter().map(|name| Ok(columns.index_of(name)?)).collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(columns.project(&positions)?))
        };
        let features = of(&made.manifest().features)?;
        let (prefix, is_keyed, asked) = match &made.set()?.body {
            SetBody::Entities(entities) => (KEY, true, of(&entities.keys)?),
            SetBody::Rows(_) => (REQUEST, false, online.request_schema()?),
        };
        let schema = log_schema(prefix, &asked, &features);
        let drawn_on: Vec<String> = online.drawn_on().iter().map(|made| made.id().to_string()).collect();
        let (sender, receiver) = sync_channel(options.queue);
        let dropped = Arc::new(Dropped::default());
        let files = Files {
            folder,
            run: chance(),
            set: set.clone(),
            schema: schema.clone(),
            options,
            dropped: dropped.clone(),
            open: None,
            written: (0, Vec::new()),
        };
        let writer = std::thread::Builder::new().name("asof-served-log".into()).spawn(move || files.write_all(&receiver));
        let writer = writer.map_err(|cause| Error::System { subject: "a thread that writes served rows".into(), cause })?;
        Ok(Self {
            set,
            asked,
            is_keyed,
            features,
            schema,
            id: made.id().to_string(),
            as_of: made.as_of(),
            drawn_on: drawn_on.join(","),
            dropped,
            sender: Some(sender),
            writer: Some(writer),
        })
    }

    /// Records the answer for a key: what [`Online::get`] or [`Online::get_at`] gave, and the instant at which it was asked for.
    ///
    /// # Errors
    /// [`Error::Definition`] for a set of rows, for a key of another length, and for an instant before the as-of of the materialization;
    /// [`Error::ColumnType`] for a value that does not fit its
    /// key, and [`Error::UnknownColumn`] and [`Error::ColumnType`] for an answer of another set.
    pub fn record_key(&self, key: &[Value], at: AsOf, answer: &FeatureRow) -> Result<Recorded> {
        if !self.is_keyed {
            return Err(self.refused("is a set of rows, which has no keys: use `record_request`"));
        }
        if key.len() != self.asked.fields().len() {
            let (wanted, given) = (self.asked.fields().len(), key.len());
            return Err(self.refused(&format!("has a key of {wanted} columns, and {given} values were given")));
        }
        if at < self.as_of {
            let reason =
                format!("is served as of {}, and a request at {at} is earlier: give the instant of the request", self.as_of);
            return Err(self.refused(&reason));
        }
        let keys = key.iter().zip(self.asked.fields());
        let keys = keys.map(|(value, field)| value.to_array("the key", field.name(), field.data_type()));
        let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![at.micros()]).with_timezone("UTC"));
        self.record(at, keys.collect::<Result<_>>()?, &answer.batch()?)
    }

    /// Records the answers to requests: the rows that [`Online::encode`] was given, and what it answered.
    ///
    /// # Errors
    /// [`Error::Definition`] for a set of entities, and for another number of answers than requests; [`Error::UnknownColumn`] and
    /// [`Error::ColumnType`] when columns are missing or do not fit.
    pub fn record_request(&self, requests: &RecordBatch, answers: &RecordBatch) -> Result<Recorded> {
        if self.is_keyed {
            return Err(self.refused("is a set of entities, which is served by key: use `record_key`"));
        }
        if requests.num_rows() != answers.num_rows() {
            let (asked, answered) = (requests.num_rows(), answers.num_rows());
            return Err(self.refused(&format!("has {answered} answers for {asked} requests; give an answer for each")));
        }
        if requests.num_rows() == 0 {
            return Ok(Recorded::Queued);
        }
        let columns = self.asked.fields().iter().map(|field| {
            let given = requests.column_by_name(field.name());
            match given.filter(|given| given.data_type().is_integer() && field.data_type().is_integer()) {
                // As serving reads it: an integer that a key cannot hold is NULL, which matches nothing.
                Some(given) => {
                    Ok(cast_with_options(given, field.data_type(), &CastOptions { safe: true, ..Default::default() })?)
                }
                None => {
                    let wanted = Arc::new(Schema::new(vec![field.clone()]));
                    Ok(select_inputs("the request", requests, &wanted)?.column(0).clone())
                }
            }
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        self.record(new_null_array(&instant_type(), requests.num_rows()), columns, answers)
    }

    fn record(&self, at: ArrayRef, asked: Vec<ArrayRef>, answers: &RecordBatch) -> Result<Recorded> {
        let rows = at.len();
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows))) };
        let mut columns = vec![text(&self.id), text(&self.drawn_on), at];
        columns.extend(asked);
        for field in self.features.fields() {
            let unknown = || Error::unknown_column("the answer", field.name(), answers.schema_ref());
            let found = answers.column_by_name(field.name()).ok_or_else(unknown)?;
            if found.data_type() != field.data_type() || found.len() != rows {
                return Err(Error::ColumnType {
                    subject: "the answer".into(),
                    column: field.name().clone(),
                    found: format!("{} with {} values", found.data_type(), found.len()),
                    needed: format!("`{}` answers {} with {rows} values: record what it answered", self.set, field.data_type()),
                });
            }
            columns.push(found.clone());
        }
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let sent = match &self.sender {
            Some(sender) => sender.try_send(batch),
            None => Err(TrySendError::Disconnected(batch)),
        };
        Ok(match sent {
            Ok(()) => Recorded::Queued,
            Err(_) => {
                self.dropped.all.fetch_add(rows as u64, Ordering::Relaxed);
                self.dropped.uncounted.fetch_add(rows as u64, Ordering::Relaxed);
                Recorded::Dropped
            }
        })
    }

    /// How many rows were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.all.load(Ordering::Relaxed)
    }

    /// Writes what waits, completes the file, and says what was written. It blocks until then.
    ///
    /// # Errors
    /// [`Error::Io`] when a file could not be written; complete files stay. [`Error::Internal`] when the thread panicked.
    pub fn finish(mut self) -> Result<ServedLogSummary> {
        let dropped = self.dropped.clone();
        let written = self.close().unwrap_or_else(|| Ok((0, Vec::new())));
        let (rows, files) = written?;
        Ok(ServedLogSummary { rows, dropped: dropped.all.load(Ordering::Relaxed), files })
    }

    /// Ends the thread; `None` if that was done before.
    fn close(&mut self) -> Option<Result<Written>> {
        self.sender = None;
        let writer = self.writer.take()?;
        Some(writer.join().unwrap_or_else(|_| {
            Err(Error::Internal { subject: "writing served rows".into(), reason: "its thread panicked".into() })
        }))
    }

    fn refused(&self, what: &str) -> Error {
        Error::Definition { subject: format!("the log of what is served of `{}`", self.set), reason: format!("it {what}") }
    }
}

impl Drop for ServedLog {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.close() {
            tracing::warn!(%error, set = %self.set, "the log of what is served could not be completed");
        }
    }
}

impl fmt::Debug for ServedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServedLog({}, materialization {}, {} rows dropped)", self.set, self.id, self.dropped())
    }
}

/// The files of a log, on the thread that writes them.
struct Files {
    folder: PathBuf,
    /// What the names of this log's files have in common, and no other log's.
    run: String,
    set: SetName,
    schema: SchemaRef,
    options: ServedLogOptions,
    dropped: Arc<Dropped>,
    open: Option<OpenFile>,
    written: Written,
}

struct OpenFile {
    writer: ArrowWriter<File>,
    rows: u64,
    path: PathBuf,
    /// Its name once it is complete, without the hash of its content and the extension.
    stem: String,
}

impl Files {
    /// Writes what is received, until all senders are gone.
    fn write_all(mut self, receiver: &Receiver<RecordBatch>) -> Result<Written> {
        let (mut gathered, mut rows) = (Vec::new(), 0);
        for batch in receiver {
            rows += batch.num_rows();
            gathered.push(batch);
            if rows >= GATHERED_ROWS || rows as u64 >= self.options.rows_per_file {
                self.write(&concat_batches(&self.schema, &std::mem::take(&mut gathered))?)?;
                rows = 0;
            }
        }
        if rows > 0 {
            self.write(&concat_batches(&self.schema, &gathered)?)?;
        }
        self.complete()?;
        Ok(self.written)
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut start = 0;
        while start < rows.num_rows() {
            let mut file = match self.open.take() {
                Some(file) => file,
                None => self.begin(rows)?,
            };
            let room = usize::try_from(self.options.rows_per_file.saturating_sub(file.rows)).unwrap_or(usize::MAX);
            let count = room.min(rows.num_rows() - start);
            file.writer.write(&rows.slice(start, count))?;
            file.rows += count as u64;
            start += count;
            let bytes = file.writer.bytes_written() + file.writer.in_progress_size();
            let is_full = file.rows >= self.options.rows_per_file || bytes >= self.options.bytes_per_file;
            self.open = Some(file);
            if is_full {
                self.complete()?;
            }
        }
        Ok(())
    }

    fn begin(&self, rows: &RecordBatch) -> Result<OpenFile> {
        let stem = format!("served-{}-{:06}", self.run, self.written.1.len());
        let path = self.folder.join(format!("{stem}{EXTENSION}{OPEN}"));
        let file = File::create_new(&path).map_err(|cause| Error::Io { path: path.clone(), cause })?;
        let writer = ArrowWriter::try_new(file, self.schema.clone(), Some(part_properties(rows)))?;
        Ok(OpenFile { writer, rows: 0, path, stem })
    }

    /// Ends the open file, syncs it, and gives it its name.
    fn complete(&mut self) -> Result<()> {
        let Some(OpenFile { mut writer, rows, path, stem }) = self.open.take() else { return Ok(()) };
        let dropped = self.dropped.uncounted.swap(0, Ordering::Relaxed);
        LogEntries::written(self.set.as_str(), dropped).into_iter().for_each(|entry| writer.append_key_value_metadata(entry));
        let file = writer.into_inner()?;
        let named = || -> std::io::Result<PathBuf> {
            file.sync_all()?;
            let mut hasher = blake3::Hasher::new();
            std::io::copy(&mut File::open(&path)?, &mut hasher)?;
            let target = self.folder.join(log_file_name(&stem, ContentId::from_hash(hasher.finalize())));
            fs::rename(&path, &target)?;
            sync_folder(&self.folder)?;
            Ok(target)
        };
        let target = named().map_err(|cause| Error::Io { path: path.clone(), cause })?;
        self.written.0 += rows;
        self.written.1.push(target);
        Ok(())
    }
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Only Unix can open folders as files; elsewhere this is left to the file system.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
