//! One column of a text format: its cells become an array at once, the common forms of values by their bytes.
//! A value that the column's type cannot hold is refused with a reason; it is never rounded or made NULL.

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
    ingest::{load::Ingest, rejects::Reason},
};

/// The types that a load may declare.
pub(crate) const DECLARABLE: &str =
    "Int64, Float64, Boolean, Utf8, Int8 to Int32, UInt8 to UInt64, Float32, Date32, Decimal128 or Timestamp";

pub(crate) fn is_declarable(data_type: &DataType) -> bool {
    use DataType::{Boolean, Date32, Decimal128, Float32, Float64, Timestamp, Utf8};
    data_type.is_integer() || matches!(data_type, Boolean | Date32 | Decimal128(..) | Float32 | Float64 | Timestamp(..) | Utf8)
}

/// The readers of a table's columns, in their order.
pub(crate) fn column_parsers(schema: &Schema, ingest: &Ingest) -> Vec<ColumnParser> {
    let declared = ingest.declared_types();
    let reader = |field: &FieldRef| {
        let typing = if declared.contains_key(field.name().as_str()) { Typing::Declared } else { Typing::Inferred };
        ColumnParser::new(field, ingest, typing)
    };
    schema.fields().iter().map(reader).collect()
}

/// Is the column one that was declared for this load, by a type of its own or a whole schema?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typing {
    Declared,
    Inferred,
}

/// Reads one column of a text format.
pub(crate) struct ColumnParser {
    pub(crate) name: String,
    data_type: DataType,
    typing: Typing,
    kind: Kind,
}

enum Kind {
    /// The event time: an instant, and never NULL.
    Instant(TimeParser),
    /// A timestamp like any other value: an instant, for the type has a zone.
    ZonedTime(TimeParser),
    /// A clock's reading, for the type has no zone.
    ClockTime(TimeParser),
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
    /// A type that text formats do not hold, in a table that other sources made.
    Foreign,
}

const NOT_UTF8: &str = "the value is not UTF-8";

fn text(cell: &[u8]) -> Result<&str, Reason> {
    std::str::from_utf8(cell).map_err(|_| NOT_UTF8.into())
}

impl ColumnParser {
    pub(crate) fn new(field: &Field, ingest: &Ingest, typing: Typing) -> Self {
        // A fact that was never known is a fact; one that never happened has no month to lie in.
        let is_event = ingest.declared.event_column() == field.name();
        let kind = match field.data_type() {
            DataType::Timestamp(unit, zone) => {
                let reader = TimeParser::of_column(ingest, field.name(), *unit);
                match zone {
                    _ if is_event => Kind::Instant(reader),
                    Some(_) => Kind::ZonedTime(reader),
                    None => Kind::ClockTime(reader),
                }
            }
            DataType::Date32 => Kind::Date,
            DataType::Int8 => Kind::Integer { low: i8::MIN.into(), high: i8::MAX.into() },
            DataType::Int16 => Kind::Integer { low: i16::MIN.into(), high: i16::MAX.into() },
            DataType::Int32 => Kind::Integer { low: i32::MIN.into(), high: i32::MAX.into() },
            DataType::Int64 => Kind::Integer { low: i64::MIN, high: i64::MAX },
            DataType::UInt8 => Kind::Unsigned { high: u8::MAX.into() },
            DataType::UInt16 => Kind::Unsigned { high: u16::MAX.into() },
            DataType::UInt32 => Kind::Unsigned { high: u32::MAX.into() },
            DataType::UInt64 => Kind::Unsigned { high: u64::MAX },
            DataType::Float64 => Kind::Float,
            DataType::Float32 => Kind::Float32,
            DataType::Decimal128(precision, scale) => Kind::Decimal { precision: *precision, scale: *scale },
            DataType::Boolean => Kind::Boolean,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
            _ => Kind::Foreign,
        };
        Self { name: field.name().clone(), data_type: field.data_type().clone(), typing, kind }
    }

