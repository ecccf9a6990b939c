//! A store whose queries run elsewhere.

use std::sync::Arc;

use super::FeatureStore;
use crate::{cluster::Runner, workspace::Workspace};

/// Elsewhere.
impl FeatureStore {
    /// The same store, whose queries run where this runner takes them: on a cluster.
    ///
    /// The results are those of this store: rows, order, ids and content. What only this process can read is read here and sent along:
    /// the rows of a spine, and of [providers](FeatureStore::register_provider). Encoders and row selections run here, and only this process
    /// writes below the root.
    ///
    /// Registered sets and providers are shared with this store.
    #[must_use]
    pub fn on<R: Runner + Clone>(&self, runner: &R) -> FeatureStore {
        let workspace = Workspace { engine: self.workspace.engine.on(Arc::new(runner.clone())), ..(*self.workspace).clone() };
        FeatureStore { workspace: Arc::new(workspace), ..self.clone() }
    }
}
