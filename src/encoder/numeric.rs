//! Encoders of single numbers: a column as it is, its logarithm, the ratio of two columns.
//! A result that is not finite is NULL.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};

use super::{Encoder, Spec};
use crate::error::Result;

/// A numeric column as it is, as `Float64`.
#[derive(Debug, Clone)]
#[must_use]
pub struct Number {
    column: String,
    output: String,
}

impl Number {
    /// The column under its own name.
    pub fn of(column: impl Into<String>) -> Self {
        let column = column.into();
        Self { output: column.clone(), column }
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl Encoder for Number {
    fn spec(&self) -> Spec {
        Spec::new("number", 1).number(&self.column).output(&self.output, DataType::Float64)
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(vec![input.column(0).clone()])
    }
}

/// The natural logarithm of a column: NULL unless the number is positive.
#[derive(Debug, Clone)]
#[must_use]
pub struct Log {
    column: String,
}

impl Log {
    /// The feature `log_<column>`.
    pub fn of(column: impl Into<String>) -> Self {
        Self { column: column.into() }
    }
}

impl Encoder for Log {
    fn spec(&self) -> Spec {
        Spec::new("log", 1).number(&self.column).output(format!("log_{}", self.column), DataType::Float64)
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let numbers = input.column(0).as_primitive::<Float64Type>();
        let logs: Float64Array = numbers.unary_opt(|x| finite(x.ln()));
        Ok(vec![Arc::new(logs)])
    }
}

/// The ratio of two columns: NULL where it is not finite, as over zero.
#[derive(Debug, Clone)]
#[must_use]
pub struct Ratio {
    numerator: String,
    denominator: String,
    output: String,
}

impl Ratio {
    /// The feature `output` = `numerator / denominator`.
    pub fn of(numerator: impl Into<String>, denominator: impl Into<String>, output: impl Into<String>) -> Self {
        Self { numerator: numerator.into(), denominator: denominator.into(), output: output.into() }
    }
}

impl Encoder for Ratio {
    fn spec(&self) -> Spec {
        Spec::new("ratio", 1).number(&self.numerator).number(&self.denominator).output(&self.output, DataType::Float64)
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let (a, b) = (input.column(0).as_primitive::<Float64Type>(), input.column(1).as_primitive::<Float64Type>());
        let ratios: Float64Array = a.iter().zip(b.iter()).map(|(a, b)| finite(a? / b?)).collect();
        Ok(vec![Arc::new(ratios)])
    }
}

pub(super) fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}
