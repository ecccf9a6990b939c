//! Values of rows: one by one, as numbers, and as Arrow columns.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayData, ArrayRef, AsArray, BinaryArray, BooleanArray, LargeBinaryArray, LargeStringArray, RecordBatch,
        RecordBatchOptions, StringArray, make_array, new_null_array,
    },
    buffer::{BooleanBuffer, Buffer, NullBuffer},
    compute::cast,
    datatypes::{DataType, Float64Type, SchemaRef},
};

use super::layout::{Form, Row, RowLayout};
use crate::{
    error::{Error, Result},
    value::Value,
};

impl RowLayout {
    /// A column of these rows.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for bytes that no row of this layout has.
    pub(crate) fn column<'a>(&self, column: usize, rows: impl ExactSizeIterator<Item = &'a Row> + Clone) -> Result<ArrayRef> {
        let (slot, data_type, count) = (&self.slots[column], self.value_schema().field(column).data_type(), rows.len());
        let valid = BooleanBuffer::from_iter(rows.clone().map(|row| !self.is_null(row, column)));
        let nulls = Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0);
        let bytes = |row: &'a Row| self.bytes(row, column);
        // A row's bytes are borrowed from the row.
        let values = || rows.clone().map(|row| if self.is_null(row, column) { Ok(None) } else { bytes(row).map(Some) });
        let texts = || values().map(|value| value.and_then(|bytes| bytes.map(text).transpose()));
        Ok(match (&slot.form, data_type) {
            (Form::Bool, _) => {
                let bits = rows.clone().map(|row| bytes(row).map(|byte| byte == [1])).collect::<Result<BooleanBuffer>>()?;
                Arc::new(BooleanArray::new(bits, nulls))
            }
            (Form::Fixed(width), _) => {
                let mut buffer = Vec::with_capacity(count * width);
                for row in rows.clone() {
                    buffer.extend_from_slice(bytes(row)?);
                }
                let data = ArrayData::builder(data_type.clone()).len(count).nulls(nulls).add_buffer(Buffer::from(buffer));
                // The buffer of a vector is not aligned for wide values.
                make_array(data.align_buffers(true).build()?)
            }
            (Form::Packed(converter), _) => {
                let parser = converter.parser();
                let absent = converter.convert_columns(&[new_null_array(data_type, 1)])?;
                let absent = absent.row(0);
                let packed = values().map(|value| Ok(value?.unwrap_or(absent.data()))).collect::<Result<Vec<_>>>()?;
                converter.convert_rows(packed.into_iter().map(|bytes| parser.parse(bytes)))?.swap_remove(0)
            }
            (Form::Bytes, DataType::Utf8) => Arc::new(texts().collect::<Result<StringArray>>()?),
            (Form::Bytes, DataType::LargeUtf8) => Arc::new(texts().collect::<Result<LargeStringArray>>()?),
            (Form::Bytes, DataType::LargeBinary) => Arc::new(values().collect::<Result<LargeBinaryArray>>()?),
            (Form::Bytes, _) => Arc::new(values().collect::<Result<BinaryArray>>()?),
        })
    }

    /// These columns of these rows, with a schema that has them.
    pub(crate) fn batch(&self, schema: &SchemaRef, columns: &[usize], rows: &[Row]) -> Result<RecordBatch> {
        let columns = columns.iter().map(|&column| self.column(column, rows.iter())).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
    }

    /// A value.
    ///
    /// # Errors
    /// As [`Value::of`].
    pub(crate) fn value(&self, row: &Row, column: usize) -> Result<Value> {
        if self.is_null(row, column) {
            return Ok(Value::Null);
        }
        let field = self.value_schema().field(column);
        Ok(match field.data_type() {
            DataType::Boolean => Value::Bool(self.bytes(row, column)? == [1]),
            DataType::Int64 => Value::Int(i64::from_le_bytes(self.fixed(row, column)?)),
            DataType::Int32 => Value::Int(i32::from_le_bytes(self.fixed(row, column)?).into()),
            DataType::Float64 => Value::Float(f64::from_le_bytes(self.fixed(row, column)?)),
            DataType::Float32 => Value::Float(f32::from_le_bytes(self.fixed(row, column)?).into()),
            DataType::Utf8 => Value::Text(text(self.bytes(row, column)?)?.to_owned()),
            _ => Value::of("the row", field.name(), &self.column(column, std::iter::once(row))?, 0)?,
        })
    }

    /// Whether a column holds numbers, or truth values, which are 0 and 1.
    pub(crate) fn is_number(&self, column: usize) -> bool {
        let data_type = self.value_schema().field(column).data_type();
        data_type.is_numeric() || *data_type == DataType::Boolean
    }

    /// A number as the nearest float; NaN for NULL. As in a [`Dataset`](crate::Dataset).
    pub(crate) fn number(&self, row: &Row, column: usize) -> Result<f64> {
        if self.is_null(row, column) {
            return Ok(f64::NAN);
        }
        Ok(match self.value_schema().field(column).data_type() {
            DataType::Float64 => f64::from_le_bytes(self.fixed(row, column)?),
            DataType::Float32 => f32::from_le_bytes(self.fixed(row, column)?).into(),
            DataType::Int64 => i64::from_le_bytes(self.fixed(row, column)?) as f64,
            DataType::Int32 => i32::from_le_bytes(self.fixed(row, column)?).into(),
            DataType::Boolean => f64::from(u8::from(self.bytes(row, column)? == [1])),
            _ => {
                let number = cast(&self.column(column, std::iter::once(row))?, &DataType::Float64)?;
                let number = number.as_primitive::<Float64Type>();
                if number.is_valid(0) { number.value(0) } else { f64::NAN }
            }
        })
    }

    /// A time in microseconds; `None` for NULL.
    pub(crate) fn micros(&self, row: &Row, column: usize) -> Result<Option<i64>> {
        if self.is_null(row, column) { Ok(None) } else { Ok(Some(i64::from_le_bytes(self.fixed(row, column)?))) }
    }

    fn fixed<const N: usize>(&self, row: &Row, column: usize) -> Result<[u8; N]> {
        self.bytes(row, column)?.try_into().map_err(|_| contradicts())
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| contradicts())
}

fn contradicts() -> Error {
    Error::Corrupt {
        path: "a served row".into(),
        reason: "its bytes are not of its column's type; delete the cache directory, which is rebuilt".into(),
    }
}
