//! CSV files, row by row: typed values, and rejects with their line.
//! A row is taken whole or not at all, and no value is turned into NULL because it did not fit.

use std::io::{BufRead, Cursor, Read};

use arrow::array::ArrayRef;

use super::{Ingest, cell::CellReader, columns::Reading, infer::SourceColumns, open::unreadable, sources::Source};
use crate::error::{Error, Result};

/// A line that is put behind the end of each file: a row that swallows it holds a quote that is never closed.
const END: &str = "asofEndOfInput";

/// The rows of a CSV file.
pub(crate) struct CsvRows<'a> {
    source: &'a Source,
    reader: csv::Reader<Box<dyn Read + Send>>,
    record: csv::ByteRecord,
    /// The column names, as they are in the file.
    pub(crate) found: Vec<String>,
    /// Does the reader count the newline that ends a row with the row, or, as with CRLF, with the next one?
    counts_newline: Option<u64>,
    row: u64,
}

impl<'a> CsvRows<'a> {
    pub(crate) fn open(ingest: &Ingest, source: &'a Source, text: Box<dyn BufRead + Send>) -> Result<Self> {
        let refused = |reason: String| Error::UnreadableFile { path: source.shown(), reason };
        // Its own line end is one of two bytes, so that it counts no line before a row is told apart.
        let input: Box<dyn Read + Send> = Box::new(text.chain(Cursor::new(format!("\r\n{END}"))));
        let mut reader = ingest.csv.reader(input);
        let (found, counts_newline) = match &ingest.csv.columns {
            Some(names) => (names.clone(), None),
            None => {
                let names = reader.headers().map_err(|e| unreadable(source, &e))?;
                let names: Vec<String> = names.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
                if names.iter().all(|name| name.is_empty() || name == END) {
                    let reason =
                        "it has no header line; a CSV file starts with its columns' names, or `CsvOptions::columns` tells them";
                    return Err(refused(reason.into()));
                }
                (names, Some(u64::from(reader.position().line() > 1)))
            }
        };
        if found.last().is_some_and(|name| name.ends_with(END)) {
            return Err(refused("a quote in its header is never closed".into()));
        }
        Ok(Self { source, reader, record: csv::ByteRecord::new(), found, counts_newline, row: 0 })
    }

    /// The next row and the line it begins in, counting from 1; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(&csv::ByteRecord, u64)>> {
        let more = self.reader.read_byte_record(&mut self.record).map_err(|e| unreadable(self.source, &e))?;
        let last = self.record.iter().next_back();
        if !more || (self.record.len() == 1 && last == Some(END.as_bytes())) {
            return Ok(None);
        }
        self.row += 1;
        // A record's position is taken before blank lines and a pending newline are passed; its end is sure.
        let newlines_inside = self.record.as_slice().iter().filter(|b| **b == b'\n').count() as u64;
        let position = self.reader.position().line();
        let counts_newline = *self.counts_newline.get_or_insert(u64::from(position > 1 + newlines_inside));
        let end = position.saturating_sub(newlines_inside + counts_newline);
        let line = self.record.position().map_or(self.row + 1, csv::Position::line).max(end);
        if last.is_some_and(|value| value.ends_with(END.as_bytes())) {
            let begin = self.record.position().map_or(line, csv::Position::line);
            return Err(Error::UnreadableFile {
                path: self.source.shown(),
                reason: format!(
                    "a quote is opened in the row at line {begin} or after it and never closed; close it, or read the file with \
                     `CsvOptions::no_quotes`"
                ),
            });
        }
        Ok(Some((&self.record, line)))
    }
}

/// Reads one CSV file into batches of the target's schema and the line of each row; `emit` returns false when nobody wants
/// more.
pub(crate) fn read_csv(
    reading: &Reading<'_>,
    columns: &SourceColumns,
    text: Box<dyn BufRead + Send>,
    mut emit: impl FnMut(&[u64], Vec<ArrayRef>) -> Result<bool>,
) -> Result<()> {
    let Reading { ingest, source, target, rejects, batch_rows } = *reading;
    let shown = source.shown();
    let mut rows = CsvRows::open(ingest, source, text)?;
    if rows.found != columns.found {
        let reason = "its header is not what it was when the load began; load it again once it is complete".into();
        return Err(Error::UnreadableFile { path: shown, reason });
    }
    let told = if ingest.csv.columns.is_some() { "the declared columns" } else { "the header" };
    let names = &columns.names;
    // Columns that held nothing where types were inferred have none: a value in them must not be lost.
    let untyped: Vec<usize> = (0..names.len()).filter(|&i| target.schema.column_with_name(&names[i]).is_none()).collect();
    let position = |name: &String| names.iter().position(|known| known == name);
    let fields = target.schema.fields().iter();
    let mut readers: Vec<(Option<usize>, CellReader)> =
        fields.map(|field| Ok((position(field.name()), CellReader::new(field, ingest)?))).collect::<Result<_>>()?;
    let mut lines = Vec::with_capacity(batch_rows);
    while let Some((record, line)) = rows.next()? {
        let shown_value = |i: usize| String::from_utf8_lossy(record.get(i).unwrap_or_default()).into_owned();
        if record.len() != names.len() {
            let reason = format!("the row has {} fields, {told} {}", record.len(), names.len());
            rejects.add(&shown, line, "", "", &reason)?;
        } else if let Some(&i) = untyped.iter().find(|&&i| !is_null(ingest, &record[i])) {
            let reason = "the column was empty where types were inferred; declare its type";
            rejects.add(&shown, line, &names[i], &shown_value(i), reason)?;
        } else {
            let mut refused = None;
            for (position, reader) in &mut readers {
                let cell = match position.map(|p| std::str::from_utf8(&record[p])) {
                    None => Ok(None),
                    Some(Ok(text)) => Ok(ingest.csv.cell(text)),
                    Some(Err(_)) => Err("the value is not UTF-8".into()),
                };
                if let Err(reason) = cell.and_then(|cell| reader.parse(cell)) {
                    refused = Some((reader.name.as_str(), position.map(shown_value).unwrap_or_default(), reason));
                    break;
                }
            }
            match refused {
                Some((column, value, reason)) => rejects.add(&shown, line, column, &value, &reason)?,
                None => {
                    readers.iter_mut().for_each(|(_, reader)| reader.append());
                    lines.push(line);
                }
            }
        }
        if lines.len() == batch_rows {
            if !emit(&lines, finished(&mut readers)?)? {
                return Ok(());
            }
            lines.clear();
        }
    }
    if !lines.is_empty() {
        emit(&lines, finished(&mut readers)?)?;
    }
    Ok(())
}

fn finished(readers: &mut [(Option<usize>, CellReader)]) -> Result<Vec<ArrayRef>> {
    readers.iter_mut().map(|(_, reader)| reader.finish()).collect()
}

/// Does a cell mean NULL?
pub(crate) fn is_null(ingest: &Ingest, value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| ingest.csv.cell(text).is_none())
}
