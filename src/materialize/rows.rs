//! The query of a set of rows: its SQL over the declared tables, cut at the as-of, and the order of its rows.
//! Nothing is learned or encoded here.

use std::future::ready;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::prelude::{DataFrame, ident};
use futures::{StreamExt, TryStreamExt};

use super::{
    drawn::{Refreshes, add_ahead, add_drawn, facts_of_rows, instant},
    instant_check::InstantCheck,
    row_order::{RowOrder, Rows},
    scored::NumberedSpans,
};
use crate::{
    catalog::FactTable,
    encoder::Spec,
    engine::{Engine, Parallelism},
    error::{Error, Result, in_one_line},
    feature_set::{RowSet, field_of, reads_encoder},
    name::SetName,
    scan::{AsOfTable, VisibleTable},
    sql::{TimedRows, has_subquery, known_rows, plan_is_rowwise, query, rows_with_times},
    time::{AsOf, Cutoff, Span},
    workspace::plain_rows,
};

/// The query of a set of rows, as of a horizon.
pub(crate) struct RowQuery<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) name: &'a SetName,
    pub(crate) set: &'a RowSet,
    /// The tables of the set as of the horizon.
    pub(crate) tables: &'a [VisibleTable],
    pub(crate) as_of: AsOf,
    /// For scoring: only rows whose event time lies in it.
    pub(crate) span: Option<Span>,
    /// Features as a service would have had them, instead of those at each row's own instant.
    pub(crate) served: Option<Refreshes>,
}

/// The rows of a set, before any is selected or encoded.
pub(crate) struct PlannedRows<'a> {
    engine: &'a Engine,
    rows: DataFrame,
    order: RowOrder,
    /// To be applied to every batch.
    check: Option<InstantCheck>,
    /// How the times of the facts are called, if they were asked for.
    times: Option<FactTable>,
}

impl PlannedRows<'_> {
    /// The declaration of the rows' table with the names of the hidden columns, if its times were asked for.
    pub(super) fn times(&self) -> Option<FactTable> {
        self.times.clone()
    }

    /// The rows in the order of a materialization, and their schema.
    pub(crate) async fn in_order(self) -> Result<(SchemaRef, Rows)> {
        let (schema, rows) = self.order.sort(self.engine, self.rows).await?;
        Ok((schema, checked(rows, self.check)))
    }

    /// The rows in any order, their schema, and the order that they are to get.
    pub(super) async fn in_any_order(self) -> Result<(SchemaRef, Rows, RowOrder)> {
        let (schema, rows) = plain_rows(self.rows.execute_stream().await?);
        Ok((schema, checked(rows, self.check), self.order))
    }
}

fn checked(rows: Rows, check: Option<InstantCheck>) -> Rows {
    match check {
        None => rows,
        Some(check) => rows.and_then(move |batch| ready(check.apply(&batch).map(|()| batch))).boxed(),
    }
}

