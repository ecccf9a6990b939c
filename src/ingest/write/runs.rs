//! Rows in the order of a table's files, however many there are: sorted runs within the engine's memory, spilled and merged.
//! It compares only what the order is made of, and moves the other columns as they are.

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
/// What rows are sorted by. No two rows of a load have one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Years of 16 months.
    month: i64,
    has_no_event: bool,
    event: i64,
    place: i64,
}

/// Where the columns lie that rows are sorted by, and how large rows are.
#[derive(Debug)]
pub(super) struct Layout {
    schema: SchemaRef,
    event: usize,
    year: usize,
    month: usize,
    place: usize,
    fixed_bytes: usize,
    /// Columns of texts.
    texts: Vec<usize>,
    pub(super) batch_rows: usize,
}

impl Layout {
    pub(super) fn new(target: &Target, event_column: &str, batch_rows: usize) -> Result<Self> {
        let schema = target.sorted.clone();
        let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::Binary);
        let types = || schema.fields().iter().map(|field| field.data_type());
        Ok(Self {
            event: schema.index_of(event_column)?,
            year: schema.index_of(YEAR)?,
            month: schema.index_of(MONTH)?,
            place: schema.index_of(ROW)?,
            fixed_bytes: types().map(|data_type| data_type.primitive_width().unwrap_or(OTHER_BYTES)).sum(),
            texts: types().enumerate().filter(|(_, data_type)| is_text(data_type)).map(|(column, _)| column).collect(),
            batch_rows,
            schema,
        })
    }

    pub(super) fn keys(&self, batch: &RecordBatch) -> Vec<Key> {
        let number = |column: usize| batch.column(column).as_primitive::<Int32Type>().values();
        let (years, months) = (number(self.year), number(self.month));
        let places = batch.column(self.place).as_primitive::<Int64Type>().values();
        let events: &ArrayRef = batch.column(self.event);
        let instants = match events.data_type() {
            DataType::Timestamp(ArrowUnit::Nanosecond, _) => events.as_primitive::<TimestampNanosecondType>().values(),
            _ => events.as_primitive::<TimestampMicrosecondType>().values(),
        };
        let key = |row: usize| Key {
            month: i64::from(years[row]) * 16 + i64::from(months[row]),
            has_no_event: events.is_null(row),
            event: instants[row],
            place: places[row],
        };
        (0..batch.num_rows()).map(key).collect()
    }

    /// The rows of these batches in their order: batch and row. The batches come in the order of the rows' places.
    ///
    /// What rows are compared by is packed into one number: month, whether there is an event time, that, and where the row lies.
    /// Months and rows that do not fit are compared as they are.
    pub(super) fn order(&self, batches: &[RecordBatch]) -> Vec<(u32, u32)> {
        let bits = |count: usize| usize::BITS - count.leading_zeros();
        let row_bits = bits(batches.iter().map(RecordBatch::num_rows).max().unwrap_or(0));
        let mut fits = row_bits + bits(batches.len()) <= u32::BITS;
        let mut packed: Vec<u128> = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
        let mut last = i64::MIN;
        for (batch, number) in batches.iter().zip(0u128..) {
            for (key, row) in self.keys(batch).into_iter().zip(0u128..) {
                let month = key.month + (1 << 30);
                fits &= (0..1 << 31).contains(&month) && key.place > last;
                last = key.place;
                let month = (month as u128) << 97 | u128::from(key.has_no_event) << 96;
                let event = u128::from(key.event as u64 ^ (1 << 63)) << 32;
                packed.push(month | event | number << row_bits | row);
            }
        }
        if fits {
            packed.sort_unstable();
            let place = |packed: u128| (packed as u32 >> row_bits, packed as u32 & ((1 << row_bits) - 1));
            return packed.into_iter().map(place).collect();
        }
        drop(packed);
        let mut order: Vec<(Key, u32, u32)> = Vec::new();
        for (batch, number) in batches.iter().zip(0..) {
            order.extend(self.keys(batch).into_iter().zip(0..).map(|(key, row)| (key, number, row)));
        }
        order.sort_unstable();
        order.into_iter().map(|(_, batch, row)| (batch, row)).collect()
    }

    /// About the bytes of a row; they depend on its values alone.
    fn row_bytes(&self, batch: &RecordBatch, row: usize) -> usize {
        let length = |column: &usize| match batch.column(*column).data_type() {
            DataType::Utf8 => batch.column(*column).as_string::<i32>().value_length(row) as usize,
            _ => batch.column(*column).as_binary::<i32>().value_length(row) as usize,
        };
        self.fixed_bytes + self.texts.iter().map(length).sum::<usize>()
    }
}

