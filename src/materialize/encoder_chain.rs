//! The encoders of a set of rows, one after the other. Each reads columns of the rows and outputs of the encoders before it.
//! Training rows are encoded by the same functions as requests, except where an encoder has its own way for the rows that it was
//! fitted on.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::{Field, Schema, SchemaRef},
};
use serde_json::Value;

use super::{pipeline::step_error, row_buffer::RowBuffer};
use crate::{
    encoder::{AnyEncoder, Batches, Prepared, Replay, Spec, TrainingEncoder, ViewParts, input_schema, learning_schema},
    error::Result,
    feature_set::{reads_encoder, select_inputs},
    manifest::StepState,
    name::SetName,
    time::AsOf,
};

/// Where training rows come from, for errors.
pub(super) const QUERY: &str = "the set's query";

/// Encoders with the states that they have learned.
pub(crate) struct EncoderChain {
    set: SetName,
    /// The outputs that are no features.
    intermediate: Vec<String>,
    steps: Vec<Step>,
}

struct Step {
    spec: Spec,
    encoder: Arc<dyn AnyEncoder>,
    state: Value,
    encode: Prepared,
    inputs: SchemaRef,
    /// What its view has: the inputs, and what it only learns from.
    learned_from: SchemaRef,
    /// The encoders before it whose outputs it reads.
    reads: Vec<usize>,
}

impl EncoderChain {
    /// Encoders of this set, none yet.
    pub(super) fn new(set: &SetName, intermediate: &[String]) -> Self {
        Self { set: set.clone(), intermediate: intermediate.to_vec(), steps: Vec::new() }
    }

    /// Fits an encoder on rows that the encoders before it have encoded, and adds it.
    pub(super) fn learn(&mut self, encoder: &Arc<dyn AnyEncoder>, rows: &RowBuffer, as_of: AsOf) -> Result<StepState> {
        let spec = encoder.spec();
        let view = self.view(self.steps.len(), &spec, rows, as_of);
        let state = encoder.fit(&view.as_view()).map_err(|e| step_error(&self.set, &spec, e))?;
        let learned = StepState { name: spec.name.clone(), revision: spec.revision, state, rows_left: None };
        self.add(encoder, &learned.state)?;
        Ok(learned)
    }

    /// Adds an encoder with its state.
    pub(super) fn add(&mut self, encoder: &Arc<dyn AnyEncoder>, state: &Value) -> Result<()> {
        let spec = encoder.spec();
        let encode = encoder.clone().prepare(state).map_err(|e| step_error(&self.set, &spec, e))?;
        let (inputs, learned_from) = (input_schema(&spec), learning_schema(&spec));
        let before: Vec<&Spec> = self.steps.iter().map(|step| &step.spec).collect();
        let mut reads: Vec<usize> =
            learned_from.fields().iter().filter_map(|field| reads_encoder(&before, field.name())).collect();
        reads.sort_unstable();
        reads.dedup();
        self.steps.push(Step { spec, encoder: encoder.clone(), state: state.clone(), encode, inputs, learned_from, reads });
        Ok(())
    }

