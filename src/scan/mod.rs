//! A fact table as of an instant: pruned, filtered and guarded.
//! No other module reads a fact table's rows, and this one gives out no row that is not visible.

mod as_of_table;
mod guard;
mod pinned_reader;
mod providers;
mod visibility;
mod visible_table;
mod volatile;
#[cfg(feature = "cluster")]
mod wire;

pub(crate) use as_of_table::AsOfTable;
pub(crate) use providers::Providers;
pub(crate) use visibility::{Visibility, time_literal};
pub(crate) use visible_table::VisibleTable;
pub(crate) use volatile::{refuse_volatile_expression, refuse_volatile_plan};
#[cfg(feature = "cluster")]
pub(crate) use wire::{Carrier, decode as decode_scan, encode as encode_scan};

use crate::name::TableName;

/// The fact tables that a query may name.
pub(crate) type Sources = Vec<(TableName, AsOfTable)>;
