//! The store: opens a root, connects the parts, and delegates to them.

mod options;
mod read_csv;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use datafusion::{catalog::TableProvider, prelude::DataFrame};

use crate::{
    backtest::{self, Backtest, BacktestReport},
    cache::Cache,
    catalog::{self, Catalog, Change, FactTable, OnConflict, Partition, RepairReport, TableVersion, VersionInfo},
    ctas,
    ddl::{self, Answer},
    engine::{Engine, Parallelism},
    error::{Error, Result},
    extract::{self, Extract, ExtractRecord, ExtractRun},
    feature_set::FeatureSet,
    gc::{self, Gc, GcReport},
    ingest::{self, CompactOptions, CompactReport, Expect, Ingest, LoadReport, Quality, QualityReport},
    kv::{self, KeyValue, MemoryKv},
    lineage::{self, Lineage},
    materialize::{self, Materialization},
    name::{SetName, TableName, shown},
    online::Online,
    scan::{AsOfTable, Providers, VisibleTable},
    shards::Shards,
    sql::{self, InformationSchema, QueryContext},
    storage::{Location, ParquetTable, seal, unseal},
    temporal::{Facts, Spine},
    time::{AsOf, Clock, Horizon, SystemClock},
    training,
    workspace::Workspace,
};

pub use options::StoreOptions;

/// The version of the root's layout.
const FORMAT: u32 = 2;
const MARKER: &str = "asof.json";
/// The default cache directory of a root on this machine.
const CACHE_DIR: &str = ".asof-cache";

/// An embedded feature store over one root: a directory, or a prefix in an object store.
///
/// ```no_run
/// # async fn run() -> asof::Result<()> {
/// use asof::{AsOf, FeatureStore, catalog::{FactTable, KnownAt}, ingest::Ingest};
///
/// let store = FeatureStore::open("./store").await?; // or s3://bucket/prefix
/// let trips = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse()?);
/// store.ingest(&Ingest::new("nyc_taxi", trips)?.from("data/*.csv")).await?;
/// let as_of: AsOf = "2014-11-01".parse()?;
/// store.sql("SELECT count(*) FROM nyc_taxi", as_of).await?.show().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FeatureStore {
    workspace: Arc<Workspace>,
    sets: Arc<RwLock<BTreeMap<SetName, FeatureSet>>>,
    providers: Providers,
    clock: Arc<dyn Clock>,
}

impl FeatureStore {
    /// Opens the store with this root, or makes it: a path of this machine, or a URL (`s3://bucket/prefix`, `file://`,
    /// `memory://`, `gs://`, `az://`). `s3`, `gs` and `az` need the [flags](crate#flags) `aws`, `gcp` and `azure`.
    ///
    /// # Errors
    /// [`Error::InvalidLocation`] for a root that cannot be opened, [`Error::Format`] for one of another version of the format,
    /// [`Error::CacheLocked`] when another process uses the cache, [`Error::Cache`] when the directory that was given for it
    /// cannot be used. If none was given and none can be made below the root, the cache is kept in memory, with a warning.
    pub async fn open(root: &str) -> Result<Self> {
        Self::open_with(root, StoreOptions::default()).await
    }

    /// As [`FeatureStore::open`], with options.
    ///
    /// # Errors
    /// As [`FeatureStore::open`].
    pub async fn open_with(root: &str, options: StoreOptions) -> Result<Self> {
        let StoreOptions { cache_dir, memory_cache, locations, resources, clock } = options;
        let place = locations.open(root)?;
        check_format(&place).await?;
        let kv = match cache_dir {
            _ if memory_cache => Arc::new(MemoryKv::default()),
            Some(dir) => kv::open(&dir)?,
            None => default_cache(&place)?,
        };
        let workspace = Workspace {
            catalog: Catalog::new(&place),
            root: place,
            engine: Engine::new(resources),
            locations,
            cache: Cache::new(kv)?,
        };
        let clock = clock.unwrap_or_else(|| Arc::new(SystemClock));
        Ok(Self { workspace: Arc::new(workspace), sets: Arc::default(), providers: Providers::default(), clock })
    }

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

