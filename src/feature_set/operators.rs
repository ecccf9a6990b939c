//! A source's features as specifications of the temporal operators: one lookup and one window.
//! The same specifications are used for materializations and for training sets, so both give the same bits.

use chrono::TimeDelta;

use super::Source;
use crate::{
    error::Result,
    temporal::{Facts, Lookup, Spine, Window},
    time::Cutoff,
};

/// Adds the features of these sources to a spine: all lookups in one operator, and all windows in another. Each source comes with
/// the facts of its table, the cutoff of its set, and its number if the event time of the looked-up fact is wanted too.
pub(crate) fn lookups_and_windows(spine: Spine, sources: &[(&Source, Facts, Cutoff, Option<usize>)]) -> Result<Spine> {
    let (mut lookups, mut windows) = (Vec::new(), Vec::new());
    for (source, facts, cutoff, number) in sources {
        if !source.lookups.is_empty() {
            lookups.push(source.lookup_in(facts.clone(), &source.on, *number).cutoff(*cutoff));
        }
        if !source.windows.is_empty() {
            windows.push(source.windows_over(facts.clone(), &source.on).cutoff(*cutoff));
        }
    }
    let spine = if lookups.is_empty() { spine } else { spine.lookup(lookups)? };
    if windows.is_empty() { Ok(spine) } else { spine.window(windows) }
}

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
        let event_column = facts.declared().event_column().map(str::to_owned);
        let mut lookup = Lookup::of(facts);
        for (key, column) in on {
            lookup = lookup.on_columns(key, column);
        }
        for (column, output) in &self.lookups {
            lookup = lookup.column_as(column, output);
        }
        let Some(age) = self.max_age_us else { return lookup };
        if let (Some(source), Some(event_column)) = (event_time, event_column) {
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
            window = window.trailing(length.clone(), aggregates.clone());
        }
        window
    }
}
