//! The first value in which two sequences of rows differ, bit for bit. How the rows are divided into batches does not matter.

use arrow::array::RecordBatch;

use crate::{
    error::Result,
    value::{bits, differing_rows, shown},
};

/// A value that differs: the number of its row, from 0, its column, and the value on both sides with its bits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DifferentValue {
    pub(super) row: u64,
    pub(super) column: String,
    pub(super) one: String,
    pub(super) other: String,
}

/// The first value that differs in the order of the rows, and of the columns within a row. Both sides have columns of the same types in
/// the same order. The rows that only one side has are not looked at.
pub(super) fn first_difference(
    mut one: impl Iterator<Item = Result<RecordBatch>>,
    mut other: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<Option<DifferentValue>> {
    let (mut left, mut right, mut before) = (next(&mut one)?, next(&mut other)?, 0);
    while let (Some(a), Some(b)) = (left, right) {
        let count = a.num_rows().min(b.num_rows());
        let (a_now, b_now) = (a.slice(0, count), b.slice(0, count));
        let columns = a_now.columns().iter().zip(b_now.columns()).enumerate();
        let differing = columns.filter_map(|(i, (a, b))| differing_rows(a, b).first().map(|row| (*row, i)));
        if let Some((row, i)) = differing.min() {
            let told = |rows: &RecordBatch| -> Result<String> {
                let (value, bits) = (shown(rows.column(i), row)?, bits(rows.column(i), row)?);
                Ok(if value == bits { value } else { format!("{value} ({bits})") })
            };
            let column = a.schema_ref().field(i).name().clone();
            return Ok(Some(DifferentValue { row: before + row as u64, column, one: told(&a)?, other: told(&b)? }));
        }
        before += count as u64;
        (left, right) = (rest(a, count, &mut one)?, rest(b, count, &mut other)?);
    }
    Ok(None)
}

/// The next batch that has rows.
fn next(batches: &mut impl Iterator<Item = Result<RecordBatch>>) -> Result<Option<RecordBatch>> {
    batches.find(|batch| !matches!(batch, Ok(batch) if batch.num_rows() == 0)).transpose()
}

/// What is left of a batch after so many rows, or the next one.
fn rest(
    batch: RecordBatch,
    count: usize,
    batches: &mut impl Iterator<Item = Result<RecordBatch>>,
) -> Result<Option<RecordBatch>> {
    match batch.num_rows() - count {
        0 => next(batches),
        left => Ok(Some(batch.slice(count, left))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray};

    use super::*;

    fn rows(values: &[(Option<f64>, Option<&str>)]) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(values.iter().map(|(x, _)| *x).collect::<Float64Array>());
        let texts: ArrayRef = Arc::new(values.iter().map(|(_, text)| *text).collect::<StringArray>());
        RecordBatch::try_from_iter_with_nullable([("x", numbers, true), ("text", texts, true)]).unwrap()
    }

    /// The rows in batches of these lengths, again and again.
    fn cut(rows: &RecordBatch, lengths: &[usize]) -> Vec<Result<RecordBatch>> {
        let (mut at, mut found) = (0, Vec::new());
        for length in lengths.iter().cycle() {
            let length = (*length).min(rows.num_rows() - at);
            found.push(Ok(rows.slice(at, length)));
            at += length;
            if at == rows.num_rows() {
                return found;
            }
        }
        found
    }

    #[test]
    fn the_first_difference_is_found_however_the_rows_are_cut() {
        let same: Vec<(Option<f64>, Option<&str>)> =
            (0..50).map(|i| ((i % 7 != 0).then(|| f64::from(i) / 3.0), (i % 5 != 0).then_some("a"))).collect();
        let one = rows(&same);
        let cuts: [&[usize]; 4] = [&[50], &[1], &[0, 7, 3], &[13, 1]];
        for left in cuts {
            for right in cuts {
                let found = |other: &RecordBatch| first_difference(cut(&one, left).into_iter(), cut(other, right).into_iter());
                assert_eq!(found(&one).unwrap(), None);
                // Rows that only one side has are passed over.
                assert_eq!(found(&one.slice(0, 20)).unwrap(), None);
                for at in [0, 6, 13, 14, 49] {
                    // Both columns of the row, and all of the next one, differ.
                    let mut values = same.clone();
                    for value in values.iter_mut().skip(at) {
                        *value = (Some(-0.0), Some("b"));
                    }
                    let DifferentValue { row, column, other, .. } = found(&rows(&values)).unwrap().unwrap();
                    assert_eq!((row, column.as_str(), other.as_str()), (at as u64, "x", "-0.0 (8000000000000000)"));
                    let mut values = same.clone();
                    values[at].1 = Some("b");
                    let DifferentValue { row, column, other, .. } = found(&rows(&values)).unwrap().unwrap();
                    assert_eq!((row, column.as_str(), other.as_str()), (at as u64, "text", "\"b\" (62)"));
                }
            }
        }
        let failed = std::iter::once(Err(crate::error::Error::Internal { subject: "x".into(), reason: "y".into() }));
        assert!(first_difference(cut(&one, &[7]).into_iter(), failed).is_err());
    }
}
