//! Compares a log of served rows with what is published, and with training where the facts are still those of the materialization.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType},
};
use futures::TryStreamExt;

use super::{
    ParityReport,
    as_served::{as_served, max_age},
    compare::{Comparison, Sides, Told, column, shown_row},
    entities::{KeyedSide, NUMBER, spine_schema, table_of, without_prefix},
    log_columns::{DRAWN_ON, FEATURE, INSTANT, KEY, MATERIALIZATION, REQUEST},
    log_files::files,
    made_of::MadeOf,
};
use crate::{
    error::{Error, Result},
    feature_set::{EntitySet, FeatureSet, RowSet, SetBody},
    materialize::{BuildThreads, Inputs, Materialization, RowBuffer, RowBufferWriter, find_by_id},
    name::ContentId,
    online::Online,
    scan::VisibleTable,
    time::{AsOf, instant_type},
    workspace::{PinnedTable, Workspace},
};

/// Materializations that are kept open, besides those whose rows wait to be compared with training.
const OPEN_AT_MOST: usize = 8;
/// Materializations whose rows wait to be compared with training, each in a temporary file; the rows of others are compared with the
/// published ones.
const WAITING_AT_MOST: usize = 32;

/// Compares a log with what is published and with training. `set_of` finds a registered set by its name.
pub(crate) async fn replay(
    workspace: &Arc<Workspace>,
    set_of: impl Fn(&str) -> Result<FeatureSet> + Send + Sync,
    location: &str,
) -> Result<ParityReport> {
    let found = files(&workspace.locations, location).await?;
    let Some(first) = found.complete.first() else {
        return Err(Error::UnreadableFile {
            path: found.open.join(", "),
            reason:
                "it was not completed: its process was killed, or still writes it; the rows of a log can be read once a file is \
                     complete"
                    .into(),
        });
    };
    if let Some(other) = found.complete.iter().find(|file| file.entries.set != first.entries.set) {
        return Err(Error::Definition {
            subject: format!("the log `{location}`"),
            reason: format!(
                "it has rows of `{}` ({}) and of `{}` ({}); keep the logs of each set in a folder of their own",
                first.entries.set, first.path, other.entries.set, other.path
            ),
        });
    }
    let set = set_of(&first.entries.set)?;
    let mut replay = Replay {
        workspace,
        set: &set,
        report: ParityReport::new(&set.name, None),
        comparison: Comparison::default(),
        open: Vec::new(),
        waiting: BTreeMap::new(),
        gone: BTreeMap::new(),
        pinned: None,
        number: 0,
    };
    let mut dropped = 0;
    for file in &found.complete {
        dropped += file.entries.dropped;
        let mut rows = file.rows()?;
        while let Some(batch) = rows.try_next().await? {
            replay.add(&file.path, &batch).await?;
        }
    }
    for path in &found.open {
        replay
            .report
            .not_compared
            .push(format!("the rows of {path}, which was not completed: its process was killed, or still writes it"));
    }
    if dropped > 0 {
        let what = format!("{dropped} rows that were served and not logged, because the log's queue was full");
        replay.report.not_compared.push(what);
    }
    replay.finish().await
}

/// The materialization of a row, and those that it draws on, as the log has them.
type Ids = (String, String);

struct Replay<'a> {
    workspace: &'a Arc<Workspace>,
    set: &'a FeatureSet,
    report: ParityReport,
    comparison: Comparison,
    /// Those that were used last, at the end.
    open: Vec<(Ids, Box<Online>)>,
    waiting: BTreeMap<Ids, Box<Waiting>>,
    /// Rows of materializations that were not found, and the reason.
    gone: BTreeMap<Ids, (u64, String)>,
    /// The newest versions of the set's tables; `None` inside if one is gone.
    pinned: Option<Option<Vec<PinnedTable>>>,
    number: u64,
}

/// Rows of a set of entities that are compared with training at the end.
struct Waiting {
    made: Materialization,
    rows: RowBufferWriter,
}

/// Where the rows of a materialization are compared.
enum Found {
    Open(Box<Online>),
    Waiting(Box<Waiting>),
    Gone(String),
}

