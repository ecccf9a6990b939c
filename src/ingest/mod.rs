//! Loading: source files in, a registered fact table of month folders out.
//! A load is one commit: readers see none of it or all of it. A source file that was loaded before is not loaded again.
//!
//! ```text
//! sources -> read (CSV, Parquet) -> conform (types, instants, rejects) -> inspect (profile, expectations)
//!         -> sort (spills) -> unique keys -> month files -> quality report -> commit
//! ```

mod columns;
mod compact;
mod csv_source;
mod duplicates;
mod expect;
mod feed;
mod gzip;
mod infer;
mod inspect;
mod judge;
mod mode;
mod month;
mod parquet_source;
mod profile;
mod quality;
mod quarantine;
mod read_back;
mod rejects;
mod replace;
mod run;
mod sift;
mod sort;
mod sources;
mod suspicion;
mod unique;
mod whole;
mod write;

use std::fmt;

use arrow::datatypes::DataType;

pub(crate) use compact::compact;
pub use compact::{CompactOptions, CompactReport, CompactedPartition, PartitionOutcome};
pub use expect::{Expect, OnViolation};
pub use mode::{LoadMode, OnChangedSource, OnStray, OnSuspicion};
pub use month::Month;
pub use profile::Extreme;
pub use quality::{ColumnQuality, ExpectationQuality, FileQuality, QualityReport};
pub(crate) use run::{run, set_expectations};
pub use suspicion::Suspicion;

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
    pub(crate) mode: LoadMode,
    pub(crate) on_stray: OnStray,
    pub(crate) on_changed_source: OnChangedSource,
    pub(crate) on_suspicion: OnSuspicion,
    pub(crate) expectations: Vec<Expect>,
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
            mode: LoadMode::default(),
            on_stray: OnStray::default(),
            on_changed_source: OnChangedSource::default(),
            on_suspicion: OnSuspicion::default(),
            expectations: Vec::new(),
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

    /// Whether the load adds to the table, which is the default, or replaces months of it.
    pub fn mode(mut self, mode: LoadMode) -> Self {
        self.mode = mode;
        self
    }

    /// What to do, when months are replaced, with rows of other months; the default is to stop.
    pub fn on_stray(mut self, what: OnStray) -> Self {
        self.on_stray = what;
        self
    }

    /// What to do with a source that has the name of a loaded one and other content; the default is to refuse it.
    pub fn on_changed_source(mut self, what: OnChangedSource) -> Self {
        self.on_changed_source = what;
        self
    }

    /// What to do with a file whose columns seem to hold something else than their names say; the default is to stop.
    ///
    /// Suspicious are: ids with fractions, latitudes and longitudes out of range, measured values that all lie far from
    /// those seen, numbers where there were texts and the other way round, a column that holds what another one held (two
    /// columns swapped, or all shifted), times of other months than the name of the file tells, and a file most of whose rows
    /// cannot be read. What a column held is known from earlier loads and from the other files of this one; fewer than 30 values
    /// tell nothing.
    pub fn on_suspicion(mut self, what: OnSuspicion) -> Self {
        self.on_suspicion = what;
        self
    }

    /// Declares what is expected of each row of the table, in this load and those after it.
    ///
    /// ```
    /// # use asof::{catalog::{FactTable, KnownAt}, ingest::{Expect, Ingest, OnViolation}};
    /// # let table = FactTable::new("pickup_at", KnownAt::column("dropoff_at"));
    /// let load = Ingest::new("nyc_taxi", table)?
    ///     .from("data/*.csv")
    ///     .expect(Expect::not_null("fare_amount"))
    ///     .expect(Expect::order("pickup_at", "dropoff_at").on_violation(OnViolation::Quarantine));
    /// # Ok::<(), asof::Error>(())
    /// ```
    pub fn expect(mut self, expectation: Expect) -> Self {
        self.expectations.push(expectation);
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
    /// Rows that were kept out because they are not as expected.
    pub quarantined: u64,
    /// The Parquet file with those rows and the reasons, relative to the root; `None` when there are none.
    pub quarantine_file: Option<String>,
    /// What the load brought; `None` for a load that was made before there were reports.
    pub quality: Option<QualityReport>,
}

/// Whether a load was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadOutcome {
    /// The rows were loaded by this call.
    Loaded,
    /// All of the sources had been loaded before; nothing was changed, and the report is that of the table's last load.
    AlreadyLoaded,
}
