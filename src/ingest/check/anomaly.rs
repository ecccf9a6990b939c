//! Anomalies: files whose columns hold something other than their names or declarations say, such as longitudes in an id column,
//! values shifted by one column, or seconds where milliseconds are declared.
//!
//! Each file's profile is compared with the table's history and the other files of the load. No row is read again.

use std::{collections::BTreeMap, fmt};

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use super::{
    history::{ENOUGH, FileSummary, History},
    profile::{ColumnProfile, Extreme},
};
use crate::{
    catalog::TimeColumn,
    time::{DAY_US, TimeUnit, month::Month},
};

/// Shapes at least this far apart are taken to be of different columns.
const DIFFERENT: f64 = 0.6;
/// Shapes at most this far apart are taken to be of the same column.
const SAME: f64 = 0.2;
/// The share of impossible values that any real column may have.
const IMPOSSIBLE_SHARE: f64 = 0.02;

/// A column of a source file that holds something other than its name says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Anomaly {
    /// The file.
    pub file: String,
    /// The column.
    pub column: String,
    /// What the column should hold.
    pub expected: String,
    /// What it holds.
    pub found: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file `{}`, column `{}`: expected {}, found {}", self.file, self.column, self.expected, self.found)
    }
}

/// Compares each file of a load with the table's history, the other files of the load, and the declared units of its `times`.
pub(crate) fn find_anomalies<'a>(
    schema: &Schema,
    times: impl Iterator<Item = &'a TimeColumn>,
    history: &History,
    files: &[FileSummary],
) -> Vec<Anomaly> {
    let units: BTreeMap<&str, TimeUnit> = times.filter_map(|time| Some((time.name(), time.unit?))).collect();
    let mut all = history.clone();
    files.iter().for_each(|file| all.add(schema, file));
    let mut found = Vec::new();
    for file in files {
        let others = all.without(schema, file);
        found.extend(of_rows(file, &others));
        for (field, profile) in schema.fields().iter().zip(&file.stats.columns) {
            let known = others.columns.get(field.name());
            let finding = units.get(field.name().as_str()).and_then(|unit| by_unit(*unit, profile, known));
            let finding = finding.or_else(|| by_name(field.name(), profile)).or_else(|| by_history(profile, known?));
            let finding = finding.or_else(|| by_other_columns(schema, file, &others, field.name(), profile));
            if let Some((expected, held)) = finding {
                found.push(Anomaly { file: file.shown.clone(), column: field.name().clone(), expected, found: held });
            }
        }
    }
    found
}

/// What is expected and what was found.
type Finding = (String, String);

/// Anomalies of a file's rows as a whole.
fn of_rows(file: &FileSummary, others: &History) -> Vec<Anomaly> {
    let anomaly = |column: &str, expected: &str, found: String| Anomaly {
        file: file.shown.clone(),
        column: column.into(),
        expected: expected.into(),
        found,
    };
    let mut found = Vec::new();
    let rows = file.stats.rows;
    if let Some(reason) = file.mostly_rejected() {
        let rejected = file.rows_rejected();
        let held = format!(
            "{rejected} of {} rows that cannot be read, {} of them for one reason: {}",
            rows + rejected,
            reason.rows,
            reason.first
        );
        found.push(anomaly("(all)", "rows that can be read", held));
    }
    // A few rows do not show whether a name is right.
    let is_enough = file.rows_loaded() >= ENOUGH;
    if let (Some(named), Some(false), true) = (Month::of_name(&file.name), file.name_is_right(), is_enough) {
        // The name of an export may give the day on which it was made. The other files show whether names are about rows.
        // Without other files, a named month before all rows cannot be the day of an export.
        let names_are_of_rows = match others.names_right + others.names_wrong {
            0 => file.stats.months.keys().next().is_some_and(|first| named < *first),
            _ => others.names_right > others.names_wrong,
        };
        if let (true, Some(month)) = (names_are_of_rows, file.month()) {
            let (expected, held) = (format!("times of {named}, as its name says"), format!("mostly times of {month}"));
            found.push(anomaly("(event time)", &expected, held));
        }
    }
    let is_rare = others.rows >= ENOUGH && others.known_before_event * 10 <= others.rows;
    if is_rare && rows >= ENOUGH && file.stats.known_before_event * 2 > rows {
        let held = format!("{} of {rows} rows that are known before they happen", file.stats.known_before_event);
        found.push(anomaly("(known-at)", "times after the event time, as in other files", held));
    }
    found
}

fn span(profile: &ColumnProfile) -> String {
    match (&profile.min, &profile.max) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        _ => "no value".into(),
    }
}

/// The range of numbers of a profile whose extremes must not be used.
fn about(profile: &ColumnProfile) -> String {
    profile.numbers().map_or_else(String::new, |(low, high)| format!(" (about {low} to {high})"))
}

/// Is this the name of an id column: `id`, `trip_id`, `VendorID`, `stationId`?
fn names_id(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let before = name.get(name.len().saturating_sub(3)..name.len().saturating_sub(2)).and_then(|c| c.chars().next());
    let starts_word = before.is_some_and(|c| !c.is_alphabetic() || c.is_lowercase() != name.ends_with("id"));
    lower == "id" || (lower.ends_with("id") && starts_word && !name.ends_with("iD"))
}

