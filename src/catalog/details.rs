//! What DDL declares about a table beyond its times: types, comments, properties, partitions with folders of their own.
//! Tables that are registered or loaded from Rust have none of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::HiveType;
use crate::error::{Error, Result};

/// The property that says how timestamps are declared for Athena.
pub(crate) const TIMESTAMPS: &str = "asof.timestamps";

/// What DDL declared about a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Details {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<String>,
    /// The declared columns; without any, a table's columns are those of its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) columns: Vec<DeclaredColumn>,
    /// Hive types and comments of the partition columns, in their order, if they were declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) partition_columns: Vec<DeclaredColumn>,
    /// Properties, without those that declare a [`super::FactTable`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) properties: BTreeMap<String, String>,
    /// Partitions that do not follow from the names of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) partitions: Vec<PlacedPartition>,
}

/// A column as DDL declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeclaredColumn {
    pub(crate) name: String,
    /// The type as Hive writes it.
    #[serde(rename = "type")]
    pub(crate) hive_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<String>,
    /// Is the column's Arrow type known from a file?
    #[serde(default)]
    pub(crate) is_found: bool,
}

/// A partition that was added by `ALTER TABLE ADD PARTITION`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlacedPartition {
    pub(crate) values: Vec<Option<String>>,
    /// Its folder relative to the table's location; `None` for the one that Hive names by its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) folder: Option<String>,
}

impl DeclaredColumn {
    pub(crate) fn hive_type(&self) -> Result<HiveType> {
        self.hive_type
            .parse()
            .map_err(|e: Error| Error::Corrupt { path: format!("column `{}` in the catalog", self.name), reason: e.to_string() })
    }
}

impl Details {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Are timestamps shown to Athena as `bigint`?
    pub(crate) fn timestamps_as_bigint(&self) -> bool {
        self.properties.get(TIMESTAMPS).is_some_and(|value| value == "bigint")
    }
}
