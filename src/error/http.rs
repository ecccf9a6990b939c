//! Errors of the HTTP clients of object stores: their kind, and what went wrong.
//! Without a flag for a remote store (`aws`, `azure`, `gcp`) there is no such client and no such error.

use std::error::Error as StdError;

use super::foreign::Class;

/// What went wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(feature = "aws", feature = "azure", feature = "gcp")),
    allow(dead_code, reason = "only an HTTP client fails this way")
)]
pub(crate) enum HttpFault {
    /// The store did not answer in time.
    TimedOut,
    /// No connection was made.
    Unreachable,
    /// Anything else.
    Other,
}

/// The fault and the class of an error of an HTTP client; `None` for any other error.
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
pub(crate) fn of_http(error: &(dyn StdError + 'static)) -> Option<(HttpFault, Class)> {
    use object_store::client::{HttpError, HttpErrorKind};

    use super::ErrorKind::Unavailable;

    Some(match error.downcast_ref::<HttpError>()?.kind() {
        HttpErrorKind::Timeout => (HttpFault::TimedOut, Class::passing(Unavailable)),
        HttpErrorKind::Connect => (HttpFault::Unreachable, Class::passing(Unavailable)),
        HttpErrorKind::Request | HttpErrorKind::Interrupted => (HttpFault::Other, Class::passing(Unavailable)),
        _ => (HttpFault::Other, Class::lasting(Unavailable)),
    })
}

#[cfg(not(any(feature = "aws", feature = "azure", feature = "gcp")))]
pub(crate) fn of_http(_: &(dyn StdError + 'static)) -> Option<(HttpFault, Class)> {
    None
}
