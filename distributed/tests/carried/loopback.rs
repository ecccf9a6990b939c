//! A runner that takes a plan apart as a cluster does, as far as one process can: to bytes, and back in another runtime.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use asof::{
    cluster::{Codec, Runner, object_stores},
    storage::Locations,
};
use datafusion::{
    common::Result,
    execution::{SendableRecordBatchStream, TaskContext, runtime_env::RuntimeEnvBuilder},
    physical_plan::{ExecutionPlan, displayable, execute_stream_partitioned},
    prelude::{SessionConfig, SessionContext},
};
use datafusion_proto::{
    bytes::{physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec},
    physical_plan::DefaultPhysicalExtensionCodec,
};
use futures::future::{BoxFuture, ready};

/// Runs plans in this process, after they have travelled.
#[derive(Debug, Clone)]
pub(crate) struct Loopback {
    pub(crate) partitions: usize,
    /// How many plans have travelled.
    pub(crate) plans: Arc<AtomicUsize>,
    /// The last plan, as it has arrived.
    pub(crate) last: Arc<Mutex<String>>,
}

impl Loopback {
    pub(crate) fn new(partitions: usize) -> Self {
        Self { partitions, plans: Arc::default(), last: Arc::default() }
    }
}

impl Runner for Loopback {
    fn partitions(&self) -> usize {
        self.partitions
    }

    fn run(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: Arc<TaskContext>,
    ) -> BoxFuture<'static, Result<Vec<SendableRecordBatchStream>>> {
        Box::pin(ready(self.travelled(plan)))
    }
}

impl Loopback {
    fn travelled(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Vec<SendableRecordBatchStream>> {
        let codec = || Codec::new(Arc::new(DefaultPhysicalExtensionCodec {}), Locations::default());
        let bytes = physical_plan_to_bytes_with_extension_codec(plan, &codec())?;
        self.plans.fetch_add(1, Ordering::Relaxed);
        let runtime = RuntimeEnvBuilder::new().with_object_store_registry(object_stores(Locations::default())).build_arc()?;
        let there = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(1), runtime).task_ctx();
        let plan = physical_plan_from_bytes_with_extension_codec(&bytes, &there, &codec())?;
        // A scheduler decodes a plan, encodes its stages, and executors decode these.
        let bytes = physical_plan_to_bytes_with_extension_codec(plan, &codec())?;
        let plan = physical_plan_from_bytes_with_extension_codec(&bytes, &there, &codec())?;
        *self.last.lock().unwrap() = displayable(plan.as_ref()).indent(false).to_string();
        execute_stream_partitioned(plan, there)
    }
}
