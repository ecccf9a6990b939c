//! A set of entities: keys go through the service and, as a spine, through training.
//! Beside published keys come keys made from them that may have no row, and keys with NULL.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt64Array, new_null_array},
    compute::{concat_batches, take_record_batch},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType},
};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;

use super::{
    ParityReport, ParitySample,
    as_served::{AS_OF, AT, Aging, as_served, max_age},
    compare::{Comparison, Sides, Told, column, shown_row},
};
use crate::{
    engine::Parallelism,
    error::{Error, Result},
    feature_set::{EntitySet, FeatureSet},
    materialize::{BuildThreads, Materialization, RowBuffer, materialize_pinned},
    online::Online,
    scan::VisibleTable,
    temporal::Spine,
    time::{AsOf, instant_type},
    training::with_features,
    value::Value,
    workspace::{Workspace, plain_rows},
};

/// The number of a row in the order in which a report counts rows.
pub(super) const NUMBER: &str = "asof: number";

/// After so many sampled keys come keys that are made from one of them.
const KEYS_PER_MADE: u64 = 16;

pub(super) async fn verify(
    workspace: &Arc<Workspace>,
    set: &FeatureSet,
    entities: &EntitySet,
    as_of: AsOf,
    sample: ParitySample,
) -> Result<ParityReport> {
    let pinned = workspace.pin_all(&set.tables).await?;
    let made = materialize_pinned(workspace, set, as_of, &pinned).await?;
    let online = Online::new(made.clone(), Vec::new(), Arc::default(), BuildThreads::Two).await?;
    let mut report = ParityReport::new(&set.name, Some(as_of));
    report.add_id(made.id());

    // The operators cut the facts at each row's instant, so all of them are opened.
    let tables = VisibleTable::all(&pinned, set.horizon(AsOf::END_OF_TIME))?;
    let Asked { now, later } = asked(&made, entities, as_of, sample).await?;
    let mut comparison = Comparison::default();
    let keys = KeyedSide { set, keys: &entities.keys, online: Some(&online), is_aging: later.is_some() };
    let engine = &workspace.engine;
    let spine = Spine::new(table_of(workspace, &now)?, AT);
    let training = with_features(engine, &set.name, entities, &tables, set.cutoff, spine).await?;
    keys.compare(&mut comparison, training, None, "").await?;
    report.notes.push("keys that were made from published ones, and keys with NULL, were asked for too".into());
    if let Some(later) = later {
        let (training, aging) = as_served(engine, entities, &tables, set.cutoff, table_of(workspace, &later)?).await?;
        keys.compare(&mut comparison, training, Some(&aging), "").await?;
        report.notes.push(
            "keys were also asked for at later instants; there training has the values as of the materialization, and those with a max \
             age aged until the instant of the request"
                .into(),
        );
    }
    comparison.into_report(&mut report);
    Ok(report)
}

/// Rows in a temporary file as a table of one partition, in a session that can hold a spine.
pub(super) fn table_of(workspace: &Workspace, rows: &Arc<RowBuffer>) -> Result<DataFrame> {
    let session = workspace.engine.session(Parallelism::Full, [])?;
    Ok(session.read_table(Arc::new(rows.table()?))?)
}

/// The keys that are asked for.
struct Asked {
    /// At the as-of.
    now: Arc<RowBuffer>,
    /// After the as-of; `None` if that changes no answer.
    later: Option<Arc<RowBuffer>>,
}

/// The columns of a spine with these keys.
pub(super) fn spine_schema<'a>(keys: impl Iterator<Item = &'a Field>) -> SchemaRef {
    let mut fields: Vec<Field> = keys.map(|key| key.clone().with_nullable(true)).collect();
    fields.extend([AT, AS_OF].map(|name| Field::new(name, instant_type(), true)));
    fields.push(Field::new(NUMBER, DataType::Int64, true));
    Arc::new(Schema::new(fields))
}

