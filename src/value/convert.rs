//! Conversion of values to Arrow arrays and back. A value that does not fit is an error; it is never changed.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
        DurationMicrosecondArray, DurationMillisecondArray, DurationNanosecondArray, FixedSizeListArray, Float64Array,
        Int64Array, LargeListArray, ListArray, NullArray, StringArray, Time64NanosecondArray, TimestampMicrosecondArray,
        TimestampNanosecondArray, UInt64Array, new_empty_array, new_null_array,
    },
    buffer::OffsetBuffer,
    compute::{CastOptions, cast, cast_with_options, concat},
    datatypes::{
        DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
        DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field, FieldRef, Float64Type, Int64Type,
        Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
    },
};
use chrono::{DateTime, NaiveTime, TimeDelta, Timelike};

use super::{Decimal, Value};
use crate::{
    error::{Error, Result},
    time::{AsOf, date_of, days_of},
};

const DAY_MS: i64 = 86_400_000;

impl Value {
    /// The value as an array of one row of this type.
    ///
    /// # Errors
    /// [`Error::ColumnType`] when it is of another kind, or a column of this type cannot hold exactly it.
    pub(crate) fn to_array(&self, subject: &str, column: &str, data_type: &DataType) -> Result<ArrayRef> {
        let refused =
            |needed: String| Error::ColumnType { subject: subject.into(), column: column.into(), found: self.in_short(), needed };
        if !self.is_of_kind(data_type) {
            return Err(refused(format!("{data_type} is needed")));
        }
        self.fitted(data_type)?.ok_or_else(|| refused(format!("{data_type} is needed, which cannot hold this value exactly")))
    }

    /// The value in its own type.
    ///
    /// # Errors
    /// [`Error::ColumnType`] when it is beyond what Arrow holds, or a list of values of several types.
    pub(crate) fn own_array(&self, subject: &str, name: &str) -> Result<ArrayRef> {
        self.own()?.ok_or_else(|| Error::ColumnType {
            subject: subject.into(),
            column: name.into(),
            found: self.in_short(),
            needed: "one value, or a list of values of one type, is needed, within the range of Arrow's types".into(),
        })
    }

    /// The value for an error: a long one is cut off.
    fn in_short(&self) -> String {
        const SHOWN: usize = 100;
        let mut text = match self {
            // What is not shown need not be written out.
            Value::Text(x) if x.len() > 4 * SHOWN => format!("Text({:?}", x.chars().take(SHOWN).collect::<String>()),
            Value::Bytes(x) if x.len() > SHOWN => format!("Bytes({:?}", &x[..SHOWN]),
            Value::List(x) if x.len() > SHOWN => format!("List({:?}", &x[..SHOWN]),
            Value::Instant(x) => return format!("Instant({x})"),
            short => return format!("{short:?}"),
        };
        if let Some((end, _)) = text.char_indices().nth(4 * SHOWN) {
            text.truncate(end);
        }
        text + "...)"
    }

