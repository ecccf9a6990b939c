//! A single value of a request, a key or a feature.
//! It converts between Rust and Arrow and judges nothing.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, new_null_array,
    },
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    time::AsOf,
};

/// A value of a request, a key or a feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer of any width.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// An instant.
    Instant(AsOf),
}

impl Value {
    /// The value as an array of one row of this type.
    pub(crate) fn to_array(&self, place: &str, column: &str, data_type: &DataType) -> Result<ArrayRef> {
        let array: ArrayRef = match self {
            Value::Null => return Ok(new_null_array(data_type, 1)),
            Value::Bool(x) => Arc::new(BooleanArray::from(vec![*x])),
            Value::Int(x) => Arc::new(Int64Array::from(vec![*x])),
            Value::Float(x) => Arc::new(Float64Array::from(vec![*x])),
            Value::Text(x) => Arc::new(StringArray::from(vec![x.as_str()])),
            Value::Instant(x) => Arc::new(TimestampMicrosecondArray::from(vec![x.micros()]).with_timezone("UTC")),
        };
        let refused = || Error::ColumnType {
            place: place.into(),
            column: column.into(),
            found: format!("{self:?}"),
            needed: format!("{data_type} is asked for"),
        };
        let fits = match (self, data_type) {
            (Value::Int(_), to) => to.is_integer() || to.is_floating(),
            (Value::Float(_), to) => to.is_floating(),
            (Value::Text(_), to) => to.is_string(),
            (Value::Bool(_), to) => *to == DataType::Boolean,
            (Value::Instant(_), to) => matches!(to, DataType::Timestamp(_, Some(_))),
            (Value::Null, _) => true,
        };
        let array = if fits { cast(&array, data_type)? } else { return Err(refused()) };
        // A cast that does not fit yields NULL: an integer too wide for its column.
        if array.is_null(0) { Err(refused()) } else { Ok(array) }
    }

    /// The value in one row of a column.
    pub(crate) fn of(array: &ArrayRef, row: usize) -> Result<Self> {
        if array.is_null(row) {
            return Ok(Value::Null);
        }
        let one = array.slice(row, 1);
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Ok(match array.data_type() {
            DataType::Boolean => Value::Bool(one.as_boolean().value(0)),
            t if t.is_integer() => Value::Int(cast(&one, &DataType::Int64)?.as_primitive::<Int64Type>().value(0)),
            t if t.is_floating() => Value::Float(cast(&one, &DataType::Float64)?.as_primitive::<Float64Type>().value(0)),
            DataType::Timestamp(_, Some(_)) => {
                Value::Instant(AsOf::from_micros(cast(&one, &instant)?.as_primitive::<TimestampMicrosecondType>().value(0)))
            }
            _ => Value::Text(arrow::util::display::array_value_to_string(&one, 0)?),
        })
    }
}

macro_rules! from {
    ($($rust:ty => $variant:ident),*) => {$(
        impl From<$rust> for Value {
            fn from(x: $rust) -> Self {
                Value::$variant(x.into())
            }
        }
    )*};
}
from!(bool => Bool, i32 => Int, i64 => Int, u32 => Int, f64 => Float, f32 => Float, &str => Text, String => Text, AsOf => Instant);

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(x: Option<T>) -> Self {
        x.map_or(Value::Null, Into::into)
    }
}
