//! The temporal operators in SQL: `ASOF JOIN` is a lookup, `trailing` aggregates over windows. What would need a guess is
//! refused: keys that are not an equality of columns, instants of different kinds, windows of months.
//!
//! Both work in [`FeatureStore::sql`](crate::FeatureStore::sql) and in the extract of a set of rows
//! ([`FeatureSet::rows`](crate::FeatureSet::rows)), at any place of a query: in common table expressions, in subqueries, in
//! the arms of a `UNION`. The as-of of the query first restricts every table to what was visible then.
//!
//! # `ASOF JOIN`: the closest fact
//!
//! ```sql
//! SELECT ... FROM a ASOF JOIN b MATCH_CONDITION (a.ts > b.ts) [ON a.k = b.k AND ... | USING (k, ...)]
//! ```
//!
//! One row for each row of `a`, with the columns of `a` and then those of `b`: the row of `b` with the same keys that is
//! closest to `a.ts` on the side that the comparison names, or NULLs when there is none.
//!
//! | condition | the row of `b` |
//! |---|---|
//! | `a.ts > b.ts` | the newest before `a.ts` |
//! | `a.ts >= b.ts` | the newest before `a.ts` or at it |
//! | `a.ts < b.ts` | the next after `a.ts` |
//! | `a.ts <= b.ts` | the next after `a.ts` or at it |
//!
//! The sides of the comparison, and of each `=`, may be swapped. A NULL key or instant matches nothing. Without `ON` and
//! `USING` all rows of `b` are compared; with `USING`, `b.k` remains a column of its own. Of rows with one instant the
//! tie-break columns decide, then all columns of `b` in the order of their names, the larger first: never the order of files.
//!
//! **What could be known.** If the comparison looks backward and the rows of `b` are rows of a table of the catalog, the
//! declaration of the table applies: its known-at column or delay is compared with `a.ts` as the event time is, corrections
//! replace what they correct, and tie-breaks decide. A fare that was not known at `a.ts` is not in the row. `EXPLAIN` shows the
//! rule. It does not matter how the query writes `b`:
//!
//! | `b` is | then |
//! |---|---|
//! | the table, under any alias | its declaration applies |
//! | a subquery or common table expression of selected, renamed or computed columns, filters and `ORDER BY` | the same; columns that the declaration needs are read too |
//! | the same with a filter on columns that a correction may change, if the table declares an identity | refused without `known_at` |
//! | an aggregation, join, `UNION`, `DISTINCT`, `LIMIT`, window function, a table made by `ctas` | refused without `known_at` |
//! | rows written in the query, `VALUES` | the written times are compared |
//!
//! `known_at` wraps the time of `b` and says when its rows could be known, if no declaration does:
//!
//! ```sql
//! ... ASOF JOIN daily AS d MATCH_CONDITION (a.ts > known_at(d.day, d.computed_at))       -- at a column
//! ... ASOF JOIN daily AS d MATCH_CONDITION (a.ts > known_at(d.day, INTERVAL '26 hours')) -- so long after d.day
//! ... ASOF JOIN daily AS d MATCH_CONDITION (a.ts > known_at(d.day, d.day))               -- at once
//! ```
//!
//! Another column than the event time may be compared. It replaces the event time, and the declared known-at still applies.
//! Looking forward (`<`, `<=`) reads the future of `a.ts`, although never beyond the as-of of the query. It is for labels, not
//! for features, and takes no known-at.
//!
//! **Max age.** A second comparison in the condition limits how old the row of `b` may be. A row exactly as old counts. If the
//! newest row is older, the columns are NULL, as with [`Lookup::max_age`](super::Lookup::max_age):
//!
//! ```sql
//! ... MATCH_CONDITION (a.ts > b.ts AND b.ts >= a.ts - INTERVAL '7 days')
//! ... MATCH_CONDITION (a.ts < b.ts AND b.ts <= a.ts + INTERVAL '1 hour')   -- looking forward
//! ```
//!
//! **Instants** are both timestamps or dates, of any unit and compared exactly, or both `BIGINT`, compared as numbers. (The
//! unit that a catalog table declares for its epochs counts: two declared units are converted, and epochs of a declared unit
//! can be compared with timestamps.) A time without a zone is read by the clock that its table declares, on both sides and
//! through subqueries, joins, groups, `max(t)` and `t + INTERVAL '1 hour'`. A time that comes from no such table is refused and
//! never read as UTC: write `t AT TIME ZONE 'Asia/Tokyo' AS t` in a subquery. Only if neither side has a declared zone are the
//! times compared as they are written.
//!
//! `ON` takes no filters and inequalities. They would restrict the rows of `b`, so write them in a subquery,
//! `ASOF JOIN (SELECT * FROM b WHERE ...) AS b`.
//!
//! A `WHERE` is applied after the join, as everywhere. A condition on `a` alone is cheaper in a subquery of `a`.
//!
//! # `trailing`: aggregates over windows
//!
//! ```sql
//! trailing(spine, instant, facts, keys, length, aggregates [, length, aggregates ...] [, cutoff => 'inclusive'])
//! ```
//!
//! A table function. It returns the rows of `spine` with a column for each aggregate. An aggregate is over the facts of the
//! row's entity that were visible strictly before its instant and happened in `[instant - length, instant)`. To order the rows,
//! order the result: as everywhere in SQL, an `ORDER BY` in a subquery orders nothing. It is
//! [`Spine::window`](super::Spine::window) over tables of the catalog, with all that `facts` declares: known-at or delay, zone,
//! identity, tie-breaks.
//!
//! | argument | is | example |
//! |---|---|---|
//! | `spine` | a table, a common table expression, or a subquery | `rides`, `'sales.rides'`, `(SELECT zone, at FROM rides)` |
//! | `instant` | its column of instants; zone-less ones are read by the zone of the table that they come from | `pickup_at`, `'pickup_at'` |
//! | `facts` | a table of the catalog | `nyc_taxi`, `'nyc_taxi'` |
//! | `keys` | a text: columns of both tables, or pairs *spine = facts* | `'zone = pickup_zone, vendor'` |
//! | `length` | a text: an interval of fixed length, or `all` for everything before | `'7 days'`, `'1 hour 30 minutes'` |
//! | `aggregates` | a text: as below, by commas | `'count(*) AS n, avg(fare) FILTER (WHERE tip > 0) AS m'` |
//! | `cutoff` | `'inclusive'`: facts at the instant itself count too, the window is `[instant - length, instant]` | `cutoff => 'inclusive'` |
//!
//! To use an expression as the instant or as a key, make it a column of a subquery. A zone-less instant that comes from no
//! table with a zone is refused, as in `ASOF JOIN`.
//!
//! The table of [`Aggregate`](super::Aggregate) lists the aggregates and their names in SQL, such as `avg(x)` or `last_k(x,
//! 3)`. `x` is a column of the facts. An aggregate may have a `FILTER (WHERE ...)` over the columns of the facts and a name,
//! `AS n`. Names are lower case unless in double quotes.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use asof::{AsOf, FeatureStore, catalog::{FactTable, KnownAt}, ingest::Ingest};
//! use datafusion::arrow::util::pretty::pretty_format_batches;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
//! // Rides, whose fare is known when they end, and requests, known at once.
//! std::fs::write(path("rides.csv"), "\
//! began,ended,zone,fare
//! 2014-11-03T08:00:00Z,2014-11-03T08:20:00Z,161,9.5
//! 2014-11-03T08:30:00Z,2014-11-03T09:10:00Z,161,31.5
//! ")?;
//! std::fs::write(path("requests.csv"), "\
//! at,zone
//! 2014-11-03T09:00:00Z,161
//! 2014-11-03T10:00:00Z,161
//! ")?;
//! let store = FeatureStore::open("memory://sql").await?;
//! let rides = FactTable::new("began", KnownAt::column("ended"));
//! let requests = FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero()));
//! store.ingest(&Ingest::new("rides", rides)?.from(path("rides.csv"))).await?;
//! store.ingest(&Ingest::new("requests", requests)?.from(path("requests.csv"))).await?;
//!
//! let as_of: AsOf = "2014-12-01".parse()?;
//! // At nine the ride of half past eight is under way: its fare is not known.
//! let last = "SELECT q.at, r.fare FROM requests AS q \
//!             ASOF JOIN rides AS r MATCH_CONDITION (q.at > r.began) ON q.zone = r.zone ORDER BY q.at";
//! let rows = store.sql(last, as_of).await?.collect().await?;
//! assert_eq!(pretty_format_batches(&rows)?.to_string(), "\
//! +----------------------+------+
//! | at                   | fare |
//! +----------------------+------+
//! | 2014-11-03T09:00:00Z | 9.5  |
//! | 2014-11-03T10:00:00Z | 31.5 |
//! +----------------------+------+");
//!
//! let window = "SELECT at, rides, mean_fare FROM trailing('requests', 'at', 'rides', 'zone', \
//!               '1 day', 'count(*) AS rides, avg(fare) AS mean_fare') ORDER BY at";
//! let rows = store.sql(window, as_of).await?.collect().await?;
//! assert_eq!(pretty_format_batches(&rows)?.to_string(), "\
//! +----------------------+-------+-----------+
//! | at                   | rides | mean_fare |
//! +----------------------+-------+-----------+
//! | 2014-11-03T09:00:00Z | 1     | 9.5       |
//! | 2014-11-03T10:00:00Z | 2     | 20.5      |
//! +----------------------+-------+-----------+");
//! # Ok(())
//! # }
//! ```

