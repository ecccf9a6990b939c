//! Spans of time as plans and messages show them: in the largest unit of which they are a whole number.
//! Parsing is elsewhere.

const UNITS: [(&str, i64); 6] = [
    ("day", 86_400_000_000),
    ("hour", 3_600_000_000),
    ("minute", 60_000_000),
    ("second", 1_000_000),
    ("millisecond", 1_000),
    ("microsecond", 1),
];

/// A span of microseconds: `7 days`, `90 minutes`.
pub(crate) fn shown_span(span_us: i64) -> String {
    let (unit, length) = UNITS.into_iter().find(|(_, length)| span_us % length == 0 && span_us != 0).unwrap_or(("second", 1));
    let count = span_us / length;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_counted_in_the_largest_unit_that_counts_it_whole() {
        let shown = [604_800_000_000, 86_400_000_000, 5_400_000_000, 3_600_000_000, 9_000_000, 2_000, 1, 0].map(shown_span);
        assert_eq!(
            shown,
            ["7 days", "1 day", "90 minutes", "1 hour", "9 seconds", "2 milliseconds", "1 microsecond", "0 seconds"]
        );
    }
}