impl Replay<'_> {
    /// Compares the rows of a batch, or puts them aside.
    async fn add(&mut self, path: &str, batch: &RecordBatch) -> Result<()> {
        let text = |name: &str| -> Result<_> {
            let column = batch.column_by_name(name).ok_or_else(|| Error::unknown_column(path, name, batch.schema_ref()))?;
            column.as_string_opt::<i32>().cloned().ok_or_else(|| Error::ColumnType {
                subject: path.to_owned(),
                column: name.to_owned(),
                found: column.data_type().to_string(),
                needed: "a log of served rows has it as text".into(),
            })
        };
        let (made, drawn) = (text(MATERIALIZATION)?, text(DRAWN_ON)?);
        let ids = |row: usize| {
            let of =
                |texts: &arrow::array::StringArray| if texts.is_valid(row) { texts.value(row).to_owned() } else { String::new() };
            (of(&made), of(&drawn))
        };
        let mut start = 0;
        while start < batch.num_rows() {
            let own = ids(start);
            let end = (start + 1..batch.num_rows()).find(|&row| ids(row) != own).unwrap_or(batch.num_rows());
            let rows = batch.slice(start, end - start);
            let first = self.number;
            self.number += rows.num_rows() as u64;
            self.run(path, own, &rows, first).await?;
            start = end;
        }
        Ok(())
    }

    /// Rows of one materialization.
    async fn run(&mut self, path: &str, ids: Ids, rows: &RecordBatch, first: u64) -> Result<()> {
        if let Some((count, _)) = self.gone.get_mut(&ids) {
            *count += rows.num_rows() as u64;
            return Ok(());
        }
        let is_open = self.open.iter().position(|(open, _)| *open == ids);
        if let Some(position) = is_open {
            let used = self.open.remove(position);
            self.open.push(used);
        } else if !self.waiting.contains_key(&ids) {
            match self.find(&ids).await? {
                Found::Gone(reason) => {
                    self.gone.insert(ids, (rows.num_rows() as u64, reason));
                    return Ok(());
                }
                Found::Waiting(waiting) => {
                    self.report.add_id(waiting.made.id());
                    self.waiting.insert(ids.clone(), waiting);
                }
                Found::Open(online) => {
                    self.report.add_id(online.materialization().id());
                    online.drawn_on().iter().for_each(|made| self.report.add_id(made.id()));
                    if self.open.len() >= OPEN_AT_MOST {
                        self.open.remove(0);
                    }
                    self.open.push((ids.clone(), online));
                }
            }
        }
        let body = match &self.set.body {
            SetBody::Entities(entities) => Body::Entities(entities),
            SetBody::Rows(set) => Body::Rows(set),
        };
        if let Some(waiting) = self.waiting.get_mut(&ids) {
            if let Body::Entities(entities) = body {
                let spine = spine_of(path, entities, &waiting.made, rows, first)?;
                waiting.rows.write(&with_answers(path, self.set, &waiting.made, &spine, rows)?)?;
            }
            return Ok(());
        }
        let Some((_, online)) = self.open.last() else { return Ok(()) };
        match body {
            Body::Entities(entities) => {
                let made = online.materialization();
                let spine = with_answers(path, self.set, made, &spine_of(path, entities, made, rows, first)?, rows)?;
                let is_aging = entities.sources.iter().any(|source| max_age(source).is_some());
                let side = KeyedSide { set: self.set, keys: &entities.keys, online: Some(online), is_aging };
                let features = self.set.features();
                // What is published is on the side of training, and what was logged is what was served.
                let published = side.answers(&spine)?;
                let published = joined(&spine, &published)?;
                let logged = without_prefix(&spine, &features, FEATURE)?;
                side.add(&mut self.comparison, &features, &published, &logged)
            }
            Body::Rows(set) => compare_requests(path, self.set, set, online, rows, first, &mut self.comparison),
        }
    }

    /// Finds the materialization of a row.
    async fn find(&mut self, (id, drawn): &Ids) -> Result<Found> {
        let set = self.set;
        let Ok(parsed) = id.parse::<ContentId>() else { return Ok(Found::Gone("its id is not one of a materialization".into())) };
        let gone = |set: &FeatureSet, id: &str| {
            Found::Gone(format!(
                "no materialization {id} of `{}` made by the definition that is registered now is published",
                set.name
            ))
        };
        let Some(made) = find_by_id(self.workspace, set, parsed).await? else { return Ok(gone(set, id)) };
        let (wanted, given): (Vec<&FeatureSet>, Vec<&str>) =
            (set.drawn_on().collect(), drawn.split(',').filter(|id| !id.is_empty()).collect());
        if wanted.len() != given.len() {
            let reason = format!("it draws on {} sets, and the log has {} ids of theirs", wanted.len(), given.len());
            return Ok(Found::Gone(reason));
        }
        let mut drawn_on = Vec::with_capacity(wanted.len());
        for (drawn, id) in wanted.into_iter().zip(given) {
            let found = match id.parse::<ContentId>() {
                Ok(id) => find_by_id(self.workspace, drawn, id).await?,
                Err(_) => None,
            };
            let Some(found) = found else { return Ok(gone(drawn, id)) };
            drawn_on.push(found);
        }
        if let SetBody::Entities(entities) = &set.body
            && self.waiting.len() < WAITING_AT_MOST
            && self.is_of_these_facts(&made).await?
        {
            let keys = spine_keys(entities, &made)?;
            let rows = RowBuffer::create(answers_schema(&keys, &made, set)?)?;
            return Ok(Found::Waiting(Box::new(Waiting { made, rows })));
        }
        Ok(Found::Open(Box::new(Online::new(made, drawn_on, Arc::default(), BuildThreads::Two).await?)))
    }

    /// Would the materialization be the same if it was made of the facts that are in the catalog now?
    async fn is_of_these_facts(&mut self, made: &Materialization) -> Result<bool> {
        let pinned = match &self.pinned {
            Some(known) => known,
            None => {
                let pinned = match self.workspace.pin_all(&self.set.tables).await {
                    Ok(pinned) => Some(pinned),
                    Err(Error::UnknownTable { .. }) => None,
                    Err(other) => return Err(other),
                };
                self.pinned.insert(pinned)
            }
        };
        let Some(pinned) = pinned else { return Ok(false) };
        Ok(Inputs::of(self.set, made.manifest().horizon(), pinned)?.id == made.id())
    }

    /// Compares what was put aside with training.
    async fn finish(mut self) -> Result<ParityReport> {
        let (workspace, set) = (self.workspace, self.set);
        let (mut by_training, mut by_published) = (0_u64, Vec::new());
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            let (Some(Some(pinned)), SetBody::Entities(entities)) = (&self.pinned, &set.body) else { continue };
            let rows = Arc::new(waiting.rows.finish()?);
            by_training += rows.rows();
            let tables = VisibleTable::all(pinned, set.horizon(AsOf::END_OF_TIME))?;
            let spine = table_of(workspace, &rows)?;
            let (training, aging) = as_served(&workspace.engine, entities, &tables, set.cutoff, spine).await?;
            let side = KeyedSide { set, keys: &entities.keys, online: None, is_aging: true };
            side.compare(&mut self.comparison, training, Some(&aging), FEATURE).await?;
        }
        self.comparison.into_report(&mut self.report);
        let mut report = self.report;
        if by_training > 0 {
            by_published.push(format!("{by_training} rows were compared with training, as of their materializations"));
        }
        if report.rows > by_training {
            by_published.push(format!(
                "{} rows were compared with what is published: the states of encoders and the rows by key of their materializations",
                report.rows - by_training
            ));
        }
        report.notes.append(&mut by_published);
        for ((id, _), (count, reason)) in self.gone {
            report.not_compared.push(format!("{count} rows of materialization {id}: {reason}"));
        }
        Ok(report)
    }
}