    /// Runs a SQL query over the catalog's tables that sees nothing at or after `as_of`; at [`AsOf::END_OF_TIME`] it sees all
    /// facts.
    ///
    /// `SHOW TABLES`, `SHOW COLUMNS FROM trips`, `DESCRIBE` and `information_schema` list tables and columns.
    ///
    /// The rows belong to the store's own session. To use them in another session, `cache()` them first. A view of them
    /// (`DataFrame::into_view`) is planned by that session's rules, which do not know the operators: filters may then be evaluated on
    /// hidden facts, although no hidden fact is returned.
    ///
    /// Besides DataFusion's SQL it knows `ASOF JOIN`, the closest fact to each row's own instant, and `trailing`, aggregates over
    /// windows that end there: see [`temporal::sql`](crate::temporal::sql).
    ///
    /// ```no_run
    /// # async fn ask(store: asof::FeatureStore) -> asof::Result<()> {
    /// let as_of = "2014-11-01".parse()?;
    /// // The last fare of the zone that was known before each ride began.
    /// let last = "SELECT r.*, t.fare_amount AS last_fare FROM rides AS r \
    ///             ASOF JOIN nyc_taxi AS t MATCH_CONDITION (r.began > t.pickup_at) ON r.zone = t.pickup_zone";
    /// store.sql(last, as_of).await?.show().await?;
    /// // Trips of the zone in the day before, and their mean fare.
    /// let day = "SELECT * FROM trailing('rides', 'began', 'nyc_taxi', 'zone = pickup_zone', \
    ///            '1 day', 'count(*) AS trips_1d, avg(fare_amount) AS mean_fare_1d')";
    /// store.sql(day, as_of).await?.show().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a table that is not registered, [`Error::Volatile`] for functions such as `now()`,
    /// [`Error::Definition`], [`Error::ColumnType`] and [`Error::UnknownColumn`] for an invalid `ASOF JOIN` or `trailing`,
    /// [`Error::Statement`] for a statement that is not a query, is nested too deeply, or has a clause that would have no
    /// effect (`TABLESAMPLE`, `FOR UPDATE`, ...), [`Error::Query`] for SQL that cannot be planned.
    pub async fn sql(&self, sql: &str, as_of: AsOf) -> Result<DataFrame> {
        self.sql_at(sql, as_of, &[]).await
    }

    /// As [`FeatureStore::sql`], over these versions of tables; other tables are read as they are now.
    ///
    /// A version stays readable after the table was changed or dropped. A file that has changed or vanished is an error.
    ///
    /// ```no_run
    /// # async fn ask(store: asof::FeatureStore) -> asof::Result<()> {
    /// let rows = store.sql_at("SELECT count(*) FROM nyc_taxi", "2014-11-01".parse()?, &[("nyc_taxi", 3)]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`FeatureStore::sql`] and [`FeatureStore::describe_at`], and [`Error::Definition`] when a version is given for a
    /// table that the query does not name.
    pub async fn sql_at(&self, sql: &str, as_of: AsOf, versions: &[(&str, u64)]) -> Result<DataFrame> {
        let m = &self.workspace;
        let mut pins: BTreeMap<TableName, u64> = BTreeMap::new();
        for (table, version) in versions {
            pins.insert(table.parse()?, *version);
        }
        let subject = "the query";
        let tables = sql::open_tables(m, subject, sql, Horizon::before(as_of), pins, &self.providers).await?;
        let mut information_schema = InformationSchema::read_by(sql, &m.catalog, &self.providers).await?;
        if let Some(schema) = &mut information_schema {
            schema.add(extract::schemas(m).await?);
        }
        let context = QueryContext { extracts: tables.extracts, information_schema, ..QueryContext::default() };
        sql::query_with(&m.engine, Parallelism::Full, subject, tables.facts, context, sql).await
    }

