//! Tables and databases: loading, registering, repairing, describing and dropping them.

use super::FeatureStore;
use crate::{
    catalog::{self, Change, FactTable, OnConflict, Partition, RepairReport, TableVersion, VersionInfo},
    ddl::{self, Answer},
    error::{Error, Result},
    extract,
    ingest::{self, CompactOptions, CompactReport, Expect, Ingest, LoadReport, Quality, QualityReport},
    name::TableName,
};

/// Tables and databases.
impl FeatureStore {
    /// Loads source files into a fact table below the root and registers it, in one commit.
    ///
    /// # Errors
    /// [`Error::NoFiles`], [`Error::UnreadableFile`], [`Error::UnknownColumn`] and [`Error::ColumnType`] for sources that do
    /// not fit, [`Error::RejectedRows`] for rows that cannot be read, [`Error::Unexpected`] for rows that break an expectation,
    /// [`Error::Anomalies`] for columns whose values do not fit their names, [`Error::ChangedSource`] for a source that was
    /// loaded before with other content, [`Error::Definition`] for a declaration that contradicts the table's, and for months
    /// that cannot be replaced, [`Error::Limit`] for rows in more months than [`Ingest::months_at_most`] allows. After an error
    /// the table is unchanged.
    pub async fn ingest(&self, load: &Ingest) -> Result<LoadReport> {
        let m = &self.workspace;
        ingest::run(&m.root, &m.catalog, &m.engine, &m.locations, load).await
    }

    /// Merges the small files of each partition of a table into few files of about the wanted size, sorted by event time, in one
    /// commit. The table keeps exactly the same rows. The old files stay for readers that have pinned them.
    ///
    /// Loads may run at the same time: what they add stays. A partition from which another writer removed files is left alone, and
    /// the report says so. A second run finds nothing to do. Rows are streamed through a sort that spills.
    ///
    /// ```no_run
    /// # async fn run(store: asof::FeatureStore) -> asof::Result<()> {
    /// use asof::ingest::CompactOptions;
    ///
    /// let report = store.compact("nyc_taxi", &CompactOptions::default()).await?;
    /// println!("{} partitions were merged", report.partitions.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when it is not registered, [`Error::Definition`] for a table whose files other programs write,
    /// [`Error::FileChanged`] when its files are not what was written.
    pub async fn compact(&self, table: &str, options: &CompactOptions) -> Result<CompactReport> {
        let m = &self.workspace;
        ingest::compact(&m.root, &m.catalog, &m.engine, &table.parse()?, options).await
    }

    /// The quality reports of the loads in the newest version of a table, in their order, and which of them are lost.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when it is not registered.
    pub async fn quality(&self, table: &str) -> Result<Quality> {
        QualityReport::all(&self.workspace.root, &self.describe(table).await?).await
    }

    /// Changes the expectations of a table from the next load on. Rows that are already loaded are not checked again.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when it is not registered, [`Error::UnknownColumn`] and [`Error::ColumnType`] for columns that
    /// cannot be checked so, [`Error::Definition`] for expectations that contradict each other and for a table whose files
    /// other programs write.
    pub async fn set_expectations(&self, table: &str, expectations: &[Expect]) -> Result<TableVersion> {
        ingest::set_expectations(&self.workspace.catalog, &table.parse()?, expectations).await
    }

    /// Registers an existing folder of Parquet files (`month=N/...`) as a fact table, without copying it.
    ///
    /// # Errors
    /// [`Error::NoFiles`] for an empty folder, [`Error::UnreadableFile`] for a file that is not Parquet,
    /// [`Error::UnknownColumn`] and [`Error::ColumnType`] for a declaration that does not fit the files, [`Error::Definition`]
    /// for files that do not fit each other, [`Error::AlreadyExists`] when there is a table of this name with other files or
    /// another declaration.
    pub async fn register_table(&self, table: &str, location: &str, declared: FactTable) -> Result<TableVersion> {
        let m = &self.workspace;
        let name: TableName = table.parse()?;
        let place = m.locations.open(location)?;
        let (version, _) =
            catalog::register(&m.catalog, &place, &name, declared, Default::default(), OnConflict::Compare).await?;
        Ok(version)
    }

    /// Updates a table that was registered in place to its files as they are now: new files are added, vanished ones removed, changed
    /// ones read again. Nothing is published when nothing has changed.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when it is not registered, [`Error::Definition`] for a table that this store wrote itself,
    /// and as [`FeatureStore::register_table`].
    pub async fn repair(&self, table: &str) -> Result<RepairReport> {
        let m = &self.workspace;
        catalog::repair(&m.catalog, &m.locations, &table.parse()?).await
    }

