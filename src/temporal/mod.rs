//! The temporal operators. At each row of a spine, [`Lookup`] finds the newest visible fact of an entity, and [`Window`]
//! computes aggregates over the visible facts in trailing windows.
//!
//! Both are DataFusion operators. Their results do not depend on the order, batches or partitions of the facts. A [`Spine`] is
//! the rows to which they add columns, and [`Facts`] is what they read. In SQL they are `ASOF JOIN` and `trailing`: see
//! [`sql`].

mod aggregate;
mod budget;
mod builders;
mod entities;
mod entity_facts;
mod entity_keys;
mod event_time_filter;
mod exact_sum;
mod exec;
mod execution;
mod fact_chunk;
mod fact_input;
mod full_rows;
mod instants;
mod integer;
mod keys;
mod lookup;
mod node;
mod operator;
mod output;
mod planner;
mod quantile;
mod ratio;
mod sort_keys;
mod spec;
mod spine_index;
pub mod sql;
mod tasks;
mod time_decoder;
mod variance;
mod versions;
mod window;

pub use aggregate::Aggregate;
pub use builders::{AsOfDataFrame, Facts, Lookup, Spine, Window};
pub(crate) use entities::{Entities, EntityGroup, EntitySource, entities};
pub(crate) use entity_keys::EntityKey;
pub(crate) use exact_sum::ExactSum;
