//! CSV files as the rows of a spine: their times are read as exactly as loads read them, and keep the clock that wrote them.
//! It loads nothing and remembers nothing; facts come in with `ingest`.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{
    datasource::MemTable,
    prelude::{CsvReadOptions, DataFrame},
};

use crate::{
    engine::{Engine, Parallelism},
    error::{Error, Result},
    storage::Location,
    time::parse_local_ns,
};

/// Rows that decide about the types of the other columns.
const INFERRED_ROWS: usize = 10_000;

/// The rows of the CSV files at a place, with these columns as times.
pub(super) async fn read_csv(engine: &Engine, place: &Location, times: &[&str]) -> Result<DataFrame> {
    let is_file = match place.split_file() {
        Some((folder, name)) => folder.head(&name).await?.is_some(),
        None => false,
    };
    let session = engine.session(Parallelism::One, [place])?;
    let url = if is_file { place.url() } else { place.folder_url() };
    let extension = if is_file { "" } else { ".csv" };
    let options = || {
        let options = CsvReadOptions::new().schema_infer_max_records(INFERRED_ROWS).null_regex(Some("^$".into()));
        options.file_extension(extension)
    };
    let inferred = session.read_csv(url.clone(), options()).await?.schema().as_arrow().clone();
    let shown = place.to_string();
    if inferred.fields().is_empty() {
        return Err(Error::NoFiles { what: "CSV files", location: shown });
    }
    if let Some(missing) = times.iter().find(|name| inferred.column_with_name(name).is_none()) {
        return Err(Error::unknown_column(format!("`{shown}`"), missing, &inferred));
    }
    // Times are not the CSV reader's business: it knows one form of them, and guesses.
    let is_text = |field: &Field| times.contains(&field.name().as_str()) || field.data_type().is_temporal();
    let as_read = |field: &Arc<Field>| match is_text(field) {
        true => Field::new(field.name(), DataType::Utf8, true),
        false => field.as_ref().clone(),
    };
    let schema = Schema::new(inferred.fields().iter().map(as_read).collect::<Vec<_>>());
    let batches = session.read_csv(url, options().schema(&schema)).await?.collect().await?;
    let whole = arrow::compute::concat_batches(&Arc::new(schema), &batches)?;
    let columns = whole.schema_ref().fields().iter().zip(whole.columns());
    let columns = columns.map(|(field, column)| match times.contains(&field.name().as_str()) {
        true => Ok((field.name().clone(), instants(&shown, field.name(), column)?)),
        false => Ok((field.name().clone(), column.clone())),
    });
    let fields = columns.collect::<Result<Vec<_>>>()?;
    let rows = RecordBatch::try_from_iter_with_nullable(fields.into_iter().map(|(name, column)| (name, column, true)))?;
    Ok(session.read_table(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))?)
}

/// Texts as times: instants where they have an offset, else readings of a clock.
fn instants(shown: &str, name: &str, column: &ArrayRef) -> Result<ArrayRef> {
    let refused = |row: usize, text: &str, reason: &str| Error::ColumnType {
        place: format!("`{shown}`, row {}", row + 1),
        column: name.into(),
        found: format!("`{text}`"),
        needed: format!("it should be a time: {reason}; `asof::time::parse_time` lists the forms"),
    };
    let (mut values, mut first_offset) = (Vec::with_capacity(column.len()), None);
    for (row, text) in column.as_string::<i32>().iter().enumerate() {
        let Some(text) = text else {
            values.push(None);
            continue;
        };
        let (local_ns, offset_s) = parse_local_ns(text).map_err(|reason| refused(row, text, reason))?;
        if *first_offset.get_or_insert(offset_s.is_some()) != offset_s.is_some() {
            return Err(refused(row, text, "some times of the column have an offset from UTC and some have none"));
        }
        let instant_ns = local_ns - i128::from(offset_s.unwrap_or(0)) * 1_000_000_000;
        if instant_ns.rem_euclid(1_000) != 0 {
            return Err(refused(row, text, "it is finer than a microsecond"));
        }
        values.push(Some(i64::try_from(instant_ns / 1_000).map_err(|_| refused(row, text, "it is out of range"))?));
    }
    let values = TimestampMicrosecondArray::from(values);
    let zone = (first_offset == Some(true)).then_some("UTC");
    Ok(Arc::new(values.with_timezone_opt(zone)))
}
