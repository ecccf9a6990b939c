//! What became of published materializations: listing them, opening them by id, and comparing them with what would be made now.

use std::sync::PoisonError;

use super::FeatureStore;
use crate::{
    error::Result,
    feature_set::FeatureSet,
    manifest::Manifest,
    materialize::{self, Definition, Materialization, Materializations},
    name::{ContentId, SetName},
};

/// Published materializations.
impl FeatureStore {
    /// Everything that is published of a set's name, made by any definition and any engine. The set need not be registered.
    ///
    /// It reads one manifest per materialization, and no rows. A manifest that cannot be read is listed as damaged.
    ///
    /// ```no_run
    /// # async fn list(store: asof::FeatureStore) -> asof::Result<()> {
    /// let made = store.materializations("taxi_v1").await?;
    /// println!("{made}");
    /// for info in made.published {
    ///     println!("{} as of {}: {} rows", info.id, info.as_of, info.rows);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidName`](crate::Error::InvalidName); [`Error::Storage`](crate::Error::Storage) when the root cannot be listed or
    /// read. If nothing is published, the list is empty.
    pub async fn materializations(&self, set: &str) -> Result<Materializations> {
        let name: SetName = set.parse()?;
        let registered = self.registered(&name).0;
        materialize::materializations(&self.workspace, name, registered.as_ref()).await
    }

    /// The published materialization with this id, of any set and whatever was loaded, compacted or dropped since.
    ///
    /// Its rows can be read in any case: [`Materialization::batches`], [`Materialization::dataframe`] and
    /// [`Materialization::dataset`] need only what is published. Serving it ([`FeatureStore::online_for`]) and logging what is served need the definition that made it: they return
    /// [`Error::UnknownFeatureSet`](crate::Error::UnknownFeatureSet) if no set of its name was registered when it was opened, and
    /// [`Error::MadeOtherwise`](crate::Error::MadeOtherwise) if that was another definition. Register the definition that made it, in
    /// another handle of the store if its name is taken, and open the materialization again.
    ///
    /// The first time, an id is looked for in a listing of all that is materialized.
    ///
    /// ```no_run
    /// # async fn read(store: asof::FeatureStore) -> asof::Result<()> {
    /// let id = "0fd1c5a41c6ab0a2d6b1a5b6d3a0a9d3c2bb6d8c8d1f3a3d0f2b1c9e7a5d4c3b".parse()?;
    /// let made = store.open_materialization(id).await?;
    /// println!("{} rows of `{}` as of {}", made.rows(), made.manifest().set, made.as_of());
    /// made.dataframe().await?.show().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) when no materialization with this id is published below the root;
    /// [`Error::Corrupt`](crate::Error::Corrupt) and [`Error::Format`](crate::Error::Format) when its manifest cannot be read.
    pub async fn open_materialization(&self, id: ContentId) -> Result<Materialization> {
        let (location, manifest) = materialize::published(&self.workspace, id).await?;
        let definition = self.definition_of(&manifest).await?;
        Ok(Materialization::new(self.workspace.clone(), definition, location, manifest))
    }

    /// The definition that made a materialization, as far as this handle knows it.
    async fn definition_of(&self, manifest: &Manifest) -> Result<Definition> {
        let (registered, names) = self.registered(&manifest.set);
        Definition::find(&self.workspace, manifest, registered, names).await
    }

    /// The registered set of this name, and the names of all registered sets.
    fn registered(&self, name: &SetName) -> (Option<FeatureSet>, Vec<String>) {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        (sets.get(name).cloned(), sets.keys().map(ToString::to_string).collect())
    }
}
