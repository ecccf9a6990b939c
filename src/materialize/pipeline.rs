//! The steps of a set of rows with their learned states: row selections, then encoders.
//! Training, scoring and serving run the same steps; only training learns.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, BooleanArray, RecordBatch},
    compute::{and, filter_record_batch, prep_null_mask_filter},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use serde_json::Value;

use super::{
    encoder_chain::{EncoderChain, QUERY, TrainingChain},
    row_buffer::RowBuffer,
};
use crate::{
    encoder::{Batches, PreparedSelection, Purpose, Replay, Spec, ViewParts, input_schema},
    error::{Error, Result},
    feature_set::{RowSet, field_of, select_inputs},
    manifest::StepState,
    name::SetName,
    time::AsOf,
};

/// The learned steps of a set of rows.
pub(crate) struct Pipeline {
    set: SetName,
    selections: Vec<(Spec, Purpose, SchemaRef, PreparedSelection)>,
    encoders: EncoderChain,
}

/// Which row selections apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apply {
    /// All of them, for training rows.
    All,
    /// Those that define the rows the model is about, for scored rows.
    Population,
}

impl Pipeline {
    /// Learns the selections, each from the rows that those before it left. Encoders are learned afterwards.
    pub(super) fn learn_selections(
        name: &SetName,
        set: &RowSet,
        rows: &RowBuffer,
        as_of: AsOf,
    ) -> Result<(Self, Vec<StepState>)> {
        let mut pipeline =
            Self { set: name.clone(), selections: Vec::new(), encoders: EncoderChain::new(name, &set.intermediate) };
        let mut states = Vec::new();
        for selection in &set.selections {
            let spec = selection.spec();
            let selected = RowsKeptSoFar { pipeline: &pipeline, rows };
            let view = ViewParts { as_of, columns: input_schema(&spec), rows: &selected };
            let state = selection.fit(&view.into()).map_err(|e| pipeline.step(&spec, e))?;
            let prepared = selection.clone().prepare(&state).map_err(|e| pipeline.step(&spec, e))?;
            states.push(StepState { name: spec.name.clone(), revision: spec.revision, state, rows_left: Some(0) });
            pipeline.selections.push((spec.clone(), selection.purpose(), input_schema(&spec), prepared));
        }
        Ok((pipeline, states))
    }

    /// Learns the encoders from the rows that the selections have left.
    pub(super) fn learn_encoders(&mut self, set: &RowSet, rows: &RowBuffer, as_of: AsOf) -> Result<Vec<StepState>> {
        set.encoders.iter().map(|encoder| self.encoders.learn(encoder, rows, as_of)).collect()
    }

    /// The encoders of a set in which no step learns.
    pub(super) fn without_learning(name: &SetName, set: &RowSet) -> Result<(Self, Vec<StepState>)> {
        let state = |spec: Spec| StepState { name: spec.name, revision: spec.revision, state: Value::Null, rows_left: None };
        let encoders: Vec<StepState> = set.encoders.iter().map(|encoder| state(encoder.spec())).collect();
        Ok((Self::load(name, set, &[], &encoders)?, encoders))
    }

    /// The steps with the states of a manifest.
    pub(crate) fn load(name: &SetName, set: &RowSet, selections: &[StepState], encoders: &[StepState]) -> Result<Self> {
        let mut pipeline =
            Self { set: name.clone(), selections: Vec::new(), encoders: EncoderChain::new(name, &set.intermediate) };
        for (selection, kept) in set.selections.iter().zip(selections) {
            let spec = selection.spec();
            let prepared = selection.clone().prepare(&kept.state).map_err(|e| pipeline.step(&spec, e))?;
            pipeline.selections.push((spec.clone(), selection.purpose(), input_schema(&spec), prepared));
        }
        for (encoder, kept) in set.encoders.iter().zip(encoders) {
            pipeline.encoders.add(encoder, &kept.state)?;
        }
        Ok(pipeline)
    }

