//! Files whose columns hold something else than their names say: longitudes in an id column, values shifted by a column.
//! It compares profiles with what the table has seen and with the other files of the load; it never looks at a row.

use std::fmt;

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use super::{
    history::{ENOUGH, FileSummary, History},
    profile::ColumnProfile,
};
use crate::time::month::Month;

/// Shapes at this distance and beyond are those of other columns ...
const MOVED: f64 = 0.6;
/// ... and shapes at this distance and below those of the same one.
const SAME: f64 = 0.2;
/// Values of a hundred that may be wild in any real column.
const WILD_SHARE: f64 = 0.02;

/// Something in a source file that is not what the name of its column says.
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

/// Judges each file of a load against the table's history and the other files of the load.
pub(crate) fn find_anomalies(schema: &Schema, history: &History, files: &[FileSummary<'_>]) -> Vec<Anomaly> {
    let mut all = history.clone();
    files.iter().for_each(|file| all.add(schema, file));
    let mut found = Vec::new();
    for file in files {
        let others = all.without(schema, file);
        found.extend(of_rows(file, &others));
        for (field, profile) in schema.fields().iter().zip(&file.seen.columns) {
            let known = others.columns.get(field.name());
            let told = by_name(field.name(), profile).or_else(|| by_history(profile, known?));
            let told = told.or_else(|| by_neighbours(schema, file, &others, field.name(), profile));
            if let Some((expected, found_there)) = told {
                found.push(Anomaly { file: file.shown.clone(), column: field.name().clone(), expected, found: found_there });
            }
        }
    }
    found
}

/// What is expected, and what is found.
type Finding = (String, String);

/// What the rows of a file tell as a whole.
fn of_rows(file: &FileSummary<'_>, others: &History) -> Vec<Anomaly> {
    let anomaly = |column: &str, expected: &str, found: String| Anomaly {
        file: file.shown.clone(),
        column: column.into(),
        expected: expected.into(),
        found,
    };
    let mut found = Vec::new();
    let rows = file.seen.rows;
    if let Some(reason) = file.mostly_rejected() {
        let rejected = file.rows_rejected();
        let told = format!(
            "{rejected} of {} rows that cannot be read, {} of them for one reason: {}",
            rows + rejected,
            reason.rows,
            reason.first
        );
        found.push(anomaly("(all)", "rows that can be read", told));
    }
    // Few rows tell nothing about a name.
    let is_enough = file.rows_loaded() >= ENOUGH;
    if let (Some(named), Some(false), true) = (Month::of_name(file.name), file.name_is_right(), is_enough) {
        // The name of an export tells the day it was made on: other files tell whether names are about rows here. Without
        // any, a month before all of the rows is none an export can have.
        let names_tell = match others.names_right + others.names_wrong {
            0 => file.seen.months.keys().next().is_some_and(|first| named < *first),
            _ => others.names_right > others.names_wrong,
        };
        if let (true, Some(month)) = (names_tell, file.month()) {
            let (expected, told) = (format!("times of {named}, as its name says"), format!("mostly times of {month}"));
            found.push(anomaly("(event time)", &expected, told));
        }
    }
    let is_rare = others.rows >= ENOUGH && others.reversed * 10 <= others.rows;
    if is_rare && rows >= ENOUGH && file.seen.reversed * 2 > rows {
        let told = format!("{} of {rows} rows that are known before they happen", file.seen.reversed);
        found.push(anomaly("(known-at)", "times after the event time, as in other files", told));
    }
    found
}

fn span(profile: &ColumnProfile) -> String {
    match (&profile.min, &profile.max) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        _ => "no value".into(),
    }
}

/// The numbers of a profile that others were taken out of.
fn about(profile: &ColumnProfile) -> String {
    profile.numbers().map_or_else(String::new, |(low, high)| format!(" (about {low} to {high})"))
}

/// Is a column of this name one of ids: `id`, `trip_id`, `VendorID`, `stationId`?
fn names_id(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let before = name.get(name.len().saturating_sub(3)..name.len().saturating_sub(2)).and_then(|c| c.chars().next());
    let starts_word = before.is_some_and(|c| !c.is_alphabetic() || c.is_lowercase() != name.ends_with("id"));
    lower == "id" || (lower.ends_with("id") && starts_word && !name.ends_with("iD"))
}

/// The parts of a name, in lower case: `pickup_Lat` is `pickup`, `lat`.
fn is_named(name: &str, words: &[&str]) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).any(|part| words.contains(&part))
}

/// What a column's name alone forbids.
fn by_name(name: &str, profile: &ColumnProfile) -> Option<Finding> {
    let is_number = profile.min.as_ref().is_some_and(|min| min.number().is_some());
    let too_many = |count: u64| is_number && profile.values >= ENOUGH && profile.share(count) > WILD_SHARE;
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

/// What all that was seen of the column forbids.
fn by_history(profile: &ColumnProfile, known: &ColumnProfile) -> Option<Finding> {
    if profile.values < ENOUGH || known.values < ENOUGH {
        return None;
    }
    let before = |told: &str| format!("{told}, as elsewhere in the table{}", about(known));
    // A column of texts that were numbers until now, or of numbers that were texts.
    let (texts, known_texts) = (profile.share(profile.number_texts), known.share(known.number_texts));
    // One text all over is a placeholder for no value.
    if known_texts > 0.98 && texts < 0.5 && profile.min != profile.max {
        return Some((before("numbers"), format!("texts ({})", span(profile))));
    }
    if known_texts < 0.02 && texts > 0.98 && profile.distance(known) > MOVED {
        return Some((before("texts"), format!("numbers ({})", span(profile))));
    }
    // Whole numbers may count upwards for ever; measured ones stay near where they were.
    let is_measured = known.share(known.fractions) > 0.5;
    let ((low, high), (known_low, known_high)) = profile.numbers().zip(known.numbers())?;
    let gap = (low - known_high).max(known_low - high);
    if is_measured && gap > known_high - known_low && profile.distance(known) > 0.99 {
        return Some((before("values near those seen"), format!("none of them: {}", span(profile))));
    }
    // Ids under any name: whole for as long as they are known.
    let are_ids = known.fractions == 0 && known.values >= 1_000 && known_high - known_low > 20.0;
    if are_ids && profile.share(profile.fractions) > 0.5 && profile.distance(known) > MOVED {
        return Some((before("whole numbers"), format!("fractions: {}", span(profile))));
    }
    None
}

/// Does the column hold what another one held, which has moved as well?
fn by_neighbours(
    schema: &Schema,
    file: &FileSummary<'_>,
    others: &History,
    name: &str,
    profile: &ColumnProfile,
) -> Option<Finding> {
    let known = others.columns.get(name)?;
    let is_enough = |profile: &ColumnProfile| profile.values >= ENOUGH;
    if !is_enough(profile) || !is_enough(known) || profile.shape.is_empty() || profile.distance(known) < MOVED {
        return None;
    }
    let moved = schema.fields().iter().zip(&file.seen.columns).filter(|(field, _)| field.name() != name);
    let same = moved.filter_map(|(field, there)| {
        let known_there = others.columns.get(field.name())?;
        let has_moved = is_enough(known_there) && there.distance(known_there) >= MOVED;
        let distance = profile.distance(known_there);
        (has_moved && distance <= SAME).then_some((field.name(), distance))
    });
    let (other, _) = same.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    Some((
        format!("values like those elsewhere in the table{}", about(known)),
        format!("what `{other}` held ({})", span(profile)),
    ))
}
