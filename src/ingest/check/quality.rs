//! The quality report of a load: how many rows were loaded, which were left out and why, and what the columns hold.
//! It is written once, with the load. Its JSON names are part of the format on disk.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    anomaly::Anomaly,
    drift::Drift,
    history::History,
    profile::{ColumnProfile, Extreme},
};
use crate::{
    catalog::{FORMAT, LoadRecord, TableVersion, expectation::Expect},
    error::{Error, Result},
    layout::quality_report,
    name::{ContentId, TableName},
    storage::{Location, seal, unseal},
    time::month::Month,
};

/// What a load brought into its table. It prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QualityReport {
    pub(crate) format: u32,
    /// The table.
    pub table: TableName,
    /// The load.
    pub load: ContentId,
    /// Rows loaded.
    pub rows: u64,
    /// Rows that could not be read, by reason.
    pub rejects: BTreeMap<String, u64>,
    /// Rows in quarantine.
    pub quarantined: u64,
    /// Loaded rows outside the month that their file's name gives.
    pub outside_month: u64,
    /// Rows that could be read and whose known-at lies before their event time; `None` for a table without a known-at column.
    pub known_before_event: Option<u64>,
    /// Rows that could be read and have no known-at. They are loaded and never visible. `None` as above.
    #[serde(default)]
    pub never_known: Option<u64>,
    /// Loaded rows that equal an earlier row of the load in all columns.
    pub duplicates: u64,
    /// Is `duplicates` exact? It is a lower bound if an instant has more than a million different rows, or if the values of a
    /// column cannot be compared.
    pub duplicates_are_exact: bool,
    /// Loaded rows that equal an earlier row of the load in event time, known-at, tie-break columns and declared keys, and differ
    /// in other columns. Only those other values decide which of them is the newest. `None` for a table without declared keys.
    /// Exact if `duplicates` is. Another [`FactTable::tie_break`](crate::catalog::FactTable::tie_break) column reduces it.
    #[serde(default)]
    pub ties: Option<u64>,
    /// The columns, over all rows that could be read.
    pub columns: Vec<ColumnQuality>,
    /// The source files, in the order of their names.
    pub files: Vec<FileQuality>,
    /// The expectations and their violations.
    pub expectations: Vec<ExpectationQuality>,
    /// Anomalies that the load accepted.
    #[serde(rename = "suspicions")]
    pub anomalies: Vec<Anomaly>,
    /// Drift of the files from what the table has seen, largest first, at most fifty entries.
    ///
    /// Drift does not stop a load, because it may be real: a summer, a new tariff. The number of rows, the shares of NULL, of
    /// negative numbers and of each value of a column with few values, quantiles and hours of the day are compared with those of
    /// all other files. Those at least twice as far off as usual are reported.
    #[serde(rename = "moves", default)]
    pub drift: Vec<Drift>,
    /// What this report is missing: lost reports of earlier loads, with which files could not be compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the table has seen up to and including this load.
    pub(crate) history: History,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColumnQuality {
    /// The column.
    pub name: String,
    /// Its Arrow type.
    pub data_type: String,
    /// Rows with NULL.
    pub nulls: u64,
    /// The smallest value, if the type is ordered.
    pub min: Option<Extreme>,
    /// The largest value.
    pub max: Option<Extreme>,
    /// Rows with a negative number; `None` for columns that are not numeric.
    #[serde(default)]
    pub negative: Option<u64>,
    /// The quantiles of 5, 25, 50, 75 and 95 percent of the column's numbers, to within an eighth.
    #[serde(default)]
    pub quantiles: Option<[f64; 5]>,
}

/// What was counted in a source file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileQuality {
    /// The name relative to the folder or glob that was given.
    pub name: String,
    /// Rows that could be read.
    pub rows: u64,
    /// Rows that could not be read.
    pub rejected: u64,
    /// Rows in quarantine.
    pub quarantined: u64,
    /// The month in its name if at least half of its rows fall into it, else the month of most of its rows.
    pub month: Option<Month>,
    /// Loaded rows outside that month, if the name gives a month.
    pub outside_month: u64,
    /// Does the text end without a newline? Then its last line may have been cut off, even inside a number.
    #[serde(default)]
    pub lacks_newline: bool,
}

/// How often an expectation was violated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExpectationQuality {
    /// The expectation.
    pub expect: Expect,
    /// Rows that violate it.
    pub violations: u64,
    /// File and line of the first of them.
    pub first: Option<String>,
}

impl ColumnQuality {
    pub(crate) fn new(name: &str, data_type: String, profile: ColumnProfile) -> Self {
        Self {
            name: name.into(),
            data_type,
            nulls: profile.nulls,
            negative: profile.negative(),
            quantiles: profile.quantiles([0.05, 0.25, 0.5, 0.75, 0.95]),
            min: profile.min,
            max: profile.max,
        }
    }
}

impl QualityReport {
    /// Rows that could not be read.
    pub fn rejected(&self) -> u64 {
        self.rejects.values().sum()
    }

    /// Writes the report below the root. Returns its name relative to the root.
    pub(crate) async fn publish(&self, root: &Location) -> Result<String> {
        let bytes = seal("the quality report", serde_json::to_vec_pretty(self))?;
        let name = quality_report(&self.table, self.load, ContentId::of(&bytes));
        // The name holds the content's hash, so an existing file has the same content. It is written again to renew its age: the
        // garbage collector removes what an interrupted load left by age.
        root.put(&name, bytes).await?;
        Ok(name)
    }

