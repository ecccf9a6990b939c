//! Robust scaling: numbers scaled by the median and the interquartile range, which a few outliers do not move.
//! What it learns does not depend on the order of the rows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};
use serde::{Deserialize, Serialize};

use super::{AsOfView, FittedEncoder, Spec, numeric::finite, quantile::quantiles_of};
use crate::error::Result;

/// The feature `<column>_robust` = `(x - median) / (third quartile - first quartile)`, all learned from the training rows, as in
/// scikit-learn's `RobustScaler`.
///
/// Quartiles are linear between order statistics, and have the bits of
/// [`Aggregate::quantile`](crate::Aggregate::quantile) over the same floats. A range of zero counts as one: such a column is only
/// centred. NULL, NaN and infinities are neither learned from nor encoded: they give NULL, as does every number if there was none to
/// learn from. A result that is not finite is NULL.
///
/// ```
/// use asof::encoder::RobustScale;
/// let fare = RobustScale::of("fare_amount"); // named `fare_amount_robust`
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct RobustScale {
    column: String,
    output: String,
}

/// What [`RobustScale`] learns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RobustScaleState {
    /// The median.
    pub median: f64,
    /// The interquartile range, or one if it is zero.
    pub range: f64,
}

impl RobustScale {
    /// Of this column.
    pub fn of(column: impl Into<String>) -> Self {
        let column = column.into();
        Self { output: format!("{column}_robust"), column }
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl FittedEncoder for RobustScale {
    /// `None` when there was no number to learn from, or the range is beyond the largest float.
    type State = Option<RobustScaleState>;

    fn spec(&self) -> Spec {
        Spec::new("robust_scale", 1).number(&self.column).output(&self.output, DataType::Float64)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        let found = quantiles_of(view, &[0.25, 0.5, 0.75])?;
        let Some([first, median, third]) = found.as_deref() else { return Ok(None) };
        let range = if third > first { third - first } else { 1.0 };
        Ok(range.is_finite().then_some(RobustScaleState { median: *median, range }))
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let numbers = input.column(0).as_primitive::<Float64Type>();
        let scaled: Float64Array = numbers.unary_opt(|x| state.and_then(|s| finite((x - s.median) / s.range)));
        Ok(vec![Arc::new(scaled)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::fixed_rows::{assert_near, fixture, learned, learned_and_encoded, numbers};

    #[test]
    fn it_scales_as_scikit_learn_does() {
        #[derive(Deserialize)]
        struct Expected {
            median: f64,
            range: f64,
            scaled: Vec<Option<f64>>,
            of_a_constant: Vec<Option<f64>>,
        }
        let expected: Expected = fixture("robust_scale");
        let (training, rows) = (numbers(fixture::<Vec<Option<f64>>>("training")), numbers(fixture::<Vec<Option<f64>>>("rows")));
        let encoder = RobustScale::of("x");
        let state = learned(&encoder, &training).unwrap().unwrap();
        assert_near(&numbers([state.median, state.range]), &[Some(expected.median), Some(expected.range)]);
        assert_near(&learned_and_encoded(&encoder, &training, &rows), &expected.scaled);
        // The quartiles are equal, and one number is not.
        let training = numbers([2.5, 2.5, 9.0, 2.5, 2.5, 2.5]);
        assert_near(&learned_and_encoded(&encoder, &training, &rows), &expected.of_a_constant);
    }

    #[test]
    fn what_is_no_finite_number_is_neither_learned_from_nor_encoded() {
        let encoder = RobustScale::of("x");
        let odd = [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY)];
        let training = numbers(odd.into_iter().chain([1.0, 2.0, 3.0, 5.0, 9.0].map(Some)));
        assert_eq!(learned(&encoder, &training).unwrap(), Some(RobustScaleState { median: 3.0, range: 3.0 }));
        assert_eq!(&learned_and_encoded(&encoder, &training, &numbers(odd)), &numbers([None; 4]));
        assert_eq!(learned(&encoder, &numbers(odd)).unwrap(), None);
        let huge = numbers([-f64::MAX, f64::MAX, -f64::MAX, f64::MAX]);
        assert_eq!(learned(&encoder, &huge).unwrap(), None);
        assert_eq!(&learned_and_encoded(&encoder, &huge, &numbers([1.0])), &numbers([None]));
    }
}
