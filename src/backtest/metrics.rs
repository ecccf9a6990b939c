//! Metrics of predictions against labels.

use ndarray::Array1;

/// Metrics of a regression over the scored rows.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// The coefficient of determination, `1 - Σ(y - ŷ)² / Σ(y - ȳ)²`, as scikit-learn's `r2_score`: 1 is perfect, 0 as good
    /// as the mean of the scored labels, negative is worse. NaN when all labels are the same.
    pub r2: f64,
    /// The mean absolute error, in the label's unit.
    pub mae: f64,
    /// The root of the mean squared error, in the label's unit.
    pub rmse: f64,
    /// The mean of the scored labels.
    pub label_mean: f64,
}

impl Metrics {
    /// The metrics of predictions; `None` when there are no rows.
    pub(crate) fn of(labels: &Array1<f64>, predictions: &Array1<f64>) -> Option<Self> {
        let label_mean = labels.mean()?;
        let n = labels.len() as f64;
        let errors = labels - predictions;
        let squared: f64 = errors.iter().map(|e| e * e).sum();
        let spread: f64 = labels.iter().map(|y| (y - label_mean) * (y - label_mean)).sum();
        let mae = errors.iter().map(|e| e.abs()).sum::<f64>() / n;
        let r2 = if spread > 0.0 { 1.0 - squared / spread } else { f64::NAN };
        Some(Self { r2, mae, rmse: (squared / n).sqrt(), label_mean })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::arr1;

    use super::*;

    #[test]
    fn metrics_are_those_of_scikit_learn() {
        // sklearn.metrics.r2_score([3, -0.5, 2, 7], [2.5, 0.0, 2, 8]) and mean_absolute_error
        let m = Metrics::of(&arr1(&[3.0, -0.5, 2.0, 7.0]), &arr1(&[2.5, 0.0, 2.0, 8.0])).unwrap();
        assert!((m.r2 - 0.948_608_137_044_967_9).abs() < 1e-15);
        assert_eq!((m.mae, m.rmse, m.label_mean), (0.5, 0.375_f64.sqrt(), 2.875));
        assert!(Metrics::of(&arr1(&[]), &arr1(&[])).is_none());
    }
}
