//! Materializations: the rows of a feature set at one as-of, published once under the hash of everything that determines them.
//! A published materialization is complete and is never overwritten.

mod binding;
mod columns;
mod entities;
mod handle;
mod keyed;
mod pipeline;
mod row_buffer;
mod row_set;
mod rows;
mod run;
mod served;

pub use crate::{
    manifest::{ENGINE_REVISION, EngineVersions, InputFile, InputTable, Manifest, PartialRows, StepState},
    workspace::Part,
};
pub(crate) use binding::{check_binding, forget};
pub(crate) use columns::check_columns;
pub use handle::Materialization;
pub(crate) use pipeline::{Apply, Pipeline};
pub(crate) use row_buffer::RowBuffer;
pub(crate) use row_set::{QueriedRows, output_batch, output_schema};
pub(crate) use rows::{order_of, query_rows};
pub(crate) use run::{input_table, materialize, materialize_pinned, newest};
pub(crate) use served::KeyedRows;
