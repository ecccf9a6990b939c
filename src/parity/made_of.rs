//! Which encoder makes a feature of a set of rows, which columns it reads, and which features training encodes in a way of its own.

use serde_json::Value;

use crate::{
    encoder::{AnyEncoder, Batches, Replay, Spec, ViewParts, learning_schema},
    error::Result,
    feature_set::{RowSet, reads_encoder},
    manifest::StepState,
    time::AsOf,
};

/// The encoders of a set, and what each reads.
pub(super) struct MadeOf {
    specs: Vec<Spec>,
    /// Does training encode the outputs of this encoder, or what it reads, in a way of its own?
    is_own_way: Vec<bool>,
}

impl MadeOf {
    /// The encoders of a set with the states that they have learned.
    pub(super) fn new(set: &RowSet, states: &[StepState], as_of: AsOf) -> Self {
        let specs: Vec<Spec> = set.encoders.iter().map(|encoder| encoder.spec()).collect();
        let mut is_own_way: Vec<bool> = Vec::with_capacity(specs.len());
        for (number, encoder) in set.encoders.iter().enumerate() {
            let state = states.get(number).map_or(&Value::Null, |state| &state.state);
            let reads_one = specs[number].inputs.iter().any(|input| {
                let before: Vec<&Spec> = specs[..number].iter().collect();
                reads_encoder(&before, input.name()).is_some_and(|from| is_own_way[from])
            });
            is_own_way.push(reads_one || has_own_way(encoder.as_ref(), &specs[number], state, as_of));
        }
        Self { specs, is_own_way }
    }

    /// The encoder that makes a feature.
    fn encoder(&self, feature: &str) -> Option<usize> {
        self.specs.iter().position(|spec| spec.outputs.iter().any(|output| output.name() == feature))
    }

    /// The name of the encoder that makes a feature.
    pub(super) fn name(&self, feature: &str) -> String {
        self.encoder(feature)
            .map_or_else(|| "no encoder".to_owned(), |number| format!("the encoder `{}`", self.specs[number].name))
    }

    /// Is a feature of training rows not what the same rows have as requests, by design?
    pub(super) fn is_own_way(&self, feature: &str) -> bool {
        self.encoder(feature).is_some_and(|number| self.is_own_way[number])
    }

    /// The columns of the rows that a feature is made of, also by way of other encoders.
    pub(super) fn columns(&self, feature: &str) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(number) = self.encoder(feature) {
            self.add_columns(number, &mut found);
        }
        found
    }

    fn add_columns(&self, number: usize, found: &mut Vec<String>) {
        let before: Vec<&Spec> = self.specs[..number].iter().collect();
        for input in &self.specs[number].inputs {
            match reads_encoder(&before, input.name()) {
                // It stands before the encoder that reads it, so this ends.
                Some(from) => self.add_columns(from, found),
                None if found.contains(input.name()) => {}
                None => found.push(input.name().clone()),
            }
        }
    }
}

/// Asks the encoder, with no rows to learn from. One that fails then has a way of its own, too.
fn has_own_way(encoder: &dyn AnyEncoder, spec: &Spec, state: &Value, as_of: AsOf) -> bool {
    let view = ViewParts { as_of, columns: learning_schema(spec), rows: &NoRows }.into();
    !matches!(encoder.training_encoder(state, &view), Ok(None))
}

struct NoRows;

impl Replay for NoRows {
    fn replay(&self, _: &arrow::datatypes::Schema) -> Result<Batches<'_>> {
        Ok(Box::new(std::iter::empty()))
    }
}
