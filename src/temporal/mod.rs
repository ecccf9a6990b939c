//! The temporal operators: the newest visible fact of an entity, and aggregates over its trailing windows, at each row of a
//! spine. They are two DataFusion operators, and neither depends on the order, batches or partitions of the facts.
//!
//! [`Spine`] asks the questions, [`Lookup`] and [`Window`] are the questions, [`Facts`] is who is asked. In SQL they are
//! `ASOF JOIN` and `trailing`: see [`sql`].

mod aggregate;
mod aggregate_filter;
mod budget;
mod builders;
mod candidates;
mod entities;
mod entity_slices;
mod event_time_filter;
mod exact_sum;
mod exec;
mod execution;
mod fact_input;
mod full_rows;
mod instants;
mod integer;
mod keys;
mod lookup;
mod node;
mod planner;
mod quantile;
mod ratio;
mod result_columns;
mod slices;
mod sort_keys;
mod spine_index;
pub mod sql;
mod time_decoder;
mod value_log;
mod variance;
mod versions;
mod window;

pub use aggregate::Aggregate;
pub use builders::{AsOfDataFrame, Facts, Lookup, Spine, Window};
pub(crate) use entities::{Entities, EntityKey, EntitySpec, entities};
pub(crate) use exact_sum::ExactSum;