    /// The feature columns of these rows, which need the columns of [`EncoderChain::needed`].
    pub(crate) fn encode(&self, subject: &str, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let mut made: Vec<Vec<ArrayRef>> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let inputs = self.columns(subject, &step.inputs, &step.reads, rows, &made)?;
            made.push((step.encode)(&inputs).map_err(|e| step_error(&self.set, &step.spec, e))?);
        }
        Ok(self.feature_columns(made))
    }

    /// The columns that are features, of all that the steps have made.
    fn feature_columns(&self, made: Vec<Vec<ArrayRef>>) -> Vec<ArrayRef> {
        let outputs = self.steps.iter().flat_map(|step| &step.spec.outputs);
        outputs.zip(made.into_iter().flatten()).filter(|(output, _)| self.is_feature(output)).map(|(_, column)| column).collect()
    }

    fn is_feature(&self, output: &Field) -> bool {
        !self.intermediate.contains(output.name())
    }

    /// The feature columns of the rows that the encoders were fitted on, batch by batch.
    pub(super) fn training<'a>(&'a self, rows: &'a RowBuffer, as_of: AsOf) -> Result<TrainingChain<'a>> {
        self.training_of(&(0..self.steps.len()).collect::<Vec<_>>(), rows, as_of)
    }

    fn training_of<'a>(&'a self, steps: &[usize], rows: &'a RowBuffer, as_of: AsOf) -> Result<TrainingChain<'a>> {
        let mut own = Vec::with_capacity(steps.len());
        for &number in steps {
            let step = &self.steps[number];
            let view = self.view(number, &step.spec, rows, as_of);
            let encoder = step.encoder.training_encoder(&step.state, &view.as_view());
            own.push((number, encoder.map_err(|e| step_error(&self.set, &step.spec, e))?));
        }
        Ok(TrainingChain { chain: self, own })
    }

    /// The fields of the feature columns.
    pub(crate) fn features(&self) -> impl Iterator<Item = &Field> {
        self.steps.iter().flat_map(|step| &step.spec.outputs).filter(|output| self.is_feature(output))
    }

    /// The columns that rows must have to be encoded, each as often as an encoder reads it.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &Field> {
        self.steps.iter().flat_map(|step| {
            let is_made = |field: &Field| step.reads.iter().any(|&i| outputs(&self.steps[i].spec, field.name()).is_some());
            step.spec.inputs.iter().filter(move |field| !is_made(field))
        })
    }

    /// These columns: outputs of the encoders `from`, as they are `made`, and else columns of the rows.
    fn columns(
        &self,
        subject: &str,
        wanted: &SchemaRef,
        from: &[usize],
        rows: &RecordBatch,
        made: &[Vec<ArrayRef>],
    ) -> Result<RecordBatch> {
        if from.is_empty() {
            return select_inputs(subject, rows, wanted);
        }
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for field in wanted.fields() {
            let output = from.iter().find_map(|&i| Some((i, outputs(&self.steps[i].spec, field.name())?)));
            if let Some((i, position)) = output {
                fields.push(Arc::new(self.steps[i].spec.outputs[position].clone()));
                columns.push(made[i][position].clone());
            } else if let Some((position, found)) = rows.schema_ref().column_with_name(field.name()) {
                // A column that is missing is reported by `select_inputs`.
                fields.push(Arc::new(found.clone()));
                columns.push(rows.column(position).clone());
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let joined = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        select_inputs(subject, &joined, wanted)
    }

    fn view<'a>(&'a self, before: usize, spec: &Spec, rows: &'a RowBuffer, as_of: AsOf) -> View<'a> {
        View { columns: learning_schema(spec), as_of, rows: EncodedRows { chain: self, before, rows, as_of } }
    }
}

/// The position of an output.
fn outputs(spec: &Spec, name: &str) -> Option<usize> {
    spec.outputs.iter().position(|field| field.name() == name)
}

/// Encodes training rows, batch by batch in their order.
pub(super) struct TrainingChain<'a> {
    chain: &'a EncoderChain,
    /// The steps that run, and their own ways for training rows.
    own: Vec<(usize, Option<TrainingEncoder>)>,
}

impl TrainingChain<'_> {
    /// The feature columns of the next rows.
    pub(super) fn encode(&mut self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(self.chain.feature_columns(self.made(rows)?))
    }

    /// The outputs by step; none for steps that do not run.
    fn made(&mut self, rows: &RecordBatch) -> Result<Vec<Vec<ArrayRef>>> {
        let chain = self.chain;
        let mut made: Vec<Vec<ArrayRef>> = vec![Vec::new(); chain.steps.len()];
        for (number, own) in &mut self.own {
            let step = &chain.steps[*number];
            let columns = match own {
                Some(encode) => encode(&chain.columns(QUERY, &step.learned_from, &step.reads, rows, &made)?),
                None => (step.encode)(&chain.columns(QUERY, &step.inputs, &step.reads, rows, &made)?),
            };
            made[*number] = columns.map_err(|e| step_error(&chain.set, &step.spec, e))?;
        }
        Ok(made)
    }
}

/// What an encoder learns from.
struct View<'a> {
    columns: SchemaRef,
    as_of: AsOf,
    rows: EncodedRows<'a>,
}

impl View<'_> {
    fn as_view(&self) -> crate::encoder::AsOfView<'_> {
        ViewParts { as_of: self.as_of, columns: self.columns.clone(), rows: &self.rows }.into()
    }
}

/// Rows with the outputs of the first encoders of a chain.
struct EncodedRows<'a> {
    chain: &'a EncoderChain,
    before: usize,
    rows: &'a RowBuffer,
    as_of: AsOf,
}

impl Replay for EncodedRows<'_> {
    fn replay(&self, columns: &Schema) -> Result<Batches<'_>> {
        let steps = &self.chain.steps;
        let before: Vec<&Spec> = steps[..self.before].iter().map(|step| &step.spec).collect();
        // The encoders whose outputs are wanted, and those whose outputs they read.
        let mut running: Vec<usize> = columns.fields().iter().filter_map(|field| reads_encoder(&before, field.name())).collect();
        let mut next = 0;
        while let Some(&number) = running.get(next) {
            running.extend(steps[number].reads.iter().filter(|i| !running.contains(i)).copied().collect::<Vec<_>>());
            next += 1;
        }
        running.sort_unstable();
        running.dedup();
        let wanted = Arc::new(columns.clone());
        if running.is_empty() {
            let rows = self.rows.columns(columns, &[])?;
            return Ok(Box::new(rows.map(move |batch| select_inputs(QUERY, &batch?, &wanted))));
        }
        let read: Vec<_> = running.iter().flat_map(|&i| steps[i].learned_from.fields().iter().cloned()).collect();
        let mut training = self.chain.training_of(&running, self.rows, self.as_of)?;
        Ok(Box::new(self.rows.columns(columns, &read)?.map(move |batch| {
            let batch = batch?;
            let made = training.made(&batch)?;
            self.chain.columns(QUERY, &wanted, &running, &batch, &made)
        })))
    }
}
