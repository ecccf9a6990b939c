//! The quality report of a load: what came in, what was left out and why, and what the columns hold.
//! It is written once, beside the load, and says only what was counted while the rows passed.

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
    name::{ContentId, TableName},
    storage::{Location, seal, unseal},
    time::month::Month,
};

/// What one load brought. It prints as a table.
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
    /// Rows that could be read and were kept out of the table.
    pub quarantined: u64,
    /// Rows loaded that lie outside the month that the name of their file tells.
    pub outside_month: u64,
    /// Rows that could be read and were known before they happened; `None` for a table without a known-at column.
    pub known_before_event: Option<u64>,
    /// Rows that could be read and have no known-at: they are loaded, and never visible. `None` as above.
    #[serde(default)]
    pub never_known: Option<u64>,
    /// Rows loaded that are equal in all columns to an earlier one of the load.
    pub duplicates: u64,
    /// Is `duplicates` all of them? It is a lower bound when an instant has more than a million different rows or a column's
    /// values cannot be compared.
    pub duplicates_are_exact: bool,
    /// Rows loaded that agree with an earlier one of the load in event time, known-at, tie-break columns and declared keys, and
    /// differ elsewhere: which of them is the newest, only their other values decide. `None` for a table without declared keys.
    /// Exact as `duplicates` is; a further [`FactTable::tie_break`](crate::catalog::FactTable::tie_break) brings it down.
    #[serde(default)]
    pub ties: Option<u64>,
    /// The columns, over all rows that could be read.
    pub columns: Vec<ColumnQuality>,
    /// The source files, in the order of their names.
    pub files: Vec<FileQuality>,
    /// The expectations, and how often each did not hold.
    pub expectations: Vec<ExpectationQuality>,
    /// What seemed suspicious and was accepted.
    #[serde(rename = "suspicions")]
    pub anomalies: Vec<Anomaly>,
    /// What moved against what the table has seen, the worst first: the first fifty.
    ///
    /// It stops nothing and may be as it should be: a summer, a new tariff. Rows of a file, the shares of NULL, of negative
    /// numbers and of each value of a column with few of them, quantiles and hours of the day are compared with those of all
    /// other files, and told when they are twice as far off as is usual.
    #[serde(rename = "moves", default)]
    pub drift: Vec<Drift>,
    /// What this report does not know: reports of earlier loads that are lost, and with them what files were judged by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// All that the table has seen up to this load.
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
    /// Rows without a value.
    pub nulls: u64,
    /// The smallest value, if the type has an order.
    pub min: Option<Extreme>,
    /// The largest value.
    pub max: Option<Extreme>,
    /// Rows with a negative number; `None` for columns of other types.
    #[serde(default)]
    pub negative: Option<u64>,
    /// The numbers below which 5, 25, 50, 75 and 95 percent of the column's lie, to within an eighth: what the extremes are
    /// held against.
    #[serde(default)]
    pub quantiles: Option<[f64; 5]>,
}

/// What a source file brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileQuality {
    /// The name relative to the folder or glob that was given.
    pub name: String,
    /// Rows that could be read.
    pub rows: u64,
    /// Rows that could not be read.
    pub rejected: u64,
    /// Rows that were kept out.
    pub quarantined: u64,
    /// The month that its name tells when at least half of its rows fall into it, else that of most of its rows.
    pub month: Option<Month>,
    /// Rows loaded that lie in another month, if the name tells one.
    pub outside_month: u64,
    /// Does the text end without a newline? Then its last line may have been cut off, in a number too, which nothing else
    /// tells.
    #[serde(default)]
    pub lacks_newline: bool,
}

/// How often an expectation did not hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExpectationQuality {
    /// The expectation.
    pub expect: Expect,
    /// Rows that are not as expected.
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

    /// Writes the report below the root; its name, relative to it.
    pub(crate) async fn publish(&self, root: &Location) -> Result<String> {
        let bytes = seal("the quality report", serde_json::to_vec_pretty(self))?;
        let folder = format!("quality/{}/{}", self.table.database(), self.table.table());
        let name = format!("{folder}/{}-{}.json", self.load.short(), ContentId::of(&bytes).short());
        // The name holds the content's hash: one that is there says the same. It is written again all the same, for the garbage
        // collector knows by its age what a load that was cut off has left.
        root.put(&name, bytes).await?;
        Ok(name)
    }

    /// The report of a load; `None` for a load that was made before there were reports.
    pub(crate) async fn read(root: &Location, load: &LoadRecord) -> Result<Read> {
        let Some(name) = &load.quality_file else { return Ok(Read::Never) };
        let path = root.child(name).to_string();
        let remedy = "restore the file from a copy of the root, or do without its statistics: nothing else needs them";
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
pub struct Quality {
    /// Those that can be read, in the order of the loads.
    pub reports: Vec<QualityReport>,
    /// Those that are lost or damaged. They are statistics, and nothing else depends on them.
    pub lost: Vec<LostReport>,
}

/// A quality report that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostReport {
    /// The load that it was about.
    pub load: ContentId,
    /// Where it should be, and what is wrong with it.
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

/// What became of a load's report.
pub(crate) enum Read {
    Report(Box<QualityReport>),
    Lost(LostReport),
    /// The load was made before there were reports.
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
        let column = |f: &mut fmt::Formatter<'_>, cells: [&str; 7]| {
            let [name, data_type, nulls, negative, min, quantiles, max] = cells;
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
