//! A source's features as specifications of the temporal operators: one lookup and one window.
//! The same specifications are used for materializations and for training sets, so both give the same bits.

use chrono::TimeDelta;

use super::Source;
use crate::temporal::{Facts, Lookup, Window};

/// The name of the column that holds the event time of the fact that a source with a max age looked up. Serving compares it
/// with the instant of the request.
pub(crate) fn event_time_column(source: usize) -> String {
    format!("_event_time_{source}")
}

impl Source {
    /// The lookup of this source's columns. `on` pairs key columns of the entity with columns of the facts.
    ///
    /// If `event_time` is the source's number and it has a max age, the fact's event time is looked up too, as
    /// [`event_time_column`].
    pub(crate) fn lookup_in(&self, facts: Facts, on: &[(String, String)], event_time: Option<usize>) -> Lookup {
        let event_column = facts.declared().event_column().to_owned();
        let mut lookup = Lookup::of(facts);
        for (key, column) in on {
            lookup = lookup.on_columns(key, column);
        }
        for (column, output) in &self.lookups {
            lookup = lookup.column_as(column, output);
        }
        let Some(age) = self.max_age_us else { return lookup };
        if let Some(source) = event_time {
            lookup = lookup.column_as(event_column, event_time_column(source));
        }
        lookup.max_age(TimeDelta::microseconds(age))
    }

    /// The windows of this source with their aggregates.
    pub(crate) fn windows_over(&self, facts: Facts, on: &[(String, String)]) -> Window {
        let mut window = Window::of(facts);
        for (key, column) in on {
            window = window.on_columns(key, column);
        }
        for (length, aggregates) in &self.windows {
            window = match length {
                Some(length) => window.trailing(TimeDelta::microseconds(*length), aggregates.clone()),
                None => window.all_before(aggregates.clone()),
            };
        }
        window
    }
}
