//! What a table has seen in all of its loads, and what was counted in one file: the two sides of every comparison.
//! The counts can be added and subtracted. `anomaly` and `drift` compare them.

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

/// The number of values that a column and what it is compared with need before they are compared.
pub(crate) const ENOUGH: u64 = 30;

/// What a table has seen so far, over all of its loads. It is stored in the quality report of each load.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct History {
    pub(crate) rows: u64,
    #[serde(rename = "reversed")]
    pub(crate) known_before_event: u64,
    /// Files whose name gives the month of their rows, and files whose name gives another month.
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

/// How far off a measure usually is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Usual {
    pub(crate) files: u64,
    pub(crate) sum: f64,
}

impl Usual {
    /// The mean without one file that was counted.
    pub(crate) fn mean_without(self, size: f64) -> f64 {
        if self.files <= 1 { 0.0 } else { (self.sum - size).max(0.0) / (self.files - 1) as f64 }
    }
}

/// A source file and what was counted in it.
pub(crate) struct FileSummary {
    /// The name relative to the folder that was given.
    pub(crate) name: String,
    /// The name that messages show.
    pub(crate) shown: String,
    /// Rows that cannot be read, by reason.
    pub(crate) rejected: BTreeMap<String, Rejected>,
    pub(crate) stats: FileStats,
}

impl FileSummary {
    /// The month in the file's name if at least half of the rows lie in it, else the month of most rows.
    pub(crate) fn month(&self) -> Option<Month> {
        let months = &self.stats.months;
        // A file without rows has no month: it must not empty the month in its name.
        let holds = |month: &Month| self.rows_in(*month) > 0 && self.rows_in(*month) * 2 >= self.rows_loaded();
        let named = Month::of_name(&self.name).filter(holds);
        // Of two months with equal counts the earlier one wins.
        let most = months.iter().max_by_key(|(month, in_month)| (in_month.rows, std::cmp::Reverse(**month)));
        named.or(most.map(|(month, _)| *month))
    }

    /// Rows that cannot be read.
    pub(crate) fn rows_rejected(&self) -> u64 {
        self.rejected.values().map(|reason| reason.rows).sum()
    }

    /// The commonest reason, if most rows cannot be read and they are more than a few.
    pub(crate) fn mostly_rejected(&self) -> Option<Rejected> {
        let rejected = self.rows_rejected();
        let is_most = rejected >= ENOUGH && rejected > self.stats.rows;
        commonest(self.rejected.values().cloned()).filter(|_| is_most)
    }

    /// Rows outside the file's month, if the file's name gives a month; else 0.
    pub(crate) fn rows_outside_month(&self) -> u64 {
        match Month::of_name(&self.name) {
            Some(_) => self.outside_month().map(|(_, outside)| outside.rows).sum(),
            None => 0,
        }
    }

    /// The rows of other months than the file's, by month.
    fn outside_month(&self) -> impl Iterator<Item = (Month, MonthRows)> {
        let own = self.month();
        self.stats.months.iter().filter(move |(month, _)| Some(**month) != own).map(|(month, rows)| (*month, *rows))
    }

    fn rows_in(&self, month: Month) -> u64 {
        self.stats.months.get(&month).map_or(0, |in_month| in_month.rows)
    }

    pub(crate) fn rows_loaded(&self) -> u64 {
        self.stats.months.values().map(|in_month| in_month.rows).sum()
    }

    /// Does the name give the month of the rows? `None` if it gives no month, or if there are no rows.
    pub(crate) fn name_is_right(&self) -> Option<bool> {
        let named = Month::of_name(&self.name)?;
        (self.rows_loaded() > 0).then(|| self.rows_in(named) * 2 >= self.rows_loaded())
    }
}

impl History {
    /// Adds a file.
    pub(crate) fn add(&mut self, schema: &Schema, file: &FileSummary) {
        self.rows += file.stats.rows;
        self.known_before_event += file.stats.known_before_event;
        self.names_right += u64::from(file.name_is_right() == Some(true));
        self.names_wrong += u64::from(file.name_is_right() == Some(false));
        for (field, profile) in schema.fields().iter().zip(&file.stats.columns) {
            self.columns.entry(field.name().clone()).or_default().merge(profile);
        }
        self.files += u64::from(file.stats.rows > 0);
        for (field, frequencies) in schema.fields().iter().zip(&file.stats.frequencies) {
            self.frequencies.entry(field.name().clone()).or_default().merge(frequencies);
        }
    }

    /// The mean number of rows of a file.
    pub(crate) fn rows_per_file(&self) -> Option<f64> {
        (self.files > 0 && self.rows > 0).then(|| self.rows as f64 / self.files as f64)
    }

    /// What a column held.
    pub(crate) fn column(&self, name: &str) -> Option<(&ColumnProfile, &Frequencies)> {
        self.columns.get(name).zip(self.frequencies.get(name))
    }

    /// The history without a file that was added. The extremes stay as they are and must not be used.
    pub(crate) fn without(&self, schema: &Schema, file: &FileSummary) -> Self {
        let mut rest = self.clone();
        rest.rows = rest.rows.saturating_sub(file.stats.rows);
        rest.known_before_event = rest.known_before_event.saturating_sub(file.stats.known_before_event);
        rest.names_right = rest.names_right.saturating_sub(u64::from(file.name_is_right() == Some(true)));
        rest.names_wrong = rest.names_wrong.saturating_sub(u64::from(file.name_is_right() == Some(false)));
        for (field, profile) in schema.fields().iter().zip(&file.stats.columns) {
            if let Some(all) = rest.columns.get_mut(field.name()) {
                all.remove(profile);
            }
        }
        rest.files = rest.files.saturating_sub(u64::from(file.stats.rows > 0));
        for (field, frequencies) in schema.fields().iter().zip(&file.stats.frequencies) {
            if let Some(all) = rest.frequencies.get_mut(field.name()) {
                all.remove(frequencies);
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_disk_stay() {
        let json = serde_json::to_string(&History::default()).unwrap();
        let names = r#"{"rows":0,"reversed":0,"names_right":0,"names_wrong":0,"columns":{},"files":0,"habits":{},"usual":{}}"#;
        assert_eq!(json, names);
        let frequencies = Frequencies { categories: [("a".to_owned(), 1)].into(), has_too_many: false, hours: vec![2] };
        assert_eq!(serde_json::to_string(&frequencies).unwrap(), r#"{"kinds":{"a":1},"has_many":false,"hours":[2]}"#);
    }
}
