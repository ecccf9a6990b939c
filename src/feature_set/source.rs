//! The features that a set of entities takes from one table: keys, lookups and windows.
//! Whether the table has the columns is checked when the set is used.

use chrono::TimeDelta;
use serde::Serialize;

use super::names::NamePattern;
use crate::{
    sql::ExpressionCheck,
    temporal::{Aggregate, Expression, WindowLength},
    time::{saturating_micros, shown_span},
};

/// Features of an entity from one table.
///
/// ```
/// use asof::{Aggregate, FeatureSet, feature_set::Source};
/// use chrono::TimeDelta;
///
/// let set = FeatureSet::entities("flights_v1", "flights")
///     .key("origin")
///     .key("carrier")
///     .also(Source::of("weather").on("origin").lookup("temp", "temp").max_age(TimeDelta::hours(3)))
///     .also(Source::of("flights").on("carrier").window(TimeDelta::days(1), [Aggregate::mean("dep_delay")]))
///     .build()?;
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct Source {
    pub(crate) table: String,
    /// Key columns of the entity and of the table.
    pub(crate) on: Vec<(String, String)>,
    /// Pairs of a column and a feature name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) lookups: Vec<(String, String)>,
    /// Lengths, and what is aggregated over windows of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) windows: Vec<(WindowLength, Vec<Aggregate>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_age_us: Option<i64>,
    /// Says that the table is timeless.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) timeless: bool,
    /// The pattern of names, and what stands before them. Both are used up when the set is built.
    #[serde(skip)]
    pub(super) names: Option<String>,
    #[serde(skip)]
    pub(super) prefix: String,
}

impl Source {
    /// A source in this table, or in a view of the set ([`EntitySetBuilder::view`](super::EntitySetBuilder::view)).
    pub fn of(table: &str) -> Self {
        Self {
            table: table.into(),
            on: Vec::new(),
            lookups: Vec::new(),
            windows: Vec::new(),
            max_age_us: None,
            timeless: false,
            names: None,
            prefix: String::new(),
        }
    }

    /// A source in a timeless table ([`FactTable::timeless`](crate::catalog::FactTable::timeless)): the row of the entity, whatever
    /// the instant. It has lookups and neither windows nor a max age, and finds its rows by all columns of the table's key.
    ///
    /// The values are those of the newest version of the table, also for instants before they were known. A table of facts is refused
    /// here, and a timeless table in [`Source::of`], so that a definition never leaves open which of the two it reads.
    ///
    /// ```
    /// use asof::{Aggregate, FeatureSet, feature_set::Source};
    /// use chrono::TimeDelta;
    ///
    /// let set = FeatureSet::entities("zones_v1", "trips")
    ///     .key("zone")
    ///     .window(TimeDelta::days(1), [Aggregate::count().named("trips_24h")])
    ///     .also(Source::timeless("boroughs").on("zone").lookup("borough", "borough"))
    ///     .build()?;
    /// assert_eq!(set.feature("borough").unwrap().made_of, "borough of boroughs, timeless");
    /// # Ok::<(), asof::Error>(())
    /// ```
    pub fn timeless(table: &str) -> Self {
        Self { timeless: true, ..Self::of(table) }
    }

    /// Finds facts by this key column of the entity, which the table has under the same name.
    pub fn on(self, column: &str) -> Self {
        self.on_columns(column, column)
    }

    /// Finds facts by a key column of the entity, which the table has under another name.
    pub fn on_columns(mut self, key: &str, column: &str) -> Self {
        self.on.push((key.into(), column.into()));
        self
    }

    /// Adds the value of `column` in the newest visible fact, as the feature `output`.
    pub fn lookup(mut self, column: &str, output: &str) -> Self {
        self.lookups.push((column.into(), output.into()));
        self
    }

