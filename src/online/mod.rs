//! Serving: features of a request, encoded with the states that training learned, and features of an entity by its key.
//! Nothing is learned or recomputed here: the answers are the bits that the materialization holds.

mod drawn;
mod entities;
mod serve;

pub use serve::{FeatureRow, Online};
