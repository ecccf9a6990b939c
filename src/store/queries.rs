//! Queries as of an instant, facts for the temporal operators, and files that are read as spines.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{catalog::TableProvider, prelude::DataFrame};

use super::{FeatureStore, read_csv};
use crate::{
    catalog::FactTable,
    engine::Parallelism,
    error::{Error, Result},
    extract,
    feature_set::View,
    name::TableName,
    scan::{AsOfTable, VisibleTable},
    shards::Shards,
    sql::{self, InformationSchema, QueryContext},
    storage::ParquetTable,
    temporal::Facts,
    time::{AsOf, Horizon},
};

/// Queries.
impl FeatureStore {
    /// Runs a SQL query over the catalog's tables that sees nothing at or after `as_of`; at [`AsOf::END_OF_TIME`] it sees all
    /// facts.
    ///
    /// `SHOW TABLES`, `SHOW COLUMNS FROM trips`, `DESCRIBE` and `information_schema` list tables and columns.
    ///
    /// The rows belong to the store's own session. To use them in another session, `cache()` them first. A view of them
    /// (`DataFrame::into_view`) is planned by that session's rules, which do not know the operators: filters may then be evaluated on
    /// hidden facts, although no hidden fact is returned.
    ///
    /// Besides DataFusion's SQL it knows [`ASOF JOIN`](crate::sql::asof_join), the closest fact to each row's own instant, and
    /// [`trailing`](crate::sql::trailing), aggregates over windows that end there.
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

    /// The rows of a view that are visible at `as_of`, for lookups and windows, as [`FeatureStore::facts`] gives those of a
    /// table. They have the declaration that follows from the tables of the view.
    ///
    /// ```no_run
    /// # async fn ask(store: asof::FeatureStore, spine: asof::temporal::Spine) -> asof::Result<()> {
    /// use asof::{Aggregate, AsOf, feature_set::View, temporal::Window};
    /// use chrono::TimeDelta;
    ///
    /// let paid = View::sql("paid", "SELECT ordered_at, shop, price * quantity AS revenue FROM orders WHERE status = 'paid'");
    /// let paid = store.facts_of_view(&paid, AsOf::END_OF_TIME).await?;
    /// let rows = spine.window([Window::of(paid).on("shop").trailing(TimeDelta::days(7), [Aggregate::sum("revenue")])])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownTable`] and [`Error::FileChanged`] as [`FeatureStore::facts`]; [`Error::InvalidName`],
    /// [`Error::Definition`], [`Error::UnknownColumn`] and [`Error::Volatile`] for a query that is no view: see [`View`].
    pub async fn facts_of_view(&self, view: &View, as_of: AsOf) -> Result<Facts> {
        view.check()?;
        let (m, horizon) = (&self.workspace, Horizon::before(as_of));
        let mut tables = Vec::with_capacity(view.tables().len());
        for name in view.tables() {
            let table = match self.providers.open(name, horizon)? {
                Some(table) => table,
                None => AsOfTable::open(&VisibleTable::new(&m.pin_latest(name).await?, horizon)?).await?,
            };
            tables.push((name.clone(), table));
        }
        sql::view_facts(&m.engine, view.text(), tables).await
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
    /// times, whose zone is declared by [`Spine::zone`](crate::temporal::Spine::zone). Any other column has integers, floats or
    /// booleans if each of its values is one exactly, and else texts; an empty cell is NULL. All rows are held in memory.
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
}
