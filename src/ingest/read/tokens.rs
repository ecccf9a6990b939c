//! Splits a CSV text into blocks of rows: the position of each field without its quotes, and the line of each row.
//! Fields have no names and types here, and no text has a special meaning.

use std::io::{self, BufRead, Read};

use super::separators::{Separators, find};
use crate::ingest::{limits::ReadLimits, options::CsvOptions};

/// Bytes of text in a block. A larger row is a block of its own.
const BLOCK_BYTES: usize = 1 << 20;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A row of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// The line in which it begins, counting from 1.
    pub(crate) line: u64,
    /// The number of its fields.
    pub(crate) field_count: u32,
    /// Is there a text in a field after the kept ones?
    pub(crate) is_filled_beyond: bool,
    first: u32,
}

/// The position of a field in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FieldSpan {
    start: u32,
    end: u32,
}

/// Whole rows of a text.
#[derive(Debug, Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    fields: Vec<FieldSpan>,
    pub(crate) rows: Vec<Row>,
}

impl Block {
    /// The bytes of memory that it takes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + self.fields.len() * size_of::<FieldSpan>() + self.rows.len() * size_of::<Row>()
    }

    /// The text of a field; empty if the row does not have the field.
    #[inline]
    pub(crate) fn field(&self, row: &Row, column: usize) -> &[u8] {
        match self.fields.get(row.first as usize + column) {
            Some(field) if column < row.field_count as usize => {
                self.bytes.get(field.start as usize..field.end as usize).unwrap_or_default()
            }
            _ => &[],
        }
    }
}

/// Why a text cannot be read further.
#[derive(Debug)]
pub(crate) enum TokenError {
    Input(io::Error),
    /// What is wrong, and in which line.
    Text(String),
}

impl From<io::Error> for TokenError {
    fn from(error: io::Error) -> Self {
        Self::Input(error)
    }
}

/// Reads the rows of a text.
pub(crate) struct CsvTokenizer {
    text: Box<dyn BufRead + Send>,
    delimiter: u8,
    quote: Option<u8>,
    limits: ReadLimits,
    block_bytes: usize,
    /// The beginning of the row at which the last block ended.
    begun: Vec<u8>,
    /// The line in which that row begins.
    line: u64,
    is_at_end: bool,
}

impl CsvTokenizer {
    /// Starts after a byte-order mark and the lines to skip.
    pub(crate) fn new(mut text: Box<dyn BufRead + Send>, options: &CsvOptions, limits: ReadLimits) -> Result<Self, TokenError> {
        let mut begun = Vec::new();
        (&mut text).take(BOM.len() as u64).read_to_end(&mut begun)?;
        if begun == BOM {
            begun.clear();
        }
        let mut text: Box<dyn BufRead + Send> = Box::new(io::Cursor::new(begun).chain(text));
        for _ in 0..options.skipped_lines {
            skip_line(&mut text)?;
        }
        let line = 1 + options.skipped_lines;
        let CsvOptions { delimiter, quote, .. } = *options;
        Ok(Self {
            text,
            delimiter,
            quote,
            limits: limits.bounded(),
            block_bytes: BLOCK_BYTES,
            begun: Vec::new(),
            line,
            is_at_end: false,
        })
    }

    /// The next rows, at most `at_most`; `None` at the end. Up to `width` fields of each row are kept.
    pub(crate) fn next(&mut self, width: usize, at_most: usize) -> Result<Option<Block>, TokenError> {
        let mut block = Block { bytes: std::mem::take(&mut self.begun), ..Block::default() };
        let mut wanted = self.block_bytes;
        loop {
            self.fill(&mut block.bytes, wanted)?;
            let end = self.split(&mut block, width, at_most)?;
            if !block.rows.is_empty() {
                self.begun = block.bytes.split_off(end);
                return Ok(Some(block));
            }
            if self.is_at_end {
                return Ok(None);
            }
            // Only blank lines were passed. A row that is not complete needs more bytes.
            block.bytes.drain(..end);
            wanted = self.block_bytes.max((block.bytes.len() * 2).min(self.limits.row_bytes + self.block_bytes));
        }
    }

    fn fill(&mut self, bytes: &mut Vec<u8>, wanted: usize) -> Result<(), TokenError> {
        if bytes.len() < wanted && !self.is_at_end {
            let missing = wanted - bytes.len();
            bytes.reserve(missing);
            let count = (&mut self.text).take(missing as u64).read_to_end(bytes)?;
            self.is_at_end = count < missing;
        }
        Ok(())
    }

