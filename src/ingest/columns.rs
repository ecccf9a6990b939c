//! The rows of a load on their way to the sort: target columns, the month they belong to, and their place in the sources.
//! The month comes from the row's event time in the table's zone, never from the name of its file.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int32Builder, Int64Array, RecordBatch},
    datatypes::{
        DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit as ArrowUnit, TimestampMicrosecondType, TimestampNanosecondType,
    },
};

use super::{Ingest, rejects::Rejects, sources::Source};
use crate::{catalog::FactTable, error::Result, time::Zone};

/// Hidden columns that the sort needs and the files do not hold.
pub(crate) const YEAR: &str = "__asof_year";
pub(crate) const MONTH: &str = "__asof_month";
pub(crate) const ROW: &str = "__asof_row";

/// Bits of a row's place that count rows within a source; the bits above count sources.
const ROW_BITS: u32 = 40;

/// What a load writes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The files' columns.
    pub(crate) schema: SchemaRef,
    /// The files' columns and the hidden ones.
    pub(crate) sorted: SchemaRef,
    event: usize,
    zone: Zone,
}

/// What a reader of one source needs to know.
pub(crate) struct Reading<'a> {
    pub(crate) ingest: &'a Ingest,
    pub(crate) source: &'a Source,
    pub(crate) target: &'a Target,
    pub(crate) rejects: &'a Rejects,
    pub(crate) batch_rows: usize,
}

impl Target {
    pub(crate) fn new(declared: &FactTable, schema: SchemaRef) -> Result<Self> {
        let event = schema.index_of(declared.event_column())?;
        let hidden = [(YEAR, DataType::Int32), (MONTH, DataType::Int32), (ROW, DataType::Int64)];
        let hidden = hidden.map(|(name, data_type)| Arc::new(Field::new(name, data_type, false)));
        let sorted = Arc::new(Schema::new(schema.fields().iter().cloned().chain(hidden).collect::<Vec<_>>()));
        Ok(Self { schema, sorted, event, zone: declared.calendar() })
    }

    /// Adds the hidden columns to rows of a source, of which each is known by its line (in a Parquet file, its row).
    pub(crate) fn batch(&self, source: usize, lines: &[u64], mut columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        let events = &columns[self.event];
        let row_count = events.len();
        let (mut years, mut months) = (Int32Builder::with_capacity(row_count), Int32Builder::with_capacity(row_count));
        for event_us in instants_us(events)?.iter() {
            let (year, month) = event_us.and_then(|us| self.zone.year_month(us)).unwrap_or((0, 0));
            years.append_value(year);
            months.append_value(i32::try_from(month).unwrap_or(0));
        }
        columns.push(Arc::new(years.finish()));
        columns.push(Arc::new(months.finish()));
        columns.push(Arc::new(Int64Array::from_iter_values(lines.iter().map(|line| (source as i64) << ROW_BITS | *line as i64))));
        Ok(RecordBatch::try_new(self.sorted.clone(), columns)?)
    }
}

/// The source and the line that a row's place holds.
pub(crate) fn source_and_line(place: i64) -> (usize, i64) {
    (usize::try_from(place >> ROW_BITS).unwrap_or(0), place & ((1 << ROW_BITS) - 1))
}

/// Instants in microseconds, rounded towards the past.
pub(crate) fn instants_us(array: &ArrayRef) -> Result<Int64Array> {
    match array.data_type() {
        DataType::Timestamp(ArrowUnit::Nanosecond, _) => {
            Ok(array.as_primitive::<TimestampNanosecondType>().unary(|ns| ns.div_euclid(1_000)))
        }
        _ => Ok(array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>()),
    }
}
