//! The sum, difference, product and quotient of two columns.
//! A result that is not finite is NULL.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};

use super::{Encoder, Spec, numeric::finite};
use crate::error::Result;

/// Two numeric columns, added, subtracted, multiplied or divided, as `Float64`.
///
/// Both columns are read as floats, so an integer beyond 2^53 is the nearest float first. NULL in either column gives NULL. A
/// result that is not finite is NULL: a division by zero, a result beyond the largest float, whatever is computed with NaN, and
/// infinities unless the result is finite, as is `1 / inf`. [`Ratio`](super::Ratio) is the same as [`Arithmetic::divided_by`].
///
/// ```
/// use asof::encoder::Arithmetic;
/// let extra = Arithmetic::minus("total_amount", "fare_amount", "extra");
/// let area = Arithmetic::times("width", "height", "area");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Arithmetic {
    left: String,
    operation: Operation,
    right: String,
    output: String,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Plus,
    Minus,
    Times,
    DividedBy,
}

impl Arithmetic {
    /// The feature `output` = `left + right`.
    pub fn plus(left: impl Into<String>, right: impl Into<String>, output: impl Into<String>) -> Self {
        Self { left: left.into(), operation: Operation::Plus, right: right.into(), output: output.into() }
    }

    /// The feature `output` = `left - right`.
    pub fn minus(left: impl Into<String>, right: impl Into<String>, output: impl Into<String>) -> Self {
        Self { left: left.into(), operation: Operation::Minus, right: right.into(), output: output.into() }
    }

    /// The feature `output` = `left * right`.
    pub fn times(left: impl Into<String>, right: impl Into<String>, output: impl Into<String>) -> Self {
        Self { left: left.into(), operation: Operation::Times, right: right.into(), output: output.into() }
    }

    /// The feature `output` = `left / right`; NULL where `right` is zero.
    pub fn divided_by(left: impl Into<String>, right: impl Into<String>, output: impl Into<String>) -> Self {
        Self { left: left.into(), operation: Operation::DividedBy, right: right.into(), output: output.into() }
    }
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Plus => "plus",
            Operation::Minus => "minus",
            Operation::Times => "times",
            Operation::DividedBy => "divided_by",
        }
    }

    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Operation::Plus => a + b,
            Operation::Minus => a - b,
            Operation::Times => a * b,
            Operation::DividedBy => a / b,
        }
    }
}

impl Encoder for Arithmetic {
    fn spec(&self) -> Spec {
        let spec = Spec::new("arithmetic", 1).number(&self.left).number(&self.right);
        spec.parameter("operation", self.operation.name()).output(&self.output, DataType::Float64)
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let [left, right] = [0, 1].map(|i| input.column(i).as_primitive::<Float64Type>().iter());
        let results: Float64Array = left.zip(right).map(|(a, b)| finite(self.operation.of(a?, b?))).collect();
        Ok(vec![Arc::new(results)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::Ratio;

    #[test]
    fn results_are_those_of_floats_and_null_where_they_are_not_finite() {
        const INF: f64 = f64::INFINITY;
        let rows = [
            (Some(7.5), Some(2.5), [Some(10.0), Some(5.0), Some(18.75), Some(3.0)]),
            (Some(1.0), Some(0.0), [Some(1.0), Some(1.0), Some(0.0), None]),
            (Some(0.0), Some(-0.0), [Some(0.0), Some(0.0), Some(-0.0), None]),
            (Some(f64::MAX), Some(f64::MAX), [None, Some(0.0), None, Some(1.0)]),
            (Some(1.0), Some(INF), [None, None, None, Some(0.0)]),
            (Some(INF), Some(INF), [None; 4]),
            (Some(f64::NAN), Some(1.0), [None; 4]),
            (Some(1.0), None, [None; 4]),
            (None, Some(1.0), [None; 4]),
        ];
        let column = |of: &dyn Fn(usize) -> Option<f64>| Arc::new((0..rows.len()).map(of).collect::<Float64Array>()) as ArrayRef;
        let input = [("a", column(&|row| rows[row].0)), ("b", column(&|row| rows[row].1))];
        let input = RecordBatch::try_from_iter(input).unwrap();
        let all: [fn(&'static str, &'static str, &'static str) -> Arithmetic; 4] =
            [Arithmetic::plus, Arithmetic::minus, Arithmetic::times, Arithmetic::divided_by];
        for (i, operation) in all.iter().enumerate() {
            let found = operation("a", "b", "c").encode(&input).unwrap();
            let bits = |x: Option<f64>| x.map(f64::to_bits);
            let found: Vec<_> = found[0].as_primitive::<Float64Type>().iter().map(bits).collect();
            assert_eq!(found, rows.iter().map(|row| bits(row.2[i])).collect::<Vec<_>>(), "{operation:?}");
            assert!(all[i + 1..].iter().all(|other| other("a", "b", "c").spec() != operation("a", "b", "c").spec()));
        }
        let ratio = Ratio::of("a", "b", "c").encode(&input).unwrap();
        assert_eq!(ratio, Arithmetic::divided_by("a", "b", "c").encode(&input).unwrap());
    }
}