    /// Makes any DataFusion table a fact table of this store's handles, in this process only. Its rows are cut and guarded as of the
    /// instant of the query, in [`FeatureStore::sql`], `ASOF JOIN`, `trailing` and [`FeatureStore::facts`].
    ///
    /// A provider's rows cannot be pinned, so feature sets over it are refused by
    /// [`FeatureStore::materialize`], [`FeatureStore::training_set`] and [`FeatureStore::backtest`]. It takes precedence over a
    /// table that is registered in the catalog under the same name later. Registering again replaces it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asof::Result<()> {
    /// use std::sync::Arc;
    /// use asof::{FeatureStore, catalog::{FactTable, KnownAt}};
    /// use datafusion::{arrow::{array::TimestampMicrosecondArray, record_batch::RecordBatch}, datasource::MemTable};
    ///
    /// let at = TimestampMicrosecondArray::from(vec![1_388_534_400_000_000, 1_420_070_400_000_000]).with_timezone("UTC");
    /// let rows = RecordBatch::try_from_iter([("at", Arc::new(at) as _)])?;
    /// let clicks = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
    /// let store = FeatureStore::open("memory://providers").await?;
    /// let declared = FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero()));
    /// store.register_provider("clicks", Arc::new(clicks), declared).await?;
    /// assert_eq!(store.sql("SELECT * FROM clicks", "2014-11-01".parse()?).await?.count().await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] and [`Error::ColumnType`] when the declaration does not fit its schema,
    /// [`Error::AlreadyExists`] when the catalog has a table of this name.
    pub async fn register_provider(&self, table: &str, provider: Arc<dyn TableProvider>, declared: FactTable) -> Result<()> {
        let name: TableName = table.parse()?;
        if self.workspace.catalog.find(&name).await?.is_some() {
            let reason = "is in the catalog already; choose another name for the provider".into();
            return Err(Error::AlreadyExists { subject: format!("table `{name}`"), reason });
        }
        self.providers.register(name, provider, declared)
    }

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

    /// Divides the files of a table's newest version into `count` shards of about the same size, for computations that are awkward in
    /// SQL; see [`Shards`](crate::shards::Shards). They hold what was visible at the as-of; at [`AsOf::END_OF_TIME`] all facts with
    /// their times.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when it is not registered, [`Error::FileChanged`] when its files are not what was registered.
    pub async fn shards(&self, table: &str, count: usize, as_of: AsOf) -> Result<Shards> {
        let m = &self.workspace;
        let pinned = m.pin_latest(&table.parse()?).await?;
        Shards::open(&m.engine, &pinned, count, as_of).await
    }

    /// The facts of a table that are visible at `as_of`, for lookups and windows; see [`crate::temporal`].
    ///
    /// The operators cut them again at each row of the spine. An `as_of` after the spine's last instant, such as
    /// [`AsOf::END_OF_TIME`], hides nothing more.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when it is not registered, [`Error::FileChanged`] when its files are not what was registered.
    pub async fn facts(&self, table: &str, as_of: AsOf) -> Result<Facts> {
        let (m, name, horizon) = (&self.workspace, table.parse()?, Horizon::before(as_of));
        let table = match self.providers.open(&name, horizon)? {
            Some(table) => table,
            None => AsOfTable::open(&VisibleTable::new(&m.pin_latest(&name).await?, horizon)?).await?,
        };
        sql::facts(&m.engine, table).await
    }

    /// The rows of Parquet files, in their order, for a spine: a path of this machine or a URL of a file or a folder.
    ///
    /// # Errors
    /// [`Error::InvalidLocation`] for a location that cannot be opened, [`Error::NoFiles`] where there are no files, and
    /// [`Error::UnreadableFile`] for a file that is not Parquet.
    pub async fn read_parquet(&self, location: &str) -> Result<DataFrame> {
        let m = &self.workspace;
        let place = m.locations.open(location)?;
        let file = match place.split_file() {
            Some((folder, name)) => folder.head(&name).await?,
            None => None,
        };
        let files = match file {
            Some(file) => vec![file],
            None => {
                let mut files = place.list().await?;
                files.retain(|file| file.location.as_ref().ends_with(".parquet") && file.size > 0);
                files
            }
        };
        if files.is_empty() {
            return Err(Error::NoFiles { what: "Parquet files", location: place.to_string() });
        }
        let session = m.engine.session(Parallelism::Full, [&place])?;
        Ok(session.read_table(Arc::new(ParquetTable::with_own_columns(place, files).await?))?)
    }

