//! Rows parsed from text: the columns of the good rows, and the rejects, in the order of the file.
//! A reject has the first error of its row.

use std::collections::BTreeMap;

use arrow::{
    array::{ArrayRef, BooleanArray},
    compute::filter,
};

use crate::{
    error::Result,
    ingest::{
        excerpt::{excerpt, excerpt_of_bytes},
        rejects::{Reject, RejectReason},
    },
};

/// Rows of a text.
pub(crate) struct ParsedRows {
    /// The lines of the good rows.
    pub(crate) lines: Vec<u64>,
    /// Their values, as the table's columns.
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) rejects: Vec<Reject>,
}

/// The first error of each bad row: column, value and reason.
#[derive(Default)]
pub(crate) struct RowErrors(BTreeMap<usize, (String, String, RejectReason)>);

impl RowErrors {
    /// Adds an error, unless the row has one.
    pub(crate) fn add<'a>(&mut self, row: usize, column: &str, value: impl FnOnce() -> &'a [u8], reason: RejectReason) {
        self.add_shown(row, column, || excerpt_of_bytes(value()).into_owned(), reason);
    }

    /// As [`RowErrors::add`], with a value that is cut already.
    pub(crate) fn add_shown(&mut self, row: usize, column: &str, shown: impl FnOnce() -> String, reason: RejectReason) {
        self.0.entry(row).or_insert_with(|| (excerpt(column).into_owned(), shown(), reason));
    }

    pub(crate) fn holds(&self, row: usize) -> bool {
        self.0.contains_key(&row)
    }

    /// Splits the rows, which begin in these lines, into good rows and rejects.
    pub(crate) fn split(self, mut lines: Vec<u64>, mut columns: Vec<ArrayRef>) -> Result<ParsedRows> {
        if self.0.is_empty() {
            return Ok(ParsedRows { lines, columns, rejects: Vec::new() });
        }
        let keep: BooleanArray = (0..lines.len()).map(|row| Some(!self.holds(row))).collect();
        for column in &mut columns {
            *column = filter(column, &keep)?;
        }
        let reject = |(row, (column, value, reason)): (usize, _)| Reject { line: lines[row], column, value, reason };
        let rejects = self.0.into_iter().map(reject).collect();
        let mut keep = keep.values().iter();
        lines.retain(|_| keep.next().unwrap_or(true));
        Ok(ParsedRows { lines, columns, rejects })
    }
}
