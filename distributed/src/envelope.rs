//! The plan of a task on its way from the scheduler to an executor.
//!
//! An executor of Ballista that cannot decode a task rejects its job without a word on who and why. So a plan travels as bytes within a
//! node of its own. What is in it and cannot be decoded becomes a [`Refused`] plan, which fails as a task with the reason.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::datatypes::Schema,
    common::tree_node::TreeNodeRecursion,
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
    },
};
use datafusion_proto::{
    physical_plan::{AsExecutionPlan, PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension},
    protobuf::{PhysicalExtensionNode, PhysicalPlanNode, physical_plan_node::PhysicalPlanType},
};
use prost::Message;

/// Stand after a plan, and after the reason why there is none.
const PLAN: &[u8] = b":asof task plan";
const REFUSAL: &[u8] = b":asof task refusal";

/// These bytes of a plan in an envelope.
pub(crate) fn sealed(plan: Vec<u8>) -> Vec<u8> {
    node(plan, PLAN)
}

/// An envelope that makes its task fail with this reason.
pub(crate) fn refusal(reason: &str) -> Vec<u8> {
    node(reason.as_bytes().to_vec(), REFUSAL)
}

/// The mark comes last: plans can be large, and are not copied for it.
fn node(mut bytes: Vec<u8>, mark: &[u8]) -> Vec<u8> {
    bytes.extend_from_slice(mark);
    let node = PhysicalExtensionNode { node: bytes, inputs: Vec::new() };
    PhysicalPlanNode { physical_plan_type: Some(PhysicalPlanType::Extension(node)) }.encode_to_vec()
}

/// Opens envelopes; decodes what is in them with another codec.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) inner: Arc<dyn PhysicalExtensionCodec>,
}

impl PhysicalExtensionCodec for Opener {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(reason) = bytes.strip_suffix(REFUSAL) {
            return Ok(Arc::new(Refused::new(String::from_utf8_lossy(reason).into_owned())));
        }
        let Some(plan) = bytes.strip_suffix(PLAN) else {
            return self.inner.try_decode(bytes, inputs, context, converter);
        };
        let context = PhysicalPlanDecodeContext::new(context, self.inner.as_ref());
        let decoded = PhysicalPlanNode::try_decode(plan).and_then(|node| converter.proto_to_execution_plan(&node, &context));
        Ok(decoded.unwrap_or_else(|error| Arc::new(Refused::new(format!("it cannot read its part of the plan: {error}")))))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        self.inner.try_encode(node, bytes, converter)
    }
}

/// A plan that cannot run.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: String,
    properties: Arc<PlanProperties>,
}

impl Refused {
    fn new(reason: String) -> Self {
        let schema = EquivalenceProperties::new(Arc::new(Schema::empty()));
        let partitioning = Partitioning::UnknownPartitioning(1);
        let properties = PlanProperties::new(schema, partitioning, EmissionType::Incremental, Boundedness::Bounded);
        Self { reason, properties: Arc::new(properties) }
    }
}

impl DisplayAs for Refused {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refused: {}", self.reason)
    }
}

impl ExecutionPlan for Refused {
    fn name(&self) -> &str {
        "Refused"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Err(DataFusionError::Execution(self.reason.clone()))
    }
}

#[cfg(test)]
mod tests {
    use ballista_core::serde::BallistaPhysicalExtensionCodec;
    use datafusion::physical_plan::empty::EmptyExec;

    use super::*;

    fn opened(bytes: &[u8]) -> Result<Arc<dyn ExecutionPlan>> {
        let codec = Opener { inner: Arc::new(BallistaPhysicalExtensionCodec::default()) };
        PhysicalPlanNode::try_decode(bytes)?.try_into_physical_plan(&TaskContext::default(), &codec)
    }

    fn reason(bytes: &[u8]) -> String {
        let plan = opened(bytes);
        let refused = plan.as_ref().ok().and_then(|plan| plan.downcast_ref::<Refused>());
        refused.map(|refused| refused.reason.clone()).unwrap_or_default()
    }

    #[test]
    fn a_plan_comes_out_of_its_envelope_and_a_damaged_one_says_why_not() {
        let plan: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(Arc::new(Schema::empty())));
        let codec = BallistaPhysicalExtensionCodec::default();
        let Ok(node) = PhysicalPlanNode::try_from_physical_plan(plan, &codec) else { unreachable!() };
        assert!(opened(&sealed(node.encode_to_vec())).is_ok_and(|plan| plan.name() == "EmptyExec"));
        let said = reason(&sealed(b"no plan".to_vec()));
        assert!(said.starts_with("it cannot read its part of the plan: "), "{said}");
        assert_eq!(reason(&refusal("it is too long")), "it is too long");
    }
}