    /// Splits the complete rows into fields. Returns the position after them.
    fn split(&mut self, block: &mut Block, width: usize, at_most: usize) -> Result<usize, TokenError> {
        let Block { bytes, fields, rows } = block;
        let mut splitter = Splitter {
            bytes,
            separators: Separators::new(bytes, self.delimiter),
            quote: self.quote,
            limits: self.limits,
            is_last: self.is_at_end,
            line: self.line,
            fields,
            escaped: Vec::new(),
        };
        let mut end = 0;
        while rows.len() < at_most {
            end = splitter.after_blank_lines(end);
            self.line = splitter.line;
            if end == bytes.len() {
                break;
            }
            let Some((row, next)) = splitter.row(end, width)? else { break };
            rows.push(row);
            (end, self.line) = (next, splitter.line);
        }
        let escaped = std::mem::take(&mut splitter.escaped);
        for at in escaped {
            if let (Some(quote), Some(field)) = (self.quote, fields.get_mut(at)) {
                unescape(bytes, field, quote);
            }
        }
        Ok(end)
    }
}

/// Skips a line and its end.
fn skip_line(text: &mut Box<dyn BufRead + Send>) -> Result<(), TokenError> {
    loop {
        let bytes = text.fill_buf()?;
        let Some(at) = bytes.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
            let count = bytes.len();
            text.consume(count);
            if count == 0 {
                return Ok(());
            }
            continue;
        };
        let is_return = bytes[at] == b'\r';
        text.consume(at + 1);
        if is_return && text.fill_buf()?.first() == Some(&b'\n') {
            text.consume(1);
        }
        return Ok(());
    }
}

/// Removes the quotes of a field in place: two quotes inside quotes are one quote. After a closing quote all bytes are literal.
fn unescape(bytes: &mut [u8], field: &mut FieldSpan, quote: u8) {
    let (mut write, end) = (field.start as usize, field.end as usize);
    let (mut read, mut is_inside) = (write, true);
    while read < end {
        if is_inside && bytes[read] == quote {
            if read + 1 < end && bytes[read + 1] == quote {
                read += 1;
            } else {
                is_inside = false;
                read += 1;
                continue;
            }
        }
        bytes[write] = bytes[read];
        (read, write) = (read + 1, write + 1);
    }
    field.end = write as u32;
}

struct Splitter<'a> {
    bytes: &'a [u8],
    separators: Separators<'a>,
    quote: Option<u8>,
    limits: ReadLimits,
    /// Are these the last bytes of the text?
    is_last: bool,
    /// The current line.
    line: u64,
    fields: &'a mut Vec<FieldSpan>,
    /// Indexes of fields with quotes inside.
    escaped: Vec<usize>,
}

