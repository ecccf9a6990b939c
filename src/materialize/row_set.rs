//! The rows of a set of rows: extracted, selected, put in order, encoded.
//! It decides the order of these steps, and leaves each step to those who know it.
//!
//! The order of the rows of a materialization is by event time, then by all other columns of the extract. Sorting is the dearest
//! step, so selections that learn the same in any order come before it: a sample of a tenth leaves a tenth to be sorted.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{Field, Schema, SchemaRef},
};
use datafusion::logical_expr::SortExpr;
use futures::{Stream, TryStreamExt};

use super::{
    Manifest, Materializer, Parts, Pinned, StepState,
    pipeline::{Apply, Pipeline},
    rows::{extract, order_of, plain_rows},
};
use crate::{
    catalog::Column,
    engine::{Engine, Parallelism},
    error::{Error, Result},
    feature_set::RowSet,
    name::SetName,
    scan::Spool,
    storage::Location,
    time::AsOf,
};

impl Materializer {
    /// Makes the rows and puts their files in place.
    pub(super) async fn write_rows(
        &self,
        set: &RowSet,
        tables: &[Pinned],
        place: &Location,
        manifest: &mut Manifest,
    ) -> Result<()> {
        let name = manifest.set.clone();
        let rows = extract(&self.engine, &name, set, tables, manifest.as_of, manifest.cutoff, None).await?;
        let order = order_of(rows.schema().as_arrow(), &set.event_time);
        let is_sorted_late = !set.selections.is_empty() && set.selections.iter().all(|step| step.learns_in_any_order());
        let rows = if is_sorted_late { rows } else { rows.sort(order.clone())? };
        let (schema, rows) = plain_rows(rows.execute_stream().await?);
        let all = set_aside(schema, rows).await?;
        manifest.rows_seen = all.rows();

        // Learning and encoding compute and read files: not on the threads that wait for the network.
        let (own_name, own_set, as_of) = (name.clone(), set.clone(), manifest.as_of);
        let mut chosen = apart(&name, move || choose(&own_name, &own_set, all, as_of)).await?;
        if is_sorted_late {
            chosen.rows = sorted(&self.engine, chosen.rows, order).await?;
        }
        let own_set = set.clone();
        let made = apart(&name, move || learn_and_encode(&own_set, chosen, as_of)).await?;
        manifest.columns = made.parts.schema.fields().iter().map(|f| Column::from_field(f)).collect();
        manifest.labels = set.labels.clone();
        manifest.selections = made.selections;
        manifest.encoders = made.encoders;
        manifest.parts = made.parts.publish(place).await?;
        Ok(())
    }
}

/// Runs a step of a set where it may block.
async fn apart<T: Send + 'static>(set: &SetName, step: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(step).await.map_err(|e| Error::Step {
        set: set.to_string(),
        step: "learning and encoding".into(),
        reason: format!("an encoder or row selection panicked: {e}"),
    })?
}

async fn set_aside(schema: SchemaRef, rows: impl Stream<Item = Result<RecordBatch>>) -> Result<Spool> {
    let mut writer = Spool::create(schema)?;
    let mut rows = std::pin::pin!(rows);
    while let Some(batch) = rows.try_next().await? {
        writer.write(&batch)?;
    }
    writer.finish()
}

async fn sorted(engine: &Engine, rows: Spool, order: Vec<SortExpr>) -> Result<Spool> {
    let schema = rows.schema().clone();
    let session = engine.session(Parallelism::One, [])?;
    let rows = session.read_table(Arc::new(rows.into_table()?))?.sort(order)?.execute_stream().await?;
    set_aside(schema, rows.map_err(Error::from)).await
}

/// The rows that the selections keep, and what these have learned.
struct Chosen {
    rows: Spool,
    pipeline: Pipeline,
    selections: Vec<StepState>,
}

fn choose(name: &SetName, set: &RowSet, rows: Spool, as_of: AsOf) -> Result<Chosen> {
    let (pipeline, mut selections) = Pipeline::learn_selections(name, set, &rows, as_of)?;
    if selections.is_empty() {
        return Ok(Chosen { rows, pipeline, selections });
    }
    let mut kept = Spool::create(rows.schema().clone())?;
    for batch in rows.batches(None)? {
        let batch = pipeline.select(Apply::All, &batch?, Some(&mut selections))?;
        if batch.num_rows() > 0 {
            kept.write(&batch)?;
        }
    }
    Ok(Chosen { rows: kept.finish()?, pipeline, selections })
}

/// What became of an extract.
struct Made {
    parts: Parts,
    selections: Vec<StepState>,
    encoders: Vec<StepState>,
}

fn learn_and_encode(set: &RowSet, chosen: Chosen, as_of: AsOf) -> Result<Made> {
    let Chosen { rows, mut pipeline, selections } = chosen;
    let encoders = pipeline.learn_encoders(set, &rows, as_of)?;
    let mut parts = Parts::new(output_schema(set, rows.schema(), &pipeline)?);
    for batch in rows.batches(None)? {
        parts.write(&output_batch(set, &pipeline, &parts.schema, &batch?)?)?;
    }
    Ok(Made { parts, selections, encoders })
}

/// Event time, features, labels.
pub(crate) fn output_schema(set: &RowSet, extract: &Schema, pipeline: &Pipeline) -> Result<SchemaRef> {
    let mut fields = vec![extract.field_with_name(&set.event_time)?.clone()];
    fields.extend(pipeline.features());
    for label in &set.labels {
        fields.push(extract.field_with_name(label)?.clone());
    }
    Ok(Arc::new(Schema::new(fields.into_iter().map(|f: Field| f.with_nullable(true)).collect::<Vec<_>>())))
}

pub(crate) fn output_batch(set: &RowSet, pipeline: &Pipeline, schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    let column = |name: &String| -> Result<_> { Ok(rows.column(rows.schema().index_of(name)?).clone()) };
    let mut columns = vec![column(&set.event_time)?];
    columns.extend(pipeline.encode("the extract", rows)?);
    for label in &set.labels {
        columns.push(column(label)?);
    }
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
