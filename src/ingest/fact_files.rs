//! The files of loaded facts: their location, and the properties of their Parquet.

use parquet::{
    basic::{Compression, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
};

use crate::{name::TableName, storage::Location};

/// The location of a table's files.
pub(crate) fn facts_of(root: &Location, table: &TableName) -> Location {
    root.child("facts").child(table.database()).child(table.table())
}

/// Rows in a row group, the unit in which a scan can skip rows by their times.
const ROW_GROUP_ROWS: usize = 128 << 10;

pub(crate) fn writer_properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page)
        .build()
}