    /// The value as one row of a type of its kind; `None` when that cannot hold exactly it.
    fn fitted(&self, data_type: &DataType) -> Result<Option<ArrayRef>> {
        match (self, data_type) {
            (Value::Null, _) => return Ok(Some(new_null_array(data_type, 1))),
            (Value::List(items), DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _)) => {
                return list(items, field, data_type);
            }
            _ => {}
        }
        let Some(own) = self.own()? else { return Ok(None) };
        let array = cast(&own, data_type)?;
        let is_float = matches!(self, Value::Float(_));
        // A cast rounds, truncates or yields NULL where the type cannot hold the value. Casting back then gives another value.
        let is_held = array.is_valid(0) && (is_float || cast(&array, own.data_type())?.to_data() == own.to_data());
        Ok(is_held.then_some(array))
    }

    fn own(&self) -> Result<Option<ArrayRef>> {
        let array: ArrayRef = match self {
            Value::Null => Arc::new(NullArray::new(1)),
            Value::Bool(x) => Arc::new(BooleanArray::from(vec![*x])),
            Value::Int(x) => Arc::new(Int64Array::from(vec![*x])),
            Value::Unsigned(x) => Arc::new(UInt64Array::from(vec![*x])),
            Value::Float(x) => Arc::new(Float64Array::from(vec![*x])),
            Value::Decimal(x) => match Decimal128Array::from(vec![x.unscaled()]).with_precision_and_scale(38, x.scale()) {
                Ok(array) if array.validate_decimal_precision(38).is_ok() => Arc::new(array),
                _ => return Ok(None),
            },
            Value::Text(x) => Arc::new(StringArray::from(vec![x.as_str()])),
            Value::Bytes(x) => Arc::new(BinaryArray::from_vec(vec![x.as_slice()])),
            Value::Instant(x) => Arc::new(TimestampMicrosecondArray::from(vec![x.micros()]).with_timezone("UTC")),
            Value::InstantNanos(x) => Arc::new(TimestampNanosecondArray::from(vec![*x]).with_timezone("UTC")),
            Value::Local(x) if x.nanosecond() % 1_000 == 0 => {
                Arc::new(TimestampMicrosecondArray::from(vec![x.and_utc().timestamp_micros()]))
            }
            Value::Local(x) => match x.and_utc().timestamp_nanos_opt() {
                Some(nanos) => Arc::new(TimestampNanosecondArray::from(vec![nanos])),
                None => return Ok(None),
            },
            Value::Date(x) => Arc::new(Date32Array::from(vec![days_of(*x)])),
            Value::Time(x) => {
                let since_midnight = x.signed_duration_since(NaiveTime::MIN).num_nanoseconds();
                // Arrow has no leap seconds.
                match since_midnight.filter(|_| x.nanosecond() < 1_000_000_000) {
                    Some(nanos) => Arc::new(Time64NanosecondArray::from(vec![nanos])),
                    None => return Ok(None),
                }
            }
            Value::Duration(x) => match (x.num_nanoseconds(), x.num_microseconds()) {
                (Some(nanos), _) => Arc::new(DurationNanosecondArray::from(vec![nanos])),
                (None, Some(micros)) if TimeDelta::microseconds(micros) == *x => {
                    Arc::new(DurationMicrosecondArray::from(vec![micros]))
                }
                _ if TimeDelta::try_milliseconds(x.num_milliseconds()) == Some(*x) => {
                    Arc::new(DurationMillisecondArray::from(vec![x.num_milliseconds()]))
                }
                _ => return Ok(None),
            },
            Value::List(items) => {
                let mut data_type = DataType::Null;
                for item in items {
                    let Some(item) = item.own()? else { return Ok(None) };
                    if data_type == DataType::Null {
                        data_type = item.data_type().clone();
                    }
                }
                let field = Arc::new(Field::new_list_field(data_type, true));
                return match items.iter().all(|item| item.is_of_kind(field.data_type())) {
                    true => list(items, &field, &DataType::List(field.clone())),
                    false => Ok(None),
                };
            }
        };
        Ok(Some(array))
    }

    /// The value in one row of a column.
    ///
    /// # Errors
    /// [`Error::ColumnType`] for types that have no value, and for what the value of a type cannot hold exactly.
    pub(crate) fn of(subject: &str, column: &str, array: &ArrayRef, row: usize) -> Result<Self> {
        let refused = |what: &str| Error::ColumnType {
            subject: subject.into(),
            column: column.into(),
            found: format!("{}{what}", array.data_type()),
            needed: "no `Value` holds it exactly; read it from `FeatureRow::batch`".into(),
        };
        if array.is_null(row) || *array.data_type() == DataType::Null {
            return Ok(Value::Null);
        }
        let one = array.slice(row, 1);
        let items = |values: ArrayRef| -> Result<Self> {
            (0..values.len()).map(|i| Value::of(subject, column, &values, i)).collect::<Result<_>>().map(Value::List)
        };
        let beyond = || refused(" beyond its range");
        Ok(match array.data_type() {
            DataType::Boolean => Value::Bool(one.as_boolean().value(0)),
            DataType::UInt64 => first::<UInt64Type>(&one).into(),
            t if t.is_integer() => Value::Int(first::<Int64Type>(&cast(&one, &DataType::Int64)?)),
            t if t.is_floating() => Value::Float(first::<Float64Type>(&cast(&one, &DataType::Float64)?)),
            DataType::Decimal32(_, scale) => Decimal::new(first::<Decimal32Type>(&one).into(), *scale).into(),
            DataType::Decimal64(_, scale) => Decimal::new(first::<Decimal64Type>(&one).into(), *scale).into(),
            DataType::Decimal128(_, scale) => Decimal::new(first::<Decimal128Type>(&one), *scale).into(),
            DataType::Decimal256(_, scale) => {
                let unscaled = first::<Decimal256Type>(&one).to_i128().ok_or_else(|| refused(" of more than 38 digits"))?;
                Decimal::new(unscaled, *scale).into()
            }
            t if t.is_string() => cast(&one, &DataType::Utf8)?.as_string::<i32>().value(0).into(),
            DataType::FixedSizeBinary(_) => one.as_fixed_size_binary().value(0).into(),
            t if t.is_binary() => cast(&one, &DataType::Binary)?.as_binary::<i32>().value(0).into(),
            DataType::Timestamp(unit, Some(_)) => {
                let nanos = i128::from(ticks(unit, &one)) * nanos_in(unit);
                let whole = if nanos % 1_000 == 0 { i64::try_from(nanos / 1_000).ok() } else { None };
                match (whole, i64::try_from(nanos)) {
                    (Some(micros), _) => Value::Instant(AsOf::from_micros(micros)),
                    (None, Ok(nanos)) => Value::InstantNanos(nanos),
                    (None, Err(_)) => return Err(beyond()),
                }
            }
            DataType::Timestamp(unit, None) => {
                let nanos = i128::from(ticks(unit, &one)) * nanos_in(unit);
                let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).map_err(|_| beyond())?;
                let fraction = u32::try_from(nanos.rem_euclid(1_000_000_000)).map_err(|_| beyond())?;
                DateTime::from_timestamp(seconds, fraction).ok_or_else(beyond)?.naive_utc().into()
            }
            DataType::Date32 => date_of(first::<Date32Type>(&one)).ok_or_else(beyond)?.into(),
            DataType::Date64 => {
                let ms = first::<Date64Type>(&one);
                let days = i32::try_from(ms / DAY_MS).ok().filter(|_| ms % DAY_MS == 0);
                days.and_then(date_of).ok_or_else(|| refused(" that is not a whole day"))?.into()
            }
            DataType::Time32(TimeUnit::Second) => {
                time(i64::from(first::<Time32SecondType>(&one)), 1_000_000_000).ok_or_else(beyond)?.into()
            }
            DataType::Time32(_) => time(i64::from(first::<Time32MillisecondType>(&one)), 1_000_000).ok_or_else(beyond)?.into(),
            DataType::Time64(TimeUnit::Microsecond) => {
                time(first::<Time64MicrosecondType>(&one), 1_000).ok_or_else(beyond)?.into()
            }
            DataType::Time64(_) => time(first::<Time64NanosecondType>(&one), 1).ok_or_else(beyond)?.into(),
            DataType::Duration(unit) => {
                let length = match unit {
                    TimeUnit::Second => TimeDelta::try_seconds(first::<DurationSecondType>(&one)),
                    TimeUnit::Millisecond => TimeDelta::try_milliseconds(first::<DurationMillisecondType>(&one)),
                    TimeUnit::Microsecond => Some(TimeDelta::microseconds(first::<DurationMicrosecondType>(&one))),
                    TimeUnit::Nanosecond => Some(TimeDelta::nanoseconds(first::<DurationNanosecondType>(&one))),
                };
                length.ok_or_else(beyond)?.into()
            }
            DataType::List(_) => items(one.as_list::<i32>().value(0))?,
            DataType::LargeList(_) => items(one.as_list::<i64>().value(0))?,
            DataType::FixedSizeList(_, _) => items(one.as_fixed_size_list().value(0))?,
            DataType::ListView(_) => items(one.as_list_view::<i32>().value(0))?,
            DataType::LargeListView(_) => items(one.as_list_view::<i64>().value(0))?,
            DataType::Dictionary(_, values) => Value::of(subject, column, &cast(&one, values)?, 0)?,
            _ => return Err(refused("")),
        })
    }
}

