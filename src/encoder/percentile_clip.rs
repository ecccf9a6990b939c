//! Clipping to learned percentiles: numbers beyond one become it.
//! It drops no row; that is what the outlier filter does.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};
use serde::{Deserialize, Serialize};

use super::{
    AsOfView, FittedEncoder, Spec,
    clip::clip,
    numeric::finite,
    quantile::{Fraction, quantiles_at},
    unusable,
};
use crate::error::Result;

/// A numeric column within two percentiles of the training rows, both inclusive: a smaller number becomes the lower percentile, a
/// larger one the upper percentile.
///
/// Percentiles are those of NumPy's `percentile`, linear between order statistics, and have the bits of
/// [`Aggregate::quantile`](crate::Aggregate::quantile) over the same floats. NULL, NaN and infinities are neither learned from nor
/// encoded: they give NULL, as does every number if there was none to learn from. A set whose percentiles are not
/// `0 <= low < high <= 100` is refused when it is built.
///
/// ```
/// use asof::encoder::PercentileClip;
/// let fare = PercentileClip::of("fare_amount", 1.0, 99.0); // named `clipped_fare_amount`
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct PercentileClip {
    column: String,
    low: f64,
    high: f64,
    output: String,
}

/// What [`PercentileClip`] learns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PercentileClipState {
    /// The smallest feature.
    pub low: f64,
    /// The largest feature.
    pub high: f64,
}

impl PercentileClip {
    /// The feature `clipped_<column>`, between two percentiles from 0 to 100.
    pub fn of(column: impl Into<String>, low: f64, high: f64) -> Self {
        let column = column.into();
        Self { output: format!("clipped_{column}"), column, low, high }
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl FittedEncoder for PercentileClip {
    /// `None` when there was no number to learn from.
    type State = Option<PercentileClipState>;

    fn spec(&self) -> Spec {
        let spec = Spec::new("percentile_clip", 1).number(&self.column).output(&self.output, DataType::Float64);
        spec.parameter("low_percentile", self.low).parameter("high_percentile", self.high)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        let (low, high) = (self.low, self.high);
        if !(0.0 <= low && low < high && high <= 100.0) {
            let reason =
                format!("it clips to the percentiles {low:?} and {high:?}; write the smaller one first, both from 0 to 100");
            return Err(unusable(&self.output, reason));
        }
        let found = quantiles_at(view, vec![Fraction::percent(low), Fraction::percent(high)])?;
        Ok(found.as_deref().and_then(|found| Some(PercentileClipState { low: *found.first()?, high: *found.get(1)? })))
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let numbers = input.column(0).as_primitive::<Float64Type>();
        let clipped: Float64Array = numbers.unary_opt(|x| state.and_then(|s| Some(clip(finite(x)?, s.low, s.high))));
        Ok(vec![Arc::new(clipped)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::fixed_rows::{assert_near, fixture, learned, learned_and_encoded, numbers};
    use crate::error::Error;

    #[test]
    fn a_percentile_that_falls_on_a_number_is_that_number() {
        let rows = numbers((0..21).map(|i| f64::from(i * i) * 1e6 + 0.1));
        for (percentile, expected) in [(10.0, 4_000_000.1), (55.0, 121_000_000.1), (95.0, 361_000_000.1)] {
            let state = learned(&PercentileClip::of("x", 0.0, percentile), &rows).unwrap().unwrap();
            assert_eq!(state.high, expected, "{percentile}");
        }
    }

    #[test]
    fn it_clips_to_the_percentiles_of_numpy() {
        #[derive(Deserialize)]
        struct Expected {
            low: f64,
            high: f64,
            clipped: Vec<Option<f64>>,
        }
        let expected: Expected = fixture("percentile_clip");
        let (training, rows) = (numbers(fixture::<Vec<Option<f64>>>("training")), numbers(fixture::<Vec<Option<f64>>>("rows")));
        let encoder = PercentileClip::of("x", 5.0, 92.5);
        let state = learned(&encoder, &training).unwrap().unwrap();
        assert_near(&numbers([state.low, state.high]), &[Some(expected.low), Some(expected.high)]);
        assert_near(&learned_and_encoded(&encoder, &training, &rows), &expected.clipped);
    }

    #[test]
    fn what_is_no_finite_number_is_neither_learned_from_nor_encoded() {
        let encoder = PercentileClip::of("x", 0.0, 50.0);
        let odd = [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY)];
        let training = numbers(odd.into_iter().chain([1.0, 2.0, 3.0].map(Some)));
        assert_eq!(learned(&encoder, &training).unwrap(), Some(PercentileClipState { low: 1.0, high: 2.0 }));
        assert_eq!(&learned_and_encoded(&encoder, &training, &numbers(odd)), &numbers([None; 4]));
        assert_eq!(&learned_and_encoded(&encoder, &training, &numbers([0.5, 1.5, 2.5])), &numbers([1.0, 1.5, 2.0]));
        assert_eq!(learned(&encoder, &numbers(odd)).unwrap(), None);
        assert_eq!(&learned_and_encoded(&encoder, &numbers(odd), &numbers([1.0])), &numbers([None]));
    }

    #[test]
    fn unusable_percentiles_are_refused() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (low, high) in [(50.0, 50.0), (2.0, 1.0), (-1.0, 5.0), (5.0, 100.5), (nan, 5.0), (5.0, nan), (-inf, inf)] {
            let refused = learned(&PercentileClip::of("x", low, high), &numbers([1.0])).unwrap_err();
            assert!(matches!(&refused, Error::Definition { .. }), "{refused}");
            assert!(refused.to_string().contains(&format!("percentiles {low:?} and {high:?}")), "{refused}");
        }
        assert!(learned(&PercentileClip::of("x", 0.0, 100.0), &numbers([1.0])).is_ok());
    }
}
