//! Query results with the column types that published files have: plain texts instead of views and dictionaries.
//! Values do not change.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::execution::SendableRecordBatchStream;
use futures::{StreamExt, stream::BoxStream};

use crate::error::Result;

/// The same rows with plain types, and their schema. Every column may hold NULL.
pub(crate) fn plain_rows(rows: SendableRecordBatchStream) -> (SchemaRef, BoxStream<'static, Result<RecordBatch>>) {
    let schema = plain(&rows.schema());
    let to = schema.clone();
    let rows = rows.map(move |batch| {
        let batch = batch?;
        let columns = batch.columns().iter().zip(to.fields()).map(|(column, field)| cast(column, field.data_type()));
        Ok(RecordBatch::try_new(to.clone(), columns.collect::<Result<_, _>>()?)?)
    });
    (schema, rows.boxed())
}

/// The schema with plain types. Views and dictionaries are how the engine holds texts; they are not part of a result.
fn plain(schema: &Schema) -> SchemaRef {
    let field = |f: &Arc<Field>| Field::new(f.name(), plain_type(f.data_type()), true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// The plain type for a column type of the engine.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Dictionary(_, values) => plain_type(values),
        // Decimals of one digit cannot be written to Parquet.
        DataType::Decimal32(1, scale) => DataType::Decimal32(2, *scale),
        other => other.clone(),
    }
}