/// A column of numbers or truth values as the nearest floats; a truth value is 0 or 1. Decimals are rounded once, unlike by Arrow's
/// cast.
///
/// # Errors
/// For a type that has no floats.
pub(crate) fn floats(column: &ArrayRef) -> Result<Float64Array> {
    fn of<T: ArrowPrimitiveType>(column: &ArrayRef, scale: i8, unscaled: impl Fn(T::Native) -> i128) -> Float64Array {
        column.as_primitive::<T>().iter().map(|x| x.map(|x| Decimal::new(unscaled(x), scale).to_f64())).collect()
    }
    Ok(match column.data_type() {
        DataType::Decimal32(_, scale) => of::<Decimal32Type>(column, *scale, i128::from),
        DataType::Decimal64(_, scale) => of::<Decimal64Type>(column, *scale, i128::from),
        DataType::Decimal128(_, scale) => of::<Decimal128Type>(column, *scale, |x| x),
        DataType::Decimal256(_, scale) => {
            // Beyond 38 digits there is no `Decimal`.
            let by_arrow = cast(column, &DataType::Float64)?;
            let (exact, by_arrow) = (column.as_primitive::<Decimal256Type>(), by_arrow.as_primitive::<Float64Type>());
            let float = |row: usize| match exact.value(row).to_i128() {
                Some(unscaled) => Decimal::new(unscaled, *scale).to_f64(),
                None => by_arrow.value(row),
            };
            (0..column.len()).map(|row| column.is_valid(row).then(|| float(row))).collect()
        }
        _ => cast_with_options(column, &DataType::Float64, &CastOptions { safe: false, ..Default::default() })?
            .as_primitive::<Float64Type>()
            .clone(),
    })
}

