//! Compares what asof answers with what a plain computation expects. Floats are compared by their bits.

use std::error::Error;

use asof::{Value, online::Online};
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch},
        datatypes::{DataType, Float64Type, Int64Type},
    },
    dataframe::DataFrame,
};

/// The features of a row, by name.
pub(crate) type Row = Vec<(&'static str, Value)>;

/// The rows of a training set, in the order of its spine.
pub(crate) async fn training(set: &str, rows: DataFrame, expected: &[Row]) -> Result<usize, Box<dyn Error>> {
    let batches = rows.collect().await?;
    let places = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    let places: Vec<(&RecordBatch, usize)> = places.collect();
    if places.len() != expected.len() {
        return Err(format!("{set}: {} rows, expected {}", places.len(), expected.len()).into());
    }
    for (number, ((batch, row), expected)) in places.into_iter().zip(expected).enumerate() {
        for (feature, value) in expected {
            let column = batch.column_by_name(feature).ok_or_else(|| format!("{set} has no column `{feature}`"))?;
            same(&format!("{set}, row {number} of training, {feature}"), &cell(column, row)?, value)?;
        }
    }
    Ok(expected.iter().map(Vec::len).sum())
}

/// The rows that are served by key.
pub(crate) fn online(online: &Online, expected: &[(i64, Row)]) -> Result<usize, Box<dyn Error>> {
    for (key, expected) in expected {
        let row = online.get(&[Value::Int(*key)])?;
        for (feature, value) in expected {
            same(&format!("key {key} online, {feature}"), &row.value(feature)?, value)?;
        }
    }
    Ok(expected.iter().map(|(_, row)| row.len()).sum())
}

/// Fails unless both are the same.
pub(crate) fn same(what: &str, answer: &Value, expected: &Value) -> Result<(), Box<dyn Error>> {
    let is_same = match (answer, expected) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        _ => answer == expected,
    };
    if is_same { Ok(()) } else { Err(format!("{what}: asof says {answer:?}, the plain computation {expected:?}").into()) }
}

/// Fails unless the data shows what the example is about.
pub(crate) fn shows(what: &str, rows: usize) -> Result<usize, Box<dyn Error>> {
    if rows > 0 { Ok(rows) } else { Err(format!("the generated data has no row that shows {what}").into()) }
}

fn cell(column: &ArrayRef, row: usize) -> Result<Value, Box<dyn Error>> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Int64 => Value::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::Float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            Value::List((0..items.len()).map(|item| cell(&items, item)).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("a column of {other} is not compared").into()),
    })
}