/// Is one of these words a part of the name? The parts of `pickup_Lat` are `pickup` and `lat`.
fn is_named(name: &str, words: &[&str]) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).any(|part| words.contains(&part))
}

/// Are most times of a file right after 1970, as counts of a coarser unit are that are taken for the declared one? A column with
/// earlier times may well have times of 1970, and a simulated clock that begins at 0 passes through the times before, too.
fn by_unit(declared: TimeUnit, profile: &ColumnProfile, known: Option<&ColumnProfile>) -> Option<Finding> {
    let has_earlier = |profile: &ColumnProfile| matches!(profile.min, Some(Extreme::Time(first)) if first.micros() < -DAY_US);
    if profile.values < ENOUGH || has_earlier(profile) || known.is_some_and(has_earlier) {
        return None;
    }
    let units = [TimeUnit::Day, TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond];
    let count_as = |unit: TimeUnit| profile.too_fine.get(&(unit.nanos() / declared.nanos())).map(|count| (unit, *count));
    let (unit, count) = units.into_iter().filter_map(count_as).find(|(_, count)| profile.share(*count) > 0.5)?;
    let others = profile.too_fine.values().sum::<u64>() - count;
    if others.saturating_mul(50) > count {
        return None;
    }
    Some((
        format!("counts of {}, as declared", declared.plural()),
        format!(
            "{count} of {} times right after 1970, which lie in this century as counts of {}: declare `TimeUnit::{unit:?}`",
            profile.values,
            unit.plural()
        ),
    ))
}

/// What the column's name alone rules out.
fn by_name(name: &str, profile: &ColumnProfile) -> Option<Finding> {
    let is_number = profile.min.as_ref().is_some_and(|min| min.number().is_some());
    let too_many = |count: u64| is_number && profile.values >= ENOUGH && profile.share(count) > IMPOSSIBLE_SHARE;
    let of_values = |count: u64, what: &str| format!("{count} of {} values {what} ({})", profile.values, span(profile));
    if names_id(name) && too_many(profile.fractions) {
        return Some(("ids, which are whole".into(), of_values(profile.fractions, "with fractions")));
    }
    if is_named(name, &["lat", "latitude"]) && too_many(profile.beyond_90) {
        return Some(("latitudes, which lie in [-90, 90]".into(), of_values(profile.beyond_90, "beyond")));
    }
    if (is_named(name, &["lon", "lng", "longitude"]) || name.eq_ignore_ascii_case("long")) && too_many(profile.beyond_180) {
        return Some(("longitudes, which lie in [-180, 180]".into(), of_values(profile.beyond_180, "beyond")));
    }
    None
}

/// What the history of the column rules out.
fn by_history(profile: &ColumnProfile, known: &ColumnProfile) -> Option<Finding> {
    if profile.values < ENOUGH || known.values < ENOUGH {
        return None;
    }
    let before = |what: &str| format!("{what}, as elsewhere in the table{}", about(known));
    // Texts in a column that held numbers, or numbers in a column that held texts.
    let (texts, known_texts) = (profile.share(profile.number_texts), known.share(known.number_texts));
    // A single text in all rows is a placeholder for a missing value.
    if known_texts > 0.98 && texts < 0.5 && profile.min != profile.max {
        return Some((before("numbers"), format!("texts ({})", span(profile))));
    }
    if known_texts < 0.02 && texts > 0.98 && profile.distance(known) > DIFFERENT {
        return Some((before("texts"), format!("numbers ({})", span(profile))));
    }
    // Whole numbers may keep counting upwards. Measured numbers stay near those seen before.
    let is_measured = known.share(known.fractions) > 0.5;
    let ((low, high), (known_low, known_high)) = profile.numbers().zip(known.numbers())?;
    let gap = (low - known_high).max(known_low - high);
    if is_measured && gap > known_high - known_low && profile.distance(known) > 0.99 {
        return Some((before("values near those seen"), format!("only values far from them: {}", span(profile))));
    }
    // Ids under any name: all values seen so far were whole.
    let are_ids = known.fractions == 0 && known.values >= 1_000 && known_high - known_low > 20.0;
    if are_ids && profile.share(profile.fractions) > 0.5 && profile.distance(known) > DIFFERENT {
        return Some((before("whole numbers"), format!("fractions: {}", span(profile))));
    }
    None
}

/// Does the column hold what another column held, and has that column changed too?
fn by_other_columns(
    schema: &Schema,
    file: &FileSummary,
    others: &History,
    name: &str,
    profile: &ColumnProfile,
) -> Option<Finding> {
    let known = others.columns.get(name)?;
    let is_enough = |profile: &ColumnProfile| profile.values >= ENOUGH;
    if !is_enough(profile) || !is_enough(known) || profile.shape.is_empty() || profile.distance(known) < DIFFERENT {
        return None;
    }
    let others_in_file = schema.fields().iter().zip(&file.stats.columns).filter(|(field, _)| field.name() != name);
    let same = others_in_file.filter_map(|(field, there)| {
        let known_there = others.columns.get(field.name())?;
        let has_changed = is_enough(known_there) && there.distance(known_there) >= DIFFERENT;
        let distance = profile.distance(known_there);
        (has_changed && distance <= SAME).then_some((field.name(), distance))
    });
    let (other, _) = same.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    Some((
        format!("values like those elsewhere in the table{}", about(known)),
        format!("what `{other}` held ({})", span(profile)),
    ))
}
