//! Windows over all facts within reach, and windows whose facts are held, of one table: its facts are read once for both.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::{Window, held::HeldWindow};
use crate::{
    error::Result,
    temporal::{
        fact_chunk::FactChunk,
        operator::{FactAccumulator, OperatorContext, OperatorOutput, OutputMemory, TemporalOperator},
    },
};

pub(super) struct BothKinds {
    pub(super) timed: Arc<Window>,
    pub(super) held: Arc<HeldWindow>,
    /// For each output: is it over held facts?
    pub(super) is_held: Vec<bool>,
}

impl TemporalOperator for BothKinds {
    fn accumulator(self: Arc<Self>) -> Box<dyn FactAccumulator> {
        Box::new(BothAccumulators([self.timed.clone().accumulator(), self.held.clone().accumulator()]))
    }

    fn tie_resolver(self: Arc<Self>, _: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        Ok(self)
    }

    fn output(&self) -> Result<Arc<dyn OperatorOutput>> {
        let (timed, held) = (self.timed.output()?, self.held.output()?);
        Ok(Arc::new(BothOutputs { timed, held, is_held: self.is_held.clone() }))
    }
}

struct BothAccumulators([Box<dyn FactAccumulator>; 2]);

impl FactAccumulator for BothAccumulators {
    fn update(&mut self, chunk: &FactChunk) -> Result<()> {
        self.0.iter_mut().try_for_each(|accumulator| accumulator.update(chunk))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.0.into_iter().try_for_each(FactAccumulator::finish)
    }
}

struct BothOutputs {
    timed: Arc<dyn OperatorOutput>,
    held: Arc<dyn OperatorOutput>,
    is_held: Vec<bool>,
}

impl OperatorOutput for BothOutputs {
    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let (mut timed, mut held) = (self.timed.columns(slots)?.into_iter(), self.held.columns(slots)?.into_iter());
        Ok(self.is_held.iter().filter_map(|&is_held| if is_held { held.next() } else { timed.next() }).collect())
    }

    fn memory(&self) -> Option<OutputMemory> {
        let (timed, held) = (self.timed.memory()?, self.held.memory()?);
        Some(OutputMemory { bytes: timed.bytes + held.bytes, row_bytes: timed.row_bytes + held.row_bytes })
    }
}
