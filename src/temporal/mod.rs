//! The temporal operators. At each row of a spine, [`Lookup`] finds the newest visible fact of an entity, and [`Window`]
//! computes aggregates over the visible facts in trailing windows.
//!
//! Both are DataFusion operators. Their results do not depend on the order, batches or partitions of the facts. A [`Spine`] is
//! the rows to which they add columns, and [`Facts`] is what they read. In SQL they are
//! [`ASOF JOIN`](crate::sql::asof_join) and [`trailing`](crate::sql::trailing).

mod aggregate;
mod budget;
mod builders;
mod elsewhere;
mod entities;
mod entity_facts;
mod entity_keys;
mod entity_tiles;
mod event_time_filter;
mod exec;
mod execution;
mod fact_chunk;
mod fact_expression;
mod fact_input;
mod file_tile;
mod full_rows;
mod instants;
mod keys;
mod length_text;
mod lookup;
mod newest_rows;
mod node;
mod number_rows;
mod operator;
mod output;
mod partitioned;
mod planner;
mod prune_facts;
mod pruner;
mod resolve_versions;
mod restore_order;
mod restricted;
mod sort_keys;
mod spec;
mod spine_index;
mod tasks;
mod tile_file;
mod tile_piece;
mod tile_store;
mod time_decoder;
mod versions;
mod window;
mod window_length;
#[cfg(feature = "cluster")]
mod wire;

pub(crate) use aggregate::AggregateForm;
pub use aggregate::{Aggregate, Expression};
pub use builders::{AsOfDataFrame, Facts, Lookup, Spine, Window};
pub(crate) use entities::{Entities, EntityGroup, EntitySource, entities};
pub(crate) use entity_keys::EntityKey;
pub(crate) use entity_tiles::TiledTable;
pub(crate) use fact_expression::{check_condition, check_filter, expression_mistakes};
pub(crate) use fact_input::{FactInput, SpineTime};
pub(crate) use file_tile::{TileName, TiledFile};
pub(crate) use node::AsOfNode;
pub(crate) use planner::with_operators;
pub(crate) use spec::{COMPUTED_PREFIX, LookupColumn, LookupSpec, WindowSpec};
pub(crate) use tile_file::TILE_FORMAT;
pub(crate) use tile_store::UnfinishedTiles;
pub(crate) use time_decoder::Direction;
pub use window_length::WindowLength;
#[cfg(feature = "cluster")]
pub(crate) use wire::{decode as decode_operator, encode as encode_operator};
