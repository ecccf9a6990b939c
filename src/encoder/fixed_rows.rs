//! Rows for the unit tests of fitted encoders, and the rules that all of them keep.
//! What is learned must not depend on the order of the rows or on batches; what is encoded must depend on one row alone.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array},
    compute::{concat, take},
    datatypes::Schema,
};
use serde::Deserialize;
use serde_json::Value;

use super::{AsOfView, Batches, FittedEncoder, Replay, ViewParts, input_schema};
use crate::{error::Result, time::AsOf};

/// Columns in batches. A view of them has the names that their encoder declares.
struct FixedRows(Vec<Vec<ArrayRef>>);

impl Replay for FixedRows {
    fn replay(&self, columns: &Schema) -> Result<Batches<'_>> {
        let schema = Arc::new(columns.clone());
        Ok(Box::new(self.0.iter().map(move |columns| Ok(RecordBatch::try_new(schema.clone(), columns.clone())?))))
    }
}

pub(super) fn numbers(numbers: impl IntoIterator<Item = impl Into<Option<f64>>>) -> ArrayRef {
    Arc::new(Float64Array::from_iter(numbers.into_iter().map(Into::into)))
}

pub(super) fn integers(integers: impl IntoIterator<Item = impl Into<Option<i64>>>) -> ArrayRef {
    Arc::new(Int64Array::from_iter(integers.into_iter().map(Into::into)))
}

pub(super) fn texts<'a>(texts: impl IntoIterator<Item = impl Into<Option<&'a str>>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(texts.into_iter().map(Into::into)))
}

/// What an encoder learns from columns in this order and batches, read back from its JSON.
fn learned_from<E: FittedEncoder>(encoder: &E, batches: Vec<Vec<ArrayRef>>) -> Result<(Value, E::State)> {
    let rows = FixedRows(batches);
    let columns = input_schema(&encoder.spec());
    let view: AsOfView<'_> = ViewParts { as_of: AsOf::from_micros(0), columns, rows: &rows }.into();
    let json = serde_json::to_value(encoder.fit(&view)?).unwrap();
    let state = E::State::deserialize(&json).unwrap();
    assert_eq!(serde_json::to_value(&state).unwrap(), json, "a state comes back from JSON as it was");
    Ok((json, state))
}

/// What an encoder learns from a column. It is the same in every order and in all batches.
pub(super) fn learned<E: FittedEncoder>(encoder: &E, column: &ArrayRef) -> Result<E::State> {
    learned_together(encoder, std::slice::from_ref(column))
}

/// What an encoder learns from several columns, as [`learned`].
pub(super) fn learned_together<E: FittedEncoder>(encoder: &E, columns: &[ArrayRef]) -> Result<E::State> {
    let (json, state) = learned_from(encoder, vec![columns.to_vec()])?;
    let rows = columns[0].len();
    let last_first = UInt32Array::from_iter_values((0..rows as u32).rev());
    let reversed: Vec<ArrayRef> = columns.iter().map(|column| take(column, &last_first, None).unwrap()).collect();
    let part = |columns: &[ArrayRef], i: usize| columns.iter().map(|column| column.slice(i, 3.min(rows - i))).collect();
    let in_threes = |columns: &[ArrayRef]| (0..rows).step_by(3).map(|i| part(columns, i)).collect();
    for batches in [vec![reversed.clone()], in_threes(columns), in_threes(&reversed)] {
        assert_eq!(learned_from(encoder, batches)?.0, json, "the order and the batches of rows do not matter");
    }
    Ok(state)
}

/// The columns that an encoder returns. They are the same when it is asked row by row.
pub(super) fn encoded<E: FittedEncoder>(encoder: &E, state: &E::State, column: &ArrayRef) -> Vec<ArrayRef> {
    encoded_together(encoder, state, std::slice::from_ref(column))
}

/// The columns that an encoder of several columns returns, as [`encoded`].
pub(super) fn encoded_together<E: FittedEncoder>(encoder: &E, state: &E::State, columns: &[ArrayRef]) -> Vec<ArrayRef> {
    let spec = encoder.spec();
    let encode =
        |columns: Vec<ArrayRef>| encoder.encode(state, &RecordBatch::try_new(input_schema(&spec), columns).unwrap()).unwrap();
    let rows = columns[0].len();
    let together = encode(columns.to_vec());
    assert_eq!(together.len(), spec.outputs.len());
    let row = |row: usize| encode(columns.iter().map(|column| column.slice(row, 1)).collect());
    let alone: Vec<Vec<ArrayRef>> = (0..rows).map(row).collect();
    for (position, (output, field)) in together.iter().zip(&spec.outputs).enumerate() {
        assert_eq!((output.data_type(), output.len()), (field.data_type(), rows));
        let rows: Vec<&dyn Array> = alone.iter().map(|columns| columns[position].as_ref()).collect();
        if !rows.is_empty() {
            assert_eq!(&concat(&rows).unwrap(), output, "a row is encoded by itself");
        }
    }
    together
}

/// The only column that an encoder returns after it has learned from another one.
pub(super) fn learned_and_encoded<E: FittedEncoder>(encoder: &E, training: &ArrayRef, rows: &ArrayRef) -> ArrayRef {
    let mut columns = encoded(encoder, &learned(encoder, training).unwrap(), rows);
    assert_eq!(columns.len(), 1);
    columns.remove(0)
}

/// Compares numbers with those of scikit-learn: NULL where there is none, and equal to 13 digits.
pub(super) fn assert_near(found: &ArrayRef, expected: &[Option<f64>]) {
    assert_near_to(1e-13, found, expected);
}

/// As [`assert_near`], to a share of the expected number. Below a thousandth, it is that share of a thousandth.
pub(super) fn assert_near_to(share: f64, found: &ArrayRef, expected: &[Option<f64>]) {
    let found = arrow::compute::cast(found, &arrow::datatypes::DataType::Float64).unwrap();
    let found = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(&found);
    assert_eq!(found.len(), expected.len());
    for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
        match (found, expected) {
            (None, None) => {}
            (Some(x), Some(y)) => assert!((x - y).abs() <= share * y.abs().max(1e-3), "row {row}: {x} and {y}"),
            _ => panic!("row {row}: {found:?} and {expected:?}"),
        }
    }
}

/// A part of the numbers that `tests/fixtures/fitted_encoders_sklearn.py` has made.
pub(super) fn fixture<T: for<'de> Deserialize<'de>>(part: &str) -> T {
    let all: Value = serde_json::from_str(include_str!("../../tests/fixtures/fitted_encoders_sklearn.json")).unwrap();
    T::deserialize(all.get(part).unwrap_or_else(|| panic!("the fixture has no part {part}"))).unwrap()
}
