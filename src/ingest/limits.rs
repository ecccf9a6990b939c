//! How large the parts of a text file may be: bounds on what one field, row or header can take of the memory.
//! It bounds no file: a load holds a few blocks of rows at a time, however many there are.

/// The largest parts that a load accepts in CSV files and JSON lines. A file with a larger one is an error that names the line.
///
/// A few megabytes of gzip or zstd can hold gigabytes of one field. These bounds, and not the file, decide what a load
/// may take of the memory.
///
/// ```
/// use asof::ingest::ReadLimits;
/// let wide = ReadLimits { columns: 100_000, ..ReadLimits::default() };
/// assert_eq!((wide.field_bytes, wide.row_bytes), (16 << 20, 64 << 20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of one value as it is written, quotes included; 16 MiB by default.
    pub field_bytes: usize,
    /// Bytes of one row, of one JSON line or of the header; 64 MiB by default, and 1 GiB at most.
    pub row_bytes: usize,
    /// Columns of a CSV file, and fields of a JSON line; 20,000 by default. While its file is written each takes about 40 kB, however
    /// few rows there are.
    pub columns: usize,
}

impl Default for ReadLimits {
    /// 16 MiB a field, 64 MiB a row, 20,000 columns.
    fn default() -> Self {
        Self { field_bytes: 16 << 20, row_bytes: 64 << 20, columns: 20_000 }
    }
}

impl ReadLimits {
    /// The limits as far as readers can follow them: they count bytes of a row in 32 bits.
    pub(crate) fn bounded(self) -> Self {
        Self { row_bytes: self.row_bytes.min(1 << 30), ..self }
    }
}
