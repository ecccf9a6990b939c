//! A set of rows: the rows of its query go through the service as requests, and are compared with the published rows.
//! Sets that draw on others are compared in `drawing`.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array},
    compute::{concat_batches, take_record_batch},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use futures::{TryStreamExt, stream::BoxStream};

use super::{
    ParityReport, ParitySample,
    compare::{Comparison, Sides, Told, column, shown_row},
    drawing,
    entities::NUMBER,
    made_of::MadeOf,
    queried::queried,
};
use crate::{
    error::{Error, Result},
    feature_set::{FeatureSet, RowSet},
    materialize::{Apply, BuildThreads, Materialization, Pipeline, materialize_pinned},
    online::Online,
    scan::VisibleTable,
    time::AsOf,
    value::Value,
    workspace::{PinnedTable, Workspace},
};

/// Of so many sampled rows one is asked for alone, too.
const ROWS_PER_ALONE: u64 = 32;

pub(super) async fn verify(
    workspace: &Arc<Workspace>,
    set: &FeatureSet,
    rows: &RowSet,
    as_of: AsOf,
    sample: ParitySample,
) -> Result<ParityReport> {
    let pinned = workspace.pin_all(&set.tables).await?;
    let made = materialize_pinned(workspace, set, as_of, &pinned).await?;
    let mut drawn_on = Vec::new();
    for drawn in set.drawn_on() {
        let tables = tables_of(workspace, drawn, &pinned).await?;
        drawn_on.push(materialize_pinned(workspace, drawn, as_of, &tables).await?);
    }
    let mut report = ParityReport::new(&set.name, Some(as_of));
    std::iter::once(&made).chain(&drawn_on).for_each(|made| report.add_id(made.id()));
    let online = Online::new(made.clone(), drawn_on, Arc::default(), BuildThreads::Two).await?;
    let Some((_, pipeline)) = made.pipeline()? else {
        return Err(Error::Internal { subject: format!("comparing `{}`", set.name), reason: "it is no set of rows".into() });
    };
    let requests = RequestSide {
        request: online.request_schema()?,
        features: set.features(),
        made_of: MadeOf::new(rows, &made.manifest().encoders, as_of),
        online: &online,
    };
    let mut comparison = Comparison::default();
    match rows.drawn.is_empty() {
        true => {
            let tables = VisibleTable::all(&pinned, set.horizon(as_of))?;
            let queried = queried(&workspace.engine, &set.name, rows, &tables, as_of).await?;
            let published = Published::of(&made, rows).await?;
            let dropped = published.compare(&mut comparison, &requests, &pipeline, queried.stream(), sample, queried.rows());
            note_ways(&mut report, &requests, dropped.await?);
        }
        false => {
            drawing::compare(workspace, set, rows, as_of, sample, &pinned, &requests, &pipeline, &mut comparison, &mut report)
                .await?
        }
    }
    comparison.into_report(&mut report);
    Ok(report)
}

/// The tables of a set, from those that are pinned already.
async fn tables_of(workspace: &Workspace, set: &FeatureSet, pinned: &[PinnedTable]) -> Result<Vec<PinnedTable>> {
    let mut tables = Vec::with_capacity(set.tables.len());
    for table in &set.tables {
        tables.push(match pinned.iter().find(|pinned| pinned.version.table() == table) {
            Some(pinned) => pinned.clone(),
            None => workspace.pin_latest(table).await?,
        });
    }
    Ok(tables)
}

/// Says which values were not compared with published ones, and with what instead.
fn note_ways(report: &mut ParityReport, requests: &RequestSide<'_>, dropped: u64) {
    let own: Vec<String> =
        requests.own_ways().map(|feature| format!("`{feature}` ({})", requests.made_of.name(feature))).collect();
    if !own.is_empty() {
        report.notes.push(format!(
            "training rows have {} encoded by design unlike requests (out of fold or in the order of time); they were compared with the \
             encoding that scoring uses",
            own.join(", ")
        ));
    }
    if dropped > 0 {
        report.notes.push(format!(
            "{dropped} of the rows are dropped by row selections and so are not published; they were compared with the encoding that \
             scoring uses"
        ));
    }
}

