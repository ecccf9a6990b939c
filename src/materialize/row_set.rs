//! The rows of a set of rows: queried, selected, sorted, encoded. This file decides the order of these steps.
//!
//! The rows of a materialization are sorted by event time, then by all other columns of the query. Sorting is the most
//! expensive step, so selections that learn the same in any order run before it: a sample of a tenth leaves a tenth to sort.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{Field, Schema, SchemaRef},
};
use futures::TryStreamExt;
use tokio::sync::mpsc;

use super::{
    encoder_chain::QUERY,
    pipeline::{Apply, Pipeline},
    row_buffer::{RowBuffer, RowBufferWriter},
    row_order::{RowOrder, Rows},
    rows::{PlannedRows, RowQuery},
};
use crate::{
    catalog::{Column, FactTable},
    engine::{Engine, Parallelism},
    error::{Error, Result},
    feature_set::RowSet,
    manifest::{Manifest, StepState},
    name::SetName,
    scan::VisibleTable,
    sql::KNOWN_COLUMN,
    time::AsOf,
    workspace::{FinishedParts, PartsWriter},
};

/// Batches that wait to be encoded.
const QUEUE: usize = 2;

/// Makes the rows, in files on this machine's disk, and notes in the manifest what is known of them.
pub(super) async fn compute_rows(
    engine: &Engine,
    set: &RowSet,
    tables: &[VisibleTable],
    manifest: &mut Manifest,
) -> Result<FinishedParts> {
    let (name, as_of) = (&manifest.set, manifest.as_of);
    if learns_nothing(set) {
        let (seen, encoded) = encode_as_queried(engine, name, set, tables, as_of, part_files(engine)).await?;
        return finish(set, seen, encoded, manifest);
    }
    let queried = QueriedRows::query(engine, name, set, tables, as_of).await?;
    compute_queried(engine, set, queried, manifest).await
}

/// As [`compute_rows`], of rows that have been queried.
pub(super) async fn compute_queried(
    engine: &Engine,
    set: &RowSet,
    queried: QueriedRows,
    manifest: &mut Manifest,
) -> Result<FinishedParts> {
    let seen = queried.rows().rows();
    let encoded = queried.learn_and_encode(engine, part_files(engine)).await?;
    finish(set, seen, encoded, manifest)
}

fn part_files(engine: &Engine) -> impl FnOnce(SchemaRef) -> Result<PartsWriter> + Send + 'static {
    let threads = engine.partitions();
    move |schema| Ok(PartsWriter::new(schema).threads(threads))
}

fn finish(set: &RowSet, seen: u64, encoded: Encoded<PartsWriter>, manifest: &mut Manifest) -> Result<FinishedParts> {
    manifest.rows_seen = seen;
    manifest.columns = encoded.rows.schema.fields().iter().map(|f| Column::from_field(f)).collect();
    manifest.labels = set.labels.clone();
    manifest.selections = encoded.selections;
    manifest.encoders = encoded.encoders;
    encoded.rows.finish()
}

/// Do the selections run before the rows are sorted?
pub(super) fn is_sorted_late(set: &RowSet) -> bool {
    !set.selections.is_empty() && set.selections.iter().all(|step| step.learns_in_any_order())
}

/// Is every row encoded by itself? Then the rows need to be read only once.
fn learns_nothing(set: &RowSet) -> bool {
    set.selections.is_empty() && !set.encoders.iter().any(|encoder| encoder.is_fitted())
}

/// Encodes the rows of a set that learns nothing while its query makes them, without a buffer. Also gives their number.
async fn encode_as_queried<S: RowSink>(
    engine: &Engine,
    name: &SetName,
    set: &RowSet,
    tables: &[VisibleTable],
    as_of: AsOf,
    create: impl FnOnce(SchemaRef) -> Result<S> + Send + 'static,
) -> Result<(u64, Encoded<S>)> {
    let query = RowQuery { engine, name, set, tables, as_of, span: None, served: None };
    let (schema, mut rows) = query.rows().await?.in_order().await?;
    let (pipeline, encoders) = Pipeline::without_learning(name, set)?;
    let (sender, mut receiver) = mpsc::channel::<RecordBatch>(QUEUE);
    let own_set = set.clone();
    let encode = on_blocking_thread(name, move || {
        let schema = output_schema(&own_set, &schema, &pipeline)?;
        let (mut encoded, mut seen) = (create(schema.clone())?, 0);
        while let Some(batch) = receiver.blocking_recv() {
            let features = pipeline.encode(QUERY, &batch)?;
            encoded.write(&output_batch(&own_set, &schema, &batch, features)?)?;
            seen += batch.num_rows() as u64;
        }
        Ok((seen, Encoded { rows: encoded, pipeline, selections: Vec::new(), encoders }))
    });
    let send = async move {
        let sender = sender;
        while let Some(batch) = rows.try_next().await? {
            // The receiver is gone if encoding failed; its error is the one to report.
            if sender.send(batch).await.is_err() {
                break;
            }
        }
        Ok::<_, Error>(())
    };
    let (encoded, sent) = futures::join!(encode, send);
    sent.and(encoded)
}

