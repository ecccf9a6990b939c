//! Parses the common forms of values directly from their bytes: plain digits, decimal fractions, dates and times.
//! All other forms return `None` and go to `number` and `time_parser`. Where both parse a text, they agree.

use arrow::datatypes::TimeUnit as ArrowUnit;

use super::time_parser::TimeParser;
use crate::time::{InGap, Zone};

/// The value of a digit; more than 9 for any other byte.
#[inline]
fn digit(byte: u8) -> u64 {
    u64::from(byte.wrapping_sub(b'0'))
}

/// An integer of up to 18 digits without a plus sign or leading zeros.
#[inline]
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !(1..=18).contains(&digits.len()) || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    let mut value = 0;
    for byte in digits {
        match digit(*byte) {
            digit @ 0..=9 => value = value * 10 + digit as i64,
            _ => return None,
        }
    }
    Some(if is_negative { -value } else { value })
}

/// The powers of ten that are exact as floats.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
    1e22,
];

/// A decimal number whose digits are an integer up to 2^53 and whose power of ten is exact as a float. Then the quotient of the two
/// is the nearest float.
#[inline]
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !(1..=19).contains(&digits.len()) {
        return None;
    }
    let (mut mantissa, mut point) = (0_u64, None);
    for (at, byte) in digits.iter().enumerate() {
        match digit(*byte) {
            digit @ 0..=9 => mantissa = mantissa * 10 + digit,
            _ if *byte == b'.' && point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    let places = match point {
        // An integer with more digits may not be exact as a float.
        None if digits.len() > 15 => return None,
        None => 0,
        Some(_) if digits.len() == 1 => return None,
        Some(at) => digits.len() - 1 - at,
    };
    if mantissa > 1 << 53 {
        return None;
    }
    let value = mantissa as f64 / POWERS.get(places)?;
    Some(if is_negative { -value } else { value })
}

/// Days since 1970 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years start in March here, so that the leap day is the last day of a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Days since 1970 of `YYYY-MM-DD`.
#[inline]
pub(crate) fn date(text: &[u8]) -> Option<i64> {
    let text: &[u8; 10] = text.try_into().ok()?;
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0, |number, byte| {
            let digit = digit(*byte);
            (digit < 10).then_some(number * 10 + digit as i64)
        })
    };
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    days(number(0, 4)?, number(5, 7)?, number(8, 10)?)
}

/// The local time in seconds since 1970 and nanoseconds: `YYYY-MM-DD HH:MM:SS`, also with `T` and with up to nine digits of a
/// second.
#[inline]
pub(crate) fn local_time(text: &[u8]) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_at_checked(19)?;
    let (of_date, of_day) = whole.split_at(10);
    let of_day: &[u8; 9] = of_day.try_into().ok()?;
    let two = |at: usize| digit(of_day[at]) * 10 + digit(of_day[at + 1]);
    let is_digits = [1, 2, 4, 5, 7, 8].iter().all(|at| digit(of_day[*at]) < 10);
    let (hour, minute, second) = (two(1), two(4), two(7));
    let is_time = matches!(of_day[0], b' ' | b'T') && of_day[3] == b':' && of_day[6] == b':';
    if !is_digits || !is_time || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = date(of_date)? * 86_400 + (hour * 3_600 + minute * 60 + second) as i64;
    let nanos = match fraction {
        [] => 0,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
            let mut nanos = 0;
            for byte in digits {
                match digit(*byte) {
                    digit @ 0..=9 => nanos = nanos * 10 + digit as i64,
                    _ => return None,
                }
            }
            nanos * 10_i64.pow(9 - digits.len() as u32)
        }
        _ => return None,
    };
    Some((seconds, nanos))
}

/// A cache of a zone's offsets by local hour. In most hours the offset is constant.
pub(crate) struct Hours {
    zone: Zone,
    /// A local hour, and its offset from UTC if that is the same for the whole hour.
    known: Vec<Option<(i64, Option<i64>)>>,
}

