//! Training data out of a materialization: matrices of features and a label.
//! It reads what was published and computes nothing new.

mod dataset;

pub use dataset::Dataset;
