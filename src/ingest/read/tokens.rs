//! The cells of a CSV text, block by block: where each begins and ends, its quotes taken off, and the line of each row.
//! It knows neither the names nor the types of columns, and no text in a file is special to it.

use std::io::{self, BufRead, Read};

use super::separators::{Separators, find};
use crate::ingest::{limits::ReadLimits, options::CsvOptions};

/// Bytes of text in a block; a row that is larger makes a block of its own.
const BLOCK_BYTES: usize = 1 << 20;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A row of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// The line in which it begins, counting from 1.
    pub(crate) line: u64,
    /// How many fields it has.
    pub(crate) fields: u32,
    /// Is there a text in a field behind those that are kept?
    pub(crate) is_filled_beyond: bool,
    first: u32,
}

/// Where a cell lies in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    start: u32,
    end: u32,
}

/// Whole rows of a text.
#[derive(Debug, Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    cells: Vec<Cell>,
    pub(crate) rows: Vec<Row>,
}

impl Block {
    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + self.cells.len() * size_of::<Cell>() + self.rows.len() * size_of::<Row>()
    }

    /// A cell of a row; empty for one that the row does not have.
    #[inline]
    pub(crate) fn cell(&self, row: &Row, column: usize) -> &[u8] {
        match self.cells.get(row.first as usize + column) {
            Some(cell) if column < row.fields as usize => {
                self.bytes.get(cell.start as usize..cell.end as usize).unwrap_or_default()
            }
            _ => &[],
        }
    }
}

/// Why a text cannot be read further.
#[derive(Debug)]
pub(crate) enum TokenError {
    Input(io::Error),
    /// What is wrong, and where.
    Text(String),
}

impl From<io::Error> for TokenError {
    fn from(error: io::Error) -> Self {
        Self::Input(error)
    }
}

/// Reads the rows of a text.
pub(crate) struct Tokens {
    text: Box<dyn BufRead + Send>,
    delimiter: u8,
    quote: Option<u8>,
    limits: ReadLimits,
    block_bytes: usize,
    /// The beginning of the row that the last block broke off in.
    begun: Vec<u8>,
    /// The line in which it begins.
    line: u64,
    is_at_end: bool,
}

impl Tokens {
    /// Begins behind a byte-order mark and the lines that are to be skipped.
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

    /// The next rows, of which up to `width` cells each are kept; `None` at the end. `at_most` is how many rows there may be.
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
            // What was passed are blank lines; a row that is not whole yet needs more.
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

    /// Splits what is there of whole rows into cells; where they end.
    fn split(&mut self, block: &mut Block, width: usize, at_most: usize) -> Result<usize, TokenError> {
        let Block { bytes, cells, rows } = block;
        let mut splitter = Splitter {
            bytes,
            separators: Separators::new(bytes, self.delimiter),
            quote: self.quote,
            limits: self.limits,
            is_last: self.is_at_end,
            line: self.line,
            cells,
            escaped: Vec::new(),
        };
        let mut end = 0;
        while rows.len() < at_most {
            end = splitter.behind_blank_lines(end);
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
            if let (Some(quote), Some(cell)) = (self.quote, cells.get_mut(at)) {
                unescape(bytes, cell, quote);
            }
        }
        Ok(end)
    }
}

/// Passes a line with its end.
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

/// Takes the quotes off a cell in place: two inside of quotes are one, and behind a closing one all bytes mean themselves.
fn unescape(bytes: &mut [u8], cell: &mut Cell, quote: u8) {
    let (mut write, end) = (cell.start as usize, cell.end as usize);
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
    cell.end = write as u32;
}

struct Splitter<'a> {
    bytes: &'a [u8],
    separators: Separators<'a>,
    quote: Option<u8>,
    limits: ReadLimits,
    /// Does the text end with these bytes?
    is_last: bool,
    /// The line at hand.
    line: u64,
    cells: &'a mut Vec<Cell>,
    /// Cells with quotes inside.
    escaped: Vec<usize>,
}