const HOUR_S: i64 = 3_600;
/// More hours than a month has.
const KNOWN_HOURS: usize = 1 << 10;

impl Hours {
    pub(crate) fn new(zone: Zone) -> Self {
        let count = if zone == Zone::UTC { 0 } else { KNOWN_HOURS };
        Self { zone, known: vec![None; count] }
    }

    /// The instant of a local time; `None` if the offset changes within its hour.
    #[inline]
    fn instant_s(&mut self, local_s: i64) -> Option<i64> {
        if self.zone == Zone::UTC {
            return Some(local_s);
        }
        let hour = local_s.div_euclid(HOUR_S);
        let slot = hour.rem_euclid(KNOWN_HOURS as i64) as usize;
        let ahead_s = match self.known.get(slot) {
            Some(Some((known, ahead_s))) if *known == hour => *ahead_s,
            _ => {
                let ahead_s = self.ahead_s(hour);
                if let Some(place) = self.known.get_mut(slot) {
                    *place = Some((hour, ahead_s));
                }
                ahead_s
            }
        };
        Some(local_s - ahead_s?)
    }

    /// The offset of a local hour. No zone has ever changed its clocks twice within an hour, so it is enough to compare both ends.
    fn ahead_s(&self, hour: i64) -> Option<i64> {
        let (first, last) = (hour * HOUR_S, hour * HOUR_S + HOUR_S - 1);
        let ahead_s = |local_s: i64| match self.zone.instant_s(local_s)? {
            (instant_s, InGap::No) => Some(local_s - instant_s),
            (_, InGap::Yes) => None,
        };
        let ahead = ahead_s(first)?;
        (ahead_s(last)? == ahead).then_some(ahead)
    }
}

impl TimeParser {
    /// The instant of a text in the most common form.
    #[inline]
    pub(crate) fn fast_instant(&self, hours: &mut Hours, text: &[u8]) -> Option<i64> {
        let (local_s, nanos) = local_time(text)?;
        self.in_unit(hours.instant_s(local_s)?, nanos)
    }

    /// The cache for texts without an offset; `None` if texts of the column are parsed in another way.
    pub(crate) fn hours(&self) -> Option<Hours> {
        if self.format.is_some() || self.epoch.is_some() { None } else { self.zone.map(Hours::new) }
    }

    /// The local time of a text in the most common form.
    #[inline]
    pub(crate) fn fast_local(&self, text: &[u8]) -> Option<i64> {
        let (local_s, nanos) = if self.format.is_none() { local_time(text)? } else { return None };
        self.in_unit(local_s, nanos)
    }

