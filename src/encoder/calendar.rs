//! Encoders of instants by a zone's calendar: the hour of the day, the day of the week.
//! The zone is a parameter; none is assumed.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, TimestampMicrosecondType},
};
use chrono::{Datelike, NaiveDateTime, Timelike};

use super::{Encoder, Spec};
use crate::{error::Result, time::Zone};

/// The hour of the day of an instant, 0 to 23, by a zone's clock.
#[derive(Debug, Clone)]
#[must_use]
pub struct HourOfDay {
    column: String,
    zone: Zone,
}

impl HourOfDay {
    /// The feature `<column>_hour`.
    pub fn of(column: impl Into<String>, zone: Zone) -> Self {
        Self { column: column.into(), zone }
    }
}

impl Encoder for HourOfDay {
    fn spec(&self) -> Spec {
        let output = format!("{}_hour", self.column);
        Spec::new("hour_of_day", 1).instant(&self.column).parameter("zone", self.zone.to_string()).output(output, DataType::Int64)
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(vec![by_calendar(input.column(0), self.zone, |t| i64::from(t.hour()))])
    }
}

/// The day of the week of an instant, Monday 1 to Sunday 7 (ISO 8601), by a zone's clock.
#[derive(Debug, Clone)]
#[must_use]
pub struct DayOfWeek {
    column: String,
    zone: Zone,
}

impl DayOfWeek {
    /// The feature `<column>_weekday`.
    pub fn of(column: impl Into<String>, zone: Zone) -> Self {
        Self { column: column.into(), zone }
    }
}

impl Encoder for DayOfWeek {
    fn spec(&self) -> Spec {
        let output = format!("{}_weekday", self.column);
        Spec::new("day_of_week", 1).instant(&self.column).parameter("zone", self.zone.to_string()).output(output, DataType::Int64)
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(vec![by_calendar(input.column(0), self.zone, |t| i64::from(t.weekday().number_from_monday()))])
    }
}

fn by_calendar(instants: &ArrayRef, zone: Zone, part: impl Fn(NaiveDateTime) -> i64) -> ArrayRef {
    let instants = instants.as_primitive::<TimestampMicrosecondType>();
    let parts: Int64Array = instants.iter().map(|us| zone.local(us?).map(&part)).collect();
    Arc::new(parts)
}
