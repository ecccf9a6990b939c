//! The features of entities: at one instant for a materialization, at each row's own instant for a training set.
//! Both put the same questions to the same operators; only the spine differs.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray},
    compute::cast,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use chrono::TimeDelta;
use datafusion::{
    common::ScalarValue,
    logical_expr::Expr,
    prelude::{DataFrame, ident, lit},
};
use futures::{StreamExt, stream::BoxStream};

use super::{rows::plain_rows, run::Pinned};
use crate::{
    engine::{Engine, Parallelism},
    error::{Error, Result},
    feature_set::{EntitySet, Source},
    name::TableName,
    scan::{self, AsOfTable},
    temporal::{Facts, Lookup, Spine, Window},
    time::{AsOf, Cutoff, TimeScale},
};

/// The spine's instants, where the spine is made here.
const AT: &str = "__at";

/// The name of the column that holds the event time of what a source with a max age looked up: whoever serves the row
/// judges its age at the instant of the request.
pub(crate) fn event_time_of(source: usize) -> String {
    format!("_event_time_{source}")
}

/// Keys and features of every entity that has a visible fact, in the order of the keys.
pub(crate) async fn entities(
    engine: &Engine,
    set: &EntitySet,
    tables: &[Pinned],
    as_of: AsOf,
    cutoff: Cutoff,
) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch>>)> {
    let own = pinned(tables, &set.table)?;
    let table = AsOfTable::open(own.version.clone(), own.place.clone(), as_of, cutoff).await?;
    let all = scan::table(engine, Parallelism::Full, own.version.table(), table).await?;
    let schema = all.schema().as_arrow().clone();
    let mut keys: Vec<Expr> = Vec::new();
    for key in &set.keys {
        schema.field_with_name(key).map_err(|_| Error::unknown_column(format!("table `{}`", set.table), key, &schema))?;
        keys.push(ident(key).alias(key));
    }
    let mut rows = all.select(keys)?.distinct()?;
    for key in &set.keys {
        // An entity with a NULL in its key is none.
        rows = rows.filter(ident(key).is_not_null())?;
    }
    let at = lit(ScalarValue::TimestampMicrosecond(Some(as_of.micros()), Some("UTC".into())));
    let rows = rows.sort(set.keys.iter().map(|key| ident(key).sort(true, true)).collect())?.with_column(AT, at)?;

    let mut facts = Vec::with_capacity(set.sources.len());
    for source in &set.sources {
        facts.push(facts_of(engine, pinned(tables, &source.table.parse()?)?, as_of, cutoff).await?);
    }
    let spine = ask(Spine::new(rows, AT), set, facts, cutoff, EventTimes::Kept)?;
    let mut columns: Vec<Expr> = set.keys.iter().map(String::as_str).chain(set.outputs()).map(ident).collect();
    let mut scales = Vec::new();
    for (i, source) in set.sources.iter().enumerate().filter(|(_, source)| source.max_age_us.is_some()) {
        columns.push(ident(event_time_of(i)));
        let version = &pinned(tables, &source.table.parse()?)?.version;
        let (declared, schema) = (version.declared(), version.file_schema()?);
        scales.push(declared.scale(&format!("table `{}`", source.table), &declared.event_time, &schema)?);
    }
    let (schema, rows) = plain_rows(spine.into_rows().select(columns)?.execute_stream().await?);
    let (keys, first) = (set.keys.len(), schema.fields().len() - scales.len());
    let fields = schema.fields().iter().enumerate().map(|(i, field)| {
        let data_type = if i < first { field.data_type().clone() } else { instant_type() };
        Field::new(field.name(), data_type, i >= keys)
    });
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let to = schema.clone();
    let rows = rows.map(move |batch| {
        let mut columns = batch?.columns().to_vec();
        for (column, scale) in columns[first..].iter_mut().zip(&scales) {
            *column = instants(column, *scale)?;
        }
        Ok(RecordBatch::try_new(to.clone(), columns)?)
    });
    Ok((schema, rows.boxed()))
}

fn instant_type() -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()))
}

