//! Materializations: the rows of a feature set at one as-of, published once under the hash of everything that determines them.
//! A published materialization is complete and is never overwritten.
//!
//! | to | see |
//! |---|---|
//! | make one, or find it | [`FeatureStore::materialize`](crate::FeatureStore::materialize) |
//! | know before what would be read and computed | [`FeatureStore::plan`](crate::FeatureStore::plan) |
//! | list what is published, and open any of it | [`FeatureStore::materializations`](crate::FeatureStore::materializations), [`FeatureStore::open_materialization`](crate::FeatureStore::open_materialization) |
//! | know what would be another one now, and why | [`FeatureStore::stale`](crate::FeatureStore::stale), [`StaleReason`] |
//! | compute one again and compare it | [`FeatureStore::replay`](crate::FeatureStore::replay), [`ReplayDifference`] |

mod binding;
mod by_id;
mod columns;
mod compute;
mod definition;
mod drawn;
mod encoder_chain;
mod entities;
mod entities_elsewhere;
mod facts;
mod handle;
mod incremental;
mod instant_check;
mod many;
mod newest;
mod pipeline;
mod plan;
mod published;
mod replay;
mod row_buffer;
mod row_difference;
mod row_order;
mod row_set;
mod rows;
mod run;
mod scored;
mod served;
mod stale;
mod stale_report;

pub use crate::{
    manifest::{ENGINE_REVISION, EngineVersions, InputFile, InputTable, Manifest, PartialRows, StepState},
    workspace::Part,
};
pub(crate) use binding::{check_binding, forget};
pub(crate) use by_id::find_by_id;
pub(crate) use columns::check_columns;
pub(crate) use definition::Definition;
pub(crate) use drawn::{Refreshes, add_drawn, facts_of_rows};
pub(crate) use facts::SetFacts;
pub use handle::Materialization;
pub use incremental::Incremental;
pub(crate) use many::{materialize_many, materialize_many_pinned};
pub(crate) use newest::{Rank, SeenManifests, never_materialized, newest};
pub(crate) use pipeline::{Apply, Pipeline, common_type};
pub(crate) use plan::plan;
pub use plan::{MaterializationPlan, PlannedStep, PlannedTable, PublishedRows, StepKind};
pub use published::{DamagedManifest, DefinitionState, MaterializationInfo, Materializations};
pub(crate) use published::{materializations, published};
pub(crate) use replay::replay;
pub use replay::{Replay, ReplayDifference, ReplayedFile};
pub(crate) use row_buffer::{RowBuffer, RowBufferWriter};
pub(crate) use row_order::Rows;
pub(crate) use row_set::{QueriedRows, output_batch, output_schema};
pub(crate) use rows::RowQuery;
pub(crate) use run::{Inputs, check_drawn, input_table, materialize, materialize_pinned};
pub(crate) use scored::{ScoredRows, ScoredSpan, scored_rows};
pub(crate) use served::{BuildThreads, ServedRows};
pub(crate) use stale::stale;
pub use stale_report::{Rewrite, StaleFile, StaleMaterialization, StaleReason, Staleness};
