//! What became of published materializations: listing them, opening them by id, and comparing them with what would be made now.

use std::sync::PoisonError;

use super::FeatureStore;
use crate::{
    error::Result,
    feature_set::FeatureSet,
    manifest::Manifest,
    materialize::{self, Definition, Materialization, Materializations, Replay, Staleness},
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
    /// [`Materialization::dataset`] need only what is published. Serving it ([`FeatureStore::online_for`]), logging what is served and
    /// [`FeatureStore::replay`] need the definition that made it: they return
    /// [`Error::UnknownFeatureSet`](crate::Error::UnknownFeatureSet) if no set of its name is registered, and
    /// [`Error::MadeOtherwise`](crate::Error::MadeOtherwise) if that is another definition. Register the definition that made it, in
    /// another handle of the store if its name is taken.
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

    /// Which published materializations of a set would be others over the facts, the declarations, the definition and the engine as
    /// they are now, and why: exactly those whose as-of [`FeatureStore::materialize`] would give another id. Those stay as they are.
    ///
    /// It reads the catalog and the manifests, and no file of facts or of rows. Files count and not their rows: late facts are files
    /// that may hold visible rows, and a compaction makes a materialization stale though it changes no row.
    ///
    /// ```no_run
    /// # async fn renew(store: asof::FeatureStore) -> asof::Result<()> {
    /// let staleness = store.stale("taxi_v1").await?;
    /// println!("{staleness}");
    /// for old in staleness.stale.iter().filter(|old| !old.is_renewed && old.id_now.is_some()) {
    ///     store.materialize("taxi_v1", old.as_of).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`](crate::Error::UnknownFeatureSet) when the set is not registered;
    /// [`Error::Definition`](crate::Error::Definition) for a set over a provider; [`Error::Corrupt`](crate::Error::Corrupt) and
    /// [`Error::Format`](crate::Error::Format) for a table version that cannot be read. Manifests that cannot be read are listed.
    pub async fn stale(&self, set: &str) -> Result<Staleness> {
        materialize::stale(&self.workspace, &self.catalog_set(set)?).await
    }

    /// Computes a materialization again, from the table versions and files that its manifest names, and compares the result with what
    /// was published, bit for bit. What was loaded, compacted or dropped since does not matter. Nothing is published, and nothing is
    /// left in the root.
    ///
    /// First the hashes of the files are compared. If one differs, the published rows are read, too, since equal rows may lie in files
    /// of other bytes. [`Materialization::verify`] tells whether the published files are still what was published.
    ///
    /// ```no_run
    /// # async fn check(store: asof::FeatureStore) -> asof::Result<()> {
    /// let made = store.materialize("taxi_v1", "2014-11-01".parse()?).await?;
    /// let replay = store.replay(&made).await?;
    /// println!("{replay}");
    /// assert!(replay.is_equal());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::FileChanged`](crate::Error::FileChanged) names a file of facts that has changed or vanished;
    /// [`Error::UnknownFeatureSet`](crate::Error::UnknownFeatureSet) and [`Error::MadeOtherwise`](crate::Error::MadeOtherwise) when the
    /// definition or the engine that made it is not that of this program, or when the table versions are not what the manifest names;
    /// [`Error::Corrupt`](crate::Error::Corrupt) when published rows have to be read and are damaged; and what computing fails with, as
    /// in [`FeatureStore::materialize`].
    pub async fn replay(&self, materialization: &Materialization) -> Result<Replay> {
        let materialization = self.with_definition(materialization).await?;
        materialize::replay(&self.workspace, materialization.set()?, &materialization).await
    }

    /// The materialization with its definition, which may have been registered since it was opened.
    pub(super) async fn with_definition(&self, materialization: &Materialization) -> Result<Materialization> {
        Ok(match materialization.set() {
            Ok(_) => materialization.clone(),
            Err(_) => materialization.with(self.definition_of(materialization.manifest()).await?),
        })
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