    /// Reads the report of a load.
    pub(crate) async fn read(root: &Location, load: &LoadRecord) -> Result<Read> {
        let Some(name) = &load.quality_file else { return Ok(Read::Never) };
        let path = root.child(name).to_string();
        let remedy = "restore the file from a copy of the root, or ignore the error: only statistics are lost";
        let lost = |error: Error| Ok(Read::Lost(LostReport { load: load.id, reason: error.to_string() }));
        let Some(bytes) = root.get(name).await? else {
            return lost(Error::Corrupt { path, reason: format!("it has vanished; {remedy}") });
        };
        match unseal::<Self>(&path, &bytes, FORMAT, remedy) {
            Ok(report) if report.load == load.id => Ok(Read::Report(Box::new(report))),
            Ok(report) => lost(Error::Corrupt { path, reason: format!("it is the report of load {}; {remedy}", report.load) }),
            Err(error) => lost(error),
        }
    }

    /// The reports of all loads of a version, in their order.
    pub(crate) async fn all(root: &Location, version: &TableVersion) -> Result<Quality> {
        let mut quality = Quality { reports: Vec::new(), lost: Vec::new() };
        for load in &version.loads {
            match Self::read(root, load).await? {
                Read::Report(report) => quality.reports.push(*report),
                Read::Lost(lost) => quality.lost.push(lost),
                Read::Never => {}
            }
        }
        Ok(quality)
    }
}

/// The quality reports of a table's loads.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Quality {
    /// The readable reports, in the order of the loads.
    pub reports: Vec<QualityReport>,
    /// The lost or damaged reports. They are statistics, and nothing else depends on them.
    pub lost: Vec<LostReport>,
}

/// A quality report that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostReport {
    /// The load.
    pub load: ContentId,
    /// The file, and what is wrong with it.
    pub reason: String,
}

/// What the table has seen, as the newest readable report has it, and notes on the reports that are missing from it.
///
/// A lost report takes its counts with it and stops nothing.
pub(crate) async fn history_of(root: &Location, version: Option<&TableVersion>) -> Result<(History, Vec<String>)> {
    let mut notes = Vec::new();
    for load in version.iter().flat_map(|version| version.loads.iter().rev()) {
        match QualityReport::read(root, load).await? {
            Read::Report(report) => return Ok((report.history, notes)),
            Read::Lost(lost) => {
                let short = lost.load.short();
                tracing::warn!(load = %short, reason = %lost.reason, "a quality report is lost");
                notes.push(format!("files were checked without what load {short} had seen; its report is lost: {}", lost.reason));
            }
            Read::Never => {}
        }
    }
    Ok((History::default(), notes))
}

/// The report of a load, as far as it can be read.
pub(crate) enum Read {
    Report(Box<QualityReport>),
    Lost(LostReport),
    /// The load was made before reports were written.
    Never,
}

fn counted(f: &mut fmt::Formatter<'_>, what: &str, count: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {what:<44} {count:>12}")
}

impl fmt::Display for QualityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "load {} into {}", self.load.short(), self.table)?;
        counted(f, "rows loaded", self.rows)?;
        counted(f, "rows that could not be read", self.rejected())?;
        for (reason, count) in &self.rejects {
            counted(f, &format!("- {reason}"), count)?;
        }
        counted(f, "rows in quarantine", self.quarantined)?;
        counted(f, "rows outside the month of their file's name", self.outside_month)?;
        if let Some(count) = self.known_before_event {
            counted(f, "rows known before they happened", count)?;
        }
        if let Some(count) = self.never_known {
            counted(f, "rows without a known-at, never visible", count)?;
        }
        let at_least = if self.duplicates_are_exact { "" } else { ">= " };
        counted(f, "rows equal to an earlier one", format!("{at_least}{}", self.duplicates))?;
        if let Some(ties) = self.ties {
            counted(f, "rows tied with an earlier one of their key", format!("{at_least}{ties}"))?;
        }
        for expectation in &self.expectations {
            let what = format!("{} ({})", expectation.expect, expectation.expect.on_violation);
            counted(f, &what, expectation.violations)?;
        }
        let column = |f: &mut fmt::Formatter<'_>, texts: [&str; 7]| {
            let [name, data_type, nulls, negative, min, quantiles, max] = texts;
            writeln!(f, "  {name:<24} {data_type:<22} {nulls:>10} {negative:>10}  {min:<28} {quantiles:<28} {max}")
        };
        column(f, ["column", "type", "NULL", "below 0", "min", "about 5, 50, 95 %", "max"])?;
        let number = |n: f64| format!("{n:.3}").trim_end_matches('0').trim_end_matches('.').to_owned();
        let about = |quantiles: &Option<[f64; 5]>| match quantiles {
            Some([low, _, middle, _, high]) => format!("{}, {}, {}", number(*low), number(*middle), number(*high)),
            None => "-".to_owned(),
        };
        let counted_or_dash = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let shown = |extreme: &Option<Extreme>| extreme.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        for c in &self.columns {
            let (nulls, negative) = (c.nulls.to_string(), counted_or_dash(c.negative));
            column(f, [&c.name, &c.data_type, &nulls, &negative, &shown(&c.min), &about(&c.quantiles), &shown(&c.max)])?;
        }
        for file in self.files.iter().filter(|file| file.lacks_newline) {
            writeln!(f, "  note: file `{}` ends without a newline; its last line may have been cut off", file.name)?;
        }
        for anomaly in &self.anomalies {
            writeln!(f, "  anomaly: {anomaly}")?;
        }
        for drift in &self.drift {
            writeln!(f, "  drift: {drift}")?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        Ok(())
    }
}