impl Splitter<'_> {
    /// The first byte from here on that is not known to be part of a line end.
    fn behind_blank_lines(&mut self, mut at: usize) -> usize {
        loop {
            at = match self.bytes.get(at) {
                Some(b'\n') => at + 1,
                Some(b'\r') => match self.behind_return(at) {
                    Some(next) => next,
                    None => return at,
                },
                _ => return at,
            };
            self.line += 1;
        }
    }

    /// Behind the line end that begins with a `\r`; `None` when more bytes must come before that is known.
    fn behind_return(&self, at: usize) -> Option<usize> {
        match self.bytes.get(at + 1) {
            Some(b'\n') => Some(at + 2),
            None if !self.is_last => None,
            _ => Some(at + 1),
        }
    }

    /// The row that begins here and where the next one does; `None` when its end has not come yet.
    fn row(&mut self, start: usize, width: usize) -> Result<Option<(Row, usize)>, TokenError> {
        let (first, escaped, line) = (self.cells.len(), self.escaped.len(), self.line);
        let mut row = Row { line, fields: 0, is_filled_beyond: false, first: first as u32 };
        let mut at = start;
        loop {
            let Some((cell, is_escaped, end)) = self.cell(at)? else {
                self.check_size(line, &row, start, at, self.bytes.len())?;
                // It is read again with what follows.
                self.cells.truncate(first);
                self.escaped.truncate(escaped);
                self.line = line;
                return Ok(None);
            };
            self.check_size(line, &row, start, at, end)?;
            if (row.fields as usize) < width {
                if is_escaped {
                    self.escaped.push(self.cells.len());
                }
                self.cells.push(cell);
            } else {
                row.is_filled_beyond |= cell.start < cell.end;
            }
            row.fields += 1;
            let next = match self.bytes.get(end) {
                None => end,
                Some(b'\n') => end + 1,
                Some(b'\r') => match self.behind_return(end) {
                    Some(next) => next,
                    None => {
                        self.cells.truncate(first);
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

    /// The cell that begins here, whether it holds quotes, and where its delimiter or line end lies.
    #[inline]
    fn cell(&mut self, start: usize) -> Result<Option<(Cell, bool, usize)>, TokenError> {
        let of = |start: usize, end: usize| Cell { start: start as u32, end: end as u32 };
        if self.quote.is_some() && self.bytes.get(start).copied() == self.quote {
            return self.quoted(start);
        }
        let end = match self.separators.at_or_behind(start) {
            Some(end) => end,
            None if self.is_last => self.bytes.len(),
            None => return Ok(None),
        };
        Ok(Some((of(start, end), false, end)))
    }

    fn quoted(&mut self, start: usize) -> Result<Option<(Cell, bool, usize)>, TokenError> {
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
        let end = match self.separators.at_or_behind(close + 1) {
            Some(end) => end,
            None if self.is_last => self.bytes.len(),
            None => return Ok(None),
        };
        self.line += self.bytes[start..close].iter().filter(|b| **b == b'\n').count() as u64;
        let is_plain = !is_escaped && end == close + 1;
        let inner_end = if is_plain { close } else { end };
        Ok(Some((Cell { start: start as u32 + 1, end: inner_end as u32 }, !is_plain, end)))
    }

    /// Refuses what is larger than the limits, as soon as that is known.
    #[inline]
    fn check_size(&self, line: u64, row: &Row, row_start: usize, start: usize, end: usize) -> Result<(), TokenError> {
        let ReadLimits { field_bytes, row_bytes, .. } = self.limits;
        if end - start <= field_bytes && end - row_start <= row_bytes {
            return Ok(());
        }
        if end - start > field_bytes {
            let is_quoted = self.quote.is_some() && self.bytes.get(start).copied() == self.quote;
            let hint = if is_quoted { "; is its quote never closed?" } else { ";" };
            return Err(TokenError::Text(format!(
                "field {} of the row at line {line} is longer than {field_bytes} bytes{hint} `ReadLimits::field_bytes` can allow it",
                row.fields + 1
            )));
        }
        Err(TokenError::Text(format!(
            "the row at line {line} is longer than {row_bytes} bytes; `ReadLimits::row_bytes` can allow it"
        )))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Rows = Vec<(u64, Vec<Vec<u8>>)>;

    fn read(text: &[u8], options: &CsvOptions, limits: ReadLimits, block_bytes: usize) -> Result<Rows, String> {
        let told = |broken| match broken {
            TokenError::Input(error) => error.to_string(),
            TokenError::Text(reason) => reason,
        };
        let mut tokens = Tokens::new(Box::new(io::Cursor::new(text.to_vec())), options, limits).map_err(told)?;
        tokens.block_bytes = block_bytes;
        let mut rows = Rows::new();
        while let Some(block) = tokens.next(100, usize::MAX).map_err(told)? {
            for row in &block.rows {
                rows.push((row.line, (0..row.fields as usize).map(|column| block.cell(row, column).to_vec()).collect()));
            }
        }
        Ok(rows)
    }

    fn plain(text: &str) -> Result<Vec<(u64, Vec<String>)>, String> {
        let rows = read(text.as_bytes(), &CsvOptions::default(), ReadLimits::default(), BLOCK_BYTES)?;
        let text = |cells: Vec<Vec<u8>>| cells.into_iter().map(|cell| String::from_utf8(cell).unwrap()).collect();
        Ok(rows.into_iter().map(|(line, cells)| (line, text(cells))).collect())
    }

    /// What the `csv` crate reads; the quotes of a text must be closed.
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
                    let cells: Vec<_> = rows.into_iter().map(|(_, cells)| cells).collect();
                    prop_assert_eq!(cells, by_csv(&text, quote));
                }
                // Where the other one ends a cell at the end of the file.
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

    fn of(line: u64, cells: &[&str]) -> (u64, Vec<String>) {
        (line, cells.iter().map(|&cell| cell.to_owned()).collect())
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
            ("a\nb,01234567890\n", "field 2 of the row at line 2 is longer than 10 bytes; `ReadLimits::field_bytes`"),
            ("a\n\"0123456789\"\n", "field 1 of the row at line 2 is longer than 10 bytes; is its quote never closed?"),
            ("a,b,c,d,e,f,g,h,i,j,k,l,m,n\n", "the row at line 1 is longer than 25 bytes; `ReadLimits::row_bytes`"),
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
