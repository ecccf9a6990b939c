//! Learners and models, as a backtest uses them.

use ndarray::{Array1, Array2};

use crate::{
    error::{Error, Result},
    training::Dataset,
};

/// Fits a model to a training set.
pub trait Learner: Send + Sync {
    /// The name in reports.
    fn name(&self) -> &str;

    /// The fitted model.
    ///
    /// # Errors
    /// [`Error::Step`](crate::Error::Step) when the data cannot be fitted: too few rows, NaN, redundant features.
    fn fit(&self, data: &Dataset) -> Result<Box<dyn Model>>;
}

/// A fitted model.
pub trait Model: Send + Sync {
    /// A prediction for each row of `records`, whose columns are the features it was fitted on.
    fn predict(&self, records: &Array2<f64>) -> Array1<f64>;

    /// Intercept and slopes, if the model is linear.
    fn linear(&self) -> Option<Linear> {
        None
    }
}

/// A linear function: `intercept + Σ slopes[i] * x[i]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// The value where all features are zero.
    pub intercept: f64,
    /// One slope per feature, in the label's unit per the feature's unit.
    pub slopes: Vec<f64>,
}

/// The baseline: it predicts the mean of the training labels.
#[derive(Debug, Clone, Copy, Default)]
pub struct MeanOnly;

impl Learner for MeanOnly {
    fn name(&self) -> &str {
        "mean"
    }

    fn fit(&self, data: &Dataset) -> Result<Box<dyn Model>> {
        let refused = |reason| Error::Step { set: "the training set".into(), step: self.name().into(), reason, cause: None };
        data.check_targets().map_err(refused)?;
        let mean = data.targets.mean().unwrap_or(f64::NAN);
        Ok(Box::new(Constant { mean, features: data.features.len() }))
    }
}

struct Constant {
    mean: f64,
    features: usize,
}

impl Model for Constant {
    fn predict(&self, records: &Array2<f64>) -> Array1<f64> {
        Array1::from_elem(records.nrows(), self.mean)
    }

    fn linear(&self) -> Option<Linear> {
        Some(Linear { intercept: self.mean, slopes: vec![0.0; self.features] })
    }
}
