//! Everything that can go wrong, as one typed enum.
//! It holds no recovery: each variant says what was wrong, where, and what the caller can do.

use std::{path::PathBuf, sync::Arc};

use datafusion::{
    common::{Column, SchemaError},
    error::DataFusionError,
};

use crate::time::AsOf;

/// The result of every fallible function of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was wrong, where, and what to do about it.
///
/// Messages name the table, file, column or row, so that they can be shown to a person as they are.
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
    #[error("{place} has no column `{column}`{}; it has: {}{}", other_case(.column, .known), listed(.known), near(.column, .known))]
    UnknownColumn {
        /// Where the column was looked for: a table, file, extract or feature set.
        place: String,
        /// The column that was asked for.
        column: String,
        /// The columns that exist.
        known: Vec<String>,
    },
    /// A column holds another type than its use needs.
    #[error("column `{column}` of {place} is {found}, but {needed}")]
    ColumnType {
        /// Where the column is.
        place: String,
        /// The column.
        column: String,
        /// The type that was found.
        found: String,
        /// What is needed, and how to get there.
        needed: String,
    },
    /// A file cannot be read as what it should be.
    #[error("file `{path}` cannot be read: {reason}")]
    UnreadableFile {
        /// The file.
        path: String,
        /// What the reader said.
        reason: String,
    },
    /// Source rows could not be loaded, and the load was not told to go on without them.
    #[error(
        "{count} of {} rows of the load into `{table}` cannot be read; {}the first is {first}; nothing was loaded, all of them \
         are listed in `{reject_file}`: {}", sum(.count, .rows), mostly(.common, .count), remedy(.count, .rows)
    )]
    RejectedRows {
        /// The table that was loaded.
        table: String,
        /// How many rows were rejected.
        count: u64,
        /// How many rows could be read.
        rows: u64,
        /// How many rows were rejected for the commonest reason.
        common: u64,
        /// File, line and reason of the first row that was rejected for the commonest reason.
        first: String,
        /// Where all of them are listed.
        reject_file: String,
    },
    /// Rows are not as declared, and the load was told to stop then.
    #[error(
        "{count} rows of the load into `{table}` are not as expected by `{expectation}`; the first is {first}; nothing was \
         loaded, the rows are in `{quarantine_file}`: mend the source, or declare the expectation with \
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
        "file `{path}` of table `{table}` {change} since it was registered; `repair` takes it in as it is now where the table is one of other writers' files, and a file that this store has loaded must come back from a copy"
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
    /// A definition of a table or feature set contradicts itself or the data.
    #[error("the definition of {subject} does not hold: {reason}")]
    Definition {
        /// Which table or feature set.
        subject: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Several things are wrong at once: a user can mend all of them before the next try.
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
    /// A row that is not visible at the as-of reached a reader. This is a defect, never a user's error.
    #[error(
        "leak: table `{table}` yielded a row that is not visible at {as_of}: {detail}; please report this as a defect of asof"
    )]
    Leak {
        /// The table.
        table: String,
        /// The as-of of the scan.
        as_of: AsOf,
        /// Which row and times.
        detail: String,
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
    /// A place on this machine that this process may read, and not write.
    #[error(
        "`{path}` cannot be written: {reason}; what is published below the root can be read and served all the same: let this \
         process write there, or let another one do the loading and materializing"
    )]
    ReadOnly {
        /// The place.
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
    /// The cache directory cannot be made or written.
    #[error(
        "the cache `{}` cannot be used: {reason}; give the store another directory with `StoreOptions::cache_dir`, or keep \
         the cache in memory with `StoreOptions::cache_in_memory` (a cache can be rebuilt, nothing is lost)", .path.display()
    )]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What the file system or the key-value store said.
        reason: String,
    },
    /// Two writers published the same version again and again.
    #[error("`{what}` was changed by other writers {attempts} times in a row; try again")]
    Contention {
        /// What was to be changed.
        what: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A question needs more memory than its session allows.
    #[error(
        "{operator} needs {needed} bytes more for {place}, and holds {held}: {reason}; raise `Resources::held_bytes` (or the \
         session's memory pool), or ask about fewer rows at once"
    )]
    Memory {
        /// The operator.
        operator: &'static str,
        /// The table, or the spine.
        place: String,
        /// Bytes that were asked for.
        needed: usize,
        /// Bytes that the operator held already.
        held: usize,
        /// What the memory pool said.
        reason: String,
    },
    /// A sum has more digits than its type holds.
    #[error(
        "a sum of column `{column}` of {place} has more digits than {result} holds; cast the column to a decimal of more digits, \
         or to a float"
    )]
    Overflow {
        /// The table.
        place: String,
        /// The column.
        column: String,
        /// The type of the sum.
        result: String,
    },
    /// An object store failed.
    #[error("object store: {0}")]
    Storage(#[from] object_store::Error),
    /// A local file could not be used.
    #[error("file `{}`: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A query could not be planned or run. The message is one line; the plan, if the engine showed it, is in the source.
    #[error("query: {}", in_one_line(.0))]
    Query(#[source] Box<DataFusionError>),
}

impl From<DataFusionError> for Error {
    /// Gives back the error of this library that travelled through the query engine, if there is one, and names a column that
    /// is not there.
    fn from(error: DataFusionError) -> Self {
        if let DataFusionError::SchemaError(cause, _) = error.find_root()
            && let SchemaError::FieldNotFound { field, valid_fields } = cause.as_ref()
        {
            let shown = |column: &Column| if field.relation.is_some() { column.flat_name() } else { column.name.clone() };
            return Error::UnknownColumn {
                place: "the query".into(),
                column: shown(field),
                known: valid_fields.iter().map(shown).collect(),
            };
        }
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Error>() {
                Ok(own) => *own,
                Err(other) => Error::Query(Box::new(DataFusionError::External(other))),
            },
            DataFusionError::Context(_, inner) if holds_own(&inner) => Error::from(*inner),
            DataFusionError::Diagnostic(_, inner) if holds_own(&inner) => Error::from(*inner),
            DataFusionError::ParquetError(inner) => match *inner {
                parquet::errors::ParquetError::External(cause) => Error::from(DataFusionError::External(cause)),
                other => Error::Query(Box::new(DataFusionError::ParquetError(Box::new(other)))),
            },
            DataFusionError::ArrowError(inner, trace) => match *inner {
                arrow::error::ArrowError::ExternalError(cause) => Error::from(DataFusionError::External(cause)),
                other => Error::Query(Box::new(DataFusionError::ArrowError(Box::new(other), trace))),
            },
            // Tasks that share an input share its error, too.
            DataFusionError::Shared(shared) => match Arc::try_unwrap(shared) {
                Ok(inner) => Error::from(inner),
                Err(shared) => shared_own(&shared).unwrap_or_else(|| Error::Query(Box::new(DataFusionError::Shared(shared)))),
            },
            other => Error::Query(Box::new(other)),
        }
    }
}

