//! Rows of several numbers, for encoders that read columns together.
//! A row in which a number is missing or not finite is no row here.

use arrow::{
    array::{Array, AsArray, Float64Array, RecordBatch},
    datatypes::Float64Type,
};

use super::{AsOfView, unusable};
use crate::error::Result;

/// How many columns are read together at most.
const COLUMNS_AT_MOST: usize = 256;

/// Columns of a batch that are all declared as numbers.
pub(super) struct NumberRows<'a> {
    columns: Vec<&'a Float64Array>,
    row: Vec<f64>,
}

impl<'a> From<&'a RecordBatch> for NumberRows<'a> {
    fn from(batch: &'a RecordBatch) -> Self {
        let columns: Vec<_> = batch.columns().iter().map(|column| column.as_primitive::<Float64Type>()).collect();
        Self { row: Vec::with_capacity(columns.len()), columns }
    }
}

impl NumberRows<'_> {
    /// The numbers of a row if all are finite.
    pub(super) fn finite(&mut self, row: usize) -> Option<&[f64]> {
        self.row.clear();
        for column in &self.columns {
            let x = column.value(row);
            if column.is_null(row) || !x.is_finite() {
                return None;
            }
            self.row.push(x);
        }
        Some(&self.row)
    }
}

/// Calls `each` with every row of a view in which all numbers are finite. The first error ends it.
pub(super) fn for_each_finite_row(view: &AsOfView<'_>, mut each: impl FnMut(&[f64]) -> Result<()>) -> Result<()> {
    for batch in view.batches()? {
        let batch = batch?;
        let mut rows = NumberRows::from(&batch);
        for row in 0..batch.num_rows() {
            if let Some(numbers) = rows.finite(row) {
                each(numbers)?;
            }
        }
    }
    Ok(())
}

/// Refuses no columns, too many of them, and one that is named twice.
pub(super) fn check_columns(output: &str, columns: &[String]) -> Result<()> {
    if columns.is_empty() || columns.len() > COLUMNS_AT_MOST {
        let reason = format!("it reads {} columns together; it can read 1 to {COLUMNS_AT_MOST}", columns.len());
        return Err(unusable(output, reason));
    }
    let twice = columns.iter().enumerate().find(|(i, column)| columns.iter().take(*i).any(|before| before == *column));
    match twice {
        Some((_, column)) => Err(unusable(output, format!("it reads the column `{column}` twice; name each column once"))),
        None => Ok(()),
    }
}

/// The power of two that brings numbers of at most this size into `[0.5, 1)`, so that their squares stay in range. Scaling by it
/// rounds nothing but what is smaller than the largest number by 300 digits.
pub(super) fn power_of_two_scale(largest: f64) -> f64 {
    let exponent = ((largest.to_bits() >> 52) & 0x7ff) as i32 - 1022;
    2_f64.powi(-exponent.clamp(-1000, 1000))
}
