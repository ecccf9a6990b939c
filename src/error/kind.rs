//! What a program does about an error: kinds that stay the same when variants are added, and whether to try again.
//! No error is made here.

use serde::{Deserialize, Serialize};

use super::{
    Error,
    foreign::{Class, of_engine, of_io, of_store},
};

/// What went wrong, as far as a program decides by it: which status a service answers with, who is told.
///
/// Variants of [`Error`] come and go; a program that handles kinds goes on working. See [`Error::kind`].
#[non_exhaustive]
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// What was asked for does not exist: a table, a version, a partition, a feature set, a materialization, a file.
    NotFound,
    /// The call is wrong, or the data that it brings: a name, a declaration, a definition, a query, a column, a source file.
    /// The caller must change one of them.
    InvalidInput,
    /// The call and the state of the store or of its sources do not go together: a name is taken, a table is in use, another
    /// writer was faster, a source has changed.
    Conflict,
    /// A stored file is damaged, missing, changed or of another format. It must be restored, repaired or registered again.
    Corrupt,
    /// Something that asof needs does not work or may not be used: a disk, a network, an object store, a cache.
    Unavailable,
    /// The call needs more memory, disk or numbers than it may use. Ask for less, or allow more.
    ResourceLimit,
    /// A row from the future reached a reader, and was held back. This is a defect of asof: please report it.
    Leak,
    /// Another defect of asof or of a library that it uses: please report it.
    Internal,
}

impl Error {
    /// What kind of error this is.
    ///
    /// [`Error::Shard`] and [`Error::Step`] have the kind of their cause (a step without one [`ErrorKind::InvalidInput`]),
    /// [`Error::Mistakes`] that of its mistakes ([`ErrorKind::InvalidInput`] if they differ), and [`Error::Query`],
    /// [`Error::Storage`], [`Error::Io`] and [`Error::System`] the kind of what the engine, the object store or the operating
    /// system said. [`Error::Runner`] has the kind that the same error has in one process.
    ///
    /// ```
    /// use asof::{AsOf, Error, ErrorKind};
    ///
    /// /// The status that a service answers with.
    /// fn status(error: &Error) -> u16 {
    ///     match error.kind() {
    ///         ErrorKind::NotFound => 404,
    ///         ErrorKind::InvalidInput => 400,
    ///         ErrorKind::Conflict => 409,
    ///         ErrorKind::Unavailable | ErrorKind::ResourceLimit => 503,
    ///         _ => 500,
    ///     }
    /// }
    ///
    /// let error = "yesterday".parse::<AsOf>().unwrap_err();
    /// assert_eq!((error.kind(), status(&error)), (ErrorKind::InvalidInput, 400));
    /// assert!(!error.is_retryable());
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.class().kind
    }

    /// Can the same call succeed later, although nobody changes the call, the data or a setting?
    ///
    /// True where the cause passes by itself: another writer was faster ([`Error::Contention`]), a source was being written
    /// ([`Error::SourceChanged`]), an object has changed since it was listed ([`Error::ObjectChanged`]), a network or an object
    /// store failed for a moment (time-outs, lost connections, answers 408, 429 and 5xx, after the client's own retries), the
    /// operating system interrupted a call. False for everything else, and where it is not known. Wait before trying again, and
    /// do not try for ever.
    pub fn is_retryable(&self) -> bool {
        self.class().is_retryable
    }

    /// Every variant is named, so that a new one must choose.
    pub(super) fn class(&self) -> Class {
        match self {
            Error::UnknownTable { .. } | Error::UnknownFeatureSet { .. } | Error::NoFiles { .. } | Error::NotFound { .. } => {
                Class::lasting(ErrorKind::NotFound)
            }
            Error::InvalidName { .. }
            | Error::InvalidTime { .. }
            | Error::InvalidLocation { .. }
            | Error::UnknownColumn { .. }
            | Error::ColumnType { .. }
            | Error::UnreadableFile { .. }
            | Error::RejectedRows { .. }
            | Error::Unexpected { .. }
            | Error::Anomalies { .. }
            | Error::Definition { .. }
            | Error::Statement { .. }
            | Error::Volatile { .. }
            | Error::Step { cause: None, .. }
            | Error::Overflow { .. } => Class::lasting(ErrorKind::InvalidInput),
            Error::AlreadyExists { .. }
            | Error::InUse { .. }
            | Error::ChangedSource { .. }
            | Error::ReadOtherwise { .. }
            | Error::MadeOtherwise { .. }
            | Error::CacheLocked { .. } => Class::lasting(ErrorKind::Conflict),
            Error::Contention { .. } | Error::SourceChanged { .. } | Error::ObjectChanged { .. } => {
                Class::passing(ErrorKind::Conflict)
            }
            Error::FileChanged { .. } | Error::Format { .. } | Error::Corrupt { .. } => Class::lasting(ErrorKind::Corrupt),
            Error::ReadOnly { .. } | Error::Cache { .. } => Class::lasting(ErrorKind::Unavailable),
            Error::Limit { .. } | Error::Memory { .. } | Error::ObjectTooLarge { .. } => Class::lasting(ErrorKind::ResourceLimit),
            Error::Leak { .. } => Class::lasting(ErrorKind::Leak),
            Error::Internal { .. } => Class::lasting(ErrorKind::Internal),
            Error::Shard { cause, .. } | Error::Step { cause: Some(cause), .. } => cause.class(),
            Error::Mistakes { mistakes, .. } => of_all(mistakes),
            Error::Storage(cause) => of_store(cause),
            Error::Io { cause, .. } | Error::System { cause, .. } => of_io(cause),
            Error::Query(cause) => of_engine(cause),
            &Error::Runner { kind, is_retryable, .. } => Class { kind, is_retryable },
        }
    }
}

