//! Errors of a running query that can be copied: one that several tasks share, and one that has happened in another process.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;
use serde::{Deserialize, Serialize};

use super::Error;

/// A copy of an error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Travelling {
    Leak { table: String, as_of: String, detail: String },
    Memory { operator: String, subject: String, needed: usize, held: usize, reason: String },
    Limit { subject: String, reason: String },
    Overflow { subject: String, column: String, result: String },
    FileChanged { table: String, path: String, change: String },
    UnreadableFile { path: String, reason: String },
    InvalidTime { text: String, reason: String },
}

/// The operators that reserve memory.
const OPERATORS: [&str; 6] = ["AsOfLookup", "AsOfWindow", "AsOfEntities", "ResolveVersions", "PruneFacts", "the query"];

impl Travelling {
    /// A copy of the error of this library in one of the engine, if there is one that can be copied.
    pub(crate) fn in_query(error: &DataFusionError) -> Option<Self> {
        match error {
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => Self::in_query(inner),
            DataFusionError::Shared(inner) => Self::in_query(inner),
            DataFusionError::External(inner) => Self::in_any(inner.as_ref()),
            DataFusionError::ParquetError(inner) => match inner.as_ref() {
                ParquetError::External(inner) => Self::in_any(inner.as_ref()),
                _ => None,
            },
            DataFusionError::ArrowError(inner, _) => Self::in_arrow(inner),
            _ => None,
        }
    }

    /// A copy of the error of this library that is this error, or within it.
    pub(crate) fn in_any(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<Self> {
        match error.downcast_ref::<Error>() {
            Some(Error::Query(inner)) => Self::in_query(inner),
            Some(own) => Self::of(own),
            None => match error.downcast_ref::<ArrowError>() {
                Some(inner) => Self::in_arrow(inner),
                None => Self::in_query(error.downcast_ref::<DataFusionError>()?),
            },
        }
    }

    fn in_arrow(error: &ArrowError) -> Option<Self> {
        match error {
            ArrowError::ExternalError(inner) => Self::in_any(inner.as_ref()),
            _ => None,
        }
    }

    fn of(error: &Error) -> Option<Self> {
        Some(match error {
            Error::Leak { table, as_of, detail } => {
                Self::Leak { table: table.clone(), as_of: as_of.clone(), detail: detail.clone() }
            }
            Error::Memory { operator, subject, needed, held, reason } => {
                let (operator, subject, reason) = ((*operator).to_owned(), subject.clone(), reason.clone());
                Self::Memory { operator, subject, needed: *needed, held: *held, reason }
            }
            Error::Limit { subject, reason } => Self::Limit { subject: subject.clone(), reason: reason.clone() },
            Error::Overflow { subject, column, result } => {
                Self::Overflow { subject: subject.clone(), column: column.clone(), result: result.clone() }
            }
            Error::FileChanged { table, path, change } => {
                Self::FileChanged { table: table.clone(), path: path.clone(), change: change.clone() }
            }
            Error::UnreadableFile { path, reason } => Self::UnreadableFile { path: path.clone(), reason: reason.clone() },
            Error::InvalidTime { text, reason } => Self::InvalidTime { text: text.clone(), reason: reason.clone() },
            _ => return None,
        })
    }
}

impl From<Travelling> for Error {
    fn from(copy: Travelling) -> Self {
        match copy {
            Travelling::Leak { table, as_of, detail } => Error::Leak { table, as_of, detail },
            Travelling::Memory { operator, subject, needed, held, reason } => {
                let operator = OPERATORS.into_iter().find(|known| *known == operator).unwrap_or("the query");
                Error::Memory { operator, subject, needed, held, reason }
            }
            Travelling::Limit { subject, reason } => Error::Limit { subject, reason },
            Travelling::Overflow { subject, column, result } => Error::Overflow { subject, column, result },
            Travelling::FileChanged { table, path, change } => Error::FileChanged { table, path, change },
            Travelling::UnreadableFile { path, reason } => Error::UnreadableFile { path, reason },
            Travelling::InvalidTime { text, reason } => Error::InvalidTime { text, reason },
        }
    }
}
