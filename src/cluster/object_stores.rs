//! Object stores that a process opens by its own options and environment, whatever plan asks for them.

use std::sync::Arc;

use datafusion::{
    common::{DataFusionError, Result as DfResult},
    execution::object_store::ObjectStoreRegistry,
};
use object_store::ObjectStore;
use url::Url;

use crate::storage::Locations;

/// A registry for the runtime of an executor: each store is opened when a plan first reads from it. Credentials come from the options of
/// `locations` and from the environment of this process; none travel with a plan.
#[must_use]
pub fn object_stores(locations: Locations) -> Arc<dyn ObjectStoreRegistry> {
    Arc::new(OpenedStores { locations })
}

#[derive(Debug)]
struct OpenedStores {
    locations: Locations,
}

impl ObjectStoreRegistry for OpenedStores {
    /// The stores of this process are used, so none is registered.
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> DfResult<Arc<dyn ObjectStore>> {
        Ok(self.locations.open(url.as_str()).map_err(DataFusionError::from)?.store().clone())
    }
}
