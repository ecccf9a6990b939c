//! Labels that lie ahead: aggregates over facts that happen after a row's instant, and the next fact's value.
//! Such a label is known only later, and the row enters training only then.

use chrono::TimeDelta;
use serde::Serialize;

use super::{FactsOf, Source};
use crate::{
    temporal::{Aggregate, WindowLength},
    time::{saturating_micros, shown_span},
};

/// A label made of facts that happen at or after a row's instant t, found by key.
///
/// A label over `[t, t + length)` is known once `t + length` has passed and the facts in it are known. The second takes the delay
/// that the table declares, or [`Ahead::settle`] if that is longer. If known-at is a column, a fact may become known at any time, so
/// a window needs `settle`; a materialization is refused without it. A materialization as of T holds the rows with
/// `t + length + wait <= T`, for the longest of several windows, and their labels count the facts that are visible at T, each in the
/// latest of its versions that are visible at T. A row whose key is NULL finds none. A backtest scores a row by the same rule.
///
/// ```
/// use asof::{Aggregate, feature_set::Ahead};
/// use chrono::TimeDelta;
///
/// let failures = Ahead::of("failures").on("machine").window(TimeDelta::days(7), [Aggregate::count().named("failures_7d")]);
/// let next = Ahead::of("readings").on("machine").next("temperature", "next_temperature").settle(TimeDelta::hours(1));
/// ```
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct Ahead {
    pub(crate) table: String,
    pub(crate) on: Vec<(String, String)>,
    /// Length in microseconds, and what is aggregated over it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) windows: Vec<(i64, Vec<Aggregate>)>,
    /// Pairs of a column and a label.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) next: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) settle_us: Option<i64>,
    /// The table of the set, or the view.
    #[serde(skip)]
    pub(crate) facts_of: FactsOf,
}

impl Ahead {
    /// Labels from facts of this table, or of a view of the set ([`RowSetBuilder::view`](super::RowSetBuilder::view)).
    pub fn of(table: &str) -> Self {
        Self {
            table: table.into(),
            on: Vec::new(),
            windows: Vec::new(),
            next: Vec::new(),
            settle_us: None,
            facts_of: FactsOf::Table(0),
        }
    }

    /// Finds facts by this column, which the set's query and the table both have.
    pub fn on(self, column: &str) -> Self {
        self.on_columns(column, column)
    }

    /// Finds facts by a column of the set's query, which the table has under another name.
    pub fn on_columns(mut self, of_rows: &str, of_table: &str) -> Self {
        self.on.push((of_rows.into(), of_table.into()));
        self
    }

    /// Adds aggregates over the facts with an event time in `[t, t + length)`, each as a label. A fact at t itself counts, also the
    /// one that the row was made of.
    pub fn window(mut self, length: TimeDelta, aggregates: impl IntoIterator<Item = Aggregate>) -> Self {
        self.windows.push((saturating_micros(length), aggregates.into_iter().collect()));
        self
    }

    /// Adds the value of `column` in the first fact with an event time after t, as a label. Of several facts with that event time it is
    /// the newest one: the one with the largest known-at, then the largest tie-break columns and then all other columns in the order of
    /// their names; NULL is the smallest. The row waits until such a fact is visible. Its value may be NULL. If a nearer fact becomes
    /// known later, a later materialization has that one. A row with a NULL key has no next fact and waits for ever.
    pub fn next(mut self, column: &str, label: &str) -> Self {
        self.next.push((column.into(), label.into()));
        self
    }

    /// How long after its end a window waits for facts that become known late: at least the delay that the table declares. Labels of
    /// [`Ahead::next`] wait for their fact alone.
    pub fn settle(mut self, delay: TimeDelta) -> Self {
        self.settle_us = Some(saturating_micros(delay));
        self
    }

    /// The names of its labels.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        let windows = self.windows.iter().flat_map(|(_, aggregates)| aggregates.iter().map(Aggregate::output));
        self.next.iter().map(|(_, label)| label.as_str()).chain(windows)
    }

    /// The mistakes that can be found without the table.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let table = &self.table;
        let mut found = Vec::new();
        if self.on.is_empty() {
            found.push(format!("facts of `{table}` ahead are found by no key: name the columns with `on`"));
        }
        if self.labels().next().is_none() {
            found.push(format!("it makes no label from `{table}`: name one with `window` or `next`"));
        }
        for (length, aggregates) in &self.windows {
            if *length <= 0 {
                let labels: Vec<String> = aggregates.iter().map(|a| format!("`{}`", a.output())).collect();
                found.push(format!(
                    "the window of the label {} is {}; it must be longer than zero",
                    labels.join(", "),
                    shown_span(*length)
                ));
            }
        }
        if let Some(delay) = self.settle_us.filter(|delay| *delay < 0) {
            found.push(format!("labels from `{table}` settle after {}; it must be zero or more", shown_span(delay)));
        }
        let past = Source { table: table.clone(), ..Source::of(table) };
        let windows = self.windows.iter().map(|(_, aggregates)| (WindowLength::everything(), aggregates.clone())).collect();
        let keys: Vec<String> = self.on.iter().map(|(column, _)| column.clone()).collect();
        if !self.on.is_empty() {
            found.extend(Source { on: self.on.clone(), lookups: self.next.clone(), windows, ..past }.mistakes(&keys));
        }
        found
    }
}
