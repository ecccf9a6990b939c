//! Makes an extract: pins the tables, streams the rows to files, and publishes the record with one put-if-absent.
//! The extract exists once its record is there. A run that is interrupted leaves files that no record names.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use futures::TryStreamExt;

use crate::{
    catalog::Column,
    engine::Parallelism,
    error::{Error, Result},
    extract::{Extract, ExtractRecord, ExtractRun, FORMAT, Parameter, RunName, horizon_of},
    layout::EXTRACT_RECORD,
    name::{ContentId, check_identifier},
    scan::Providers,
    sql::{QueryContext, QueryTables, open_tables, query_with},
    storage::{Published, chance},
    time::{AsOf, Clock},
    workspace::{PartsWriter, Workspace, plain_rows},
};

/// Runs an extract and publishes its rows.
pub(crate) async fn run(workspace: &Arc<Workspace>, clock: &dyn Clock, extract: &Extract) -> Result<ExtractRun> {
    let subject = extract.subject();
    let parameters = parameters(&subject, extract)?;
    let started = clock.now();
    let QueryTables { facts, extracts, inputs } =
        open_tables(workspace, &subject, &extract.sql, horizon_of(extract.as_of), BTreeMap::new(), &Providers::default()).await?;
    let context = QueryContext { extracts, parameters: parameters.into(), information_schema: None };
    let rows = query_with(&workspace.engine, Parallelism::Full, &subject, facts, context, &extract.sql).await?;
    let (schema, mut rows) = plain_rows(rows.execute_stream().await?);
    check_columns(&subject, &schema)?;

    let columns = schema.fields().iter().map(|field| Column::from_field(field)).collect();
    let mut parts = PartsWriter::new(schema).threads(workspace.engine.partitions());
    while let Some(batch) = rows.try_next().await? {
        parts.write(&batch)?;
    }
    drop(rows);

    let name = RunName { name: extract.name.clone(), run: new_run(started, &extract.sql)? };
    let location = workspace.root.child(&name.folder());
    let parts = parts.publish(&location).await?;
    let values = extract.parameters.iter().map(|(name, value)| Parameter { name: name.clone(), value: value.clone() });
    let record = ExtractRecord {
        format: FORMAT,
        table: name.table()?,
        name: name.name,
        run: name.run,
        sql: extract.sql.clone(),
        parameters: values.collect(),
        as_of: extract.as_of,
        inputs,
        columns,
        rows: parts.iter().map(|part| part.rows).sum(),
        parts,
        started,
        ended: clock.now(),
        retention: extract.retention,
        library: env!("CARGO_PKG_VERSION").into(),
    };
    let bytes = record.to_json()?;
    if location.put_if_absent(EXTRACT_RECORD, bytes.clone()).await? == Published::Existed {
        // A client that repeats a request after a lost response finds its own record.
        let there = location.get(EXTRACT_RECORD).await?;
        if there.is_none_or(|there| there != bytes) {
            return Err(Error::Contention { subject: format!("table `{}`", record.table), attempts: 1 });
        }
    }
    Ok(ExtractRun::new(workspace.clone(), location, record))
}

/// The values of the placeholders, as DataFusion's scalars.
fn parameters(subject: &str, extract: &Extract) -> Result<Vec<(String, ScalarValue)>> {
    let mut values: Vec<(String, ScalarValue)> = Vec::new();
    for (name, value) in &extract.parameters {
        check_identifier("parameter", name, name)?;
        let refused =
            |reason: &str| Error::Definition { subject: subject.into(), reason: format!("its parameter `{name}` {reason}") };
        if values.iter().any(|(known, _)| known == name) {
            return Err(refused("has two values"));
        }
        let value = match value {
            float if float.holds_non_finite_float() => {
                return Err(refused("is not a finite number, which the record could not hold"));
            }
            value => ScalarValue::try_from_array(&value.own_array(subject, name)?, 0)?,
        };
        values.push((name.clone(), value));
    }
    Ok(values)
}

fn check_columns(subject: &str, schema: &Schema) -> Result<()> {
    let mut names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
    names.sort_unstable();
    let reason = match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => format!("two of its columns are called `{}`; name them apart", pair[0]),
        None if names.is_empty() => "it has no columns".into(),
        None => return Ok(()),
    };
    Err(Error::Definition { subject: subject.into(), reason })
}

/// The name of a new run: the second in which it started, and 32 bits that differ between runs, processes and machines.
fn new_run(started: AsOf, sql: &str) -> Result<String> {
    let second = started.to_datetime().filter(|t| (0..10_000).contains(&chrono::Datelike::year(t)));
    let second = second.ok_or_else(|| Error::InvalidTime {
        text: started.to_string(),
        reason: "the store's clock shows a year beyond 9999 or before 0".into(),
    })?;
    let id = ContentId::of(format!("{} {} {sql}", chance(), started.micros()).as_bytes());
    let mut suffix = id.short();
    suffix.truncate(8);
    Ok(format!("{}_{suffix}", second.format("%Y%m%dt%H%M%S")))
}
