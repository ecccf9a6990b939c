//! Writing: sorts rows by month and event time, spilling to the disk, and writes them as month files.
//! No row is dropped or changed.

mod merge;
pub(super) mod month_writer;
mod runs;
pub(super) mod sort;
mod sorter;
