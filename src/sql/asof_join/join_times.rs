//! The times of both sides of an `ASOF JOIN`: how they are read, and when a fact could be known.
//! Neither a zone nor a known-at is guessed: what cannot be traced to a declaration must be written in the query.

use arrow::datatypes::DataType;
use datafusion::{
    common::Column,
    logical_expr::{Join, LogicalPlan},
};

use super::refused;
use crate::{
    catalog::{FactTable, FactTimes, KnownAt, TimeColumn},
    error::{Error, Result},
    sql::origin::{NotFactRows, Reading, TableRows, reading},
    temporal::{Direction, SpineTime},
    time::{TimeUnit, Zone, is_local},
};

/// When facts could be known, as the query says.
pub(super) enum KnownWhen {
    /// At this column of the right side.
    At(usize),
    AfterMicros(i64),
}

/// The time of the right side, with its facts.
pub(super) struct FactTime<'a> {
    pub(super) subject: &'a str,
    /// The position of the column in the right side, and its name in the query.
    pub(super) position: usize,
    pub(super) written: &'a str,
    /// The names of the columns for the operator.
    pub(super) names: &'a [String],
    pub(super) traced: &'a std::result::Result<TableRows, NotFactRows>,
    pub(super) known: Option<KnownWhen>,
}

/// The two times that a join compares.
pub(super) struct JoinTimes<'a> {
    pub(super) join: &'a Join,
    pub(super) at: Column,
    pub(super) fact: FactTime<'a>,
    pub(super) direction: Direction,
}

/// A column of times of one side.
struct Time<'a> {
    subject: &'a str,
    name: String,
    data_type: DataType,
    reading: Option<Reading>,
}

impl<'a> Time<'a> {
    fn of(plan: &LogicalPlan, subject: &'a str, position: usize) -> Result<Self> {
        let field = plan.schema().field(position);
        let found =
            Self { subject, name: field.name().clone(), data_type: field.data_type().clone(), reading: reading(plan, position) };
        match found.data_type {
            DataType::Timestamp(..) | DataType::Date32 | DataType::Int64 => Ok(found),
            _ => Err(found.unfit("an ASOF JOIN compares timestamps, dates or BIGINTs; cast the column in a subquery".to_owned())),
        }
    }

    fn unfit(&self, needed: String) -> Error {
        Error::ColumnType { subject: self.subject.into(), column: self.name.clone(), found: self.data_type.to_string(), needed }
    }

    fn is_number(&self) -> bool {
        self.data_type == DataType::Int64
    }

    /// Is it a local time, which is an instant only in a zone?
    fn is_local(&self) -> bool {
        is_local(&self.data_type)
    }

    fn zone(&self) -> Option<Zone> {
        self.reading.and_then(|reading| reading.zone)
    }

    fn unit(&self) -> Option<TimeUnit> {
        self.reading.and_then(|reading| reading.unit).filter(|_| self.is_number())
    }

    /// The zone of a local time. Other times have the zone `otherwise`.
    fn settled(&self, otherwise: Zone) -> Result<Zone> {
        match (self.is_local(), self.zone()) {
            (false, _) => Ok(otherwise),
            (true, Some(zone)) => Ok(zone),
            (true, None) => Err(self.unfit(format!(
                "its times carry no zone, no table of the catalog declares one, and they are compared with times that have one; state \
                 the zone in a subquery, as in `{name} AT TIME ZONE 'Europe/Berlin' AS {name}`",
                name = self.name
            ))),
        }
    }
}

impl JoinTimes<'_> {
    /// How the times of the left side are read, and the declaration of the right side under the operator's names.
    pub(super) fn read(self) -> Result<(SpineTime, FactTable)> {
        let Self { join, at, fact, direction } = self;
        if let Ok(rows) = fact.traced {
            rows.declared.fact_times(fact.subject)?;
        }
        let left_subject = match &at.relation {
            Some(relation) => format!("table `{}`", relation.table()),
            None => "the left side of the ASOF JOIN".into(),
        };
        let at_position = join.left.schema().index_of_column(&at)?;
        let left = Time::of(&join.left, &left_subject, at_position)?;
        let right = Time::of(&join.right, fact.subject, fact.position)?;
        let (left_unit, right_unit) = units(&left, &right)?;
        // If neither side has a zone, the times are compared as they are written.
        let both_bare = left.is_local() && right.is_local() && left.zone().is_none() && right.zone().is_none();
        let (left_zone, right_zone) = match both_bare {
            true => (Zone::UTC, Zone::UTC),
            false => (left.settled(Zone::UTC)?, right.settled(Zone::UTC)?),
        };
        let at = SpineTime { column: at, unit: left_unit, zone: Some(left_zone) };
        let event = TimeColumn { name: fact.names[fact.position].clone(), unit: right_unit };
        if direction == Direction::Forward {
            let mut declared = FactTable::new(event, KnownAt::DelayMicros(0)).zone(right_zone);
            if let Ok(rows) = fact.traced {
                let named = |name: &String| rows.position_of(name).and_then(|at| fact.names.get(at)).cloned();
                declared.tie_break = rows.declared.tie_break.iter().filter_map(named).collect();
            }
            return Ok((at, declared));
        }
        let declared = match fact.traced {
            Ok(rows) => of_table(rows, &fact, event, right_zone)?,
            Err(no_facts) => written(no_facts, &fact, event, &right, right_zone, join)?,
        };
        Ok((at, declared))
    }
}

