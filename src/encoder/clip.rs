//! Clipping: numbers beyond a bound become the bound.
//! It drops no row; that is what a row selection does.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};

use super::{Encoder, Spec, unusable};
use crate::error::Result;

/// A numeric column within two bounds, both inclusive, as `Float64`: a smaller number becomes the lower bound, a larger one the
/// upper bound.
///
/// NULL stays NULL, NaN stays NaN, and infinities are clipped like other numbers. A set whose bounds are the wrong way round is
/// refused when it is built.
///
/// ```
/// use asof::encoder::Clip;
/// let tip = Clip::of("tip_amount", 0.0, 50.0); // named `clipped_tip_amount`
/// let debt = Clip::of("balance", f64::NEG_INFINITY, 0.0).named("debt"); // without a lower bound
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Clip {
    column: String,
    low: f64,
    high: f64,
    output: String,
}

impl Clip {
    /// The feature `clipped_<column>`, from `low` to `high`. `low` is at most `high`. Minus infinity as `low` and infinity as `high`
    /// mean that there is no such bound.
    pub fn of(column: impl Into<String>, low: f64, high: f64) -> Self {
        let column = column.into();
        Self { output: format!("clipped_{column}"), column, low, high }
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }

    /// Refuses bounds that no number lies between, NaN, and an infinity on the wrong side.
    fn check(&self) -> Result<()> {
        let (low, high) = (self.low, self.high);
        if low <= high && low < f64::INFINITY && high > f64::NEG_INFINITY {
            return Ok(());
        }
        let reason = format!(
            "it clips to the numbers from {low:?} to {high:?}; write the smaller bound first, and -inf and inf where there is no bound"
        );
        Err(unusable(&self.output, reason))
    }
}

impl Encoder for Clip {
    fn spec(&self) -> Spec {
        let spec = Spec::new("clip", 1).number(&self.column).output(&self.output, DataType::Float64);
        // JSON has no infinity: no bound is null.
        spec.parameter("low", self.low).parameter("high", self.high)
    }

    /// It is called on fixed inputs when a set is built, so unusable bounds are refused there.
    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.check()?;
        let numbers = input.column(0).as_primitive::<Float64Type>();
        let clipped: Float64Array = numbers.unary(|x| clip(x, self.low, self.high));
        Ok(vec![Arc::new(clipped)])
    }
}

/// NaN compares false, so it stays; so does -0.0 at a bound of 0.0.
pub(super) fn clip(x: f64, low: f64, high: f64) -> f64 {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;
    use crate::encoder::input_schema;

    const NONE: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

    #[test]
    fn numbers_beyond_a_bound_become_the_bound_and_others_stay() {
        let (low, high) = (-1.0, 2.5);
        for (x, expected) in [
            (-1.5, -1.0),
            (-1.0, -1.0),
            (-0.0, -0.0),
            (2.5, 2.5),
            (2.5 + f64::EPSILON * 2.0, 2.5),
            (f64::INFINITY, 2.5),
            (f64::NEG_INFINITY, -1.0),
            (f64::NAN, f64::NAN),
        ] {
            assert_eq!(clip(x, low, high).to_bits(), expected.to_bits(), "{x}");
        }
        for x in [f64::NEG_INFINITY, -1e308, 5e-324, f64::INFINITY] {
            assert_eq!(clip(x, NONE.0, NONE.1), x);
            assert_eq!(clip(x, 3.0, 3.0), 3.0);
            assert_eq!(clip(x, NONE.0, 0.0), x.min(0.0));
            assert_eq!(clip(x, 0.0, NONE.1), x.max(0.0));
        }
        assert_eq!(clip(-0.0, 0.0, 1.0).to_bits(), (-0.0_f64).to_bits());
    }

    #[test]
    fn null_stays_null() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![Some(9.0), None, Some(-9.0)]));
        let input = RecordBatch::try_from_iter([("x", column)]).unwrap();
        let clipped = Clip::of("x", -1.0, 1.0).encode(&input).unwrap();
        assert_eq!(clipped[0].as_primitive::<Float64Type>(), &Float64Array::from(vec![Some(1.0), None, Some(-1.0)]));
        assert_eq!(clipped[0].null_count(), 1);
    }

    #[test]
    fn unusable_bounds_are_refused() {
        let input = RecordBatch::new_empty(input_schema(&Clip::of("x", 0.0, 1.0).spec()));
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (low, high) in [(1.0, 0.0), (nan, 0.0), (0.0, nan), (nan, nan), (inf, inf), (-inf, -inf), (inf, -inf)] {
            let refused = Clip::of("x", low, high).encode(&input).unwrap_err();
            assert!(refused.to_string().contains(&format!("from {low:?} to {high:?}")), "{refused}");
        }
        for (low, high) in [NONE, (0.0, inf), (-inf, 0.0), (1.0, 1.0), (0.0, -0.0)] {
            assert!(Clip::of("x", low, high).encode(&input).is_ok(), "{low} {high}");
        }
    }
}
