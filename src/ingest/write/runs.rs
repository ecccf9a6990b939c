//! Sort keys, and sorted runs of rows in temporary files. Only keys are compared; the other columns are copied.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Seek, Write},
};

use crate::{
    error::{Error, Result},
    ingest::target::{MONTH, ROW, Target, YEAR},
};
use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::interleave_record_batch,
    datatypes::{
        DataType, Int32Type, Int64Type, SchemaRef, TimeUnit as ArrowUnit, TimestampMicrosecondType, TimestampNanosecondType,
    },
    ipc::{reader::StreamReader, writer::StreamWriter},
};

/// Bytes after which a batch of sorted rows ends.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// What rows are sorted by. No two rows of a load have the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SortKey {
    /// The year times 16 plus the month.
    month: i64,
    has_no_event: bool,
    event: i64,
    position: i64,
}

/// The positions of the key columns, and what the size of a row is computed from.
#[derive(Debug)]
pub(super) struct SortColumns {
    schema: SchemaRef,
    event: usize,
    year: usize,
    month: usize,
    position: usize,
    fixed_bytes: usize,
    /// Columns of texts.
    texts: Vec<usize>,
    pub(super) batch_rows: usize,
}

impl SortColumns {
    pub(super) fn new(target: &Target, event_column: &str, batch_rows: usize) -> Result<Self> {
        let schema = target.sorted.clone();
        let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::Binary);
        let types = || schema.fields().iter().map(|field| field.data_type());
        Ok(Self {
            event: schema.index_of(event_column)?,
            year: schema.index_of(YEAR)?,
            month: schema.index_of(MONTH)?,
            position: schema.index_of(ROW)?,
            fixed_bytes: types().map(|data_type| data_type.primitive_width().unwrap_or(OTHER_BYTES)).sum(),
            texts: types().enumerate().filter(|(_, data_type)| is_text(data_type)).map(|(column, _)| column).collect(),
            batch_rows,
            schema,
        })
    }

    pub(super) fn keys(&self, batch: &RecordBatch) -> Vec<SortKey> {
        let number = |column: usize| batch.column(column).as_primitive::<Int32Type>().values();
        let (years, months) = (number(self.year), number(self.month));
        let positions = batch.column(self.position).as_primitive::<Int64Type>().values();
        let events: &ArrayRef = batch.column(self.event);
        let instants = match events.data_type() {
            DataType::Timestamp(ArrowUnit::Nanosecond, _) => events.as_primitive::<TimestampNanosecondType>().values(),
            _ => events.as_primitive::<TimestampMicrosecondType>().values(),
        };
        let key = |row: usize| SortKey {
            month: i64::from(years[row]) * 16 + i64::from(months[row]),
            has_no_event: events.is_null(row),
            event: instants[row],
            position: positions[row],
        };
        (0..batch.num_rows()).map(key).collect()
    }

    /// The sorted rows of these batches, as batch and row. The batches come in the order of the rows' positions.
    ///
    /// Keys are packed into one integer: month, whether there is no event time, event time, batch and row. Keys that do not fit are
    /// compared as they are.
    pub(super) fn order(&self, batches: &[RecordBatch]) -> Vec<(u32, u32)> {
        let bits = |count: usize| usize::BITS - count.leading_zeros();
        let row_bits = bits(batches.iter().map(RecordBatch::num_rows).max().unwrap_or(0));
        let mut fits = row_bits + bits(batches.len()) <= u32::BITS;
        let mut packed: Vec<u128> = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
        let mut last = i64::MIN;
        for (batch, number) in batches.iter().zip(0u128..) {
            for (key, row) in self.keys(batch).into_iter().zip(0u128..) {
                let month = key.month + (1 << 30);
                fits &= (0..1 << 31).contains(&month) && key.position > last;
                last = key.position;
                let month = (month as u128) << 97 | u128::from(key.has_no_event) << 96;
                let event = u128::from(key.event as u64 ^ (1 << 63)) << 32;
                packed.push(month | event | number << row_bits | row);
            }
        }
        if fits {
            packed.sort_unstable();
            let batch_and_row = |packed: u128| (packed as u32 >> row_bits, packed as u32 & ((1 << row_bits) - 1));
            return packed.into_iter().map(batch_and_row).collect();
        }
        drop(packed);
        let mut order: Vec<(SortKey, u32, u32)> = Vec::new();
        for (batch, number) in batches.iter().zip(0..) {
            order.extend(self.keys(batch).into_iter().zip(0..).map(|(key, row)| (key, number, row)));
        }
        order.sort_unstable();
        order.into_iter().map(|(_, batch, row)| (batch, row)).collect()
    }

    /// The approximate bytes of a row. They depend only on its values.
    fn row_bytes(&self, batch: &RecordBatch, row: usize) -> usize {
        let length = |column: &usize| match batch.column(*column).data_type() {
            DataType::Utf8 => batch.column(*column).as_string::<i32>().value_length(row) as usize,
            _ => batch.column(*column).as_binary::<i32>().value_length(row) as usize,
        };
        self.fixed_bytes + self.texts.iter().map(length).sum::<usize>()
    }
}

