//! A backtest as a text table: one row per fold, with a dash where there was nothing to fit or to score.

use std::fmt;

use crate::{backtest::BacktestReport, text_table::lines};

const HEADER: [&str; 10] =
    ["as of", "rows seen", "rows kept", "slope", "intercept", "scored", "R2", "MAE", "label mean", "shift"];

impl fmt::Display for BacktestReport {
    /// One row per fold: as-of, rows seen and kept, slopes and intercept, rows scored, R2, MAE, mean of the label over the
    /// scored rows, and its shift against the fold before.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dash = || "-".to_owned();
        let mut rows = vec![HEADER.map(str::to_owned).to_vec()];
        for fold in &self.folds {
            let slopes = |slopes: &Vec<f64>| slopes.iter().map(|s| format!("{s:.4}")).collect::<Vec<_>>().join(" ");
            let linear = fold.linear.as_ref();
            let metric = |pick: fn(&crate::backtest::Metrics) -> f64| {
                fold.metrics.as_ref().map_or_else(dash, |m| format!("{:.4}", pick(m)))
            };
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
