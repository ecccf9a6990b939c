//! Extracts, what tables were made of, and garbage collection.

use super::FeatureStore;
use crate::{
    ctas,
    error::{Error, Result},
    extract::{self, Extract, ExtractRecord, ExtractRun},
    gc::{self, Gc, GcReport},
    lineage::{self, Lineage},
    sql,
};

/// Extracts, lineage and garbage collection.
impl FeatureStore {
    /// Runs a query over all facts in the catalog now and stores its rows as the table `ctas_<name>_<run>`.
    ///
    /// [`FeatureStore::ctas_with`] also takes an as-of, parameters, a file of SQL and a retention.
    ///
    /// # Errors
    /// [`Error::InvalidName`], and as [`FeatureStore::ctas_with`].
    pub async fn ctas(&self, name: &str, sql: &str) -> Result<ExtractRun> {
        self.ctas_with(&Extract::new(name, sql)?).await
    }

    /// Runs an extract against the newest versions of its tables, and keeps its rows as the table `ctas_<name>_<run>`. Each call makes
    /// another run, which is published whole or not at all.
    ///
    /// ```no_run
    /// # async fn keep(store: asof::FeatureStore) -> asof::Result<()> {
    /// use asof::{AsOf, extract::Extract};
    /// let as_of: AsOf = "2014-11-01".parse()?;
    /// let sql = "SELECT pickup_zone, count(*) AS trips FROM nyc_taxi \
    ///            WHERE hour(pickup_at) BETWEEN $from AND 17 GROUP BY pickup_zone";
    /// let busy = store.ctas_with(&Extract::new("busy_zones", sql)?.param("from", 9).as_of(as_of).keep_last(5)).await?;
    /// let top = format!("SELECT * FROM {} ORDER BY trips DESC LIMIT 10", busy.table());
    /// store.sql(&top, as_of).await?.show().await?;
    /// println!("{}", store.lineage(&busy.table().to_string()).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::FileChanged`], [`Error::Volatile`] and [`Error::Query`] as [`FeatureStore::sql`];
    /// [`Error::Definition`] for placeholders and values that do not match, for an extract among the tables with a later as-of,
    /// and for columns of the same name. After an error nothing is published.
    pub async fn ctas_with(&self, extract: &Extract) -> Result<ExtractRun> {
        self.providers.refuse_any_of(&extract.subject(), &sql::tables_in(&extract.sql)?)?;
        ctas::run(&self.workspace, self.clock.as_ref(), extract).await
    }

    /// The published run with this table, `ctas_<name>_<run>`.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when there is none, or it was removed.
    pub async fn extract(&self, table: &str) -> Result<ExtractRun> {
        let found = extract::find(&self.workspace, &table.parse()?).await?;
        let known = extract::tables(&self.workspace).await?.iter().map(ToString::to_string).collect();
        found.ok_or_else(|| Error::UnknownTable { table: table.into(), known })
    }

    /// The published runs of an extract, in the order in which they started.
    ///
    /// # Errors
    /// [`Error::InvalidName`], and [`Error::Corrupt`] for a record that cannot be read.
    pub async fn extracts(&self, name: &str) -> Result<Vec<ExtractRecord>> {
        extract::runs(&self.workspace, name).await
    }

    /// What a table was made of: the inputs of an extract, the loads of a fact table. It prints as a tree.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when there is no such table.
    pub async fn lineage(&self, table: &str) -> Result<Lineage> {
        lineage::lineage(&self.workspace, &table.parse()?).await
    }

    /// Removes or lists what nothing published needs any more; see [`Gc`]. The store's clock gives the current time.
    ///
    /// ```no_run
    /// # async fn clean(store: asof::FeatureStore) -> asof::Result<()> {
    /// use asof::gc::Gc;
    /// println!("{}", store.gc(&Gc::dry_run()).await?); // look first
    /// store.gc(&Gc::delete().keep_versions(10)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Format`] for a published file that cannot be read: nothing is removed then, because it
    /// is not known what that file needs. [`Error::Storage`] when the root cannot be listed or cleaned; run it again.
    pub async fn gc(&self, gc: &Gc) -> Result<GcReport> {
        gc::run(&self.workspace, self.clock.as_ref(), gc).await
    }
}