/// Times as instants in microseconds, rounded towards the past; whether they are before a microsecond stays the same.
fn instants(times: &ArrayRef, scale: TimeScale) -> Result<ArrayRef> {
    let integers = match times.data_type() {
        DataType::Date32 => cast(&cast(times, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(times, &DataType::Int64)?,
    };
    let instants = integers.as_primitive::<Int64Type>().iter().map(|time| time.map(|time| scale.instant_us(time)));
    Ok(Arc::new(instants.collect::<TimestampMicrosecondArray>().with_timezone("UTC")))
}

/// The spine with the features of the set as they were at each row's own instant.
pub(crate) async fn training_rows(
    engine: &Engine,
    set: &EntitySet,
    tables: &[Pinned],
    cutoff: Cutoff,
    spine: Spine,
) -> Result<DataFrame> {
    let mut facts = Vec::with_capacity(set.sources.len());
    for source in &set.sources {
        // The operators cut the facts at each row's instant; none is cut off before.
        facts.push(facts_of(engine, pinned(tables, &source.table.parse()?)?, AsOf::from_micros(i64::MAX), cutoff).await?);
    }
    let before: Vec<Expr> = spine.schema().columns().into_iter().map(Expr::Column).collect();
    let features = set.outputs().map(ident).collect::<Vec<_>>();
    let rows = ask(spine, set, facts, cutoff, EventTimes::Dropped)?.into_rows();
    // Features in the order of the definition, whatever operator made them.
    Ok(rows.select(before.into_iter().chain(features).collect::<Vec<_>>())?)
}

/// The facts of a registered table as of an instant.
pub(crate) async fn facts_of(engine: &Engine, pinned: &Pinned, as_of: AsOf, cutoff: Cutoff) -> Result<Facts> {
    let table = AsOfTable::open(pinned.version.clone(), pinned.place.clone(), as_of, cutoff).await?;
    let name = pinned.version.table();
    let rows = scan::table(engine, Parallelism::Full, name, table).await?;
    Ok(Facts::new(&name.to_string(), rows, pinned.version.declared().clone()))
}

fn pinned<'a>(tables: &'a [Pinned], name: &TableName) -> Result<&'a Pinned> {
    let found = tables.iter().find(|pinned| pinned.version.table() == name);
    found.ok_or_else(|| Error::UnknownTable { table: name.to_string(), known: Vec::new() })
}

/// Are the event times of what was looked up wanted too, where there is a max age?
#[derive(Clone, Copy, PartialEq, Eq)]
enum EventTimes {
    Kept,
    Dropped,
}

/// Puts the questions of a set: all lookups in one pass, all windows in another.
fn ask(spine: Spine, set: &EntitySet, facts: Vec<Facts>, cutoff: Cutoff, times: EventTimes) -> Result<Spine> {
    let (mut lookups, mut windows) = (Vec::new(), Vec::new());
    for (i, (source, facts)) in set.sources.iter().zip(facts).enumerate() {
        if !source.lookups.is_empty() {
            lookups.push(lookup(source, facts.clone(), cutoff, (times == EventTimes::Kept).then_some(i)));
        }
        if !source.windows.is_empty() {
            windows.push(window(source, facts, cutoff));
        }
    }
    let spine = if lookups.is_empty() { spine } else { spine.lookup(lookups)? };
    if windows.is_empty() { Ok(spine) } else { spine.window(windows) }
}

fn lookup(source: &Source, facts: Facts, cutoff: Cutoff, event_time: Option<usize>) -> Lookup {
    let event_column = facts.declared().event_column().to_owned();
    let mut lookup = Lookup::of(facts).cutoff(cutoff);
    for (key, column) in &source.on {
        lookup = lookup.on_columns(key, column);
    }
    for (column, output) in &source.lookups {
        lookup = lookup.column_as(column, output);
    }
    let Some(age) = source.max_age_us else { return lookup };
    if let Some(i) = event_time {
        lookup = lookup.column_as(event_column, event_time_of(i));
    }
    lookup.max_age(TimeDelta::microseconds(age))
}

fn window(source: &Source, facts: Facts, cutoff: Cutoff) -> Window {
    let mut window = Window::of(facts).cutoff(cutoff);
    for (key, column) in &source.on {
        window = window.on_columns(key, column);
    }
    for (length, aggregates) in &source.windows {
        window = match length {
            Some(length) => window.trailing(TimeDelta::microseconds(*length), aggregates.clone()),
            None => window.all_before(aggregates.clone()),
        };
    }
    window
}