async fn asked(made: &Materialization, set: &EntitySet, as_of: AsOf, sample: ParitySample) -> Result<Asked> {
    let own = made.schema()?;
    let keys: Vec<usize> = set.keys.iter().map(|key| Ok(own.index_of(key)?)).collect::<Result<_>>()?;
    let schema = spine_schema(keys.iter().map(|&key| own.field(key)));
    let ages: Vec<i64> = set.sources.iter().filter_map(max_age).collect();
    let mut now = RowBuffer::create(schema.clone())?;
    let mut later = match ages.is_empty() {
        true => None,
        false => Some(RowBuffer::create(schema.clone())?),
    };
    let mut number = 0_i64;
    let mut write = |keys: Vec<ArrayRef>| -> Result<()> {
        let rows = keys.first().map_or(0, Array::len);
        let numbers: Vec<i64> = (number..).take(rows).collect();
        number += rows as i64;
        let instants = |at: &dyn Fn(i64) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(numbers.iter().map(|&number| at(number))).with_timezone("UTC"))
        };
        let batch = |at: ArrayRef, numbers: Int64Array| -> Result<RecordBatch> {
            let mut columns = keys.clone();
            columns.extend([at, instants(&|_| as_of.micros()), Arc::new(numbers)]);
            Ok(RecordBatch::try_new(schema.clone(), columns)?)
        };
        now.write(&batch(instants(&|_| as_of.micros()), Int64Array::from(numbers.clone()))?)?;
        if let Some(later) = &mut later {
            // They come after all keys that are asked for at the as-of.
            let numbers = Int64Array::from_iter_values(numbers.iter().map(|number| number.saturating_add(1 << 62)));
            later.write(&batch(instants(&|number| later_instant(as_of, &ages, number)), numbers)?)?;
        }
        Ok(())
    };
    let mut batches = made.batches().await?;
    let (mut picks, mut picked, mut before) = (sample.picks(made.rows()), 0_u64, None::<Vec<ArrayRef>>);
    while let Some(batch) = batches.try_next().await? {
        let rows: Vec<u64> = (0..batch.num_rows() as u64).filter(|_| picks.pick()).collect();
        if rows.is_empty() {
            continue;
        }
        let batch = take_record_batch(&batch.project(&keys)?, &UInt64Array::from(rows))?;
        write(batch.columns().to_vec())?;
        for row in 0..batch.num_rows() {
            let key: Vec<ArrayRef> = batch.columns().iter().map(|column| column.slice(row, 1)).collect();
            if picked.is_multiple_of(KEYS_PER_MADE) {
                made_keys(&set.keys, &key, before.as_deref(), picked / KEYS_PER_MADE).into_iter().try_for_each(&mut write)?;
            }
            picked += 1;
            before = Some(key);
        }
    }
    // Without a published key nothing is compared.
    if picked > 0 {
        write(keys.iter().map(|&key| new_null_array(own.field(key).data_type(), 1)).collect())?;
    }
    let later = match later {
        Some(later) => Some(Arc::new(later.finish()?)),
        None => None,
    };
    Ok(Asked { now: Arc::new(now.finish()?), later })
}

/// An instant after the as-of at which some values are too old and others are not.
fn later_instant(as_of: AsOf, ages: &[i64], number: i64) -> i64 {
    let number = usize::try_from(number).unwrap_or(0);
    let Some(age) = ages.get(number % ages.len().max(1)) else { return as_of.micros() };
    let quarters = [1, 2, 4, 6][number / ages.len() % 4];
    as_of.micros().saturating_add((age / 4).saturating_mul(quarters)).saturating_add(1)
}

/// Keys that probably have no row: a column is another value, a column is NULL, or the columns are those of two keys.
fn made_keys(names: &[String], key: &[ArrayRef], before: Option<&[ArrayRef]>, turn: u64) -> Vec<Vec<ArrayRef>> {
    let changed = usize::try_from(turn).unwrap_or(0) % key.len().max(1);
    let with = |column: ArrayRef| {
        let mut key = key.to_vec();
        key[changed] = column;
        key
    };
    let data_type = key[changed].data_type();
    let mut made = vec![with(new_null_array(data_type, 1))];
    made.extend(other_value(&names[changed], &key[changed]).map(with));
    made.extend(before.filter(|_| key.len() > 1).map(|before| with(before[changed].clone())));
    made
}

/// Another value of the type; `None` for types of which none is made.
fn other_value(name: &str, column: &ArrayRef) -> Option<ArrayRef> {
    let other = match Value::of("the key", name, column, 0).ok()? {
        Value::Int(x) => Value::Int(x.checked_add(1_000_003).unwrap_or(x / 2)),
        Value::Unsigned(x) => Value::Int(i64::try_from(x / 2).ok()?),
        Value::Text(x) => Value::Text(format!("{x}~")),
        Value::Bool(x) => Value::Bool(!x),
        Value::Date(x) => Value::Date(x.pred_opt()?),
        Value::Instant(x) => Value::Instant(AsOf::from_micros(x.micros().checked_sub(1)?)),
        _ => return None,
    };
    other.to_array("the key", name, column.data_type()).ok()
}

