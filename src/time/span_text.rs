//! Lengths of time as text, such as `7 days` and `1 hour 30 minutes`: how they are shown, and the one parser that reads them.
//! They have a fixed length. Months and longer units differ in length and are refused.

use super::TimeUnit;

/// The units in which a length is shown, with their microseconds.
const SHOWN_UNITS: [(&str, i64); 6] = [
    ("day", 86_400_000_000),
    ("hour", 3_600_000_000),
    ("minute", 60_000_000),
    ("second", 1_000_000),
    ("millisecond", 1_000),
    ("microsecond", 1),
];

/// A span of microseconds in the largest unit of which it is a whole number: `7 days`, `90 minutes`.
pub(crate) fn shown_span(span_us: i64) -> String {
    let (unit, length) =
        SHOWN_UNITS.into_iter().find(|(_, length)| span_us % length == 0 && span_us != 0).unwrap_or(("second", 1));
    let count = span_us / length;
    format!("{count} {unit}{}", if count.unsigned_abs() == 1 { "" } else { "s" })
}

/// A span of microseconds in few letters, for names: a whole number of the largest of the units `d`, `h`, `m`, `s`, `ms` and `us`
/// that gives one, as in `7d`, `90m`. One day is `24h`.
pub(crate) fn short_span(span_us: i64) -> String {
    const DAY_US: i64 = SHOWN_UNITS[0].1;
    let letters = ["d", "h", "m", "s", "ms", "us"];
    let mut units = letters.into_iter().zip(SHOWN_UNITS.map(|(_, length)| length));
    let is_unit = |length: i64| span_us % length == 0 && (length < DAY_US || span_us.unsigned_abs() > DAY_US.unsigned_abs());
    let (letters, length) = units.find(|(_, length)| is_unit(*length)).unwrap_or(("us", 1));
    format!("{}{letters}", span_us / length)
}

/// The microseconds of a length of time.
///
/// A text is one or more decimal numbers, each with a unit from weeks to nanoseconds: `7 days`, `1.5 hours`, `90min`,
/// `1 day -30 minutes`. A unit may be used once. The sum may be negative, and must be a whole number of microseconds that 64 bits
/// hold.
///
/// # Errors
/// What is wrong and what to write, as the rest of a sentence that begins with the text.
pub(crate) fn parse_span(text: &str) -> Result<i64, String> {
    nanos(text)
        .and_then(|ns| if ns % 1_000 == 0 { Ok(ns / 1_000) } else { Err(TOO_FINE.into()) })
        .and_then(|us| i64::try_from(us).map_err(|_| TOO_LONG.into()))
        .map_err(|reason: String| format!("{reason}; write a fixed length such as `7 days`, `1 hour 30 minutes` or `0 seconds`"))
}

const TOO_LONG: &str = "is too long";
const TOO_FINE: &str = "is finer than a microsecond";

/// The nanoseconds of a length, exact.
fn nanos(text: &str) -> Result<i128, String> {
    let mut words = text.split_whitespace();
    let (mut total_ns, mut seen) = (0_i128, Vec::new());
    while let Some(word) = words.next() {
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').unwrap_or(word.len());
        let (number, rest) = word.split_at(end);
        if number.is_empty() {
            return Err(format!("has `{word}` where a number is expected"));
        }
        let unit = if rest.is_empty() { words.next() } else { Some(rest) };
        let Some(unit) = unit.filter(|unit| !unit.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'))) else {
            return Err(format!("has the number `{number}` without a unit"));
        };
        let unit_ns = unit_ns(unit)?;
        if seen.contains(&unit_ns) {
            return Err(format!("has the unit `{unit}` twice"));
        }
        seen.push(unit_ns);
        total_ns = total_ns.checked_add(product(number, unit_ns)?).ok_or(TOO_LONG)?;
    }
    if seen.is_empty() { Err("is empty".into()) } else { Ok(total_ns) }
}

