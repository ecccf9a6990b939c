//! Planning: what a load reads, writes and replaces, decided before any row is read.
//! It changes nothing. The commit makes the plan again on the newest version of the table.

pub(super) mod changes;
pub(super) mod identity;
pub(super) mod infer;
pub(super) mod replace;
