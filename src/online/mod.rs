//! Serving: features of a request, encoded with the states that training learned, and features of an entity by its key.
//! It learns nothing and recomputes nothing: what it answers is what the materialization holds, bit for bit.

mod serve;
mod value;

pub use serve::{FeatureRow, Online};
pub use value::Value;