/// The service's side of keys.
pub(super) struct KeyedSide<'a> {
    pub(super) set: &'a FeatureSet,
    pub(super) keys: &'a [String],
    /// The service; `None` where its answers were logged.
    pub(super) online: Option<&'a Online>,
    /// Does an answer depend on the instant of the request?
    pub(super) is_aging: bool,
}

impl KeyedSide<'_> {
    /// Compares a spine with the features of training, batch by batch, with what is served for its keys. With `prefix`, the spine has
    /// what was served in columns of the features' names behind this prefix, and the service is not asked.
    pub(super) async fn compare(
        &self,
        comparison: &mut Comparison,
        training: DataFrame,
        aging: Option<&Aging>,
        prefix: &str,
    ) -> Result<()> {
        let (_, mut rows) = plain_rows(training.execute_stream().await?);
        let features = self.set.features();
        while let Some(batch) = rows.try_next().await? {
            if batch.num_rows() == 0 {
                continue;
            }
            let batch = match aging {
                Some(aging) => aging.apply(&batch)?,
                None => batch,
            };
            let served = match prefix {
                "" => self.answers(&batch)?,
                prefix => without_prefix(&batch, &features, prefix)?,
            };
            self.add(comparison, &features, &batch, &served)?;
        }
        Ok(())
    }

    /// Compares rows of both sides; those of training have the keys and instants, too.
    pub(super) fn add(
        &self,
        comparison: &mut Comparison,
        features: &[String],
        training: &RecordBatch,
        served: &RecordBatch,
    ) -> Result<()> {
        let at = column(training, AT)?.as_primitive::<TimestampMicrosecondType>().clone();
        let numbers: Vec<u64> =
            column(training, NUMBER)?.as_primitive::<Int64Type>().values().iter().map(|number| number.unsigned_abs()).collect();
        comparison.add(features, &Sides { numbers: &numbers, training, served, alone: &[] }, |row, feature| {
            let key = shown_row(training, row, self.keys.iter().map(String::as_str))?;
            let made_by = self.set.feature(feature).map_or_else(|| feature.to_owned(), |summary| summary.made_of);
            Ok(Told { inputs: key.clone(), row: key, at: Some(AsOf::from_micros(at.value(row))), made_by })
        })
    }

    /// What the service answers for the keys and instants of these rows.
    pub(super) fn answers(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let nobody =
            |reason: &str| Error::Internal { subject: format!("asking for keys of `{}`", self.set.name), reason: reason.into() };
        let online = self.online.ok_or_else(|| nobody("there is no service to ask"))?;
        let keys: Vec<ArrayRef> = self.keys.iter().map(|key| column(rows, key)).collect::<Result<_>>()?;
        let at = column(rows, AT)?.as_primitive::<TimestampMicrosecondType>().clone();
        let mut found = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let value = |(name, column): (&String, &ArrayRef)| Value::of("the key", name, column, row);
            let key: Result<Vec<Value>> = self.keys.iter().zip(&keys).map(value).collect();
            let instant = AsOf::from_micros(at.value(row));
            found.push(match key {
                Ok(key) if self.is_aging => online.get_at(&key, instant)?.batch()?,
                Ok(key) => online.get(&key)?.batch()?,
                // A published key may be beyond what a value holds.
                Err(_) => {
                    let key: Vec<ArrayRef> = keys.iter().map(|column| column.slice(row, 1)).collect();
                    online.get_columns(&key, self.is_aging.then(|| at.slice(row, 1)).as_ref())?
                }
            });
        }
        let first = found.first().ok_or_else(|| nobody("there is no key to ask for"))?;
        Ok(concat_batches(&first.schema(), &found)?)
    }
}

/// The columns of these features behind a prefix, under their own names.
pub(super) fn without_prefix(rows: &RecordBatch, features: &[String], prefix: &str) -> Result<RecordBatch> {
    let columns = features.iter().map(|feature| Ok((feature, column(rows, &format!("{prefix}{feature}"))?, true)));
    Ok(RecordBatch::try_from_iter_with_nullable(columns.collect::<Result<Vec<_>>>()?)?)
}
