//! Selects the declared inputs of an encoder from rows, by name, widened to the declared types.
//! Training and serving both use it, so both encode the same bits.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};

use crate::{
    encoder::Spec,
    error::{Error, Result},
};

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

/// The encoder whose output a later encoder reads under this name, among those before it; `None` if it reads a column of the rows.
///
/// A [`Number`](crate::encoder::Number) that passes a column on under its own name makes no new column.
pub(crate) fn reads_encoder(before: &[&Spec], name: &str) -> Option<usize> {
    let has = |fields: &[Field]| fields.iter().any(|field| field.name() == name);
    before.iter().position(|spec| has(&spec.outputs) && !(spec.name == "number" && has(&spec.inputs)))
}

/// The column of `schema` that can serve as this input.
///
/// # Errors
/// [`Error::UnknownColumn`] when there is none, [`Error::ColumnType`] when its values could change on the way.
pub(crate) fn field_of<'a>(subject: &str, schema: &'a Schema, wanted: &Field) -> Result<&'a Field> {
    let field = schema.field_with_name(wanted.name()).map_err(|_| Error::unknown_column(subject, wanted.name(), schema))?;
    let (from, to) = (field.data_type(), wanted.data_type());
    use DataType::{
        Boolean, Date32, Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8,
        Utf8View,
    };
    let is_lossless = match (from, to) {
        (from, to) if from == to => true,
        (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Int64, Int64) => true,
        // A 64-bit integer beyond 2^53 becomes the nearest float, as in other numeric libraries.
        (Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Float32, Float64) => true,
        (LargeUtf8 | Utf8View, Utf8) => true,
        // A category: each value of these types has a text of its own.
        (Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Boolean | Date32, Utf8) => true,
        (Timestamp(unit, Some(_)), Timestamp(TimeUnit::Microsecond, Some(_))) => *unit != TimeUnit::Nanosecond,
        _ => false,
    };
    if is_lossless {
        return Ok(field);
    }
    let read_as = match to {
        Float64 => "a number".to_owned(),
        Utf8 => "a category (a text, an integer, a boolean or a date)".to_owned(),
        Timestamp(_, Some(_)) => "an instant (a timestamp with a zone, in microseconds or coarser)".to_owned(),
        other => other.to_string(),
    };
    let needed = format!("it is read as {read_as}, and not every {from} is one: read another column, or cast it in the query");
    Err(Error::ColumnType { subject: subject.into(), column: wanted.name().clone(), found: from.to_string(), needed })
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Date32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, StringArray,
        TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
    };

    use super::*;
    use crate::encoder::{Spec, input_schema};

    fn as_category(column: ArrayRef) -> Result<ArrayRef> {
        let batch = RecordBatch::try_from_iter_with_nullable([("x", column, true)])?;
        let wanted = input_schema(&Spec::new("a", 1).category("x"));
        Ok(select_inputs("the rows", &batch, &wanted)?.column(0).clone())
    }

    #[test]
    fn integers_booleans_and_dates_are_read_as_text() {
        let columns: [(ArrayRef, [Option<&str>; 3]); 11] = [
            (Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(0)])), [Some("-128"), None, Some("0")]),
            (Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(7)])), [Some("-32768"), None, Some("7")]),
            (Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(7)])), [Some("-2147483648"), None, Some("7")]),
            (
                Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
                [Some("-9223372036854775808"), None, Some("9223372036854775807")],
            ),
            (Arc::new(UInt8Array::from(vec![Some(u8::MAX), None, Some(0)])), [Some("255"), None, Some("0")]),
            (Arc::new(UInt16Array::from(vec![Some(u16::MAX), None, Some(0)])), [Some("65535"), None, Some("0")]),
            (Arc::new(UInt32Array::from(vec![Some(u32::MAX), None, Some(0)])), [Some("4294967295"), None, Some("0")]),
            (Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)])), [Some("18446744073709551615"), None, Some("0")]),
            (Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), [Some("true"), None, Some("false")]),
            (Arc::new(Date32Array::from(vec![Some(16_375), None, Some(-1)])), [Some("2014-11-01"), None, Some("1969-12-31")]),
            (Arc::new(StringArray::from(vec![Some("a b"), None, Some("")])), [Some("a b"), None, Some("")]),
        ];
        for (column, expected) in columns {
            let read = as_category(column.clone()).unwrap();
            assert_eq!(
                read.as_ref(),
                &StringArray::from(expected.to_vec()) as &dyn arrow::array::Array,
                "{}",
                column.data_type()
            );
        }
    }

    #[test]
    fn floats_and_instants_are_no_categories() {
        let columns: [ArrayRef; 2] =
            [Arc::new(Float64Array::from(vec![1.0])), Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC"))];
        for column in columns {
            let refused = as_category(column.clone()).unwrap_err();
            assert!(matches!(&refused, Error::ColumnType { column, .. } if column == "x"), "{refused}");
        }
    }
}