fn unit_ns(unit: &str) -> Result<i64, String> {
    const SECOND_NS: i64 = TimeUnit::Second.nanos();
    Ok(match unit.to_lowercase().as_str() {
        "w" | "week" | "weeks" => 7 * TimeUnit::Day.nanos(),
        "d" | "day" | "days" => TimeUnit::Day.nanos(),
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600 * SECOND_NS,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND_NS,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND_NS,
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" => TimeUnit::Millisecond.nanos(),
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" => TimeUnit::Microsecond.nanos(),
        "nanosecond" | "nanoseconds" => TimeUnit::Nanosecond.nanos(),
        "mon" | "mons" | "month" | "months" | "y" | "yr" | "yrs" | "year" | "years" | "dec" | "decs" | "decade" | "decades"
        | "c" | "cent" | "cents" | "century" | "centuries" => {
            return Err(format!("is in the unit `{unit}`, and months and longer units have no fixed length"));
        }
        _ => return Err(format!("has the unknown unit `{unit}`")),
    })
}

/// A decimal number of units in nanoseconds, exact.
fn product(number: &str, unit_ns: i64) -> Result<i128, String> {
    let unsigned = number.strip_prefix('-').unwrap_or(number);
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        None if !unsigned.is_empty() => (unsigned, ""),
        _ => return Err(format!("has `{number}`, which is not a number")),
    };
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(format!("has `{number}`, which is not a number"));
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| TOO_LONG)? };
    // A week has 2^16 * 5^11 * 189 ns, so a seventeenth digit is never a whole number of them.
    if fraction.len() > 16 {
        return Err(TOO_FINE.into());
    }
    let (digits, scale) = fraction.bytes().fold((0_i128, 1_i128), |(n, scale), b| (n * 10 + i128::from(b - b'0'), scale * 10));
    let unit_ns = i128::from(unit_ns);
    if digits * unit_ns % scale != 0 {
        return Err(TOO_FINE.into());
    }
    let ns = whole.checked_mul(unit_ns).and_then(|ns| ns.checked_add(digits * unit_ns / scale)).ok_or(TOO_LONG)?;
    Ok(if number.starts_with('-') { -ns } else { ns })
}

#[cfg(test)]
mod tests {
    use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
    use proptest::prelude::*;

    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    #[test]
    fn a_short_span_reads_as_the_span() {
        for (span_us, short) in [
            (DAY_US, "24h"),
            (2 * DAY_US, "2d"),
            (7 * DAY_US, "7d"),
            (DAY_US + DAY_US / 2, "36h"),
            (DAY_US / 24, "1h"),
            (DAY_US / 16, "90m"),
            (15_000_000, "15s"),
            (250_000, "250ms"),
            (1, "1us"),
            (-DAY_US, "-24h"),
            (i64::MAX, "9223372036854775807us"),
        ] {
            assert_eq!(short_span(span_us), short);
            assert_eq!(parse_span(short), Ok(span_us));
        }
        assert_eq!(short_span(0), "0h");
    }

    #[test]
    fn a_span_is_counted_in_the_largest_unit_that_counts_it_whole() {
        let shown = [604_800_000_000, DAY_US, 5_400_000_000, 3_600_000_000, 9_000_000, 2_000, 1, 0].map(shown_span);
        assert_eq!(
            shown,
            ["7 days", "1 day", "90 minutes", "1 hour", "9 seconds", "2 milliseconds", "1 microsecond", "0 seconds"]
        );
    }

    #[test]
    fn numbers_with_units_are_summed_exactly() {
        for (text, us) in [
            ("1 week", 7 * DAY_US),
            ("  1\tday \u{a0} 2 hours\n", DAY_US + 7_200_000_000),
            ("1 DAY -30 Minutes", DAY_US - 1_800_000_000),
            ("90min", 5_400_000_000),
            ("-1.5h", -5_400_000_000),
            (".5 day", DAY_US / 2),
            ("-.25 seconds", -250_000),
            ("0.50 ms", 500),
            ("1000 nanoseconds", 1),
            ("0.1 us 900 nanoseconds", 1),
            ("0.0000000005 weeks 0.6 us", 303),
            ("007 days", 7 * DAY_US),
            ("106751991 days", 106_751_991 * DAY_US),
            ("9223372036854775807 us", i64::MAX),
            ("-9223372036854775808 us", i64::MIN),
        ] {
            assert_eq!(parse_span(text), Ok(us), "{text:?}");
        }
    }

