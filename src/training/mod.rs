//! Training data: matrices of features and a label from a materialization, and training sets over a spine.

mod dataset;
mod training_set;

pub use dataset::Dataset;
pub(crate) use training_set::training_set;
