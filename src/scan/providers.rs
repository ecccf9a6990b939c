//! Fact tables that are DataFusion `TableProvider`s, registered in this process only.
//! Their rows are cut and guarded like any others. They have no files that could be pinned, so they cannot be materialized.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;

use super::AsOfTable;
use crate::{
    catalog::FactTable,
    error::{Error, Result},
    name::TableName,
    time::Horizon,
};

/// The providers that are registered in a store, shared by its handles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Providers {
    known: Arc<RwLock<BTreeMap<TableName, Registered>>>,
}

type Registered = (Arc<dyn TableProvider>, FactTable);

impl Providers {
    /// Registers a provider under a name, and replaces one that is registered there.
    pub(crate) fn register(&self, name: TableName, provider: Arc<dyn TableProvider>, declared: FactTable) -> Result<()> {
        declared.check(&format!("table `{name}`"), &provider.schema())?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(name, (provider, declared));
        Ok(())
    }

    /// The provider of this name as a table as of a horizon; `None` when there is none.
    pub(crate) fn open(&self, name: &TableName, horizon: Horizon) -> Result<Option<AsOfTable>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some((provider, declared)) = known.get(name) else { return Ok(None) };
        AsOfTable::over(name, provider.clone(), declared.clone(), horizon).map(Some)
    }

    /// Refuses tables that are providers, which cannot be pinned.
    pub(crate) fn refuse_any_of<'a>(&self, subject: &str, tables: impl IntoIterator<Item = &'a TableName>) -> Result<()> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match tables.into_iter().find(|name| known.contains_key(name)) {
            None => Ok(()),
            Some(name) => Err(Error::Definition {
                subject: subject.into(),
                reason: format!(
                    "its table `{name}` is a provider of this process, whose rows cannot be pinned, so the result could not be made \
                     again; write the rows to files, and load or register these"
                ),
            }),
        }
    }

    /// The names and columns of all providers.
    pub(crate) fn schemas(&self) -> Vec<(TableName, SchemaRef)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, (provider, _))| (name.clone(), provider.schema())).collect()
    }
}
