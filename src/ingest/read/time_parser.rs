//! Parses times: texts in known or declared formats, and counts of units since 1970.
//! Nothing is rounded. A time that its column cannot hold exactly is refused, and the reason says what to declare.

use arrow::datatypes::TimeUnit as ArrowUnit;

use crate::{
    ingest::{load::Ingest, rejects::RejectReason, time_format::TimeFormat},
    time::{NO_ZONE, TimeUnit, Zone, parse_local_ns, parse_time_ns},
};

/// Parses the times of one column into the unit of the column.
#[derive(Debug, Clone)]
pub(crate) struct TimeParser {
    /// The zone of times without an offset.
    pub(crate) zone: Option<Zone>,
    /// The unit of integers, if integers are times.
    pub(crate) epoch: Option<TimeUnit>,
    pub(crate) format: Option<TimeFormat>,
    /// The unit of the column.
    pub(crate) unit: ArrowUnit,
}

impl TimeParser {
    /// The parser of a column with this unit.
    pub(crate) fn of_column(ingest: &Ingest, column: &str, unit: ArrowUnit) -> Self {
        Self {
            zone: ingest.declared.zone,
            epoch: ingest.declared.time_columns().find(|time| time.name() == column).and_then(|time| time.unit),
            format: ingest.time_formats.iter().find(|(name, _)| name == column).map(|(_, format)| format.clone()),
            unit,
        }
    }

    /// The instant of a text, in the column's unit.
    pub(crate) fn instant(&self, text: &str) -> Result<i64, RejectReason> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the time is empty".into());
        }
        if let Some(format) = &self.format {
            let (local_ns, offset_s) = format.local_ns(text)?;
            return match (offset_s, self.zone) {
                (Some(offset_s), _) => self.to_unit(local_ns - i128::from(offset_s) * 1_000_000_000),
                (None, Some(zone)) => self.to_unit(zone.instant_ns(local_ns)),
                (None, None) => Err(NO_ZONE.into()),
            };
        }
        match (self.epoch, text.parse::<i64>()) {
            (Some(unit), Ok(value)) => self.epoch(value, unit),
            (Some(_), Err(_)) if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') => Err("the time is out of range".into()),
            (Some(_), Err(_)) => self.to_unit(parse_time_ns(text, self.zone).map_err(|reason| {
                format!("not an integer count of units since 1970, as declared, and read as text: {reason}")
            })?),
            (None, _) => self.to_unit(parse_time_ns(text, self.zone)?),
        }
    }

    /// The local time of a text without an offset, in the column's unit.
    pub(crate) fn local(&self, text: &str) -> Result<i64, RejectReason> {
        let (local_ns, offset_s) = match &self.format {
            Some(format) => format.local_ns(text.trim())?,
            None => parse_local_ns(text)?,
        };
        if offset_s.is_some() {
            return Err("the time has an offset, which the column cannot hold; declare a timestamp with a zone".into());
        }
        self.to_unit(local_ns)
    }

    /// The instant of a count of units since 1970.
    pub(crate) fn epoch(&self, value: i64, unit: TimeUnit) -> Result<i64, RejectReason> {
        let instant_ns = |unit: TimeUnit| i128::from(value) * i128::from(unit.nanos());
        let found = instant_ns(unit);
        if COMMON_ERA_NS.contains(&found) {
            return self.to_unit(found);
        }
        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        let sane = |unit: &TimeUnit| year(instant_ns(*unit)).is_some_and(|year| (1_970..2_200).contains(&year));
        let when = year(found).map_or_else(|| "beyond the supported years".into(), |year| format!("in the year {year}"));
        Err(match units.iter().find(|unit| sane(unit)) {
            Some(other) => {
                format!("as {} it lies {when}, as {} it would not; is the declared unit wrong?", unit.plural(), other.plural())
            }
            None => format!("the time is out of range: as {} it lies {when}", unit.plural()),
        }
        .into())
    }

    /// An instant in the unit of the column. It must be exact and within the supported years.
    pub(crate) fn to_unit(&self, instant_ns: i128) -> Result<i64, RejectReason> {
        let unit_ns = i128::from(nanos(self.unit));
        if instant_ns.rem_euclid(unit_ns) != 0 {
            return Err(match self.unit {
                ArrowUnit::Microsecond => {
                    "the time is finer than a microsecond; declare the column `Timestamp(Nanosecond, Some(\"UTC\"))` in the table's \
                     first load"
                }
                _ => "the time is finer than the column's unit",
            }
            .into());
        }
        match i64::try_from(instant_ns / unit_ns) {
            Ok(value) if COMMON_ERA_NS.contains(&instant_ns) || year(instant_ns).is_some() => Ok(value),
            _ => Err("the time is out of range".into()),
        }
    }
}

/// The years 1 to 9999.
const COMMON_ERA_NS: std::ops::Range<i128> = -62_135_596_800_000_000_000..253_402_300_800_000_000_000;

/// Nanoseconds in a unit.
pub(crate) fn nanos(unit: ArrowUnit) -> i64 {
    match unit {
        ArrowUnit::Second => 1_000_000_000,
        ArrowUnit::Millisecond => 1_000_000,
        ArrowUnit::Microsecond => 1_000,
        ArrowUnit::Nanosecond => 1,
    }
}

/// The year of an instant in UTC; `None` beyond the supported years.
fn year(instant_ns: i128) -> Option<i32> {
    // Two days inside chrono's range, so that the local time of every zone is in it too.
    const DAYS_NS: i128 = 2 * 86_400_000_000_000;
    let seconds = |ns: i128| i64::try_from(ns.div_euclid(1_000_000_000)).ok();
    let known = |ns: i128| chrono::DateTime::from_timestamp(seconds(ns)?, 0);
    let _within = (known(instant_ns - DAYS_NS)?, known(instant_ns + DAYS_NS)?);
    known(instant_ns).map(|at| chrono::Datelike::year(&at))
}

/// Does a text have nonzero digits finer than a microsecond?
pub(crate) fn is_finer_than_micros(text: &str) -> bool {
    let Some((_, fraction)) = text.split_once('.') else { return false };
    let digits = fraction.bytes().take_while(u8::is_ascii_digit);
    digits.skip(6).any(|digit| digit != b'0')
}
