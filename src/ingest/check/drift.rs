//! Drift: how far each file is from what its table has seen, in rows, NULLs, negative numbers, quantiles, categories and hours
//! of the day. Drift is reported, largest first, and stops nothing: it may be real.
//!
//! Each measure has a size. It is compared with what is usual: the mean size over the files seen so far, plus what chance produces
//! for that number of rows. Only measures well beyond that are reported.

use std::{collections::BTreeMap, fmt};

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use super::{
    distance::total_variation,
    frequencies::Frequencies,
    history::{ENOUGH, FileSummary, History},
    profile::ColumnProfile,
};

/// The most entries in a report.
const LISTED: usize = 50;
/// A measure is reported if it is at least this many times as far off as usual.
const REPORTED_FROM: f64 = 2.0;

/// A measure of a source file that is unlike what its table has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Drift {
    /// The file.
    pub file: String,
    /// The column; empty if the measure is of the file as a whole.
    pub column: String,
    /// What was measured.
    pub measure: Measure,
    /// What it is elsewhere in the table.
    pub usual: String,
    /// What it is in this file.
    pub found: String,
    /// How many times as far off as usual it is. The list begins with the largest.
    pub times_usual: f64,
}

/// What is measured of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Measure {
    /// How many rows it has.
    Rows,
    /// The share of NULL.
    Nulls,
    /// The share of negative numbers.
    Negative,
    /// The quantiles of 5, 25, 50, 75 and 95 percent.
    Quantiles,
    /// The share of each value, in a column of at most 512 different values.
    Categories,
    /// The share of values never seen before, in such a column.
    NewCategories,
    /// Values that are closer to those of another column.
    OtherColumn,
    /// The hours of the day.
    Hours,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rows => "rows",
            Self::Nulls => "share of NULL",
            Self::Negative => "share of negative numbers",
            Self::Quantiles => "quantiles (5, 25, 50, 75, 95 %)",
            Self::Categories => "shares of categories",
            Self::NewCategories => "share of new categories",
            Self::OtherColumn => "values",
            Self::Hours => "hours of the day",
        })
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = if self.column.is_empty() { String::new() } else { format!(", column `{}`", self.column) };
        write!(
            f,
            "file `{}`{column}: {} {}, elsewhere {} ({:.0} times as far off as usual)",
            self.file, self.measure, self.found, self.usual, self.times_usual
        )
    }
}

/// One measure of a file compared with other files: how far off it is, and how far off chance alone may make it.
struct Measurement {
    column: String,
    measure: Measure,
    size: f64,
    chance: f64,
    usual: String,
    found: String,
}

impl Measurement {
    /// The name under which the history keeps what is usual. It is stored: its text must not change.
    fn key(&self) -> String {
        format!("{:?} {}", self.measure, self.column)
    }

    /// What it adds to the usual size. It is capped so that one extreme file does not hide later ones.
    fn counted(&self) -> f64 {
        self.size.min(self.chance * 10.0)
    }
}

/// Adds the files of a load to a history. Returns the drift of each file from all others, largest first, and the new history.
pub(crate) fn measure_drift(schema: &Schema, history: History, files: &[FileSummary]) -> (Vec<Drift>, History) {
    let mut all = history;
    files.iter().for_each(|file| all.add(schema, file));
    let measurements: Vec<Vec<Measurement>> =
        files.iter().map(|file| measured(schema, file, &all.without(schema, file))).collect();
    for one in measurements.iter().flatten() {
        let usual = all.usual.entry(one.key()).or_default();
        (usual.files, usual.sum) = (usual.files + 1, usual.sum + one.counted());
    }
    let of_file = |(file, measurements): (&FileSummary, Vec<Measurement>)| {
        let shown = file.shown.clone();
        let drift = |one: Measurement| {
            let mean = all.usual.get(&one.key()).copied().unwrap_or_default().mean_without(one.counted());
            let times_usual = one.size / (one.chance + mean);
            let Measurement { column, measure, usual, found, .. } = one;
            Drift { file: shown.clone(), column, measure, usual, found, times_usual }
        };
        measurements.into_iter().map(drift).collect::<Vec<_>>()
    };
    let mut drift: Vec<Drift> =
        files.iter().zip(measurements).flat_map(of_file).filter(|one| one.times_usual >= REPORTED_FROM).collect();
    drift.sort_by(|a, b| b.times_usual.total_cmp(&a.times_usual));
    drift.truncate(LISTED);
    (drift, all)
}

