//! Changes the expectations of a table.

use super::plan::table::refuse_external;
use crate::{
    catalog::{
        Catalog, TableVersion,
        expectation::{Expect, joined},
    },
    error::{Error, Result},
    name::TableName,
};

/// Replaces the expectations that rows of later loads are checked against.
pub(crate) async fn set_expectations(catalog: &Catalog, table: &TableName, expectations: &[Expect]) -> Result<TableVersion> {
    let expectations = joined(&table.to_string(), &[], expectations)?;
    // If there is no such table, this error names the tables that exist.
    catalog.latest(table).await?;
    catalog
        .update(table, |current| {
            let Some(mut next) = current else {
                return Err(Error::UnknownTable { table: table.to_string(), known: Vec::new() });
            };
            refuse_external(table, &next)?;
            let schema = next.file_schema()?;
            expectations.iter().try_for_each(|expect| expect.check(&format!("table `{table}`"), &schema))?;
            let is_new = next.expectations != expectations;
            next.expectations.clone_from(&expectations);
            Ok(is_new.then_some(next))
        })
        .await
}
