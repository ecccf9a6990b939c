//! The format of source files and the dialect of CSV files. Nothing is guessed: a text is NULL only if it was declared to be.

/// The format of source files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Delimited texts as in RFC 4180. [`CsvOptions`] has other dialects.
    Csv,
    /// One JSON object per line, with its fields in any order. A missing field is NULL.
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
#[must_use]
pub struct CsvOptions {
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    pub(crate) columns: Option<Vec<String>>,
    pub(crate) null_texts: Vec<String>,
    pub(crate) skipped_lines: u64,
    pub(crate) extra_fields: ExtraFields,
}

/// What happens to a row with more fields than there are columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExtraFields {
    Refused,
    /// The extra fields are ignored if all of them are empty.
    IgnoredWhenEmpty,
}

impl Default for CsvOptions {
    /// Commas, double quotes, a header, and NULL for an empty field.
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
    /// The byte between fields; a comma by default.
    pub fn delimiter(mut self, byte: u8) -> Self {
        self.delimiter = byte;
        self
    }

    /// The byte around fields that contain delimiters or line ends; a double quote by default. Inside a quoted field it is
    /// written twice.
    pub fn quote(mut self, byte: u8) -> Self {
        self.quote = Some(byte);
        self
    }

    /// Turns quotes off: every line is a row.
    pub fn no_quotes(mut self) -> Self {
        self.quote = None;
        self
    }

    /// Names the columns of files without a header. Their first line is a row.
    pub fn columns<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.columns = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// The texts that mean NULL, compared byte by byte: `["", "NULL", "NA", r"\N"]`. The default is the empty text alone. This
    /// list replaces the default: without `""` an empty field is an empty text, and a reject in a column of numbers.
    pub fn null_texts<S: Into<String>>(mut self, texts: impl IntoIterator<Item = S>) -> Self {
        self.null_texts = texts.into_iter().map(Into::into).collect();
        self
    }

    /// Skips this number of lines at the beginning of each file, before its header or first row: a title, a licence, a date of
    /// export. Quotes have no meaning in these lines.
    pub fn skip_lines(mut self, count: u64) -> Self {
        self.skipped_lines = count;
        self
    }

    /// Accepts rows with more fields than there are columns if the extra fields are empty, and headers that end with empty names.
    /// NYC's taxi files of 2009 to 2016 have such rows. By default they are rejects, because a row with too many fields usually
    /// has a delimiter that was not quoted. A row with a text in an extra field stays a reject.
    pub fn ignore_empty_extra_fields(mut self) -> Self {
        self.extra_fields = ExtraFields::IgnoredWhenEmpty;
        self
    }

    /// The value of a field; `None` for NULL.
    #[inline]
    pub(crate) fn value<'a>(&self, field: &'a [u8]) -> Option<&'a [u8]> {
        self.null_texts.iter().all(|null| null.as_bytes() != field).then_some(field)
    }
}
