//! Bounds on the memory that one field, row or header of a text file can take.
//! The size of a file needs no bound: a load holds a few blocks of rows at a time.

/// The largest value, row and number of columns that a load accepts in CSV files and JSON lines. An error names the first line
/// beyond a limit.
///
/// A few megabytes of gzip or zstd can unpack to gigabytes of one field. These limits keep the memory of a load independent of
/// that.
///
/// ```
/// use asof::ingest::ReadLimits;
/// let wide = ReadLimits { columns: 100_000, ..ReadLimits::default() };
/// assert_eq!((wide.field_bytes, wide.row_bytes), (16 << 20, 64 << 20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of one value in the file, quotes included; 16 MiB by default.
    pub field_bytes: usize,
    /// Bytes of one row, of one JSON line or of the header; 64 MiB by default, and 1 GiB at most.
    pub row_bytes: usize,
    /// Columns of a CSV file, and fields of a JSON line; 20,000 by default. Each column takes about 40 kB while a file is
    /// written, even with few rows.
    pub columns: usize,
}

impl Default for ReadLimits {
    /// 16 MiB a field, 64 MiB a row, 20,000 columns.
    fn default() -> Self {
        Self { field_bytes: 16 << 20, row_bytes: 64 << 20, columns: 20_000 }
    }
}

impl ReadLimits {
    /// The limits, with rows bounded to what readers can count in 32 bits.
    pub(crate) fn bounded(self) -> Self {
        Self { row_bytes: self.row_bytes.min(1 << 30), ..self }
    }
}
