//! What moved against history: rows, NULLs, negative numbers, quantiles, categories and hours of the day, the worst first.
//! It stops nothing and calls nothing wrong: it says how far each file is from what its table has seen, and in what.
//!
//! Each measure has a size, which is held against what is usual: its mean over the files seen so far, and what chance makes of
//! so many rows. A measure that is as far off as usual is not told.

use std::{collections::BTreeMap, fmt};

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use super::{
    frequencies::Frequencies,
    history::{ENOUGH, FileSummary, History},
    profile::ColumnProfile,
};

/// Moves that a report lists.
const LISTED: usize = 50;
/// Times what is usual, from which on a move is told.
const REPORTED_FROM: f64 = 2.0;

/// Something about a source file that is unlike what its table has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Drift {
    /// The file.
    pub file: String,
    /// The column; empty where it is the file as a whole.
    pub column: String,
    /// What was measured.
    pub measure: Measure,
    /// What it is elsewhere in the table.
    pub usual: String,
    /// What it is in this file.
    pub found: String,
    /// How many times as far off as is usual; the list begins with the largest.
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
    /// Where the numbers lie, from the smallest twentieth to the largest.
    Quantiles,
    /// How often each value occurs, in a column of few values.
    Categories,
    /// The share of values that were never seen, in a column of few values.
    NewCategories,
    /// Another column's values.
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

/// One measure of a file against others: how far off it is, and how far chance alone may bring it.
struct Measurement {
    column: String,
    measure: Measure,
    size: f64,
    chance: f64,
    usual: String,
    found: String,
}

impl Measurement {
    /// The name under which history keeps what is usual.
    fn key(&self) -> String {
        format!("{:?} {}", self.measure, self.column)
    }

    /// What it adds to what is usual: one wild file must not make all later ones look tame.
    fn counted(&self) -> f64 {
        self.size.min(self.chance * 10.0)
    }
}

/// Takes the files of a load into a history, and tells what moved in each of them against all others, the worst first.
pub(crate) fn measure_drift(schema: &Schema, history: History, files: &[FileSummary<'_>]) -> (Vec<Drift>, History) {
    let mut all = history;
    files.iter().for_each(|file| all.add(schema, file));
    let measurements: Vec<Vec<Measurement>> =
        files.iter().map(|file| measured(schema, file, &all.without(schema, file))).collect();
    for one in measurements.iter().flatten() {
        let usual = all.usual.entry(one.key()).or_default();
        (usual.files, usual.sum) = (usual.files + 1, usual.sum + one.counted());
    }
    let of_file = |(file, measurements): (&FileSummary<'_>, Vec<Measurement>)| {
        let shown = file.shown.clone();
        let told = |one: Measurement| {
            let mean = all.usual.get(&one.key()).copied().unwrap_or_default().mean_without(one.counted());
            let times_usual = one.size / (one.chance + mean);
            let Measurement { column, measure, usual, found, .. } = one;
            Drift { file: shown.clone(), column, measure, usual, found, times_usual }
        };
        measurements.into_iter().map(told).collect::<Vec<_>>()
    };
    let mut drift: Vec<Drift> =
        files.iter().zip(measurements).flat_map(of_file).filter(|one| one.times_usual >= REPORTED_FROM).collect();
    drift.sort_by(|a, b| b.times_usual.total_cmp(&a.times_usual));
    drift.truncate(LISTED);
    (drift, all)
}

/// All measures of a file against what others hold.
fn measured(schema: &Schema, file: &FileSummary<'_>, others: &History) -> Vec<Measurement> {
    let mut all = Vec::new();
    let rows = file.seen.rows;
    if let Some(mean) = others.rows_a_file()
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
    let columns = || schema.fields().iter().zip(&file.seen.columns).zip(&file.seen.frequencies);
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
        // Of ids and codes it means nothing where they lie, if one can see which they are.
        if !is_code || frequencies.categories.len() > MANY_CATEGORIES {
            add(quantiles(profile, known));
        }
        add(shares(Measure::Hours, &hours(frequencies), &hours(known_frequencies), 24.0));
        if is_code {
            add(shares(Measure::Categories, &categories(frequencies), &categories(known_frequencies), 0.0));
            add(new_categories(frequencies, known_frequencies));
            let neighbours = columns().filter(|((other, _), _)| other.name() != field.name());
            let neighbours =
                neighbours.filter_map(|((other, _), _)| Some((other.name().as_str(), others.column(other.name())?.1)));
            add(other_column(frequencies, known_frequencies, neighbours));
        }
    }
    all
}

/// Columns of more categories may be amounts in whole numbers.
const MANY_CATEGORIES: usize = 300;

