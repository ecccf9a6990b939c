//! The months of which a table of facts holds more than a few misdated rows.

use asof::{catalog::TableVersion, time::Zone};
use chrono::{Datelike, NaiveDate};

/// The first day of each such month, by the zone's calendar.
pub fn months(version: &TableVersion, zone: Zone) -> Vec<NaiveDate> {
    let partitions = version.partitions();
    let few = partitions.iter().map(|p| p.rows).max().unwrap_or(0) / 100;
    let first = partitions.iter().filter(|p| p.rows > few).filter_map(|p| zone.local(p.event_times?.0.micros()));
    first.filter_map(|day| NaiveDate::from_ymd_opt(day.year(), day.month(), 1)).collect()
}
