//! CSV files, a block of rows at a time: typed columns, and rejects with their line.
//! A row is taken whole or not at all, and no value is turned into NULL because it did not fit.

use std::{collections::HashSet, io::BufRead};

use super::{
    column_parser::{ColumnParser, column_parsers},
    open::unreadable,
    parsed_rows::{ParsedRows, RowErrors},
    source_columns::SourceColumns,
    tokens::{Block, Row, TokenError, Tokens},
};
use crate::{
    error::{Error, Result},
    ingest::{
        load::Ingest,
        options::{CsvOptions, ExtraFields},
        sources::Source,
        target::Target,
    },
};

/// The rows of a CSV file behind its header.
pub(crate) struct CsvFile<'a> {
    source: &'a Source,
    tokens: Tokens,
    /// The column names, as they are in the file.
    pub(crate) found: Vec<String>,
}

impl<'a> CsvFile<'a> {
    pub(crate) fn open(ingest: &Ingest, source: &'a Source, text: Box<dyn BufRead + Send>) -> Result<Self> {
        let refused = |reason: String| Error::UnreadableFile { path: source.shown(), reason };
        let limit = ingest.limits.columns;
        let check = |count: usize| match count > limit {
            true => {
                Err(refused(format!("it has {count} columns and at most {limit} are read; `ReadLimits::columns` can allow them")))
            }
            false => Ok(()),
        };
        let mut tokens = Tokens::new(text, &ingest.csv, ingest.limits).map_err(|broken| told(source, broken))?;
        if let Some(names) = &ingest.csv.columns {
            check(names.len())?;
            return Ok(Self { source, tokens, found: names.clone() });
        }
        let header = tokens.next(limit, 1).map_err(|broken| told(source, broken))?.unwrap_or_default();
        let mut found = Vec::new();
        if let Some(row) = header.rows.first() {
            check(row.fields as usize)?;
            for column in 0..row.fields as usize {
                let name = std::str::from_utf8(header.cell(row, column));
                let name = name.map_err(|_| refused(format!("the name of column {} in its header is not UTF-8", column + 1)))?;
                found.push(name.trim_start_matches('\u{feff}').trim().to_owned());
            }
        }
        if found.iter().all(String::is_empty) {
            let reason = "it has no header line; a CSV file starts with its columns' names, or `CsvOptions::columns` tells them";
            return Err(refused(reason.into()));
        }
        if ingest.csv.extra_fields == ExtraFields::IgnoredWhenEmpty {
            let named = found.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
            found.truncate(named);
        }
        Ok(Self { source, tokens, found })
    }

    /// The next rows, at most so many; `None` at the end.
    pub(crate) fn next(&mut self, at_most: usize) -> Result<Option<Block>> {
        self.tokens.next(self.found.len(), at_most).map_err(|broken| told(self.source, broken))
    }
}

fn told(source: &Source, broken: TokenError) -> Error {
    match broken {
        TokenError::Input(error) => unreadable(source, &error),
        TokenError::Text(reason) => Error::UnreadableFile { path: source.shown(), reason },
    }
}

/// How the cells of a CSV file become the target's columns.
pub(crate) struct CsvReader {
    options: CsvOptions,
    names: Vec<String>,
    /// Columns that held nothing where types were inferred have none: a value in them must not be lost.
    untyped: Vec<usize>,
    /// The target's columns and their places in the file.
    readers: Vec<(Option<usize>, ColumnParser)>,
}

impl CsvReader {
    pub(crate) fn new(ingest: &Ingest, columns: &SourceColumns, target: &Target) -> Self {
        let names = columns.names.clone();
        let fields = target.schema.fields();
        let typed: HashSet<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let untyped = (0..names.len()).filter(|&i| !typed.contains(names[i].as_str())).collect();
        let placed = |reader: ColumnParser| (columns.place(&reader.name), reader);
        let readers = column_parsers(&target.schema, ingest).into_iter().map(placed).collect();
        Self { options: ingest.csv.clone(), names, untyped, readers }
    }

    /// The rows as columns of the target.
    pub(crate) fn read(&self, block: &Block, rows: &[Row]) -> Result<ParsedRows> {
        let mut refused = RowErrors::default();
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| !self.has_right_count(row)) {
            let told = if self.options.columns.is_some() { "the declared columns" } else { "the header" };
            let reason = format!("the row has {} fields, {told} {}", row.fields, self.names.len());
            refused.add(at, "", || b"", reason.into());
        }
        for &column in &self.untyped {
            for (at, row) in rows.iter().enumerate() {
                if self.options.value(block.cell(row, column)).is_some() {
                    let reason = "the column was empty where types were inferred; declare its type";
                    refused.add(at, &self.names[column], || block.cell(row, column), reason.into());
                }
            }
        }
        let mut columns = Vec::with_capacity(self.readers.len());
        for (place, reader) in &self.readers {
            let of_row = |row: &Row| place.map_or(&[][..], |place| block.cell(row, place));
            let refuse = |at: usize, reason| refused.add(at, &reader.name, || of_row(&rows[at]), reason);
            columns.push(match place {
                Some(place) => reader.read(rows.iter().map(|row| self.options.value(block.cell(row, *place))), refuse)?,
                None => reader.read(rows.iter().map(|_| None), refuse)?,
            });
        }
        refused.leave_out(rows.iter().map(|row| row.line).collect(), columns)
    }

    fn has_right_count(&self, row: &Row) -> bool {
        let (fields, columns) = (row.fields as usize, self.names.len());
        let is_filled_up = self.options.extra_fields == ExtraFields::IgnoredWhenEmpty && !row.is_filled_beyond;
        fields == columns || (fields > columns && is_filled_up)
    }
}
