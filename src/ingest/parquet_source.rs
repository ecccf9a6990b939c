//! Parquet files, batch by batch: renamed, widened to the target's types, times turned into instants.
//! A value that a target type cannot hold stops the load; it is never rounded or made NULL.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array},
    compute::{CastOptions, cast_with_options, filter},
    datatypes::{DataType, Field, Schema},
};
use futures::{StreamExt, stream::BoxStream};
use parquet::arrow::ParquetRecordBatchStreamBuilder;

use super::{Ingest, columns::Target, columns::to_instants, rejects::Rejects, sources::Source};
use crate::{
    error::{Error, Result},
    storage::ObjectReader,
    time::parse_time,
};

/// The batches of a Parquet file, with its own columns.
pub(crate) async fn parquet_batches(source: &Source, batch_rows: usize) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let shown = source.shown();
    let unreadable = move |e: parquet::errors::ParquetError| Error::UnreadableFile { path: shown.clone(), reason: e.to_string() };
    let reader = ObjectReader::new(&source.place, source.object.clone());
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(&unreadable)?;
    let stream = builder.with_batch_size(batch_rows).build().map_err(&unreadable)?;
    Ok(stream.map(move |batch| batch.map_err(&unreadable)).boxed())
}

/// The target's columns from a batch of a source, and the row in the file, counting from 1, of each of them; rows whose times
/// cannot be used are listed and left out.
pub(crate) fn conform(
    ingest: &Ingest,
    source: &Source,
    target: &Target,
    rejects: &Rejects,
    first_row: u64,
    batch: &RecordBatch,
) -> Result<(Vec<u64>, Vec<ArrayRef>)> {
    let shown = source.shown();
    let renamed: Vec<Field> = batch
        .schema()
        .fields()
        .iter()
        .map(|f| Field::new(ingest.renamed(f.name()), f.data_type().clone(), f.is_nullable()))
        .collect();
    let source_schema = Schema::new(renamed);
    let mut columns = Vec::with_capacity(target.schema.fields().len());
    let mut bad: Vec<Option<(String, String)>> = vec![None; batch.num_rows()];
    for field in target.schema.fields() {
        let Some((position, _)) = source_schema.column_with_name(field.name()) else {
            columns.push(new_null_array(field.data_type(), batch.num_rows()));
            continue;
        };
        let array = batch.column(position);
        let time = ingest.declared.time_columns().find(|column| column.name == *field.name());
        let array = match time {
            None => widened(&shown, field, array)?,
            Some(column) => {
                let instants = match array.data_type() {
                    DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => parse_texts(ingest, field, array)?,
                    _ => to_instants(
                        array,
                        ingest.declared.scale(&format!("file `{shown}`"), column, &source_schema)?,
                        field.data_type(),
                    )?,
                };
                for (row, reason) in bad.iter_mut().enumerate().filter(|(row, _)| instants.is_null(*row)) {
                    let value = arrow::util::display::array_value_to_string(array, row).unwrap_or_default();
                    reason.get_or_insert((field.name().clone(), value));
                }
                instants
            }
        };
        columns.push(array);
    }
    if bad.iter().all(Option::is_none) {
        return Ok(((first_row + 1..=first_row + batch.num_rows() as u64).collect(), columns));
    }
    for (row, (column, value)) in bad.iter().enumerate().filter_map(|(row, b)| Some((row, b.as_ref()?))) {
        let reason = if value.is_empty() { "the time is empty" } else { "not a time in range" };
        rejects.add(&shown, first_row + row as u64 + 1, column, value, reason)?;
    }
    let keep = BooleanArray::from_iter(bad.iter().map(|b| Some(b.is_none())));
    let rows = (first_row + 1..).zip(&bad).filter(|(_, reason)| reason.is_none()).map(|(row, _)| row).collect();
    Ok((rows, columns.iter().map(|array| Ok(filter(array, &keep)?)).collect::<Result<_>>()?))
}

fn parse_texts(ingest: &Ingest, field: &Field, array: &ArrayRef) -> Result<ArrayRef> {
    let texts = arrow::compute::cast(array, &DataType::Utf8)?;
    let texts: &StringArray = texts.as_string();
    let parsed: arrow::array::Int64Array = texts.iter().map(|text| parse_time(text?, ingest.declared.zone).ok()).collect();
    let micros: ArrayRef = Arc::new(parsed.reinterpret_cast::<arrow::datatypes::TimestampMicrosecondType>().with_timezone("UTC"));
    Ok(arrow::compute::cast(&micros, field.data_type())?)
}

/// Casts to a type that holds every value of the source's type.
fn widened(shown: &str, field: &Field, array: &ArrayRef) -> Result<ArrayRef> {
    if array.data_type() == field.data_type() {
        return Ok(array.clone());
    }
    use DataType::{Float64, Int64, LargeUtf8, Utf8, Utf8View};
    let is_lossless = match (array.data_type(), field.data_type()) {
        (from, Int64) => from.is_integer() && *from != DataType::UInt64,
        // Integers beyond 2^53 would be rounded; the cast back below finds them.
        (from, Float64) => from.is_integer() || matches!(from, DataType::Float32 | DataType::Float16),
        (LargeUtf8 | Utf8View, Utf8) | (Utf8, LargeUtf8 | Utf8View) => true,
        (DataType::Null, _) => true,
        _ => false,
    };
    let refused = |detail: &str| Error::ColumnType {
        place: format!("file `{shown}`"),
        column: field.name().clone(),
        found: array.data_type().to_string(),
        needed: format!("the table holds {}{detail}", field.data_type()),
    };
    if !is_lossless {
        return Err(refused("; cast the column before the load, or load it into a table of its own"));
    }
    let options = CastOptions { safe: false, ..Default::default() };
    let cast = cast_with_options(array, field.data_type(), &options).map_err(|e| refused(&format!(": {e}")))?;
    if array.data_type().is_integer() && *field.data_type() == Float64 {
        let back = cast_with_options(&cast, array.data_type(), &options).map_err(|e| refused(&format!(": {e}")))?;
        if &back != array {
            return Err(refused(", which cannot hold all of these integers"));
        }
    }
    Ok(cast)
}