/// All measures of a file, compared with the other files.
fn measured(schema: &Schema, file: &FileSummary, others: &History) -> Vec<Measurement> {
    let mut all = Vec::new();
    let rows = file.stats.rows;
    if let Some(mean) = others.rows_per_file()
        && rows > 0
    {
        let size = (rows as f64 / mean).ln().abs();
        let (usual, found) = (format!("{mean:.0} a file"), rows.to_string());
        all.push(Measurement {
            column: String::new(),
            measure: Measure::Rows,
            size,
            chance: 0.05 + 1.0 / mean.sqrt(),
            usual,
            found,
        });
    }
    let columns = || schema.fields().iter().zip(&file.stats.columns).zip(&file.stats.frequencies);
    for ((field, profile), frequencies) in columns() {
        let Some((known, known_frequencies)) = others.column(field.name()) else { continue };
        if profile.values + profile.nulls < ENOUGH || known.values + known.nulls < ENOUGH {
            continue;
        }
        let mut add = |found: Option<(Measure, f64, f64, String, String)>| {
            if let Some((measure, size, chance, usual, found)) = found {
                all.push(Measurement { column: field.name().clone(), measure, size, chance, usual, found });
            }
        };
        add(nulls(profile, known));
        add(negative(profile, known));
        let is_code = !frequencies.categories.is_empty() && !known_frequencies.categories.is_empty();
        // Quantiles of ids and codes mean nothing. Their categories are compared instead.
        if !is_code || frequencies.categories.len() > MANY_CATEGORIES {
            add(quantiles(profile, known));
        }
        add(shares(Measure::Hours, &hours(frequencies), &hours(known_frequencies), 24.0));
        if is_code {
            add(shares(Measure::Categories, &categories(frequencies), &categories(known_frequencies), 0.0));
            add(new_categories(frequencies, known_frequencies));
            let other_columns = columns().filter(|((other, _), _)| other.name() != field.name());
            let other_columns =
                other_columns.filter_map(|((other, _), _)| Some((other.name().as_str(), others.column(other.name())?.1)));
            add(other_column(frequencies, known_frequencies, other_columns));
        }
    }
    all
}

/// A column of more categories may hold amounts in whole numbers.
const MANY_CATEGORIES: usize = 300;

type Difference = Option<(Measure, f64, f64, String, String)>;

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The standard error of a share among this number of values.
fn chance_of(share: f64, values: u64) -> f64 {
    (share * (1.0 - share) / values.max(1) as f64).sqrt()
}

fn nulls(profile: &ColumnProfile, known: &ColumnProfile) -> Difference {
    let share = |profile: &ColumnProfile| profile.nulls as f64 / (profile.nulls + profile.values).max(1) as f64;
    let (here, there) = (share(profile), share(known));
    let chance = 0.005 + 2.0 * chance_of(there, profile.nulls + profile.values);
    Some((Measure::Nulls, (here - there).abs(), chance, percent(there), percent(here)))
}

fn negative(profile: &ColumnProfile, known: &ColumnProfile) -> Difference {
    let (here, there) = profile.negative_share().zip(known.negative_share())?;
    let chance = 0.002 + 2.0 * chance_of(there, profile.values);
    Some((Measure::Negative, (here - there).abs(), chance, percent(there), percent(here)))
}

/// How far apart the quantiles are, relative to the distance between the quartiles elsewhere.
fn quantiles(profile: &ColumnProfile, known: &ColumnProfile) -> Difference {
    const SHARES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];
    let (here, there) = profile.quantiles(SHARES).zip(known.quantiles(SHARES))?;
    // If nearly all values are equal, the distance is relative to that value.
    let width = (there[3] - there[1]).max(there[2].abs() * 0.1).max((there[4] - there[0]) * 0.1);
    let apart = here.iter().zip(&there).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let size = if width > 0.0 { apart / width } else { f64::from(u8::from(apart > 0.0)) };
    let shown = |values: [f64; 5]| {
        values.map(|value| format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()).join(", ")
    };
    let chance = 0.1 + 4.0 / (profile.values as f64).sqrt();
    Some((Measure::Quantiles, size, chance, shown(there), shown(here)))
}

