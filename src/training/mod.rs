//! Training data: the rows of any feature set, as matrices, batches and files; splits; summaries; kept sets.
//!
//! | to | see |
//! |---|---|
//! | make a training set | [`FeatureStore::training_set`](crate::FeatureStore::training_set) |
//! | read it | [`TrainingSet::dataframe`], [`TrainingSet::batches`], [`TrainingSet::dataset`] |
//! | write it for other programs | [`TrainingSet::write_parquet`], [`TrainingSet::write_csv`] |
//! | split it | [`TrainingSet::split`], [`Split`] |
//! | look at it | [`TrainingSet::summary`] |
//! | keep it, and open it a year later | [`TrainingSet::keep`], [`FeatureStore::kept_training_set`](crate::FeatureStore::kept_training_set) |

mod dataset;
mod export;
mod keep;
mod make;
mod row_hash;
mod rows_of_set;
mod spine_features;
mod split;
mod summary;
mod summary_text;
mod training_set;

pub use crate::manifest::{SplitRule, SplitSide, TrainingManifest, TrainingOrigin};
pub use dataset::Dataset;
pub(crate) use keep::{kept_training_set, kept_training_sets};
pub use make::TrainingRows;
pub(crate) use make::training_set;
pub(crate) use spine_features::with_features;
pub use split::Split;
pub use summary::{ColumnRole, ColumnSummary, NumberSummary, Summary};
pub use training_set::TrainingSet;
