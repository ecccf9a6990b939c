//! What a table has seen, over all of its loads: what files are compared with. And what was seen of one file.
//! It adds and takes away; `anomaly` and `drift` compare.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use super::{
    frequencies::Frequencies,
    inspect::{FileStats, MonthRows},
    profile::ColumnProfile,
};
use crate::{
    ingest::rejects::{Rejected, commonest},
    time::month::Month,
};

/// Values that a column must have, here and in what it is compared with, before its shape says anything.
pub(crate) const ENOUGH: u64 = 30;
/// What a table has seen so far, over all of its loads.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct History {
    pub(crate) rows: u64,
    pub(crate) reversed: u64,
    /// Files whose name told the month of their rows, and files whose name told another one.
    pub(crate) names_right: u64,
    pub(crate) names_wrong: u64,
    pub(crate) columns: BTreeMap<String, ColumnProfile>,
    #[serde(default)]
    files: u64,
    #[serde(rename = "habits", default)]
    frequencies: BTreeMap<String, Frequencies>,
    /// How far off each measure of a file usually is.
    #[serde(default)]
    pub(crate) usual: BTreeMap<String, Usual>,
}

/// A source file and what was seen of it.
pub(crate) struct FileSummary<'a> {
    /// The name relative to the folder that was given.
    pub(crate) name: &'a str,
    /// The name for people.
    pub(crate) shown: String,
    /// Rows that cannot be read, by reason.
    pub(crate) rejected: BTreeMap<String, Rejected>,
    pub(crate) seen: &'a FileStats,
}

impl FileSummary<'_> {
    /// The month that the name tells when at least half of the rows fall into it, else that of most of them.
    pub(crate) fn month(&self) -> Option<Month> {
        let months = &self.seen.months;
        // A file without rows has no month: it must not empty the one that its name tells.
        let holds = |month: &Month| self.rows_in(*month) > 0 && self.rows_in(*month) * 2 >= self.rows_loaded();
        let named = Month::of_name(self.name).filter(holds);
        // Of two months with as many rows the earlier one.
        let most = months.iter().max_by_key(|(month, in_month)| (in_month.rows, std::cmp::Reverse(**month)));
        named.or(most.map(|(month, _)| *month))
    }

    /// Rows that cannot be read.
    pub(crate) fn rows_rejected(&self) -> u64 {
        self.rejected.values().map(|reason| reason.rows).sum()
    }

    /// The commonest reason, if most of the rows cannot be read and they are not just a few.
    pub(crate) fn mostly_rejected(&self) -> Option<Rejected> {
        let rejected = self.rows_rejected();
        let is_most = rejected >= ENOUGH && rejected > self.seen.rows;
        commonest(self.rejected.values().cloned()).filter(|_| is_most)
    }

    /// Rows that lie outside of the month that the file's name tells; none where it tells none.
    pub(crate) fn rows_outside_month(&self) -> u64 {
        match Month::of_name(self.name) {
            Some(_) => self.strays().map(|(_, stray)| stray.rows).sum(),
            None => 0,
        }
    }

    /// The rows of other months than the file's, by month.
    pub(crate) fn strays(&self) -> impl Iterator<Item = (Month, MonthRows)> {
        let own = self.month();
        self.seen.months.iter().filter(move |(month, _)| Some(**month) != own).map(|(month, rows)| (*month, *rows))
    }

    fn rows_in(&self, month: Month) -> u64 {
        self.seen.months.get(&month).map_or(0, |in_month| in_month.rows)
    }

    pub(crate) fn rows_loaded(&self) -> u64 {
        self.seen.months.values().map(|in_month| in_month.rows).sum()
    }

    /// Does the name tell the month of the rows? `None` when it tells none, or there are no rows.
    pub(crate) fn name_is_right(&self) -> Option<bool> {
        let named = Month::of_name(self.name)?;
        (self.rows_loaded() > 0).then(|| self.rows_in(named) * 2 >= self.rows_loaded())
    }
}

impl History {
    /// Takes in a file.
    pub(crate) fn add(&mut self, schema: &Schema, file: &FileSummary<'_>) {
        self.rows += file.seen.rows;
        self.reversed += file.seen.reversed;
        self.names_right += u64::from(file.name_is_right() == Some(true));
        self.names_wrong += u64::from(file.name_is_right() == Some(false));
        for (field, profile) in schema.fields().iter().zip(&file.seen.columns) {
            self.columns.entry(field.name().clone()).or_default().merge(profile);
        }
        self.files += u64::from(file.seen.rows > 0);
        for (field, frequencies) in schema.fields().iter().zip(&file.seen.frequencies) {
            self.frequencies.entry(field.name().clone()).or_default().merge(frequencies);
        }
    }

    /// Rows of a file, on average.
    pub(crate) fn rows_a_file(&self) -> Option<f64> {
        (self.files > 0 && self.rows > 0).then(|| self.rows as f64 / self.files as f64)
    }

    /// What a column held.
    pub(crate) fn column(&self, name: &str) -> Option<(&ColumnProfile, &Frequencies)> {
        self.columns.get(name).zip(self.frequencies.get(name))
    }

    /// What is left without a file that was taken in; extremes stay as they are, and are not to be asked for.
    pub(crate) fn without(&self, schema: &Schema, file: &FileSummary<'_>) -> Self {
        let mut rest = self.clone();
        rest.rows = rest.rows.saturating_sub(file.seen.rows);
        rest.reversed = rest.reversed.saturating_sub(file.seen.reversed);
        rest.names_right = rest.names_right.saturating_sub(u64::from(file.name_is_right() == Some(true)));
        rest.names_wrong = rest.names_wrong.saturating_sub(u64::from(file.name_is_right() == Some(false)));
        for (field, profile) in schema.fields().iter().zip(&file.seen.columns) {
            if let Some(all) = rest.columns.get_mut(field.name()) {
                all.remove(profile);
            }
        }
        rest.files = rest.files.saturating_sub(u64::from(file.seen.rows > 0));
        for (field, frequencies) in schema.fields().iter().zip(&file.seen.frequencies) {
            if let Some(all) = rest.frequencies.get_mut(field.name()) {
                all.remove(frequencies);
            }
        }
        rest
    }
}

/// How far off a measure usually is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Usual {
    pub(crate) files: u64,
    pub(crate) sum: f64,
}

impl Usual {
    /// The mean, without one file that was counted.
    pub(crate) fn mean_without(self, size: f64) -> f64 {
        if self.files <= 1 { 0.0 } else { (self.sum - size).max(0.0) / (self.files - 1) as f64 }
    }
}
