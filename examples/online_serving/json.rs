//! JSON to values and back, by the columns' types. Nothing is rounded on the way, but for the digits of a float that no float has.
//!
//! | column | in a request | in an answer |
//! |---|---|---|
//! | integers | a whole number, exact also beyond 2^53 | the same |
//! | floats | a number | the shortest digits that read back as the same float; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | decimals | a text (`"12.50"`) or a whole number | a text |
//! | texts | a text; for a category also a whole number or a truth value | a text |
//! | instants | a text in RFC 3339 (`"2014-11-01T09:30:00Z"`) | the same |
//! | times without a zone, dates, times of day | a text (`"2014-11-01T09:30:00"`, `"2014-11-01"`, `"09:30:00"`) | the same |
//! | lists | an array | the same |
//! | NULL | `null` | the same |

use asof::{
    AsOf, Value,
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch},
        compute::cast,
        datatypes::{DataType, Field, Float64Type, Int64Type, Schema, UInt64Type},
        error::ArrowError,
        util::display::{ArrayFormatter, FormatOptions},
    },
    value::Decimal,
};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use serde_json::{Map, Number, Value as Json};

use crate::refusal::Refusal;

/// Parses a body.
pub(crate) fn parsed(body: &[u8]) -> Result<Json, Refusal> {
    serde_json::from_slice(body).map_err(|cause| Refusal::bad(format!("the body is not JSON: {cause}")))
}

/// A request row with just the columns of this schema.
pub(crate) fn row<'a>(schema: &'a Schema, row: &Json) -> Result<Vec<(&'a str, Value)>, Refusal> {
    let columns = || schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
    let Json::Object(given) = row else {
        return Err(Refusal::bad(format!("a row is an object with a value for each of the columns {}", columns())));
    };
    if let Some(unknown) = given.keys().find(|name| schema.field_with_name(name).is_err()) {
        return Err(Refusal::column(unknown, format!("a request has no column `{unknown}`; it has: {}", columns())));
    }
    let value_of = |field: &'a Field| match given.get(field.name()) {
        Some(json) => Ok((field.name().as_str(), value(field.name(), field.data_type(), json)?)),
        None => Err(Refusal::column(
            field.name(),
            format!("the column `{}` is missing; give null if there is no value", field.name()),
        )),
    };
    schema.fields().iter().map(|field| value_of(field)).collect()
}

/// A key: one value for each column of the schema, in an array; or the value itself, if there is one column.
pub(crate) fn key(schema: &Schema, json: &Json) -> Result<Vec<Value>, Refusal> {
    let fields = schema.fields();
    let values = match json {
        Json::Array(values) => values.as_slice(),
        one => std::slice::from_ref(one),
    };
    if values.len() != fields.len() {
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        return Err(Refusal::bad(format!("a key is ({}), and {} values were given", names.join(", "), values.len())));
    }
    fields.iter().zip(values).map(|(field, json)| value(field.name(), field.data_type(), json)).collect()
}

/// A key of one column as it stands in a URL: a text without quotes, anything else as in JSON.
pub(crate) fn key_in_url(schema: &Schema, text: &str) -> Result<Vec<Value>, Refusal> {
    let is_text = schema.fields().first().is_some_and(|field| field.data_type().is_string());
    let json = if is_text { None } else { serde_json::from_str(text).ok() };
    key(schema, &json.unwrap_or_else(|| Json::String(text.to_owned())))
}

