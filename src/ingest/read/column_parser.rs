//! Column parsers: each parses the text values of one column into an array.
//! A value that the column's type cannot hold is refused with a reason. It is never rounded or made NULL.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, Int64Array, NullBufferBuilder, PrimitiveArray, StringArray, TimestampMicrosecondArray,
        TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
    },
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::{
        ArrowPrimitiveType, DataType, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int32Type, Int64Type, Schema,
        TimeUnit as ArrowUnit, UInt64Type,
    },
};

use super::{fast_path, number, time_parser::TimeParser};
use crate::{
    error::Result,
    ingest::{load::Ingest, rejects::RejectReason},
    time::{days_of, parse_date},
};

/// The types that a load may declare.
pub(crate) const DECLARABLE: &str =
    "Int64, Float64, Boolean, Utf8, Int8 to Int32, UInt8 to UInt64, Float32, Date32, Decimal128 or Timestamp";

pub(crate) fn is_declarable(data_type: &DataType) -> bool {
    use DataType::{Boolean, Date32, Decimal128, Float32, Float64, Timestamp, Utf8};
    data_type.is_integer() || matches!(data_type, Boolean | Date32 | Decimal128(..) | Float32 | Float64 | Timestamp(..) | Utf8)
}

/// The parsers of a table's columns, in their order.
pub(crate) fn column_parsers(schema: &Schema, ingest: &Ingest) -> Vec<ColumnParser> {
    let declared = ingest.declared_types();
    let parser = |field: &FieldRef| {
        let typing = if declared.contains_key(field.name().as_str()) { Typing::Declared } else { Typing::Inferred };
        ColumnParser::new(field, ingest, typing)
    };
    schema.fields().iter().map(parser).collect()
}

/// Did the load declare the column's type, by itself or in a schema?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typing {
    Declared,
    Inferred,
}

/// Parses the text values of one column.
pub(crate) struct ColumnParser {
    pub(crate) name: String,
    data_type: DataType,
    typing: Typing,
    value_type: ValueType,
}

enum ValueType {
    /// The event time: an instant, never NULL.
    Instant(TimeParser),
    /// An instant: the type has a zone.
    ZonedTime(TimeParser),
    /// A local time: the type has no zone.
    LocalTime(TimeParser),
    Date,
    Integer {
        low: i64,
        high: i64,
    },
    Unsigned {
        high: u64,
    },
    Float,
    Float32,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Boolean,
    Text,
    /// A type that cannot be parsed from text, in a table made from other sources.
    Unsupported,
}

const NOT_UTF8: &str = "the value is not UTF-8";

fn text(value: &[u8]) -> Result<&str, RejectReason> {
    std::str::from_utf8(value).map_err(|_| NOT_UTF8.into())
}

impl ColumnParser {
    pub(crate) fn new(field: &Field, ingest: &Ingest, typing: Typing) -> Self {
        // A fact may have no known-at. Without an event time it has no month.
        let is_event = ingest.declared.event_column() == Some(field.name());
        let value_type = match field.data_type() {
            DataType::Timestamp(unit, zone) => {
                let parser = TimeParser::of_column(ingest, field.name(), *unit);
                match zone {
                    _ if is_event => ValueType::Instant(parser),
                    Some(_) => ValueType::ZonedTime(parser),
                    None => ValueType::LocalTime(parser),
                }
            }
            DataType::Date32 => ValueType::Date,
            DataType::Int8 => ValueType::Integer { low: i8::MIN.into(), high: i8::MAX.into() },
            DataType::Int16 => ValueType::Integer { low: i16::MIN.into(), high: i16::MAX.into() },
            DataType::Int32 => ValueType::Integer { low: i32::MIN.into(), high: i32::MAX.into() },
            DataType::Int64 => ValueType::Integer { low: i64::MIN, high: i64::MAX },
            DataType::UInt8 => ValueType::Unsigned { high: u8::MAX.into() },
            DataType::UInt16 => ValueType::Unsigned { high: u16::MAX.into() },
            DataType::UInt32 => ValueType::Unsigned { high: u32::MAX.into() },
            DataType::UInt64 => ValueType::Unsigned { high: u64::MAX },
            DataType::Float64 => ValueType::Float,
            DataType::Float32 => ValueType::Float32,
            DataType::Decimal128(precision, scale) => ValueType::Decimal { precision: *precision, scale: *scale },
            DataType::Boolean => ValueType::Boolean,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ValueType::Text,
            _ => ValueType::Unsupported,
        };
        Self { name: field.name().clone(), data_type: field.data_type().clone(), typing, value_type }
    }

