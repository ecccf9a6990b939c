//! Serving: features of a request, encoded with the states that training learned, and features of an entity by its key.
//! Nothing is learned or recomputed here: the answers are the bits that the materialization holds.

mod drawn;
mod entities;
mod feature_row;
mod read_counts;
mod serve;

pub use feature_row::FeatureRow;
pub use serve::Online;