use std::{ops::ControlFlow, sync::Arc};

use datafusion::{
    common::tree_node::TreeNodeRecursion,
    dataframe::DataFrame,
    logical_expr::LogicalPlan,
    prelude::SessionContext,
    sql::{
        parser::Statement,
        sqlparser::ast::{Ident, Statement as SqlStatement, VisitMut, VisitorMut},
    },
};

use super::planner;
use crate::{
    error::{Error, Result},
    name::TableName,
    scan::Sources,
};

mod asof_join;
mod join_times;
mod length;
mod match_condition;
mod origin;
mod trailing;

/// The tables that a statement names in the arguments of `trailing`. The calls are removed from the statement, so that it names
/// tables only as DataFusion expects it.
pub(crate) fn take_tables(statement: &mut Statement) -> Result<Vec<TableName>> {
    let mut taking = trailing::TableNames::default();
    visit(statement, &mut taking)?;
    Ok(taking.into_names())
}

/// Registers `trailing` with a session, over these tables.
///
/// # Errors
/// [`Error::Query`] if the session cannot plan SQL.
pub(crate) fn register(session: &SessionContext, sources: Sources) -> Result<()> {
    let trailing = trailing::Trailing::over(sources, session.state());
    Ok(session.register_relation_planner(Arc::new(trailing))?)
}