    /// Parses texts, in which `None` is NULL. A value that the type cannot hold is NULL in the array, and `refuse` gets its row and
    /// the reason.
    pub(crate) fn parse<'a>(
        &self,
        texts: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
        refuse: impl FnMut(usize, RejectReason),
    ) -> Result<ArrayRef> {
        let timestamps = |values: Int64Array| Ok(timestamps(values, &self.data_type));
        let array: ArrayRef = match &self.value_type {
            ValueType::Instant(parser) => {
                let texts = texts.map(|value| Some(value.unwrap_or_default()));
                return timestamps(primitives::<Int64Type>(texts, refuse, instants(parser)));
            }
            ValueType::ZonedTime(parser) => return timestamps(primitives::<Int64Type>(texts, refuse, instants(parser))),
            ValueType::LocalTime(parser) => {
                let parse = |value: &[u8]| match parser.fast_local(value) {
                    Some(value) => Ok(value),
                    None => parser.local(text(value)?),
                };
                return timestamps(primitives::<Int64Type>(texts, refuse, parse));
            }
            ValueType::Date => Arc::new(primitives::<Int32Type>(texts, refuse, |value| match fast_path::date(value) {
                Some(days) => i32::try_from(days).map_err(|_| "the date is out of range".into()),
                None => Ok(days_of(parse_date(text(value)?)?)),
            })),
            ValueType::Integer { low, high } => {
                let parse = |value: &[u8]| match fast_path::integer(value) {
                    Some(value) if (*low..=*high).contains(&value) => Ok(value),
                    _ => self.integer(value, i128::from(*low), i128::from(*high)).map(|value| value as i64),
                };
                Arc::new(primitives::<Int64Type>(texts, refuse, parse))
            }
            ValueType::Unsigned { high } => {
                let parse = |value: &[u8]| self.integer(value, 0, i128::from(*high)).map(|value| value as u64);
                Arc::new(primitives::<UInt64Type>(texts, refuse, parse))
            }
            ValueType::Float => Arc::new(primitives::<Float64Type>(texts, refuse, |value| match fast_path::float(value) {
                Some(value) => Ok(value),
                None => Ok(number::float(text(value)?)?),
            })),
            ValueType::Float32 => Arc::new(primitives::<Float32Type>(texts, refuse, |value| Ok(number::float32(text(value)?)?))),
            ValueType::Decimal { precision, scale } => {
                let parse = |value: &[u8]| Ok(number::decimal128(text(value)?, *precision, *scale)?);
                let decimals = primitives::<Decimal128Type>(texts, refuse, parse);
                Arc::new(decimals.with_precision_and_scale(*precision, *scale)?)
            }
            ValueType::Boolean => Arc::new(booleans(texts, refuse, |value| Ok(truth(text(value)?, self.typing)?))),
            ValueType::Text => Arc::new(strings(texts, refuse)?),
            ValueType::Unsupported => unsupported(&self.data_type, texts, refuse),
        };
        Ok(if array.data_type() == &self.data_type { array } else { cast(&array, &self.data_type)? })
    }

    fn integer(&self, value: &[u8], low: i128, high: i128) -> Result<i128, RejectReason> {
        let text = text(value)?;
        if self.typing == Typing::Inferred && is_code(text) {
            return Err("digits after a leading zero are a code, not a number; declare the column's type".into());
        }
        Ok(number::integer(text, low, high)?)
    }
}

/// Parses instants, the common form of texts by the fast path.
fn instants(parser: &TimeParser) -> impl FnMut(&[u8]) -> Result<i64, RejectReason> {
    let mut hours = parser.hours();
    move |value| match hours.as_mut().and_then(|hours| parser.fast_instant(hours, value)) {
        Some(value) => Ok(value),
        None => parser.instant(text(value)?),
    }
}

