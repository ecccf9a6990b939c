//! Backtests: for each cutoff, fit a model on what was visible before it, score the model after it, and report drift.
//! No scored label starts before its features' as-of plus the embargo.

mod folds;
mod gains;
mod learner;
#[cfg(feature = "linfa")]
mod linfa_learner;
mod metrics;
#[cfg(feature = "linfa")]
mod redundant;
mod run;
mod scoring;

pub use folds::{Fold, Folds};
pub(crate) use gains::gains;
pub use gains::{FeatureGains, Gain};
pub use learner::{Learner, Linear, MeanOnly, Model};
#[cfg(feature = "linfa")]
pub use linfa_learner::{LinearRegression, OnRedundant};
pub use metrics::Metrics;
pub(crate) use run::run;
pub use run::{Backtest, BacktestReport, FoldReport};
