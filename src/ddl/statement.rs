//! What a statement says, once it is parsed.

use crate::{
    catalog::{HiveType, NewPartition},
    name::TableName,
};

/// A parsed statement.
#[derive(Debug, PartialEq)]
pub(super) enum Statement {
    CreateDatabase { name: String, strictness: Strictness, comment: Option<String> },
    DropDatabase { name: String, strictness: Strictness },
    ShowDatabases { like: Option<String> },
    CreateTable(Box<CreateTable>),
    DropTable { table: TableName, strictness: Strictness },
    Repair { table: TableName },
    AddPartitions { table: TableName, strictness: Strictness, partitions: Vec<NewPartition> },
    DropPartitions { table: TableName, strictness: Strictness, specs: Vec<PartitionSpec> },
    ShowPartitions { table: TableName, spec: PartitionSpec },
    ShowTables { database: String, like: Option<String> },
    Describe { table: TableName, detail: Detail },
    ShowCreate { table: TableName },
}

/// `PARTITION (column = value, ...)`
pub(super) type PartitionSpec = Vec<(String, Option<String>)>;

/// What happens when the thing to be made exists already, or the thing to be removed does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    /// It is an error.
    Strict,
    /// `IF NOT EXISTS` or `IF EXISTS`.
    Lenient,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Columns,
    Extended,
}

#[derive(Debug, PartialEq)]
pub(super) struct CreateTable {
    pub(super) table: TableName,
    pub(super) strictness: Strictness,
    pub(super) columns: Vec<ColumnDef>,
    pub(super) partition_columns: Vec<ColumnDef>,
    pub(super) comment: Option<String>,
    pub(super) location: String,
    pub(super) properties: Vec<(String, String)>,
}

#[derive(Debug, PartialEq)]
pub(super) struct ColumnDef {
    pub(super) name: String,
    pub(super) hive_type: HiveType,
    pub(super) comment: Option<String>,
}
