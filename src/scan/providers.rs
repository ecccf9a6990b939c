//! Fact tables that are a `TableProvider` of DataFusion's, known to this process alone.
//! Their rows are cut and guarded as any others; they have no files that could be pinned, so nothing is materialized of them.

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
    time::{AsOf, Cutoff},
};

/// The providers that a store's handles know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Providers {
    known: Arc<RwLock<BTreeMap<TableName, Registered>>>,
}

type Registered = (Arc<dyn TableProvider>, FactTable);

impl Providers {
    /// Puts a provider under a name, in the place of one that was there.
    pub(crate) fn register(&self, name: TableName, provider: Arc<dyn TableProvider>, declared: FactTable) -> Result<()> {
        declared.check(&format!("table `{name}`"), &provider.schema())?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(name, (provider, declared));
        Ok(())
    }

    /// The table of this name as of an instant, if it is a provider.
    pub(crate) fn open(&self, name: &TableName, as_of: AsOf, cutoff: Cutoff) -> Result<Option<AsOfTable>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some((provider, declared)) = known.get(name) else { return Ok(None) };
        AsOfTable::over(name, provider.clone(), declared.clone(), as_of, cutoff).map(Some)
    }

    /// Refuses tables that cannot be pinned.
    pub(crate) fn refuse_any_of<'a>(&self, subject: &str, tables: impl IntoIterator<Item = &'a TableName>) -> Result<()> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match tables.into_iter().find(|name| known.contains_key(name)) {
            None => Ok(()),
            Some(name) => Err(Error::Definition {
                subject: subject.into(),
                reason: format!(
                    "its table `{name}` is a provider of this process, whose rows have no identity: what is made of them could not be \
                     told from what is made of others tomorrow; write them to files and load or register those"
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
