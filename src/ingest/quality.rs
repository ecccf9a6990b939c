//! The quality report of a load: what came in, what was left out and why, and what the columns hold.
//! It is written once, beside the load, and says only what was counted while the rows passed.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    Expect, Extreme, Month,
    profile::ColumnProfile,
    suspicion::{History, Suspicion},
};
use crate::{
    catalog::{FORMAT, LoadRecord, TableVersion},
    error::{Error, Result},
    name::{ContentId, TableName},
    storage::{Location, seal, unseal},
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
    /// Rows loaded that are equal in all columns to an earlier one of the load.
    pub duplicates: u64,
    /// Is `duplicates` all of them? It is a lower bound when an instant has more than a million different rows or a column's
    /// values cannot be compared.
    pub duplicates_are_exact: bool,
    /// The columns, over all rows that could be read.
    pub columns: Vec<ColumnQuality>,
    /// The source files, in the order of their names.
    pub files: Vec<FileQuality>,
    /// The expectations, and how often each did not hold.
    pub expectations: Vec<ExpectationQuality>,
    /// What seemed suspicious and was accepted.
    pub suspicions: Vec<Suspicion>,
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
        Self { name: name.into(), data_type, nulls: profile.nulls, min: profile.min, max: profile.max }
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
        // The name holds the content's hash: whoever was there first wrote the same.
        let _ = root.put_if_absent(&name, bytes).await?;
        Ok(name)
    }

    /// The report of a load; `None` for a load that was made before there were reports.
    pub(crate) async fn read(root: &Location, load: &LoadRecord) -> Result<Option<Self>> {
        let Some(name) = &load.quality_file else { return Ok(None) };
        let path = root.child(name).to_string();
        let bytes = root.get(name).await?;
        let bytes = bytes.ok_or_else(|| Error::Corrupt { path: path.clone(), reason: "it has vanished".into() })?;
        let remedy = "restore the file from a copy of the root";
        let report: Self = unseal(&path, &bytes, FORMAT, remedy)?;
        match report.load == load.id {
            true => Ok(Some(report)),
            false => Err(Error::Corrupt { path, reason: format!("it is the report of load {}; {remedy}", report.load) }),
        }
    }

    /// The reports of all loads of a version, in their order.
    pub(crate) async fn all(root: &Location, version: &TableVersion) -> Result<Vec<Self>> {
        let mut reports = Vec::new();
        for load in &version.loads {
            reports.extend(Self::read(root, load).await?);
        }
        Ok(reports)
    }
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
        let at_least = if self.duplicates_are_exact { "" } else { ">= " };
        counted(f, "rows equal to an earlier one", format!("{at_least}{}", self.duplicates))?;
        for expectation in &self.expectations {
            let what = format!("{} ({})", expectation.expect, expectation.expect.on_violation);
            counted(f, &what, expectation.violations)?;
        }
        let column = |f: &mut fmt::Formatter<'_>, cells: [&str; 5]| {
            let [name, data_type, nulls, min, max] = cells;
            writeln!(f, "  {name:<24} {data_type:<22} {nulls:>10}  {min:<28} {max}")
        };
        column(f, ["column", "type", "NULL", "min", "max"])?;
        let shown = |extreme: &Option<Extreme>| extreme.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        for c in &self.columns {
            column(f, [&c.name, &c.data_type, &c.nulls.to_string(), &shown(&c.min), &shown(&c.max)])?;
        }
        for file in self.files.iter().filter(|file| file.lacks_newline) {
            writeln!(f, "  note: file `{}` ends without a newline; its last line may have been cut off", file.name)?;
        }
        for suspicion in &self.suspicions {
            writeln!(f, "  suspicious: {suspicion}")?;
        }
        Ok(())
    }
}
