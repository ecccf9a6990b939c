//! Exact duplicates, counted as sorted rows pass: rows that are equal in all columns share their event time.
//! It keeps a hash of each row of the instant at hand, up to a limit, and changes nothing.

use std::collections::HashSet;

use arrow::{
    array::{Array, ArrayRef, RecordBatch, UInt32Array},
    compute::take,
    row::{RowConverter, SortField},
};

use super::columns::{Target, instants_us};
use crate::error::Result;

/// Rows of one instant that are told apart: 16 bytes each.
const ROWS_OF_AN_INSTANT: usize = 1 << 20;

/// Counts duplicates over batches that are sorted by event time within a month.
pub(crate) struct Duplicates {
    converter: Option<RowConverter>,
    event: usize,
    columns: usize,
    instant: Option<i64>,
    rows: HashSet<[u8; 16]>,
    /// Rows that are equal to an earlier one.
    pub(crate) count: u64,
    /// Is that all of them? Not when an instant has more than a million different rows, or a column cannot be compared.
    pub(crate) is_exact: bool,
}

impl Duplicates {
    pub(crate) fn new(target: &Target, event_column: &str) -> Result<Self> {
        let fields: Vec<_> = target.schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let converter = RowConverter::supports_fields(&fields).then(|| RowConverter::new(fields)).transpose()?;
        Ok(Self {
            is_exact: converter.is_some(),
            converter,
            event: target.schema.index_of(event_column)?,
            columns: target.schema.fields().len(),
            instant: None,
            rows: HashSet::new(),
            count: 0,
        })
    }

    /// Takes in the next rows; columns behind the table's own mean nothing.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(converter) = &self.converter else { return Ok(()) };
        let columns: &[ArrayRef] = &batch.columns()[..self.columns];
        let events = instants_us(&columns[self.event])?;
        let instant = |row: usize| events.is_valid(row).then(|| events.value(row));
        // A row that is alone in its instant needs no hash; the first and the last of a batch may not be alone.
        let last = batch.num_rows().saturating_sub(1);
        let is_alone = |row: usize| row > 0 && row < last && instant(row - 1) != instant(row) && instant(row + 1) != instant(row);
        let together: UInt32Array = (0..batch.num_rows()).filter(|row| !is_alone(*row)).map(|row| row as u32).collect();
        let taken = columns.iter().map(|column| Ok(take(column, &together, None)?)).collect::<Result<Vec<_>>>()?;
        let rows = converter.convert_columns(&taken)?;
        for (at, row) in together.values().iter().enumerate() {
            if self.instant != instant(*row as usize) {
                self.instant = instant(*row as usize);
                self.rows.clear();
            }
            let hash = blake3::hash(rows.row(at).as_ref());
            let mut short = [0; 16];
            short.copy_from_slice(&hash.as_bytes()[..16]);
            if self.rows.len() < ROWS_OF_AN_INSTANT {
                self.count += u64::from(!self.rows.insert(short));
            } else {
                self.count += u64::from(self.rows.contains(&short));
                self.is_exact = false;
            }
        }
        Ok(())
    }
}
