//! The query of a set of rows: its SQL over the declared tables, cut at the as-of, and the order of its rows.
//! Nothing is learned or encoded here.

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::{
    logical_expr::SortExpr,
    prelude::{DataFrame, ident},
};

use crate::{
    engine::{Engine, Parallelism},
    error::{Error, Result, in_one_line},
    feature_set::{RowSet, field_of},
    name::SetName,
    scan::{AsOfTable, VisibleTable},
    sql::{plan_is_rowwise, query},
    time::{AsOf, Span},
};

/// The rows of the set's query, in no order. With a span, for scoring, only rows whose event time lies in it.
pub(crate) async fn query_rows(
    engine: &Engine,
    name: &SetName,
    set: &RowSet,
    tables: &[VisibleTable],
    span: Option<Span>,
) -> Result<DataFrame> {
    let subject = format!("the query of `{name}`");
    let mut sources = Vec::new();
    for table in tables {
        let table = AsOfTable::open(table).await?;
        sources.push((table.name().clone(), table));
    }
    let in_query = |e: Error| match e {
        Error::Query(cause) => {
            Error::Definition { subject: subject.clone(), reason: format!("its SQL cannot be planned: {}", in_one_line(&cause)) }
        }
        Error::UnknownColumn { column, known, .. } => Error::UnknownColumn { subject: subject.clone(), column, known },
        other => other,
    };
    let mut rows = query(engine, Parallelism::Full, &subject, sources.clone(), &set.query).await.map_err(in_query)?;
    if !plan_is_rowwise(rows.logical_plan())? {
        if span.is_some() {
            let reason = "it joins or aggregates, so a scored row would be made of facts of its own future; a backtest needs a \
                          query whose rows each come from one fact";
            return Err(Error::Definition { subject, reason: reason.into() });
        }
        rows = query(engine, Parallelism::Reproducible, &subject, sources, &set.query).await?;
    }
    check(name, set, &rows)?;
    if let Some(span) = span {
        let instant = |t: AsOf| {
            datafusion::prelude::lit(datafusion::common::ScalarValue::TimestampMicrosecond(Some(t.micros()), Some("UTC".into())))
        };
        rows =
            rows.filter(ident(&set.event_time).gt_eq(instant(span.start)).and(ident(&set.event_time).lt(instant(span.end))))?;
    }
    Ok(rows)
}

/// The order of a materialization's rows: by event time and then by all other columns. It does not depend on files, tasks and
/// batches, since rows that are equal in all columns are interchangeable.
pub(crate) fn order_of(rows: &Schema, event_time: &str) -> Vec<SortExpr> {
    let others = rows.fields().iter().map(|f| f.name().as_str()).filter(|name| *name != event_time);
    std::iter::once(event_time).chain(others).map(|column| ident(column).sort(true, true)).collect()
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
    let labels = set.labels.iter().filter(|label| schema.field_with_name(label).is_err());
    mistakes.extend(labels.map(|label| Error::unknown_column(&subject, label, schema)));
    let specs = set.selections.iter().map(|s| s.spec()).chain(set.encoders.iter().map(|e| e.spec()));
    let mut known: Vec<Field> = Vec::new();
    for input in specs.flat_map(|spec| spec.inputs) {
        if !known.contains(&input) {
            mistakes.extend(field_of(&subject, schema, &input).err());
            known.push(input);
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
