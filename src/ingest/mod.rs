//! Loading: source files in, a registered fact table of month folders out.
//! A load is one commit: readers see none of it or all of it. A source file that was loaded before is not loaded again.
//!
//! ```text
//! sources -> read (CSV, Parquet) -> conform (types, instants, rejects) -> sort (spills) -> month files -> commit
//! ```

mod columns;
mod csv_source;
mod infer;
mod parquet_source;
mod rejects;
mod run;
mod sources;
mod write;

use std::fmt;

use arrow::datatypes::DataType;

pub(crate) use run::run;

use crate::{
    catalog::{FactTable, TableVersion},
    error::{Error, Result},
    name::TableName,
    storage::without_credentials,
};

/// What to load, and into which table.
///
/// ```
/// use asof::catalog::{FactTable, KnownAt};
/// use asof::ingest::{Ingest, OnReject};
///
/// let table = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse()?);
/// let load = Ingest::new("nyc_taxi", table)?
///     .from("data/yellow_tripdata_2014-*.csv")
///     .rename("tpep_pickup_datetime", "pickup_at")
///     .rename("tpep_dropoff_datetime", "dropoff_at")
///     .on_reject(OnReject::Skip);
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Clone)]
pub struct Ingest {
    pub(crate) table: TableName,
    pub(crate) declared: FactTable,
    pub(crate) sources: Vec<String>,
    pub(crate) renames: Vec<(String, String)>,
    pub(crate) types: Vec<(String, DataType)>,
    pub(crate) partition_columns: Vec<String>,
    pub(crate) on_reject: OnReject,
    pub(crate) file_bytes: usize,
}

/// What a load does with rows that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnReject {
    /// List them in the reject file and load nothing.
    #[default]
    Stop,
    /// List them in the reject file and load the rest.
    Skip,
}

impl Ingest {
    /// A load into this table. The columns of the declaration are named as they are after [`Ingest::rename`].
    ///
    /// # Errors
    /// [`Error::InvalidName`] when the table cannot have this name.
    pub fn new(table: &str, declared: FactTable) -> Result<Self> {
        Ok(Self {
            table: table.parse()?,
            declared,
            sources: Vec::new(),
            renames: Vec::new(),
            types: Vec::new(),
            partition_columns: vec!["year".into(), "month".into()],
            on_reject: OnReject::default(),
            file_bytes: 128 << 20,
        })
    }

    /// Adds source files: a file, a glob (`*`, `?`, `[..]`, `**`), or a folder with all CSV and Parquet files below it; on
    /// this machine or by URL. CSV files have a header.
    pub fn from(mut self, source: impl Into<String>) -> Self {
        self.sources.push(source.into());
        self
    }

    /// Loads the source column `from` under the name `to`.
    pub fn rename(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.renames.push((from.into(), to.into()));
        self
    }

    /// Declares the type of a column instead of inferring it: `Int64`, `Float64`, `Boolean` or `Utf8`.
    ///
    /// Types are inferred from the first 10,000 rows of each CSV file. A column that holds nothing there has no type and is
    /// left out, until a load brings a value or declares its type; a value further down is a reject, never lost in silence.
    pub fn column_type(mut self, column: impl Into<String>, data_type: DataType) -> Self {
        self.types.push((column.into(), data_type));
        self
    }

    /// Lays the table out as `month=N` alone, for facts of a single year. The default is `year=YYYY/month=N`.
    pub fn by_month_of_one_year(mut self) -> Self {
        self.partition_columns = vec!["month".into()];
        self
    }

    /// Names the partition columns, outermost first, where `year` and `month` are taken by columns of the facts.
    ///
    /// # Errors
    /// [`Error::Definition`] unless there are one (the month) or two (year and month).
    pub fn partition_columns<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Result<Self> {
        self.partition_columns = names.into_iter().map(Into::into).collect();
        for name in &self.partition_columns {
            crate::name::check_identifier("partition column", name, name)?;
        }
        match self.partition_columns.len() {
            1 | 2 => Ok(self),
            n => Err(Error::Definition {
                subject: format!("the load into `{}`", self.table),
                reason: format!("{n} partition columns were named; name the month, or the year and the month"),
            }),
        }
    }

    /// What to do with rows that cannot be read; the default is to stop.
    pub fn on_reject(mut self, what: OnReject) -> Self {
        self.on_reject = what;
        self
    }

    /// The size at which an output file is closed and the next one begun; 128 MiB by default.
    pub fn file_bytes(mut self, bytes: usize) -> Self {
        self.file_bytes = bytes.max(1);
        self
    }

    pub(crate) fn renamed<'a>(&'a self, column: &'a str) -> &'a str {
        self.renames.iter().find(|(from, _)| from == column).map_or(column, |(_, to)| to)
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.sources.iter().map(|s| without_credentials(s)).collect();
        write!(f, "Ingest({} from {})", self.table, sources.join(", "))
    }
}

/// What a load did.
#[derive(Debug, Clone)]
pub struct LoadReport {
    /// Whether this call loaded the rows or an earlier one had.
    pub outcome: LoadOutcome,
    /// The table's version that holds the load.
    pub version: TableVersion,
    /// Rows loaded.
    pub rows: u64,
    /// Rows left out.
    pub rejected: u64,
    /// Where the rejected rows are listed with file, line and reason, relative to the root; `None` when there are none.
    pub reject_file: Option<String>,
}

/// Whether a load was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadOutcome {
    /// The rows were loaded by this call.
    Loaded,
    /// All of the sources had been loaded before; nothing was changed, and the report is that of the table's last load.
    AlreadyLoaded,
}
