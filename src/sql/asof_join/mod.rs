//! `ASOF JOIN`: to each row the closest fact. What would need a guess is refused: keys that are not an equality of columns,
//! instants of different kinds, bounds in months.
//!
//! It works in [`FeatureStore::sql`](crate::FeatureStore::sql) and in the query of a set of rows
//! ([`FeatureSet::rows`](crate::FeatureSet::rows)), at any place of a query: in common table expressions, in subqueries, in
//! the arms of a `UNION`. The as-of of the query first restricts every table to what was visible then. The module
//! [`sql`](super) has an example.
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
//! newest row is older, the columns are NULL, as with [`Lookup::max_age`](crate::temporal::Lookup::max_age):
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

mod join_times;
mod marked_joins;
mod match_condition;

use datafusion::{
    logical_expr::{LogicalPlan, ScalarUDF},
    sql::parser::Statement,
};

use super::statement::visit;
use crate::error::{Error, Result};

/// Turns each `ASOF JOIN` of a statement into a `LEFT JOIN` that is marked by a call of [`marker`]. Is there one?
pub(super) fn mark(statement: &mut Statement) -> Result<bool> {
    let mut marking = match_condition::Marking::default();
    visit(statement, &mut marking)?;
    Ok(marking.found)
}

/// The function that marks joins. It is only planned and never called.
pub(super) fn marker() -> ScalarUDF {
    match_condition::marker()
}

/// Replaces the marked joins of a plan by lookups.
pub(super) fn resolve(plan: LogicalPlan) -> Result<LogicalPlan> {
    marked_joins::resolve(plan)
}

fn refused(reason: impl Into<String>) -> Error {
    Error::Definition { subject: "the ASOF JOIN".into(), reason: reason.into() }
}
