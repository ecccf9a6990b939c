//! CSV files, row by row: typed values, and rejects with their line.
//! A row is taken whole or not at all, and no value is turned into NULL because it did not fit.

use std::{io::Read, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder},
    datatypes::{DataType, Field, TimeUnit as ArrowUnit},
};
use futures::TryStreamExt;
use object_store::{GetResultPayload, ObjectStoreExt};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{Ingest, columns::Target, gzip::Gzip, rejects::Rejects, sources::Source, whole::Whole};
use crate::{
    catalog::TimeColumn,
    error::{Error, Result},
    time::{TimeScale, TimeUnit, Zone, parse_time},
};

/// The bytes of a CSV file as blocking input, decompressed.
pub(crate) async fn csv_reader(source: &Source) -> Result<Box<dyn Read + Send>> {
    let found = source.place.store().get(&source.object.location).await?;
    let size = found.meta.size;
    let raw: Box<dyn Read + Send> = match found.payload {
        GetResultPayload::File(file, _) => Box::new(std::io::BufReader::with_capacity(1 << 20, file)),
        GetResultPayload::Stream(stream) => Box::new(SyncIoBridge::new(StreamReader::new(stream.map_err(std::io::Error::other)))),
    };
    let raw: Box<dyn Read + Send> = Box::new(Whole::new(raw, size));
    Ok(if source.name.ends_with(".gz") { Box::new(Gzip::new(raw)) } else { raw })
}

/// The column names of a CSV file, as they are in the file.
pub(crate) fn header<R: Read>(source: &Source, reader: &mut csv::Reader<R>) -> Result<Vec<String>> {
    let unreadable = |reason: String| Error::UnreadableFile { path: source.shown(), reason };
    let names = reader.headers().map_err(|e| unreadable(e.to_string()))?;
    let names: Vec<String> = names.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    if names.is_empty() || names.iter().all(String::is_empty) {
        return Err(unreadable("it has no header line; a CSV file starts with its columns' names".into()));
    }
    Ok(names)
}

/// Reads one CSV file into batches of the target's schema and the line of each row; `emit` returns false when nobody wants
/// more.
pub(crate) fn read_csv(
    ingest: &Ingest,
    source: &Source,
    reader: Box<dyn Read + Send>,
    target: &Target,
    rejects: &Rejects,
    batch_rows: usize,
    mut emit: impl FnMut(&[u64], Vec<ArrayRef>) -> Result<bool>,
) -> Result<()> {
    let shown = source.shown();
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let names = header(source, &mut reader)?;
    // After a header that ends in CRLF the reader has not counted its newline yet.
    let counts_newline = u64::from(reader.position().line() > 1);
    // Columns that held nothing where types were inferred have none: a value in them must not be lost.
    let has_type = |name: &String| target.schema.column_with_name(ingest.renamed(name)).is_some();
    let untyped: Vec<usize> = (0..names.len()).filter(|&i| !has_type(&names[i])).collect();
    let mut columns: Vec<ColumnReader> = target
        .schema
        .fields()
        .iter()
        .map(|field| {
            let position = names.iter().position(|name| ingest.renamed(name) == field.name());
            let time = ingest.declared.time_columns().find(|column| column.name == *field.name());
            ColumnReader::new(position, field, time, ingest)
        })
        .collect();
    let mut record = csv::ByteRecord::new();
    let (mut row, mut lines) = (0_u64, Vec::with_capacity(batch_rows));
    loop {
        let more = reader
            .read_byte_record(&mut record)
            .map_err(|e| Error::UnreadableFile { path: shown.clone(), reason: e.to_string() })?;
        if !more {
            break;
        }
        // A record's position is taken before blank lines and a pending newline are passed; its end is sure.
        let newlines_inside = record.as_slice().iter().filter(|b| **b == b'\n').count() as u64;
        let end = reader.position().line().saturating_sub(newlines_inside + counts_newline);
        let line = record.position().map_or(row + 2, csv::Position::line).max(end);
        if record.len() != names.len() {
            let reason = format!("the row has {} fields, the header {}", record.len(), names.len());
            rejects.add(&shown, line, "", "", &reason)?;
        } else if let Some(&i) = untyped.iter().find(|&&i| record.get(i).is_some_and(|value| !value.is_empty())) {
            let value = String::from_utf8_lossy(&record[i]).into_owned();
            rejects.add(&shown, line, &names[i], &value, "the column was empty where types were inferred; declare its type")?;
        } else if let Some((column, value, reason)) = columns.iter_mut().find_map(|c| c.parse(&record)) {
            rejects.add(&shown, line, &column, &value, reason)?;
        } else {
            columns.iter_mut().for_each(ColumnReader::append);
            lines.push(line);
        }
        row += 1;
        if lines.len() == batch_rows {
            let arrays = columns.iter_mut().map(ColumnReader::finish).collect();
            if !emit(&lines, arrays)? {
                return Ok(());
            }
            lines.clear();
        }
    }
    if !lines.is_empty() {
        emit(&lines, columns.iter_mut().map(ColumnReader::finish).collect())?;
    }
    Ok(())
}

/// Parses one column: first a value, then, once the whole row is good, into the array.
struct ColumnReader {
    position: Option<usize>,
    name: String,
    kind: Kind,
    text: String,
}

