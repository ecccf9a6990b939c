//! The parts of messages that are computed: lists, numbers, and the column that was probably meant.
//! No variant is chosen here.

use std::{any::Any, fmt::Display};

use datafusion::error::DataFusionError;

use super::Error;

/// The longest line of an engine's error that is shown, in characters.
const LONGEST_LINE: usize = 400;
/// The most names that a message lists.
const LISTED: usize = 100;

/// With this begins the place that [`Error::reading`] adds to an error of the engine.
pub(super) const READING: &str = "reading ";

/// What the engine found, without the plan that it shows below or the stages that it went through.
pub(crate) fn in_one_line(error: &DataFusionError) -> String {
    if let DataFusionError::Context(place, cause) = error
        && place.starts_with(READING)
    {
        return format!("{place}: {}", in_one_line(cause));
    }
    let text = match error.find_root() {
        DataFusionError::SQL(cause, _) => parser_text(cause),
        DataFusionError::Plan(text) | DataFusionError::Execution(text) => {
            text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().to_owned()
        }
        other => other.strip_backtrace(),
    };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("the engine gave no reason");
    let is_cut = first.chars().count() > LONGEST_LINE || lines.next().is_some();
    let mut line: String = first.chars().take(LONGEST_LINE).collect();
    if is_cut {
        line.push_str(" ...");
    }
    line
}

/// What the parser of SQL found, without the words by which it introduces each of its errors.
pub(crate) fn parser_text(error: &impl Display) -> String {
    let text = error.to_string();
    text.strip_prefix("sql parser error: ").map(str::to_owned).unwrap_or(text)
}

pub(super) fn numbered(mistakes: &[Error]) -> String {
    mistakes.iter().enumerate().map(|(i, mistake)| format!("({}) {mistake}", i + 1)).collect::<Vec<_>>().join("; ")
}

pub(super) fn listed(names: &[String]) -> String {
    match names.len() {
        0 => "nothing yet".into(),
        1..=LISTED => names.join(", "),
        count => format!("{} and {} more", names[..LISTED].join(", "), count - LISTED),
    }
}

pub(super) fn sum(a: &u64, b: &u64) -> u64 {
    a.saturating_add(*b)
}

/// Which of the rejected rows the first one is shown of: those with the most common reason, unless all have the same.
pub(super) fn group_of(common: &u64, count: &u64) -> String {
    if common == count { String::new() } else { format!("of {common} of them, which have the most common reason, ") }
}

/// What to do about rows that cannot be read. Where most of them cannot, leaving them out is no remedy.
pub(super) fn remedy(count: &u64, rows: &u64) -> &'static str {
    match count > rows {
        true => {
            "fix the source, or tell the load how it is to be read (the zone of its times, `time_format`, `column_type`, \
             `CsvOptions`)"
        }
        false => "fix the source, or load the rest with `on_reject(OnReject::Skip)`",
    }
}

/// Says that a column differs from the one that was asked for only by case.
pub(super) fn other_case(column: &str, known: &[String]) -> String {
    let own = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let asked = own(column);
    match known.iter().map(|known| own(known)).find(|known| *known != asked && known.eq_ignore_ascii_case(&asked)) {
        Some(other) => {
            format!(" (but `{other}`: case counts, and SQL reads a name in lower case unless you quote it: \"{other}\")")
        }
        None => String::new(),
    }
}

/// The column that was probably meant, if its letters are nearly those that were written.
pub(super) fn near(column: &str, known: &[String]) -> String {
    let letters = |name: &str| {
        let own = name.rsplit('.').next().unwrap_or(name);
        own.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<Vec<char>>()
    };
    let own = letters(column);
    let nearest = known.iter().map(|name| (distance(&own, &letters(name)), name)).min();
    match nearest {
        Some((changes, name)) if changes <= own.len() / 4 && other_case(column, known).is_empty() => {
            format!("; did you mean `{name}`?")
        }
        _ => String::new(),
    }
}

/// The edit distance: how many letters must be inserted, removed or replaced to make one word of the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(column: &str, known: &[&str]) -> String {
        let known = known.iter().map(|name| (*name).to_owned()).collect();
        Error::UnknownColumn { subject: "table `t`".into(), column: column.into(), known }.to_string()
    }

    #[test]
    fn the_column_that_was_meant_is_named() {
        let columns = ["reqId", "eventTime", "trip_distance", "n"];
        let case = message("eventtime", &columns);
        assert!(
            case.contains("(but `eventTime`: case counts") && case.ends_with("it has: reqId, eventTime, trip_distance, n"),
            "{case}"
        );
        assert!(message("t.eventtime", &["t.eventTime"]).contains("`eventTime`"));
        for near in ["trip_distanc", "tripdistance", "Trip Distance", "tirp_distance"] {
            assert!(message(near, &columns).ends_with("; did you mean `trip_distance`?"), "{}", message(near, &columns));
        }
        for far in ["fare", "m", "", "distance"] {
            assert!(message(far, &columns).ends_with("trip_distance, n"), "{}", message(far, &columns));
        }
        assert!(message("x", &[]).ends_with("it has: nothing yet"));
    }
}
