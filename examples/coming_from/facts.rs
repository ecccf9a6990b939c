//! Facts in memory, and the time rule as a loop over them. Instants are seconds since 1970.

use std::path::Path;

use asof::AsOf;
use chrono::{DateTime, SecondsFormat};

pub(crate) const MINUTE: i64 = 60;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// What is known of an entity: when it happened, when it could be known, and what it says.
pub(crate) struct Fact<T> {
    pub(crate) key: i64,
    pub(crate) at: i64,
    pub(crate) known: i64,
    pub(crate) says: T,
}

/// The facts of an entity that happened and were known strictly before `t`, oldest first. Facts of one time are in the order of
/// their known-at, and then of `says`.
pub(crate) fn visible<T: PartialOrd>(facts: &[Fact<T>], key: i64, t: i64) -> Vec<&Fact<T>> {
    let mut found: Vec<_> = facts.iter().filter(|fact| fact.key == key && fact.at < t && fact.known < t).collect();
    found.sort_by(|a, b| (a.at, a.known, &a.says).partial_cmp(&(b.at, b.known, &b.says)).unwrap_or(std::cmp::Ordering::Equal));
    found
}

/// An instant as CSV has it.
pub(crate) fn written(at: i64) -> String {
    DateTime::from_timestamp(at, 0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The seconds of an instant such as `2023-10-01T00:00:00Z`.
pub(crate) fn seconds(text: &str) -> asof::Result<i64> {
    Ok(text.parse::<AsOf>()?.micros() / 1_000_000)
}

pub(crate) fn as_of(at: i64) -> AsOf {
    AsOf::from_micros(at * 1_000_000)
}

/// Writes lines below a header, and returns the path.
pub(crate) fn write_csv(
    dir: &Path,
    name: &str,
    header: &str,
    lines: impl IntoIterator<Item = String>,
) -> std::io::Result<String> {
    let path = dir.join(format!("{name}.csv"));
    let lines = lines.into_iter().map(|line| line + "\n").collect::<String>();
    std::fs::write(&path, format!("{header}\n{lines}"))?;
    Ok(path.to_string_lossy().into_owned())
}
