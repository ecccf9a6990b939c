//! Writing: rows are sorted by month and event time, beyond the memory if need be, and written as month files.
//! It drops and changes no row.

mod merge;
pub(super) mod month_writer;
mod runs;
pub(super) mod sort;
mod sorter;
