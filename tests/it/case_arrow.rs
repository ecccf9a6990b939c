//! The values of a case between JSON and Arrow, both ways.
//! It knows types, and nothing of questions.

use std::sync::Arc;

use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use datafusion::arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array,
        RecordBatch, StringArray, UInt64Array,
    },
    compute::cast,
    datatypes::{DataType, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, Schema, TimeUnit, UInt64Type},
};
use serde_json::{Value, json};

use crate::cases::Columns;

pub(crate) fn data_type(text: &str) -> DataType {
    let unit = |text: &str| match text {
        "s" => TimeUnit::Second,
        "ms" => TimeUnit::Millisecond,
        "us" => TimeUnit::Microsecond,
        "ns" => TimeUnit::Nanosecond,
        other => panic!("no unit `{other}`"),
    };
    match text {
        "bool" => DataType::Boolean,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "uint8" => DataType::UInt8,
        "uint16" => DataType::UInt16,
        "uint32" => DataType::UInt32,
        "uint64" => DataType::UInt64,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        "string" => DataType::Utf8,
        "date32" => DataType::Date32,
        decimal if decimal.starts_with("decimal(") => {
            let (precision, scale) = digits(decimal);
            DataType::Decimal128(precision, scale as i8)
        }
        timestamp => {
            let inner = timestamp.strip_prefix("timestamp[").and_then(|t| t.strip_suffix(']')).unwrap();
            match inner.split_once(", ") {
                Some((text, zone)) => DataType::Timestamp(unit(text), Some(zone.into())),
                None => DataType::Timestamp(unit(inner), None),
            }
        }
    }
}

/// The precision and the scale in `decimal(10,2)`.
pub(crate) fn digits(text: &str) -> (u8, u32) {
    let inner = text.strip_prefix("decimal(").and_then(|t| t.strip_suffix(')')).unwrap();
    let (precision, scale) = inner.split_once(',').unwrap();
    (precision.trim().parse().unwrap(), scale.trim().parse().unwrap())
}

/// A decimal as written, in units of the last digit.
pub(crate) fn units(text: &str, scale: u32) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= scale as usize, "{text} has more than {scale} digits behind the point");
    format!("{whole}{fraction}{}", "0".repeat(scale as usize - fraction.len())).parse().unwrap()
}

pub(crate) fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.parse().unwrap()),
        number => Some(number.as_f64().unwrap()),
    }
}

/// Nanoseconds of the wall clock that a text shows.
pub(crate) fn nanos(text: &str) -> i128 {
    let time: NaiveDateTime = text.trim_end_matches('Z').parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    i128::from(time.and_utc().timestamp()) * 1_000_000_000 + i128::from(time.and_utc().timestamp_subsec_nanos())
}

fn nanos_in(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

pub(crate) fn array(data_type: &DataType, values: &[&Value]) -> ArrayRef {
    let plain: ArrayRef = match data_type {
        DataType::Boolean => Arc::new(values.iter().map(|v| v.as_bool()).collect::<BooleanArray>()),
        DataType::Utf8 => Arc::new(values.iter().map(|v| v.as_str()).collect::<StringArray>()),
        DataType::Float32 => Arc::new(values.iter().map(|v| float(v).map(|x| x as f32)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(values.iter().map(|v| float(v)).collect::<Float64Array>()),
        DataType::Decimal128(precision, scale) => {
            let units = values.iter().map(|v| v.as_str().map(|text| units(text, *scale as u32)));
            let array = units.collect::<Decimal128Array>();
            Arc::new(array.with_precision_and_scale(*precision, *scale).unwrap())
        }
        DataType::UInt64 => Arc::new(values.iter().map(|v| v.as_u64()).collect::<UInt64Array>()),
        DataType::Date32 => {
            let days = |v: &&Value| {
                v.as_str().map(|t| {
                    let day: NaiveDate = t.get(..10).unwrap().parse().unwrap();
                    (day - NaiveDate::default()).num_days() as i32
                })
            };
            Arc::new(values.iter().map(days).collect::<Date32Array>())
        }
        DataType::Timestamp(unit, _) => {
            let ticks = |v: &&Value| v.as_str().map(|t| i64::try_from(nanos(t).div_euclid(nanos_in(*unit))).unwrap());
            Arc::new(values.iter().map(ticks).collect::<Int64Array>())
        }
        _ => Arc::new(values.iter().map(|v| v.as_i64()).collect::<Int64Array>()),
    };
    cast(&plain, data_type).unwrap()
}

pub(crate) fn batch(columns: &Columns, rows: &[Vec<Value>]) -> RecordBatch {
    let fields: Vec<Field> = columns.0.iter().map(|(name, text)| Field::new(name, data_type(text), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| array(field.data_type(), &rows.iter().map(|row| &row[i]).collect::<Vec<_>>()));
    let options = datafusion::arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.clone(), arrays.collect(), &options).unwrap()
}

/// A wall clock's text, with the digits it needs.
pub(crate) fn time_text(nanos: i128) -> String {
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap();
    let fraction = nanos.rem_euclid(1_000_000_000) as u32;
    let text = chrono::DateTime::from_timestamp(seconds, 0).unwrap().format("%Y-%m-%dT%H:%M:%S").to_string();
    if fraction == 0 { text } else { format!("{text}.{}", format!("{fraction:09}").trim_end_matches('0')) }
}

pub(crate) fn number(x: f64) -> Value {
    if x.is_nan() {
        json!("NaN")
    } else if x.is_infinite() {
        json!(if x > 0.0 { "inf" } else { "-inf" })
    } else {
        json!(x)
    }
}

pub(crate) fn json_of(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::UInt64 => json!(column.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 | DataType::Float64 => {
            number(cast(column, &DataType::Float64).unwrap().as_primitive::<Float64Type>().value(row))
        }
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().value(row);
            json!((NaiveDate::default() + TimeDelta::days(i64::from(days))).to_string())
        }
        DataType::Timestamp(unit, _) => {
            let ticks = cast(column, &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(row);
            json!(time_text(i128::from(ticks) * nanos_in(*unit)))
        }
        DataType::Decimal128(..) => json!(column.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|i| json_of(&items, i)).collect()
        }
        _ => json!(cast(column, &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(row)),
    }
}
