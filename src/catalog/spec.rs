//! The declaration of a fact table: its times, its zone, its keys.
//! It names columns. Whether a schema has them is checked against each schema.

use arrow::datatypes::{DataType, Schema};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    time::{TimeScale, TimeUnit, Zone, is_local, saturating_micros, shown_span},
};

/// The declaration of a fact table: when its facts happened, when they could be known, and which entity they describe.
///
/// ```
/// use asof::catalog::{FactTable, KnownAt};
/// use chrono::TimeDelta;
///
/// // A fare is known when the trip ends; the times were written by clocks in New York.
/// let trips = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse()?).key("pickup_zone");
/// // A weather reading is published an hour after it was made.
/// let weather = FactTable::new("measured_at", KnownAt::after(TimeDelta::hours(1)));
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub struct FactTable {
    pub(crate) event_time: TimeColumn,
    pub(crate) known_at: KnownAt,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<Zone>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tie_break: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) identity: Vec<String>,
}

/// When a fact could be known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[must_use]
pub enum KnownAt {
    /// At the time in this column.
    Column(TimeColumn),
    /// This many microseconds after the event time, zero or more.
    DelayMicros(i64),
}

/// A column of times.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub struct TimeColumn {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<TimeUnit>,
}

impl From<&str> for TimeColumn {
    fn from(name: &str) -> Self {
        Self { name: name.into(), unit: None }
    }
}

impl TimeColumn {
    /// A column of integers: units since 1970-01-01T00:00:00Z.
    pub fn epoch(name: impl Into<String>, unit: TimeUnit) -> Self {
        Self { name: name.into(), unit: Some(unit) }
    }

    /// The column's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl KnownAt {
    /// Known at the time in this column.
    ///
    /// A fact with a NULL there is never visible. Loads accept such facts and count them
    /// ([`QualityReport::never_known`](crate::ingest::QualityReport::never_known)), and registered files may have them. To stop
    /// a load at such rows, or to keep them out, declare
    /// [`Expect::not_null`](crate::ingest::Expect::not_null) for the column. A fact without an event time cannot be loaded.
    pub fn column(column: impl Into<TimeColumn>) -> Self {
        KnownAt::Column(column.into())
    }

    /// Known this long after the event time. A delay of zero must be given explicitly. Digits finer than a microsecond are rounded
    /// up, so that no fact is known early.
    pub fn after(delay: TimeDelta) -> Self {
        let is_cut = delay.subsec_nanos() % 1_000 > 0;
        KnownAt::DelayMicros(saturating_micros(delay).saturating_add(is_cut.into()))
    }

    /// How long after the event time, unless a column says it.
    pub(crate) fn delay_us(&self) -> Option<i64> {
        match self {
            KnownAt::DelayMicros(delay) => Some(*delay),
            KnownAt::Column(_) => None,
        }
    }
}

impl FactTable {
    /// A table whose facts happened at `event_time` and could be known at `known_at`.
    pub fn new(event_time: impl Into<TimeColumn>, known_at: KnownAt) -> Self {
        Self {
            event_time: event_time.into(),
            known_at,
            zone: None,
            keys: Vec::new(),
            tie_break: Vec::new(),
            identity: Vec::new(),
        }
    }

    /// The zone of times that have none, and of the calendar by which facts are divided into months.
    ///
    /// Without it, zone-less times are refused and months are those of UTC.
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = Some(zone);
        self
    }

    /// Adds a column to the entity key. It must be a column of the files, not a partition column; the same holds for tie-breaks
    /// and identities.
    pub fn key(mut self, column: impl Into<String>) -> Self {
        self.keys.push(column.into());
        self
    }

    /// Adds a tie-break: of two facts with the same times, the one with the larger value in this column is the newer one.
    pub fn tie_break(mut self, column: impl Into<String>) -> Self {
        self.tie_break.push(column.into());
        self
    }

    /// Adds a column to the identity of facts: rows with the same identity are versions of one fact.
    ///
    /// A version with a later known-at replaces the others from the instant on at which it is visible, in lookups and windows
    /// alike; of versions with the same known-at the newest counts. A row with a NULL in its identity is a fact of its own.
    /// Without an identity every row is a fact of its own, and nothing is replaced.
    ///
    /// Lookups and windows over such a table hold all of its visible facts in memory, since a correction may move a fact to
    /// another time or entity.
    pub fn identity(mut self, column: impl Into<String>) -> Self {
        self.identity.push(column.into());
        self
    }

    /// The column of event times.
    pub fn event_column(&self) -> &str {
        &self.event_time.name
    }

    /// The column of known-at times, if they are not a delay.
    pub fn known_column(&self) -> Option<&str> {
        match &self.known_at {
            KnownAt::Column(column) => Some(&column.name),
            KnownAt::DelayMicros(_) => None,
        }
    }

    /// The entity key's columns.
    pub fn key_columns(&self) -> &[String] {
        &self.keys
    }

    /// The zone of the calendar by which facts are divided into months.
    pub fn calendar(&self) -> Zone {
        self.zone.unwrap_or(Zone::UTC)
    }

    /// The time columns, the event time first.
    pub(crate) fn time_columns(&self) -> impl Iterator<Item = &TimeColumn> {
        let known = match &self.known_at {
            KnownAt::Column(column) => Some(column),
            KnownAt::DelayMicros(_) => None,
        };
        std::iter::once(&self.event_time).chain(known)
    }

    /// Every column that the declaration names, the event time first.
    pub(crate) fn named_columns(&self) -> impl Iterator<Item = &String> {
        self.time_columns().map(|column| &column.name).chain(&self.keys).chain(&self.tie_break).chain(&self.identity)
    }

    /// Checks the declaration against a schema.
    pub(crate) fn check(&self, subject: &str, schema: &Schema) -> Result<()> {
        if let Some(delay) = self.known_at.delay_us().filter(|delay| *delay < 0) {
            let reason =
                format!("its delay is {}: facts would be known before they happen; it must be zero or more", shown_span(delay));
            return Err(Error::Definition { subject: subject.into(), reason });
        }
        for column in self.time_columns() {
            self.scale(subject, column, schema)?;
        }
        for column in self.keys.iter().chain(&self.tie_break).chain(&self.identity) {
            if schema.column_with_name(column).is_none() {
                return Err(Error::unknown_column(subject, column, schema));
            }
        }
        Ok(())
    }

    /// The unit and zone of the stored values of a time column.
    pub(crate) fn scale(&self, subject: &str, column: &TimeColumn, schema: &Schema) -> Result<TimeScale> {
        let Some((_, field)) = schema.column_with_name(&column.name) else {
            return Err(Error::unknown_column(subject, &column.name, schema));
        };
        let refused = |needed: &str| Error::ColumnType {
            subject: subject.into(),
            column: column.name.clone(),
            found: field.data_type().to_string(),
            needed: needed.into(),
        };
        let local = || {
            self.zone.ok_or_else(|| {
                refused("its times have no zone: declare the zone of the clock that wrote them with `FactTable::zone`")
            })
        };
        if *field.data_type() == DataType::Int64 {
            return match column.unit {
                Some(unit) => Ok(TimeScale { unit, zone: Zone::UTC }),
                None => Err(refused("a time of integers needs its unit: declare it with `TimeColumn::epoch`")),
            };
        }
        let clock = if is_local(field.data_type()) { local()? } else { Zone::UTC };
        TimeScale::of_type(field.data_type(), clock).ok_or_else(|| {
            refused(
                "a time must be a timestamp, a date or a 64-bit integer with a declared unit; cast it, or name another column",
            )
        })
    }
}
