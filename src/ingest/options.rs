//! How source files are to be read where their names do not tell: their format, and the dialect of CSV.
//! It guesses nothing: a text is NULL only when it was declared to be.

/// The format of source files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Rows of separated texts, as RFC 4180 describes them; see [`CsvOptions`] for other dialects.
    Csv,
    /// One JSON object a line, its fields by name in any order; a field that is missing is NULL.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

/// The dialect of CSV files.
///
/// ```
/// use asof::ingest::CsvOptions;
/// let hive = CsvOptions::default().delimiter(b'\x01').no_quotes().null_texts([r"\N"]).columns(["id", "at", "fare"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    pub(crate) columns: Option<Vec<String>>,
    pub(crate) null_texts: Vec<String>,
    pub(crate) skipped_lines: u64,
    pub(crate) extra_fields: ExtraFields,
}

/// What becomes of a row with more fields than there are columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExtraFields {
    Refused,
    /// They are passed over where all of them are empty.
    IgnoredWhenEmpty,
}

impl Default for CsvOptions {
    /// Commas, double quotes, a header, and NULL where a cell is empty.
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            columns: None,
            null_texts: vec![String::new()],
            skipped_lines: 0,
            extra_fields: ExtraFields::Refused,
        }
    }
}

impl CsvOptions {
    /// The byte between cells; a comma by default.
    pub fn delimiter(mut self, byte: u8) -> Self {
        self.delimiter = byte;
        self
    }

    /// The byte around cells that hold delimiters or newlines; a double quote by default. Inside a quoted cell it is
    /// written twice.
    pub fn quote(mut self, byte: u8) -> Self {
        self.quote = Some(byte);
        self
    }

    /// No byte quotes: every line is a row.
    pub fn no_quotes(mut self) -> Self {
        self.quote = None;
        self
    }

    /// Names the columns of files that have no header: their first line is a row.
    pub fn columns<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.columns = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// The texts that mean NULL, compared as they are written: `["", "NULL", "NA", r"\N"]`. The default is the empty text
    /// alone. This list replaces it; without `""` an empty cell is an empty text, and a reject where it should be a number.
    pub fn null_texts<S: Into<String>>(mut self, texts: impl IntoIterator<Item = S>) -> Self {
        self.null_texts = texts.into_iter().map(Into::into).collect();
        self
    }

    /// Passes over so many lines at the beginning of each file, before its header or, without one, its first row: a title, a
    /// licence, a date of export. A line ends with its line end, whatever quotes there are.
    pub fn skip_lines(mut self, count: u64) -> Self {
        self.skipped_lines = count;
        self
    }

    /// Takes rows with more fields than there are columns, as long as the extra ones are empty, and headers that end with empty
    /// names. NYC's taxi files of 2009 to 2016 have such rows. By default they are rejects, for a row with too many fields is
    /// mostly one with a delimiter that was not quoted; a row with a text in an extra field stays a reject.
    pub fn ignore_empty_extra_fields(mut self) -> Self {
        self.extra_fields = ExtraFields::IgnoredWhenEmpty;
        self
    }

    /// What a cell holds; `None` for NULL.
    #[inline]
    pub(crate) fn cell<'a>(&self, cell: &'a [u8]) -> Option<&'a [u8]> {
        self.null_texts.iter().all(|null| null.as_bytes() != cell).then_some(cell)
    }
}
