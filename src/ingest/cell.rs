//! One column of a text format: a value is parsed first and, once its whole row is good, appended.
//! A value that the column's type cannot hold is refused with a reason; it is never rounded or made NULL.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanBuilder, Decimal128Builder, Float32Builder, Float64Builder, Int32Builder, Int64Builder, StringBuilder,
        TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Builder,
    },
    compute::cast,
    datatypes::{DataType, Field, TimeUnit as ArrowUnit},
};

use super::{
    Ingest, number,
    time_cell::{Reason, TimeReader},
};
use crate::error::{Error, Result};

/// The types that a load may declare.
pub(crate) const DECLARABLE: &str =
    "Int64, Float64, Boolean, Utf8, Int8 to Int32, UInt8 to UInt64, Float32, Date32, Decimal128 or Timestamp";

pub(crate) fn is_declarable(data_type: &DataType) -> bool {
    use DataType::{Boolean, Date32, Decimal128, Float32, Float64, Timestamp, Utf8};
    data_type.is_integer() || matches!(data_type, Boolean | Date32 | Decimal128(..) | Float32 | Float64 | Timestamp(..) | Utf8)
}

/// Is the column one that was declared for this load, by a type of its own or a whole schema?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typing {
    Declared,
    Inferred,
}

/// How a column of a load is read.
pub(crate) fn typing(ingest: &Ingest, column: &str) -> Typing {
    match ingest.declared_type(column) {
        Some(_) => Typing::Declared,
        None => Typing::Inferred,
    }
}

/// Parses one column: first a value, then, once the whole row is good, into the array.
pub(crate) struct CellReader {
    pub(crate) name: String,
    data_type: DataType,
    typing: Typing,
    kind: Kind,
}

enum Kind {
    /// A time of the table: an instant, and never NULL.
    Instant {
        reader: TimeReader,
        value: i64,
        builder: Int64Builder,
    },
    /// A timestamp like any other value: an instant where the type has a zone, a clock's reading where it has none.
    Timestamp {
        reader: TimeReader,
        is_instant: bool,
        value: Option<i64>,
        builder: Int64Builder,
    },
    Date {
        value: Option<i32>,
        builder: Int32Builder,
    },
    Integer {
        low: i64,
        high: i64,
        value: Option<i64>,
        builder: Int64Builder,
    },
    Unsigned {
        high: u64,
        value: Option<u64>,
        builder: UInt64Builder,
    },
    Float {
        value: Option<f64>,
        builder: Float64Builder,
    },
    Float32 {
        value: Option<f32>,
        builder: Float32Builder,
    },
    Decimal {
        precision: u8,
        scale: i8,
        value: Option<i128>,
        builder: Decimal128Builder,
    },
    Boolean {
        value: Option<bool>,
        builder: BooleanBuilder,
    },
    Text {
        is_null: bool,
        kept: String,
        builder: StringBuilder,
    },
    /// A type that text formats do not hold, in a table that other sources made.
    Foreign {
        rows: usize,
    },
}