type Found = Option<(Measure, f64, f64, String, String)>;

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// What chance makes of a share.
fn chance_of(share: f64, values: u64) -> f64 {
    (share * (1.0 - share) / values.max(1) as f64).sqrt()
}

fn nulls(profile: &ColumnProfile, known: &ColumnProfile) -> Found {
    let share = |profile: &ColumnProfile| profile.nulls as f64 / (profile.nulls + profile.values).max(1) as f64;
    let (here, there) = (share(profile), share(known));
    let chance = 0.005 + 2.0 * chance_of(there, profile.nulls + profile.values);
    Some((Measure::Nulls, (here - there).abs(), chance, percent(there), percent(here)))
}

fn negative(profile: &ColumnProfile, known: &ColumnProfile) -> Found {
    let (here, there) = profile.negative_share().zip(known.negative_share())?;
    let chance = 0.002 + 2.0 * chance_of(there, profile.values);
    Some((Measure::Negative, (here - there).abs(), chance, percent(there), percent(here)))
}

/// How far the quantiles lie apart, in widths of what lies between the outer ones elsewhere.
fn quantiles(profile: &ColumnProfile, known: &ColumnProfile) -> Found {
    const SHARES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];
    let (here, there) = profile.quantiles(SHARES).zip(known.quantiles(SHARES))?;
    // In a column that holds one value nearly everywhere the size of that value is the measure.
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

/// Half of the sum of all differences of shares: 0 for equal ones, 1 for those that have nothing in common.
fn distance(here: &BTreeMap<&str, u64>, there: &BTreeMap<&str, u64>) -> Option<f64> {
    let (all_here, all_there) = (here.values().sum::<u64>(), there.values().sum::<u64>());
    if all_here == 0 || all_there == 0 {
        return None;
    }
    let share =
        |counts: &BTreeMap<&str, u64>, category: &str, all: u64| counts.get(category).copied().unwrap_or(0) as f64 / all as f64;
    let common: f64 = here.keys().map(|category| share(here, category, all_here).min(share(there, category, all_there))).sum();
    Some((1.0 - common).max(0.0))
}

/// What chance makes of the distance of so many rows from shares.
fn chance_of_distance(here: &BTreeMap<&str, u64>, there: &BTreeMap<&str, u64>) -> f64 {
    let (rows, all) = (here.values().sum::<u64>().max(1) as f64, there.values().sum::<u64>().max(1) as f64);
    there.values().map(|count| (*count as f64 / all / rows).sqrt()).sum::<f64>() * 0.4
}

fn shares(measure: Measure, here: &BTreeMap<&str, u64>, there: &BTreeMap<&str, u64>, least: f64) -> Found {
    let size = distance(here, there).filter(|_| here.values().sum::<u64>() as f64 >= least)?;
    let (all_here, all_there) = (here.values().sum::<u64>() as f64, there.values().sum::<u64>() as f64);
    let share = |counts: &BTreeMap<&str, u64>, category: &str, all: f64| counts.get(category).copied().unwrap_or(0) as f64 / all;
    // The categories that differ most tell the most.
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

fn new_categories(frequencies: &Frequencies, known: &Frequencies) -> Found {
    let all: u64 = frequencies.categories.values().sum();
    let mut new: Vec<(&String, &u64)> =
        frequencies.categories.iter().filter(|(category, _)| !known.categories.contains_key(*category)).collect();
    new.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let share = new.iter().map(|(_, count)| **count).sum::<u64>() as f64 / all.max(1) as f64;
    let named = new.iter().take(3).map(|(category, _)| format!("`{category}`")).collect::<Vec<_>>().join(", ");
    let chance = 0.002 + 3.0 / all.max(1) as f64;
    Some((Measure::NewCategories, share, chance, "none".into(), format!("{} ({named})", percent(share))))
}

/// Are the values nearer to those of another column than to the column's own?
fn other_column<'a>(
    frequencies: &Frequencies,
    known: &Frequencies,
    others: impl Iterator<Item = (&'a str, &'a Frequencies)>,
) -> Found {
    let (here, own) = (categories(frequencies), categories(known));
    let from_own = distance(&here, &own)?;
    let nearest = others.filter(|(_, other)| !other.categories.is_empty());
    let nearest = nearest.filter_map(|(name, other)| Some((name, distance(&here, &categories(other))?)));
    let (name, from_other) = nearest.min_by(|a, b| a.1.total_cmp(&b.1))?;
    let gain = from_own - from_other;
    (from_other < from_own * 0.7).then(|| {
        let found = format!("nearer to those of `{name}` ({from_other:.2} off) than to its own ({from_own:.2} off)");
        (Measure::OtherColumn, gain, 0.02, "its own".to_owned(), found)
    })
}