    /// Executes one statement of Hive's DDL: `CREATE EXTERNAL TABLE`, `MSCK REPAIR TABLE`, `SHOW PARTITIONS`, ...; see
    /// [`ddl`](crate::ddl). Each is one commit or none.
    ///
    /// ```no_run
    /// # async fn run(store: asof::FeatureStore) -> asof::Result<()> {
    /// store.execute(
    ///     "CREATE EXTERNAL TABLE clicks (user_id bigint, at timestamp, page string) PARTITIONED BY (month int)
    ///      STORED AS PARQUET LOCATION 's3://bucket/clicks'
    ///      TBLPROPERTIES ('asof.event_time' = 'at', 'asof.delay' = '5 minutes', 'asof.keys' = 'user_id')",
    /// ).await?;
    /// println!("{}", store.execute("MSCK REPAIR TABLE clicks").await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Statement`] for one that cannot be parsed, is a query, or lacks a declaration; [`Error::UnknownTable`],
    /// [`Error::NotFound`] for a database or partition that does not exist, [`Error::AlreadyExists`] for what exists already,
    /// [`Error::InUse`] for a database that holds a table; and as [`FeatureStore::register_table`] for files.
    pub async fn execute(&self, sql: &str) -> Result<Answer> {
        let m = &self.workspace;
        ddl::execute(&m.catalog, &m.root, &m.locations, sql).await
    }

    /// Makes a database, a name for tables to be registered under, as in `sales.orders`.
    ///
    /// A database need not be made before a table is loaded or registered in it: a database with a table exists.
    ///
    /// # Errors
    /// [`Error::InvalidName`] when the name cannot be one.
    pub async fn create_database(&self, name: &str) -> Result<Change> {
        self.workspace.catalog.create_database(name, None).await
    }

    /// The databases, in the order of their names; `default` always exists.
    ///
    /// # Errors
    /// [`Error::Storage`] when the root cannot be listed.
    pub async fn databases(&self) -> Result<Vec<String>> {
        self.workspace.catalog.databases().await
    }

    /// Removes a database that has no table.
    ///
    /// # Errors
    /// [`Error::InUse`] when it has a table, [`Error::Definition`] for `default`.
    pub async fn drop_database(&self, name: &str) -> Result<Change> {
        self.workspace.catalog.drop_database(name).await
    }

    /// Removes a table from the catalog, in one commit. Its files stay, and so do its earlier versions
    /// ([`FeatureStore::describe_at`], [`FeatureStore::sql_at`]). The name can be used again for any table.
    ///
    /// # Errors
    /// [`Error::Contention`] when other writers keep changing the table.
    pub async fn drop_table(&self, table: &str) -> Result<Change> {
        self.workspace.catalog.drop_table(&table.parse()?).await
    }

    /// The tables of the catalog and of extracts, in the order of their names.
    ///
    /// # Errors
    /// [`Error::Storage`] when the root cannot be listed.
    pub async fn tables(&self) -> Result<Vec<TableName>> {
        let mut tables = self.workspace.catalog.tables().await?;
        tables.extend(extract::tables(&self.workspace).await?);
        tables.sort();
        Ok(tables)
    }

    /// The newest version of a table: schema, declaration, files. It prints as a description.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when it is not registered, [`Error::Definition`] for the table of an extract, which has no
    /// times and partitions: see [`FeatureStore::extract`].
    pub async fn describe(&self, table: &str) -> Result<TableVersion> {
        let name: TableName = table.parse()?;
        if extract::find(&self.workspace, &name).await?.is_some() {
            let reason = "it is an extract, without declared times, partitions and versions; see `FeatureStore::extract`".into();
            return Err(Error::Definition { subject: format!("table `{name}`"), reason });
        }
        self.workspace.catalog.latest(&name).await
    }

    /// A published version of a table, even if the table was dropped since.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when there never was one, [`Error::NotFound`] when it has no such version.
    pub async fn describe_at(&self, table: &str, version: u64) -> Result<TableVersion> {
        self.workspace.catalog.at(&table.parse()?, version).await
    }

    /// The published versions of a table, the oldest first; empty when there never was one.
    ///
    /// # Errors
    /// [`Error::Storage`] when they cannot be listed.
    pub async fn versions(&self, table: &str) -> Result<Vec<VersionInfo>> {
        self.workspace.catalog.versions(&table.parse()?).await
    }

    /// The partitions of a table, in the order of time.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when it is not registered.
    pub async fn partitions(&self, table: &str) -> Result<Vec<Partition>> {
        Ok(self.describe(table).await?.partitions())
    }
}
