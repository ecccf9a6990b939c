//! Times from texts and texts from times: ISO 8601, and MySQL's format specifiers.
//! A text that does not match is an error that shows it, never NULL.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, TimestampMicrosecondArray},
    compute::cast,
    datatypes::{DataType, TimeUnit, TimestampMicrosecondType},
};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc};
use datafusion::{
    common::{Result, exec_err, plan_err},
    logical_expr::ScalarUDF,
};

use super::{
    clock::{ZoneClock, datetime},
    scalar::scalar,
    times::instant,
};

pub(super) fn functions() -> Vec<ScalarUDF> {
    let local = |_: &[DataType]| DataType::Timestamp(TimeUnit::Microsecond, None);
    vec![
        scalar(&["from_iso8601_timestamp"], one_text, |_| instant(), from_iso8601_timestamp),
        scalar(&["date_parse"], two_texts, local, date_parse),
        scalar(&["date_format"], time_and_text, |_| DataType::Utf8, date_format),
    ]
}

fn is_text(data_type: &DataType) -> bool {
    data_type.is_string() || data_type.is_null()
}

fn one_text(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [text] if is_text(text) => Ok(vec![DataType::Utf8]),
        _ => plan_err!("needs a text"),
    }
}

fn two_texts(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [text, format] if is_text(text) && is_text(format) => Ok(vec![DataType::Utf8, DataType::Utf8]),
        _ => plan_err!("needs a text and a format"),
    }
}

fn time_and_text(types: &[DataType]) -> Result<Vec<DataType>> {
    let time = match types {
        [DataType::Timestamp(_, zone), format] if is_text(format) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        [DataType::Date32 | DataType::Date64 | DataType::Null, format] if is_text(format) => instant(),
        _ => return plan_err!("needs a timestamp or a date, and a format"),
    };
    Ok(vec![time, DataType::Utf8])
}

fn from_iso8601_timestamp(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let parsed = columns[0].as_string::<i32>().iter().map(|text| match text.map(|text| (text, iso8601(text))) {
        None => Ok(None),
        Some((_, Some(instant))) => Ok(Some(instant.timestamp_micros())),
        Some((text, None)) => exec_err!("`{text}` is not an ISO 8601 date or timestamp"),
    });
    Ok(Arc::new(parsed.collect::<Result<TimestampMicrosecondArray>>()?.with_timezone("UTC")))
}

/// A date, or a date, `T` and a time, with or without an offset; without, it is UTC.
fn iso8601(text: &str) -> Option<DateTime<Utc>> {
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    let Some(time) = time else { return Some(date.and_time(NaiveTime::MIN).and_utc()) };
    let (time, offset_minutes) = match time.find(['Z', 'z', '+', '-']) {
        None => (time, 0),
        Some(at) => (&time[..at], offset(&time[at..])?),
    };
    let forms = ["%H:%M:%S%.f", "%H:%M"];
    let time = match time.len() {
        2 => NaiveTime::from_hms_opt(time.parse().ok()?, 0, 0),
        _ => forms.iter().find_map(|form| NaiveTime::parse_from_str(time, form).ok()),
    };
    date.and_time(time?).checked_sub_signed(TimeDelta::minutes(offset_minutes)).map(|at| at.and_utc())
}

