//! Converts `TBLPROPERTIES` to the declaration of a fact table, and back.
//! The properties are checked against each other here, and against the files elsewhere.

use std::collections::BTreeMap;

use crate::{
    catalog::{FactTable, FactTimes, KnownAt, TIMESTAMPS, TimeColumn},
    time::{TimeUnit, parse_span, shown_span},
};

const TIMELESS: &str = "asof.timeless";
const EVENT_TIME: &str = "asof.event_time";
const EVENT_UNIT: &str = "asof.event_time.unit";
const KNOWN_AT: &str = "asof.known_at";
const KNOWN_UNIT: &str = "asof.known_at.unit";
const DELAY: &str = "asof.delay";
const ZONE: &str = "asof.zone";
const KEYS: &str = "asof.keys";
const TIE_BREAK: &str = "asof.tie_break";
const IDENTITY: &str = "asof.identity";
const ALL: [&str; 11] =
    [TIMELESS, EVENT_TIME, EVENT_UNIT, KNOWN_AT, KNOWN_UNIT, DELAY, ZONE, KEYS, TIE_BREAK, IDENTITY, TIMESTAMPS];

const UNITS: [(&str, TimeUnit); 5] = [
    ("day", TimeUnit::Day),
    ("second", TimeUnit::Second),
    ("millisecond", TimeUnit::Millisecond),
    ("microsecond", TimeUnit::Microsecond),
    ("nanosecond", TimeUnit::Nanosecond),
];

/// The declaration from the properties, and the other properties. The error says which property is missing or wrong.
pub(super) fn declaration(properties: &[(String, String)]) -> Result<(FactTable, BTreeMap<String, String>), String> {
    let mut rest: BTreeMap<String, String> = properties.iter().cloned().collect();
    if let Some(unknown) = rest.keys().find(|key| key.starts_with("asof.") && !ALL.contains(&key.as_str())) {
        return Err(format!("has the property `{unknown}`, which is not one of {}", ALL.join(", ")));
    }
    if let Some(other) = rest.get(TIMESTAMPS).filter(|value| *value != "bigint" && *value != "timestamp") {
        return Err(format!("has `{TIMESTAMPS}` = `{other}`; it must be `bigint` or `timestamp`"));
    }
    rest.retain(|key, value| key != TIMESTAMPS || value == "bigint");
    if let Some(timeless) = rest.remove(TIMELESS) {
        return Ok((timeless_table(&timeless, &mut rest)?, rest));
    }
    let Some(event) = rest.remove(EVENT_TIME) else {
        return Err(format!(
            "does not say when its facts happened: add TBLPROPERTIES ('{EVENT_TIME}' = '<column>'), and '{KNOWN_AT}' = '<column>' or \
             '{DELAY}' = '<time>' for when they could be known; or '{TIMELESS}' = 'true' and '{KEYS}' = '<columns>' if its values are the \
             same at every instant"
        ));
    };
    let event = time_column(event, rest.remove(EVENT_UNIT), EVENT_UNIT)?;
    let (known, known_unit, delay) = (rest.remove(KNOWN_AT), rest.remove(KNOWN_UNIT), rest.remove(DELAY));
    let known_at = match (known, delay) {
        (Some(column), None) => KnownAt::column(time_column(column, known_unit, KNOWN_UNIT)?),
        (None, Some(delay)) => {
            KnownAt::DelayMicros(parse_span(&delay).map_err(|reason| format!("has `{DELAY}` = `{delay}`, which {reason}"))?)
        }
        (Some(_), Some(_)) => {
            return Err(format!("has both `{KNOWN_AT}` and `{DELAY}`; give only one of them"));
        }
        (None, None) => {
            return Err(format!(
                "does not say when its facts could be known: add '{KNOWN_AT}' = '<column>', or '{DELAY}' = '<time>' after the event \
                 (zero must be written too: '0 seconds')"
            ));
        }
    };
    let mut declared = FactTable::new(event, known_at);
    if let Some(zone) = rest.remove(ZONE) {
        declared = declared.zone(zone.parse().map_err(|e| format!("has `{ZONE}`: {e}"))?);
    }
    for column in columns(rest.remove(KEYS), KEYS)? {
        declared = declared.key(column);
    }
    for column in columns(rest.remove(TIE_BREAK), TIE_BREAK)? {
        declared = declared.tie_break(column);
    }
    for column in columns(rest.remove(IDENTITY), IDENTITY)? {
        declared = declared.identity(column);
    }
    Ok((declared, rest))
}

/// The declaration of a timeless table. Its properties are taken out of `rest`.
fn timeless_table(value: &str, rest: &mut BTreeMap<String, String>) -> Result<FactTable, String> {
    if value != "true" {
        return Err(format!("has `{TIMELESS}` = `{value}`; it must be `true`, or left out"));
    }
    if let Some(key) = rest.keys().find(|key| key.starts_with("asof.") && *key != KEYS && *key != TIMESTAMPS) {
        return Err(format!("has `{TIMELESS}` and `{key}`, which is about times; leave one of them out"));
    }
    let keys = columns(rest.remove(KEYS), KEYS)?;
    if keys.is_empty() {
        return Err(format!("is timeless and does not say of what it has one row each: add '{KEYS}' = '<columns>'"));
    }
    Ok(FactTable::timeless(keys))
}

