//! Columns that are added to the rows of a set's query: features drawn from sets of entities, and labels that lie ahead.
//! The operators of `temporal` compute both, at each row's own instant.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{Result as DfResult, ScalarValue},
    error::DataFusionError,
    functions_window::expr_fn::row_number,
    logical_expr::{ColumnarValue, Expr, ExprFunctionExt, Volatility, cast, create_udf, lit, when},
    prelude::{DataFrame, ident},
};

use super::{SetFacts, entities::instants};
use crate::{
    catalog::{FactTable, FactTimes, KnownAt},
    engine::Engine,
    error::{Error, Result},
    feature_set::{Ahead, FactsOf, RowSet, Source, event_time_column, lookups_and_windows},
    name::SetName,
    scan::VisibleTable,
    temporal::{Facts, Lookup, Spine, Window},
    time::{AsOf, TimeScale, instant_type},
};

/// Hidden columns, which no query can name without quotes.
const SERVED_AT: &str = "asof: served at";
const VERSION: &str = "asof: version";
const NEXT_AT: &str = "asof: next at";

/// A longer time between refreshes counts as this one, which no two instants are apart: 73,000 years.
const EVERY_AT_MOST_US: i64 = 1 << 61;

/// When the sets that are drawn on are materialized for serving: at `first`, and `every_us` microseconds, which is positive, before and
/// after it, again and again. A row sees the values of the last materialization at or before its instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refreshes {
    pub(crate) first: AsOf,
    pub(crate) every_us: i64,
}

/// When the values were computed that rows see instead of those of their own instant: at `first`, an expression over the rows in
/// microseconds, and every so often before and after it.
pub(crate) struct Served {
    pub(super) first: Expr,
    pub(super) every_us: i64,
}

impl From<Refreshes> for Served {
    fn from(Refreshes { first, every_us }: Refreshes) -> Self {
        Self { first: lit(first.micros()), every_us }
    }
}

/// The facts that a set of rows draws on or looks ahead in.
pub(crate) async fn facts_of_rows(engine: &Engine, name: &SetName, set: &RowSet, tables: &[VisibleTable]) -> Result<SetFacts> {
    let drawn = set.drawn.iter().flat_map(|drawn| {
        drawn.sources().into_iter().filter_map(|(source, _)| drawn.facts_of_source.get(source).copied()).collect::<Vec<_>>()
    });
    let used: Vec<FactsOf> = drawn.chain(set.ahead.iter().map(|ahead| ahead.facts_of)).collect();
    SetFacts::open(engine, &format!("feature set `{name}`"), &set.views, &used, tables).await
}

/// Adds the drawn features, as of each row's own instant; or, with refreshes, as a service would have had them.
pub(crate) fn add_drawn(rows: DataFrame, set: &RowSet, facts: &SetFacts, served: Option<Served>) -> Result<DataFrame> {
    if set.drawn.is_empty() {
        return Ok(rows);
    }
    let before: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
    let (rows, at) = match &served {
        None => (rows, set.at()),
        Some(served) => (rows.with_column(SERVED_AT, served.last_before(set.at())?)?, SERVED_AT),
    };
    // Sources of all sets, numbered through.
    let mut sources: Vec<(Source, &Facts, crate::time::Cutoff)> = Vec::new();
    for drawn in &set.drawn {
        for (source, drawn_source) in drawn.sources() {
            let of = drawn.facts_of_source.get(source).copied().unwrap_or(FactsOf::Table(0));
            sources.push((drawn_source, facts.of(of)?, drawn.set.cutoff));
        }
    }
    let is_aging = |source: &Source| served.is_some() && source.max_age_us.is_some() && !source.lookups.is_empty();
    let mut inputs = Vec::with_capacity(sources.len());
    for (number, (source, facts, cutoff)) in sources.iter().enumerate() {
        inputs.push((source, (*facts).clone(), *cutoff, is_aging(source).then_some(number)));
    }
    let rows = lookups_and_windows(Spine::new(rows, at), &inputs)?.into_rows();
    // A value that is served ages until the instant of the row.
    let mut values: Vec<(String, Expr)> = Vec::new();
    for (number, (source, facts, _)) in sources.iter().enumerate() {
        for (_, name) in &source.lookups {
            let value = match (is_aging(source), source.max_age_us) {
                (true, Some(age)) => {
                    let (oldest, scale) = (ident(set.at()) - micros(age), facts.event_scale()?);
                    when(event_instant(&rows, number, scale)?.gt_eq(oldest), ident(name)).end()?
                }
                _ => ident(name),
            };
            values.push((name.clone(), value));
        }
        for aggregate in source.windows.iter().flat_map(|(_, aggregates)| aggregates) {
            values.push((aggregate.output().to_owned(), ident(aggregate.output())));
        }
    }
    // Features in the order of the definition, whatever operator made them.
    let names = set.drawn.iter().flat_map(|drawn| drawn.outputs().into_iter().map(|(_, name)| name));
    let features = names.filter_map(|name| {
        let found = values.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone().alias(name))
    });
    Ok(rows.select(before.into_iter().chain(features).collect::<Vec<_>>())?)
}