    /// Adds aggregates over the visible facts with an event time in `[t - length, t)`, or in a span of a zone's calendar that ends
    /// at t, or over the newest facts, or those since the last fact of a kind: see [`WindowLength`].
    pub fn window(mut self, length: impl Into<WindowLength>, aggregates: impl IntoIterator<Item = Aggregate>) -> Self {
        self.windows.push((length.into(), aggregates.into_iter().collect()));
        self
    }

    /// Adds aggregates over everything visible before t.
    pub fn all_before(mut self, aggregates: impl IntoIterator<Item = Aggregate>) -> Self {
        self.windows.push((WindowLength::everything(), aggregates.into_iter().collect()));
        self
    }

    /// Makes looked-up values NULL if their fact happened before t minus this. In training t is the instant of the spine's row,
    /// in serving that of the request: see [`Online::get_at`](crate::online::Online::get_at).
    pub fn max_age(mut self, max_age: TimeDelta) -> Self {
        self.max_age_us = Some(saturating_micros(max_age));
        self
    }

    /// Names the aggregates that have no name ([`Aggregate::named`]) by a pattern, instead of that of the set
    /// ([`EntitySetBuilder::names`](super::EntitySetBuilder::names)).
    ///
    /// | in the pattern | stands for |
    /// |---|---|
    /// | `{aggregate}` | `count`, `sum`, `mean`, `q0.9`, `last_3`, ... |
    /// | `{column}` | the column, or the words of the expression: `fare`, `price_quantity`; for `max_by` and `min_by` those of both, as in `tip_fare`; nothing if facts are counted |
    /// | `{window}` | the length, as a whole number of the largest of `d`, `h`, `m`, `s`, `ms` and `us` that gives one: `30m`, `36h`, `7d`; one day is `24h`, and everything before is `all`; of a condition its words: `since_event_purchase` |
    /// | `{table}` | the table, without its database |
    ///
    /// What stands for nothing is left out together with a `_` beside it: by `{aggregate}_{column}_{window}` a count over a day is
    /// `count_24h`. The names become part of the definition, and the pattern does not.
    ///
    /// ```
    /// use asof::{Aggregate, FeatureSet, feature_set::Source};
    /// use chrono::TimeDelta;
    ///
    /// let (day, week) = (TimeDelta::days(1), TimeDelta::days(7));
    /// let fares = || [Aggregate::count(), Aggregate::sum("fare"), Aggregate::max("fare").named("best_fare")];
    /// let weather = Source::of("weather").on("zone").lookup("temp", "temp").window(day, [Aggregate::mean("rain")]);
    /// let set = FeatureSet::entities("zones_v1", "trips")
    ///     .key("zone")
    ///     .names("{aggregate}_{column}_{window}")
    ///     .window(day, fares())
    ///     .window(week, [Aggregate::sum("fare")])
    ///     .also(weather.prefixed("weather_"))
    ///     .build()?;
    /// assert_eq!(set.features(), [
    ///     "count_24h", "sum_fare_24h", "best_fare", "sum_fare_7d", "weather_temp", "weather_mean_rain_24h",
    /// ]);
    /// # Ok::<(), asof::Error>(())
    /// ```
    pub fn names(mut self, pattern: &str) -> Self {
        self.names = Some(pattern.into());
        self
    }

