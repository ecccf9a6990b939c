//! Windows over all facts within reach and windows over a number of facts, of one table: its facts are read once for both.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::{Window, counted::CountedWindow};
use crate::{
    error::Result,
    temporal::{
        fact_chunk::FactChunk,
        operator::{FactAccumulator, OperatorContext, OperatorOutput, OutputMemory, TemporalOperator},
    },
};

pub(super) struct BothKinds {
    pub(super) timed: Arc<Window>,
    pub(super) newest: Arc<CountedWindow>,
    /// For each output: is it over a number of facts?
    pub(super) is_counted: Vec<bool>,
}

impl TemporalOperator for BothKinds {
    fn accumulator(self: Arc<Self>) -> Box<dyn FactAccumulator> {
        Box::new(BothAccumulators([self.timed.clone().accumulator(), self.newest.clone().accumulator()]))
    }

    fn tie_resolver(self: Arc<Self>, _: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        Ok(self)
    }

    fn output(&self) -> Result<Arc<dyn OperatorOutput>> {
        let (timed, newest) = (self.timed.output()?, self.newest.output()?);
        Ok(Arc::new(BothOutputs { timed, newest, is_counted: self.is_counted.clone() }))
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
    newest: Arc<dyn OperatorOutput>,
    is_counted: Vec<bool>,
}

impl OperatorOutput for BothOutputs {
    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let (mut timed, mut newest) = (self.timed.columns(slots)?.into_iter(), self.newest.columns(slots)?.into_iter());
        Ok(self.is_counted.iter().filter_map(|&is_counted| if is_counted { newest.next() } else { timed.next() }).collect())
    }

    fn memory(&self) -> Option<OutputMemory> {
        let (timed, newest) = (self.timed.memory()?, self.newest.memory()?);
        Some(OutputMemory { bytes: timed.bytes + newest.bytes, row_bytes: timed.row_bytes + newest.row_bytes })
    }
}