/// What is counted for a value whose type has no width.
const OTHER_BYTES: usize = 16;

/// Rows picked from batches until they make one.
pub(super) struct Picked<'a> {
    layout: &'a Layout,
    batches: Vec<RecordBatch>,
    places: Vec<(usize, usize)>,
    bytes: usize,
}

impl<'a> Picked<'a> {
    pub(super) fn new(layout: &'a Layout, batches: Vec<RecordBatch>) -> Self {
        Self { layout, batches, places: Vec::with_capacity(layout.batch_rows), bytes: 0 }
    }

    /// Takes in a batch that rows are picked from; its number.
    pub(super) fn add(&mut self, batch: RecordBatch) -> usize {
        self.batches.push(batch);
        self.batches.len() - 1
    }

    /// Picks a row. Is it enough now?
    pub(super) fn pick(&mut self, batch: usize, row: usize) -> bool {
        self.places.push((batch, row));
        self.bytes += self.batches.get(batch).map_or(0, |batch| self.layout.row_bytes(batch, row));
        self.places.len() >= self.layout.batch_rows || self.bytes >= CHUNK_BYTES
    }

    /// The rows that were picked; `None` when there are none.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>> {
        let (Some(&(first, start)), Some(&(last, end))) = (self.places.first(), self.places.last()) else { return Ok(None) };
        let is_slice = first == last && end.checked_sub(start).is_some_and(|span| span + 1 == self.places.len());
        let is_run = is_slice && self.places.iter().enumerate().all(|(i, place)| *place == (first, start + i));
        let rows = match self.batches.get(first) {
            Some(batch) if is_run => batch.slice(start, self.places.len()),
            _ => interleave_record_batch(&self.batches.iter().collect::<Vec<_>>(), &self.places)?,
        };
        self.places.clear();
        self.bytes = 0;
        Ok(Some(rows))
    }

    /// Forgets all batches, whose rows were taken.
    pub(super) fn forget(&mut self) {
        self.batches.clear();
    }
}

/// Sorted rows in a temporary file.
pub(super) struct Run {
    file: File,
    pub(super) first: Key,
    pub(super) last: Key,
}

fn failed(source: std::io::Error) -> Error {
    Error::Io { path: "a temporary file of the sort".into(), source }
}

impl Run {
    /// Its batches, from the first one on.
    pub(super) fn open(self) -> Result<StreamReader<BufReader<File>>> {
        let mut file = self.file;
        file.rewind().map_err(failed)?;
        Ok(StreamReader::try_new(BufReader::with_capacity(1 << 18, file), None)?)
    }
}

/// Writes sorted batches.
pub(super) struct RunWriter<'a> {
    layout: &'a Layout,
    writer: StreamWriter<BufWriter<File>>,
    first: Option<Key>,
    last: Option<Key>,
}

impl<'a> RunWriter<'a> {
    pub(super) fn new(layout: &'a Layout) -> Result<Self> {
        let file = BufWriter::with_capacity(1 << 18, tempfile::tempfile().map_err(failed)?);
        Ok(Self { layout, writer: StreamWriter::try_new(file, &layout.schema)?, first: None, last: None })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let of = |row: usize| self.layout.keys(&batch.slice(row, 1)).first().copied();
        self.first = self.first.or_else(|| of(0));
        self.last = of(batch.num_rows().saturating_sub(1)).or(self.last);
        Ok(self.writer.write(batch)?)
    }

    /// `None` when nothing was written.
    pub(super) fn finish(mut self) -> Result<Option<Run>> {
        self.writer.finish()?;
        let mut file = self.writer.into_inner()?;
        file.flush().map_err(failed)?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok(self.first.zip(self.last).map(|(first, last)| Run { file, first, last }))
    }
}
