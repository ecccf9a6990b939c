//! How the lengths of windows are written: in the names of features, in messages and SQL, and in definitions.
//! What they mean is in `window_length`.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{WindowLength, aggregate::words_of, window_length::Reach};
use crate::time::{CalendarSpan, ClockStep, HoppingSpan, short_span, shown_span};

impl WindowLength {
    /// As the names of features spell it: `all`, `24h`, `this_month`, `3mo`, `10_facts`, `10_facts_30d`, `since_event_purchase`,
    /// `since_event_purchase_30d`, `tumbling_24h`, `hopping_7d_24h`. They leave out the zone.
    pub(crate) fn short(&self) -> String {
        let reach = match self.reach {
            Reach::Everything if self.depends_on_newer_facts() => String::new(),
            Reach::Everything => "all".into(),
            Reach::Micros(length) => short_span(length),
            Reach::Calendar(CalendarSpan::SoFar(period), _) => format!("this_{}", period.name()),
            Reach::Calendar(CalendarSpan::Months(count), _) => format!("{count}mo"),
            Reach::Hopping(HoppingSpan { length, hop }, _) => {
                let short = |step: ClockStep| match step {
                    ClockStep::Micros(micros) => short_span(micros),
                    ClockStep::Months(count) => format!("{count}mo"),
                };
                match length == hop {
                    true => format!("tumbling_{}", short(length)),
                    false => format!("hopping_{}_{}", short(length), short(hop)),
                }
            }
        };
        let since = self.since.as_ref().map(|condition| format!("since_{}", words_of(condition)));
        let newest = self.newest.map(|count| format!("{count}_facts"));
        let parts = since.into_iter().chain(newest).chain((!reach.is_empty()).then_some(reach));
        parts.collect::<Vec<_>>().join("_")
    }

    /// The same without the condition.
    fn without_condition(&self) -> Self {
        Self { since: None, ..self.clone() }
    }
}

/// As [`trailing`](crate::sql::trailing) reads it: `7 days`, `this month in Europe/Berlin`, `3 months in UTC`, `10 facts`,
/// `10 facts within 30 days`, `tumbling 1 day in Europe/Berlin`, `hopping 7 days every 1 day in UTC`, `everything since event = 'purchase'`,
/// `at most 30 days since event = 'purchase'`.
impl fmt::Display for WindowLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(condition) = &self.since {
            return match self.without_condition() {
                Self { reach: Reach::Everything, newest: None, .. } => write!(f, "everything since {condition}"),
                length => write!(f, "at most {length} since {condition}"),
            };
        }
        if let Some(newest) = self.newest {
            write!(f, "{newest} fact{}", if newest == 1 { "" } else { "s" })?;
            match self.reach {
                Reach::Everything => return Ok(()),
                _ => f.write_str(" within ")?,
            }
        }
        match self.reach {
            Reach::Everything => f.write_str("everything before"),
            Reach::Micros(length) => f.write_str(&shown_span(length)),
            Reach::Calendar(CalendarSpan::SoFar(period), zone) => write!(f, "this {} in {zone}", period.name()),
            Reach::Calendar(CalendarSpan::Months(count), zone) => write!(f, "{} in {zone}", shown_months(count)),
            Reach::Hopping(HoppingSpan { length, hop }, zone) => {
                let shown = |step: ClockStep| match step {
                    ClockStep::Micros(micros) => shown_span(micros),
                    ClockStep::Months(count) => shown_months(count),
                };
                match length == hop {
                    true => write!(f, "tumbling {} in {zone}", shown(length)),
                    false => write!(f, "hopping {} every {} in {zone}", shown(length), shown(hop)),
                }
            }
        }
    }
}

fn shown_months(count: u32) -> String {
    format!("{count} month{}", if count == 1 { "" } else { "s" })
}