fn of_all(mistakes: &[Error]) -> Class {
    let kind = mistakes.first().map(Error::kind).filter(|kind| mistakes.iter().all(|mistake| mistake.kind() == *kind));
    Class { kind: kind.unwrap_or(ErrorKind::InvalidInput), is_retryable: mistakes.iter().all(Error::is_retryable) }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io, sync::Arc};

    use datafusion::error::DataFusionError;
    use object_store::client::{HttpError, HttpErrorKind};

    use super::*;
    use crate::error::StoreFailure;

    fn io_error(cause: io::Error) -> Error {
        Error::Io { path: "x".into(), cause }
    }

    fn store_error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: source.into() }
    }

    fn http(kind: HttpErrorKind) -> object_store::Error {
        store_error(HttpError::new(kind, io::Error::other("gone")))
    }

    fn failure(class: Class) -> object_store::Error {
        store_error(StoreFailure { url: "s3://lab/x".into(), said: "503".into(), advice: "try again", class })
    }

    fn unknown_table() -> Error {
        Error::UnknownTable { table: "t".into(), known: Vec::new() }
    }

    fn contention() -> Error {
        Error::Contention { subject: "table `t`".into(), attempts: 10 }
    }

    fn shard(cause: Error) -> Error {
        Error::Shard { table: "t".into(), shard: 0, count: 2, files: Vec::new(), cause: Box::new(cause) }
    }

    fn step(cause: Error) -> Error {
        Error::step("taxi_v1", "standardize", cause)
    }

    fn mistakes(mistakes: Vec<Error>) -> Error {
        Error::Mistakes { subject: "feature set `a_v1`".into(), mistakes }
    }

    fn query(cause: DataFusionError) -> Error {
        Error::Query(Box::new(cause))
    }

    #[test]
    fn kinds_come_from_what_an_error_holds() {
        use ErrorKind::{Conflict, Corrupt, Internal, InvalidInput, NotFound, ResourceLimit, Unavailable};
        let wrong_name = || Error::InvalidName { what: "table", value: "-".into(), reason: "it is empty".into() };
        let shared = DataFusionError::Shared(Arc::new(DataFusionError::External(Box::new(contention()))));
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let cases = [
            (shard(contention()), Conflict, true),
            (shard(unknown_table()), NotFound, false),
            (step(Error::temporary_file(io::Error::from(io::ErrorKind::StorageFull))), ResourceLimit, false),
            (step(contention()), Conflict, true),
            (step(wrong_name()), InvalidInput, false),
            (mistakes(vec![unknown_table(), unknown_table()]), NotFound, false),
            (mistakes(vec![unknown_table(), wrong_name()]), InvalidInput, false),
            (query(shared), Conflict, true),
            (query(DataFusionError::ResourcesExhausted("no memory".into())), ResourceLimit, false),
            (query(DataFusionError::Plan("no".into()).context("planning")), InvalidInput, false),
            (query(DataFusionError::Internal("no".into())), Internal, false),
            (query(DataFusionError::ObjectStore(Box::new(http(HttpErrorKind::Timeout)))), Unavailable, true),
            (query(parquet::errors::ParquetError::EOF("short".into()).into()), Corrupt, false),
            (http(HttpErrorKind::Connect).into(), Unavailable, true),
            (http(HttpErrorKind::Decode).into(), Unavailable, false),
            (failure(Class::passing(Unavailable)).into(), Unavailable, true),
            (failure(Class::lasting(NotFound)).into(), NotFound, false),
            (store_error("no idea").into(), Unavailable, false),
            (io_error(io::Error::from(io::ErrorKind::Interrupted)), Unavailable, true),
            (io_error(io::Error::from(io::ErrorKind::PermissionDenied)), Unavailable, false),
            (io_error(full), ResourceLimit, false),
            // A local store's client and a reader of streams each put one error into the other.
            (io_error(io::Error::other(http(HttpErrorKind::Timeout))), Unavailable, true),
            (store_error(io::Error::from(io::ErrorKind::NotADirectory)).into(), NotFound, false),
            (io_error(io::Error::other(contention())), Conflict, true),
        ];
        for (error, kind, is_retryable) in cases {
            assert_eq!((error.kind(), error.is_retryable()), (kind, is_retryable), "{error:?}");
        }
    }

    #[test]
    fn each_text_is_printed_once() {
        let said = "the disk is gone";
        let cases = [
            io_error(io::Error::other(said)),
            store_error(said).into(),
            query(DataFusionError::Execution(said.into())),
            query(store_error(said).into()),
            shard(io_error(io::Error::other(said))),
            step(Error::temporary_file(io::Error::other(said))),
            mistakes(vec![io_error(io::Error::other(said)), contention()]),
        ];
        for error in cases {
            let mut printed = error.to_string();
            let mut cause = error.source();
            while let Some(here) = cause {
                printed.push_str(&here.to_string());
                cause = here.source();
            }
            assert_eq!(printed.matches(said).count(), 1, "{printed}");
        }
    }
}
