//! When the rows of a query could be known, if each of them is a row of one fact table.

use datafusion::{
    logical_expr::Expr,
    prelude::{DataFrame, ident},
};

use super::origin::{self, NotFactRows};
use crate::{
    catalog::{FactTable, KnownAt, TimeColumn},
    error::Result,
};

/// Rows of one fact table, with a column that says when each could be known.
pub(crate) struct KnownRows {
    /// The rows with their columns, and then the column of `known`.
    pub(crate) rows: DataFrame,
    /// The declaration of the table, whose time column is called [`KNOWN_COLUMN`] here: the known-at, or the event time to which
    /// a delay is added.
    pub(crate) known: FactTable,
    /// Whether this column of the rows is the event time of the table as it is.
    pub(crate) is_event_time: bool,
}

/// The name of the column that [`known_rows`] adds.
pub(crate) const KNOWN_COLUMN: &str = "asof: known at";

/// The rows with their known-at; or the reason why they are not rows of one fact table. `event_time` is a column of the rows.
pub(crate) fn known_rows(rows: DataFrame, event_time: &str) -> Result<std::result::Result<KnownRows, String>> {
    let (state, plan) = rows.into_parts();
    let own: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let found = match origin::rows(&plan)? {
        Ok(found) => found,
        Err(NotFactRows::Written) => return Ok(Err("it reads no table".into())),
        Err(NotFactRows::Made(how)) => return Ok(Err(how.to_owned())),
    };
    let Some(times) = &found.declared.times else {
        return Ok(Err("its rows are those of a timeless table, which have no instant".into()));
    };
    let position = plan.schema().fields().iter().position(|field| field.name() == event_time);
    let is_event_time = position.and_then(|at| found.name_of(at)) == Some(times.event.name());
    let time = match &times.known_at {
        KnownAt::Column(column) => column,
        KnownAt::DelayMicros(_) => &times.event,
    };
    let Some(position) = found.position_of(time.name()) else {
        return Ok(Err(format!("it does not pass on the column `{}`", time.name())));
    };
    let renamed = TimeColumn { name: KNOWN_COLUMN.into(), unit: time.unit };
    let mut renamed_times = times.clone();
    match &mut renamed_times.known_at {
        KnownAt::Column(column) => *column = renamed,
        KnownAt::DelayMicros(_) => renamed_times.event = renamed,
    }
    let known = FactTable { times: Some(renamed_times), ..found.declared.clone() };
    let column = found.plan.schema().columns().into_iter().nth(position).map_or_else(|| ident(KNOWN_COLUMN), Expr::Column);
    let rows =
        DataFrame::new(state, found.plan).select(own.into_iter().chain([column.alias(KNOWN_COLUMN)]).collect::<Vec<_>>())?;
    Ok(Ok(KnownRows { rows, known, is_event_time }))
}

/// Rows of one fact table, with all times of their facts in hidden columns.
pub(crate) struct TimedRows {
    /// The rows with their columns, and then those of the times.
    pub(crate) rows: DataFrame,
    /// The declaration of the table, with the names of the hidden columns.
    pub(crate) times: FactTable,
    /// Whether the column that was asked about is the event time of the table as it is. A scan then skips files by it.
    pub(crate) is_event_time: bool,
}

/// The rows with all times of their facts; `None` if they are not rows of one fact table; those of a timeless table are not.
/// `event_time` is a column of the rows.
pub(crate) fn rows_with_times(rows: DataFrame, event_time: &str) -> Result<Option<TimedRows>> {
    let (state, plan) = rows.into_parts();
    let own: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let Ok(found) = origin::rows(&plan)? else { return Ok(None) };
    if found.declared.is_timeless() {
        return Ok(None);
    }
    let position = plan.schema().fields().iter().position(|field| field.name() == event_time);
    let is_event_time = position.and_then(|at| found.name_of(at)).is_some_and(|name| found.declared.event_column() == Some(name));
    let all = found.plan.schema().columns();
    let mut columns = Vec::new();
    for time in found.declared.time_columns() {
        let column = found.position_of(time.name()).and_then(|position| all.get(position).cloned());
        let Some(column) = column else { return Ok(None) };
        columns.push(Expr::Column(column).alias(time_of_fact(time.name())));
    }
    let times = found.declared_as(time_of_fact);
    let rows = DataFrame::new(state, found.plan).select(own.into_iter().chain(columns).collect::<Vec<_>>())?;
    Ok(Some(TimedRows { rows, times, is_event_time }))
}

/// The hidden column with a time of each row's fact.
fn time_of_fact(column: &str) -> String {
    format!("asof: time {column}")
}