    /// Puts this before the names of all features of this source, so that a set can have equal features of two sources.
    pub fn prefixed(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The source with its names made, and what is wrong with its own pattern. `names` is the pattern of the set.
    pub(super) fn with_names(mut self, names: Option<&NamePattern>) -> (Self, Option<String>) {
        let (own, prefix) = (self.names.take(), std::mem::take(&mut self.prefix));
        let (own, mistake) = match own.as_deref().map(NamePattern::parse) {
            None => (None, None),
            Some(Ok(pattern)) => (Some(pattern), None),
            Some(Err(mistake)) => (None, Some(mistake)),
        };
        let table = &self.table;
        for (length, aggregates) in &mut self.windows {
            for aggregate in aggregates {
                let made = own.as_ref().or(names).and_then(|pattern| pattern.name(aggregate, table, length));
                let name = format!("{prefix}{}", made.as_deref().unwrap_or_else(|| aggregate.output()));
                if made.is_some() || !prefix.is_empty() {
                    *aggregate = aggregate.clone().named(name);
                }
            }
        }
        self.lookups.iter_mut().for_each(|(_, output)| output.insert_str(0, &prefix));
        let mistake = mistake.map(|mistake| pattern_mistake(&self.table, &mistake));
        (self, mistake)
    }

    /// The names of its features.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = &str> {
        let windows = self.windows.iter().flat_map(|(_, aggregates)| aggregates.iter().map(Aggregate::output));
        self.lookups.iter().map(|(_, output)| output.as_str()).chain(windows)
    }

    /// Each feature with what makes it, for messages.
    pub(super) fn named_outputs(&self) -> impl Iterator<Item = (String, String)> {
        let table = &self.table;
        let lookups =
            self.lookups.iter().map(move |(column, output)| (output.clone(), format!("a lookup of `{column}` in `{table}`")));
        let aggregates = self.windows.iter().flat_map(|(_, aggregates)| aggregates);
        lookups.chain(aggregates.map(move |aggregate| (aggregate.output().to_owned(), format!("an aggregate over `{table}`"))))
    }

    /// The features that are 0 where there is no fact; the others are NULL.
    pub(crate) fn counts(&self) -> impl Iterator<Item = &str> {
        let all = self.windows.iter().flat_map(|(_, aggregates)| aggregates);
        all.filter(|aggregate| aggregate.is_count()).map(Aggregate::output)
    }

    /// The mistakes that can be found without the table. `keys` are those of the set; without any, nothing can be said about the
    /// source's.
    pub(super) fn mistakes(&self, keys: &[String]) -> Vec<String> {
        let table = &self.table;
        let mut found = if keys.is_empty() { Vec::new() } else { self.mistakes_of_keys(keys) };
        if let Some(age) = self.max_age_us.filter(|age| *age < 0) {
            found.push(format!("the max age of `{table}` is {}; it must be zero or more", shown_span(age)));
        }
        if self.timeless && self.max_age_us.is_some() {
            found.push(format!("`{table}` is timeless, and its values have no age: leave the max age out"));
        }
        if self.timeless && !self.windows.is_empty() {
            let features = self.windows.iter().flat_map(|(_, aggregates)| aggregates.iter().map(|a| format!("`{}`", a.output())));
            let features: Vec<String> = features.collect();
            let of = if features.is_empty() { String::new() } else { format!(" of {}", features.join(", ")) };
            found.push(format!("`{table}` is timeless, and no window{of} holds its rows: look up columns"));
        }
        if self.max_age_us.is_some() && self.lookups.is_empty() {
            found.push(format!("the max age of `{table}` applies to lookups, and there is none"));
        }
        found.extend(self.mistakes_of_expressions());
        for (length, aggregates) in &self.windows {
            if let Some(flaw) = length.flaw() {
                let features: Vec<String> = aggregates.iter().map(|aggregate| format!("`{}`", aggregate.output())).collect();
                let of = if features.is_empty() { String::new() } else { format!(", of {},", features.join(", ")) };
                found.push(format!("a window of {length} over `{table}`{of} {flaw}"));
            }
            found.extend(aggregates.iter().filter_map(Aggregate::flaw).map(|flaw| format!("{flaw} (over `{table}`)")));
            for aggregate in aggregates {
                let remedy = |column: &str| format!("write it as `Expression::sql(\"{column}\")`");
                let columns = aggregate.arguments().filter_map(Expression::column);
                found.extend(columns.filter_map(|column| not_a_column(table, aggregate.output(), column, remedy)));
            }
        }
        let remedy = |_: &str| {
            "add such a column to the facts before they are loaded, aggregate the expression (`Expression::sql`), or use a set of \
             rows, whose query is SQL"
                .to_owned()
        };
        found.extend(self.lookups.iter().filter_map(|(column, output)| not_a_column(table, output, column, remedy)));
        found
    }

