//! Checking: rows against the table's expectations, files against what the table has seen, and the quality report.
//! No value is changed. Rows leave a load here only for the quarantine.

pub(super) mod anomaly;
mod distance;
pub(super) mod drift;
pub(super) mod duplicates;
mod frequencies;
pub(super) mod history;
pub(super) mod inspect;
pub(super) mod profile;
pub(super) mod quality;
mod quarantine;
pub(super) mod row_filter;
mod row_rules;
pub(super) mod stop;
pub(super) mod summary;
mod unique;
