//! `trailing`: aggregates over windows of facts that end at each row. What would need a guess is refused: lengths in months without
//! a zone, and instants that no table declares how to read.
//!
//! It works wherever [`ASOF JOIN`](super::asof_join) works, and the module [`sql`](super) has an example.
//!
//! ```sql
//! trailing(spine, instant, facts, keys, length, aggregates [, length, aggregates ...] [, cutoff => 'inclusive'])
//! ```
//!
//! A table function. It returns the rows of `spine` with a column for each aggregate. An aggregate is over the facts of the
//! row's entity that were visible strictly before its instant and happened in `[instant - length, instant)`. To order the rows,
//! order the result: as everywhere in SQL, an `ORDER BY` in a subquery orders nothing. It is
//! [`Spine::window`](crate::temporal::Spine::window) over tables of the catalog, with all that `facts` declares: known-at or delay, zone,
//! identity, tie-breaks.
//!
//! | argument | is | example |
//! |---|---|---|
//! | `spine` | a table, a common table expression, or a subquery | `rides`, `'sales.rides'`, `(SELECT zone, at FROM rides)` |
//! | `instant` | its column of instants; zone-less ones are read by the zone of the table that they come from | `pickup_at`, `'pickup_at'` |
//! | `facts` | a table of the catalog | `nyc_taxi`, `'nyc_taxi'` |
//! | `keys` | a text: columns of both tables, or pairs *spine = facts* | `'zone = pickup_zone, vendor'` |
//! | `length` | a text: an interval of fixed length, a [span of a zone's calendar](crate::WindowLength#where-a-calendar-window-begins), a [span that has ended](crate::WindowLength#spans-that-have-ended), a [number of facts](crate::WindowLength#which-facts-a-number-of-facts-are), the facts [since the last one of a kind](crate::WindowLength#since-the-last-fact-of-a-kind), or `all` for everything before | `'7 days'`, `'1 hour 30 minutes'`, `'this month in Europe/Berlin'`, `'3 months in Europe/Berlin'`, `'tumbling 1 day in Europe/Berlin'`, `'hopping 7 days every 1 day in UTC'`, `'10 facts'`, `'10 facts within 30 days'`, `'since event = ''purchase'''`, `'at most 30 days since event = ''purchase'''` |
//! | `aggregates` | a text: as below, by commas | `'count(*) AS n, avg(fare) FILTER (WHERE tip > 0) AS m'` |
//! | `cutoff` | `'inclusive'`: facts at the instant itself count too, the window is `[instant - length, instant]` | `cutoff => 'inclusive'` |
//!
//! To use an expression as the instant or as a key, make it a column of a subquery. A zone-less instant that comes from no
//! table with a zone is refused, as in `ASOF JOIN`.
//!
//! The table of [`Aggregate`](crate::Aggregate) lists the aggregates and their names in SQL, such as `avg(x)` or `last_k(x,
//! 3)`. `x` and `y` are columns of the facts or expressions over the columns of a fact, as in `sum(price * quantity)`: an
//! [`Expression`](crate::Expression). An aggregate may have a `FILTER (WHERE ...)` over the columns of the facts and a name,
//! `AS n`. Names are lower case unless in double quotes.
//!
//! `max_by(x, y)` and `min_by(x, y)` take the newest of several facts with the largest or smallest y, and pass over those with a
//! NULL. In a query the functions of these names have no times to go by: they take the largest or smallest x, which may be NULL.

mod call;
mod text_arguments;

use std::sync::Arc;

use datafusion::{
    common::{Result as DfResult, TableReference},
    dataframe::DataFrame,
    datasource::provider_as_source,
    execution::SessionState,
    logical_expr::{
        LogicalPlan, LogicalPlanBuilder,
        planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning},
    },
    prelude::SessionContext,
    sql::{parser::Statement, sqlparser::ast::TableFactor},
};

use self::{
    call::{Call, CallNormalizer, TableNames},
    text_arguments::{aggregates, key_pairs, length},
};
use super::{origin::reading, statement::visit};
use crate::{
    catalog::{FactTable, TimeColumn},
    error::{Error, Result},
    name::TableName,
    scan::Sources,
    temporal::{Facts, Spine, Window},
    time::is_local,
};

const NAME: &str = "trailing";
const USAGE: &str = "write trailing(spine, instant, facts, 'keys', 'length', 'aggregates' [, 'length', 'aggregates' ...] \
                     [, cutoff => 'inclusive'])";

fn refused(reason: impl Into<String>) -> Error {
    Error::Definition { subject: format!("`{NAME}`"), reason: reason.into() }
}