/// The rows of a set's query, before any of its steps.
#[derive(Clone)]
pub(crate) struct QueriedRows {
    name: SetName,
    set: Arc<RowSet>,
    as_of: AsOf,
    rows: Arc<RowBuffer>,
    /// The order that the rows get once they are selected; `None` if they have it already.
    later_order: Option<RowOrder>,
}

impl QueriedRows {
    /// Runs the query.
    pub(crate) async fn query(
        engine: &Engine,
        name: &SetName,
        set: &RowSet,
        tables: &[VisibleTable],
        as_of: AsOf,
    ) -> Result<Self> {
        let query = RowQuery { engine, name, set, tables, as_of, span: None, served: None };
        Self::of(name, set, as_of, query.rows().await?).await
    }

    /// As [`QueriedRows::query`], with the times of the fact of each row in hidden columns, and the declaration of its table with their
    /// names; `None` if a row need not come from one fact, or if its labels depend on the as-of.
    pub(super) async fn query_with_times(
        engine: &Engine,
        name: &SetName,
        set: &RowSet,
        tables: &[VisibleTable],
        as_of: AsOf,
    ) -> Result<Option<(Self, FactTable)>> {
        let query = RowQuery { engine, name, set, tables, as_of, span: None, served: None };
        let Some(planned) = query.rows_with_times().await? else { return Ok(None) };
        let Some(times) = planned.times() else { return Ok(None) };
        Ok(Some((Self::of(name, set, as_of, planned).await?, times)))
    }

    async fn of(name: &SetName, set: &RowSet, as_of: AsOf, planned: PlannedRows<'_>) -> Result<Self> {
        let (rows, later_order) = if is_sorted_late(set) {
            let (schema, rows, order) = planned.in_any_order().await?;
            (buffered(schema, rows).await?, Some(order))
        } else {
            let (schema, rows) = planned.in_order().await?;
            (buffered(schema, rows).await?, None)
        };
        let rows = Arc::new(rows);
        Ok(Self { name: name.clone(), set: Arc::new(set.clone()), as_of, rows, later_order })
    }

    /// The rows, perhaps not in their order yet.
    pub(crate) fn rows(&self) -> &Arc<RowBuffer> {
        &self.rows
    }

    /// The columns that were added to those of the query.
    pub(crate) fn added(&self) -> Vec<String> {
        self.set.added().chain([KNOWN_COLUMN.to_owned()]).collect()
    }

    /// The same rows, learned from as of another instant.
    pub(super) fn at(self, as_of: AsOf) -> Self {
        Self { as_of, ..self }
    }

    /// Some of these rows, in the order of [`QueriedRows::rows`].
    pub(crate) fn part(&self, rows: RowBuffer) -> Self {
        Self { rows: Arc::new(rows), ..self.clone() }
    }

    /// Learns all steps from these rows, and writes the rows that the selections keep, encoded, to what `create` makes.
    pub(crate) async fn learn_and_encode<S: RowSink>(
        self,
        engine: &Engine,
        create: impl FnOnce(SchemaRef) -> Result<S> + Send + 'static,
    ) -> Result<Encoded<S>> {
        let Self { name, set, as_of, rows, later_order } = self;
        // Learning and encoding compute and read files: not on the threads that wait for the network.
        let (own_name, own_set) = (name.clone(), set.clone());
        let mut selected = on_blocking_thread(&name, move || select(&own_name, &own_set, rows, as_of)).await?;
        if let Some(order) = later_order {
            selected.rows = Arc::new(sorted(engine, &selected.rows, order).await?);
        }
        on_blocking_thread(&name, move || learn_and_encode(&set, selected, as_of, create)).await
    }

    /// The rows that the population selections keep, encoded; nothing is learned from them.
    pub(crate) async fn encode_with(self, engine: &Engine, pipeline: Arc<Pipeline>) -> Result<RowBuffer> {
        let Self { name, set, rows, later_order, .. } = self;
        let select = {
            let pipeline = pipeline.clone();
            move || {
                let mut kept = RowBuffer::create(rows.schema().clone())?;
                for batch in rows.batches(None)? {
                    kept.write(&pipeline.select(Apply::Population, &batch?, None)?)?;
                }
                kept.finish()
            }
        };
        let mut selected = on_blocking_thread(&name, select).await?;
        if let Some(order) = later_order {
            selected = sorted(engine, &Arc::new(selected), order).await?;
        }
        let encode = move || {
            let schema = output_schema(&set, selected.schema(), &pipeline)?;
            let mut encoded = RowBuffer::create(schema.clone())?;
            for batch in selected.batches(None)? {
                let batch = batch?;
                let features = pipeline.encode(QUERY, &batch)?;
                encoded.write(&output_batch(&set, &schema, &batch, features)?)?;
            }
            encoded.finish()
        };
        on_blocking_thread(&name, encode).await
    }
}

