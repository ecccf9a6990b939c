//! A load as it is declared: its table, its sources, how they are read, and what happens to what does not fit.
//! It holds settings and does nothing.

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

/// What columns are called that nobody has named before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ColumnNames {
    /// As the first file calls them.
    #[default]
    AsFound,
    LowerCase,
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

    /// Adds source files: a file, a glob (`*`, `?`, `[..]`, `**`), or a folder with all files below it that can be read; on
    /// this machine or by URL.
    ///
    /// A name tells the format: `.csv`, JSON lines as `.jsonl`, `.ndjson` or `.json`, each of them plain or followed by `.gz`
    /// or `.zst`, and `.parquet`. Files of other names in a folder are passed over, unless [`Ingest::format`] tells what they
    /// are.
    pub fn from(mut self, source: impl Into<String>) -> Self {
        self.sources.push(source.into());
        self
    }

    /// Reads all files of the load in this format, whatever their names are; whether they are compressed with gzip or zstd is
    /// told by their first bytes.
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// The dialect of the load's CSV files, if it is not commas, double quotes and a header.
    pub fn csv(mut self, options: CsvOptions) -> Self {
        self.csv = options;
        self
    }

    /// How large the parts of CSV files and JSON lines may be: 16 MiB a value, 64 MiB a row and 20,000 columns by default.
    pub fn limits(mut self, limits: ReadLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Loads the source column `from` under the name `to`. Several old names may have one new name.
    ///
    /// The table keeps this: later loads rename so too, and a load that contradicts it is an error. Spaces around a name
    /// are no part of it, and a column whose name differs from a known one in its case alone is that column.
    pub fn rename(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.renames.push(Rename { from: from.into(), to: to.into() });
        self
    }

    /// Calls new columns by their names in lower case: `Passenger_Count` becomes `passenger_count`, which SQL finds without
    /// quotes. Columns that the table, its declaration or this load names keep those names.
    pub fn lower_case_names(mut self) -> Self {
        self.names = ColumnNames::LowerCase;
        self
    }

    /// Declares the type of a column instead of inferring it: integers and floats of any width, `Boolean`, `Utf8`, `Date32`,
    /// `Decimal128`, `Timestamp`. What the type cannot hold exactly is a reject. A declared `Boolean` takes `yes`/`no`, `y`/`n`,
    /// `t`/`f` and `1`/`0` in any case too, a declared number digits behind a leading zero, and a declared `Utf8` the texts of
    /// numbers.
    ///
    /// Types are inferred from the first 10,000 rows of each CSV or JSON file. A column that holds nothing there has no type
    /// and is left out, until a load brings a value or declares its type; a value further down is a reject, never lost in
    /// silence.
    ///
    /// The table's times are always instants in microseconds; `Timestamp(Nanosecond, ..)`, declared in the table's first load
    /// or found in its first rows, makes them nanoseconds.
    pub fn column_type(mut self, column: impl Into<String>, data_type: DataType) -> Self {
        self.types.push((column.into(), data_type));
        self
    }

    /// Declares the types of all columns of a schema, as [`Ingest::column_type`] does, and that they are the table's first
    /// columns in this order: one that no file holds is NULL. Columns of the files beyond the schema are loaded too.
    ///
    /// Whether a field may be NULL is not looked at.
    pub fn schema(mut self, schema: &Schema) -> Self {
        self.schema = schema.fields().iter().cloned().collect();
        self
    }

    /// Declares the form of a column's times in `strftime` notation, for texts that are not ISO 8601: `%m/%d/%Y %H:%M` reads
    /// `4/1/2014 0:11`. A form without a time of day means the date's first instant; `%z` is an offset, `%s` seconds since 1970.
    ///
    /// ```
    /// # use asof::{catalog::{FactTable, KnownAt}, ingest::Ingest};
    /// # let table = FactTable::new("at", KnownAt::column("ended"));
    /// let load = Ingest::new("rides", table)?.from("rides.csv").time_format("at", "%m/%d/%Y %I:%M %p")?;
    /// # Ok::<(), asof::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Definition`] when it is not a form of times.
    pub fn time_format(mut self, column: impl Into<String>, format: &str) -> Result<Self> {
        let column = column.into();
        let format = TimeFormat::new(&column, format)?;
        self.time_formats.retain(|(known, _)| *known != column);
        self.time_formats.push((column, format));
        Ok(self)
    }

    /// Lays the table out as `month=N` alone, for facts of a single year. The default is `year=YYYY/month=N`.
    ///
    /// Partition columns are columns of the table: facts that have a `year` or a `month` of their own need other names for one of
    /// them, by [`Ingest::rename`] or [`Ingest::partition_columns`].
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
    ///
    /// A load of which no row can be read stops in any case, and so does one with a file most of whose rows cannot be read,
    /// unless [`OnAnomaly::Accept`] takes it. A source some of whose rows were left out can be loaded again with other
    /// reading options by [`OnChangedSource::Replace`].
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
    pub fn on_outside_month(mut self, what: OnOutsideMonth) -> Self {
        self.on_outside_month = what;
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
    /// cannot be read, which is told as [`Error::RejectedRows`]. What a column held is known from earlier loads and from the other files of this one; fewer than 30 values
    /// tell nothing.
    pub fn on_anomaly(mut self, what: OnAnomaly) -> Self {
        self.on_anomaly = what;
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

    /// How many months the rows of one load may fall into; 1,200 by default, a century.
    ///
    /// Each month is a folder with a file of its own. Rows that are strewn over more are most often times that were read in
    /// a wrong unit or form, and make a table of many small files that is slow to load and to read.
    pub fn months_at_most(mut self, months: usize) -> Self {
        self.months_at_most = months;
        self
    }

    /// The types that the load declares, by their columns.
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
