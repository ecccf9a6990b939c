//! Linear regression by linfa, and the conversion of a dataset to linfa's. Only this file names linfa; the conversion is the only
//! public signature with a type of linfa.

use linfa::traits::Fit;
use ndarray::{Array1, Array2, Axis, Ix1};

use super::{
    Learner, Linear, Model,
    redundant::{Redundant, redundant},
};
use crate::{
    error::{Error, Result},
    training::Dataset,
};

/// Ordinary least squares with an intercept, fitted by linfa.
///
/// Features and label are centred on their means before the fit, which loses fewer digits than a column of ones.
///
/// The slope of a feature that is constant, or a linear combination of others, is not determined. Such features are found (by a QR
/// decomposition with column pivoting of the standardized columns: less than 1e-7 of the column is left) and refused by name, unless
/// [`OnRedundant::Drop`] is set.
///
/// ```
/// use asof::backtest::{LinearRegression, OnRedundant};
/// let learner = LinearRegression::new().on_redundant(OnRedundant::Drop);
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct LinearRegression {
    on_redundant: OnRedundant,
}

/// What to do with features that are constant or linear combinations of others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnRedundant {
    /// The fit is refused, and the error names them.
    #[default]
    Refuse,
    /// They get a slope of zero and a warning in the log. Of redundant features the earlier ones are kept.
    Drop,
}

impl LinearRegression {
    /// The learner that refuses redundant features.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do with features that are constant or linear combinations of others.
    pub fn on_redundant(mut self, on_redundant: OnRedundant) -> Self {
        self.on_redundant = on_redundant;
        self
    }
}

impl Learner for LinearRegression {
    fn name(&self) -> &str {
        "linear regression"
    }

    fn fit(&self, data: &Dataset) -> Result<Box<dyn Model>> {
        let refused =
            |reason: String| Error::Step { set: "the training set".into(), step: self.name().into(), reason, cause: None };
        let (rows, features) = data.records.dim();
        if rows <= features {
            return Err(refused(format!("{rows} rows are too few for {features} slopes and an intercept")));
        }
        data.check_finite().map_err(refused)?;
        let empty = || refused("there are no rows".into());
        let (x_mean, y_mean) = (data.records.mean_axis(Axis(0)).ok_or_else(empty)?, data.targets.mean().ok_or_else(empty)?);
        let redundant = redundant(&data.records, &x_mean);
        if !redundant.is_empty() {
            let shown = shown(&data.features, &redundant);
            match self.on_redundant {
                OnRedundant::Refuse => {
                    return Err(refused(format!(
                        "{shown}; leave it out of the set, or use `LinearRegression::on_redundant(OnRedundant::Drop)`"
                    )));
                }
                OnRedundant::Drop => tracing::warn!("linear regression: {shown}; it gets a slope of zero"),
            }
        }
        let kept: Vec<usize> = (0..features).filter(|i| redundant.iter().all(|r| r.feature != *i)).collect();
        let mut slopes = Array1::zeros(features);
        if !kept.is_empty() {
            let mut centred = if kept.len() == features { data.records.clone() } else { data.records.select(Axis(1), &kept) };
            centred -= &x_mean.select(Axis(0), &kept);
            let centred = linfa::Dataset::new(centred, data.targets.mapv(|y| y - y_mean));
            let fitted =
                linfa_linear::LinearRegression::new().with_intercept(false).fit(&centred).map_err(|e| refused(e.to_string()))?;
            for (feature, slope) in kept.into_iter().zip(fitted.params()) {
                slopes[feature] = *slope;
            }
        }
        let linear = Linear { intercept: y_mean - slopes.dot(&x_mean), slopes: slopes.to_vec() };
        Ok(Box::new(FittedRegression { slopes, x_mean, y_mean, linear }))
    }
}

/// The redundant features by their names.
fn shown(names: &[String], redundant: &[Redundant]) -> String {
    let name = |i: usize| format!("`{}`", names.get(i).map_or("?", String::as_str));
    let one = |r: &Redundant| match r.of.as_slice() {
        [] => format!("the feature {} is constant", name(r.feature)),
        [other] => format!("the feature {} is a linear function of {}", name(r.feature), name(*other)),
        others => {
            let others: Vec<_> = others.iter().map(|i| name(*i)).collect();
            format!("the feature {} is a linear combination of {}", name(r.feature), others.join(", "))
        }
    };
    redundant.iter().map(one).collect::<Vec<_>>().join("; ")
}

struct FittedRegression {
    slopes: Array1<f64>,
    x_mean: Array1<f64>,
    y_mean: f64,
    linear: Linear,
}

impl Model for FittedRegression {
    fn predict(&self, records: &Array2<f64>) -> Array1<f64> {
        (records - &self.x_mean).dot(&self.slopes) + self.y_mean
    }

    fn linear(&self) -> Option<Linear> {
        Some(self.linear.clone())
    }
}

impl From<Dataset> for linfa::Dataset<f64, f64, Ix1> {
    /// The same matrices, with the features' names.
    fn from(data: Dataset) -> Self {
        linfa::Dataset::new(data.records, data.targets).with_feature_names(data.features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_of_linfa_has_the_same_matrices_and_names() {
        let records = ndarray::array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
        let (features, targets) = (vec!["x".to_owned(), "y".to_owned()], ndarray::array![7.0, 8.0, 9.0]);
        let data = Dataset { features: features.clone(), label: "z".into(), records: records.clone(), targets: targets.clone() };
        let converted: linfa::Dataset<f64, f64, Ix1> = data.into();
        assert_eq!((converted.records(), converted.targets()), (&records, &targets));
        assert_eq!(converted.feature_names(), features);
    }
}
