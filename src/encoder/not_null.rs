//! A row selection that keeps rows whose named columns hold a value.
//! It reads columns of the set's query, not the outputs of encoders.

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch},
    datatypes::{DataType, Field, Float64Type},
};

use super::{AsOfView, Purpose, RowSelection, Spec};
use crate::error::{Error, Result};

/// Keeps the rows in which every named column holds a value: not NULL, and for numbers neither NaN nor infinite.
///
/// Its purpose is [`Purpose::Population`], so a backtest scores only such rows. An encoder can still return NULL for a value, as
/// the logarithm of zero is; leave such rows out by a condition in the query.
///
/// ```
/// use asof::encoder::NotNull;
/// let whole = NotNull::of_numbers(["trip_distance", "total_amount"]).and_texts(["payment_type"]);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct NotNull {
    inputs: Vec<Field>,
}

impl NotNull {
    /// Columns of numbers.
    pub fn of_numbers<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { inputs: Vec::new() }.and(columns, &DataType::Float64)
    }

    /// Columns of texts.
    pub fn of_texts<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { inputs: Vec::new() }.and_texts(columns)
    }

    /// Columns of instants.
    pub fn of_instants<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { inputs: Vec::new() }.and_instants(columns)
    }

    /// Adds columns of texts.
    pub fn and_texts<S: Into<String>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        self.and(columns, &DataType::Utf8)
    }

    /// Adds columns of instants.
    pub fn and_instants<S: Into<String>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        let spec = columns.into_iter().fold(Spec::new("", 0), Spec::instant);
        Self { inputs: self.inputs.into_iter().chain(spec.inputs).collect() }
    }

    fn and<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>, data_type: &DataType) -> Self {
        self.inputs.extend(columns.into_iter().map(|column| Field::new(column, data_type.clone(), true)));
        self
    }
}

impl RowSelection for NotNull {
    type State = ();

    fn spec(&self) -> Spec {
        self.inputs.iter().fold(Spec::new("not_null", 1), |spec, f| spec.input(f.name(), f.data_type().clone()))
    }

    fn purpose(&self) -> Purpose {
        Purpose::Population
    }

    /// Learns nothing. It is called when a set is built, so a selection without columns is refused there.
    fn fit(&self, _: &AsOfView<'_>) -> Result<()> {
        if self.inputs.is_empty() {
            let reason = "it names no columns, so it would keep all rows".into();
            return Err(Error::Definition { subject: "`not_null`".into(), reason });
        }
        Ok(())
    }

    fn learns_in_any_order(&self) -> bool {
        true
    }

    fn keep(&self, (): &(), input: &RecordBatch) -> Result<BooleanArray> {
        let mut kept = vec![true; input.num_rows()];
        for column in input.columns() {
            let numbers = column.as_primitive_opt::<Float64Type>();
            for (row, keep) in kept.iter_mut().enumerate() {
                *keep &= column.is_valid(row) && numbers.is_none_or(|numbers| numbers.value(row).is_finite());
            }
        }
        Ok(kept.into())
    }
}