    /// The rows of CSV files with a header, in their order, for a spine: a path of this machine or a URL of a file, or of a
    /// folder with `.csv` files.
    ///
    /// The columns named in `times` are times in the forms that [`parse_time`](crate::time::parse_time) lists (`2014-11-02
    /// 01:30:00`, `2014-11-02T01:30:00.25Z`, `2014/4/1`, ...). Times with offsets become instants; times without stay local
    /// times, whose zone is declared by [`Spine::zone`]. Any other column has integers, floats or booleans if each of its
    /// values is one exactly, and else texts; an empty cell is NULL. All rows are held in memory.
    ///
    /// ```no_run
    /// # async fn train(store: asof::FeatureStore) -> asof::Result<()> {
    /// use asof::temporal::Spine;
    ///
    /// let rides = store.read_csv("data/rides.csv", &["at"]).await?; // pickup_zone, at, label
    /// let spine = Spine::new(rides, "at").zone("America/New_York".parse()?);
    /// let rows = store.training_set("zone_demand_v1", spine).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidLocation`] for a location that cannot be opened, [`Error::NoFiles`] where there are no files,
    /// [`Error::UnknownColumn`] for a column that they lack, [`Error::ColumnType`], with the row, for a text that is not a
    /// time, and [`Error::UnreadableFile`] for a file that is not CSV, ends inside a quote or has rows of another length than
    /// its header.
    pub async fn read_csv(&self, location: &str, times: &[&str]) -> Result<DataFrame> {
        let m = &self.workspace;
        read_csv::read_csv(&m.engine, &m.locations, location, times).await
    }

    /// The spine with the features of a set of entities as they were at each row's own instant: one row out per row in,
    /// in order.
    ///
    /// The features of a row `(k, t)` are those of entity `k` in the materialization as of `t`, bit for bit: both use the same
    /// operators. Facts are those in the catalog now.
    ///
    /// ```no_run
    /// # async fn train(store: asof::FeatureStore) -> asof::Result<()> {
    /// use asof::temporal::Spine;
    ///
    /// let rides = store.read_parquet("data/rides.parquet").await?; // pickup_zone, at, label
    /// let rows = store.training_set("zone_demand_v1", Spine::new(rides, "at")).await?;
    /// rows.write_parquet("data/training.parquet", Default::default(), None).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`] and [`Error::UnknownTable`], [`Error::Definition`] for a set of rows,
    /// [`Error::AlreadyExists`] when the root holds another definition under the set's name, [`Error::UnknownColumn`] and
    /// [`Error::ColumnType`] when the spine lacks a key or an instant, or has one that cannot be compared.
    pub async fn training_set(&self, set: &str, spine: Spine) -> Result<DataFrame> {
        training::training_set(&self.workspace, &self.catalog_set(set)?, spine).await
    }

    /// Registers a feature set with this handle of the store.
    ///
    /// The first materialization binds the set's name to its definition in the root, for all handles and processes. Using the
    /// name for another definition is then refused with [`Error::AlreadyExists`]. Until then a set can be edited freely; see
    /// also [`FeatureStore::forget_set`].
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when another definition is registered under the same name.
    pub fn register(&self, set: FeatureSet) -> Result<()> {
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        match sets.get(set.name()) {
            Some(known) => {
                set.check_same(known.fingerprint(), &known.declared, "; or release it with `FeatureStore::forget_set`")
            }
            None => {
                sets.insert(set.name().clone(), set);
                Ok(())
            }
        }
    }

    /// Releases a set's name, here and in the root, so that another definition can take it. It is meant for definitions that are
    /// still being developed, and is refused as long as a materialization of the set is published.
    ///
    /// Nobody should materialize the set at the same time: what is published at the moment in which the name is released stays, under
    /// a name that others may take.
    ///
    /// # Errors
    /// [`Error::InvalidName`], and [`Error::InUse`] when something is published under the name.
    pub async fn forget_set(&self, set: &str) -> Result<Change> {
        let name: SetName = set.parse()?;
        let in_root = materialize::forget(&self.workspace, &name).await?;
        let here = self.sets.write().unwrap_or_else(PoisonError::into_inner).remove(&name);
        Ok(if here.is_some() { Change::Done } else { in_root })
    }

