//! The declaration of a table: the times, the zone and the keys of facts, or the key of a timeless table.
//! It names columns. Whether a schema has them is checked against each schema.

use arrow::datatypes::{DataType, Schema};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    time::{TimeScale, TimeUnit, Zone, is_local, saturating_micros, shown_span},
};

/// The declaration of a table: when its facts happened, when they could be known, and which entity they describe; or that it is
/// timeless.
///
/// ```
/// use asof::catalog::{FactTable, KnownAt};
/// use chrono::TimeDelta;
///
/// // A fare is known when the trip ends; the times were written by clocks in New York.
/// let trips = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse()?).key("pickup_zone");
/// // A weather reading is published an hour after it was made.
/// let weather = FactTable::new("measured_at", KnownAt::after(TimeDelta::hours(1)));
/// // The borough of a zone: one row per zone, the same at every instant.
/// let zones = FactTable::timeless(["zone"]);
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "StoredTable", into = "StoredTable")]
#[must_use]
pub struct FactTable {
    /// `None` for a timeless table.
    pub(crate) times: Option<FactTimes>,
    pub(crate) zone: Option<Zone>,
    pub(crate) keys: Vec<String>,
    pub(crate) tie_break: Vec<String>,
    pub(crate) identity: Vec<String>,
}

/// When the facts of a table happened, and when they could be known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FactTimes {
    pub(crate) event: TimeColumn,
    pub(crate) known_at: KnownAt,
}

/// A declaration as JSON.
#[derive(Serialize, Deserialize)]
struct StoredTable {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event_time: Option<TimeColumn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_at: Option<KnownAt>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    timeless: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<Zone>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tie_break: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    identity: Vec<String>,
}

impl From<FactTable> for StoredTable {
    fn from(table: FactTable) -> Self {
        let FactTable { times, zone, keys, tie_break, identity } = table;
        let timeless = times.is_none();
        let (event_time, known_at) = times.map(|times| (times.event, times.known_at)).unzip();
        Self { event_time, known_at, timeless, zone, keys, tie_break, identity }
    }
}

impl TryFrom<StoredTable> for FactTable {
    type Error = &'static str;

    fn try_from(stored: StoredTable) -> std::result::Result<Self, &'static str> {
        let StoredTable { event_time, known_at, timeless, zone, keys, tie_break, identity } = stored;
        let times = match (event_time, known_at, timeless) {
            (Some(event), Some(known_at), false) => Some(FactTimes { event, known_at }),
            (None, None, true) => None,
            (None, _, false) => return Err("missing field `event_time`"),
            (_, None, false) => return Err("missing field `known_at`"),
            (_, _, true) => return Err("a timeless table has no `event_time` and no `known_at`"),
        };
        Ok(Self { times, zone, keys, tie_break, identity })
    }
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
    fn delay_us(&self) -> Option<i64> {
        match self {
            KnownAt::DelayMicros(delay) => Some(*delay),
            KnownAt::Column(_) => None,
        }
    }
}

impl FactTable {
    /// A table whose facts happened at `event_time` and could be known at `known_at`.
    pub fn new(event_time: impl Into<TimeColumn>, known_at: KnownAt) -> Self {
        let times = Some(FactTimes { event: event_time.into(), known_at });
        Self { times, zone: None, keys: Vec::new(), tie_break: Vec::new(), identity: Vec::new() }
    }

    /// A timeless table, as a dimension: one row per key, whose values are the same **at every instant**. The names of boroughs,
    /// the capacities of stations.
    ///
    /// Whoever asks as of any instant sees all of its rows as they are in the newest version, also of instants before the values
    /// were first known. A value that can change belongs into a table of facts, with the time from which it held. A set of entities
    /// takes columns of a timeless table by [`Source::timeless`](crate::feature_set::Source::timeless), so that its definition says
    /// it too.
    ///
    /// It has neither times nor tie-breaks, and is registered and not loaded. Two rows with one key are an error where the table is
    /// used.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use asof::{FeatureStore, catalog::FactTable, temporal::{Lookup, Spine}};
    /// use datafusion::{arrow::{array::{Int64Array, StringArray}, record_batch::RecordBatch}, datasource::MemTable};
    /// use datafusion::prelude::SessionContext;
    ///
    /// let zones = RecordBatch::try_from_iter([
    ///     ("zone", Arc::new(Int64Array::from(vec![4, 161])) as _),
    ///     ("borough", Arc::new(StringArray::from(vec!["Brooklyn", "Manhattan"])) as _),
    /// ])?;
    /// let zones = MemTable::try_new(zones.schema(), vec![vec![zones]])?;
    /// let store = FeatureStore::open("memory://zones").await?;
    /// store.register_provider("zones", Arc::new(zones), FactTable::timeless(["zone"])).await?;
    ///
    /// let rides = "SELECT 161 AS zone, TIMESTAMP '2014-11-03 08:00:00' AT TIME ZONE 'UTC' AS at";
    /// let rides = Spine::new(SessionContext::new().sql(rides).await?, "at");
    /// let zones = store.facts("zones", "2014-01-01".parse()?).await?;
    /// let rows = rides.lookup([Lookup::of(zones).on("zone").column("borough")])?.into_rows();
    /// let shown = datafusion::arrow::util::pretty::pretty_format_batches(&rows.collect().await?)?.to_string();
    /// assert!(shown.contains("| Manhattan |"), "{shown}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeless<K: Into<String>>(keys: impl IntoIterator<Item = K>) -> Self {
        let keys = keys.into_iter().map(Into::into).collect();
        Self { times: None, zone: None, keys, tie_break: Vec::new(), identity: Vec::new() }
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

