//! Running an extract: pin the tables, stream the rows to files, publish the record with one put-if-absent.
//! Until the record is there, nothing is; a run that is cut off leaves files that no record names.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use futures::TryStreamExt;

use super::{
    Extract, ExtractFile, ExtractInput, ExtractRecord, ExtractRun, Parameter,
    record::{FOLDER, FORMAT, RECORD, RunName},
};
use crate::{
    catalog::Column,
    engine::Parallelism,
    error::{Error, Result},
    materialize::{Materializer, Part, Parts, plain_rows},
    name::{ContentId, TableName, check_identifier},
    scan::{AsOfTable, Beside, Derived, Providers, Sources, query_with, tables_in},
    storage::{FileIdentity, Published, chance},
    time::{AsOf, Clock, Cutoff},
};

/// The tables of a query, opened as the query may see them.
pub(crate) struct Opened {
    pub(crate) facts: Sources,
    pub(crate) derived: Vec<Derived>,
    inputs: Vec<ExtractInput>,
}

/// Opens the tables that a query names: fact tables at the versions given or their newest, cut at the instant; extracts only if what they
/// hold was visible then. This is the one way from a name to an extract's rows in a query.
pub(crate) async fn open_tables(
    m: &Arc<Materializer>,
    subject: &str,
    sql: &str,
    as_of: Option<AsOf>,
    mut pins: BTreeMap<TableName, u64>,
    providers: &Providers,
) -> Result<Opened> {
    let as_of = as_of.filter(|as_of| *as_of != AsOf::END_OF_TIME);
    let cut = as_of.unwrap_or(AsOf::END_OF_TIME);
    let mut opened = Opened { facts: Vec::new(), derived: Vec::new(), inputs: Vec::new() };
    for name in tables_in(sql)? {
        let pin = pins.remove(&name);
        if pin.is_none()
            && let Some(table) = providers.open(&name, cut, Cutoff::Exclusive)?
        {
            opened.facts.push((name, table));
            continue;
        }
        if pin.is_none()
            && let Some(found) = find(m, &name).await?
        {
            found.record().check_visible(subject, as_of)?;
            let files = found.record().parts.iter().map(|part| ExtractFile { path: part.name.clone(), identity: identity(part) });
            opened.inputs.push(ExtractInput {
                table: name.clone(),
                version: None,
                location: found.place().to_string(),
                files: files.collect(),
            });
            let rows = found.dataframe().await?.into_view();
            opened.derived.push(Derived { name, place: found.place().clone(), rows });
            continue;
        }
        let version = match pin {
            Some(number) => m.catalog.at(&name, number).await?,
            None => m.catalog.latest(&name).await?,
        };
        let pinned = m.pin_table(Arc::new(version))?;
        let version = pinned.version.clone();
        let files = AsOfTable::candidates(&version, cut, Cutoff::Exclusive)?.into_iter();
        opened.inputs.push(ExtractInput {
            table: name.clone(),
            version: Some(version.version()),
            location: pinned.place.to_string(),
            files: files.map(|file| ExtractFile { path: file.path.clone(), identity: file.identity.clone() }).collect(),
        });
        let table = AsOfTable::open(pinned.version, pinned.place, cut, Cutoff::Exclusive).await?;
        opened.facts.push((name, table));
    }
    if let Some(name) = pins.keys().next() {
        let reason = format!("it names no table `{name}`, of which a version is given");
        return Err(Error::Definition { subject: subject.into(), reason });
    }
    Ok(opened)
}

fn identity(part: &Part) -> FileIdentity {
    FileIdentity { size: part.size, e_tag: None, hash: Some(part.hash) }
}