/// `Z`, `+01`, `+0100`, `+01:00`, in minutes.
fn offset(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text.get(1..)?.replacen(':', "", 1);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = match digits.len() {
        2 => (digits.parse::<i64>().ok()?, 0),
        4 => (digits.get(..2)?.parse().ok()?, digits.get(2..)?.parse().ok()?),
        _ => return None,
    };
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

fn date_format(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let clock = ZoneClock::of(columns[0].data_type())?;
    let micros = cast(&columns[0], &instant_of(columns[0].data_type()))?;
    let rows = micros.as_primitive::<TimestampMicrosecondType>().iter().zip(columns[1].as_string::<i32>());
    let texts = rows.map(|(us, format)| match (us, format) {
        (Some(us), Some(format)) => formatted(datetime(clock.local_time(us)?)?, format).map(Some),
        _ => Ok(None),
    });
    Ok(Arc::new(texts.collect::<Result<StringArray>>()?))
}

fn instant_of(data_type: &DataType) -> DataType {
    if matches!(data_type, DataType::Timestamp(..)) { data_type.clone() } else { instant() }
}

fn formatted(at: NaiveDateTime, format: &str) -> Result<String> {
    let (mut text, mut rest) = (String::new(), format.chars());
    let (hour_12, half) = ((at.hour() + 11) % 12 + 1, if at.hour() < 12 { "AM" } else { "PM" });
    let day = DAYS[at.weekday().num_days_from_monday() as usize % 7];
    let month = MONTHS[at.month0() as usize % 12];
    let seconds = |text: &mut String| write!(text, "{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second());
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let Some(specifier) = rest.next() else { return exec_err!("the format `{format}` ends in `%`") };
        let written = match specifier {
            'a' => write!(text, "{}", &day[..3]),
            'b' => write!(text, "{}", &month[..3]),
            'c' => write!(text, "{}", at.month()),
            'd' => write!(text, "{:02}", at.day()),
            'e' => write!(text, "{}", at.day()),
            'f' => write!(text, "{:06}", at.and_utc().timestamp_subsec_micros()),
            'H' => write!(text, "{:02}", at.hour()),
            'h' | 'I' => write!(text, "{hour_12:02}"),
            'i' => write!(text, "{:02}", at.minute()),
            'j' => write!(text, "{:03}", at.ordinal()),
            'k' => write!(text, "{}", at.hour()),
            'l' => write!(text, "{hour_12}"),
            'M' => write!(text, "{month}"),
            'm' => write!(text, "{:02}", at.month()),
            'p' => write!(text, "{half}"),
            'r' => write!(text, "{hour_12:02}:{:02}:{:02} {half}", at.minute(), at.second()),
            'S' | 's' => write!(text, "{:02}", at.second()),
            'T' => seconds(&mut text),
            'v' => write!(text, "{:02}", at.iso_week().week()),
            'W' => write!(text, "{day}"),
            'x' => write!(text, "{:04}", at.iso_week().year()),
            'Y' => write!(text, "{:04}", at.year()),
            'y' => write!(text, "{:02}", at.year().rem_euclid(100)),
            'D' | 'U' | 'u' | 'V' | 'w' | 'X' => return exec_err!("`%{specifier}` is not supported, as in Trino"),
            // Any other character stands for itself, `%%` for a percent sign.
            other => write!(text, "{other}"),
        };
        if written.is_err() {
            return exec_err!("the format `{format}` cannot be written");
        }
    }
    Ok(text)
}

fn date_parse(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let rows = columns[0].as_string::<i32>().iter().zip(columns[1].as_string::<i32>());
    let parsed = rows.map(|(text, format)| {
        let (Some(text), Some(format)) = (text, format) else { return Ok(None) };
        match Parse::new(text).whole(format)? {
            Some(at) => Ok(Some(at.and_utc().timestamp_micros())),
            None => exec_err!("`{text}` does not match the format `{format}`, or is not a valid time"),
        }
    });
    Ok(Arc::new(parsed.collect::<Result<TimestampMicrosecondArray>>()?))
}

/// A text that is parsed by a format. Parts that the format does not name are those of 1970-01-01 00:00:00.
struct Parse<'a> {
    rest: &'a str,
    year: i32,
    month: u32,
    day: u32,
    ordinal: Option<u32>,
    hour: u32,
    is_pm: Option<bool>,
    minute: u32,
    second: u32,
    micros: u32,
}

impl<'a> Parse<'a> {
    fn new(text: &'a str) -> Self {
        let (hour, minute, second, micros) = (0, 0, 0, 0);
        Self { rest: text, year: 1970, month: 1, day: 1, ordinal: None, hour, is_pm: None, minute, second, micros }
    }

