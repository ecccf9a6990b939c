//! The interface between the readers and the check that rows pass before the sort.

use arrow::array::{ArrayRef, RecordBatch};

use crate::error::Result;

/// Checks the rows of a load.
pub(crate) trait RowCheck: Send + Sync + 'static {
    /// Rows that were checked and are not yet counted.
    type Checked: Send;

    /// Checks rows of a source. Several threads may call it at once. `lines` are the lines of the rows, or the row numbers in a
    /// Parquet file.
    fn check(&self, source: usize, lines: Vec<u64>, columns: Vec<ArrayRef>) -> Result<Self::Checked>;

    /// Adds checked rows to the counts, in the order of the source. Returns the rows that are loaded, ready for the sort.
    fn count(&self, checked: Self::Checked) -> Result<RecordBatch>;

    /// Called when a text file was read to its end.
    fn text_ended(&self, source: usize, lacks_newline: bool);
}
