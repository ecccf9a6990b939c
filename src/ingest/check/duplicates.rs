//! Counts duplicates and ties among sorted rows. Duplicates are equal in all columns. Ties are equal in all columns that decide
//! which fact is the newest, and differ elsewhere.
//!
//! Both have the same event time, so only the hashes of the rows of one instant are held, up to a limit.

use std::collections::HashSet;

use arrow::{
    array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array},
    compute::take,
    row::{RowConverter, SortField},
};

use crate::{
    catalog::FactTable,
    error::Result,
    ingest::target::{Target, instants_us},
};

/// The most different rows of one instant that are held, 16 bytes each.
const ROWS_OF_AN_INSTANT: usize = 1 << 20;

/// Counts equal rows in batches that are sorted by event time within a month.
pub(crate) struct Duplicates {
    event: usize,
    all_columns: EqualRows,
    /// `None` for a table without declared keys: its facts have no known entity.
    deciding_columns: Option<EqualRows>,
}

impl Duplicates {
    pub(crate) fn new(target: &Target, declared: &FactTable) -> Result<Self> {
        let schema = &target.schema;
        let decides = declared.known_column().into_iter().map(str::to_owned);
        let decides = decides.chain(declared.tie_break.iter().cloned()).chain(declared.keys.iter().cloned());
        let columns = decides.map(|name| Ok(schema.index_of(&name)?)).collect::<Result<Vec<_>>>()?;
        let deciding_columns = (!declared.keys.is_empty()).then(|| EqualRows::new(target, columns)).transpose()?;
        let all_columns = EqualRows::new(target, (0..schema.fields().len()).collect())?;
        let event = schema.index_of(&declared.fact_times("the table of a load")?.event.name)?;
        Ok(Self { event, all_columns, deciding_columns })
    }

    /// Counts the next rows. Columns after those of the table are ignored.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let events = instants_us(&batch.columns()[self.event])?;
        for rows in std::iter::once(&mut self.all_columns).chain(&mut self.deciding_columns) {
            rows.add(batch, &events)?;
        }
        Ok(())
    }

    /// Rows that equal an earlier row in all columns.
    pub(crate) fn count(&self) -> u64 {
        self.all_columns.count
    }

    /// Is the count exact? It is not if an instant has more than a million different rows, or if a column cannot be compared.
    pub(crate) fn is_exact(&self) -> bool {
        self.all_columns.is_exact
    }

    /// Rows that equal an earlier row in the columns that decide which fact of an entity is the newest, and differ elsewhere.
    pub(crate) fn ties(&self) -> Option<u64> {
        self.deciding_columns.as_ref().map(|deciding| deciding.count.saturating_sub(self.all_columns.count))
    }
}

/// Counts the rows of one instant that are equal in some columns.
struct EqualRows {
    converter: Option<RowConverter>,
    columns: Vec<usize>,
    instant: Option<i64>,
    rows: HashSet<[u8; 16]>,
    count: u64,
    is_exact: bool,
}

impl EqualRows {
    fn new(target: &Target, columns: Vec<usize>) -> Result<Self> {
        let fields: Vec<_> = columns.iter().map(|&i| SortField::new(target.schema.field(i).data_type().clone())).collect();
        let converter = RowConverter::supports_fields(&fields).then(|| RowConverter::new(fields)).transpose()?;
        Ok(Self { is_exact: converter.is_some(), converter, columns, instant: None, rows: HashSet::new(), count: 0 })
    }

    fn add(&mut self, batch: &RecordBatch, events: &Int64Array) -> Result<()> {
        let Some(converter) = &self.converter else { return Ok(()) };
        let instant = |row: usize| events.is_valid(row).then(|| events.value(row));
        // A row that is alone in its instant needs no hash. The first and the last row of a batch may not be alone.
        let last = batch.num_rows().saturating_sub(1);
        let is_alone = |row: usize| row > 0 && row < last && instant(row - 1) != instant(row) && instant(row + 1) != instant(row);
        let together: UInt32Array = (0..batch.num_rows()).filter(|row| !is_alone(*row)).map(|row| row as u32).collect();
        let taken: Vec<ArrayRef> =
            self.columns.iter().map(|&i| Ok(take(batch.column(i), &together, None)?)).collect::<Result<_>>()?;
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