    #[test]
    fn a_text_that_is_no_fixed_length_says_why() {
        for (text, reason) in [
            ("", "is empty"),
            (" \t", "is empty"),
            ("soon", "has `soon` where a number is expected"),
            ("7", "has the number `7` without a unit"),
            ("1 2 days", "has the number `1` without a unit"),
            ("1 day 2", "has the number `2` without a unit"),
            ("1 day hour", "has `hour` where a number is expected"),
            ("+1 day", "has `+1` where a number is expected"),
            ("- 1 day", "has the number `-` without a unit"),
            ("--1 day", "has `--1`, which is not a number"),
            ("1-2 days", "has `1-2`, which is not a number"),
            ("1. days", "has `1.`, which is not a number"),
            (". days", "has `.`, which is not a number"),
            ("1.2.3 days", "has `1.2.3`, which is not a number"),
            ("1e3 days", "has the unknown unit `e3`"),
            ("1,5 days", "has the unknown unit `,5`"),
            ("1 fortnight", "has the unknown unit `fortnight`"),
            ("1day2hours", "has the unknown unit `day2hours`"),
            ("\u{661} day", "has `\u{661}` where a number is expected"),
            ("1 day 2 days", "has the unit `days` twice"),
            ("1 min 2m", "has the unit `m` twice"),
            ("1 month", "is in the unit `month`, and months and longer units have no fixed length"),
            ("0 years", "is in the unit `years`, and months and longer units have no fixed length"),
            ("0.5 months", "is in the unit `months`, and months and longer units have no fixed length"),
            ("1 day 1 mon", "is in the unit `mon`, and months and longer units have no fixed length"),
            ("1 nanosecond", "is finer than a microsecond"),
            ("0.0000001 seconds", "is finer than a microsecond"),
            ("0.0001 microseconds", "is finer than a microsecond"),
            ("1.00000000000000000000000000000000000000000001 days", "is finer than a microsecond"),
            ("106751992 days", "is too long"),
            ("9223372036854775808 us", "is too long"),
            ("-9223372036854775809 us", "is too long"),
            ("99999999999999999999999999999999999999 weeks", "is too long"),
            ("999999999999999999999999999999999999999999 us", "is too long"),
        ] {
            let shown = parse_span(text).unwrap_err();
            assert_eq!(shown.split("; write").next(), Some(reason), "{text:?}");
            assert!(shown.ends_with("; write a fixed length such as `7 days`, `1 hour 30 minutes` or `0 seconds`"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn a_shown_span_parses_back(us: i64, unit in 0..SHOWN_UNITS.len()) {
            let length = SHOWN_UNITS[unit].1;
            for span_us in [us, us / length * length, us % 1_000] {
                prop_assert_eq!(parse_span(&shown_span(span_us)), Ok(span_us));
            }
        }

        /// DataFusion reads the intervals of the rest of a query by Arrow's parser.
        #[test]
        fn arrow_reads_the_same_length(parts in prop::collection::vec((-9_999..9_999_i64, 0..1_000_000_u32, 0..6_usize), 1..4)) {
            let units = ["weeks", "days", "hours", "minutes", "seconds", "ms"];
            let text: Vec<String> = parts.iter().map(|(n, millionths, unit)| format!("{n}.{millionths:06} {}", units[*unit])).collect();
            let text = text.join(" ");
            let by_arrow = parse_interval_month_day_nano(&text).ok().map(|found| {
                i128::from(found.days) * i128::from(TimeUnit::Day.nanos()) + i128::from(found.nanoseconds)
            });
            let in_micros = by_arrow.filter(|ns| ns % 1_000 == 0).and_then(|ns| i64::try_from(ns / 1_000).ok());
            prop_assert_eq!(parse_span(&text).ok(), in_micros, "{}", text);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "([-+.0-9]{0,40}[ \t]{0,2}(|d|days|h|us|weeks|months|x|\\PC{1,3})[ ]{0,2}){0,4}") {
            if let Ok(us) = parse_span(&text) {
                prop_assert_eq!(parse_span(&shown_span(us)), Ok(us), "{}", text);
            }
        }
    }
}