/// Runs an extract and publishes its rows.
pub(crate) async fn run(m: &Arc<Materializer>, clock: &dyn Clock, extract: &Extract) -> Result<ExtractRun> {
    let subject = extract.subject();
    let parameters = parameters(&subject, extract)?;
    let started = clock.now();
    let Opened { facts, derived, inputs } =
        open_tables(m, &subject, &extract.sql, extract.as_of, BTreeMap::new(), &Providers::default()).await?;
    let beside = Beside { derived, parameters: parameters.into(), listing: None };
    let rows = query_with(&m.engine, Parallelism::Full, &subject, facts, beside, &extract.sql).await?;
    let (schema, mut rows) = plain_rows(rows.execute_stream().await?);
    check_columns(&subject, &schema)?;

    let columns = schema.fields().iter().map(|field| Column::from_field(field)).collect();
    let mut parts = Parts::new(schema);
    while let Some(batch) = rows.try_next().await? {
        parts.write(&batch)?;
    }
    drop(rows);

    let name = RunName { name: extract.name.clone(), run: new_run(started, &extract.sql)? };
    let place = m.root.child(&name.folder());
    let parts = parts.publish(&place).await?;
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
    if place.put_if_absent(RECORD, bytes.clone()).await? == Published::Existed {
        // A client that sends a request again after a lost answer meets its own record.
        let there = place.get(RECORD).await?;
        if there.is_none_or(|there| there != bytes) {
            return Err(Error::Contention { subject: format!("table `{}`", record.table), attempts: 1 });
        }
    }
    Ok(ExtractRun::new(m.clone(), place, record))
}

/// The values of the placeholders as the engine takes them.
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
            odd if odd.holds_odd_float() => {
                return Err(refused("is not a finite number, which the record could not hold"));
            }
            value => ScalarValue::try_from_array(&value.own_array(subject, name)?, 0)?,
        };
        values.push((name.clone(), value));
    }
    Ok(values)
}

fn check_columns(subject: &str, schema: &arrow::datatypes::Schema) -> Result<()> {
    let mut names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
    names.sort_unstable();
    let reason = match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => format!("two of its columns are called `{}`; name them apart", pair[0]),
        None if names.is_empty() => "it has no columns".into(),
        None => return Ok(()),
    };
    Err(Error::Definition { subject: subject.into(), reason })
}

/// A name for a run: its second, and 32 bits that differ between runs, processes and machines.
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

/// The run whose table has this name, if there is one; a fact table of that name comes first.
pub(crate) async fn find(m: &Arc<Materializer>, table: &TableName) -> Result<Option<ExtractRun>> {
    let Some(name) = RunName::of_table(table) else { return Ok(None) };
    if m.catalog.find(table).await?.is_some() {
        return Ok(None);
    }
    read(m, &name.folder()).await
}

async fn read(m: &Arc<Materializer>, folder: &str) -> Result<Option<ExtractRun>> {
    let place = m.root.child(folder);
    let Some(bytes) = place.get(RECORD).await? else { return Ok(None) };
    let record = ExtractRecord::parse(&format!("{place}/{RECORD}"), &bytes)?;
    Ok(Some(ExtractRun::new(m.clone(), place, record)))
}

/// The published runs of a name, in the order of their beginnings.
pub(crate) async fn of_name(m: &Arc<Materializer>, name: &str) -> Result<Vec<ExtractRecord>> {
    check_identifier("extract", name, name)?;
    let mut found = Vec::new();
    for run in folders(m, &format!("{FOLDER}/{name}")).await? {
        // One that has just been removed is none.
        found.extend(read(m, &run).await?.map(|run| run.record().clone()));
    }
    found.sort_by(|a, b| (a.started, &a.run).cmp(&(b.started, &b.run)));
    Ok(found)
}

/// The tables of all published runs.
pub(crate) async fn all(m: &Arc<Materializer>) -> Result<Vec<TableName>> {
    let mut names = Vec::new();
    for folder in folders(m, FOLDER).await? {
        if let [_, name, run] = folder.split('/').collect::<Vec<_>>()[..] {
            names.extend(RunName { name: name.into(), run: run.into() }.table().ok());
        }
    }
    Ok(names)
}

/// The columns of all published runs.
pub(crate) async fn schemas(m: &Arc<Materializer>) -> Result<Vec<(TableName, SchemaRef)>> {
    let mut schemas = Vec::new();
    for table in all(m).await? {
        // One that was removed since it was listed is none.
        if let Some(run) = find(m, &table).await? {
            schemas.push((table, Column::schema(&run.record().columns)?));
        }
    }
    Ok(schemas)
}

/// The folders below the root, beneath this one, that hold a record.
async fn folders(m: &Arc<Materializer>, beneath: &str) -> Result<Vec<String>> {
    let listed = m.root.child(beneath).list().await?;
    let names = listed.into_iter().map(|object| m.root.name_of(&object.location));
    Ok(names.filter_map(|name| Some(name.strip_suffix(RECORD)?.trim_end_matches('/').to_owned())).collect())
}