impl Splitter<'_> {
    /// The first position from here on that is not part of a line end.
    fn after_blank_lines(&mut self, mut at: usize) -> usize {
        loop {
            at = match self.bytes.get(at) {
                Some(b'\n') => at + 1,
                Some(b'\r') => match self.after_return(at) {
                    Some(next) => next,
                    None => return at,
                },
                _ => return at,
            };
            self.line += 1;
        }
    }

    /// The position after the line end that begins with a `\r`; `None` if that depends on bytes that are not read yet.
    fn after_return(&self, at: usize) -> Option<usize> {
        match self.bytes.get(at + 1) {
            Some(b'\n') => Some(at + 2),
            None if !self.is_last => None,
            _ => Some(at + 1),
        }
    }

    /// The row that begins here and the start of the next one; `None` if its end is not read yet.
    fn row(&mut self, start: usize, width: usize) -> Result<Option<(Row, usize)>, TokenError> {
        let (first, escaped, line) = (self.fields.len(), self.escaped.len(), self.line);
        let mut row = Row { line, field_count: 0, is_filled_beyond: false, first: first as u32 };
        let mut at = start;
        loop {
            let Some((field, is_escaped, end)) = self.field(at)? else {
                self.check_size(line, &row, start, at, self.bytes.len())?;
                // The row is read again, with more bytes.
                self.fields.truncate(first);
                self.escaped.truncate(escaped);
                self.line = line;
                return Ok(None);
            };
            self.check_size(line, &row, start, at, end)?;
            if (row.field_count as usize) < width {
                if is_escaped {
                    self.escaped.push(self.fields.len());
                }
                self.fields.push(field);
            } else {
                row.is_filled_beyond |= field.start < field.end;
            }
            row.field_count += 1;
            let next = match self.bytes.get(end) {
                None => end,
                Some(b'\n') => end + 1,
                Some(b'\r') => match self.after_return(end) {
                    Some(next) => next,
                    None => {
                        self.fields.truncate(first);
                        self.escaped.truncate(escaped);
                        self.line = line;
                        return Ok(None);
                    }
                },
                Some(_) => {
                    at = end + 1;
                    continue;
                }
            };
            self.line += 1;
            return Ok(Some((row, next)));
        }
    }

    /// The field that begins here, whether it contains quotes, and the position of its delimiter or line end.
    #[inline]
    fn field(&mut self, start: usize) -> Result<Option<(FieldSpan, bool, usize)>, TokenError> {
        let of = |start: usize, end: usize| FieldSpan { start: start as u32, end: end as u32 };
        if self.quote.is_some() && self.bytes.get(start).copied() == self.quote {
            return self.quoted(start);
        }
        let end = match self.separators.at_or_after(start) {
            Some(end) => end,
            None if self.is_last => self.bytes.len(),
            None => return Ok(None),
        };
        Ok(Some((of(start, end), false, end)))
    }

    fn quoted(&mut self, start: usize) -> Result<Option<(FieldSpan, bool, usize)>, TokenError> {
        let Some(quote) = self.quote else { return Ok(None) };
        let (mut from, mut is_escaped) = (start + 1, false);
        let close = loop {
            let Some(at) = find(self.bytes, from, quote) else {
                if !self.is_last {
                    return Ok(None);
                }
                return Err(TokenError::Text(format!(
                    "a quote is opened in line {} and never closed; close it, or read the file with `CsvOptions::no_quotes`",
                    self.line
                )));
            };
            if self.bytes.get(at + 1) == Some(&quote) {
                (from, is_escaped) = (at + 2, true);
            } else if at + 1 == self.bytes.len() && !self.is_last {
                return Ok(None);
            } else {
                break at;
            }
        };
        let end = match self.separators.at_or_after(close + 1) {
            Some(end) => end,
            None if self.is_last => self.bytes.len(),
            None => return Ok(None),
        };
        self.line += self.bytes[start..close].iter().filter(|b| **b == b'\n').count() as u64;
        let is_plain = !is_escaped && end == close + 1;
        let inner_end = if is_plain { close } else { end };
        Ok(Some((FieldSpan { start: start as u32 + 1, end: inner_end as u32 }, !is_plain, end)))
    }

    /// Refuses fields and rows beyond the limits as soon as their size is known.
    #[inline]
    fn check_size(&self, line: u64, row: &Row, row_start: usize, start: usize, end: usize) -> Result<(), TokenError> {
        let ReadLimits { field_bytes, row_bytes, .. } = self.limits;
        if end - start <= field_bytes && end - row_start <= row_bytes {
            return Ok(());
        }
        if end - start > field_bytes {
            let is_quoted = self.quote.is_some() && self.bytes.get(start).copied() == self.quote;
            let hint = if is_quoted { " (is its quote never closed?)" } else { "" };
            return Err(TokenError::Text(format!(
                "field {} of the row at line {line} is longer than {field_bytes} bytes{hint}; raise `ReadLimits::field_bytes` to read it",
                row.field_count + 1
            )));
        }
        Err(TokenError::Text(format!(
            "the row at line {line} is longer than {row_bytes} bytes; raise `ReadLimits::row_bytes` to read it"
        )))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Rows = Vec<(u64, Vec<Vec<u8>>)>;

    fn read(text: &[u8], options: &CsvOptions, limits: ReadLimits, block_bytes: usize) -> Result<Rows, String> {
        let shown = |error| match error {
            TokenError::Input(error) => error.to_string(),
            TokenError::Text(reason) => reason,
        };
        let mut tokens = CsvTokenizer::new(Box::new(io::Cursor::new(text.to_vec())), options, limits).map_err(shown)?;
        tokens.block_bytes = block_bytes;
        let mut rows = Rows::new();
        while let Some(block) = tokens.next(100, usize::MAX).map_err(shown)? {
            for row in &block.rows {
                rows.push((row.line, (0..row.field_count as usize).map(|column| block.field(row, column).to_vec()).collect()));
            }
        }
        Ok(rows)
    }

    fn plain(text: &str) -> Result<Vec<(u64, Vec<String>)>, String> {
        let rows = read(text.as_bytes(), &CsvOptions::default(), ReadLimits::default(), BLOCK_BYTES)?;
        let text = |fields: Vec<Vec<u8>>| fields.into_iter().map(|field| String::from_utf8(field).unwrap()).collect();
        Ok(rows.into_iter().map(|(line, fields)| (line, text(fields))).collect())
    }

    /// What the `csv` crate reads. All quotes must be closed.
    fn by_csv(text: &[u8], quote: Option<u8>) -> Vec<Vec<Vec<u8>>> {
        let mut builder = csv::ReaderBuilder::new();
        builder.flexible(true).has_headers(false);
        match quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        let records = builder.from_reader(text).into_byte_records().map(Result::unwrap);
        records.map(|record| record.iter().map(<[u8]>::to_vec).collect()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn rows_are_those_that_another_reader_finds_wherever_blocks_end(
            text in prop::collection::vec(prop::sample::select(b"aab,,\"\"\"\n\n\r '\xc3\xa9".to_vec()), 0..60),
            quote in prop::sample::select(vec![Some(b'"'), Some(b'\''), None]),
            block_bytes in 1..70_usize,
        ) {
            let options = CsvOptions { quote, ..CsvOptions::default() };
            match read(&text, &options, ReadLimits::default(), block_bytes) {
                Ok(rows) => {
                    let fields: Vec<_> = rows.into_iter().map(|(_, fields)| fields).collect();
                    prop_assert_eq!(fields, by_csv(&text, quote));
                }
                // The other reader closes the field at the end of the file.
                Err(reason) => prop_assert!(quote.is_some() && reason.contains("never closed"), "{}", reason),
            }
        }

        #[test]
        fn lines_are_counted_alike_wherever_blocks_end(
            text in prop::collection::vec(prop::sample::select(b"a,\"\n\r".to_vec()), 0..40),
            block_bytes in 1..50_usize,
        ) {
            let of = |block_bytes| read(&text, &CsvOptions::default(), ReadLimits::default(), block_bytes);
            prop_assert_eq!(of(block_bytes), of(BLOCK_BYTES));
        }
    }

    fn of(line: u64, fields: &[&str]) -> (u64, Vec<String>) {
        (line, fields.iter().map(|&field| field.to_owned()).collect())
    }

    #[test]
    fn quotes_are_taken_off_and_lines_are_counted() {
        let text = "\u{feff}\"a\",b\n\n1,\"x \"\"y\"\"\n,z\"\r\n\r\n\"q\"r\"s\",\n,\rlast,\"\"";
        let expected =
            [of(1, &["a", "b"]), of(3, &["1", "x \"y\"\n,z"]), of(6, &["qr\"s\"", ""]), of(7, &["", ""]), of(8, &["last", ""])];
        assert_eq!(plain(text).unwrap(), expected);
        assert_eq!(plain("").unwrap(), []);
        assert_eq!(plain("\n\r\n\r").unwrap(), []);
    }

    #[test]
    fn a_quote_that_is_never_closed_is_known_by_where_the_file_ends() {
        for end in ["x", "asofEndOfInput", "\n", "a\"\"", ""] {
            let reason = plain(&format!("a\n\"b\nc\"\nd,\"{end}")).unwrap_err();
            assert!(reason.contains("a quote is opened in line 4 and never closed"), "{reason}");
        }
    }

    #[test]
    fn what_is_larger_than_the_limits_is_refused_with_its_line() {
        let limits = ReadLimits { field_bytes: 10, row_bytes: 25, columns: 9 };
        let read = |text: &str| read(text.as_bytes(), &CsvOptions::default(), limits, 4);
        assert_eq!(read("0123456789,0123456789\n").unwrap().len(), 1);
        for (text, words) in [
            ("a\nb,01234567890\n", "field 2 of the row at line 2 is longer than 10 bytes; raise `ReadLimits::field_bytes`"),
            ("a\n\"0123456789\"\n", "field 1 of the row at line 2 is longer than 10 bytes (is its quote never closed?); raise"),
            ("a,b,c,d,e,f,g,h,i,j,k,l,m,n\n", "the row at line 1 is longer than 25 bytes; raise `ReadLimits::row_bytes`"),
            ("0123456789,0123456789,0123456789", "the row at line 1 is longer than 25 bytes"),
        ] {
            let reason = read(text).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn lines_are_skipped_whatever_ends_them() {
        for text in ["title\n\"open\na,b\n", "title\r\n\"open\r\na,b", "title\r\"open\ra,b", "\u{feff}title\n\"open\na,b\n"] {
            let options = CsvOptions::default().skip_lines(2);
            let rows = read(text.as_bytes(), &options, ReadLimits::default(), 3).unwrap();
            assert_eq!(rows, [(3, vec![b"a".to_vec(), b"b".to_vec()])], "{text:?}");
        }
        let options = CsvOptions::default().skip_lines(5);
        assert_eq!(read(b"a\nb\n", &options, ReadLimits::default(), 3).unwrap(), []);
    }
}