enum Kind {
    /// An instant: text, or an integer in this unit.
    Instant {
        zone: Option<Zone>,
        epoch: Option<TimeUnit>,
        written: ArrowUnit,
        value: i64,
        builder: Int64Builder,
    },
    /// A whole number; digits behind a leading zero are a code, unless the column was declared.
    Integer {
        value: Option<i64>,
        codes: bool,
        builder: Int64Builder,
    },
    Float {
        value: Option<f64>,
        builder: Float64Builder,
    },
    Boolean {
        value: Option<bool>,
        builder: BooleanBuilder,
    },
    Text {
        is_null: bool,
        builder: StringBuilder,
    },
    /// A type that CSV cannot hold, in a table that other sources made.
    Foreign {
        data_type: DataType,
        rows: usize,
    },
}

impl ColumnReader {
    fn new(position: Option<usize>, field: &Field, time: Option<&TimeColumn>, ingest: &Ingest) -> Self {
        let zone = ingest.declared.zone;
        let is_declared = ingest.types.iter().any(|(column, _)| column == field.name());
        let kind = match (time, field.data_type()) {
            (Some(column), DataType::Timestamp(unit, _)) => {
                Kind::Instant { zone, epoch: column.unit, written: *unit, value: 0, builder: Int64Builder::new() }
            }
            (_, DataType::Int64) => Kind::Integer { value: None, codes: is_declared, builder: Int64Builder::new() },
            (_, DataType::Float64) => Kind::Float { value: None, builder: Float64Builder::new() },
            (_, DataType::Boolean) => Kind::Boolean { value: None, builder: BooleanBuilder::new() },
            (_, DataType::Utf8) => Kind::Text { is_null: true, builder: StringBuilder::new() },
            (_, other) => Kind::Foreign { data_type: other.clone(), rows: 0 },
        };
        Self { position, name: field.name().clone(), kind, text: String::new() }
    }

    /// Parses this column's value of a row; column, value and reason when it does not fit.
    fn parse(&mut self, record: &csv::ByteRecord) -> Option<(String, String, &'static str)> {
        let bytes = self.position.and_then(|p| record.get(p)).unwrap_or_default();
        let reason = match std::str::from_utf8(bytes) {
            Err(_) => "the value is not UTF-8",
            Ok(text) => match parse_value(&mut self.kind, &mut self.text, text) {
                Ok(()) => return None,
                Err(reason) => reason,
            },
        };
        Some((self.name.clone(), String::from_utf8_lossy(bytes).into_owned(), reason))
    }

    fn append(&mut self) {
        match &mut self.kind {
            Kind::Instant { value, builder, .. } => builder.append_value(*value),
            Kind::Integer { value, builder, .. } => builder.append_option(*value),
            Kind::Float { value, builder } => builder.append_option(*value),
            Kind::Boolean { value, builder } => builder.append_option(*value),
            Kind::Text { is_null, builder } => builder.append_option((!*is_null).then_some(&self.text)),
            Kind::Foreign { rows, .. } => *rows += 1,
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match &mut self.kind {
            Kind::Instant { builder, written, .. } => match written {
                ArrowUnit::Nanosecond => Arc::new(
                    builder.finish().reinterpret_cast::<arrow::datatypes::TimestampNanosecondType>().with_timezone("UTC"),
                ),
                _ => Arc::new(
                    builder.finish().reinterpret_cast::<arrow::datatypes::TimestampMicrosecondType>().with_timezone("UTC"),
                ),
            },
            Kind::Integer { builder, .. } => Arc::new(builder.finish()),
            Kind::Float { builder, .. } => Arc::new(builder.finish()),
            Kind::Boolean { builder, .. } => Arc::new(builder.finish()),
            Kind::Text { builder, .. } => Arc::new(builder.finish()),
            Kind::Foreign { data_type, rows } => arrow::array::new_null_array(data_type, std::mem::take(rows)),
        }
    }
}

fn parse_value(kind: &mut Kind, kept: &mut String, text: &str) -> Result<(), &'static str> {
    match kind {
        Kind::Instant { zone, epoch, written, value, .. } => {
            let scaled = match epoch {
                Some(unit) => {
                    let stored = text.trim().parse::<i64>().map_err(|_| "not an integer, as the declared epoch times are")?;
                    TimeScale { unit: *unit, zone: Zone::UTC }.instant_ns(stored)
                }
                None => i128::from(parse_time(text, *zone)?) * 1_000,
            };
            let unit_ns = if *written == ArrowUnit::Nanosecond { 1 } else { 1_000 };
            *value = i64::try_from(scaled.div_euclid(unit_ns)).map_err(|_| "the time is out of range")?;
        }
        Kind::Integer { codes: false, .. } if is_code(text) => {
            return Err("digits behind a leading zero are a code, not a number; declare the column's type");
        }
        Kind::Integer { value, .. } => *value = parsed(text, "not an integer")?,
        Kind::Float { value, .. } => *value = parsed(text, "not a number")?,
        Kind::Boolean { value, .. } => {
            *value = match text {
                "" => None,
                "true" | "True" | "TRUE" => Some(true),
                "false" | "False" | "FALSE" => Some(false),
                _ => return Err("neither true nor false"),
            }
        }
        Kind::Text { is_null, .. } => {
            kept.clear();
            kept.push_str(text);
            *is_null = text.is_empty();
        }
        Kind::Foreign { .. } if text.is_empty() => {}
        Kind::Foreign { .. } => return Err("the table's column has a type that CSV values are not read as"),
    }
    Ok(())
}

/// Digits behind a leading zero: reading them as a number would make two codes one.
pub(crate) fn is_code(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

fn parsed<T: std::str::FromStr>(text: &str, reason: &'static str) -> Result<Option<T>, &'static str> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| reason) }
}