/// The error of this library inside one that several tasks hold, if it can be told a second time.
fn shared_own(error: &DataFusionError) -> Option<Error> {
    let own = match error {
        DataFusionError::Context(_, inner) => return shared_own(inner),
        DataFusionError::Shared(inner) => return shared_own(inner),
        DataFusionError::External(inner) => inner.downcast_ref::<Error>()?,
        DataFusionError::ParquetError(inner) => match inner.as_ref() {
            parquet::errors::ParquetError::External(inner) => inner.downcast_ref::<Error>()?,
            _ => return None,
        },
        _ => return None,
    };
    match own {
        Error::Leak { table, as_of, detail } => Some(Error::Leak { table: table.clone(), as_of: *as_of, detail: detail.clone() }),
        Error::Memory { operator, place, needed, held, reason } => {
            let (place, reason) = (place.clone(), reason.clone());
            Some(Error::Memory { operator, place, needed: *needed, held: *held, reason })
        }
        Error::Overflow { place, column, result } => {
            Some(Error::Overflow { place: place.clone(), column: column.clone(), result: result.clone() })
        }
        Error::FileChanged { table, path, change } => {
            Some(Error::FileChanged { table: table.clone(), path: path.clone(), change: change.clone() })
        }
        Error::UnreadableFile { path, reason } => Some(Error::UnreadableFile { path: path.clone(), reason: reason.clone() }),
        Error::InvalidTime { text, reason } => Some(Error::InvalidTime { text: text.clone(), reason: reason.clone() }),
        _ => None,
    }
}