fn categories(frequencies: &Frequencies) -> BTreeMap<&str, u64> {
    frequencies.categories.iter().map(|(category, count)| (category.as_str(), *count)).collect()
}

const HOURS: [&str; 24] = [
    "00 h", "01 h", "02 h", "03 h", "04 h", "05 h", "06 h", "07 h", "08 h", "09 h", "10 h", "11 h", "12 h", "13 h", "14 h",
    "15 h", "16 h", "17 h", "18 h", "19 h", "20 h", "21 h", "22 h", "23 h",
];

fn hours(frequencies: &Frequencies) -> BTreeMap<&'static str, u64> {
    HOURS.into_iter().zip(frequencies.hours.iter().copied()).filter(|(_, count)| *count > 0).collect()
}

/// The distance from these shares that chance produces for this number of rows.
fn chance_of_distance(here: &BTreeMap<&str, u64>, there: &BTreeMap<&str, u64>) -> f64 {
    let (rows, all) = (here.values().sum::<u64>().max(1) as f64, there.values().sum::<u64>().max(1) as f64);
    there.values().map(|count| (*count as f64 / all / rows).sqrt()).sum::<f64>() * 0.4
}

fn shares(measure: Measure, here: &BTreeMap<&str, u64>, there: &BTreeMap<&str, u64>, least: f64) -> Difference {
    let size = total_variation(here, there).filter(|_| here.values().sum::<u64>() as f64 >= least)?;
    let (all_here, all_there) = (here.values().sum::<u64>() as f64, there.values().sum::<u64>() as f64);
    let share = |counts: &BTreeMap<&str, u64>, category: &str, all: f64| counts.get(category).copied().unwrap_or(0) as f64 / all;
    // The categories that differ most are shown.
    let mut apart: Vec<(&str, f64, f64)> = here
        .keys()
        .chain(there.keys())
        .map(|category| (*category, share(here, category, all_here), share(there, category, all_there)))
        .collect();
    apart.sort_by(|a, b| (b.1 - b.2).abs().total_cmp(&(a.1 - a.2).abs()).then(a.0.cmp(b.0)));
    apart.dedup_by(|a, b| a.0 == b.0);
    apart.truncate(3);
    let shown = |of: fn(&(&str, f64, f64)) -> f64| {
        apart.iter().map(|category| format!("{}: {}", category.0, percent(of(category)))).collect::<Vec<_>>().join(", ")
    };
    let chance = 0.02 + chance_of_distance(here, there);
    Some((measure, size, chance, shown(|category| category.2), shown(|category| category.1)))
}

fn new_categories(frequencies: &Frequencies, known: &Frequencies) -> Difference {
    let all: u64 = frequencies.categories.values().sum();
    let mut new: Vec<(&String, &u64)> =
        frequencies.categories.iter().filter(|(category, _)| !known.categories.contains_key(*category)).collect();
    new.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let share = new.iter().map(|(_, count)| **count).sum::<u64>() as f64 / all.max(1) as f64;
    let named = new.iter().take(3).map(|(category, _)| format!("`{category}`")).collect::<Vec<_>>().join(", ");
    let chance = 0.002 + 3.0 / all.max(1) as f64;
    Some((Measure::NewCategories, share, chance, "none".into(), format!("{} ({named})", percent(share))))
}

/// Are the values closer to those of another column than to the column's own?
fn other_column<'a>(
    frequencies: &Frequencies,
    known: &Frequencies,
    others: impl Iterator<Item = (&'a str, &'a Frequencies)>,
) -> Difference {
    let (here, own) = (categories(frequencies), categories(known));
    let from_own = total_variation(&here, &own)?;
    let nearest = others.filter(|(_, other)| !other.categories.is_empty());
    let nearest = nearest.filter_map(|(name, other)| Some((name, total_variation(&here, &categories(other))?)));
    let (name, from_other) = nearest.min_by(|a, b| a.1.total_cmp(&b.1))?;
    let gain = from_own - from_other;
    (from_other < from_own * 0.7).then(|| {
        let found = format!("closer to those of `{name}` ({from_other:.2} off) than to its own ({from_own:.2} off)");
        (Measure::OtherColumn, gain, 0.02, "its own".to_owned(), found)
    })
}
