//! Min-max scaling: numbers scaled by the smallest and the largest one of the training rows.
//! What it learns does not depend on the order of the rows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};
use serde::{Deserialize, Serialize};

use super::{AsOfView, FittedEncoder, Spec, clip::clip, numeric::finite};
use crate::error::Result;

/// The feature `<column>_minmax` = `(x - min) / (max - min)`, both learned from the training rows: 0 to 1 for them, as in
/// scikit-learn's `MinMaxScaler`.
///
/// Of a constant column the range counts as one, so training rows give 0. A later number below the learned minimum gives a
/// negative feature, one above the maximum a feature above 1, unless [`MinMax::clipped`] is set. NULL, NaN and infinities are
/// neither learned from nor encoded: they give NULL, as does every number if there was none to learn from. A result that is not
/// finite is NULL.
///
/// ```
/// use asof::encoder::MinMax;
/// let fare = MinMax::of("fare_amount"); // named `fare_amount_minmax`
/// let distance = MinMax::of("trip_distance").clipped().named("distance");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct MinMax {
    column: String,
    output: String,
    is_clipped: bool,
}

/// What [`MinMax`] learns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MinMaxState {
    /// The smallest finite number.
    pub min: f64,
    /// The largest finite number.
    pub max: f64,
}

impl MinMax {
    /// Of this column.
    pub fn of(column: impl Into<String>) -> Self {
        let column = column.into();
        Self { output: format!("{column}_minmax"), column, is_clipped: false }
    }

    /// Takes a number below the learned minimum as the minimum and one above the maximum as the maximum, so that every feature is
    /// from 0 to 1.
    pub fn clipped(mut self) -> Self {
        self.is_clipped = true;
        self
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl FittedEncoder for MinMax {
    /// `None` when there was no number to learn from.
    type State = Option<MinMaxState>;

    fn spec(&self) -> Spec {
        let spec = Spec::new("min_max", 1).number(&self.column).output(&self.output, DataType::Float64);
        spec.parameter("is_clipped", self.is_clipped)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        let mut state: Option<MinMaxState> = None;
        view.for_each_number(&self.column, |x| {
            if x.is_finite() {
                let state = state.get_or_insert(MinMaxState { min: x, max: x });
                // In the total order, so that of both zeros the same one is learned in any order of the rows.
                if x.total_cmp(&state.min).is_lt() {
                    state.min = x;
                }
                if x.total_cmp(&state.max).is_gt() {
                    state.max = x;
                }
            }
        })?;
        Ok(state)
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let numbers = input.column(0).as_primitive::<Float64Type>();
        let scaled: Float64Array = numbers.unary_opt(|x| {
            let (state, x) = ((*state)?, finite(x)?);
            finite(state.scale(if self.is_clipped { clip(x, state.min, state.max) } else { x }))
        });
        Ok(vec![Arc::new(scaled)])
    }
}

impl MinMaxState {
    fn scale(self, x: f64) -> f64 {
        let Self { min, max } = self;
        match max - min {
            0.0 => x - min,
            range if range.is_finite() => (x - min) / range,
            // The range of numbers this large overflows. That of their halves does not.
            _ => (x / 2.0 - min / 2.0) / (max / 2.0 - min / 2.0),
        }
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
            min: f64,
            max: f64,
            scaled: Vec<Option<f64>>,
            clipped: Vec<Option<f64>>,
            of_a_constant: Vec<Option<f64>>,
        }
        let (expected, training, rows) = (
            fixture::<Expected>("min_max"),
            numbers(fixture::<Vec<Option<f64>>>("training")),
            fixture::<Vec<Option<f64>>>("rows"),
        );
        let rows = numbers(rows);
        let state = learned(&MinMax::of("x"), &training).unwrap();
        assert_eq!(state, Some(MinMaxState { min: expected.min, max: expected.max }));
        assert_near(&learned_and_encoded(&MinMax::of("x"), &training, &rows), &expected.scaled);
        assert_near(&learned_and_encoded(&MinMax::of("x").clipped(), &training, &rows), &expected.clipped);
        assert_near(&learned_and_encoded(&MinMax::of("x"), &numbers([2.5, 2.5]), &rows), &expected.of_a_constant);
    }

    #[test]
    fn the_ends_are_exact_and_no_range_overflows() {
        for (min, max) in [(0.1, 0.3), (-f64::MAX, f64::MAX), (0.0, 5e-324), (-1e300, 1.0)] {
            let found = learned_and_encoded(&MinMax::of("x"), &numbers([max, min]), &numbers([min, max]));
            assert_eq!(&found, &numbers([0.0, 1.0]), "{min} {max}");
        }
        let middle = learned_and_encoded(&MinMax::of("x"), &numbers([-f64::MAX, f64::MAX]), &numbers([0.0]));
        assert_eq!(&middle, &numbers([0.5]));
        let beyond = [f64::MAX, -f64::MAX];
        let found = learned_and_encoded(&MinMax::of("x"), &numbers([0.0, 0.5]), &numbers(beyond));
        assert_eq!(&found, &numbers([None, None]), "it would be infinite");
        let found = learned_and_encoded(&MinMax::of("x").clipped(), &numbers([0.0, 0.5]), &numbers(beyond));
        assert_eq!(&found, &numbers([1.0, 0.0]));
    }

    #[test]
    fn what_is_no_finite_number_is_neither_learned_from_nor_encoded() {
        let odd = [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY)];
        for encoder in [MinMax::of("x"), MinMax::of("x").clipped()] {
            let training = numbers(odd.into_iter().chain([Some(1.0), Some(3.0)]));
            assert_eq!(learned(&encoder, &training).unwrap(), Some(MinMaxState { min: 1.0, max: 3.0 }));
            assert_eq!(&learned_and_encoded(&encoder, &training, &numbers(odd)), &numbers([None; 4]));
            assert_eq!(learned(&encoder, &numbers(odd)).unwrap(), None);
            assert_eq!(&learned_and_encoded(&encoder, &numbers(odd), &numbers([1.0])), &numbers([None]));
        }
        let zeros = learned(&MinMax::of("x"), &numbers([0.0, -0.0])).unwrap().unwrap();
        assert_eq!((zeros.min.to_bits(), zeros.max.to_bits()), ((-0.0_f64).to_bits(), 0.0_f64.to_bits()));
    }
}
