//! The rows of a set of rows: queried, selected, sorted, encoded. This file decides the order of these steps.
//!
//! The rows of a materialization are sorted by event time, then by all other columns of the query. Sorting is the most
//! expensive step, so selections that learn the same in any order run before it: a sample of a tenth leaves a tenth to sort.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{Field, Schema, SchemaRef},
};
use datafusion::logical_expr::SortExpr;
use futures::{Stream, TryStreamExt};

use super::{
    instant_check::InstantCheck,
    pipeline::{Apply, Pipeline},
    row_buffer::RowBuffer,
    rows::{QueriedRows, RowQuery},
};
use crate::{
    catalog::Column,
    engine::{Engine, Parallelism},
    error::{Error, Result},
    feature_set::RowSet,
    manifest::{Manifest, StepState},
    name::SetName,
    scan::VisibleTable,
    storage::Location,
    time::AsOf,
    workspace::{PartsWriter, plain_rows},
};

/// Makes the rows and writes their files to `location`.
pub(super) async fn write_rows(
    engine: &Engine,
    set: &RowSet,
    tables: &[VisibleTable],
    location: &Location,
    manifest: &mut Manifest,
) -> Result<()> {
    let name = manifest.set.clone();
    let query = RowQuery { engine, name: &name, set, tables, as_of: manifest.as_of, span: None, served: None };
    let QueriedRows { rows, order, check } = query.rows().await?;
    let is_sorted_late = is_sorted_late(set);
    let rows = if is_sorted_late { rows } else { rows.sort(order.clone())? };
    let (schema, rows) = plain_rows(rows.execute_stream().await?);
    let all = buffered(schema, rows, check.as_ref()).await?;
    manifest.rows_seen = all.rows();

    // Learning and encoding compute and read files: not on the threads that wait for the network.
    let (own_name, own_set, as_of) = (name.clone(), set.clone(), manifest.as_of);
    let mut selected = on_blocking_thread(&name, move || select(&own_name, &own_set, all, as_of)).await?;
    if is_sorted_late {
        selected.rows = sorted(engine, selected.rows, order).await?;
    }
    let own_set = set.clone();
    let encoded = on_blocking_thread(&name, move || learn_and_encode(&own_set, selected, as_of)).await?;
    manifest.columns = encoded.parts.schema.fields().iter().map(|f| Column::from_field(f)).collect();
    manifest.labels = set.labels.clone();
    manifest.selections = encoded.selections;
    manifest.encoders = encoded.encoders;
    manifest.parts = encoded.parts.publish(location).await?;
    Ok(())
}

/// Do the selections run before the rows are sorted?
pub(super) fn is_sorted_late(set: &RowSet) -> bool {
    !set.selections.is_empty() && set.selections.iter().all(|step| step.learns_in_any_order())
}

/// Runs a step of a set on a thread that may block.
async fn on_blocking_thread<T: Send + 'static>(set: &SetName, step: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
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

async fn buffered(
    schema: SchemaRef,
    rows: impl Stream<Item = Result<RecordBatch>>,
    check: Option<&InstantCheck>,
) -> Result<RowBuffer> {
    let mut writer = RowBuffer::create(schema)?;
    let mut rows = std::pin::pin!(rows);
    while let Some(batch) = rows.try_next().await? {
        if let Some(check) = check {
            check.apply(&batch)?;
        }
        writer.write(&batch)?;
    }
    writer.finish()
}

async fn sorted(engine: &Engine, rows: RowBuffer, order: Vec<SortExpr>) -> Result<RowBuffer> {
    let schema = rows.schema().clone();
    let session = engine.session(Parallelism::One, [])?;
    let rows = session.read_table(Arc::new(rows.into_table()?))?.sort(order)?.execute_stream().await?;
    buffered(schema, rows.map_err(Error::from), None).await
}

/// The rows that the selections keep, and what these have learned.
struct SelectedRows {
    rows: RowBuffer,
    pipeline: Pipeline,
    selections: Vec<StepState>,
}

fn select(name: &SetName, set: &RowSet, rows: RowBuffer, as_of: AsOf) -> Result<SelectedRows> {
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
    Ok(SelectedRows { rows: kept.finish()?, pipeline, selections })
}

/// The files of the encoded rows, and what all steps have learned.
struct Encoded {
    parts: PartsWriter,
    selections: Vec<StepState>,
    encoders: Vec<StepState>,
}

fn learn_and_encode(set: &RowSet, selected: SelectedRows, as_of: AsOf) -> Result<Encoded> {
    let SelectedRows { rows, mut pipeline, selections } = selected;
    let encoders = pipeline.learn_encoders(set, &rows, as_of)?;
    let mut parts = PartsWriter::new(output_schema(set, rows.schema(), &pipeline)?);
    let mut training = pipeline.training(&rows, as_of)?;
    for batch in rows.batches(None)? {
        let batch = batch?;
        let features = training.encode(&batch)?;
        parts.write(&output_batch(set, &parts.schema, &batch, features)?)?;
    }
    Ok(Encoded { parts, selections, encoders })
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
