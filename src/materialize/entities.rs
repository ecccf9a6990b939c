//! The rows of a set of entities: one scan of its table at the as-of, one row per entity.
//! Facts older than every window are read only when a lookup may need them.

use arrow::array::RecordBatch;
use datafusion::{execution::SendableRecordBatchStream, prelude::ident};

use super::{rows::plain_rows, run::Pinned};
use crate::{
    engine::{Engine, Parallelism},
    error::{Error, Result},
    feature_set::EntitySet,
    scan::{AsOfTable, Visibility, query},
    temporal::{Question, snapshot},
    time::{AsOf, Cutoff},
};

/// Keys and features of every entity that has a visible fact, in the order of the keys.
pub(crate) async fn entities(
    engine: &Engine,
    set: &EntitySet,
    pinned: &Pinned,
    as_of: AsOf,
    cutoff: Cutoff,
) -> Result<RecordBatch> {
    let version = &pinned.version;
    let place = format!("table `{}`", version.table());
    let declared = version.declared();
    let visibility = Visibility::new(version, as_of, cutoff)?;
    let event = visibility
        .limits
        .first()
        .ok_or_else(|| Error::Definition { subject: place.clone(), reason: "it has no event time".into() })?;
    let start = |length_us: &i64| event.scale.first_not_before(AsOf::from_micros(as_of.micros().saturating_sub(*length_us)));
    let question = Question {
        keys: set.keys.clone(),
        times: visibility.limits.iter().map(|limit| (limit.column.clone(), limit.scale)).collect(),
        tie_break: declared.tie_break.clone(),
        lookups: set.lookups.clone(),
        windows: set.windows.iter().map(|(length, aggregates)| (start(length), aggregates.clone())).collect(),
        place,
    };
    let (schema, facts) = plain_rows(scan(engine, &question, pinned, as_of, cutoff).await?);
    snapshot(&question, facts, schema).await
}

/// The columns that the question needs of all visible facts.
async fn scan(
    engine: &Engine,
    question: &Question,
    pinned: &Pinned,
    as_of: AsOf,
    cutoff: Cutoff,
) -> Result<SendableRecordBatchStream> {
    let table = AsOfTable::open(pinned.version.clone(), pinned.place.clone(), as_of, cutoff).await?;
    let name = pinned.version.table();
    let all = pinned.version.file_schema()?;
    let partitions = pinned.version.partition_columns();
    let aggregated = question.windows.iter().flat_map(|(_, aggregates)| aggregates.iter().filter_map(|a| a.column()));
    let times = question.times.iter().map(|(column, _)| column.as_str());
    let values = question.tie_break.iter().map(String::as_str).chain(question.lookups.iter().map(|(column, _)| column.as_str()));
    let mut columns: Vec<&str> = Vec::new();
    for column in question.keys.iter().map(String::as_str).chain(times).chain(values).chain(aggregated) {
        if all.index_of(column).is_err() && partitions.iter().all(|p| p.name != column) {
            return Err(Error::unknown_column(format!("table `{name}`"), column, &all));
        }
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let sql = format!("SELECT * FROM \"{}\".\"{}\"", name.database(), name.table());
    let rows = query(engine, Parallelism::Full, &format!("table `{name}`"), vec![(name.clone(), table)], &sql).await?;
    Ok(rows.select(columns.into_iter().map(ident).collect::<Vec<_>>())?.execute_stream().await?)
}