fn primitives<'a, T: ArrowPrimitiveType>(
    texts: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
    mut refuse: impl FnMut(usize, RejectReason),
    mut parse: impl FnMut(&[u8]) -> Result<T::Native, RejectReason>,
) -> PrimitiveArray<T> {
    let mut values = Vec::with_capacity(texts.len());
    let mut nulls = NullBufferBuilder::new(texts.len());
    for (row, value) in texts.enumerate() {
        match value.map(&mut parse) {
            Some(Ok(value)) => {
                values.push(value);
                nulls.append_non_null();
            }
            other => {
                values.push(T::default_value());
                nulls.append_null();
                if let Some(Err(reason)) = other {
                    refuse(row, reason);
                }
            }
        }
    }
    PrimitiveArray::new(values.into(), nulls.finish())
}

fn booleans<'a>(
    texts: impl Iterator<Item = Option<&'a [u8]>>,
    mut refuse: impl FnMut(usize, RejectReason),
    parse: impl Fn(&[u8]) -> Result<bool, RejectReason>,
) -> BooleanArray {
    let value = |(row, value): (usize, Option<&[u8]>)| match parse(value?) {
        Ok(value) => Some(value),
        Err(reason) => {
            refuse(row, reason);
            None
        }
    };
    texts.enumerate().map(value).collect()
}

fn strings<'a>(
    texts: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
    mut refuse: impl FnMut(usize, RejectReason),
) -> Result<StringArray> {
    let (mut values, mut lengths) = (Vec::new(), Vec::with_capacity(texts.len()));
    let mut nulls = NullBufferBuilder::new(texts.len());
    for (row, value) in texts.enumerate() {
        let is_text = |value: &&[u8]| value.is_ascii() || std::str::from_utf8(value).is_ok();
        match value.filter(is_text) {
            Some(text) => {
                values.extend_from_slice(text);
                lengths.push(text.len());
                nulls.append_non_null();
            }
            None => {
                lengths.push(0);
                nulls.append_null();
                if value.is_some() {
                    refuse(row, NOT_UTF8.into());
                }
            }
        }
    }
    Ok(StringArray::try_new(OffsetBuffer::from_lengths(lengths), values.into(), nulls.finish())?)
}

fn unsupported<'a>(
    data_type: &DataType,
    texts: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
    mut refuse: impl FnMut(usize, RejectReason),
) -> ArrayRef {
    let count = texts.len();
    for (row, _) in texts.enumerate().filter(|(_, value)| value.is_some()) {
        refuse(row, "the column's type in the table cannot be read from text".into());
    }
    arrow::array::new_null_array(data_type, count)
}

/// Integers in the unit of a timestamp type, as that type.
pub(crate) fn timestamps(values: arrow::array::Int64Array, data_type: &DataType) -> ArrayRef {
    let (_, values, nulls) = values.into_parts();
    let DataType::Timestamp(unit, zone) = data_type else {
        return Arc::new(arrow::array::Int64Array::new(values, nulls));
    };
    match unit {
        ArrowUnit::Second => Arc::new(TimestampSecondArray::new(values, nulls).with_timezone_opt(zone.clone())),
        ArrowUnit::Millisecond => Arc::new(TimestampMillisecondArray::new(values, nulls).with_timezone_opt(zone.clone())),
        ArrowUnit::Microsecond => Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone_opt(zone.clone())),
        ArrowUnit::Nanosecond => Arc::new(TimestampNanosecondArray::new(values, nulls).with_timezone_opt(zone.clone())),
    }
}

fn truth(text: &str, typing: Typing) -> Result<bool, &'static str> {
    match text {
        "true" | "True" | "TRUE" => return Ok(true),
        "false" | "False" | "FALSE" => return Ok(false),
        _ if typing == Typing::Inferred => return Err("neither true nor false"),
        _ => {}
    }
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "0" => Ok(false),
        _ => Err("neither true nor false"),
    }
}

/// Digits after a leading zero, such as `007`. As numbers, different codes could become equal.
pub(crate) fn is_code(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}
