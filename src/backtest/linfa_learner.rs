//! Linear regression by linfa, and the way of a dataset into linfa: the one file that names it.
//! No public signature of this library holds a type of linfa; the conversion below is asked for by its user.

use linfa::traits::{Fit, Predict};
use ndarray::{Array1, Array2, Axis, Ix1};

use super::{Learner, Linear, Model};
use crate::{
    error::{Error, Result},
    training::Dataset,
};

/// Ordinary least squares with an intercept, fitted by linfa.
///
/// Features and label are centred on their means before the fit, which loses fewer digits than a column of ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinearRegression;

impl Learner for LinearRegression {
    fn name(&self) -> &str {
        "linear regression"
    }

    fn fit(&self, data: &Dataset) -> Result<Box<dyn Model>> {
        let refused = |reason: String| Error::Step { set: "the training set".into(), step: "linear regression".into(), reason };
        let (rows, features) = data.records.dim();
        if rows <= features {
            return Err(refused(format!("{rows} rows cannot fix {features} slopes and an intercept")));
        }
        if data.records.iter().chain(&data.targets).any(|x| !x.is_finite()) {
            return Err(refused("a feature or label is NULL, NaN or infinite; drop such rows with a row selection".into()));
        }
        let empty = || refused("there are no rows".into());
        let (x_mean, y_mean) = (data.records.mean_axis(Axis(0)).ok_or_else(empty)?, data.targets.mean().ok_or_else(empty)?);
        let centred = linfa::Dataset::new(&data.records - &x_mean, data.targets.mapv(|y| y - y_mean));
        let fitted =
            linfa_linear::LinearRegression::new().with_intercept(false).fit(&centred).map_err(|e| refused(e.to_string()))?;
        let slopes = fitted.params().clone();
        let linear = Linear { intercept: y_mean - slopes.dot(&x_mean), slopes: slopes.to_vec() };
        Ok(Box::new(Fitted { centred: fitted, x_mean, y_mean, linear }))
    }
}

struct Fitted {
    centred: linfa_linear::FittedLinearRegression<f64>,
    x_mean: Array1<f64>,
    y_mean: f64,
    linear: Linear,
}

impl Model for Fitted {
    fn predict(&self, records: &Array2<f64>) -> Array1<f64> {
        self.centred.predict(&(records - &self.x_mean)) + self.y_mean
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