impl RowQuery<'_> {
    /// Plans the query, and adds what is drawn and what lies ahead.
    pub(crate) async fn rows(&self) -> Result<PlannedRows<'_>> {
        let rows = self.of_query().await?;
        self.planned(rows, None, None).await
    }

    /// As [`RowQuery::rows`], with the times of the fact of each row in hidden columns; `None` if a row need not come from one fact, or
    /// if its labels depend on the as-of.
    pub(super) async fn rows_with_times(&self) -> Result<Option<PlannedRows<'_>>> {
        let rows = self.of_query().await?;
        let Some(timed) = self.timed(&rows)? else { return Ok(None) };
        Ok(Some(self.planned(rows, Some(timed), None).await?))
    }

    /// As [`RowQuery::rows`], once for each span that a row is scored in, with the number of the span in a hidden column. The query's own
    /// span holds all of them. `None` as for [`RowQuery::rows_with_times`], and if this is not worth it: `is_worth` is told whether a scan
    /// skips files by the event time of the rows.
    pub(super) async fn rows_of_spans(
        &self,
        spans: &NumberedSpans<'_>,
        is_worth: impl FnOnce(bool) -> bool,
    ) -> Result<Option<PlannedRows<'_>>> {
        let rows = self.of_query().await?;
        let Some(timed) = self.timed(&rows)?.filter(|timed| is_worth(timed.is_event_time)) else { return Ok(None) };
        Ok(Some(self.planned(rows, Some(timed), Some(spans)).await?))
    }

    /// The rows with the times of their facts; `None` if a row need not come from one fact, or if its labels depend on the as-of.
    fn timed(&self, rows: &DataFrame) -> Result<Option<TimedRows>> {
        if !self.set.ahead.is_empty() || !plan_is_rowwise(rows.logical_plan())? || has_subquery(rows.logical_plan())? {
            return Ok(None);
        }
        rows_with_times(rows.clone(), &self.set.event_time)
    }

    /// Adds what is drawn and what lies ahead to the rows of the query. Rows of several spans come once for each of them.
    async fn planned(
        &self,
        rows: DataFrame,
        timed: Option<TimedRows>,
        spans: Option<&NumberedSpans<'_>>,
    ) -> Result<PlannedRows<'_>> {
        let Self { engine, name, set, tables, as_of, span, served } = self;
        check(name, set, &rows)?;
        let order = RowOrder::of(rows.schema().as_arrow(), &set.event_time);
        let (rows, times) = match timed {
            Some(TimedRows { rows, times, .. }) => (rows, Some(times)),
            None => (rows, None),
        };
        let (mut rows, check) = self.known_rows(rows)?;
        if let Some(span) = span {
            rows =
                rows.filter(ident(&set.event_time).gt_eq(instant(span.start)).and(ident(&set.event_time).lt(instant(span.end))))?;
        }
        let mut served = served.map(Into::into);
        if let (Some(spans), Some(times)) = (spans, &times) {
            rows = spans.number(rows, &set.event_time, times)?;
            served = spans.served();
        }
        if set.drawn.is_empty() && set.ahead.is_empty() {
            return Ok(PlannedRows { engine, rows, order, check, times });
        }
        let facts = facts_of_rows(engine, name, set, tables).await?;
        let rows = add_ahead(name, rows, set, &facts, *as_of)?;
        Ok(PlannedRows { engine, rows: add_drawn(rows, set, &facts, served)?, order, check, times })
    }

    /// The rows of the SQL.
    async fn of_query(&self) -> Result<DataFrame> {
        let Self { engine, name, set, tables, span, .. } = self;
        let subject = format!("the query of `{name}`");
        let mut sources = Vec::new();
        for table in tables.iter().take(set.query_tables) {
            let table = AsOfTable::open(table).await?;
            sources.push((table.name().clone(), table));
        }
        if sources.iter().all(|(_, table)| table.declared().is_timeless()) {
            let reason =
                "it reads timeless tables alone, whose rows are the same at every as-of; a set of rows needs a table of facts";
            return Err(Error::Definition { subject, reason: reason.into() });
        }
        let in_query = |e: Error| match e {
            Error::Query(cause) => Error::Definition {
                subject: subject.clone(),
                reason: format!("its SQL cannot be planned: {}", in_one_line(&cause)),
            },
            Error::UnknownColumn { column, known, .. } => Error::UnknownColumn { subject: subject.clone(), column, known },
            other => other,
        };
        let rows = query(engine, Parallelism::Full, &subject, sources.clone(), &set.query).await.map_err(in_query)?;
        let is_rowwise = plan_is_rowwise(rows.logical_plan())?;
        if is_rowwise && (span.is_none() || !has_subquery(rows.logical_plan())?) {
            return Ok(rows);
        }
        if span.is_some() {
            let reason = "it joins, aggregates or has a subquery, so a scored row would be made of facts of its own future; a backtest \
                          needs a query whose rows each come from one fact";
            return Err(Error::Definition { subject, reason: reason.into() });
        }
        query(engine, Parallelism::Reproducible, &subject, sources, &set.query).await
    }

    /// The rows with the times at which they were known, if their instants must be compared with these.
    ///
    /// A fact whose event time is the instant is not visible at the instant, unless a drawn set is inclusive. So the comparison is
    /// needed only for other instants.
    fn known_rows(&self, rows: DataFrame) -> Result<(DataFrame, Option<InstantCheck>)> {
        let Self { name, set, .. } = self;
        if set.drawn.is_empty() && set.ahead.is_empty() {
            return Ok((rows, None));
        }
        let refused = |how: &str| Error::Definition {
            subject: format!("the query of `{name}`"),
            reason: format!(
                "{how}; a set that draws on others or has labels ahead needs a query whose rows each come from one fact, so that no \
                 row sees its own future: draw what it joins, aggregates or asks for with `features_of`"
            ),
        };
        if has_subquery(rows.logical_plan())? {
            return Err(refused("it has a subquery in an expression or a condition"));
        }
        if set.drawn.is_empty() {
            return if plan_is_rowwise(rows.logical_plan())? { Ok((rows, None)) } else { Err(refused("it joins or aggregates")) };
        }
        let inclusive = set.drawn.iter().any(|drawn| drawn.set.cutoff == Cutoff::Inclusive);
        let known = known_rows(rows.clone(), set.at())?.map_err(|how| refused(&how))?;
        if known.is_event_time && !inclusive {
            return Ok((rows, None));
        }
        let check = InstantCheck { set: (*name).clone(), at: set.at().to_owned(), known: known.known, inclusive };
        Ok((known.rows, Some(check)))
    }
}

