//! Errors on their way through the query engine and the Parquet reader, and back.
//! An error of this library that travels through another one comes back as itself.

use std::sync::Arc;

use arrow::error::ArrowError;
use datafusion::{
    common::{Column, SchemaError},
    error::DataFusionError,
};
use parquet::errors::ParquetError;

use super::{Error, travelling::Travelling};

impl From<DataFusionError> for Error {
    /// Gives back the error of this library that travelled through the query engine, if there is one. An unknown column of a
    /// query becomes [`Error::UnknownColumn`].
    fn from(error: DataFusionError) -> Self {
        if let DataFusionError::SchemaError(cause, _) = error.find_root()
            && let SchemaError::FieldNotFound { field, valid_fields } = cause.as_ref()
        {
            let shown = |column: &Column| if field.relation.is_some() { column.flat_name() } else { column.name.clone() };
            return Error::UnknownColumn {
                subject: "the query".into(),
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
                ParquetError::External(cause) => Error::from(DataFusionError::External(cause)),
                other => Error::Query(Box::new(DataFusionError::ParquetError(Box::new(other)))),
            },
            DataFusionError::ArrowError(inner, trace) => match *inner {
                ArrowError::ExternalError(cause) => Error::from(DataFusionError::External(cause)),
                other => Error::Query(Box::new(DataFusionError::ArrowError(Box::new(other), trace))),
            },
            // Tasks that share an input share its error, too.
            DataFusionError::Shared(shared) => match Arc::try_unwrap(shared) {
                Ok(inner) => Error::from(inner),
                Err(shared) => match Travelling::in_query(&shared) {
                    Some(copy) => copy.into(),
                    None => Error::Query(Box::new(DataFusionError::Shared(shared))),
                },
            },
            other => Error::Query(Box::new(other)),
        }
    }
}

fn holds_own(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::External(inner) => inner.is::<Error>(),
        DataFusionError::ParquetError(inner) => matches!(inner.as_ref(), ParquetError::External(inner) if inner.is::<Error>()),
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

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<ParquetError> for Error {
    fn from(error: ParquetError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<Error> for ParquetError {
    fn from(error: Error) -> Self {
        ParquetError::External(Box::new(error))
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Error::Storage(error)
    }
}
