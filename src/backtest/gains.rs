//! What each feature adds to a backtest: what the metrics lose when it is left out.

use std::sync::Arc;

use super::{
    Backtest, BacktestReport,
    run::{mean_of, run_without_each},
};
use crate::{error::Result, feature_set::FeatureSet, workspace::Workspace};

/// A backtest with all features, and one without each of them. Its `Display` is a table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FeatureGains {
    /// The backtest with all features.
    pub all: BacktestReport,
    /// Each feature, and the backtest without it.
    pub without: Vec<(String, BacktestReport)>,
}

/// What the means over the folds lose without a feature. A positive number says that the feature helps.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Gain {
    /// How much larger R2 is with the feature.
    pub r2: f64,
    /// How much smaller the mean absolute error is with the feature, in the label's unit.
    pub mae: f64,
    /// How much smaller the root of the mean squared error is with the feature, in the label's unit.
    pub rmse: f64,
}

impl FeatureGains {
    /// The gain of a feature, by the means of [`BacktestReport::mean`] over the folds that were scored with and without it: with one
    /// feature less, a fold may have just enough rows to be fitted. `None` for a feature that was not left out, and if there is no
    /// such fold.
    pub fn gain(&self, feature: &str) -> Option<Gain> {
        let (_, without) = self.without.iter().find(|(name, _)| name == feature)?;
        let is_scored: Vec<bool> =
            self.all.folds.iter().zip(&without.folds).map(|(a, b)| a.metrics.is_some() && b.metrics.is_some()).collect();
        let mean = |report: &BacktestReport| {
            let folds = report.folds.iter().zip(&is_scored).filter(|(_, is_scored)| **is_scored).map(|(fold, _)| fold);
            mean_of(folds)
        };
        let (all, without) = (mean(&self.all)?, mean(without)?);
        Some(Gain { r2: all.r2 - without.r2, mae: without.mae - all.mae, rmse: without.rmse - all.rmse })
    }
}

/// Runs a backtest with all features, and without each of them.
pub(crate) async fn gains(workspace: &Arc<Workspace>, set: &FeatureSet, backtest: &Backtest) -> Result<FeatureGains> {
    let is_asked = |feature: &String| *feature != backtest.label && !backtest.without.contains(feature);
    let features: Vec<String> = set.features().into_iter().filter(is_asked).collect();
    let (all, without) = run_without_each(workspace, set, backtest, &features).await?;
    Ok(FeatureGains { all, without: features.into_iter().zip(without).collect() })
}
