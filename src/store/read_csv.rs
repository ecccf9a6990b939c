//! Reads CSV files as the rows of a spine. Times are read as exactly as by loads, and times without an offset stay local times.
//! Nothing is stored; facts are loaded with `ingest`.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{datasource::MemTable, prelude::DataFrame};

use crate::{
    engine::{Engine, Parallelism},
    error::{Error, Result},
    ingest::{csv_texts, typed},
    storage::{Locations, without_credentials},
    time::parse_local_ns,
};

/// The rows of the CSV files at a location, with these columns as times.
pub(super) async fn read_csv(engine: &Engine, locations: &Locations, location: &str, times: &[&str]) -> Result<DataFrame> {
    let texts = csv_texts(locations, location).await?;
    let shown = without_credentials(location);
    let Some(schema) = texts.first().map(RecordBatch::schema) else {
        return Err(Error::NoFiles { what: "CSV files", location: shown });
    };
    if let Some(missing) = times.iter().find(|name| schema.column_with_name(name).is_none()) {
        return Err(Error::unknown_column(format!("`{shown}`"), missing, &schema));
    }
    let (mut fields, mut columns): (Vec<Field>, Vec<Vec<ArrayRef>>) = (Vec::new(), Vec::new());
    for (i, field) in schema.fields().iter().enumerate() {
        let name = field.name();
        let pieces: Vec<ArrayRef> = texts.iter().map(|batch| batch.column(i).clone()).collect();
        let read = match times.contains(&name.as_str()) {
            true => instants(&shown, name, &pieces)?,
            false => typed(name, &pieces)?,
        };
        fields.push(Field::new(name, read.first().map_or(DataType::Null, |piece| piece.data_type().clone()), true));
        columns.push(read);
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = |piece: usize| {
        let columns = columns.iter().map(|column| column[piece].clone()).collect();
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    };
    let rows = (0..texts.len()).map(batch).filter(|batch| batch.as_ref().map_or(true, |batch| batch.num_rows() > 0));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let session = engine.session(Parallelism::One, [])?;
    Ok(session.read_table(Arc::new(MemTable::try_new(schema, vec![rows])?))?)
}

/// Texts as times: instants if they have an offset, else local times.
fn instants(shown: &str, name: &str, pieces: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    let refused = |row: usize, text: &str, reason: &str| Error::ColumnType {
        subject: format!("`{shown}`, row {}", row + 1),
        column: name.into(),
        found: format!("`{text}`"),
        needed: format!("it must be a time: {reason}; `asof::time::parse_time` lists the forms"),
    };
    let (mut values, mut first_offset) = (Vec::new(), None);
    for (row, text) in pieces.iter().flat_map(|piece| piece.as_string::<i32>().iter()).enumerate() {
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
    let zone = (first_offset == Some(true)).then_some("UTC");
    let values = TimestampMicrosecondArray::from(values).with_timezone_opt(zone);
    let starts = pieces.iter().scan(0, |end, piece| {
        *end += piece.len();
        Some(*end - piece.len())
    });
    Ok(starts.zip(pieces).map(|(start, piece)| Arc::new(values.slice(start, piece.len())) as ArrayRef).collect())
}
