//! Which model saw what: a model's bytes, tied to the materialization or the kept training set that it was fitted on.
//! Models are neither fitted nor run here.
//!
//! | to | see |
//! |---|---|
//! | record a model | [`FeatureStore::record_model`](crate::FeatureStore::record_model), [`NewModel`] |
//! | find it again | [`FeatureStore::model`](crate::FeatureStore::model), [`FeatureStore::models`](crate::FeatureStore::models) |
//! | read its bytes | [`RecordedModel::artifact`] |
//! | know whether a service gives it what it was fitted on | [`RecordedModel::check_serves`] |
//! | know which facts and source files it saw | [`FeatureStore::why_model`](crate::FeatureStore::why_model), [`ModelOrigin`] |
//! | let its rows and facts go | [`FeatureStore::forget_model`](crate::FeatureStore::forget_model) |

mod artifact;
mod new;
mod origin;
mod record;
mod recorded;

pub use crate::manifest::{ArtifactRecord, FittedOn};
pub use new::{FittedRows, NewModel};
pub use origin::{FileState, ModelOrigin, SeenFile, SeenTable};
pub(crate) use record::{forget, model, models, record, refuse_used};
pub use recorded::RecordedModel;
