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
}

impl Default for CsvOptions {
    /// Commas, double quotes, a header, and NULL where a cell is empty.
    fn default() -> Self {
        Self { delimiter: b',', quote: Some(b'"'), columns: None, null_texts: vec![String::new()] }
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

    pub(crate) fn reader<R: std::io::Read>(&self, input: R) -> csv::Reader<R> {
        let mut builder = csv::ReaderBuilder::new();
        builder.flexible(true).has_headers(self.columns.is_none()).delimiter(self.delimiter);
        match self.quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        builder.from_reader(input)
    }

    /// What a cell holds; `None` for NULL.
    pub(crate) fn cell<'a>(&self, text: &'a str) -> Option<&'a str> {
        self.null_texts.iter().all(|null| null != text).then_some(text)
    }
}
