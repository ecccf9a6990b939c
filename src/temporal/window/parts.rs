//! Windows of several kinds over one table, each with an operator of its own: the facts are read once for all.
//! Which kinds there are is decided where the operators are made.

use std::sync::Arc;

use arrow::array::ArrayRef;

use crate::{
    error::Result,
    temporal::{
        fact_chunk::FactChunk,
        operator::{FactAccumulator, OperatorContext, OperatorOutput, OutputMemory, TemporalOperator},
    },
};

pub(super) struct Parts {
    pub(super) parts: Vec<Arc<dyn TemporalOperator>>,
    /// For each output the part that makes it, in the order of that part's outputs.
    pub(super) part_of: Vec<usize>,
}

impl TemporalOperator for Parts {
    fn accumulator(self: Arc<Self>) -> Box<dyn FactAccumulator> {
        Box::new(PartAccumulators(self.parts.iter().map(|part| part.clone().accumulator()).collect()))
    }

    fn tie_resolver(self: Arc<Self>, _: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        Ok(self)
    }

    fn output(&self) -> Result<Arc<dyn OperatorOutput>> {
        let parts = self.parts.iter().map(|part| part.output()).collect::<Result<_>>()?;
        Ok(Arc::new(PartOutputs { parts, part_of: self.part_of.clone() }))
    }
}

struct PartAccumulators(Vec<Box<dyn FactAccumulator>>);

impl FactAccumulator for PartAccumulators {
    fn update(&mut self, chunk: &FactChunk) -> Result<()> {
        self.0.iter_mut().try_for_each(|accumulator| accumulator.update(chunk))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.0.into_iter().try_for_each(FactAccumulator::finish)
    }
}

struct PartOutputs {
    parts: Vec<Arc<dyn OperatorOutput>>,
    part_of: Vec<usize>,
}

impl OperatorOutput for PartOutputs {
    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let parts = self.parts.iter().map(|part| Ok(part.columns(slots)?.into_iter()));
        let mut parts = parts.collect::<Result<Vec<_>>>()?;
        Ok(self.part_of.iter().filter_map(|&part| parts[part].next()).collect())
    }

    fn memory(&self) -> Option<OutputMemory> {
        self.parts.iter().try_fold(OutputMemory { bytes: 0, row_bytes: 0 }, |all, part| {
            let own = part.memory()?;
            Some(OutputMemory { bytes: all.bytes + own.bytes, row_bytes: all.row_bytes + own.row_bytes })
        })
    }
}
