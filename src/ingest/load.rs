//! The declaration of a load: its table, its sources, how they are read, and what happens to rows that do not fit.

use std::{collections::HashMap, fmt};

use arrow::datatypes::{DataType, FieldRef, Schema};

use super::{
    limits::ReadLimits,
    mode::{LoadMode, OnAnomaly, OnChangedSource, OnOutsideMonth},
    options::{CsvOptions, Format},
    time_format::TimeFormat,
};
use crate::{
    catalog::{FactTable, Rename, expectation::Expect},
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
#[must_use]
pub struct Ingest {
    pub(crate) table: TableName,
    pub(crate) declared: FactTable,
    pub(crate) sources: Vec<String>,
    pub(crate) renames: Vec<Rename>,
    pub(crate) types: Vec<(String, DataType)>,
    pub(crate) schema: Vec<FieldRef>,
    pub(crate) time_formats: Vec<(String, TimeFormat)>,
    pub(crate) format: Option<Format>,
    pub(crate) csv: CsvOptions,
    pub(crate) limits: ReadLimits,
    pub(crate) partition_columns: Vec<String>,
    pub(crate) on_reject: OnReject,
    pub(crate) file_bytes: usize,
    pub(crate) mode: LoadMode,
    pub(crate) on_outside_month: OnOutsideMonth,
    pub(crate) on_changed_source: OnChangedSource,
    pub(crate) on_anomaly: OnAnomaly,
    pub(crate) expectations: Vec<Expect>,
    pub(crate) months_at_most: usize,
    pub(crate) names: ColumnNames,
}

/// How columns are named that have no name yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ColumnNames {
    /// As in the first file.
    #[default]
    AsFound,
    LowerCase,
}

/// What a load does with rows that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnReject {
    /// List them in the reject file and load nothing.
    #[default]
    Stop,
    /// List them in the reject file and load the rest.
    Skip,
}

impl Ingest {
    /// A load into this table. The declaration uses the names that columns have after [`Ingest::rename`].
    ///
    /// # Errors
    /// [`Error::InvalidName`] if a table cannot have this name, [`Error::Definition`] for a timeless table: a load divides facts
    /// into months.
    pub fn new(table: &str, declared: FactTable) -> Result<Self> {
        let table: TableName = table.parse()?;
        if declared.is_timeless() {
            let reason = "it is declared timeless, and a load divides facts into months by their event time: write its rows to Parquet \
                          files, and register these with `FeatureStore::register_table`";
            return Err(Error::Definition { subject: format!("table `{table}`"), reason: reason.into() });
        }
        Ok(Self {
            table,
            declared,
            sources: Vec::new(),
            renames: Vec::new(),
            types: Vec::new(),
            schema: Vec::new(),
            time_formats: Vec::new(),
            format: None,
            csv: CsvOptions::default(),
            limits: ReadLimits::default(),
            partition_columns: vec!["year".into(), "month".into()],
            on_reject: OnReject::default(),
            file_bytes: 128 << 20,
            mode: LoadMode::default(),
            on_outside_month: OnOutsideMonth::default(),
            on_changed_source: OnChangedSource::default(),
            on_anomaly: OnAnomaly::default(),
            expectations: Vec::new(),
            months_at_most: 1_200,
            names: ColumnNames::AsFound,
        })
    }

    /// Adds source files: a file, a glob (`*`, `?`, `[..]`, `**`), or a folder with all readable files below it, as a local path
    /// or a URL.
    ///
    /// The extension gives the format: `.csv`; `.jsonl`, `.ndjson` or `.json` for JSON lines; `.parquet`. Text files may be
    /// compressed, with `.gz` or `.zst` after the extension. Other files of a folder are skipped unless [`Ingest::format`] gives
    /// their format.
    pub fn from(mut self, source: impl Into<String>) -> Self {
        self.sources.push(source.into());
        self
    }

    /// Reads all files of the load in this format, whatever their names are. Their first bytes show whether they are compressed
    /// with gzip or zstd.
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// The dialect of the load's CSV files. The default is commas, double quotes and a header.
    pub fn csv(mut self, options: CsvOptions) -> Self {
        self.csv = options;
        self
    }

