//! Checking: rows against the table's expectations, files against what the table has seen, and the report of both.
//! It changes no value; rows leave a load here for the quarantine and for no other place.

pub(super) mod anomaly;
pub(super) mod drift;
pub(super) mod duplicates;
mod frequencies;
pub(super) mod history;
pub(super) mod inspect;
pub(super) mod profile;
pub(super) mod quality;
mod quarantine;
pub(super) mod row_filter;
pub(super) mod row_rules;
mod unique;