/// Compares the columns that a set names with those of its query, and reports all mistakes at once.
fn check(name: &SetName, set: &RowSet, rows: &DataFrame) -> Result<()> {
    let (subject, schema) = (format!("the query of `{name}`"), rows.schema().as_arrow());
    let mut mistakes = Vec::new();
    match schema.field_with_name(&set.event_time) {
        Err(_) => mistakes.push(Error::unknown_column(&subject, &set.event_time, schema)),
        Ok(event) if !matches!(event.data_type(), DataType::Timestamp(_, Some(_))) => mistakes.push(Error::ColumnType {
            subject: subject.clone(),
            column: set.event_time.clone(),
            found: event.data_type().to_string(),
            needed: "the event time must be a timestamp with a zone; tables loaded by `ingest` have one".into(),
        }),
        Ok(_) => {}
    }
    if let Some(at) = &set.at {
        match schema.field_with_name(at) {
            Err(_) => mistakes.push(Error::unknown_column(&subject, at, schema)),
            Ok(field) if !matches!(field.data_type(), DataType::Timestamp(_, Some(_))) => mistakes.push(Error::ColumnType {
                subject: subject.clone(),
                column: at.clone(),
                found: field.data_type().to_string(),
                needed: "an instant must be a timestamp with a zone".into(),
            }),
            Ok(_) => {}
        }
    }
    let added: Vec<String> = set.added().collect();
    for column in added.iter().filter(|column| schema.field_with_name(column).is_ok()) {
        let reason = format!(
            "it has a column `{column}`, and a drawn feature or a label ahead is called so too; name one of them differently, a drawn \
             feature with `prefixed`"
        );
        mistakes.push(Error::Definition { subject: subject.clone(), reason });
    }
    let keys = set.drawn.iter().flat_map(|drawn| &drawn.by).chain(set.ahead.iter().flat_map(|a| a.on.iter().map(|(key, _)| key)));
    mistakes
        .extend(keys.filter(|key| schema.field_with_name(key).is_err()).map(|key| Error::unknown_column(&subject, key, schema)));
    let labels = set.labels.iter().filter(|label| schema.field_with_name(label).is_err() && !added.contains(label));
    mistakes.extend(labels.map(|label| Error::unknown_column(&subject, label, schema)));
    let mut known: Vec<Field> = Vec::new();
    let mut needs = |inputs: &[Field], mistakes: &mut Vec<Error>| {
        for input in inputs {
            // The type of an added column is checked when it has been added.
            if !known.contains(input) && !added.contains(input.name()) {
                mistakes.extend(field_of(&subject, schema, input).err().map(|e| with_columns(e, &added)));
                known.push(input.clone());
            }
        }
    };
    for selection in &set.selections {
        needs(&selection.spec().inputs, &mut mistakes);
    }
    let specs: Vec<Spec> = set.encoders.iter().map(|e| e.spec()).collect();
    for (i, spec) in specs.iter().enumerate() {
        let before: Vec<&Spec> = specs[..i].iter().collect();
        for input in spec.inputs.iter().chain(&spec.learned_from) {
            let Some(encoder) = reads_encoder(&before, input.name()) else {
                let is_made_by = |spec: &&Spec| spec.outputs.iter().any(|output| output.name() == input.name());
                let is_there = schema.field_with_name(input.name()).is_ok() || added.contains(input.name());
                match specs.iter().skip(i + 1).find(is_made_by) {
                    Some(later) if !is_there => {
                        let (own, column, later) = (&spec.name, input.name(), &later.name);
                        let reason = format!(
                            "the encoder `{own}` reads `{column}`, which `{later}` after it makes: add `{later}` before it"
                        );
                        mistakes.push(Error::Definition { subject: format!("feature set `{name}`"), reason });
                    }
                    _ => needs(std::slice::from_ref(input), &mut mistakes),
                }
                continue;
            };
            if schema.field_with_name(input.name()).is_ok() || added.contains(input.name()) {
                let reason = format!(
                    "the encoder `{}` reads `{}`, which is a column of the rows and an output of the encoder `{}` before it; give \
                     that output another name",
                    spec.name,
                    input.name(),
                    specs[encoder].name
                );
                mistakes.push(Error::Definition { subject: format!("feature set `{name}`"), reason });
            }
        }
    }
    let mut names: Vec<_> = schema.fields().iter().map(|f| f.name()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let reason = format!("two of its columns are called `{}`; name them apart", pair[0]);
        mistakes.push(Error::Definition { subject: subject.clone(), reason });
    }
    Error::all(&format!("feature set `{name}`"), mistakes)
}

/// The error with columns that the rows have beside those of the query.
fn with_columns(error: Error, added: &[String]) -> Error {
    match error {
        Error::UnknownColumn { subject, column, mut known } => {
            known.extend(added.iter().cloned());
            Error::UnknownColumn { subject, column, known }
        }
        other => other,
    }
}
