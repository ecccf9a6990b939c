//! Everything that can go wrong, as one typed enum.
//! An error is not handled here: each variant says what was wrong, where, and what the caller can do about it.

mod convert;
mod foreign;
mod http;
mod kind;
mod make;
mod text;
mod travelling;

use std::path::PathBuf;

use datafusion::error::DataFusionError;

pub use kind::ErrorKind;

#[cfg(feature = "cluster")]
pub(crate) use foreign::of_chain;
pub(crate) use foreign::{Class, StoreFailure};
pub(crate) use http::{HttpFault, of_http};
pub(crate) use text::{in_one_line, panic_text, parser_text};
#[cfg(feature = "cluster")]
pub(crate) use travelling::Travelling;

use self::text::{group_of, listed, near, numbered, other_case, remedy, sum};

/// The result of every fallible function of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was wrong, where, and what to do about it.
///
/// A message names the table, file, column or row, and says what to do; show it to people with `Display`. It is complete: where
/// another library's error is the cause, the message has that error's text, and `source()` returns nothing. A program that
/// prints an error and then its sources therefore prints each text once. The cause itself is a field of the variant:
/// [`Error::Query`], [`Error::Runner`], [`Error::Storage`], [`Error::Io`], [`Error::System`], [`Error::Step`], [`Error::Shard`],
/// [`Error::Mistakes`].
///
/// Programs that handle errors rather than show them ask [`Error::kind`] and [`Error::is_retryable`], or match on a variant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name of a table, column, feature set or materialization cannot be used.
    #[error("{what} `{value}` cannot be used: {reason}")]
    InvalidName {
        /// Which kind of name: "table", "feature set", ...
        what: &'static str,
        /// The name as it was given.
        value: String,
        /// Why it is refused.
        reason: String,
    },
    /// A text is not an instant, or an instant is out of range.
    #[error("`{text}` is not an instant: {reason}")]
    InvalidTime {
        /// The text as it was given.
        text: String,
        /// What is missing or wrong.
        reason: String,
    },
    /// A path, glob or URL cannot be opened.
    #[error("location `{location}`: {reason}")]
    InvalidLocation {
        /// The location as it was given, without credentials.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A location holds none of the files that were asked for.
    #[error("no {what} found at `{location}`; check the path or the glob")]
    NoFiles {
        /// What was looked for: "CSV, JSON or Parquet files", ...
        what: &'static str,
        /// Where.
        location: String,
    },
    /// No table of this name is registered.
    #[error("no table `{table}` in the catalog; it holds: {}", listed(.known))]
    UnknownTable {
        /// The name that was asked for.
        table: String,
        /// The tables that exist.
        known: Vec<String>,
    },
    /// No feature set of this name is registered.
    #[error("no feature set `{name}` is registered; registered are: {}", listed(.known))]
    UnknownFeatureSet {
        /// The name that was asked for.
        name: String,
        /// The feature sets that are registered.
        known: Vec<String>,
    },
    /// A table, file or feature set has no such column.
    #[error("{subject} has no column `{column}`{}; it has: {}{}", other_case(.column, .known), listed(.known), near(.column, .known))]
    UnknownColumn {
        /// Where the column was looked for: a table, file, extract or feature set.
        subject: String,
        /// The column that was asked for.
        column: String,
        /// The columns that exist.
        known: Vec<String>,
    },
    /// A column has another type than its use needs.
    #[error("column `{column}` of {subject} is {found}, but {needed}")]
    ColumnType {
        /// The table, file or query that has the column.
        subject: String,
        /// The column.
        column: String,
        /// The type that was found.
        found: String,
        /// What is needed, and how to get there.
        needed: String,
    },
    /// Something that was asked for by its name or number does not exist: a version of a table, a partition, a database, a
    /// materialization. Tables, feature sets and files have variants of their own.
    #[error("{subject} {reason}")]
    NotFound {
        /// What was asked, or asked for: "database `sales`".
        subject: String,
        /// What is missing, what there is instead, and what to do.
        reason: String,
    },
    /// Something of this name exists already, and is not the same.
    #[error("{subject} {reason}")]
    AlreadyExists {
        /// The table, partition, database or feature set.
        subject: String,
        /// What exists, and what to do.
        reason: String,
    },
    /// What would be changed or removed is in use by something else.
    #[error("{subject} {reason}")]
    InUse {
        /// The database, feature set or partition.
        subject: String,
        /// What uses it, and what to do first.
        reason: String,
    },
    /// There are more rows, entities, months or versions than one call takes.
    #[error("{subject} {reason}")]
    Limit {
        /// The query, load or table.
        subject: String,
        /// What the limit is, and how to ask for less or allow more.
        reason: String,
    },
    /// A file cannot be read as what it should be.
    #[error("file `{path}` cannot be read: {reason}")]
    UnreadableFile {
        /// The file.
        path: String,
        /// What the reader said.
        reason: String,
    },
    /// Source rows could not be loaded, and the load was not told to skip them.
    #[error(
        "{count} of {} rows of the load into `{table}` cannot be read; the first {}is {first}; nothing was loaded, all of them \
         are listed in `{reject_file}`: {}", sum(.count, .rows), group_of(.common, .count), remedy(.count, .rows)
    )]
    RejectedRows {
        /// The table that was loaded.
        table: String,
        /// How many rows were rejected.
        count: u64,
        /// How many rows could be read.
        rows: u64,
        /// How many rows were rejected for the most common reason.
        common: u64,
        /// File, line and reason of the first row that was rejected for the most common reason.
        first: String,
        /// Where all of them are listed.
        reject_file: String,
    },
    /// Rows are not as declared, and the load was told to stop then.
    #[error(
        "{count} rows of the load into `{table}` are not as expected by `{expectation}`; the first is {first}; nothing was \
         loaded, the rows are in `{quarantine_file}`: fix the source, or declare the expectation with \
         `OnViolation::Quarantine` or `OnViolation::Warn`"
    )]
    Unexpected {
        /// The table that was loaded.
        table: String,
        /// The expectation.
        expectation: String,
        /// How many rows break it.
        count: u64,
        /// File and line of the first one.
        first: String,
        /// Where the rows are: a Parquet file.
        quarantine_file: String,
    },
    /// Columns of source files seem to hold something other than their names say.
    #[error(
        "{count} columns of the files for `{table}` have anomalies, and nothing was loaded; the first: {first}. All are listed in \
         `{list_file}`. Fix the files, or, if they are right, load them as they are with \
         `Ingest::on_anomaly(OnAnomaly::Accept)`"
    )]
    Anomalies {
        /// The table that was to be loaded.
        table: String,
        /// The number of anomalies.
        count: usize,
        /// File, column, what was expected and what was found.
        first: String,
        /// Where all of them are listed: a CSV file.
        list_file: String,
    },
    /// A source is not what it was when its load began.
    #[error("source `{path}` {change} while it was loaded; nothing was loaded: load it again once nobody writes it")]
    SourceChanged {
        /// The file.
        path: String,
        /// What happened to it: "has changed", "has vanished".
        change: &'static str,
    },
    /// A source has the name of one that was loaded before, and other content.
    #[error(
        "source `{source_name}` of the load into `{table}` was loaded before with other content; nothing was loaded: replace the \
         older rows with `Ingest::on_changed_source(OnChangedSource::Replace)`, or, if it is another file that shares the name, \
         add its rows with `OnChangedSource::Append`"
    )]
    ChangedSource {
        /// The table.
        table: String,
        /// The name of the source.
        source_name: String,
    },
    /// A source was loaded before, some of its rows could not be read, and this load would read it in another way.
    #[error(
        "source `{source_name}` of the load into `{table}` was loaded before, without {rejected} rows that could not be read, and \
         this load reads it in another way; nothing was loaded: load it again as a whole with \
         `Ingest::on_changed_source(OnChangedSource::Replace)`, which takes its older rows out in the same commit"
    )]
    ReadOtherwise {
        /// The table.
        table: String,
        /// The name of the source.
        source_name: String,
        /// Its rows that were left out before.
        rejected: u64,
    },
    /// A file of a pinned table version is not what it was when it was registered.
    #[error(
        "file `{path}` of table `{table}` {change} since it was registered; if other writers write the table's files, run \
         `repair`, which registers the file as it is now; if this store loaded the file, restore it from a copy"
    )]
    FileChanged {
        /// The table.
        table: String,
        /// The file.
        path: String,
        /// What happened to it: "vanished", "has changed".
        change: String,
    },
    /// An object is not what it was when it was listed.
    #[error("object `{path}` {change} since it was listed; list its folder again and read what is there now")]
    ObjectChanged {
        /// The object.
        path: String,
        /// What happened to it: "vanished", "has changed", "has another length".
        change: &'static str,
    },
    /// An object is larger than all that a bulk read may hold in memory.
    #[error(
        "object `{path}` has {size} bytes, and a bulk read may hold {limit}; raise `ReadSettings::bytes_in_flight`, or use \
         `BulkReader::download_to`, which holds a range at a time"
    )]
    ObjectTooLarge {
        /// The object.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// What may be held, in bytes.
        limit: u64,
    },
    /// Something published was made by another definition, another engine or of other inputs than this program has, and what was asked
    /// for needs those that made it.
    #[error("{subject} {reason}")]
    MadeOtherwise {
        /// The materialization, with its id.
        subject: String,
        /// What is different, and what to do.
        reason: String,
    },
    /// A definition, a declaration or a query contradicts itself or the data.
    #[error("{subject}: {reason}")]
    Definition {
        /// The table, feature set, load or query.
        subject: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Several things are wrong at once, so that all of them can be fixed before the next try.
    #[error("{subject} has {} mistakes: {}", .mistakes.len(), numbered(.mistakes))]
    Mistakes {
        /// Which table or feature set.
        subject: String,
        /// What is wrong, two or more.
        mistakes: Vec<Error>,
    },
    /// A statement of SQL or of DDL cannot be understood or carried out.
    #[error("the statement `{statement}` {reason}")]
    Statement {
        /// How it begins.
        statement: String,
        /// What is wrong with it, and what to write.
        reason: String,
    },
    /// SQL whose answer would depend on something else than the facts and the as-of.
    #[error(
        "{subject} calls `{function}`, whose result changes from run to run; take the instant from the as-of or a request column"
    )]
    Volatile {
        /// Which query or feature set.
        subject: String,
        /// The function.
        function: String,
    },
    /// A row that is not visible at the as-of reached a reader. This is a defect of asof, never a user's error.
    #[error(
        "leak: table `{table}` yielded a row that is not visible at {as_of}: {detail}; please report this as a defect of asof"
    )]
    Leak {
        /// The table.
        table: String,
        /// The as-of of the scan, as [`AsOf`](crate::AsOf) is displayed.
        as_of: String,
        /// Which row and times.
        detail: String,
    },
    /// Something that must always hold did not, or a task panicked. This is a defect of asof or of a library that it uses.
    #[error("{subject} failed: {reason}; please report this as a defect of asof")]
    Internal {
        /// What was being done.
        subject: String,
        /// What was found.
        reason: String,
    },
    /// An encoder, row selection or learner failed or broke its contract.
    #[error("{step} of {set}: {reason}")]
    Step {
        /// The feature set.
        set: String,
        /// The encoder, row selection or learner.
        step: String,
        /// What went wrong.
        reason: String,
        /// The error that stopped it, which decides the kind; `None` if it refused its data or broke its contract.
        cause: Option<Box<Error>>,
    },
    /// A function or plan over a shard of a table failed.
    #[error("shard {shard} of {count} of table `{table}` (files: {}): {cause}", listed(.files))]
    Shard {
        /// The table.
        table: String,
        /// The shard, counting from 0.
        shard: usize,
        /// How many shards there are.
        count: usize,
        /// The files that the shard reads, whole or in part.
        files: Vec<String>,
        /// What went wrong.
        cause: Box<Error>,
    },
    /// A file under the store's root was written by another version of the format.
    #[error(
        "`{path}` has format {found}, this library reads and writes format {expected}; use the library version that wrote it, or another root"
    )]
    Format {
        /// The file.
        path: String,
        /// The version found.
        found: String,
        /// The version understood.
        expected: u32,
    },
    /// A file under the store's root does not hold what was published.
    #[error("`{path}` is damaged: {reason}")]
    Corrupt {
        /// The file.
        path: String,
        /// What does not fit, and what to do.
        reason: String,
    },
    /// This process may read a folder of this machine, but not write to it.
    #[error(
        "`{path}` cannot be written: {reason}; what is published below the root can still be read and served: let this process \
         write there, or load and materialize with another process"
    )]
    ReadOnly {
        /// The folder.
        path: String,
        /// What the file system said.
        reason: String,
    },
    /// The cache directory is held by another process.
    #[error(
        "the cache `{}` is held by another process; give this one a directory of its own with `StoreOptions::cache_dir` \
         (a cache can be rebuilt, the root can be shared)", .path.display()
    )]
    CacheLocked {
        /// The directory.
        path: PathBuf,
    },
    /// The cache directory cannot be made or written, or holds files that are no cache's.
    #[error(
        "the cache `{}` cannot be used: {reason}; name another directory, empty or new (a cache can be rebuilt, nothing is lost); \
         the store's own is set with `StoreOptions::cache_dir` or kept in memory with `StoreOptions::cache_in_memory`", .path.display()
    )]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What the file system or the key-value store said.
        reason: String,
    },
    /// Other writers published a new version before this one could, again and again.
    #[error("{subject} was changed by other writers {attempts} times in a row; try again")]
    Contention {
        /// What was to be changed: "table `trips`".
        subject: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A query needs more memory than its session allows.
    #[error(
        "{operator} needs {needed} bytes more for {subject}, and holds {held}: {reason}; raise `Resources::held_bytes` (or the \
         session's memory pool), or ask about fewer rows at once"
    )]
    Memory {
        /// The operator.
        operator: &'static str,
        /// The table, or the spine.
        subject: String,
        /// Bytes that were asked for.
        needed: usize,
        /// Bytes that the operator held already.
        held: usize,
        /// What the memory pool said.
        reason: String,
    },
    /// A sum has more digits than its type holds.
    #[error(
        "a sum of column `{column}` of {subject} has more digits than {result} holds; cast the column to a decimal of more digits, \
         or to a float"
    )]
    Overflow {
        /// The table.
        subject: String,
        /// The column.
        column: String,
        /// The type of the sum.
        result: String,
    },
    /// An object store failed.
    #[error("object store: {0}")]
    Storage(object_store::Error),
    /// A local file could not be used.
    #[error("file `{}`: {cause}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The operating system failed at something that is no file of the caller's: a temporary file, a thread, an upload.
    #[error("{subject}: {cause}")]
    System {
        /// What it failed at: "a temporary file".
        subject: String,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// A query could not be planned or run. The message is the first line of what the engine said; the engine's error has the
    /// rest, which may be a plan.
    #[error("query: {}", in_one_line(.0))]
    Query(Box<DataFusionError>),
    /// The engine that runs a store's queries elsewhere could not run one; see [`cluster`](crate::cluster).
    #[error("{cause}")]
    Runner {
        /// What that engine says.
        cause: Box<dyn std::error::Error + Send + Sync>,
        /// What [`Error::kind`] answers.
        kind: ErrorKind,
        /// What [`Error::is_retryable`] answers.
        is_retryable: bool,
    },
}
