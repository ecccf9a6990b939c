//! A published run of an extract: its record and its rows.

use std::{fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::prelude::DataFrame;

use super::ExtractRecord;
use crate::{
    catalog::Column,
    engine::Parallelism,
    error::{Error, Result},
    name::TableName,
    storage::{Location, ParquetTable},
    workspace::Workspace,
};

/// The rows of an extract, published and immutable.
#[derive(Clone)]
pub struct ExtractRun {
    workspace: Arc<Workspace>,
    location: Location,
    record: Arc<ExtractRecord>,
}

impl ExtractRun {
    pub(crate) fn new(workspace: Arc<Workspace>, location: Location, record: ExtractRecord) -> Self {
        Self { workspace, location, record: Arc::new(record) }
    }

    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// The table that queries name: `ctas_<name>_<run>`.
    pub fn table(&self) -> &TableName {
        &self.record.table
    }

    /// The record: what the run is and what it was made of.
    pub fn record(&self) -> &ExtractRecord {
        &self.record
    }

    /// How many rows it holds.
    pub fn rows(&self) -> u64 {
        self.record.rows
    }

    /// The columns.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the record holds a type that this library does not know.
    pub fn schema(&self) -> Result<SchemaRef> {
        Column::schema(&self.record.columns)
    }

    /// The rows, in the order in which the query returned them. That order means something only if the query has an `ORDER BY`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a file is missing or does not have the published size.
    pub async fn dataframe(&self) -> Result<DataFrame> {
        let mut files = Vec::with_capacity(self.record.parts.len());
        for part in &self.record.parts {
            let found = self.location.head(&part.name).await?;
            match found {
                Some(object) if object.size == part.size => files.push(object),
                Some(object) => {
                    return Err(
                        self.damaged(&part.name, &format!("it has {} bytes, and {} were published", object.size, part.size))
                    );
                }
                None => return Err(self.damaged(&part.name, "it has vanished")),
            }
        }
        let session = self.workspace.engine.session(Parallelism::One, [&self.location])?;
        let schema = self.schema()?;
        Ok(session.read_table(Arc::new(ParquetTable::new(self.location.clone(), files, schema)))?)
    }

    /// Reads every file again and compares its hash with the published one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the first file that differs.
    pub async fn verify(&self) -> Result<()> {
        for part in &self.record.parts {
            let object = self.location.head(&part.name).await?.ok_or_else(|| self.damaged(&part.name, "it has vanished"))?;
            if self.location.hash(&object).await? != part.hash {
                return Err(self.damaged(&part.name, "its content is not what was published"));
            }
        }
        Ok(())
    }

    fn damaged(&self, name: &str, what: &str) -> Error {
        let reason = format!("{what}; run the extract again (its SQL and inputs are in the record)");
        Error::Corrupt { path: self.location.child(name).to_string(), reason }
    }
}

impl fmt::Debug for ExtractRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExtractRun({}, {} rows)", self.record.table, self.record.rows)
    }
}