enum Body<'a> {
    Entities(&'a EntitySet),
    Rows(&'a RowSet),
}

/// The key's columns in the types that a materialization has them in.
fn spine_keys(set: &EntitySet, made: &Materialization) -> Result<Vec<Field>> {
    let schema = made.schema()?;
    set.keys.iter().map(|key| Ok(schema.field_with_name(key)?.clone())).collect()
}

/// The columns of a spine with what was served.
fn answers_schema(keys: &[Field], made: &Materialization, set: &FeatureSet) -> Result<SchemaRef> {
    let own = made.schema()?;
    let mut fields: Vec<Field> = spine_schema(keys.iter()).fields().iter().map(|field| field.as_ref().clone()).collect();
    for feature in set.features() {
        let data_type = own.field_with_name(&feature)?.data_type().clone();
        fields.push(Field::new(format!("{FEATURE}{feature}"), data_type, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Keys and instants of logged rows. An instant before the as-of counts as the as-of: nothing older can have been served.
fn spine_of(path: &str, set: &EntitySet, made: &Materialization, rows: &RecordBatch, first: u64) -> Result<RecordBatch> {
    let keys = spine_keys(set, made)?;
    let mut columns = keys
        .iter()
        .map(|key| logged(path, rows, &format!("{KEY}{}", key.name()), key.data_type()))
        .collect::<Result<Vec<ArrayRef>>>()?;
    let as_of = made.as_of().micros();
    let at = logged(path, rows, INSTANT, &instant_type())?;
    let at = at.as_primitive::<TimestampMicrosecondType>().iter().map(|at| Some(at.unwrap_or(as_of).max(as_of)));
    columns.push(Arc::new(at.collect::<TimestampMicrosecondArray>().with_timezone("UTC")));
    let as_ofs = TimestampMicrosecondArray::from_value(as_of, rows.num_rows());
    columns.push(Arc::new(as_ofs.with_timezone("UTC")));
    columns.push(numbers(first, rows.num_rows()));
    Ok(RecordBatch::try_new(spine_schema(keys.iter()), columns)?)
}

/// A spine with what was served.
fn with_answers(
    path: &str,
    set: &FeatureSet,
    made: &Materialization,
    spine: &RecordBatch,
    rows: &RecordBatch,
) -> Result<RecordBatch> {
    let keys: Vec<Field> = match &set.body {
        SetBody::Entities(entities) => spine_keys(entities, made)?,
        SetBody::Rows(_) => Vec::new(),
    };
    let schema = answers_schema(&keys, made, set)?;
    let mut columns = spine.columns().to_vec();
    for field in &schema.fields()[columns.len()..] {
        columns.push(logged(path, rows, field.name(), field.data_type())?);
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// A column of a log, which must have this type.
fn logged(path: &str, rows: &RecordBatch, name: &str, data_type: &DataType) -> Result<ArrayRef> {
    let found = rows.column_by_name(name).ok_or_else(|| Error::unknown_column(path, name, rows.schema_ref()))?;
    match found.data_type() == data_type {
        true => Ok(found.clone()),
        false => Err(Error::ColumnType {
            subject: path.to_owned(),
            column: name.to_owned(),
            found: found.data_type().to_string(),
            needed: format!("the materialization has {data_type}: the file was not written by the log of this set"),
        }),
    }
}

fn numbers(first: u64, rows: usize) -> ArrayRef {
    let first = i64::try_from(first).unwrap_or(i64::MAX);
    Arc::new(Int64Array::from_iter_values((first..).take(rows)))
}

/// Columns of both.
fn joined(one: &RecordBatch, other: &RecordBatch) -> Result<RecordBatch> {
    let fields: Vec<_> = one.schema().fields().iter().chain(other.schema().fields().iter()).cloned().collect();
    let columns = one.columns().iter().chain(other.columns()).cloned().collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Encodes logged requests again, with the published states, and compares.
fn compare_requests(
    path: &str,
    set: &FeatureSet,
    body: &RowSet,
    online: &Online,
    rows: &RecordBatch,
    first: u64,
    comparison: &mut Comparison,
) -> Result<()> {
    let request = online.request_schema()?;
    let columns =
        request.fields().iter().map(|field| logged(path, rows, &format!("{REQUEST}{}", field.name()), field.data_type()));
    let mut columns = columns.collect::<Result<Vec<_>>>()?;
    let mut fields: Vec<_> = request.fields().iter().cloned().collect();
    // A request may need no column.
    fields.push(Arc::new(Field::new(NUMBER, DataType::Int64, true)));
    columns.push(numbers(first, rows.num_rows()));
    let requests = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let (features, published) = (set.features(), online.encode(&requests)?);
    let served = features.iter().map(|feature| {
        let wanted = column(&published, feature)?;
        Ok((feature, logged(path, rows, &format!("{FEATURE}{feature}"), wanted.data_type())?, true))
    });
    let served = RecordBatch::try_from_iter_with_nullable(served.collect::<Result<Vec<_>>>()?)?;
    let numbers: Vec<u64> = (first..).take(rows.num_rows()).collect();
    comparison.add(&features, &Sides { numbers: &numbers, training: &published, served: &served, alone: &[] }, |row, feature| {
        let made = online.materialization();
        let made_of = MadeOf::new(body, &made.manifest().encoders, made.as_of());
        Ok(Told {
            row: shown_row(&requests, row, request.fields().iter().map(|field| field.name().as_str()))?,
            at: None,
            made_by: made_of.name(feature),
            inputs: shown_row(&requests, row, made_of.columns(feature).iter().map(String::as_str))?,
        })
    })
}
