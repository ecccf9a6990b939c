//! Reads CSV files outside of loads: columns as texts, and texts as the narrowest type that holds all of them exactly.
//! There are no rejects. Anything wrong with a file is an error with the line.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray, new_null_array},
    datatypes::{DataType, Field, Schema},
};

use super::{
    column_parser::{ColumnParser, Typing, is_code},
    csv_source::CsvFile,
    open::{raw_bytes, text_of},
};
use crate::{
    catalog::{FactTable, KnownAt},
    error::{Error, Result},
    ingest::{
        load::Ingest,
        options::Format,
        sources::{SourceFile, find},
    },
    storage::Locations,
};

/// The rows of the CSV files at a location, in the order of their names, with all columns as texts. The location is a file, a
/// folder with `.csv` files, or a glob. Empty fields are NULL.
///
/// # Errors
/// [`Error::NoFiles`] if there are none. [`Error::UnreadableFile`] for a file that cannot be read to its end, has a row of another
/// length than its header, or has other columns than the first file. [`Error::SourceChanged`] for a file that is being written.
pub(crate) async fn csv_texts(locations: &Locations, location: &str) -> Result<Vec<RecordBatch>> {
    let none = FactTable::new("(no event time)", KnownAt::after(chrono::TimeDelta::zero()));
    let mut ingest = Ingest::new("spine", none)?.from(location);
    let is_file = match locations.open(location).ok().and_then(|place| place.split_file()) {
        Some((folder, name)) => folder.head(&name).await?.is_some(),
        None => false,
    };
    if is_file {
        ingest = ingest.format(Format::Csv);
    }
    let ingest = Arc::new(ingest);
    let mut batches: Vec<RecordBatch> = Vec::new();
    let sources = find(locations, &ingest).await?.sources;
    for source in sources.into_iter().filter(|source| source.format == Format::Csv) {
        let (bytes, digest) = raw_bytes(&source).await?;
        let (ingest, own) = (ingest.clone(), source.clone());
        let read = tokio::task::spawn_blocking(move || file_texts(&ingest, &own, bytes)).await;
        source.check_unchanged(digest.of_all()).await?;
        let read = read.map_err(|e| Error::lost_task(&format!("reading `{}`", source.shown()), e))??;
        if let (Some(first), Some(other)) = (batches.first(), read.first())
            && first.schema() != other.schema()
        {
            let reason = "its header differs from that of the first file; read files of different columns one by one".into();
            return Err(Error::UnreadableFile { path: source.shown(), reason });
        }
        batches.extend(read);
    }
    if batches.is_empty() {
        return Err(Error::NoFiles { what: "CSV files", location: crate::storage::without_credentials(location) });
    }
    Ok(batches)
}

/// The rows of one file. The first batch is empty and has the schema.
fn file_texts(ingest: &Ingest, source: &SourceFile, bytes: Box<dyn std::io::Read + Send>) -> Result<Vec<RecordBatch>> {
    let refused = |reason: String| Error::UnreadableFile { path: source.shown(), reason };
    let mut file = CsvFile::open(ingest, source, text_of(source, bytes)?)?;
    let names = file.found.clone();
    let mut known = HashSet::new();
    if let Some((i, name)) = names.iter().enumerate().find(|(_, name)| !known.insert(name.as_str())) {
        return Err(refused(format!("two of its columns have the same name: column {} is called `{name}` again", i + 1)));
    }
    let fields: Vec<Field> = names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
    let parsers: Vec<ColumnParser> = fields.iter().map(|field| ColumnParser::new(field, ingest, Typing::Declared)).collect();
    let schema = Arc::new(Schema::new(fields));
    let mut batches = vec![RecordBatch::new_empty(schema.clone())];
    while let Some(block) = file.next(usize::MAX)? {
        if let Some(row) = block.rows.iter().find(|row| row.field_count as usize != names.len()) {
            return Err(refused(format!("line {} has {} fields, the header {}", row.line, row.field_count, names.len())));
        }
        let mut columns = Vec::with_capacity(parsers.len());
        for (column, parser) in parsers.iter().enumerate() {
            let mut wrong = None;
            let texts = block.rows.iter().map(|row| ingest.csv.value(block.field(row, column)));
            columns.push(parser.parse(texts, |row, reason| wrong = wrong.take().or(Some((row, reason))))?);
            if let Some((row, reason)) = wrong {
                let line = block.rows.get(row).map_or(0, |row| row.line);
                return Err(refused(format!("line {line}, column `{}`: {reason}", parser.name)));
            }
        }
        batches.push(RecordBatch::try_new(schema.clone(), columns)?);
    }
    Ok(batches)
}

/// Converts a column of texts to integers, floats or truth values if that is exact for all texts. A column without a value gets
/// the type `Null`. All other columns stay texts.
pub(crate) fn typed(name: &str, pieces: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    if pieces.iter().all(|piece| piece.null_count() == piece.len()) {
        return Ok(pieces.iter().map(|piece| new_null_array(&DataType::Null, piece.len())).collect());
    }
    let texts = || pieces.iter().flat_map(|piece| piece.as_string::<i32>().iter()).flatten();
    // As numbers, two different codes could become equal.
    if texts().any(is_code) {
        return Ok(pieces.to_vec());
    }
    let none = FactTable::new("(no event time)", KnownAt::after(chrono::TimeDelta::zero()));
    let ingest = Ingest::new("spine", none)?;
    for data_type in [DataType::Int64, DataType::Float64, DataType::Boolean] {
        let parser = ColumnParser::new(&Field::new(name, data_type, true), &ingest, Typing::Inferred);
        let (mut fits, mut parsed) = (true, Vec::with_capacity(pieces.len()));
        for piece in pieces {
            let texts: &StringArray = piece.as_string();
            parsed.push(parser.parse(texts.iter().map(|text| text.map(str::as_bytes)), |_, _| fits = false)?);
            if !fits {
                break;
            }
        }
        if fits {
            return Ok(parsed);
        }
    }
    Ok(pieces.to_vec())
}