/// The properties of this declaration, in the order in which they are documented.
pub(super) fn properties_of(declared: &FactTable) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut put = |key: &str, value: String| all.push((key.to_owned(), value));
    let unit = |column: &TimeColumn| {
        column.unit.and_then(|unit| UNITS.iter().find(|(_, known)| *known == unit)).map(|(name, _)| (*name).to_owned())
    };
    match &declared.times {
        None => put(TIMELESS, "true".into()),
        Some(FactTimes { event, known_at }) => {
            put(EVENT_TIME, event.name.clone());
            if let Some(unit) = unit(event) {
                put(EVENT_UNIT, unit);
            }
            match known_at {
                KnownAt::Column(column) => {
                    put(KNOWN_AT, column.name.clone());
                    if let Some(unit) = unit(column) {
                        put(KNOWN_UNIT, unit);
                    }
                }
                KnownAt::DelayMicros(delay) => put(DELAY, shown_span(*delay)),
            }
        }
    }
    if let Some(zone) = declared.zone {
        put(ZONE, zone.to_string());
    }
    for (key, columns) in [(KEYS, &declared.keys), (TIE_BREAK, &declared.tie_break), (IDENTITY, &declared.identity)] {
        if !columns.is_empty() {
            put(key, columns.iter().map(|column| listed(column)).collect::<Vec<_>>().join(", "));
        }
    }
    all
}

fn time_column(name: String, unit: Option<String>, property: &str) -> Result<TimeColumn, String> {
    let Some(unit) = unit else { return Ok(TimeColumn { name, unit: None }) };
    let singular = unit.trim().to_lowercase();
    let singular = singular.strip_suffix('s').unwrap_or(&singular);
    match UNITS.iter().find(|(known, _)| *known == singular) {
        Some((_, unit)) => Ok(TimeColumn::epoch(name, *unit)),
        None => {
            let known: Vec<_> = UNITS.iter().map(|(name, _)| *name).collect();
            Err(format!("has `{property}` = `{unit}`; it must be one of {}", known.join(", ")))
        }
    }
}

/// Names separated by commas. A name with a comma, or with a space at its ends, is in backquotes.
fn columns(list: Option<String>, property: &str) -> Result<Vec<String>, String> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let (mut names, mut rest) = (Vec::new(), list.trim());
    loop {
        let (name, after) = match rest.strip_prefix('`') {
            Some(quoted) => quoted.split_once('`').map(|(name, after)| (name, after.trim_start())),
            None => Some(rest.find(',').map_or((rest, ""), |end| rest.split_at(end))).map(|(name, after)| (name.trim(), after)),
        }
        .ok_or_else(|| format!("has `{property}` = `{list}`, where a backquote is not closed"))?;
        if name.is_empty() {
            return Err(format!("has `{property}` = `{list}`; it must be a list of columns, with commas between them"));
        }
        names.push(name.to_owned());
        match (after.is_empty(), after.strip_prefix(',')) {
            (true, _) => return Ok(names),
            (false, Some(more)) => rest = more.trim_start(),
            (false, None) => return Err(format!("has `{property}` = `{list}`, where a comma is missing before `{after}`")),
        }
    }
}

fn listed(name: &str) -> String {
    if name.contains(',') || name.trim() != name { format!("`{name}`") } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_is_read_as_it_is_written() {
        let delays = [0, 1, 1_500, 1_000_000, 90_000_000, 3_600_000_000, 86_400_000_000, 90_000_000_000];
        for delay in delays {
            let declared = FactTable::new(TimeColumn::epoch("ts", TimeUnit::Millisecond), KnownAt::DelayMicros(delay))
                .key("a,b")
                .key("c d")
                .tie_break("n")
                .identity("id")
                .zone("America/New_York".parse().unwrap());
            let (read, rest) = declaration(&properties_of(&declared)).unwrap();
            assert_eq!((read, rest.len()), (declared, 0));
        }
        let timeless = FactTable::timeless(["a,b", "c"]);
        assert_eq!(declaration(&properties_of(&timeless)).unwrap().0, timeless);
    }

    #[test]
    fn what_contradicts_timeless_is_refused() {
        let told = |properties: &[(&str, &str)]| {
            let properties: Vec<_> = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            declaration(&properties).unwrap_err()
        };
        assert!(told(&[(TIMELESS, "yes"), (KEYS, "k")]).contains("must be `true`"));
        assert!(told(&[(TIMELESS, "true")]).contains("'asof.keys' = '<columns>'"));
        for key in [EVENT_TIME, DELAY, KNOWN_AT, ZONE, IDENTITY, TIE_BREAK] {
            assert!(told(&[(TIMELESS, "true"), (KEYS, "k"), (key, "x")]).contains(key), "{key}");
        }
    }
}
