//! A fact table as of an instant: pruned, filtered and guarded, and the view that encoders get of it.
//! Nothing outside this module can read a fact table's rows, and nothing in it reads a row that is not visible.

mod as_of_table;
mod guard;
mod listing;
mod parameters;
mod pinned_reader;
mod providers;
mod query;
mod show;
mod spool;
mod statement;
mod view;
mod visibility;

pub(crate) use as_of_table::AsOfTable;
pub(crate) use listing::Listing;
pub(crate) use parameters::Parameters;
pub(crate) use providers::Providers;
pub(crate) use query::{
    Beside, Derived, Sources, plan_is_rowwise, query, query_with, refuse_volatile_expression, table, tables_in,
};
pub(crate) use spool::Spool;
pub use view::AsOfView;
pub(crate) use view::{Batches, Replay, ViewParts};
pub(crate) use visibility::{Visibility, time_literal};