impl Served {
    /// The instant of the last refresh at or before this column's. The instant of a row may lie before the fold's as-of; then it is
    /// one before that.
    fn last_before(&self, at: &str) -> Result<Expr> {
        let number = |expr: Expr| cast(cast(expr, instant_type()), DataType::Int64);
        let every = lit(self.every_us.min(EVERY_AT_MOST_US));
        let since = number(ident(at)) - self.first.clone();
        // The remainder has the sign of `since`.
        let rest = since.clone() % every.clone();
        let rest = when(rest.clone().lt(lit(0_i64)), rest.clone() + every).otherwise(rest)?;
        Ok(cast(since - rest + self.first.clone(), instant_type()))
    }
}

/// Adds the labels that lie ahead, and leaves out the rows whose labels are not known at `as_of`.
pub(super) fn add_ahead(name: &SetName, mut rows: DataFrame, set: &RowSet, facts: &SetFacts, as_of: AsOf) -> Result<DataFrame> {
    for (number, ahead) in set.ahead.iter().enumerate() {
        let table = facts.of(ahead.facts_of)?;
        if table.is_timeless() {
            let labels = ahead.labels().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            let reason = format!("its labels {labels} lie ahead in `{}`, which is timeless: nothing happens in it", ahead.table);
            return Err(Error::Definition { subject: format!("feature set `{name}`"), reason });
        }
        let settle_us = settle_of(name, ahead, table.declared())?;
        let facts = in_hindsight(table)?;
        for (window, (length_us, aggregates)) in ahead.windows.iter().enumerate() {
            let kept: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
            let end = format!("asof: end {number}.{window}");
            let known_by = as_of.micros().saturating_sub(settle_us);
            rows = rows.with_column(&end, ident(set.at()) + micros(*length_us))?;
            rows = rows.filter(ident(&end).lt_eq(instant(AsOf::from_micros(known_by))))?;
            let mut over = Window::of(facts.clone());
            for (of_rows, of_table) in &ahead.on {
                over = over.on_columns(of_rows, of_table);
            }
            let over = over.trailing(chrono::TimeDelta::microseconds(*length_us), aggregates.clone());
            let labels = aggregates.iter().map(|aggregate| ident(aggregate.output()));
            let in_set = |e: Error| e.in_place(&format!("feature set `{name}`"));
            let labelled = Spine::new(rows, end.as_str()).window([over]).map_err(in_set)?.into_rows();
            rows = labelled.select(kept.into_iter().chain(labels).collect::<Vec<_>>())?;
        }
        if !ahead.next.is_empty() {
            let kept: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
            let mut next = Lookup::of(facts.clone()).forward();
            for (of_rows, of_table) in &ahead.on {
                next = next.on_columns(of_rows, of_table);
            }
            for (column, label) in &ahead.next {
                next = next.column_as(column, label);
            }
            let next_at = format!("{NEXT_AT} {number}");
            let next = next.column_as(&facts.declared().fact_times(facts.subject())?.event.name, &next_at);
            let labels = ahead.next.iter().map(|(_, label)| ident(label));
            let labelled = Spine::new(rows, set.at()).lookup([next])?.into_rows().filter(ident(&next_at).is_not_null())?;
            rows = labelled.select(kept.into_iter().chain(labels).collect::<Vec<_>>())?;
        }
    }
    Ok(rows)
}

