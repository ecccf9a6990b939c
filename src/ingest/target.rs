//! The columns of a load's rows: those of the table, and hidden ones for the month of each row and its position in the sources.
//! The month comes from the row's event time in the table's zone, never from the name of its file.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int32Builder, Int64Array, RecordBatch},
    datatypes::{
        DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit as ArrowUnit, TimestampMicrosecondType, TimestampNanosecondType,
    },
};

use crate::{
    catalog::FactTable,
    error::Result,
    time::{DAY_US, Zone, days_of, midnight_us},
};

/// Hidden columns, which the sort needs and the files do not have.
pub(crate) const YEAR: &str = "__asof_year";
pub(crate) const MONTH: &str = "__asof_month";
pub(crate) const ROW: &str = "__asof_row";

/// The lower bits of a row's position are its line in the source. The bits above are the number of the source.
const ROW_BITS: u32 = 40;

/// What a load writes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The columns of the files.
    pub(crate) schema: SchemaRef,
    /// The columns of the files, then the hidden columns.
    pub(crate) sorted: SchemaRef,
    event: usize,
    zone: Zone,
}

impl Target {
    pub(crate) fn new(declared: &FactTable, schema: SchemaRef) -> Result<Self> {
        let event = schema.index_of(&declared.fact_times("the table of a load")?.event.name)?;
        let hidden = [(YEAR, DataType::Int32), (MONTH, DataType::Int32), (ROW, DataType::Int64)];
        let hidden = hidden.map(|(name, data_type)| Arc::new(Field::new(name, data_type, false)));
        let sorted = Arc::new(Schema::new(schema.fields().iter().cloned().chain(hidden).collect::<Vec<_>>()));
        Ok(Self { schema, sorted, event, zone: declared.calendar() })
    }

    /// Adds the hidden columns to rows of a source. `lines` are the lines of the rows, or the row numbers in a Parquet file.
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

/// Finds months in a zone. The interior of the last month is cached.
struct Calendar {
    zone: Zone,
    /// Instants in microseconds that lie in `month` in every zone: no zone is a day or more from UTC.
    inside: Range<i64>,
    month: (i32, u32),
}

impl Calendar {
    fn year_month(&mut self, instant_us: i64) -> Option<(i32, u32)> {
        if self.inside.contains(&instant_us) {
            return Some(self.month);
        }
        let found = self.zone.year_month(instant_us)?;
        let first_us = |(year, month): (i32, u32)| midnight_us(days_of(chrono::NaiveDate::from_ymd_opt(year, month, 1)?));
        let next = if found.1 == 12 { (found.0 + 1, 1) } else { (found.0, found.1 + 1) };
        if let (Some(start), Some(end)) = (first_us(found), first_us(next)) {
            self.inside = start.saturating_add(DAY_US)..end.saturating_sub(DAY_US);
            self.month = found;
        }
        Some(found)
    }
}

/// The source and the line of a row's position.
pub(crate) fn source_and_line(position: i64) -> (usize, i64) {
    (usize::try_from(position >> ROW_BITS).unwrap_or(0), position & ((1 << ROW_BITS) - 1))
}

/// Instants in microseconds, rounded down.
pub(crate) fn instants_us(array: &ArrayRef) -> Result<Int64Array> {
    match array.data_type() {
        DataType::Timestamp(ArrowUnit::Nanosecond, _) => {
            Ok(array.as_primitive::<TimestampNanosecondType>().unary(|ns| ns.div_euclid(1_000)))
        }
        _ => Ok(array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>()),
    }
}