/// Takes rows in their order.
pub(crate) trait RowSink: Send + 'static {
    /// Takes the next rows.
    fn write(&mut self, rows: &RecordBatch) -> Result<()>;
}

impl RowSink for PartsWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        PartsWriter::write(self, rows)
    }
}

impl RowSink for RowBufferWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        RowBufferWriter::write(self, rows)
    }
}

/// Runs a step of a set on a thread that may block.
pub(super) async fn on_blocking_thread<T: Send + 'static>(
    set: &SetName,
    step: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    const STEP: &str = "learning and encoding";
    tokio::task::spawn_blocking(step).await.map_err(|e| match e.is_panic() {
        true => Error::Step {
            set: set.to_string(),
            step: STEP.into(),
            reason: format!("an encoder or row selection panicked: {e}"),
            cause: None,
        },
        false => Error::lost_task(STEP, e),
    })?
}

async fn buffered(schema: SchemaRef, mut rows: Rows) -> Result<RowBuffer> {
    let mut writer = RowBuffer::create(schema)?;
    while let Some(batch) = rows.try_next().await? {
        writer.write(&batch)?;
    }
    writer.finish()
}

async fn sorted(engine: &Engine, rows: &Arc<RowBuffer>, order: RowOrder) -> Result<RowBuffer> {
    let session = engine.session(Parallelism::One, [])?;
    let (schema, rows) = order.sort(engine, session.read_table(Arc::new(rows.table()?))?).await?;
    buffered(schema, rows).await
}

/// The rows that the selections keep, and what these have learned.
struct SelectedRows {
    rows: Arc<RowBuffer>,
    pipeline: Pipeline,
    selections: Vec<StepState>,
}

fn select(name: &SetName, set: &RowSet, rows: Arc<RowBuffer>, as_of: AsOf) -> Result<SelectedRows> {
    let (pipeline, mut selections) = Pipeline::learn_selections(name, set, &rows, as_of)?;
    if selections.is_empty() {
        return Ok(SelectedRows { rows, pipeline, selections });
    }
    let mut kept = RowBuffer::create(rows.schema().clone())?;
    for batch in rows.batches(None)? {
        let batch = pipeline.select(Apply::All, &batch?, Some(&mut selections))?;
        if batch.num_rows() > 0 {
            kept.write(&batch)?;
        }
    }
    Ok(SelectedRows { rows: Arc::new(kept.finish()?), pipeline, selections })
}

/// The encoded rows, and what all steps have learned.
pub(crate) struct Encoded<S> {
    pub(crate) rows: S,
    pub(crate) pipeline: Pipeline,
    pub(crate) selections: Vec<StepState>,
    pub(crate) encoders: Vec<StepState>,
}

fn learn_and_encode<S: RowSink>(
    set: &RowSet,
    selected: SelectedRows,
    as_of: AsOf,
    create: impl FnOnce(SchemaRef) -> Result<S>,
) -> Result<Encoded<S>> {
    let SelectedRows { rows, mut pipeline, selections } = selected;
    let encoders = pipeline.learn_encoders(set, &rows, as_of)?;
    let schema = output_schema(set, rows.schema(), &pipeline)?;
    let mut encoded = create(schema.clone())?;
    let mut training = pipeline.training(&rows, as_of)?;
    for batch in rows.batches(None)? {
        let batch = batch?;
        let features = training.encode(&batch)?;
        encoded.write(&output_batch(set, &schema, &batch, features)?)?;
    }
    Ok(Encoded { rows: encoded, pipeline, selections, encoders })
}

/// The columns of a materialization: event time, features, labels.
pub(crate) fn output_schema(set: &RowSet, rows: &Schema, pipeline: &Pipeline) -> Result<SchemaRef> {
    let mut fields = vec![rows.field_with_name(&set.event_time)?.clone()];
    fields.extend(pipeline.features());
    for label in &set.labels {
        fields.push(rows.field_with_name(label)?.clone());
    }
    Ok(Arc::new(Schema::new(fields.into_iter().map(|f: Field| f.with_nullable(true)).collect::<Vec<_>>())))
}

/// These rows with the columns of a materialization.
pub(crate) fn output_batch(set: &RowSet, schema: &SchemaRef, rows: &RecordBatch, features: Vec<ArrayRef>) -> Result<RecordBatch> {
    let column = |name: &String| -> Result<_> { Ok(rows.column(rows.schema().index_of(name)?).clone()) };
    let mut columns = vec![column(&set.event_time)?];
    columns.extend(features);
    for label in &set.labels {
        columns.push(column(label)?);
    }
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