    /// The values of these cells, in which `None` is NULL. One that the type cannot hold is NULL in the array, and its row is
    /// refused with the reason.
    pub(crate) fn read<'a>(
        &self,
        cells: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
        refuse: impl FnMut(usize, Reason),
    ) -> Result<ArrayRef> {
        let timestamps = |values: Int64Array| Ok(timestamps(values, &self.data_type));
        let array: ArrayRef = match &self.kind {
            Kind::Instant(reader) => {
                let cells = cells.map(|cell| Some(cell.unwrap_or_default()));
                return timestamps(primitives::<Int64Type>(cells, refuse, instants(reader)));
            }
            Kind::ZonedTime(reader) => return timestamps(primitives::<Int64Type>(cells, refuse, instants(reader))),
            Kind::ClockTime(reader) => {
                let read = |cell: &[u8]| match reader.reading_by_clock(cell) {
                    Some(value) => Ok(value),
                    None => reader.local(text(cell)?),
                };
                return timestamps(primitives::<Int64Type>(cells, refuse, read));
            }
            Kind::Date => Arc::new(primitives::<Int32Type>(cells, refuse, |cell| match fast_path::date(cell) {
                Some(days) => i32::try_from(days).map_err(|_| DATE_RANGE.into()),
                None => date(text(cell)?),
            })),
            Kind::Integer { low, high } => {
                let read = |cell: &[u8]| match fast_path::integer(cell) {
                    Some(value) if (*low..=*high).contains(&value) => Ok(value),
                    _ => self.integer(cell, i128::from(*low), i128::from(*high)).map(|value| value as i64),
                };
                Arc::new(primitives::<Int64Type>(cells, refuse, read))
            }
            Kind::Unsigned { high } => {
                let read = |cell: &[u8]| self.integer(cell, 0, i128::from(*high)).map(|value| value as u64);
                Arc::new(primitives::<UInt64Type>(cells, refuse, read))
            }
            Kind::Float => Arc::new(primitives::<Float64Type>(cells, refuse, |cell| match fast_path::float(cell) {
                Some(value) => Ok(value),
                None => Ok(number::float(text(cell)?)?),
            })),
            Kind::Float32 => Arc::new(primitives::<Float32Type>(cells, refuse, |cell| Ok(number::float32(text(cell)?)?))),
            Kind::Decimal { precision, scale } => {
                let read = |cell: &[u8]| Ok(number::decimal128(text(cell)?, *precision, *scale)?);
                let decimals = primitives::<Decimal128Type>(cells, refuse, read);
                Arc::new(decimals.with_precision_and_scale(*precision, *scale)?)
            }
            Kind::Boolean => Arc::new(booleans(cells, refuse, |cell| Ok(truth(text(cell)?, self.typing)?))),
            Kind::Text => Arc::new(texts(cells, refuse)?),
            Kind::Foreign => foreign(&self.data_type, cells, refuse),
        };
        Ok(if array.data_type() == &self.data_type { array } else { cast(&array, &self.data_type)? })
    }

    fn integer(&self, cell: &[u8], low: i128, high: i128) -> Result<i128, Reason> {
        let text = text(cell)?;
        if self.typing == Typing::Inferred && is_code(text) {
            return Err("digits behind a leading zero are a code, not a number; declare the column's type".into());
        }
        Ok(number::integer(text, low, high)?)
    }
}

/// Reads instants, the common form of texts by the bytes.
fn instants(reader: &TimeParser) -> impl FnMut(&[u8]) -> Result<i64, Reason> {
    let mut hours = reader.hours();
    move |cell| match hours.as_mut().and_then(|hours| reader.instant_by_clock(hours, cell)) {
        Some(value) => Ok(value),
        None => reader.instant(text(cell)?),
    }
}

fn primitives<'a, T: ArrowPrimitiveType>(
    cells: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
    mut refuse: impl FnMut(usize, Reason),
    mut read: impl FnMut(&[u8]) -> Result<T::Native, Reason>,
) -> PrimitiveArray<T> {
    let mut values = Vec::with_capacity(cells.len());
    let mut nulls = NullBufferBuilder::new(cells.len());
    for (row, cell) in cells.enumerate() {
        match cell.map(&mut read) {
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
    cells: impl Iterator<Item = Option<&'a [u8]>>,
    mut refuse: impl FnMut(usize, Reason),
    read: impl Fn(&[u8]) -> Result<bool, Reason>,
) -> BooleanArray {
    let value = |(row, cell): (usize, Option<&[u8]>)| match read(cell?) {
        Ok(value) => Some(value),
        Err(reason) => {
            refuse(row, reason);
            None
        }
    };
    cells.enumerate().map(value).collect()
}

fn texts<'a>(
    cells: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
    mut refuse: impl FnMut(usize, Reason),
) -> Result<StringArray> {
    let (mut values, mut lengths) = (Vec::new(), Vec::with_capacity(cells.len()));
    let mut nulls = NullBufferBuilder::new(cells.len());
    for (row, cell) in cells.enumerate() {
        let is_text = |cell: &&[u8]| cell.is_ascii() || std::str::from_utf8(cell).is_ok();
        match cell.filter(is_text) {
            Some(text) => {
                values.extend_from_slice(text);
                lengths.push(text.len());
                nulls.append_non_null();
            }
            None => {
                lengths.push(0);
                nulls.append_null();
                if cell.is_some() {
                    refuse(row, NOT_UTF8.into());
                }
            }
        }
    }
    Ok(StringArray::try_new(OffsetBuffer::from_lengths(lengths), values.into(), nulls.finish())?)
}

fn foreign<'a>(
    data_type: &DataType,
    cells: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
    mut refuse: impl FnMut(usize, Reason),
) -> ArrayRef {
    let count = cells.len();
    for (row, _) in cells.enumerate().filter(|(_, cell)| cell.is_some()) {
        refuse(row, "the table's column has a type that texts are not read as".into());
    }
    arrow::array::new_null_array(data_type, count)
}

/// Numbers of a timestamp type's unit as that type.
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

const DATE_RANGE: &str = "the date is out of range";

/// Days since 1970 of a date without a time of day.
fn date(text: &str) -> Result<i32, Reason> {
    const DAY_NS: i128 = 86_400_000_000_000;
    let is_date = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'/'));
    let (local_ns, _) = if is_date { crate::time::parse_local_ns(text)? } else { return Err("not a date alone".into()) };
    i32::try_from(local_ns.div_euclid(DAY_NS)).map_err(|_| DATE_RANGE.into())
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

/// Digits behind a leading zero: reading them as a number would make two codes one.
pub(crate) fn is_code(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}
