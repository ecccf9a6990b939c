//! Standardization: numbers scaled to mean zero and standard deviation one.
//! What it learns does not depend on the order of the rows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};
use serde::{Deserialize, Serialize};

use super::{AsOfView, FittedEncoder, Spec, numeric::finite};
use crate::{error::Result, numeric::ExactSum};

/// The feature `<column>_std` = `(x - mean) / standard deviation`, both learned from the training rows.
///
/// The deviation is that of the population (division by `n`), as in scikit-learn's `StandardScaler`. A constant column is
/// only centred; NULL, NaN and infinities are neither learned from nor encoded.
#[derive(Debug, Clone)]
#[must_use]
pub struct Standardize {
    column: String,
    output: String,
}

/// What [`Standardize`] learns; `None` when there was no number to learn from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StandardizeState {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, or one for a constant column.
    pub deviation: f64,
}

impl Standardize {
    /// Of this column.
    pub fn of(column: impl Into<String>) -> Self {
        let column = column.into();
        Self { output: format!("{column}_std"), column }
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl FittedEncoder for Standardize {
    type State = Option<StandardizeState>;

    fn spec(&self) -> Spec {
        Spec::new("standardize", 1).number(&self.column).output(&self.output, DataType::Float64)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        let sum_of = |term: &dyn Fn(f64) -> f64| -> Result<(ExactSum, u64)> {
            let (mut sum, mut count) = (ExactSum::default(), 0);
            view.for_each_number(&self.column, |x| {
                if x.is_finite() {
                    sum.add(term(x));
                    count += 1;
                }
            })?;
            Ok((sum, count))
        };
        let (sum, count) = sum_of(&|x| x)?;
        let mean = sum.finite_mean(count);
        if count == 0 {
            return Ok(None);
        }
        let (squares, _) = sum_of(&|x| (x - mean) * (x - mean))?;
        let deviation = squares.mean(count).sqrt();
        let deviation = if deviation > 0.0 && deviation.is_finite() { deviation } else { 1.0 };
        Ok(Some(StandardizeState { mean, deviation }))
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let numbers = input.column(0).as_primitive::<Float64Type>();
        let scaled: Float64Array = numbers.unary_opt(|x| state.and_then(|s| finite((x - s.mean) / s.deviation)));
        Ok(vec![Arc::new(scaled)])
    }
}
