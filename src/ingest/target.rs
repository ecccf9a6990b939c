//! The rows of a load on their way to the sort: target columns, the month they belong to, and their place in the sources.
//! The month comes from the row's event time in the table's zone, never from the name of its file.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int32Builder, Int64Array, RecordBatch},
    datatypes::{
        DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit as ArrowUnit, TimestampMicrosecondType, TimestampNanosecondType,
    },
};

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
        let mut calendar = Calendar { zone: self.zone, inside: 0..0, month: (0, 0) };
        for event_us in instants_us(events)?.iter() {
            let (year, month) = event_us.and_then(|us| calendar.year_month(us)).unwrap_or((0, 0));
            years.append_value(year);
            months.append_value(i32::try_from(month).unwrap_or(0));
        }
        columns.push(Arc::new(years.finish()));
        columns.push(Arc::new(months.finish()));
        columns.push(Arc::new(Int64Array::from_iter_values(lines.iter().map(|line| (source as i64) << ROW_BITS | *line as i64))));
        Ok(RecordBatch::try_new(self.sorted.clone(), columns)?)
    }
}

/// The months of a zone, of which the inside of the last one is remembered.
struct Calendar {
    zone: Zone,
    /// Instants in microseconds that lie in `month` in every zone: none is a day ahead of UTC, or behind it.
    inside: Range<i64>,
    month: (i32, u32),
}

impl Calendar {
    fn year_month(&mut self, instant_us: i64) -> Option<(i32, u32)> {
        if self.inside.contains(&instant_us) {
            return Some(self.month);
        }
        let found = self.zone.year_month(instant_us)?;
        let first_day = |(year, month): (i32, u32)| chrono::NaiveDate::from_ymd_opt(year, month, 1);
        let next = if found.1 == 12 { (found.0 + 1, 1) } else { (found.0, found.1 + 1) };
        if let (Some(start), Some(end)) = (first_day(found), first_day(next)) {
            let micros = |day: chrono::NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
            self.inside = micros(start).saturating_add(DAY_US)..micros(end).saturating_sub(DAY_US);
            self.month = found;
        }
        Some(found)
    }
}

const DAY_US: i64 = 86_400_000_000;

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