/// A value for a column of this type.
fn value(column: &str, data_type: &DataType, json: &Json) -> Result<Value, Refusal> {
    let refused = |needed: &str| Refusal::column(column, format!("the column `{column}` is {json}, but {needed} is needed"));
    Ok(match (data_type, json) {
        (_, Json::Null) => Value::Null,
        (DataType::Dictionary(_, values), _) => value(column, values, json)?,
        (DataType::Boolean, Json::Bool(x)) => Value::Bool(*x),
        (DataType::Boolean, _) => return Err(refused("true or false")),
        (t, Json::Number(x)) if t.is_integer() => whole(x).ok_or_else(|| refused("a whole number of at most 64 bits"))?,
        (t, _) if t.is_integer() => return Err(refused("a whole number")),
        (t, Json::Number(x)) if t.is_floating() => float(x).ok_or_else(|| refused("a number that a float holds exactly"))?,
        (t, _) if t.is_floating() => return Err(refused("a number")),
        (t, Json::Number(x)) if t.is_decimal() => whole(x).ok_or_else(|| refused("a text such as \"12.50\""))?,
        (t, Json::String(x)) if t.is_decimal() => x.parse::<Decimal>().map_err(|e| refused(&format!("a decimal ({e})")))?.into(),
        (t, Json::String(x)) if t.is_string() => Value::Text(x.clone()),
        (t, Json::Bool(x)) if t.is_string() => Value::Bool(*x),
        (t, Json::Number(x)) if t.is_string() => whole(x).ok_or_else(|| refused("a text or a whole number"))?,
        (DataType::Timestamp(_, Some(_)), Json::String(x)) => {
            x.parse::<AsOf>().map_err(|e| refused(&format!("an instant ({e})")))?.into()
        }
        (DataType::Timestamp(_, Some(_)), _) => return Err(refused("an instant such as \"2014-11-01T09:30:00Z\"")),
        (DataType::Timestamp(_, None), Json::String(x)) => {
            x.parse::<NaiveDateTime>().map_err(|_| refused("a time such as \"2014-11-01T09:30:00\""))?.into()
        }
        (DataType::Date32 | DataType::Date64, Json::String(x)) => {
            x.parse::<NaiveDate>().map_err(|_| refused("a date such as \"2014-11-01\""))?.into()
        }
        (DataType::Time32(_) | DataType::Time64(_), Json::String(x)) => {
            x.parse::<NaiveTime>().map_err(|_| refused("a time of day such as \"09:30:00\""))?.into()
        }
        (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _), Json::Array(items)) => {
            Value::List(items.iter().map(|json| value(column, item.data_type(), json)).collect::<Result<_, _>>()?)
        }
        (other, _) => return Err(refused(&format!("{other}"))),
    })
}

/// A number without a point and an exponent.
fn whole(number: &Number) -> Option<Value> {
    number.as_i64().map(Value::Int).or_else(|| number.as_u64().map(Value::Unsigned))
}

/// A number as a float. Whole numbers beyond 2^53 are refused unless the float is the number itself.
fn float(number: &Number) -> Option<Value> {
    let float = number.as_f64().filter(|float| float.is_finite())?;
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let is_exact = whole.is_none_or(|whole| float as i128 == whole);
    is_exact.then_some(Value::Float(float))
}

/// The rows of a batch, each as an object by column.
pub(crate) fn rows(batch: &RecordBatch) -> Result<Vec<Json>, Refusal> {
    let object = |row: usize| -> Result<Json, ArrowError> {
        let schema = batch.schema_ref();
        let cells =
            schema.fields().iter().zip(batch.columns()).map(|(field, column)| Ok((field.name().clone(), cell(column, row)?)));
        Ok(Json::Object(cells.collect::<Result<Map<String, Json>, ArrowError>>()?))
    };
    let rows: Result<Vec<Json>, ArrowError> = (0..batch.num_rows()).map(object).collect();
    rows.map_err(|cause| asof::Error::from(cause).into())
}

fn cell(column: &ArrayRef, row: usize) -> Result<Json, ArrowError> {
    if column.is_null(row) {
        return Ok(Json::Null);
    }
    let items = |items: ArrayRef| (0..items.len()).map(|item| cell(&items, item)).collect::<Result<_, _>>().map(Json::Array);
    let as_type = |data_type: DataType| cast(&column.slice(row, 1), &data_type);
    Ok(match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        t if t.is_integer() => as_type(DataType::Int64)?.as_primitive::<Int64Type>().value(0).into(),
        t if t.is_floating() => number(as_type(DataType::Float64)?.as_primitive::<Float64Type>().value(0)),
        DataType::List(_) => items(column.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => items(column.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(_, _) => items(column.as_fixed_size_list().value(row))?,
        DataType::Dictionary(_, values) => cell(&as_type(values.as_ref().clone())?, 0)?,
        _ => ArrayFormatter::try_new(column, &FormatOptions::default())?.value(row).try_to_string()?.into(),
    })
}

/// A float as the shortest digits that read back as the same bits.
pub(crate) fn number(float: f64) -> Json {
    Number::from_f64(float).map_or_else(
        || {
            Json::from(if float.is_nan() {
                "NaN"
            } else if float > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            })
        },
        Json::Number,
    )
}
