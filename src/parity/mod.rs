//! Parity on demand: the service is asked, and its answers are compared with those of training, bit for bit.
//! Nothing is repaired here: a report says what was compared, what differs, and what could not be compared.
//!
//! | to | see |
//! |---|---|
//! | compare serving with training at an instant | [`FeatureStore::verify_parity`](crate::FeatureStore::verify_parity), [`ParitySample`] |
//! | log what a service answers | [`ServedLog`] |
//! | compare a log with what is published and with training | [`FeatureStore::verify_served_log`](crate::FeatureStore::verify_served_log) |
//! | know the first difference | [`ParityReport`], [`Difference`] |

mod as_served;
mod compare;
mod drawing;
mod entities;
mod log_columns;
mod log_files;
mod made_of;
mod queried;
mod replay;
mod report;
mod rows;
mod sample;
mod served_log;

use std::sync::Arc;

pub(crate) use replay::replay;
pub use report::{ComparedValue, Difference, ParityReport};
pub use sample::ParitySample;
pub use served_log::{Recorded, ServedLog, ServedLogOptions, ServedLogSummary};

use crate::{
    error::Result,
    feature_set::{FeatureSet, SetBody},
    time::AsOf,
    workspace::Workspace,
};

/// Compares what is served of a set as of an instant with what training has.
pub(crate) async fn verify(
    workspace: &Arc<Workspace>,
    set: &FeatureSet,
    as_of: AsOf,
    sample: ParitySample,
) -> Result<ParityReport> {
    match &set.body {
        SetBody::Entities(entities) => entities::verify(workspace, set, entities, as_of, sample).await,
        SetBody::Rows(rows) => rows::verify(workspace, set, rows, as_of, sample).await,
    }
}