/// Plans one statement.
pub(crate) async fn plan(session: &SessionContext, mut statement: Statement) -> Result<LogicalPlan> {
    let state = session.state();
    visit(&mut statement, &mut trailing::CallNormalizer)?;
    let mut marking = match_condition::Marking::default();
    visit(&mut statement, &mut marking)?;
    if !marking.found {
        return Ok(state.statement_to_plan(statement).await?);
    }
    session.register_udf(match_condition::marker());
    let plan = session.state().statement_to_plan(statement).await?;
    asof_join::resolve(plan)
}

/// The rows of a plan from [`plan`]. A plan without our operators runs as DataFusion runs it.
pub(crate) async fn rows(session: &SessionContext, plan: LogicalPlan) -> Result<DataFrame> {
    let mut has_operators = false;
    plan.apply_with_subqueries(|node| {
        has_operators |= matches!(node, LogicalPlan::Extension(_));
        Ok(if has_operators { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    match has_operators {
        true => Ok(DataFrame::new(planner::extended(session.state()), plan)),
        false => Ok(session.execute_logical_plan(plan).await?),
    }
}

/// Visits the query that a statement holds.
pub(crate) fn visit<V: VisitorMut<Break = Error>>(statement: &mut Statement, visitor: &mut V) -> Result<()> {
    match statement {
        Statement::Explain(explain) => visit(&mut explain.statement, visitor),
        Statement::Statement(inner) => match SqlStatement::visit(inner, visitor) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        },
        // These are not queries. They are refused once they are planned.
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => Ok(()),
    }
}

/// The name that an identifier stands for.
fn name(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}
