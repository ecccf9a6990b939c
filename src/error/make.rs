//! Errors that several modules make in the same way.

use datafusion::error::DataFusionError;

use super::{Error, Result, text::READING};

impl Error {
    /// The unknown-column error, with the columns that a schema does have.
    pub(crate) fn unknown_column(subject: impl Into<String>, column: &str, schema: &arrow::datatypes::Schema) -> Self {
        Error::UnknownColumn {
            subject: subject.into(),
            column: column.into(),
            known: schema.fields().iter().map(|f| f.name().clone()).collect(),
        }
    }

    /// The error with the place where it was made, such as a feature set or one of its features.
    pub(crate) fn in_place(self, place: &str) -> Self {
        let within = |subject: String| format!("{place}: {subject}");
        match self {
            Error::UnknownColumn { subject, column, known } => Error::UnknownColumn { subject: within(subject), column, known },
            Error::ColumnType { subject, column, found, needed } => {
                Error::ColumnType { subject, column, found, needed: format!("{needed} ({place})") }
            }
            Error::Definition { subject, reason } => Error::Definition { subject: within(subject), reason },
            Error::Volatile { subject, function } => Error::Volatile { subject: within(subject), function },
            other => other,
        }
    }

    /// A step of a set that an error has stopped.
    pub(crate) fn step(set: impl Into<String>, step: impl Into<String>, cause: Error) -> Self {
        let step = step.into();
        let reason = match &cause {
            // The message names the step already.
            Error::Definition { subject, reason } if *subject == format!("`{step}`") => reason.clone(),
            other => other.to_string(),
        };
        Error::Step { set: set.into(), step, reason, cause: Some(Box::new(cause)) }
    }

    /// A temporary file that cannot be made, written or read.
    pub(crate) fn temporary_file(cause: std::io::Error) -> Self {
        Error::System { subject: "a temporary file".into(), cause }
    }

    /// What went wrong in the engine while it read or computed rows of `subject`.
    pub(crate) fn reading(subject: &str, cause: DataFusionError) -> Self {
        match Error::from(cause) {
            Error::Query(cause) => Error::Query(Box::new(cause.context(format!("{READING}{subject}")))),
            own => own,
        }
    }

    /// A task that did not end: it panicked, or the runtime was shut down first.
    pub(crate) fn lost_task(what: &str, cause: tokio::task::JoinError) -> Self {
        match cause.is_panic() {
            true => Error::Internal { subject: what.into(), reason: cause.to_string() },
            false => Error::System { subject: what.into(), cause: cause.into() },
        }
    }

    /// Nothing, the only one, or all of the mistakes that were found as one error.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mistake_is_itself_and_several_are_counted() {
        let one = || Error::unknown_column("the extract", "x", &arrow::datatypes::Schema::empty());
        assert!(Error::all("`a_v1`", Vec::new()).is_ok());
        assert!(matches!(Error::all("`a_v1`", vec![one()]), Err(Error::UnknownColumn { .. })));
        let message = Error::all("feature set `a_v1`", vec![one(), one()]).unwrap_err().to_string();
        assert!(message.starts_with("feature set `a_v1` has 2 mistakes: (1) the extract has no column `x`"), "{message}");
        assert!(message.contains("; (2) the extract"), "{message}");
    }
}
