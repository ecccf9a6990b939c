//! The served form of a materialization: one immutable file, laid out for reading rows by key.
//!
//! It is built from the published rows whenever it is missing, cut off, damaged or of another layout, so losing it loses nothing.
//! This room knows bytes and columns. What a set is, and what a key without a row is answered with, is decided above it.

mod file;
mod format;
mod index;
mod key;
mod layout;
mod place;
#[cfg(test)]
mod tests;
mod values;
mod writer;

pub(crate) use file::{Found, ServedFile};
pub(crate) use layout::{Row, RowLayout, Rows};
pub(crate) use place::{Building, ServedFiles, SharedFile};
pub(crate) use writer::{WriteError, Writer};
