//! Backtests as text tables, with a dash where there was nothing to fit or to score.

use std::fmt;

use crate::{
    backtest::{BacktestReport, FeatureGains, Gain, Metrics},
    text_table::lines,
};

const HEADER: [&str; 10] =
    ["as of", "rows seen", "rows kept", "slope", "intercept", "scored", "R2", "MAE", "label mean", "shift"];

/// More slopes are told by their number.
const SLOPES_AT_MOST: usize = 4;

impl fmt::Display for BacktestReport {
    /// One row per fold: as-of, rows seen and kept, slopes (if they are few) and intercept, rows scored, R2, MAE, mean of the label
    /// over the scored rows, and its shift against the fold before.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![HEADER.map(str::to_owned).to_vec()];
        for fold in &self.folds {
            let slopes = |slopes: &Vec<f64>| match slopes.len() {
                ..=SLOPES_AT_MOST => slopes.iter().map(|s| format!("{s:.4}")).collect::<Vec<_>>().join(" "),
                many => format!("{many} slopes"),
            };
            let linear = fold.linear.as_ref();
            let metric = |pick: fn(&Metrics) -> f64| fold.metrics.as_ref().map_or_else(dash, |m| format!("{:.4}", pick(m)));
            rows.push(vec![
                fold.fold.as_of().to_string(),
                fold.rows_seen.to_string(),
                fold.rows_kept.to_string(),
                linear.map_or_else(dash, |l| slopes(&l.slopes)),
                linear.map_or_else(dash, |l| format!("{:.4}", l.intercept)),
                fold.rows_scored.to_string(),
                metric(|m| m.r2),
                metric(|m| m.mae),
                metric(|m| m.label_mean),
                fold.label_shift.map_or_else(dash, |shift| format!("{shift:+.4}")),
            ]);
        }
        for line in lines(&rows, 1) {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FeatureGains {
    /// One row for all features and one for each that is left out: R2, MAE and RMSE over the folds, and how much each is better with
    /// the feature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["without", "R2", "MAE", "RMSE", "R2 gain", "MAE gain", "RMSE gain"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        let all = [("-", &self.all)].into_iter();
        for (feature, report) in all.chain(self.without.iter().map(|(feature, report)| (feature.as_str(), report))) {
            let (mean, gain) = (report.mean(), self.gain(feature));
            let metric = |pick: fn(&Metrics) -> f64| mean.as_ref().map_or_else(dash, |m| format!("{:.4}", pick(m)));
            let gained = |pick: fn(&Gain) -> f64| gain.as_ref().map_or_else(dash, |gain| format!("{:+.4}", pick(gain)));
            rows.push(vec![
                feature.to_owned(),
                metric(|m| m.r2),
                metric(|m| m.mae),
                metric(|m| m.rmse),
                gained(|gain| gain.r2),
                gained(|gain| gain.mae),
                gained(|gain| gain.rmse),
            ]);
        }
        lines(&rows, 1).iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn dash() -> String {
    "-".to_owned()
}
