//! The temporal operators: the newest visible fact of an entity, and aggregates over its trailing windows, at each row of a
//! spine. They are two DataFusion operators, and neither depends on the order, batches or partitions of the facts.
//!
//! [`Spine`] asks the questions, [`Lookup`] and [`Window`] are the questions, [`Facts`] is who is asked. In SQL they are
//! `ASOF JOIN` and `trailing`: see [`sql`].

mod aggregate;
mod budget;
mod cells;
mod clock;
mod condition;
mod entities;
mod exact_sum;
mod exec;
mod instants;
mod integer;
mod kept;
mod keys;
mod lanes;
mod logs;
mod lookup;
mod node;
mod planner;
mod quantile;
mod question;
mod ratio;
mod reach;
mod results;
mod run;
mod side;
mod slide;
mod slots;
pub mod sql;
mod variance;
mod versions;
mod whole;
mod window;

pub use aggregate::Aggregate;
pub(crate) use entities::{Entities, EntityKey, EntityQuestion, entities};
pub(crate) use exact_sum::ExactSum;
pub use question::{AsOfDataFrame, Facts, Lookup, Spine, Window};