    /// The registered feature set of this name.
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`] when it is not registered.
    pub fn feature_set(&self, name: &str) -> Result<FeatureSet> {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let found = name.parse::<SetName>().ok().and_then(|name| sets.get(&name).cloned());
        found.ok_or_else(|| Error::UnknownFeatureSet { name: shown(name), known: sets.keys().map(ToString::to_string).collect() })
    }

    /// Materializes the rows of a feature set at an instant, over the facts that are in the catalog now.
    ///
    /// It is made once: a second call with the same definition, instant and facts finds it and reads no data. Rows are written to the
    /// root only; [`FeatureStore::online`] reads those that it serves into the cache.
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`], [`Error::UnknownTable`], [`Error::FileChanged`] for what it is made of, [`Error::Step`]
    /// when an encoder or row selection fails, [`Error::AlreadyExists`] when the root holds another definition under the set's
    /// name, or the code has changed and its revision has not, [`Error::Definition`] for an extract that cannot be planned.
    /// After an error nothing is published.
    pub async fn materialize(&self, set: &str, as_of: AsOf) -> Result<Materialization> {
        materialize::materialize(&self.workspace, &self.catalog_set(set)?, as_of).await
    }

    /// Serves the newest published materialization of a feature set, made by any process with this definition.
    ///
    /// The first call for a materialization of entities reads its files and writes the rows into the cache by key. Later calls, also
    /// of later processes, only read the first key of every few rows. Rows stay in the cache as long as an [`Online`] over them
    /// lives; besides, the rows of a set's eight most recently opened materializations stay.
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`] when it is not registered, [`Error::NotFound`] when it was never materialized,
    /// [`Error::AlreadyExists`] when the root holds another definition under its name.
    pub async fn online(&self, set: &str) -> Result<Online> {
        let set = self.feature_set(set)?;
        let newest = materialize::newest(&self.workspace, &set).await?;
        Online::new(newest.ok_or_else(|| Error::NotFound {
            subject: format!("feature set `{}`", set.name()),
            reason: "has no published materialization of this definition; materialize it first".into(),
        })?)
        .await
    }

    /// Serves this materialization.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when its files are not what was published, [`Error::Cache`] when they cannot be cached.
    pub async fn online_for(&self, materialization: &Materialization) -> Result<Online> {
        Online::new(materialization.clone()).await
    }

    /// Fits a model before each cutoff, scores it after the cutoff, and reports both over time.
    ///
    /// # Errors
    /// As [`FeatureStore::materialize`], and [`Error::Step`] when a learner fails.
    pub async fn backtest(&self, backtest: &Backtest) -> Result<BacktestReport> {
        backtest::run(&self.workspace, &self.catalog_set(&backtest.set)?, backtest).await
    }

    /// The registered feature set of this name, if none of its tables is a provider.
    fn catalog_set(&self, name: &str) -> Result<FeatureSet> {
        let set = self.feature_set(name)?;
        self.providers.refuse_any_of(&format!("feature set `{name}`"), &set.tables)?;
        Ok(set)
    }
}

impl fmt::Debug for FeatureStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FeatureStore({})", self.workspace.root)
    }
}

/// A cache below a local root; in memory for other roots, and for a root in which none can be made, as in a read-only one.
fn default_cache(root: &Location) -> Result<Arc<dyn KeyValue>> {
    let Some(dir) = root.local_dir() else { return Ok(Arc::new(MemoryKv::default())) };
    kv::open(&dir.join(CACHE_DIR)).or_else(|error| match error {
        Error::Cache { .. } => {
            tracing::warn!(%error, "the cache is kept in memory");
            Ok(Arc::new(MemoryKv::default()))
        }
        other => Err(other),
    })
}

/// Refuses a root of another format, and writes the format of a new root.
async fn check_format(root: &Location) -> Result<()> {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Marker {
        format: u32,
    }
    let marker = seal(MARKER, serde_json::to_vec(&Marker { format: FORMAT }))?;
    let known = match root.get(MARKER).await? {
        Some(known) => known,
        None => {
            let _ = root.put_if_absent(MARKER, marker.clone()).await?;
            root.get(MARKER).await?.unwrap_or_else(|| marker.into())
        }
    };
    let path = root.child(MARKER).to_string();
    let remedy = format!("it has the format of the root, and this library writes format {FORMAT}");
    unseal::<Marker>(&path, &known, FORMAT, &remedy).map(drop)
}