/// The items as one row of a list type with this item field; `None` when it cannot hold them exactly.
fn list(items: &[Value], field: &FieldRef, data_type: &DataType) -> Result<Option<ArrayRef>> {
    let mut arrays = Vec::with_capacity(items.len());
    for item in items {
        let is_allowed = item.is_of_kind(field.data_type()) && (field.is_nullable() || *item != Value::Null);
        match item.fitted(field.data_type())?.filter(|_| is_allowed) {
            Some(array) => arrays.push(array),
            None => return Ok(None),
        }
    }
    let values = match arrays.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>() {
        none if none.is_empty() => new_empty_array(field.data_type()),
        arrays => concat(&arrays)?,
    };
    let length = values.len();
    Ok(match data_type {
        DataType::FixedSizeList(_, size) if usize::try_from(*size) != Ok(length) => None,
        DataType::FixedSizeList(_, size) => {
            Some(Arc::new(FixedSizeListArray::try_new_with_length(field.clone(), *size, values, None, 1)?))
        }
        DataType::LargeList(_) => {
            Some(Arc::new(LargeListArray::try_new(field.clone(), OffsetBuffer::from_lengths([length]), values, None)?))
        }
        _ => Some(Arc::new(ListArray::try_new(field.clone(), OffsetBuffer::from_lengths([length]), values, None)?)),
    })
}

fn first<T: ArrowPrimitiveType>(array: &ArrayRef) -> T::Native {
    array.as_primitive::<T>().value(0)
}

fn ticks(unit: &TimeUnit, array: &ArrayRef) -> i64 {
    match unit {
        TimeUnit::Second => first::<TimestampSecondType>(array),
        TimeUnit::Millisecond => first::<TimestampMillisecondType>(array),
        TimeUnit::Microsecond => first::<TimestampMicrosecondType>(array),
        TimeUnit::Nanosecond => first::<TimestampNanosecondType>(array),
    }
}

fn nanos_in(unit: &TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

fn time(ticks: i64, nanos_in_tick: i64) -> Option<NaiveTime> {
    let nanos = ticks.checked_mul(nanos_in_tick)?;
    let seconds = u32::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?)
}
