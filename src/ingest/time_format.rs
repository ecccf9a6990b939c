//! The format of a column's times, as a load declares it in `strftime` notation.

use chrono::format::{Item, Parsed, StrftimeItems, parse};

use crate::{
    error::{Error, Result},
    time::{days_of, midnight_ns},
};

/// A declared time format: chrono's `strftime` items.
#[derive(Debug, Clone)]
pub(crate) struct TimeFormat {
    pub(crate) text: String,
    items: Vec<Item<'static>>,
}

impl TimeFormat {
    pub(crate) fn new(column: &str, text: &str) -> Result<Self> {
        let invalid =
            |reason: &str| Error::Definition { subject: format!("the time format of `{column}`"), reason: reason.into() };
        let items = StrftimeItems::new(text).parse_to_owned().map_err(|_| {
            invalid(&format!("`{text}` is not a format; write one in the notation of strftime, such as `%m/%d/%Y %H:%M`"))
        })?;
        if items
            .iter()
            .all(|item| matches!(item, Item::Literal(_) | Item::OwnedLiteral(_) | Item::Space(_) | Item::OwnedSpace(_)))
        {
            return Err(invalid(&format!("`{text}` has no part of a time; write a format such as `%m/%d/%Y %H:%M`")));
        }
        Ok(Self { text: text.into(), items })
    }

    /// The local time in nanoseconds, and the offset from UTC in seconds if the text has one.
    pub(crate) fn local_ns(&self, text: &str) -> Result<(i128, Option<i64>), &'static str> {
        const NO_TIME: &str = "not a time in the declared format";
        let mut parsed = Parsed::new();
        parse(&mut parsed, text, self.items.iter()).map_err(|_| NO_TIME)?;
        let is_timestamp = parsed.timestamp().is_some();
        let local_ns = match parsed.to_naive_datetime_with_offset(parsed.offset().unwrap_or(0)) {
            Ok(local) => {
                let (seconds, nanos) = (local.and_utc().timestamp(), local.and_utc().timestamp_subsec_nanos());
                if nanos >= 1_000_000_000 {
                    return Err("no such time of day");
                }
                i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
            }
            // A date without a time of day means its first instant.
            Err(_) if parsed.hour_mod_12().is_none() && parsed.minute().is_none() => {
                midnight_ns(days_of(parsed.to_naive_date().map_err(|_| NO_TIME)?))
            }
            Err(_) => return Err(NO_TIME),
        };
        Ok((local_ns, parsed.offset().map(i64::from).or(is_timestamp.then_some(0))))
    }
}