    /// The largest value, row and number of columns of text files. The defaults are 16 MiB, 64 MiB and 20,000.
    pub fn limits(mut self, limits: ReadLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Loads the source column `from` under the name `to`. Several old names may have one new name.
    ///
    /// The table keeps renames: they apply to later loads too, and a load that contradicts one is an error. Spaces around a name
    /// are ignored. A column whose name differs only in case from a known one is that column.
    pub fn rename(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.renames.push(Rename { from: from.into(), to: to.into() });
        self
    }

    /// Names new columns in lower case: `Passenger_Count` becomes `passenger_count`, which SQL finds without quotes. Columns that
    /// the table, its declaration or this load already names keep those names.
    pub fn lower_case_names(mut self) -> Self {
        self.names = ColumnNames::LowerCase;
        self
    }

    /// Declares the type of a column instead of inferring it: integers and floats of any width, `Boolean`, `Utf8`, `Date32`,
    /// `Decimal128` or `Timestamp`. A value that the type cannot hold exactly is a reject. A declared `Boolean` also accepts
    /// `yes`/`no`, `y`/`n`, `t`/`f` and `1`/`0` in any case. A declared number accepts leading zeros. A declared `Utf8` keeps
    /// numbers as texts.
    ///
    /// Types are inferred from the first 10,000 rows of each CSV or JSON file. A column that is empty in these rows has no type
    /// and is left out until a load finds a value or declares its type. A later value in it is a reject and is not dropped
    /// silently.
    ///
    /// The table's times are always instants in microseconds. They are nanoseconds if the table's first load declares
    /// `Timestamp(Nanosecond, ..)` or its first rows need it.
    pub fn column_type(mut self, column: impl Into<String>, data_type: DataType) -> Self {
        self.types.push((column.into(), data_type));
        self
    }

    /// Declares the types of all columns of a schema, as [`Ingest::column_type`] does, and their order: they are the table's
    /// first columns. A column that no file has is NULL. Columns of the files that the schema lacks are loaded too.
    ///
    /// The nullability of the fields is ignored.
    pub fn schema(mut self, schema: &Schema) -> Self {
        self.schema = schema.fields().iter().cloned().collect();
        self
    }

    /// Declares the format of a column's times in `strftime` notation, for texts that are not ISO 8601: `%m/%d/%Y %H:%M` reads
    /// `4/1/2014 0:11`. Without a time of day, a date means its first instant. `%z` is an offset, `%s` is seconds since 1970.
    ///
    /// ```
    /// # use asof::{catalog::{FactTable, KnownAt}, ingest::Ingest};
    /// # let table = FactTable::new("at", KnownAt::column("ended"));
    /// let load = Ingest::new("rides", table)?.from("rides.csv").time_format("at", "%m/%d/%Y %I:%M %p")?;
    /// # Ok::<(), asof::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Definition`] if it is not a time format.
    pub fn time_format(mut self, column: impl Into<String>, format: &str) -> Result<Self> {
        let column = column.into();
        let format = TimeFormat::new(&column, format)?;
        self.time_formats.retain(|(known, _)| *known != column);
        self.time_formats.push((column, format));
        Ok(self)
    }

    /// Partitions the table by `month=N` alone, for facts of a single year. The default is `year=YYYY/month=N`.
    ///
    /// Partition columns are columns of the table. If the facts have a `year` or a `month` column of their own, rename either
    /// with [`Ingest::rename`] or [`Ingest::partition_columns`].
    pub fn by_month_of_one_year(mut self) -> Self {
        self.partition_columns = vec!["month".into()];
        self
    }

    /// Names the partition columns, outermost first, for facts that have columns `year` or `month`.
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

    /// What to do with rows that cannot be read. The default is to stop.
    ///
    /// A load stops in any case if none of its rows can be read, or if most rows of a file cannot be read; [`OnAnomaly::Accept`]
    /// allows the latter. A source with rejected rows can be loaded again with other reading options by
    /// [`OnChangedSource::Replace`].
    pub fn on_reject(mut self, what: OnReject) -> Self {
        self.on_reject = what;
        self
    }

    /// The size at which an output file is closed and the next one started; 128 MiB by default.
    pub fn file_bytes(mut self, bytes: usize) -> Self {
        self.file_bytes = bytes.max(1);
        self
    }

    /// Whether the load adds rows to the table or replaces months of it. The default is to add.
    pub fn mode(mut self, mode: LoadMode) -> Self {
        self.mode = mode;
        self
    }

    /// What to do with rows outside the months that the load replaces. The default is to stop.
    pub fn on_outside_month(mut self, what: OnOutsideMonth) -> Self {
        self.on_outside_month = what;
        self
    }

    /// What to do with a source that has the name of a loaded source and different content. The default is to refuse it.
    pub fn on_changed_source(mut self, what: OnChangedSource) -> Self {
        self.on_changed_source = what;
        self
    }

    /// What to do with a file whose columns seem to hold something other than their names say. The default is to stop.
    ///
    /// Anomalies are: ids with fractions; latitudes and longitudes out of range; measured values that all lie far from those
    /// seen; numbers in a column of texts, and texts in a column of numbers; a column that holds what another column held (two
    /// columns swapped, or all columns shifted); times of other months than the file's name gives; times right
    /// after 1970 that are counts of a coarser unit than the declared one; and a file most of whose rows cannot be read, which is reported as [`Error::RejectedRows`]. What a column held is known from earlier loads and from the
    /// other files of this load. Columns of fewer than 30 values are not compared.
    pub fn on_anomaly(mut self, what: OnAnomaly) -> Self {
        self.on_anomaly = what;
        self
    }

    /// Declares an expectation of the table's rows, for this load and later ones.
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

    /// The number of months that the rows of one load may fall into; by default 1,200, a century.
    ///
    /// Each month is a folder with a file of its own. Rows in more months most often have times that were read in a wrong unit or
    /// format, and they would make many small files that are slow to write and to read.
    pub fn months_at_most(mut self, months: usize) -> Self {
        self.months_at_most = months;
        self
    }

    /// The types that the load declares, by column.
    pub(crate) fn declared_types(&self) -> HashMap<&str, &DataType> {
        let of_schema = self.schema.iter().rev().map(|field| (field.name().as_str(), field.data_type()));
        of_schema.chain(self.types.iter().map(|(column, data_type)| (column.as_str(), data_type))).collect()
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.sources.iter().map(|s| without_credentials(s)).collect();
        write!(f, "Ingest({} from {})", self.table, sources.join(", "))
    }
}
