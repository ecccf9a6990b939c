//! Selects the declared inputs of an encoder from rows, by name, widened to the declared types.
//! Training and serving both use it, so both encode the same bits.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};

use crate::error::{Error, Result};

/// Exactly the columns of `wanted`, in order and of the wanted types; `subject` names the rows in errors.
pub(crate) fn select_inputs(subject: &str, batch: &RecordBatch, wanted: &SchemaRef) -> Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(wanted.fields().len());
    for field in wanted.fields() {
        let schema = batch.schema_ref();
        let position = schema.index_of(field.name()).map_err(|_| Error::unknown_column(subject, field.name(), schema))?;
        let column = batch.column(position);
        field_of(subject, schema, field)?;
        columns.push(if column.data_type() == field.data_type() {
            column.clone()
        } else {
            cast_with_options(column, field.data_type(), &CastOptions { safe: false, ..Default::default() })?
        });
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let nullable: Vec<Field> = wanted.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(nullable)), columns, &options)?)
}

/// The column of `schema` that can serve as this input.
///
/// # Errors
/// [`Error::UnknownColumn`] when there is none, [`Error::ColumnType`] when its values could change on the way.
pub(crate) fn field_of<'a>(subject: &str, schema: &'a Schema, wanted: &Field) -> Result<&'a Field> {
    let field = schema.field_with_name(wanted.name()).map_err(|_| Error::unknown_column(subject, wanted.name(), schema))?;
    let (from, to) = (field.data_type(), wanted.data_type());
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, Timestamp, UInt8, UInt16, UInt32, Utf8, Utf8View};
    let is_lossless = match (from, to) {
        (from, to) if from == to => true,
        (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Int64, Int64) => true,
        // A 64-bit integer beyond 2^53 becomes the nearest float, as in other numeric libraries.
        (Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Float32, Float64) => true,
        (LargeUtf8 | Utf8View, Utf8) => true,
        (Timestamp(unit, Some(_)), Timestamp(TimeUnit::Microsecond, Some(_))) => *unit != TimeUnit::Nanosecond,
        _ => false,
    };
    if is_lossless {
        return Ok(field);
    }
    let needed = format!("{to} is declared, and not every {from} is one: cast it in the query");
    Err(Error::ColumnType { subject: subject.into(), column: wanted.name().clone(), found: from.to_string(), needed })
}
