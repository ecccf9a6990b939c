//! Reading: the bytes of source files become columns of the table's types, and rows that do not fit become rejects.
//! Values are checked only against their types.

pub(super) mod column_parser;
pub(super) mod csv_source;
pub(super) mod csv_texts;
mod fast_path;
mod in_order;
pub(super) mod int96;
pub(super) mod json_source;
mod last_byte;
mod length_check;
mod number;
pub(super) mod open;
pub(super) mod parquet_source;
mod parsed_rows;
pub(super) mod reader;
mod separators;
pub(super) mod source_columns;
pub(super) mod time_parser;
mod tokens;