    /// The rows that the selections keep. `left` counts the rows that are left after each selection.
    pub(crate) fn select(&self, apply: Apply, batch: &RecordBatch, left: Option<&mut [StepState]>) -> Result<RecordBatch> {
        let mut kept: Option<BooleanArray> = None;
        let mut counts = Vec::with_capacity(self.selections.len());
        for (spec, purpose, inputs, keep) in &self.selections {
            if apply == Apply::All || *purpose == Purpose::Population {
                let decide = || keep(&select_inputs(QUERY, batch, inputs)?);
                let decisions = decide().map_err(|e| self.step(spec, e))?;
                let decisions = if decisions.nulls().is_some() { prep_null_mask_filter(&decisions) } else { decisions };
                kept = Some(match kept {
                    Some(before) => and(&before, &decisions)?,
                    None => decisions,
                });
            }
            counts.push(kept.as_ref().map_or(batch.num_rows(), BooleanArray::true_count) as u64);
        }
        if let Some(left) = left {
            for (state, count) in left.iter_mut().zip(counts) {
                state.rows_left = Some(state.rows_left.unwrap_or(0) + count);
            }
        }
        Ok(match kept {
            Some(kept) => filter_record_batch(batch, &kept)?,
            None => batch.clone(),
        })
    }

    /// The feature columns of these rows, which no encoder was fitted on.
    pub(crate) fn encode(&self, subject: &str, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.encoders.encode(subject, batch)
    }

    /// Encodes the rows that the encoders were fitted on.
    pub(super) fn training<'a>(&'a self, rows: &'a RowBuffer, as_of: AsOf) -> Result<TrainingChain<'a>> {
        self.encoders.training(rows, as_of)
    }

    /// The fields of the feature columns.
    pub(crate) fn features(&self) -> Vec<Field> {
        self.encoders.features().cloned().collect()
    }

    /// The columns that rows must have to be encoded.
    pub(crate) fn request_schema(&self) -> SchemaRef {
        let mut fields: Vec<Field> = Vec::new();
        for field in self.encoders.needed() {
            match fields.iter_mut().find(|known| known.name() == field.name()) {
                None => fields.push(field.clone()),
                Some(known) => *known = common_type(known, field),
            }
        }
        Arc::new(Schema::new(fields))
    }

    fn step(&self, spec: &Spec, cause: Error) -> Error {
        step_error(&self.set, spec, cause)
    }
}

/// An error of a step, with the names of the set and the step unless it has them.
pub(super) fn step_error(set: &SetName, spec: &Spec, cause: Error) -> Error {
    match cause {
        own @ (Error::UnknownColumn { .. } | Error::ColumnType { .. } | Error::Step { .. }) => own,
        other => Error::step(set.to_string(), &spec.name, other),
    }
}

/// The type of a request's column that two encoders read as two types: the narrower one, which can be widened. A number that is also
/// a category is an integer, which is all that can be both.
pub(crate) fn common_type(known: &Field, other: &Field) -> Field {
    let serves = |from: &Field, to: &Field| field_of("the request", &Schema::new(vec![from.clone()]), to).is_ok();
    let integer = known.clone().with_data_type(DataType::Int64);
    match () {
        () if serves(known, other) => known.clone(),
        () if serves(other, known) => other.clone(),
        () if serves(&integer, known) && serves(&integer, other) => integer,
        () => known.clone(),
    }
}

/// The rows that the selections learned so far keep.
struct RowsKeptSoFar<'a> {
    pipeline: &'a Pipeline,
    rows: &'a RowBuffer,
}

impl Replay for RowsKeptSoFar<'_> {
    fn replay(&self, columns: &Schema) -> Result<Batches<'_>> {
        let selection_inputs: Vec<_> =
            self.pipeline.selections.iter().flat_map(|(_, _, inputs, _)| inputs.fields().iter().cloned()).collect();
        let wanted = Arc::new(columns.clone());
        Ok(Box::new(self.rows.columns(columns, &selection_inputs)?.map(move |batch| {
            let kept = self.pipeline.select(Apply::All, &batch?, None)?;
            select_inputs(QUERY, &kept, &wanted)
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_narrower_of_two_types_and_integers_for_numbers_that_are_categories() {
        use DataType::{Boolean, Float64, Int64, Utf8};
        for (one, other, expected) in [
            (Float64, Int64, Int64),
            (Utf8, Int64, Int64),
            (Utf8, Boolean, Boolean),
            (Float64, Utf8, Int64),
            (Utf8, Utf8, Utf8),
            (Float64, Float64, Float64),
        ] {
            let field = |data_type: &DataType| Field::new("x", data_type.clone(), true);
            for (first, second) in [(&one, &other), (&other, &one)] {
                assert_eq!(common_type(&field(first), &field(second)), field(&expected), "{first} and {second}");
            }
        }
    }
}
