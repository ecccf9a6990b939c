//! The time rule for one table as of one horizon, in the units of its time columns.
//! It decides on stored values and on bounds from statistics, never on folder names.
//!
//! For each time column there is one threshold (see [`crate::time::TimeScale`]): a row is visible exactly when every time
//! column is below its threshold. The same thresholds prune files, go into the Parquet filter, and arm the guard.

use arrow::datatypes::{DataType, Schema, TimeUnit as ArrowUnit};
use datafusion::{
    common::ScalarValue,
    logical_expr::{Expr, ident, lit},
};

use crate::{
    catalog::{Bounds, FactTable, FileEntry, TableVersion},
    error::{Error, Result},
    time::{Cutoff, Horizon, TimeScale, shown_span},
};

/// Which rows of a table are visible as of a horizon.
#[derive(Debug, Clone)]
pub(crate) struct Visibility {
    pub(crate) horizon: Horizon,
    /// The event time first, then the known-at column if there is one. A timeless table has none: all of its rows are visible.
    pub(crate) limits: Vec<TimeLimit>,
    /// The delay of tables without a known-at column.
    pub(crate) delay_us: Option<i64>,
}

/// A time column and its first hidden value; without one only NULL is hidden.
#[derive(Debug, Clone)]
pub(crate) struct TimeLimit {
    pub(crate) column: String,
    pub(crate) data_type: DataType,
    pub(crate) scale: TimeScale,
    pub(crate) first_hidden: Option<i64>,
}

impl TimeLimit {
    /// Whether this stored value is visible.
    pub(crate) fn admits(&self, value: i64) -> bool {
        self.first_hidden.is_none_or(|hidden| value < hidden)
    }

    fn admits_some(&self, bounds: Option<Bounds>) -> bool {
        bounds.is_none_or(|b| !b.is_empty() && self.admits(b.min))
    }
}

impl Visibility {
    pub(crate) fn new(version: &TableVersion, horizon: Horizon) -> Result<Self> {
        let schema = version.file_schema()?;
        Self::of(&format!("table `{}`", version.table()), version.declared(), &schema, horizon)
    }

    /// As [`Visibility::new`], for any rows with this schema; `subject` names them in errors.
    pub(crate) fn of(subject: &str, declared: &FactTable, schema: &Schema, horizon: Horizon) -> Result<Self> {
        let delay_us = declared.delay_us();
        // A delay is zero or more. A fact is known before T if its event is before T - delay.
        let earlier = horizon.minus_us(delay_us.unwrap_or(0));
        let limits = declared
            .time_columns()
            .map(|column| {
                let scale = declared.scale(subject, column, schema)?;
                let data_type = schema.field_with_name(&column.name)?.data_type().clone();
                Ok(TimeLimit { column: column.name.clone(), data_type, scale, first_hidden: scale.first_hidden(earlier) })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { horizon, limits, delay_us })
    }

    /// Whether this file may hold a visible row. Files without rows, which some writers leave behind, are not opened.
    pub(crate) fn admits_some(&self, file: &FileEntry) -> bool {
        file.rows > 0 && self.limits.iter().zip([file.event, file.known]).all(|(limit, bounds)| limit.admits_some(bounds))
    }

    /// Are all facts of this file visible that will ever be? A fact without a time never is. False if the times are unknown, and for a
    /// timeless table.
    pub(crate) fn admits_all(&self, file: &FileEntry) -> bool {
        let admits = |(limit, bounds): (&TimeLimit, Option<Bounds>)| bounds.is_some_and(|b| !b.is_empty() && limit.admits(b.max));
        !self.limits.is_empty() && self.limits.iter().zip([file.event, file.known]).all(admits)
    }

    /// The rule as a filter: every time is not NULL and below its threshold. `None` for a timeless table.
    pub(crate) fn filter(&self) -> Result<Option<Expr>> {
        let mut whole: Option<Expr> = None;
        for limit in &self.limits {
            let column = ident(&limit.column);
            let part = match limit.first_hidden {
                Some(hidden) => column.lt(lit(time_literal(&limit.data_type, hidden)?)),
                None => column.is_not_null(),
            };
            whole = Some(match whole {
                Some(before) => before.and(part),
                None => part,
            });
        }
        Ok(whole)
    }

    /// How event times are stored. Those that lookups give a timeless table are in microseconds.
    pub(crate) fn event_scale(&self) -> TimeScale {
        self.limits.first().map_or(TimeScale::UTC_MICROS, |limit| limit.scale)
    }

    /// The time columns' positions in a schema.
    pub(crate) fn positions(&self, schema: &Schema) -> Result<Vec<usize>> {
        self.limits.iter().map(|limit| Ok(schema.index_of(&limit.column)?)).collect()
    }

    /// The rule as `EXPLAIN` shows it.
    pub(crate) fn shown(&self) -> String {
        let Some(event) = self.limits.first() else { return "timeless".to_owned() };
        let operator = if self.horizon.cutoff == Cutoff::Inclusive { "<=" } else { "<" };
        let as_of = self.horizon.shown_as_of();
        let compared = |what: &str| match &as_of {
            Some(as_of) => format!("{what} {operator} {as_of}"),
            None => format!("{what} is not NULL"),
        };
        let mut parts: Vec<_> = self.limits.iter().map(|limit| compared(&limit.column)).collect();
        if let Some(delay) = self.delay_us.filter(|delay| *delay > 0 && as_of.is_some()) {
            parts.push(compared(&format!("{} + {}", event.column, shown_span(delay))));
        }
        parts.join(" and ")
    }
}

/// A stored value as a literal of its column's type.
pub(crate) fn time_literal(data_type: &DataType, value: i64) -> Result<ScalarValue> {
    Ok(match data_type {
        DataType::Int64 => ScalarValue::Int64(Some(value)),
        // A threshold beyond the range of days hides nothing, and one before it hides everything, so both may saturate.
        DataType::Date32 => {
            ScalarValue::Date32(Some(i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })))
        }
        DataType::Timestamp(unit, zone) => match unit {
            ArrowUnit::Second => ScalarValue::TimestampSecond(Some(value), zone.clone()),
            ArrowUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(value), zone.clone()),
            ArrowUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(value), zone.clone()),
            ArrowUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(value), zone.clone()),
        },
        other => {
            return Err(Error::Internal {
                subject: "comparing a time column".into(),
                reason: format!("it is {other}, which holds no times"),
            });
        }
    })
}