    /// The time, or `None` when the text does not fit.
    fn whole(mut self, format: &str) -> Result<Option<NaiveDateTime>> {
        let expanded = format.replace("%T", "%H:%i:%s").replace("%r", "%h:%i:%s %p");
        let mut specifiers = expanded.chars();
        while let Some(c) = specifiers.next() {
            let read = match c {
                '%' => match specifiers.next() {
                    Some(specifier) => self.specifier(specifier)?,
                    None => return exec_err!("the format `{format}` ends in `%`"),
                },
                literal => self.literal(literal),
            };
            if read.is_none() {
                return Ok(None);
            }
        }
        Ok(self.rest.is_empty().then(|| self.time()).flatten())
    }

    fn time(&self) -> Option<NaiveDateTime> {
        let date = match self.ordinal {
            Some(ordinal) => NaiveDate::from_yo_opt(self.year, ordinal),
            None => NaiveDate::from_ymd_opt(self.year, self.month, self.day),
        };
        let hour = match self.is_pm {
            Some(is_pm) if (1..=12).contains(&self.hour) => self.hour % 12 + if is_pm { 12 } else { 0 },
            Some(_) => return None,
            None => self.hour,
        };
        date?.and_hms_micro_opt(hour, self.minute, self.second, self.micros)
    }

    fn literal(&mut self, literal: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    fn number(&mut self, at_most: usize) -> Option<u32> {
        let count = self.rest.bytes().take(at_most).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        digits.parse().ok()
    }

    /// The place of a name in a list, in full or by its first three letters, in any case.
    fn name(&mut self, names: &[&str]) -> Option<u32> {
        let count = self.rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (word, rest) = self.rest.split_at_checked(count)?;
        let place = names.iter().position(|name| name.eq_ignore_ascii_case(word) || name[..3].eq_ignore_ascii_case(word))?;
        self.rest = rest;
        u32::try_from(place).ok()
    }

    fn specifier(&mut self, specifier: char) -> Result<Option<()>> {
        let read = match specifier {
            'Y' => self.number(4).and_then(|year| i32::try_from(year).ok()).map(|year| self.year = year),
            'y' => self.number(2).map(|year| self.year = year as i32 + if year < 70 { 2000 } else { 1900 }),
            'c' | 'm' => self.number(2).map(|month| self.month = month),
            'M' | 'b' => self.name(&MONTHS).map(|month| self.month = month + 1),
            'd' | 'e' => self.number(2).map(|day| self.day = day),
            'j' => self.number(3).map(|ordinal| self.ordinal = Some(ordinal)),
            'W' | 'a' => self.name(&DAYS).map(drop),
            'H' | 'k' => self.number(2).map(|hour| self.hour = hour),
            'h' | 'I' | 'l' => self.number(2).map(|hour| {
                self.hour = hour;
                // Twelve hours mean the morning unless `%p` says otherwise.
                self.is_pm = self.is_pm.or(Some(false));
            }),
            'p' => self.half(),
            'i' => self.number(2).map(|minute| self.minute = minute),
            'S' | 's' => self.number(2).map(|second| self.second = second),
            'f' => self.fraction(),
            '%' => self.literal('%'),
            other => return exec_err!("`%{other}` cannot be parsed"),
        };
        Ok(read)
    }

    fn half(&mut self) -> Option<()> {
        let (half, rest) = self.rest.split_at_checked(2)?;
        self.is_pm = Some(match half.to_ascii_uppercase().as_str() {
            "AM" => false,
            "PM" => true,
            _ => return None,
        });
        self.rest = rest;
        Some(())
    }

    fn fraction(&mut self) -> Option<()> {
        let count = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        let kept = digits.get(..count.min(6)).filter(|kept| !kept.is_empty())?;
        self.micros = kept.parse::<u32>().ok()? * 10_u32.pow(6 - kept.len() as u32);
        Some(())
    }
}
