//! Reads CSV files, one block of rows at a time, into typed columns and rejects with their line.
//! A row is taken as a whole or rejected. A value that does not fit never becomes NULL.

use std::{collections::HashSet, io::BufRead};

use super::{
    column_parser::{ColumnParser, column_parsers},
    open::unreadable,
    parsed_rows::{ParsedRows, RowErrors},
    source_columns::SourceColumns,
    tokens::{Block, CsvTokenizer, Row, TokenError},
};
use crate::{
    error::{Error, Result},
    ingest::{
        load::Ingest,
        options::{CsvOptions, ExtraFields},
        sources::SourceFile,
        target::Target,
    },
};

/// The rows of a CSV file after its header.
pub(crate) struct CsvFile<'a> {
    source: &'a SourceFile,
    tokens: CsvTokenizer,
    /// The column names in the file.
    pub(crate) found: Vec<String>,
}

impl<'a> CsvFile<'a> {
    pub(crate) fn open(ingest: &Ingest, source: &'a SourceFile, text: Box<dyn BufRead + Send>) -> Result<Self> {
        let refused = |reason: String| Error::UnreadableFile { path: source.shown(), reason };
        let limit = ingest.limits.columns;
        let check = |count: usize| match count > limit {
            true => Err(refused(format!(
                "it has {count} columns, and at most {limit} are read; raise `ReadLimits::columns` to read it"
            ))),
            false => Ok(()),
        };
        let mut tokens = CsvTokenizer::new(text, &ingest.csv, ingest.limits).map_err(|error| unreadable_text(source, error))?;
        if let Some(names) = &ingest.csv.columns {
            check(names.len())?;
            return Ok(Self { source, tokens, found: names.clone() });
        }
        let header = tokens.next(limit, 1).map_err(|error| unreadable_text(source, error))?.unwrap_or_default();
        let mut found = Vec::new();
        if let Some(row) = header.rows.first() {
            check(row.field_count as usize)?;
            for column in 0..row.field_count as usize {
                let name = std::str::from_utf8(header.field(row, column));
                let name = name.map_err(|_| refused(format!("the name of column {} in its header is not UTF-8", column + 1)))?;
                found.push(name.trim_start_matches('\u{feff}').trim().to_owned());
            }
        }
        if found.iter().all(String::is_empty) {
            let reason = "it has no header line; start it with the names of its columns, or give them with `CsvOptions::columns`";
            return Err(refused(reason.into()));
        }
        if ingest.csv.extra_fields == ExtraFields::IgnoredWhenEmpty {
            let named = found.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
            found.truncate(named);
        }
        Ok(Self { source, tokens, found })
    }

    /// The next rows, at most `at_most`; `None` at the end.
    pub(crate) fn next(&mut self, at_most: usize) -> Result<Option<Block>> {
        self.tokens.next(self.found.len(), at_most).map_err(|error| unreadable_text(self.source, error))
    }
}

fn unreadable_text(source: &SourceFile, error: TokenError) -> Error {
    match error {
        TokenError::Input(error) => unreadable(source, &error),
        TokenError::Text(reason) => Error::UnreadableFile { path: source.shown(), reason },
    }
}

/// Turns the fields of a CSV file into the table's columns.
pub(crate) struct CsvReader {
    options: CsvOptions,
    names: Vec<String>,
    /// Columns without a type, because the sampled rows had no value in them. A value in them is a reject.
    untyped: Vec<usize>,
    /// The parsers of the table's columns, and their positions in the file.
    parsers: Vec<(Option<usize>, ColumnParser)>,
}

impl CsvReader {
    pub(crate) fn new(ingest: &Ingest, columns: &SourceColumns, target: &Target) -> Self {
        let names = columns.names.clone();
        let fields = target.schema.fields();
        let typed: HashSet<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let untyped = (0..names.len()).filter(|&i| !typed.contains(names[i].as_str())).collect();
        let with_position = |parser: ColumnParser| (columns.position(&parser.name), parser);
        let parsers = column_parsers(&target.schema, ingest).into_iter().map(with_position).collect();
        Self { options: ingest.csv.clone(), names, untyped, parsers }
    }

    /// The rows as columns of the table.
    pub(crate) fn read(&self, block: &Block, rows: &[Row]) -> Result<ParsedRows> {
        let mut refused = RowErrors::default();
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| !self.has_right_count(row)) {
            let expected = if self.options.columns.is_some() { "the declared columns" } else { "the header" };
            let reason = format!("the row has {} fields, {expected} {}", row.field_count, self.names.len());
            refused.add(at, "", || b"", reason.into());
        }
        for &column in &self.untyped {
            for (at, row) in rows.iter().enumerate() {
                if self.options.value(block.field(row, column)).is_some() {
                    let reason = "the column was empty where types were inferred; declare its type";
                    refused.add(at, &self.names[column], || block.field(row, column), reason.into());
                }
            }
        }
        let mut columns = Vec::with_capacity(self.parsers.len());
        for (position, parser) in &self.parsers {
            let of_row = |row: &Row| position.map_or(&[][..], |position| block.field(row, position));
            let refuse = |at: usize, reason| refused.add(at, &parser.name, || of_row(&rows[at]), reason);
            columns.push(match position {
                Some(position) => parser.parse(rows.iter().map(|row| self.options.value(block.field(row, *position))), refuse)?,
                None => parser.parse(rows.iter().map(|_| None), refuse)?,
            });
        }
        refused.split(rows.iter().map(|row| row.line).collect(), columns)
    }

    fn has_right_count(&self, row: &Row) -> bool {
        let (fields, columns) = (row.field_count as usize, self.names.len());
        let is_filled_up = self.options.extra_fields == ExtraFields::IgnoredWhenEmpty && !row.is_filled_beyond;
        fields == columns || (fields > columns && is_filled_up)
    }
}