    /// Is it timeless?
    pub fn is_timeless(&self) -> bool {
        self.times.is_none()
    }

    /// The column of event times; `None` for a timeless table.
    pub fn event_column(&self) -> Option<&str> {
        self.times.as_ref().map(|times| times.event.name.as_str())
    }

    /// The column of known-at times, if they are not a delay.
    pub fn known_column(&self) -> Option<&str> {
        match &self.times.as_ref()?.known_at {
            KnownAt::Column(column) => Some(&column.name),
            KnownAt::DelayMicros(_) => None,
        }
    }

    /// The times of its facts; `subject` names the table in the error.
    ///
    /// # Errors
    /// [`Error::Definition`] for a timeless table.
    pub(crate) fn fact_times(&self, subject: &str) -> Result<&FactTimes> {
        self.times.as_ref().ok_or_else(|| Error::Definition {
            subject: subject.into(),
            reason: "it is declared timeless, and facts with an event time are needed here; join it, or look its columns up by its key"
                .into(),
        })
    }

    /// How long after the event time facts could be known, unless a column says it.
    pub(crate) fn delay_us(&self) -> Option<i64> {
        self.times.as_ref().and_then(|times| times.known_at.delay_us())
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
        self.times.iter().flat_map(|FactTimes { event, known_at }| {
            let known = match known_at {
                KnownAt::Column(column) => Some(column),
                KnownAt::DelayMicros(_) => None,
            };
            std::iter::once(event).chain(known)
        })
    }

    /// Every column that the declaration names, the event time first.
    pub(crate) fn named_columns(&self) -> impl Iterator<Item = &String> {
        self.time_columns().map(|column| &column.name).chain(&self.keys).chain(&self.tie_break).chain(&self.identity)
    }

    /// Checks the declaration against a schema.
    pub(crate) fn check(&self, subject: &str, schema: &Schema) -> Result<()> {
        if self.times.is_none() {
            let refused = |reason: &str| Err(Error::Definition { subject: subject.into(), reason: reason.into() });
            if self.keys.is_empty() {
                return refused(
                    "it is declared timeless, and has no key: name the columns of which it has one row for each value",
                );
            }
            if self.zone.is_some() || !self.tie_break.is_empty() || !self.identity.is_empty() {
                return refused("it is declared timeless, and a zone, a tie-break or an identity is about times: leave it out");
            }
        }
        if let Some(delay) = self.delay_us().filter(|delay| *delay < 0) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Ids are hashes of this JSON.
    #[test]
    fn a_declaration_of_facts_has_the_json_that_it_has_always_had() {
        let plain = FactTable::new("at", KnownAt::after(TimeDelta::seconds(5)));
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"event_time":{"name":"at"},"known_at":{"delay_micros":5000000}}"#);
        let all = FactTable::new(TimeColumn::epoch("at", TimeUnit::Second), KnownAt::column("known"));
        let all = all.zone(Zone::UTC).key("k").tie_break("n").identity("id");
        let text = serde_json::to_string(&all).unwrap();
        assert!(
            text.starts_with(r#"{"event_time":{"name":"at","unit":"#)
                && text.contains(r#""known_at":{"column":{"name":"known"}}"#)
        );
        assert!(text.ends_with(r#""keys":["k"],"tie_break":["n"],"identity":["id"]}"#), "{text}");
        let timeless = FactTable::timeless(["k", "l"]);
        assert_eq!(serde_json::to_string(&timeless).unwrap(), r#"{"timeless":true,"keys":["k","l"]}"#);
        for declared in [plain, all, timeless] {
            let text = serde_json::to_string(&declared).unwrap();
            assert_eq!(serde_json::from_str::<FactTable>(&text).unwrap(), declared);
        }
        for (bad, told) in [
            (json!({ "known_at": { "delay_micros": 0 } }), "`event_time`"),
            (json!({ "event_time": { "name": "at" } }), "`known_at`"),
            (json!({ "event_time": { "name": "at" }, "known_at": { "delay_micros": 0 }, "timeless": true }), "timeless"),
            (json!({ "keys": ["k"] }), "`event_time`"),
        ] {
            let error = serde_json::from_value::<FactTable>(bad.clone()).unwrap_err();
            assert!(error.to_string().contains(told), "{bad}: {error}");
        }
    }

    #[test]
    fn a_timeless_table_has_a_key_and_nothing_about_times() {
        let schema = Schema::new(vec![arrow::datatypes::Field::new("k", DataType::Int64, true)]);
        let told = |declared: FactTable| declared.check("table `t`", &schema).unwrap_err().to_string();
        assert!(FactTable::timeless(["k"]).check("table `t`", &schema).is_ok());
        assert!(told(FactTable::timeless([""; 0])).contains("no key"));
        assert!(told(FactTable::timeless(["x"])).contains("no column `x`"));
        assert!(told(FactTable::timeless(["k"]).zone(Zone::UTC)).contains("about times"));
        assert!(told(FactTable::timeless(["k"]).tie_break("k")).contains("about times"));
        assert!(told(FactTable::timeless(["k"]).identity("k")).contains("about times"));
        let (timeless, facts) = (FactTable::timeless(["k"]), FactTable::new("at", KnownAt::column("known")));
        assert_eq!((timeless.event_column(), timeless.known_column(), timeless.is_timeless()), (None, None, true));
        assert_eq!((facts.event_column(), facts.known_column(), facts.is_timeless()), (Some("at"), Some("known"), false));
        assert!(timeless.fact_times("table `t`").unwrap_err().to_string().starts_with("table `t`: it is declared timeless"));
    }
}
