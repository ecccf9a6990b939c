//! Serving: features of a request, encoded with the states that training learned, and features of an entity by its key.
//! It learns nothing and recomputes nothing: what it answers is what the materialization holds, bit for bit.

mod decimal;
mod serve;
mod value;
mod value_arrow;

pub use decimal::Decimal;
pub use serve::{FeatureRow, Online};
pub use value::Value;
