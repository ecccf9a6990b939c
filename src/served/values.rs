//! Values of rows: one by one, as numbers, and as Arrow columns.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayData, ArrayRef, BinaryArray, BooleanArray, LargeBinaryArray, LargeStringArray, RecordBatch,
        RecordBatchOptions, StringArray, make_array, new_null_array,
    },
    buffer::{BooleanBuffer, Buffer, NullBuffer},
    datatypes::{DataType, SchemaRef},
};

use super::layout::{Form, NumberForm, Row, RowLayout, Rows, array_at};
use crate::{
    error::{Error, Result},
    value::{Value, floats},
};

impl RowLayout {
    /// A column of these rows.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for bytes that no row of this layout has.
    pub(crate) fn column(&self, column: usize, rows: &Rows) -> Result<ArrayRef> {
        let (slot, data_type, count) = (&self.slots[column], self.value_schema().field(column).data_type(), rows.len());
        let is_null = |fixed: &[u8]| self.is_null(fixed, column);
        let nulls = rows
            .fixed()
            .any(is_null)
            .then(|| NullBuffer::new(BooleanBuffer::from_iter(rows.fixed().map(|fixed| !is_null(fixed)))));
        let values = || rows.iter().map(|row| if is_null(row.fixed) { Ok(None) } else { self.bytes(row, column).map(Some) });
        let texts = || values().map(|value| value.and_then(|bytes| bytes.map(text).transpose()));
        Ok(match (&slot.form, data_type) {
            (Form::Bool, _) => {
                let bits = BooleanBuffer::from_iter(rows.fixed().map(|fixed| fixed[slot.at] == 1));
                Arc::new(BooleanArray::new(bits, nulls))
            }
            (Form::Fixed(width), _) => {
                let at = slot.at;
                let buffer = match width {
                    8 => Buffer::from_vec(rows.fixed().map(|fixed| u64::from_le_bytes(array_at(fixed, at))).collect::<Vec<_>>()),
                    4 => Buffer::from_vec(rows.fixed().map(|fixed| u32::from_le_bytes(array_at(fixed, at))).collect::<Vec<_>>()),
                    width => {
                        let mut bytes = Vec::with_capacity(count * width);
                        rows.fixed().for_each(|fixed| bytes.extend_from_slice(&fixed[at..at + width]));
                        Buffer::from_vec(bytes)
                    }
                };
                let data = ArrayData::builder(data_type.clone()).len(count).nulls(nulls).add_buffer(buffer);
                // Bytes of other widths lie where they came to lie.
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
    pub(crate) fn batch(&self, schema: &SchemaRef, columns: &[usize], rows: &Rows) -> Result<RecordBatch> {
        let columns = columns.iter().map(|&column| self.column(column, rows)).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
    }

    /// A column of one row.
    fn single(&self, row: &Row, column: usize) -> Result<ArrayRef> {
        let mut rows = Rows::with_capacity(self, 1);
        rows.push(row);
        self.column(column, &rows)
    }

    /// A value.
    ///
    /// # Errors
    /// As [`Value::of`].
    pub(crate) fn value(&self, row: &Row, column: usize) -> Result<Value> {
        if self.is_null(&row.fixed, column) {
            return Ok(Value::Null);
        }
        let field = self.value_schema().field(column);
        Ok(match field.data_type() {
            DataType::Boolean => Value::Bool(self.bytes(row.as_ref(), column)? == [1]),
            DataType::Int64 => Value::Int(i64::from_le_bytes(self.fixed(row, column)?)),
            DataType::Int32 => Value::Int(i32::from_le_bytes(self.fixed(row, column)?).into()),
            DataType::Float64 => Value::Float(f64::from_le_bytes(self.fixed(row, column)?)),
            DataType::Float32 => Value::Float(f32::from_le_bytes(self.fixed(row, column)?).into()),
            DataType::Utf8 => Value::Text(text(self.bytes(row.as_ref(), column)?)?.to_owned()),
            _ => Value::of("the row", field.name(), &self.single(row, column)?, 0)?,
        })
    }

    /// Whether a column holds numbers, or truth values, which are 0 and 1.
    pub(crate) fn is_number(&self, column: usize) -> bool {
        self.slots[column].number != NumberForm::None
    }

    /// These columns as the nearest floats, as in a [`Dataset`](crate::training::Dataset); NaN for NULL. All of them must be numbers.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for bytes that no row of this layout has.
    pub(crate) fn numbers(&self, row: &Row, columns: &[usize], out: &mut [f64]) -> Result<()> {
        let fixed = row.fixed.as_slice();
        for (number, &column) in out.iter_mut().zip(columns) {
            let slot = &self.slots[column];
            *number = match slot.number {
                _ if self.is_null(fixed, column) => f64::NAN,
                NumberForm::Float64 => f64::from_le_bytes(array_at(fixed, slot.at)),
                NumberForm::Float32 => f32::from_le_bytes(array_at(fixed, slot.at)).into(),
                NumberForm::Int64 => i64::from_le_bytes(array_at(fixed, slot.at)) as f64,
                NumberForm::Int32 => i32::from_le_bytes(array_at(fixed, slot.at)).into(),
                NumberForm::Bool => f64::from(fixed[slot.at]),
                NumberForm::Converted | NumberForm::None => {
                    let converted = floats(&self.single(row, column)?)?;
                    if converted.is_valid(0) { converted.value(0) } else { f64::NAN }
                }
            };
        }
        Ok(())
    }

    /// A time in microseconds; `None` for NULL.
    pub(crate) fn micros(&self, row: &Row, column: usize) -> Result<Option<i64>> {
        if self.is_null(&row.fixed, column) { Ok(None) } else { Ok(Some(i64::from_le_bytes(self.fixed(row, column)?))) }
    }

    fn fixed<const N: usize>(&self, row: &Row, column: usize) -> Result<[u8; N]> {
        self.bytes(row.as_ref(), column)?.try_into().map_err(|_| contradicts())
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