    fn in_unit(&self, seconds: i64, nanos: i64) -> Option<i64> {
        // The years 2 to 9998, so that the instant is in the supported years in every zone.
        if !(-62_000_000_000..253_000_000_000).contains(&seconds) {
            return None;
        }
        match self.unit {
            ArrowUnit::Second => (nanos == 0).then_some(seconds),
            ArrowUnit::Millisecond => (nanos % 1_000_000 == 0).then_some(seconds * 1_000 + nanos / 1_000_000),
            ArrowUnit::Microsecond => (nanos % 1_000 == 0).then_some(seconds * 1_000_000 + nanos / 1_000),
            ArrowUnit::Nanosecond => seconds.checked_mul(1_000_000_000)?.checked_add(nanos),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ingest::read::number;

    const ZONES: [&str; 6] =
        ["America/New_York", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu", "UTC"];

    fn parser(zone: usize, unit: ArrowUnit) -> TimeParser {
        TimeParser { zone: Some(ZONES[zone % ZONES.len()].parse().unwrap()), epoch: None, format: None, unit }
    }

    fn numberlike() -> impl Strategy<Value = String> {
        prop_oneof![
            "[-+]?[0-9]{0,22}(\\.[0-9]{0,24})?(e[-+]?[0-9]{1,3})?",
            "-?[0-9]{1,4}\\.[0-9]{1,2}",
            "-?0{0,2}[0-9]{1,20}",
            "[-+.e0-9 ]{0,6}",
            any::<f64>().prop_map(|value| value.to_string()),
            any::<i64>().prop_map(|value| value.to_string()),
        ]
    }

    fn timelike() -> impl Strategy<Value = String> {
        let common = (1_i32..=9_999, 1..=13_u32, 1..=32_u32, 0..=24_u32, 0..=60_u32, 0..=60_u32, "|\\.[0-9]{0,10}|Z| UTC|x");
        prop_oneof![
            8 => common.prop_map(|(y, mo, d, h, mi, s, end)| format!("{y:04}-{mo:02}-{d:02} {h:02}:{mi:02}:{s:02}{end}")),
            // Nights in which clocks are changed.
            4 => (2_000..2_011_i32, 0..4_usize, 0..=3_u32, 0..60_u32, 0..60_u32).prop_map(|(y, night, h, mi, s)| {
                let night = ["11-01", "03-11", "10-30", "04-02"][night];
                format!("{y}-{night}T{h:02}:{mi:02}:{s:02}")
            }),
            1 => "[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}[ T]?[0-9:.]{0,12}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn the_fast_path_parses_numbers_as_the_slow_one(text in numberlike()) {
            if let Some(value) = integer(text.as_bytes()) {
                prop_assert_eq!(number::integer(&text, i64::MIN.into(), i64::MAX.into()), Ok(i128::from(value)), "{}", text);
            }
            if let Some(value) = float(text.as_bytes()) {
                prop_assert_eq!(number::float(&text).map(f64::to_bits), Ok(value.to_bits()), "{}", text);
            }
        }

        #[test]
        fn the_fast_path_parses_times_as_the_slow_one(texts in prop::collection::vec(timelike(), 8), zone in 0..6_usize, unit in 0..4) {
            let unit =
                [ArrowUnit::Second, ArrowUnit::Millisecond, ArrowUnit::Microsecond, ArrowUnit::Nanosecond][unit as usize];
            let parser = parser(zone, unit);
            let mut hours = parser.hours().unwrap();
            for text in texts {
                if let Some(value) = parser.fast_instant(&mut hours, text.as_bytes()) {
                    prop_assert_eq!(parser.instant(&text), Ok(value), "{}", text);
                }
                if let Some(value) = parser.fast_local(text.as_bytes()) {
                    prop_assert_eq!(parser.local(&text), Ok(value), "{}", text);
                }
                if let Some(days) = date(text.as_bytes()) {
                    let (local_ns, _) = crate::time::parse_local_ns(&text).unwrap();
                    prop_assert_eq!(local_ns, i128::from(days) * 86_400_000_000_000, "{}", text);
                }
            }
        }
    }

    #[test]
    fn the_common_forms_take_the_fast_path() {
        for text in ["0", "-7", "123456789012345678"] {
            assert!(integer(text.as_bytes()).is_some(), "{text}");
        }
        for text in ["0", "-0", "12.5", "-73.98123456789012", ".5", "5.", "0.1", "123456789012345"] {
            assert!(float(text.as_bytes()).is_some(), "{text}");
        }
        let parser = parser(0, ArrowUnit::Microsecond);
        let mut hours = parser.hours().unwrap();
        for text in ["2014-04-01 12:00:00", "2014-04-01T12:00:00.25", "2000-02-29 23:59:59.123456"] {
            assert!(parser.fast_instant(&mut hours, text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn an_hour_in_which_clocks_were_changed_takes_the_slow_path() {
        let parser = parser(1, ArrowUnit::Second);
        let mut hours = parser.hours().unwrap();
        // St John's went back from one minute past midnight to 23:01 the day before.
        for (text, is_fast) in [("2009-10-31 22:59:59", true), ("2009-10-31 23:30:00", false), ("2009-11-01 00:30:00", true)] {
            let found = parser.fast_instant(&mut hours, text.as_bytes());
            assert_eq!(found.is_some(), is_fast, "{text}");
            assert!(found.is_none_or(|value| parser.instant(text) == Ok(value)), "{text}");
        }
    }
}
