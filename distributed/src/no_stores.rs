//! Object stores of a scheduler: it reads no file, so whatever a plan names is an empty store of its own memory.

use std::sync::Arc;

use ballista_core::utils::default_session_builder;
use datafusion::{
    error::Result,
    execution::{SessionState, SessionStateBuilder, object_store::ObjectStoreRegistry, runtime_env::RuntimeEnvBuilder},
    object_store::{ObjectStore, memory::InMemory},
    prelude::SessionConfig,
};

#[derive(Debug, Default)]
struct NoStores {
    empty: Arc<InMemory>,
}

impl ObjectStoreRegistry for NoStores {
    fn register_store(&self, _: &url::Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    /// Decoding a scan asks for its store. The scheduler cuts plans and sends them on; it never reads from it.
    fn get_store(&self, _: &url::Url) -> Result<Arc<dyn ObjectStore>> {
        Ok(self.empty.clone())
    }
}

/// Ballista's session, which can open nothing.
pub(crate) fn session(config: SessionConfig) -> Result<SessionState> {
    let runtime = RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(NoStores::default())).build_arc()?;
    let state = default_session_builder(config)?;
    Ok(SessionStateBuilder::new_from_existing(state).with_runtime_env(runtime).build())
}