impl CellReader {
    pub(crate) fn new(field: &Field, ingest: &Ingest) -> Result<Self> {
        let is_time = ingest.declared.time_columns().any(|column| column.name == *field.name());
        let integer = |low, high| Kind::Integer { low, high, value: None, builder: Int64Builder::new() };
        let unsigned = |high| Kind::Unsigned { high, value: None, builder: UInt64Builder::new() };
        let kind = match field.data_type() {
            DataType::Timestamp(unit, _) if is_time => {
                Kind::Instant { reader: ingest.time_reader(field.name(), *unit), value: 0, builder: Int64Builder::new() }
            }
            DataType::Timestamp(unit, zone) => Kind::Timestamp {
                reader: ingest.time_reader(field.name(), *unit),
                is_instant: zone.is_some(),
                value: None,
                builder: Int64Builder::new(),
            },
            DataType::Date32 => Kind::Date { value: None, builder: Int32Builder::new() },
            DataType::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => integer(i64::MIN, i64::MAX),
            DataType::UInt8 => unsigned(u8::MAX.into()),
            DataType::UInt16 => unsigned(u16::MAX.into()),
            DataType::UInt32 => unsigned(u32::MAX.into()),
            DataType::UInt64 => unsigned(u64::MAX),
            DataType::Float64 => Kind::Float { value: None, builder: Float64Builder::new() },
            DataType::Float32 => Kind::Float32 { value: None, builder: Float32Builder::new() },
            DataType::Decimal128(precision, scale) => Kind::Decimal {
                precision: *precision,
                scale: *scale,
                value: None,
                builder: Decimal128Builder::new().with_precision_and_scale(*precision, *scale).map_err(Error::from)?,
            },
            DataType::Boolean => Kind::Boolean { value: None, builder: BooleanBuilder::new() },
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Kind::Text { is_null: true, kept: String::new(), builder: StringBuilder::new() }
            }
            _ => Kind::Foreign { rows: 0 },
        };
        let typing = typing(ingest, field.name());
        Ok(Self { name: field.name().clone(), data_type: field.data_type().clone(), typing, kind })
    }

    /// Parses a value; `None` is NULL.
    pub(crate) fn parse(&mut self, cell: Option<&str>) -> Result<(), Reason> {
        let declared = self.typing == Typing::Declared;
        match &mut self.kind {
            Kind::Instant { reader, value, .. } => *value = reader.instant(cell.unwrap_or_default())?,
            Kind::Timestamp { reader, is_instant, value, .. } => {
                let read = |text| if *is_instant { reader.instant(text) } else { reader.local(text) };
                *value = cell.map(read).transpose()?;
            }
            Kind::Date { value, .. } => *value = cell.map(date).transpose()?,
            Kind::Integer { .. } | Kind::Unsigned { .. } if !declared && cell.is_some_and(is_code) => {
                return Err("digits behind a leading zero are a code, not a number; declare the column's type".into());
            }
            Kind::Integer { low, high, value, .. } => {
                let read = |text| number::integer(text, i128::from(*low), i128::from(*high)).map(|n| n as i64);
                *value = cell.map(read).transpose()?;
            }
            Kind::Unsigned { high, value, .. } => {
                *value = cell.map(|text| number::integer(text, 0, i128::from(*high)).map(|n| n as u64)).transpose()?;
            }
            Kind::Float { value, .. } => *value = cell.map(number::float).transpose()?,
            Kind::Float32 { value, .. } => *value = cell.map(number::float32).transpose()?,
            Kind::Decimal { precision, scale, value, .. } => {
                *value = cell.map(|text| number::decimal128(text, *precision, *scale)).transpose()?;
            }
            Kind::Boolean { value, .. } => *value = cell.map(|text| truth(text, self.typing)).transpose()?,
            Kind::Text { is_null, kept, .. } => {
                *is_null = cell.is_none();
                kept.clear();
                kept.push_str(cell.unwrap_or_default());
            }
            Kind::Foreign { .. } if cell.is_none() => {}
            Kind::Foreign { .. } => return Err("the table's column has a type that texts are not read as".into()),
        }
        Ok(())
    }

    pub(crate) fn append(&mut self) {
        match &mut self.kind {
            Kind::Instant { value, builder, .. } => builder.append_value(*value),
            Kind::Timestamp { value, builder, .. } | Kind::Integer { value, builder, .. } => builder.append_option(*value),
            Kind::Date { value, builder } => builder.append_option(*value),
            Kind::Unsigned { value, builder, .. } => builder.append_option(*value),
            Kind::Float { value, builder } => builder.append_option(*value),
            Kind::Float32 { value, builder } => builder.append_option(*value),
            Kind::Decimal { value, builder, .. } => builder.append_option(*value),
            Kind::Boolean { value, builder } => builder.append_option(*value),
            Kind::Text { is_null, kept, builder } => builder.append_option((!*is_null).then_some(&*kept)),
            Kind::Foreign { rows } => *rows += 1,
        }
    }

    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        let array: ArrayRef = match &mut self.kind {
            Kind::Instant { builder, .. } | Kind::Timestamp { builder, .. } => {
                return Ok(timestamps(builder.finish(), &self.data_type));
            }
            Kind::Date { builder, .. } => Arc::new(builder.finish()),
            Kind::Integer { builder, .. } => Arc::new(builder.finish()),
            Kind::Unsigned { builder, .. } => Arc::new(builder.finish()),
            Kind::Float { builder, .. } => Arc::new(builder.finish()),
            Kind::Float32 { builder, .. } => Arc::new(builder.finish()),
            Kind::Decimal { builder, .. } => Arc::new(builder.finish()),
            Kind::Boolean { builder, .. } => Arc::new(builder.finish()),
            Kind::Text { builder, .. } => Arc::new(builder.finish()),
            Kind::Foreign { rows } => arrow::array::new_null_array(&self.data_type, std::mem::take(rows)),
        };
        Ok(if array.data_type() == &self.data_type { array } else { cast(&array, &self.data_type)? })
    }
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

/// Days since 1970 of a date without a time of day.
fn date(text: &str) -> Result<i32, Reason> {
    const DAY_NS: i128 = 86_400_000_000_000;
    let is_date = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'/'));
    let (local_ns, _) = if is_date { crate::time::parse_local_ns(text)? } else { return Err("not a date alone".into()) };
    i32::try_from(local_ns.div_euclid(DAY_NS)).map_err(|_| "the date is out of range".into())
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
