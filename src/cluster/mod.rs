//! Plans that run in other processes: what a cluster needs of this library.

#[cfg(feature = "cluster")]
mod codec;
#[cfg(feature = "cluster")]
mod errors;
#[cfg(feature = "cluster")]
mod object_stores;

#[cfg(feature = "cluster")]
pub use codec::Codec;
#[cfg(feature = "cluster")]
pub use errors::{error_of_text, error_text};
#[cfg(feature = "cluster")]
pub use object_stores::object_stores;

pub use crate::engine::Runner;
