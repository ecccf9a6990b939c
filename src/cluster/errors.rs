//! Errors of a query as text, for those that happen in another process.

use datafusion::error::DataFusionError;

use crate::error::{Error, Travelling};

/// The error of this library within one of a task, as text from which [`error_of_text`] makes it again. `None` for errors that say all
/// they have to say in their message.
///
/// ```
/// use asof::{Error, cluster::{error_of_text, error_text}};
/// use datafusion::error::DataFusionError;
///
/// let changed = Error::FileChanged { table: "trips".into(), path: "s3://b/f".into(), change: "has changed".into() };
/// let text = error_text(&DataFusionError::from(changed)).unwrap();
/// assert!(matches!(Error::from(error_of_text(&text).unwrap()), Error::FileChanged { .. }));
/// assert!(error_text(&DataFusionError::Execution("disk full".into())).is_none());
/// ```
#[must_use]
pub fn error_text(error: &DataFusionError) -> Option<String> {
    serde_json::to_string(&Travelling::in_query(error)?).ok()
}

/// The error that this text says; `None` for other text.
#[must_use]
pub fn error_of_text(text: &str) -> Option<DataFusionError> {
    serde_json::from_str::<Travelling>(text).ok().map(|error| Error::from(error).into())
}