/// How long after its end a window of labels waits for its facts.
fn settle_of(name: &SetName, ahead: &Ahead, declared: &FactTable) -> Result<i64> {
    match (ahead.settle_us, &declared.fact_times(&format!("table `{}`", ahead.table))?.known_at) {
        (Some(settle), KnownAt::DelayMicros(delay)) => Ok(settle.max(*delay)),
        (None, KnownAt::DelayMicros(delay)) => Ok(*delay),
        (Some(settle), KnownAt::Column(_)) => Ok(settle),
        // The next fact is known when it is found.
        (None, KnownAt::Column(_)) if ahead.windows.is_empty() => Ok(0),
        (None, KnownAt::Column(column)) => Err(Error::Definition {
            subject: format!("feature set `{name}`"),
            reason: format!(
                "its labels {} count facts of `{}`, which may become known at any time (its known-at is the column `{}`): say with \
                 `Ahead::settle` how long after its end a window waits for them",
                ahead.labels().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", "),
                ahead.table,
                column.name(),
            ),
        }),
    }
}

/// The facts as they are known at the end, each in its latest version, and visible from their event time on.
fn in_hindsight(facts: &Facts) -> Result<Facts> {
    let (mut rows, declared) = (facts.rows().clone(), facts.declared().clone());
    let known: Vec<String> = declared.known_column().map(str::to_owned).into_iter().collect();
    if !declared.identity.is_empty() {
        let latest_first = |name: &str| ident(name).sort(false, false);
        let mut decide: Vec<&str> = known.iter().map(String::as_str).chain(declared.event_column()).collect();
        decide.extend(declared.tie_break.iter().map(String::as_str));
        let mut others: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
        others.sort_unstable();
        let mut order: Vec<_> = decide.iter().map(|name| latest_first(name)).collect();
        order.extend(others.iter().filter(|name| !decide.contains(&name.as_str())).map(|name| latest_first(name)));
        let identity: Vec<Expr> = declared.identity.iter().map(ident).collect();
        let is_unnamed = identity.iter().cloned().map(Expr::is_null).reduce(Expr::or);
        let columns: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
        let number = row_number().partition_by(identity).order_by(order).build()?.alias(VERSION);
        rows = rows.window(vec![number])?;
        let is_latest = ident(VERSION).eq(lit(1_u64));
        rows = rows.filter(is_unnamed.map_or(is_latest.clone(), |is_unnamed| is_unnamed.or(is_latest)))?.select(columns)?;
    }
    let FactTable { times, zone, keys, tie_break, .. } = declared;
    let tie_break = known.into_iter().chain(tie_break).collect();
    let times = times.map(|times| FactTimes { known_at: KnownAt::DelayMicros(0), ..times });
    let declared = FactTable { times, zone, keys, tie_break, identity: Vec::new() };
    Ok(Facts::named(facts.subject(), rows, declared))
}

/// The event time of the fact that a source has looked up, as an instant. Tables store local times, dates and other units, too.
fn event_instant(rows: &DataFrame, source: usize, scale: TimeScale) -> Result<Expr> {
    let column = event_time_column(source);
    let stored = rows.schema().field_with_unqualified_name(&column)?.data_type().clone();
    let convert = move |arguments: &[ColumnarValue]| -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let times = arrays.first().ok_or_else(|| DataFusionError::Internal("an event time is needed".into()))?;
        Ok(ColumnarValue::Array(instants(times, scale).map_err(|e| DataFusionError::External(Box::new(e)))?))
    };
    // The optimizer tells functions apart by their names.
    let name = format!("asof: event instant {source}");
    let function = create_udf(&name, vec![stored], instant_type(), Volatility::Immutable, Arc::new(convert));
    Ok(function.call(vec![ident(column)]))
}

/// An interval of microseconds.
fn micros(us: i64) -> Expr {
    lit(ScalarValue::DurationMicrosecond(Some(us)))
}

/// An instant, to be compared with times.
pub(super) fn instant(at: AsOf) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(at.micros()), Some("UTC".into())))
}
