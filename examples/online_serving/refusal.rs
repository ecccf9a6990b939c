//! What a request is told when it cannot be answered: a status, and JSON that says what is wrong.
//! A client's mistake is a 4xx. A 5xx is ours.

use asof::{Error, ErrorKind};
use axum::{
    Json,
    extract::rejection::{BytesRejection, PathRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

/// An answer that is no answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: String,
    /// The column of the request that is wrong.
    column: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), column: None }
    }

    /// The request is wrong.
    pub(crate) fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// A column of the request is wrong.
    pub(crate) fn column(name: &str, error: impl Into<String>) -> Self {
        Self { column: Some(name.to_owned()), ..Self::bad(error) }
    }

    /// Which row of several it is about, counted from 0.
    pub(crate) fn of_row(self, number: usize) -> Self {
        Self { error: format!("row {number}: {}", self.error), ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = match self.column {
            Some(column) => json!({"error": self.error, "column": column}),
            None => json!({"error": self.error}),
        };
        (self.status, Json(body)).into_response()
    }
}

/// What the library refused.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            ErrorKind::Unavailable | ErrorKind::ResourceLimit => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let column = match &error {
            Error::UnknownColumn { column, .. } | Error::ColumnType { column, .. } => Some(column.clone()),
            _ => None,
        };
        Self { status, error: error.to_string(), column }
    }
}

/// What axum refused: a body that is too large, a path or a query that cannot be read.
macro_rules! refused_by_axum {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for Refusal {
            fn from(rejection: $rejection) -> Self {
                Self::new(rejection.status(), rejection.body_text())
            }
        }
    )*};
}

refused_by_axum!(BytesRejection, PathRejection, QueryRejection);
