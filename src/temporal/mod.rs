//! The temporal operators: the newest visible fact of an entity, and aggregates over its trailing windows.
//! They see only facts that a scan has cut at an as-of, and their results do not depend on the order of rows.

mod aggregate;
mod exact_sum;
mod snapshot;

pub use aggregate::Aggregate;
pub(crate) use aggregate::{Measure, MeasureKind};
pub(crate) use exact_sum::ExactSum;
pub(crate) use snapshot::{Question, snapshot};