/// The units of numbers. A number without a declared unit has the unit of the other side.
fn units(left: &Time<'_>, right: &Time<'_>) -> Result<(Option<TimeUnit>, Option<TimeUnit>)> {
    if left.is_number() && right.is_number() {
        let unit = left.unit().or(right.unit()).unwrap_or(TimeUnit::Microsecond);
        return Ok((Some(left.unit().unwrap_or(unit)), Some(right.unit().unwrap_or(unit))));
    }
    for (number, other) in [(left, right), (right, left)] {
        if number.is_number() && number.unit().is_none() {
            let other = &other.data_type;
            return Err(number.unfit(format!("it is compared with {other}, and its unit is not known; cast one of them")));
        }
    }
    Ok((left.unit(), right.unit()))
}

/// The declaration of the table, with this column as the event time. A query cannot lose the declared known-at.
fn of_table(rows: &TableRows, fact: &FactTime<'_>, event: TimeColumn, zone: Zone) -> Result<FactTable> {
    let renamed = |name: &str| match rows.position_of(name).and_then(|at| fact.names.get(at)) {
        Some(renamed) => renamed.clone(),
        None => name.to_owned(),
    };
    let subject = fact.subject;
    let event_column = rows.declared.fact_times(subject)?.event.name();
    let mut declared = rows.declared_as(renamed);
    let times = declared.fact_times(subject)?;
    let is_event_time = rows.name_of(fact.position) == Some(event_column);
    // If another column replaces the event time, the time when the fact could be known stays the same.
    let known_at = match (&times.known_at, &fact.known) {
        (known_at, None) if is_event_time => known_at.clone(),
        (KnownAt::Column(column), None) => KnownAt::Column(column.clone()),
        (KnownAt::DelayMicros(0), None) => KnownAt::Column(times.event.clone()),
        (KnownAt::DelayMicros(delay), Some(said)) if *delay > 0 && !is_event_time => match said {
            KnownWhen::AfterMicros(delay) => KnownAt::DelayMicros(*delay),
            KnownWhen::At(column) => KnownAt::Column(TimeColumn::from(fact.names[*column].as_str())),
        },
        (KnownAt::DelayMicros(_), None) => {
            return Err(refused(format!(
                "it compares `{time}` of {subject}, whose facts are known a while after their `{event_column}`; compare `{event_column}`, or say \
                 when the facts could be known: `known_at({time}, k)` with a column k, or `known_at({time}, INTERVAL '1 hour')`",
                time = fact.written,
            )));
        }
        (_, Some(_)) => {
            return Err(refused(format!(
                "it says `known_at` of {subject}, whose table already declares when its facts could be known; leave `known_at` out"
            )));
        }
    };
    declared.times = Some(FactTimes { event, known_at });
    declared.zone = declared.zone.or(Some(zone));
    Ok(declared)
}

/// The declaration of rows that are made of other rows, or written in the query.
fn written(
    no_facts: &NotFactRows,
    fact: &FactTime<'_>,
    event: TimeColumn,
    right: &Time<'_>,
    right_zone: Zone,
    join: &Join,
) -> Result<FactTable> {
    let subject = fact.subject;
    let (known_at, zone) = match (&fact.known, no_facts) {
        (None, NotFactRows::Written) => (KnownAt::DelayMicros(0), right_zone),
        (None, NotFactRows::Made(how)) => {
            let time = &right.name;
            return Err(refused(format!(
                "{subject} is made of others: {how}. So nothing says when its rows could be known; say it in the MATCH_CONDITION: \
                 `known_at({time}, k)` with its column k of that instant, `known_at({time}, INTERVAL '1 hour')` for so long after \
                 `{time}`, `known_at({time}, {time})` for at once"
            )));
        }
        (Some(KnownWhen::AfterMicros(delay)), _) => (KnownAt::DelayMicros(*delay), right_zone),
        (Some(KnownWhen::At(column)), _) => {
            let known = Time::of(&join.right, subject, *column)?;
            let name = fact.names[*column].clone();
            if known.is_number() {
                let unit = if *column == fact.position { event.unit } else { known.unit().or(event.unit) };
                (KnownAt::Column(TimeColumn { name, unit }), right_zone)
            } else {
                // A declaration has one zone for all its local times.
                let zone = match (known.is_local() && known.zone().is_none() && right.is_local(), right.zone()) {
                    (true, None) => right_zone,
                    _ => known.settled(right_zone)?,
                };
                if right.is_local() && zone != right_zone {
                    return Err(known.unfit(format!(
                        "its times are in the zone {zone}, and those of `{}` in {right_zone}; convert one of them with AT TIME ZONE",
                        right.name
                    )));
                }
                (KnownAt::Column(TimeColumn { name, unit: None }), zone)
            }
        }
    };
    Ok(FactTable::new(event, known_at).zone(zone))
}