/// The service's side of requests.
pub(super) struct RequestSide<'a> {
    pub(super) request: SchemaRef,
    pub(super) features: Vec<String>,
    pub(super) made_of: MadeOf,
    pub(super) online: &'a Online,
}

impl RequestSide<'_> {
    /// The features that training encodes in a way of its own.
    pub(super) fn own_ways(&self) -> impl Iterator<Item = &str> {
        self.features.iter().map(String::as_str).filter(|feature| self.made_of.is_own_way(feature))
    }

    /// The columns of a request, and no others.
    pub(super) fn requests(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let positions = self.request.fields().iter().map(|field| Ok(rows.schema_ref().index_of(field.name())?));
        Ok(rows.project(&positions.collect::<Result<Vec<_>>>()?)?)
    }

    /// Compares the features that training has of these rows with what the service answers: for all of them at once, and for some
    /// alone.
    pub(super) fn add(&self, comparison: &mut Comparison, rows: &RecordBatch, training: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let requests = self.requests(rows)?;
        let served = self.online.encode(&requests)?;
        let numbers = column(rows, NUMBER)?;
        let numbers: Vec<u64> = numbers.as_primitive::<Int64Type>().values().iter().map(|number| number.unsigned_abs()).collect();
        let mut alone = Vec::new();
        for (row, number) in numbers.iter().enumerate() {
            if number.is_multiple_of(ROWS_PER_ALONE)
                && let Some(answer) = self.answer_alone(&requests, row)?
            {
                alone.push((row, answer));
            }
        }
        let sides = Sides { numbers: &numbers, training, served: &served, alone: &alone };
        comparison.add(&self.features, &sides, |row, feature| {
            Ok(Told {
                row: shown_row(rows, row, self.request.fields().iter().map(|field| field.name().as_str()))?,
                at: None,
                made_by: self.made_of.name(feature),
                inputs: shown_row(rows, row, self.made_of.columns(feature).iter().map(String::as_str))?,
            })
        })
    }

    /// The answer to one request, given as values; `None` if a column has no values.
    fn answer_alone(&self, requests: &RecordBatch, row: usize) -> Result<Option<RecordBatch>> {
        let mut values = Vec::with_capacity(requests.num_columns());
        for (field, column) in self.request.fields().iter().zip(requests.columns()) {
            match Value::of("the request", field.name(), column, row) {
                Ok(value) => values.push((field.name().as_str(), value)),
                Err(Error::ColumnType { .. }) => return Ok(None),
                Err(other) => return Err(other),
            }
        }
        self.online.encode_row(&values).and_then(|row| row.batch()).map(Some)
    }
}

/// Rows with their numbers as a last column.
pub(super) fn numbered(rows: &RecordBatch, first: u64) -> Result<RecordBatch> {
    let first = i64::try_from(first).unwrap_or(i64::MAX);
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((first..).take(rows.num_rows())));
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(NUMBER, DataType::Int64, true)));
    let columns = rows.columns().iter().cloned().chain([numbers]).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The features of rows by the encoding that scoring uses.
pub(super) fn scored(pipeline: &Pipeline, rows: &RecordBatch) -> Result<RecordBatch> {
    let schema = Arc::new(Schema::new(pipeline.features()));
    Ok(RecordBatch::try_new(schema, pipeline.encode("the set's query", rows)?)?)
}

/// The published rows, which are those of the query that row selections keep, in the same order.
struct Published<'a> {
    made: &'a Materialization,
    event_time: &'a str,
    batches: BoxStream<'static, Result<RecordBatch>>,
    /// What was read and not yet taken.
    rest: RecordBatch,
    taken: u64,
}

impl<'a> Published<'a> {
    async fn of(made: &'a Materialization, set: &'a RowSet) -> Result<Self> {
        let batches = made.batches().await?;
        Ok(Self { made, event_time: &set.event_time, batches, rest: RecordBatch::new_empty(made.schema()?), taken: 0 })
    }