    /// The mistakes of expressions and conditions that can be found without the columns of the table.
    fn mistakes_of_expressions(&self) -> Vec<String> {
        fn written(aggregate: &Aggregate) -> impl Iterator<Item = (&str, &str)> {
            aggregate.arguments().filter_map(Expression::sql_text).map(|text| (aggregate.output(), text))
        }
        let all = self.windows.iter().flat_map(|(_, aggregates)| aggregates);
        let expressions: Vec<(&str, &str)> = all.flat_map(written).collect();
        let conditions: Vec<&str> = self.windows.iter().filter_map(|(length, _)| length.condition()).collect();
        if expressions.is_empty() && conditions.is_empty() {
            return Vec::new();
        }
        let check = match ExpressionCheck::new() {
            Ok(check) => check,
            Err(error) => return vec![error.to_string()],
        };
        let mistake = |(feature, text): (&str, &str)| {
            let mistake = check.mistake(text)?;
            Some(format!("feature `{feature}` over `{}`: the expression `{text}` {mistake}", self.table))
        };
        let of_condition = |text: &str| {
            let mistake = check.mistake(text)?;
            Some(format!("a window over `{}`: the condition `{text}` {mistake}", self.table))
        };
        let of_conditions = conditions.into_iter().filter_map(of_condition);
        expressions.into_iter().filter_map(mistake).chain(of_conditions).collect()
    }

    fn mistakes_of_keys(&self, keys: &[String]) -> Vec<String> {
        let table = &self.table;
        let mut found = Vec::new();
        if self.on.is_empty() {
            found.push(format!("facts of `{table}` are found by no key: name the columns with `on`"));
        }
        for (key, _) in self.on.iter().filter(|(key, _)| !keys.contains(key)) {
            found.push(format!("facts of `{table}` are found by `{key}`, which is not a key of the set: add it with `key`"));
        }
        for (i, (key, _)) in self.on.iter().enumerate() {
            if self.on[..i].iter().any(|(known, _)| known == key) {
                found.push(format!("facts of `{table}` are found by `{key}` twice: name it once"));
            }
        }
        found
    }
}

/// The mistake of a pattern of names.
pub(super) fn pattern_mistake(table: &str, mistake: &str) -> String {
    format!("the pattern of the names of features of `{table}` cannot be used: {mistake}")
}

/// The mistake of a column name that is clearly an expression: names on both sides of an operator that names rarely contain.
/// `remedy` says what to do.
fn not_a_column(table: &str, feature: &str, column: &str, remedy: impl FnOnce(&str) -> String) -> Option<String> {
    let is_name =
        |text: &str| text.trim().bytes().all(|b| b.is_ascii_alphanumeric() || b"_. ".contains(&b)) && !text.trim().is_empty();
    let (left, right) = ["*", "+", "||"].iter().find_map(|sign| column.split_once(sign))?;
    (is_name(left) && is_name(right)).then(|| {
        let remedy = remedy(column);
        format!("feature `{feature}` over `{table}`: `{column}` is an expression, and a text names a column: {remedy}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_told_from_odd_names() {
        for expression in ["price * quantity", "price*quantity", "a+b", "t.a || t.b", "fare * 1.1"] {
            assert!(not_a_column("t", "f", expression, str::to_owned).is_some(), "{expression}");
        }
        for name in ["price", "Fare (USD)", "km/h", "Start - End", "*", "rating *", "C++", "+1", "a\"b", "x||", "Preis (€) * 2"]
        {
            assert!(not_a_column("t", "f", name, str::to_owned).is_none(), "{name}");
        }
    }
}
