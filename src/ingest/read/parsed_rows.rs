//! Rows as a reader of texts yields them: the columns of those that are taken, and the rejects, in the order of the file.
//! The first thing that is wrong with a row is what is told of it.

use std::collections::BTreeMap;

use arrow::{
    array::{ArrayRef, BooleanArray},
    compute::filter,
};

use crate::{
    error::Result,
    ingest::{
        excerpt::{excerpt, excerpt_of_bytes},
        rejects::{Reason, Reject},
    },
};

/// Rows of a text.
pub(crate) struct ParsedRows {
    /// The lines of the rows that are taken.
    pub(crate) lines: Vec<u64>,
    /// Their values, as the target's columns.
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) rejects: Vec<Reject>,
}

/// What is wrong with some of the rows.
#[derive(Default)]
pub(crate) struct RowErrors(BTreeMap<usize, (String, String, Reason)>);

impl RowErrors {
    /// Refuses a row, unless it was refused before.
    pub(crate) fn add<'a>(&mut self, row: usize, column: &str, value: impl FnOnce() -> &'a [u8], reason: Reason) {
        self.add_shown(row, column, || excerpt_of_bytes(value()).into_owned(), reason);
    }

    /// As [`RowErrors::add`], of a value that is cut already.
    pub(crate) fn add_shown(&mut self, row: usize, column: &str, shown: impl FnOnce() -> String, reason: Reason) {
        self.0.entry(row).or_insert_with(|| (excerpt(column).into_owned(), shown(), reason));
    }

    pub(crate) fn holds(&self, row: usize) -> bool {
        self.0.contains_key(&row)
    }

    /// Divides the rows, which begin in these lines, into those that are taken and the rejects.
    pub(crate) fn leave_out(self, mut lines: Vec<u64>, mut columns: Vec<ArrayRef>) -> Result<ParsedRows> {
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