    /// Compares the sampled rows of the query, and returns how many of them no published row stands for.
    async fn compare(
        mut self,
        comparison: &mut Comparison,
        requests: &RequestSide<'_>,
        pipeline: &Pipeline,
        mut queried: BoxStream<'static, Result<RecordBatch>>,
        sample: ParitySample,
        of: u64,
    ) -> Result<u64> {
        let (mut picks, mut seen, mut dropped) = (sample.picks(of), 0_u64, 0_u64);
        while let Some(batch) = queried.try_next().await? {
            let rows = numbered(&batch, seen)?;
            let kept = pipeline.select(Apply::All, &rows, None)?;
            let published = self.next(kept.num_rows()).await?;
            self.check(&kept, &published)?;
            let kept = column(&kept, NUMBER)?;
            let kept: BTreeMap<i64, u64> = kept.as_primitive::<Int64Type>().values().iter().copied().zip(0..).collect();
            let (mut of_kept, mut of_published, mut of_dropped) = (Vec::new(), Vec::new(), Vec::new());
            for row in (0..rows.num_rows() as u64).filter(|_| picks.pick()) {
                match kept.get(&i64::try_from(seen + row).unwrap_or(i64::MAX)) {
                    Some(position) => {
                        of_kept.push(row);
                        of_published.push(*position);
                    }
                    None => of_dropped.push(row),
                }
            }
            seen += rows.num_rows() as u64;
            dropped += of_dropped.len() as u64;
            if !of_kept.is_empty() {
                let rows = take_record_batch(&rows, &UInt64Array::from(of_kept))?;
                let published = take_record_batch(&published, &UInt64Array::from(of_published))?;
                requests.add(comparison, &rows, &training_of(requests, pipeline, &rows, published)?)?;
            }
            if !of_dropped.is_empty() {
                let rows = take_record_batch(&rows, &UInt64Array::from(of_dropped))?;
                requests.add(comparison, &rows, &scored(pipeline, &rows)?)?;
            }
        }
        match self.taken == self.made.rows() {
            true => Ok(dropped),
            false => Err(self.misaligned(&format!(
                "{} rows are published, and the query yields {} of them",
                self.made.rows(),
                self.taken
            ))),
        }
    }

    /// The next published rows.
    async fn next(&mut self, count: usize) -> Result<RecordBatch> {
        while self.rest.num_rows() < count {
            let Some(batch) = self.batches.try_next().await? else {
                let published = self.taken + self.rest.num_rows() as u64;
                return Err(self.misaligned(&format!("{published} rows are published, and the query yields more")));
            };
            let schema = self.rest.schema();
            let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?;
            self.rest = concat_batches(&schema, [&self.rest, &batch])?;
        }
        let next = self.rest.slice(0, count);
        self.rest = self.rest.slice(count, self.rest.num_rows() - count);
        self.taken += count as u64;
        Ok(next)
    }

    /// Refuses published rows that are not those of the query.
    fn check(&self, kept: &RecordBatch, published: &RecordBatch) -> Result<()> {
        let (queried, published) = (column(kept, self.event_time)?, column(published, self.event_time)?);
        match queried.to_data() == published.to_data() {
            true => Ok(()),
            false => Err(self.misaligned("the event times of its rows are not those of the query, in their order")),
        }
    }

    fn misaligned(&self, what: &str) -> Error {
        Error::Corrupt {
            path: format!("{:?}", self.made),
            reason: format!(
                "{what}, although both are made of the same files: a step of the set depends on something else than its rows; delete the \
                 folder of the materialization and materialize again"
            ),
        }
    }
}

/// The published features; those that training encodes in a way of its own as scoring encodes them.
fn training_of(
    requests: &RequestSide<'_>,
    pipeline: &Pipeline,
    rows: &RecordBatch,
    published: RecordBatch,
) -> Result<RecordBatch> {
    if requests.own_ways().next().is_none() {
        return Ok(published);
    }
    let scored = scored(pipeline, rows)?;
    let mut columns = Vec::with_capacity(requests.features.len());
    for feature in &requests.features {
        let from = if requests.made_of.is_own_way(feature) { &scored } else { &published };
        columns.push((feature, column(from, feature)?, true));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}
