//! The model: a linear function of features, kept as JSON, so that a service that predicts links no library for fitting.
//! Any other model is served in the same way: bytes that are read once, and features that become a prediction.

use std::collections::BTreeMap;

use asof::online::{FeatureRow, Online};
use serde::{Deserialize, Serialize};

use crate::Fault;

/// `intercept + Σ coefficient * feature`, summed in the order of the features' names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LinearModel {
    /// The prediction where all features are zero.
    pub(crate) intercept: f64,
    /// By feature.
    pub(crate) coefficients: BTreeMap<String, f64>,
}

impl LinearModel {
    /// Reads the bytes of a recorded model that is to predict from these features.
    pub(crate) fn read(bytes: &[u8], served: &Online) -> Result<Self, Fault> {
        let no_model = |cause: serde_json::Error| format!("the recorded bytes are no linear model: {cause}");
        let model: Self = serde_json::from_slice(bytes).map_err(no_model)?;
        match model.coefficients.keys().find(|name| served.features().field_with_name(name).is_err()) {
            None => Ok(model),
            Some(name) => Err(format!("the model needs the feature `{name}`, which {served:?} does not have").into()),
        }
    }

    /// The prediction for one row; none if a feature is NULL.
    pub(crate) fn predict(&self, row: &FeatureRow) -> asof::Result<Option<f64>> {
        let mut sum = self.intercept;
        for (name, coefficient) in &self.coefficients {
            match row.number(name)? {
                Some(feature) => sum += coefficient * feature,
                None => return Ok(None),
            }
        }
        Ok(Some(sum))
    }
}
