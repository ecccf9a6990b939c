//! A single value of a request, a key, a feature or a parameter.
//! A value is converted between Rust and Arrow exactly; a conversion that would change it is an error.

mod bits;
mod convert;
mod decimal;

use arrow::datatypes::DataType;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use serde::{Deserialize, Serialize};

pub(crate) use bits::{bits, differing_rows, has_same_bits, shown};
pub(crate) use convert::floats;
pub use decimal::Decimal;

use crate::time::AsOf;

/// A value of a request, a key, a feature or a parameter.
///
/// A value read from a column is exact, or reading it is an error; it is never rounded. A value fits a column of its kind if the
/// column can hold exactly this value. Only a [`Value::Float`] is rounded, to the width of its column.
///
/// | column | value |
/// |---|---|
/// | integers of any width | [`Value::Int`], [`Value::Unsigned`] above 2^63 - 1 |
/// | floats | [`Value::Float`] |
/// | decimals | [`Value::Decimal`], to a column also [`Value::Int`] |
/// | truth values, texts, bytes | [`Value::Bool`], [`Value::Text`], [`Value::Bytes`] |
/// | timestamps with a zone | [`Value::Instant`], [`Value::InstantNanos`] where microseconds do not hold it |
/// | timestamps without one, dates, times of day, durations | [`Value::Local`], [`Value::Date`], [`Value::Time`], [`Value::Duration`] |
/// | lists | [`Value::List`] |
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
    /// An integer above the range of `i64`; a smaller one is a [`Value::Int`].
    Unsigned(u64),
    /// A number.
    Float(f64),
    /// A decimal number.
    Decimal(Decimal),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An instant.
    Instant(AsOf),
    /// An instant that is not a whole number of microseconds, in nanoseconds since 1970 UTC.
    InstantNanos(i64),
    /// A date and a time of day without a zone.
    Local(NaiveDateTime),
    /// A date.
    Date(NaiveDate),
    /// A time of day.
    Time(NaiveTime),
    /// A length of time.
    Duration(TimeDelta),
    /// A list of values of one type; NULL is allowed among them.
    List(Vec<Value>),
}

impl Value {
    /// Whether it is, or contains, a float that is not finite.
    pub(crate) fn holds_non_finite_float(&self) -> bool {
        match self {
            Value::Float(x) => !x.is_finite(),
            Value::List(items) => items.iter().any(Value::holds_non_finite_float),
            _ => false,
        }
    }

    /// Whether a column of this type holds values of this kind.
    fn is_of_kind(&self, data_type: &DataType) -> bool {
        match (self, data_type) {
            (_, DataType::Dictionary(_, values)) => self.is_of_kind(values),
            (Value::Null, _) => true,
            (Value::Int(_) | Value::Unsigned(_), to) => to.is_integer() || to.is_floating() || to.is_decimal(),
            (Value::Float(_), to) => to.is_floating(),
            (Value::Decimal(_), to) => to.is_decimal(),
            (Value::Text(_), to) => to.is_string(),
            (Value::Bytes(_), to) => to.is_binary() || matches!(to, DataType::FixedSizeBinary(_)),
            (Value::Bool(_), to) => *to == DataType::Boolean,
            (Value::Instant(_) | Value::InstantNanos(_), to) => matches!(to, DataType::Timestamp(_, Some(_))),
            (Value::Local(_), to) => matches!(to, DataType::Timestamp(_, None)),
            (Value::Date(_), to) => matches!(to, DataType::Date32 | DataType::Date64),
            (Value::Time(_), to) => matches!(to, DataType::Time32(_) | DataType::Time64(_)),
            (Value::Duration(_), to) => matches!(to, DataType::Duration(_)),
            (Value::List(_), to) => {
                matches!(to, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _))
            }
        }
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
from!(
    bool => Bool, i8 => Int, i16 => Int, i32 => Int, i64 => Int, u8 => Int, u16 => Int, u32 => Int, f64 => Float, f32 => Float,
    Decimal => Decimal, &str => Text, String => Text, Vec<u8> => Bytes, &[u8] => Bytes, AsOf => Instant,
    NaiveDateTime => Local, NaiveDate => Date, NaiveTime => Time, TimeDelta => Duration, Vec<Value> => List
);

impl From<u64> for Value {
    fn from(x: u64) -> Self {
        i64::try_from(x).map_or(Value::Unsigned(x), Value::Int)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(x: Option<T>) -> Self {
        x.map_or(Value::Null, Into::into)
    }
}
