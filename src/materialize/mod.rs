//! Materializations: the rows of a feature set at one as-of, kept for good under a name made of all that determines them.
//! Nothing is overwritten and nothing is published by halves.

mod binding;
mod blocks;
mod cache;
mod columns;
mod engine_revision;
mod entities;
mod handle;
mod keyed;
mod manifest;
mod parts;
mod pipeline;
mod row_set;
mod rows;
mod run;
mod served;

pub(crate) use cache::Cache;
pub use engine_revision::{ENGINE_REVISION, EngineVersions};
pub(crate) use entities::{event_time_of, facts_of};
pub use handle::Materialization;
pub(crate) use keyed::RowCodec;
pub use manifest::{InputFile, InputTable, Manifest, Part, PartialRows, StepState};
pub(crate) use parts::Parts;
pub(crate) use pipeline::{Apply, Pipeline};
pub(crate) use row_set::{output_batch, output_schema};
pub(crate) use rows::{extract, order_of, plain_rows};
pub(crate) use run::{MANIFEST, Materializer, Pinned};
pub(crate) use served::KeyedRows;
