//! Times written as text, in the forms that files commonly have.
//! Nothing is guessed: an unknown form is an error, and digits that are too fine are an error and never rounded.

use chrono::NaiveDate;

use super::{Zone, days_of, midnight_ns};

/// The instant of a time written as text, in microseconds UTC.
///
/// The forms are `2014-11-02 01:30:00`, `2014-11-02T01:30:00.25`, `2014/4/1 00:11:00`, `2014-11-02 01:30` and a date
/// alone, each without a zone or followed by `Z`, ` UTC`, `+00:00`, `-0500` or `-05`. An offset in the text counts; a text
/// without one is a local time of `zone`.
///
/// # Errors
/// A short reason, when the text is none of these, names a date that does not exist, has digits finer than a
/// microsecond, or has neither an offset nor a declared zone.
///
/// ```
/// use asof::time::{Zone, parse_time};
/// let new_york: Zone = "America/New_York".parse()?;
/// assert_eq!(parse_time("2014-11-02 01:30:00", Some(new_york)), Ok(1_414_909_800_000_000)); // the later one
/// assert_eq!(parse_time("2014-11-02 06:30:00 UTC", None), Ok(1_414_909_800_000_000));
/// assert!(parse_time("2014-11-02 06:30:00", None).is_err());
/// # Ok::<(), asof::Error>(())
/// ```
pub fn parse_time(text: &str, zone: Option<Zone>) -> Result<i64, &'static str> {
    let instant_ns = parse_time_ns(text, zone)?;
    if instant_ns.rem_euclid(1_000) != 0 {
        return Err("the time is finer than a microsecond");
    }
    i64::try_from(instant_ns / 1_000).map_err(|_| "the time is out of range")
}

/// As [`parse_time`], in nanoseconds: up to nine digits of a second, exact.
pub(crate) fn parse_time_ns(text: &str, zone: Option<Zone>) -> Result<i128, &'static str> {
    let (local_ns, offset_s) = parse_local_ns(text)?;
    match (offset_s, zone) {
        (Some(offset_s), _) => Ok(local_ns - i128::from(offset_s) * 1_000_000_000),
        (None, Some(zone)) => Ok(zone.instant_ns(local_ns)),
        (None, None) => Err(NO_ZONE),
    }
}

/// A date without a time of day: `2014-04-01` or `2014/4/1`.
pub(crate) fn parse_date(text: &str) -> Result<NaiveDate, &'static str> {
    let mut rest = Digits(text.as_bytes());
    let date = rest.date()?;
    if rest.0.is_empty() { Ok(date) } else { Err("not a date without a time of day") }
}

/// The local time in nanoseconds, and the offset from UTC in seconds if the text has one.
pub(crate) fn parse_local_ns(text: &str) -> Result<(i128, Option<i64>), &'static str> {
    parse(text.trim().as_bytes())
}

pub(crate) const NO_ZONE: &str = "the time has no offset and the table declares no zone";

const UNKNOWN: &str = "not a time";

fn parse(text: &[u8]) -> Result<(i128, Option<i64>), &'static str> {
    if text.is_empty() {
        return Err("the time is empty");
    }
    let mut rest = Digits(text);
    let days = days_of(rest.date()?);
    let mut ns = 0;
    if let [b'T' | b' ', b'0'..=b'9', ..] = rest.0 {
        rest.0 = &rest.0[1..];
        let (hour, _) = (rest.number(1, 2)?, rest.exactly(b':')?);
        let minute = rest.number(2, 2)?;
        let second = if rest.exactly(b':').is_ok() { rest.number(2, 2)? } else { 0 };
        if hour > 23 || minute > 59 || second > 59 {
            return Err("no such time of day");
        }
        ns = (hour * 3_600 + minute * 60 + second) * 1_000_000_000;
        if rest.exactly(b'.').is_ok() {
            ns += rest.fraction_ns()?;
        }
    }
    Ok((midnight_ns(days) + i128::from(ns), rest.offset_s()?))
}

struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    fn date(&mut self) -> Result<NaiveDate, &'static str> {
        let (year, separator) = (self.number(4, 4)?, self.one_of(b"-/")?);
        let month = self.number(1, 2)?;
        self.exactly(separator)?;
        let day = self.number(1, 2)?;
        i32::try_from(year).ok().and_then(|y| NaiveDate::from_ymd_opt(y, month as u32, day as u32)).ok_or("no such date")
    }

    fn number(&mut self, at_least: usize, at_most: usize) -> Result<i64, &'static str> {
        let count = self.0.iter().take(at_most).take_while(|b| b.is_ascii_digit()).count();
        if count < at_least {
            return Err(UNKNOWN);
        }
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(digits.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
    }

    fn one_of(&mut self, bytes: &[u8]) -> Result<u8, &'static str> {
        match self.0.split_first() {
            Some((b, rest)) if bytes.contains(b) => {
                self.0 = rest;
                Ok(*b)
            }
            _ => Err(UNKNOWN),
        }
    }

    fn exactly(&mut self, byte: u8) -> Result<u8, &'static str> {
        self.one_of(&[byte])
    }

    fn fraction_ns(&mut self) -> Result<i64, &'static str> {
        let count = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(count);
        if digits.is_empty() {
            return Err(UNKNOWN);
        }
        if digits.iter().skip(9).any(|&b| b != b'0') {
            return Err("the time is finer than a nanosecond");
        }
        self.0 = rest;
        Ok(digits.iter().chain(b"000000000").take(9).fold(0, |n, b| n * 10 + i64::from(b - b'0')))
    }

    fn offset_s(&mut self) -> Result<Option<i64>, &'static str> {
        match self.0 {
            b"" => return Ok(None),
            b"Z" | b"z" | b" Z" | b" UTC" | b"UTC" => return Ok(Some(0)),
            _ => {}
        }
        if self.0.first() == Some(&b' ') {
            self.0 = &self.0[1..];
        }
        let sign = if self.one_of(b"+-")? == b'-' { -1 } else { 1 };
        let hours = self.number(2, 2)?;
        let _ = self.exactly(b':');
        let minutes = if self.0.is_empty() { 0 } else { self.number(2, 2)? };
        if !self.0.is_empty() || hours > 23 || minutes > 59 {
            return Err(UNKNOWN);
        }
        Ok(Some(sign * (hours * 3_600 + minutes * 60)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_forms_are_read() {
        let utc = |text| parse_time(text, Some(Zone::UTC));
        let noon = Ok(1_396_353_600_000_000);
        for text in [
            "2014-04-01 12:00:00",
            "2014-04-01T12:00:00",
            "2014/4/1 12:00:00",
            "2014/4/1 12:00",
            " 2014-04-01 12:00:00.000 ",
            "2014-04-01 12:00:00 UTC",
            "2014-04-01T12:00:00Z",
            "2014-04-01 12:00:00+00:00",
            "2014-04-01 07:00:00-0500",
            "2014-04-01 14:00:00.000000000+02",
        ] {
            assert_eq!(utc(text), noon, "{text}");
        }
        assert_eq!(utc("2014-04-01"), Ok(1_396_310_400_000_000));
        assert_eq!([parse_date("2014-04-01"), parse_date("2014/4/1")], [Ok(NaiveDate::from_ymd_opt(2014, 4, 1).unwrap()); 2]);
        assert_eq!(utc("1969-12-31 23:59:59.999999"), Ok(-1));
        assert_eq!(utc("1970-01-01 00:00:00.25"), Ok(250_000));
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for text in [
            "",
            " ",
            "N/A",
            "2014-02-30 00:00:00",
            "2014-13-01",
            "2014-04/01",
            "14-04-01",
            "2014-04-01 24:00:00",
            "2014-04-01 12:60:00",
            "2014-04-01 12:00:00.1234567",
            "2014-04-01 12:00:00 EST",
            "2014-04-01 12:00:00+",
            "2014-04-01x",
            "2014-04-01 12:00:00.",
            "1396353600",
            "2014-04-01 12:00:00+25:00",
        ] {
            assert!(parse_time(text, Some(Zone::UTC)).is_err(), "{text}");
        }
        assert!(parse_time("2014-04-01 12:00:00", None).unwrap_err().contains("zone"));
        for text in
            ["", " 2014-04-01", "2014-04-01 ", "2014-04-01 12:00", "2014-04-01Z", "2014-04-01-05", "2014-02-29", "20140401"]
        {
            assert!(parse_date(text).is_err(), "{text}");
        }
    }
}
