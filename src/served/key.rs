//! Keys of requests as bytes, in the form in which rows hold them.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Int32Type, Int64Type},
};

use super::layout::{RowLayout, end_of, key_bytes};
use crate::{error::Result, value::Value};

impl RowLayout {
    /// Appends the bytes of a key, whose values are in the order of its columns. `false` for a key with a NULL, which no row has.
    ///
    /// # Errors
    /// [`Error::ColumnType`](crate::Error::ColumnType) for a value that does not fit its column.
    pub(crate) fn put_key<'a>(&self, values: impl IntoIterator<Item = &'a Value>, into: &mut Vec<u8>) -> Result<bool> {
        let mut is_whole = true;
        for (i, (value, field)) in values.into_iter().zip(self.key_schema().fields()).enumerate() {
            // Most keys are integers or texts; these need no array.
            match (value, field.data_type()) {
                (Value::Int(x), DataType::Int64) => into.extend_from_slice(&x.to_le_bytes()),
                (Value::Int(x), DataType::Int32) if i32::try_from(*x).is_ok() => into.extend_from_slice(&x.to_le_bytes()[..4]),
                (Value::Int(x), DataType::Int16) if i16::try_from(*x).is_ok() => into.extend_from_slice(&x.to_le_bytes()[..2]),
                (Value::Text(x), DataType::Utf8) => {
                    into.extend_from_slice(&end_of(x.len())?);
                    into.extend_from_slice(x.as_bytes());
                }
                _ => {
                    let array = value.to_array("the key", field.name(), field.data_type())?;
                    match key_bytes(&self.keys[i..=i], &[array], 1)?.pop().flatten() {
                        Some(bytes) => into.extend_from_slice(&bytes),
                        None => is_whole = false,
                    }
                }
            }
        }
        Ok(is_whole)
    }

    /// Appends the bytes of the key in a row of columns of the key's types. `false` for a key with a NULL.
    pub(crate) fn put_key_of<'a>(
        &self,
        columns: impl IntoIterator<Item = &'a ArrayRef>,
        row: usize,
        into: &mut Vec<u8>,
    ) -> Result<bool> {
        for (i, column) in columns.into_iter().enumerate() {
            if column.is_null(row) {
                return Ok(false);
            }
            match column.data_type() {
                DataType::Int64 => into.extend_from_slice(&column.as_primitive::<Int64Type>().value(row).to_le_bytes()),
                DataType::Int32 => into.extend_from_slice(&column.as_primitive::<Int32Type>().value(row).to_le_bytes()),
                _ => {
                    let key = key_bytes(&self.keys[i..=i], &[column.slice(row, 1)], 1)?;
                    into.extend(key.into_iter().flatten().flatten());
                }
            }
        }
        Ok(true)
    }
}
