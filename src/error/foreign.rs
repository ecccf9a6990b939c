//! What errors of other libraries mean to a caller: their kind, and whether trying again can help.
//! Texts are not read here; where a library tells a status only as text, `storage::failure` reads it.

use std::{
    error::Error as StdError,
    io::{self, ErrorKind as IoKind},
};

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use object_store::Error as StoreError;
use parquet::errors::ParquetError;
use tokio::task::JoinError;

use super::{Error, ErrorKind, http::of_http};

/// What an error means to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) kind: ErrorKind,
    pub(crate) is_retryable: bool,
}

impl Class {
    /// Trying again leads to the same error.
    pub(crate) const fn lasting(kind: ErrorKind) -> Self {
        Self { kind, is_retryable: false }
    }

    /// Trying again can help.
    pub(crate) const fn passing(kind: ErrorKind) -> Self {
        Self { kind, is_retryable: true }
    }
}

/// The cause of a request that an object store failed, as it may be shown: without credentials.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {said}; {advice}")]
pub(crate) struct StoreFailure {
    pub(crate) url: String,
    pub(crate) said: String,
    pub(crate) advice: &'static str,
    pub(crate) class: Class,
}

pub(super) fn of_store(error: &StoreError) -> Class {
    match error {
        StoreError::NotFound { .. } => Class::lasting(ErrorKind::NotFound),
        StoreError::AlreadyExists { .. } | StoreError::NotModified { .. } => Class::lasting(ErrorKind::Conflict),
        // The object has changed since it was looked at.
        StoreError::Precondition { .. } => Class::passing(ErrorKind::Conflict),
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Class::lasting(ErrorKind::Unavailable),
        StoreError::InvalidPath { .. }
        | StoreError::NotSupported { .. }
        | StoreError::NotImplemented { .. }
        | StoreError::UnknownConfigurationKey { .. } => Class::lasting(ErrorKind::InvalidInput),
        StoreError::JoinError { .. } => Class::lasting(ErrorKind::Internal),
        StoreError::Generic { source, .. } => of_chain(source.as_ref()).unwrap_or(Class::lasting(ErrorKind::Unavailable)),
        _ => Class::lasting(ErrorKind::Unavailable),
    }
}

pub(super) fn of_io(error: &io::Error) -> Class {
    if let Some(known) = error.get_ref().and_then(|inner| of_chain(inner)) {
        return known;
    }
    match error.kind() {
        IoKind::NotFound | IoKind::NotADirectory => Class::lasting(ErrorKind::NotFound),
        IoKind::AlreadyExists | IoKind::DirectoryNotEmpty => Class::lasting(ErrorKind::Conflict),
        IoKind::InvalidInput | IoKind::InvalidFilename | IoKind::IsADirectory | IoKind::Unsupported => {
            Class::lasting(ErrorKind::InvalidInput)
        }
        IoKind::InvalidData | IoKind::UnexpectedEof => Class::lasting(ErrorKind::Corrupt),
        IoKind::StorageFull | IoKind::QuotaExceeded | IoKind::FileTooLarge | IoKind::OutOfMemory => {
            Class::lasting(ErrorKind::ResourceLimit)
        }
        IoKind::Interrupted
        | IoKind::TimedOut
        | IoKind::WouldBlock
        | IoKind::ResourceBusy
        | IoKind::BrokenPipe
        | IoKind::ConnectionRefused
        | IoKind::ConnectionReset
        | IoKind::ConnectionAborted
        | IoKind::NotConnected
        | IoKind::HostUnreachable
        | IoKind::NetworkUnreachable
        | IoKind::NetworkDown
        | IoKind::StaleNetworkFileHandle => Class::passing(ErrorKind::Unavailable),
        _ => Class::lasting(ErrorKind::Unavailable),
    }
}

pub(super) fn of_engine(error: &DataFusionError) -> Class {
    match error {
        DataFusionError::ArrowError(cause, _) => of_arrow(cause),
        DataFusionError::ParquetError(cause) => of_parquet(cause),
        DataFusionError::ObjectStore(cause) => of_store(cause),
        DataFusionError::IoError(cause) => of_io(cause),
        // A table provider of the program's own.
        DataFusionError::External(cause) => of_chain(cause.as_ref()).unwrap_or(Class::lasting(ErrorKind::Unavailable)),
        DataFusionError::Context(_, cause) | DataFusionError::Diagnostic(_, cause) => of_engine(cause),
        DataFusionError::Shared(cause) => of_engine(cause),
        DataFusionError::Collection(causes) => causes.first().map_or(Class::lasting(ErrorKind::InvalidInput), of_engine),
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_)
        // A value that a function cannot take, a number divided by zero.
        | DataFusionError::Execution(_) => Class::lasting(ErrorKind::InvalidInput),
        DataFusionError::ResourcesExhausted(_) => Class::lasting(ErrorKind::ResourceLimit),
        DataFusionError::Internal(_)
        | DataFusionError::ExecutionJoin(_)
        | DataFusionError::Substrait(_)
        | DataFusionError::Ffi(_) => Class::lasting(ErrorKind::Internal),
    }
}

fn of_arrow(error: &ArrowError) -> Class {
    match error {
        ArrowError::ExternalError(cause) => of_chain(cause.as_ref()).unwrap_or(Class::lasting(ErrorKind::Unavailable)),
        ArrowError::IoError(_, cause) => of_io(cause),
        ArrowError::MemoryError(_) | ArrowError::OffsetOverflowError(_) => Class::lasting(ErrorKind::ResourceLimit),
        // Values that cannot be cast, compared or computed with.
        _ => Class::lasting(ErrorKind::InvalidInput),
    }
}

fn of_parquet(error: &ParquetError) -> Class {
    match error {
        ParquetError::External(cause) => of_chain(cause.as_ref()).unwrap_or(Class::lasting(ErrorKind::Corrupt)),
        _ => Class::lasting(ErrorKind::Corrupt),
    }
}

/// The class of the first error in a chain that is known here.
pub(crate) fn of_chain(error: &(dyn StdError + 'static)) -> Option<Class> {
    let mut next = Some(error);
    while let Some(cause) = next {
        let known = None
            .or_else(|| cause.downcast_ref::<Error>().map(Error::class))
            .or_else(|| cause.downcast_ref::<StoreFailure>().map(|failure| failure.class))
            .or_else(|| cause.downcast_ref().map(of_store))
            .or_else(|| of_http(cause).map(|(_, class)| class))
            .or_else(|| cause.downcast_ref().map(of_io))
            .or_else(|| cause.downcast_ref().map(of_engine))
            .or_else(|| cause.downcast_ref().map(of_arrow))
            .or_else(|| cause.downcast_ref().map(of_parquet))
            .or_else(|| cause.downcast_ref::<JoinError>().map(|_| Class::lasting(ErrorKind::Internal)));
        if known.is_some() {
            return known;
        }
        next = cause.source();
    }
    None
}
