//! What rows pass between a reader and the sort, as the readers see it.

use arrow::array::{ArrayRef, RecordBatch};

use crate::error::Result;

/// A check of the rows of a load.
pub(crate) trait RowCheck: Send + Sync + 'static {
    /// Rows that were checked and are not yet counted.
    type Checked: Send;

    /// Checks rows of a source; several threads may call it at once. Each row is known by its line, in a Parquet file by its row.
    fn check(&self, source: usize, lines: Vec<u64>, columns: Vec<ArrayRef>) -> Result<Self::Checked>;

    /// Counts checked rows, which come in their order in the source, and returns those that are loaded, ready for the sort.
    fn count(&self, checked: Self::Checked) -> Result<RecordBatch>;

    /// A text file was read to its end.
    fn text_ended(&self, source: usize, lacks_newline: bool);
}