/// The bytes that are counted for a value whose type has no fixed width.
const OTHER_BYTES: usize = 16;

/// Picks rows from batches until they fill a batch.
pub(super) struct Picked<'a> {
    sort_columns: &'a SortColumns,
    batches: Vec<RecordBatch>,
    rows: Vec<(usize, usize)>,
    bytes: usize,
}

impl<'a> Picked<'a> {
    pub(super) fn new(sort_columns: &'a SortColumns, batches: Vec<RecordBatch>) -> Self {
        Self { sort_columns, batches, rows: Vec::with_capacity(sort_columns.batch_rows), bytes: 0 }
    }

    /// Adds a batch that rows are picked from. Returns its number.
    pub(super) fn add(&mut self, batch: RecordBatch) -> usize {
        self.batches.push(batch);
        self.batches.len() - 1
    }

    /// Picks a row. Returns true once the picked rows fill a batch.
    pub(super) fn pick(&mut self, batch: usize, row: usize) -> bool {
        self.rows.push((batch, row));
        self.bytes += self.batches.get(batch).map_or(0, |batch| self.sort_columns.row_bytes(batch, row));
        self.rows.len() >= self.sort_columns.batch_rows || self.bytes >= CHUNK_BYTES
    }

    /// The picked rows; `None` if there are none.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>> {
        let (Some(&(first, start)), Some(&(last, end))) = (self.rows.first(), self.rows.last()) else { return Ok(None) };
        let is_slice = first == last && end.checked_sub(start).is_some_and(|span| span + 1 == self.rows.len());
        let is_run = is_slice && self.rows.iter().enumerate().all(|(i, row)| *row == (first, start + i));
        let rows = match self.batches.get(first) {
            Some(batch) if is_run => batch.slice(start, self.rows.len()),
            _ => interleave_record_batch(&self.batches.iter().collect::<Vec<_>>(), &self.rows)?,
        };
        self.rows.clear();
        self.bytes = 0;
        Ok(Some(rows))
    }

    /// Drops all batches, after their rows were taken.
    pub(super) fn forget(&mut self) {
        self.batches.clear();
    }
}

/// Sorted rows in a temporary file.
pub(super) struct Run {
    file: File,
    pub(super) first: SortKey,
    pub(super) last: SortKey,
}

fn failed(cause: std::io::Error) -> Error {
    Error::System { subject: "a temporary file of the sort".into(), cause }
}

impl Run {
    /// The batches of the run, from the first one.
    pub(super) fn open(self) -> Result<StreamReader<BufReader<File>>> {
        let mut file = self.file;
        file.rewind().map_err(failed)?;
        Ok(StreamReader::try_new(BufReader::with_capacity(1 << 18, file), None)?)
    }
}

/// Writes sorted batches.
pub(super) struct RunWriter<'a> {
    sort_columns: &'a SortColumns,
    writer: StreamWriter<BufWriter<File>>,
    first: Option<SortKey>,
    last: Option<SortKey>,
}

impl<'a> RunWriter<'a> {
    pub(super) fn new(sort_columns: &'a SortColumns) -> Result<Self> {
        let file = BufWriter::with_capacity(1 << 18, tempfile::tempfile().map_err(failed)?);
        Ok(Self { sort_columns, writer: StreamWriter::try_new(file, &sort_columns.schema)?, first: None, last: None })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let of = |row: usize| self.sort_columns.keys(&batch.slice(row, 1)).first().copied();
        self.first = self.first.or_else(|| of(0));
        self.last = of(batch.num_rows().saturating_sub(1)).or(self.last);
        Ok(self.writer.write(batch)?)
    }

    /// The run; `None` if nothing was written.
    pub(super) fn finish(mut self) -> Result<Option<Run>> {
        self.writer.finish()?;
        let mut file = self.writer.into_inner()?;
        file.flush().map_err(failed)?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok(self.first.zip(self.last).map(|(first, last)| Run { file, first, last }))
    }
}
