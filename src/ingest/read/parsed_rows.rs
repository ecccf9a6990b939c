//! Rows as a reader of texts yields them: the columns of those that are taken, and the rejects, in the order of the file.
//! The first thing that is wrong with a row is what is told of it.

use std::{borrow::Cow, collections::BTreeMap};

use arrow::{
    array::{ArrayRef, BooleanArray},
    compute::filter,
};

use super::time_parser::Reason;
use crate::error::Result;

/// Characters of a value that messages and lists of rejects show.
const SHOWN_CHARS: usize = 200;

/// Rows of a text.
pub(crate) struct ReadRows {
    /// The lines of the rows that are taken.
    pub(crate) lines: Vec<u64>,
    /// Their values, as the target's columns.
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) rejects: Vec<Reject>,
}

/// A row that is not taken. Its texts are as people read them: of long ones the beginning.
pub(crate) struct Reject {
    /// Counts from 1; in a Parquet file it is the row.
    pub(crate) line: u64,
    pub(crate) column: String,
    pub(crate) value: String,
    pub(crate) reason: Reason,
}

/// What is wrong with some of the rows.
#[derive(Default)]
pub(crate) struct Refusals(BTreeMap<usize, (String, String, Reason)>);

impl Refusals {
    /// Refuses a row, unless it was refused before.
    pub(crate) fn add<'a>(&mut self, row: usize, column: &str, value: impl FnOnce() -> &'a [u8], reason: Reason) {
        self.add_shown(row, column, || shown_bytes(value()).into_owned(), reason);
    }

    /// As [`Refusals::add`], of a value that is cut already.
    pub(crate) fn add_shown(&mut self, row: usize, column: &str, shown: impl FnOnce() -> String, reason: Reason) {
        self.0.entry(row).or_insert_with(|| (self::shown(column).into_owned(), shown(), reason));
    }

    pub(crate) fn holds(&self, row: usize) -> bool {
        self.0.contains_key(&row)
    }

    /// Divides the rows, which begin in these lines, into those that are taken and the rejects.
    pub(crate) fn leave_out(self, mut lines: Vec<u64>, mut columns: Vec<ArrayRef>) -> Result<ReadRows> {
        if self.0.is_empty() {
            return Ok(ReadRows { lines, columns, rejects: Vec::new() });
        }
        let keep: BooleanArray = (0..lines.len()).map(|row| Some(!self.holds(row))).collect();
        for column in &mut columns {
            *column = filter(column, &keep)?;
        }
        let reject = |(row, (column, value, reason)): (usize, _)| Reject { line: lines[row], column, value, reason };
        let rejects = self.0.into_iter().map(reject).collect();
        let mut keep = keep.values().iter();
        lines.retain(|_| keep.next().unwrap_or(true));
        Ok(ReadRows { lines, columns, rejects })
    }
}

/// A value as people read it: the beginning of a long one, and how long it is.
pub(crate) fn shown(value: &str) -> Cow<'_, str> {
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}... ({} bytes)", &value[..end], value.len())),
        None => Cow::Borrowed(value),
    }
}

/// As [`shown`], of bytes that may be no text.
pub(crate) fn shown_bytes(value: &[u8]) -> Cow<'_, str> {
    // No character has more than four bytes.
    let Some(beginning) = value.get(..4 * SHOWN_CHARS + 4) else {
        return Cow::Owned(shown(&String::from_utf8_lossy(value)).into_owned());
    };
    let text: String = String::from_utf8_lossy(beginning).chars().take(SHOWN_CHARS).collect();
    Cow::Owned(format!("{text}... ({} bytes)", value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(shown("short"), "short");
        assert_eq!(shown(&"x".repeat(SHOWN_CHARS)), "x".repeat(SHOWN_CHARS));
        assert_eq!(shown(&"ü".repeat(300)), format!("{}... (600 bytes)", "ü".repeat(SHOWN_CHARS)));
        assert_eq!(shown_bytes("ü".repeat(5_000).as_bytes()), format!("{}... (10000 bytes)", "ü".repeat(SHOWN_CHARS)));
        assert_eq!(shown_bytes(b"a\xff"), "a\u{fffd}");
    }
}
