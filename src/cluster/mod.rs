//! Plans that run in other processes: what a cluster needs of this library.
//!
//! [`FeatureStore::on`](crate::FeatureStore::on) gives a store whose plans go to a [`Runner`]. The package `asof-distributed` has one
//! for Apache Ballista. For another engine, which runs DataFusion's physical plans, implement [`Runner`], and give both of its sides a
//! `Codec` (flag `cluster`): the operators of this library are divided by entity, keep partitions one to one, and are planned anew
//! where they are decoded.

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