/// The tables that a statement names in the arguments of `trailing`. The calls are removed from the statement, so that it names
/// tables only as DataFusion expects it.
pub(super) fn take_tables(statement: &mut Statement) -> Result<Vec<TableName>> {
    let mut taking = TableNames::default();
    visit(statement, &mut taking)?;
    Ok(taking.into_names())
}

/// Rewrites calls of table functions in a statement for the planner.
pub(super) fn normalize(statement: &mut Statement) -> Result<()> {
    visit(statement, &mut CallNormalizer)
}

/// Registers `trailing` with a session, over these tables.
///
/// # Errors
/// [`Error::Query`] if the session cannot plan SQL.
pub(super) fn register(session: &SessionContext, sources: Sources) -> Result<()> {
    let trailing = Trailing { sources, state: session.state() };
    Ok(session.register_relation_planner(Arc::new(trailing))?)
}

/// The planner of calls, with the tables that a query may name.
#[derive(Debug)]
struct Trailing {
    sources: Sources,
    state: SessionState,
}

impl RelationPlanner for Trailing {
    fn plan_relation(&self, mut relation: TableFactor, context: &mut dyn RelationPlannerContext) -> DfResult<RelationPlanning> {
        let Some(call) = Call::in_relation(&mut relation)? else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let spine = context.plan(call.spine.clone())?;
        let plan = self.plan(spine, call)?;
        let plan = LogicalPlanBuilder::from(plan).alias(NAME)?.build()?;
        let alias = match relation {
            TableFactor::Table { alias, .. } | TableFactor::Function { alias, .. } => alias,
            _ => None,
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

impl Trailing {
    fn plan(&self, rows: LogicalPlan, call: Call) -> Result<LogicalPlan> {
        let Call { at, facts, keys, windows, cutoff, .. } = call;
        let subject = "the spine of `trailing`";
        let schema = rows.schema();
        let Ok((qualifier, field)) = schema.qualified_field_with_unqualified_name(&at) else {
            return Err(Error::unknown_column(subject, &at, schema.as_arrow()));
        };
        // The table that the instants come from declares how they are read.
        let known = schema.index_of_column_by_name(qualifier, &at).and_then(|position| reading(&rows, position));
        let zone = known.and_then(|known| known.zone);
        if is_local(field.data_type()) && zone.is_none() {
            return Err(Error::ColumnType {
                subject: subject.into(),
                column: at.clone(),
                found: field.data_type().to_string(),
                needed: format!(
                    "its times carry no zone, and no table of the catalog declares one; state the zone in a subquery, as in \
                     `{at} AT TIME ZONE 'Europe/Berlin' AS {at}`"
                ),
            });
        }
        let unit = known.and_then(|known| known.unit);
        let mut spine = Spine::new(DataFrame::new(self.state.clone(), rows), TimeColumn { name: at, unit });
        if let Some(zone) = zone {
            spine = spine.zone(zone);
        }

        let (rows, declared) = self.table(&facts)?;
        let mut window = Window::of(Facts::new(&facts.to_string(), rows, declared)).cutoff(cutoff);
        for (of_spine, of_facts) in key_pairs(&keys)? {
            window = window.on_columns(of_spine, of_facts);
        }
        for (span, text) in windows {
            let aggregates = aggregates(&text)?;
            window = match span.trim().eq_ignore_ascii_case("all") {
                true => window.all_before(aggregates),
                false => window.trailing(length(&span)?, aggregates),
            };
        }
        Ok(spine.window([window])?.into_rows().into_unoptimized_plan())
    }

    fn table(&self, wanted: &TableName) -> Result<(DataFrame, FactTable)> {
        let Some((_, table)) = self.sources.iter().find(|(known, _)| known == wanted) else {
            // What the session holds besides fact tables are extracts.
            let schema = self.state.schema_for_ref(TableReference::partial(wanted.database(), wanted.table()));
            if schema.is_ok_and(|schema| schema.table_exist(wanted.table())) {
                return Err(refused(format!(
                    "it takes its facts from a fact table, and `{wanted}` is an extract, which declares no event time; use an extract as \
                     the spine, or name the table that it was made of"
                )));
            }
            let known = self.sources.iter().map(|(known, _)| known.to_string()).collect();
            return Err(Error::UnknownTable { table: wanted.to_string(), known });
        };
        let declared = table.declared().clone();
        if declared.is_timeless() {
            return Err(refused(format!(
                "it takes its facts from a table with an event time, and `{wanted}` is timeless; join it"
            )));
        }
        let source = provider_as_source(Arc::new(table.clone()));
        let plan = LogicalPlanBuilder::scan(TableReference::bare(wanted.table()), source, None)?.build()?;
        Ok((DataFrame::new(self.state.clone(), plan), declared))
    }
}