/// As part of a definition, and so of its fingerprint: microseconds, null for everything, `{"this": "month", "zone": "UTC"}`,
/// `{"months": 3, "zone": "UTC"}`, `{"hopping_us": 604800000000, "every_us": 86400000000, "zone": "UTC"}`,
/// `{"hopping_months": 3, "every_months": 1, "zone": "UTC"}`; with a number of facts `{"facts": 10}` or `{"facts": 10, "within": ...}`; with a condition
/// `{"since": "event = 'purchase'"}` or `{"since": "event = 'purchase'", "within": ...}`.
impl Serialize for WindowLength {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.depends_on_newer_facts() {
            let mut map = serializer.serialize_map(None)?;
            let within = match &self.since {
                Some(condition) => {
                    map.serialize_entry("since", condition)?;
                    self.without_condition()
                }
                None => {
                    map.serialize_entry("facts", &self.newest)?;
                    Self::reaching(self.reach)
                }
            };
            if within != Self::everything() {
                map.serialize_entry("within", &within)?;
            }
            return map.end();
        }
        match self.reach {
            Reach::Everything => serializer.serialize_none(),
            Reach::Micros(length) => serializer.serialize_i64(length),
            Reach::Calendar(span, zone) => {
                let mut map = serializer.serialize_map(Some(2))?;
                match span {
                    CalendarSpan::SoFar(period) => map.serialize_entry("this", period.name())?,
                    CalendarSpan::Months(count) => map.serialize_entry("months", &count)?,
                }
                map.serialize_entry("zone", &zone)?;
                map.end()
            }
            Reach::Hopping(HoppingSpan { length, hop }, zone) => {
                let mut map = serializer.serialize_map(Some(3))?;
                for (name, step) in [("hopping", length), ("every", hop)] {
                    match step {
                        ClockStep::Micros(micros) => map.serialize_entry(&format!("{name}_us"), &micros)?,
                        ClockStep::Months(count) => map.serialize_entry(&format!("{name}_months"), &count)?,
                    }
                }
                map.serialize_entry("zone", &zone)?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;
    use crate::time::{DAY_US, Zone};

    #[test]
    fn a_length_is_declared_and_shown() {
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        let lengths = [
            (WindowLength::from(TimeDelta::days(7)), json!(604_800_000_000_i64), "7 days", "7d"),
            (WindowLength::everything(), json!(null), "everything before", "all"),
            (
                WindowLength::this_month(zone),
                json!({"this": "month", "zone": "Europe/Berlin"}),
                "this month in Europe/Berlin",
                "this_month",
            ),
            (WindowLength::this_week(Zone::UTC), json!({"this": "week", "zone": "UTC"}), "this week in UTC", "this_week"),
            (WindowLength::this_day(Zone::UTC), json!({"this": "day", "zone": "UTC"}), "this day in UTC", "this_day"),
            (WindowLength::months(1, zone), json!({"months": 1, "zone": "Europe/Berlin"}), "1 month in Europe/Berlin", "1mo"),
            (WindowLength::months(12, Zone::UTC), json!({"months": 12, "zone": "UTC"}), "12 months in UTC", "12mo"),
            (WindowLength::facts(1), json!({"facts": 1}), "1 fact", "1_facts"),
            (
                WindowLength::tumbling(TimeDelta::days(1), zone),
                json!({"hopping_us": DAY_US, "every_us": DAY_US, "zone": "Europe/Berlin"}),
                "tumbling 1 day in Europe/Berlin",
                "tumbling_24h",
            ),
            (
                WindowLength::hopping(TimeDelta::days(7), TimeDelta::days(1), Zone::UTC),
                json!({"hopping_us": 7 * DAY_US, "every_us": DAY_US, "zone": "UTC"}),
                "hopping 7 days every 1 day in UTC",
                "hopping_7d_24h",
            ),
            (
                WindowLength::tumbling_months(1, zone),
                json!({"hopping_months": 1, "every_months": 1, "zone": "Europe/Berlin"}),
                "tumbling 1 month in Europe/Berlin",
                "tumbling_1mo",
            ),
            (
                WindowLength::facts_within(5, WindowLength::hopping_months(3, 1, zone)),
                json!({"facts": 5, "within": {"hopping_months": 3, "every_months": 1, "zone": "Europe/Berlin"}}),
                "5 facts within hopping 3 months every 1 month in Europe/Berlin",
                "5_facts_hopping_3mo_1mo",
            ),
            (
                WindowLength::facts_within(10, TimeDelta::days(30)),
                json!({"facts": 10, "within": 2_592_000_000_000_i64}),
                "10 facts within 30 days",
                "10_facts_30d",
            ),
            (
                WindowLength::facts_within(10, WindowLength::facts_within(3, WindowLength::this_day(Zone::UTC))),
                json!({"facts": 3, "within": {"this": "day", "zone": "UTC"}}),
                "3 facts within this day in UTC",
                "3_facts_this_day",
            ),
        ];
        for (length, declared, shown, short) in lengths {
            assert_eq!((json!(length), length.to_string().as_str(), length.flaw()), (declared, shown, None));
            assert_eq!(length.short(), short);
        }
        let bought = "event = 'Purchase'";
        let month = json!({"this": "month", "zone": "UTC"});
        for (length, declared, shown, short) in [
            (
                WindowLength::since(bought),
                json!({"since": bought}),
                "everything since event = 'Purchase'",
                "since_event_purchase",
            ),
            (
                WindowLength::since_within(bought, TimeDelta::days(30)),
                json!({"since": bought, "within": 2_592_000_000_000_i64}),
                "at most 30 days since event = 'Purchase'",
                "since_event_purchase_30d",
            ),
            (
                WindowLength::facts_within(10, WindowLength::since(bought)),
                json!({"since": bought, "within": {"facts": 10}}),
                "at most 10 facts since event = 'Purchase'",
                "since_event_purchase_10_facts",
            ),
            (
                WindowLength::since_within("b", WindowLength::since_within("a", WindowLength::this_month(Zone::UTC))),
                json!({"since": "(a) OR (b)", "within": month}),
                "at most this month in UTC since (a) OR (b)",
                "since_a_or_b_this_month",
            ),
            (
                WindowLength::since_within("a", WindowLength::facts_within(3, WindowLength::this_month(Zone::UTC))),
                json!({"since": "a", "within": {"facts": 3, "within": month}}),
                "at most 3 facts within this month in UTC since a",
                "since_a_3_facts_this_month",
            ),
        ] {
            assert_eq!((json!(length), length.to_string().as_str(), length.flaw()), (declared, shown, None));
            assert_eq!((length.short().as_str(), length.fixed_us()), (short, None));
        }
    }
}