fn holds_own(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::External(inner) => inner.is::<Error>(),
        DataFusionError::ParquetError(inner) => {
            matches!(inner.as_ref(), parquet::errors::ParquetError::External(inner) if inner.is::<Error>())
        }
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => holds_own(inner),
        _ => false,
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        match error {
            Error::Query(inner) => *inner,
            own => DataFusionError::External(Box::new(own)),
        }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<Error> for parquet::errors::ParquetError {
    fn from(error: Error) -> Self {
        parquet::errors::ParquetError::External(Box::new(error))
    }
}

impl Error {
    /// The unknown-column error, with the columns that a schema does have.
    pub(crate) fn unknown_column(place: impl Into<String>, column: &str, schema: &arrow::datatypes::Schema) -> Self {
        Error::UnknownColumn {
            place: place.into(),
            column: column.into(),
            known: schema.fields().iter().map(|f| f.name().clone()).collect(),
        }
    }

    /// One error out of those that were found: none, the only one, or all of them together.
    pub(crate) fn all(subject: &str, mut mistakes: Vec<Error>) -> Result<()> {
        match (mistakes.pop(), mistakes.is_empty()) {
            (None, _) => Ok(()),
            (Some(only), true) => Err(only),
            (Some(last), false) => {
                mistakes.push(last);
                Err(Error::Mistakes { subject: subject.into(), mistakes })
            }
        }
    }
}

/// Says that a column differs from the one that was asked for by its case alone.
fn other_case(column: &str, known: &[String]) -> String {
    let own = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let asked = own(column);
    match known.iter().map(|known| own(known)).find(|known| *known != asked && known.eq_ignore_ascii_case(&asked)) {
        Some(other) => {
            format!(" (but `{other}`: case counts, and SQL reads a name in lower case unless you quote it: \"{other}\")")
        }
        None => String::new(),
    }
}

/// The most that one line of an engine's error may hold.
const LONGEST_LINE: usize = 400;

/// What the engine found, without the plan that it shows below or the stages that it went through.
pub(crate) fn in_one_line(error: &DataFusionError) -> String {
    let text = error.find_root().strip_backtrace();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("the engine failed without a word");
    let is_cut = first.chars().count() > LONGEST_LINE || lines.next().is_some();
    let mut line: String = first.chars().take(LONGEST_LINE).collect();
    if is_cut {
        line.push_str(" ... (more in the error's source)");
    }
    line
}

fn numbered(mistakes: &[Error]) -> String {
    mistakes.iter().enumerate().map(|(i, mistake)| format!("({}) {mistake}", i + 1)).collect::<Vec<_>>().join("; ")
}

/// The column that was probably meant, if its letters are nearly those that were written.
fn near(column: &str, known: &[String]) -> String {
    let letters = |name: &str| {
        let own = name.rsplit('.').next().unwrap_or(name);
        own.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<Vec<char>>()
    };
    let own = letters(column);
    let nearest = known.iter().map(|name| (distance(&own, &letters(name)), name)).min();
    match nearest {
        Some((changes, name)) if changes <= own.len() / 4 && other_case(column, known).is_empty() => {
            format!("; did you mean `{name}`?")
        }
        _ => String::new(),
    }
}

/// How many letters must be put in, left out or replaced to make one word of the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn sum(a: &u64, b: &u64) -> u64 {
    a.saturating_add(*b)
}

fn mostly(common: &u64, count: &u64) -> String {
    if common == count { String::new() } else { format!("the commonest reason is that of {common} of them, of which ") }
}

/// What to do about rows that cannot be read. Where most of them cannot, leaving them out is no remedy.
fn remedy(count: &u64, rows: &u64) -> &'static str {
    match count > rows {
        true => {
            "mend the source, or tell the load how it is to be read (the zone of its times, `time_format`, `column_type`, \
             `CsvOptions`)"
        }
        false => "mend the source, or load the rest with `on_reject(OnReject::Skip)`",
    }
}

/// Names that a message lists, at most.
const LISTED: usize = 100;

fn listed(names: &[String]) -> String {
    match names.len() {
        0 => "nothing yet".into(),
        1..=LISTED => names.join(", "),
        count => format!("{} and {} more", names[..LISTED].join(", "), count - LISTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(column: &str, known: &[&str]) -> String {
        let known = known.iter().map(|name| (*name).to_owned()).collect();
        Error::UnknownColumn { place: "table `t`".into(), column: column.into(), known }.to_string()
    }

    #[test]
    fn the_column_that_was_meant_is_named() {
        let columns = ["reqId", "eventTime", "trip_distance", "n"];
        let case = told("eventtime", &columns);
        assert!(
            case.contains("(but `eventTime`: case counts") && case.ends_with("it has: reqId, eventTime, trip_distance, n"),
            "{case}"
        );
        assert!(told("t.eventtime", &["t.eventTime"]).contains("`eventTime`"));
        for near in ["trip_distanc", "tripdistance", "Trip Distance", "tirp_distance"] {
            assert!(told(near, &columns).ends_with("; did you mean `trip_distance`?"), "{}", told(near, &columns));
        }
        for far in ["fare", "m", "", "distance"] {
            assert!(told(far, &columns).ends_with("trip_distance, n"), "{}", told(far, &columns));
        }
        assert!(told("x", &[]).ends_with("it has: nothing yet"));
    }

    #[test]
    fn one_mistake_is_itself_and_several_are_counted() {
        let one = || Error::unknown_column("the extract", "x", &arrow::datatypes::Schema::empty());
        assert!(Error::all("`a_v1`", Vec::new()).is_ok());
        assert!(matches!(Error::all("`a_v1`", vec![one()]), Err(Error::UnknownColumn { .. })));
        let told = Error::all("feature set `a_v1`", vec![one(), one()]).unwrap_err().to_string();
        assert!(told.starts_with("feature set `a_v1` has 2 mistakes: (1) the extract has no column `x`"), "{told}");
        assert!(told.contains("; (2) the extract"), "{told}");
    }
}
