//! Errors of a query as text, for those that happen in another process.

use std::error::Error as StdError;

use datafusion::error::DataFusionError;
use serde::{Deserialize, Serialize};

use crate::error::{Class, Error, ErrorKind, Travelling, of_chain};

/// What is told of an error.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// All of it.
    Error(Travelling),
    /// That there is more to it than its message.
    Kind { kind: ErrorKind, is_retryable: bool },
}

/// What [`error_of_text`] has to know of an error of a task beside its message: an error of this library that can be
/// copied, or else its kind. The errors of DataFusion, Arrow, Parquet, object stores and the operating system are known.
///
/// ```
/// use asof::{Error, ErrorKind, cluster::{error_of_text, error_text}};
/// use datafusion::error::DataFusionError;
///
/// let changed = Error::FileChanged { table: "trips".into(), path: "s3://b/f".into(), change: "has changed".into() };
/// let text = error_text(&DataFusionError::from(changed));
/// assert!(matches!(Error::from(error_of_text(&text, "executor e-1: has changed")), Error::FileChanged { .. }));
///
/// let full = DataFusionError::ResourcesExhausted("no memory for a sort".into());
/// let error = Error::from(error_of_text(&error_text(&full), "executor e-1: no memory for a sort"));
/// assert_eq!((error.kind(), error.to_string()), (ErrorKind::ResourceLimit, "executor e-1: no memory for a sort".into()));
/// ```
#[must_use]
pub fn error_text(error: &(dyn StdError + Send + Sync + 'static)) -> String {
    let Class { kind, is_retryable } = of_chain(error).unwrap_or(Class::lasting(ErrorKind::Unavailable));
    let told = Travelling::in_any(error).map_or(Told::Kind { kind, is_retryable }, Told::Error);
    // Writing text and numbers as JSON does not fail.
    serde_json::to_string(&told).unwrap_or_default()
}

/// The error that [`error_text`] was told, or [`Error::Runner`] with what was said and the kind of the error. If the text is another one, the
/// kind is [`ErrorKind::Unavailable`].
#[must_use]
pub fn error_of_text(text: &str, said: impl Into<Box<dyn StdError + Send + Sync>>) -> DataFusionError {
    let error = match serde_json::from_str(text) {
        Ok(Told::Error(copy)) => Error::from(copy),
        Ok(Told::Kind { kind, is_retryable }) => Error::Runner { cause: said.into(), kind, is_retryable },
        Err(_) => Error::Runner { cause: said.into(), kind: ErrorKind::Unavailable, is_retryable: false },
    };
    error.into()
}
