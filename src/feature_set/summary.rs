//! A definition as people read it: owner, tables, query or key, and each feature with what it is made of and its description.
//! Everything here is told by the definition; no table is looked at.

use std::fmt;

use serde::Serialize;

use super::{Ahead, Description, Drawn, EntitySet, FeatureSet, RowSet, SetBody, Source, View};
use crate::{
    encoder::Spec,
    name::{SetName, TableName},
    temporal::Aggregate,
    text_table::{lines, on_one_line},
    time::{Cutoff, shown_span},
};

/// What a definition says; see [`FeatureSet::describe`]. It prints as text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SetSummary {
    /// The name with its version.
    pub name: SetName,
    /// Who answers for it.
    pub owner: Option<String>,
    /// What it is for.
    pub text: Option<String>,
    /// What its rows are.
    pub kind: SetKind,
    /// The tables that it reads, also through views.
    pub tables: Vec<TableName>,
    /// The views that it reads, and those of the sets that it draws on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<View>,
    /// Whether facts at exactly the as-of are visible.
    pub cutoff: Cutoff,
    /// Its features, in the order of the columns.
    pub features: Vec<FeatureSummary>,
    /// Its labels, in the order of the columns.
    pub labels: Vec<FeatureSummary>,
}

/// What the rows of a set are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SetKind {
    /// The rows of a query.
    #[non_exhaustive]
    Rows {
        /// The SQL.
        query: String,
        /// The column that holds the event time of each row.
        event_time: String,
        /// The column of the instants at which features are drawn, if it is not the event time.
        at: Option<String>,
        /// What is drawn from sets of entities: the set, the columns it is found by, and the columns that are added.
        drawn: Vec<String>,
        /// The row selections, in their order: name and columns.
        selections: Vec<String>,
        /// Outputs of encoders that are no features, with what each is made of.
        intermediate: Vec<String>,
    },
    /// One row per entity.
    #[non_exhaustive]
    Entities {
        /// The table or view whose facts say which entities there are.
        table: TableName,
        /// The columns of the key.
        keys: Vec<String>,
    },
}

/// A feature or label of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FeatureSummary {
    /// The name of the column.
    pub name: String,
    /// What it is made of: an encoder with its columns, a lookup, or an aggregate over a window.
    pub made_of: String,
    /// What the definition says about it; empty if it says nothing.
    pub description: Description,
}

impl SetSummary {
    pub(super) fn of(set: &FeatureSet) -> Self {
        let (kind, features, labels) = match &set.body {
            SetBody::Rows(rows) => of_rows(rows),
            SetBody::Entities(entities) => of_entities(entities),
        };
        let described = |columns: Vec<(String, String)>| -> Vec<FeatureSummary> {
            let column = |(name, made_of): (String, String)| {
                let description = set.notes.of(&name).cloned().unwrap_or_default();
                FeatureSummary { name, made_of, description }
            };
            columns.into_iter().map(column).collect()
        };
        Self {
            name: set.name.clone(),
            owner: set.notes.owner.clone(),
            text: set.notes.text.clone(),
            kind,
            tables: set.tables.clone(),
            views: set.views().to_vec(),
            cutoff: set.cutoff,
            features: described(features),
            labels: described(labels),
        }
    }
}

/// Columns as pairs of a name and of what it is made of.
type Columns = Vec<(String, String)>;

fn of_rows(set: &RowSet) -> (SetKind, Columns, Columns) {
    let outputs = set.encoders.iter().flat_map(|encoder| {
        let spec = encoder.spec();
        let made_of = format!("{}{}", call(&spec), if encoder.is_fitted() { ", fitted" } else { "" });
        spec.outputs.into_iter().map(move |output| (output.name().clone(), made_of.clone()))
    });
    let (intermediate, features): (Columns, Columns) = outputs.partition(|(name, _)| set.intermediate.contains(name));
    let is_ahead = |label: &String| set.ahead.iter().any(|ahead| ahead.labels().any(|name| name == label));
    let of_query = set.labels.iter().filter(|label| !is_ahead(label));
    let mut labels: Columns = of_query.map(|label| (label.clone(), "a column of the query".to_owned())).collect();
    labels.extend(set.ahead.iter().flat_map(ahead));
    let kind = SetKind::Rows {
        query: set.query.clone(),
        event_time: set.event_time.clone(),
        at: set.at.clone(),
        drawn: set.drawn.iter().map(drawn).collect(),
        selections: set.selections.iter().map(|selection| call(&selection.spec())).collect(),
        intermediate: intermediate.into_iter().map(|(name, made_of)| format!("{name}: {made_of}")).collect(),
    };
    (kind, features, labels)
}

/// A step and the columns that it reads: `ratio(tip_amount, fare_amount)`.
fn call(spec: &Spec) -> String {
    let columns: Vec<&str> = spec.inputs.iter().map(|input| input.name().as_str()).collect();
    format!("{}({})", spec.name, columns.join(", "))
}

fn of_entities(set: &EntitySet) -> (SetKind, Columns, Columns) {
    let features = set.sources.iter().flat_map(|source| of_source(source, &set.keys)).collect();
    (SetKind::Entities { table: set.table.clone(), keys: set.keys.clone() }, features, Vec::new())
}

fn of_source(source: &Source, keys: &[String]) -> Columns {
    let by = by_keys(source, keys);
    let table = &source.table;
    let age = source.max_age_us.map_or_else(String::new, |age| format!(", at most {} old", shown_span(age)));
    let mut columns: Columns = Vec::new();
    for (column, output) in &source.lookups {
        let made_of = match source.timeless {
            true => format!("{column} of {table}{by}, timeless"),
            false => format!("newest {column} of {table}{by}{age}"),
        };
        columns.push((output.clone(), made_of));
    }
    for (length, aggregates) in &source.windows {
        for aggregate in aggregates {
            let condition = aggregate.condition().map_or_else(String::new, |filter| format!(" where {}", on_one_line(filter)));
            let length = on_one_line(&length.to_string());
            let made_of = format!("{} of {table}{by} over {length}{condition}", aggregate_call(aggregate));
            columns.push((aggregate.output().to_owned(), made_of));
        }
    }
    columns
}

/// The keys by which a source finds its facts, unless they are all keys of the set under their own names.
fn by_keys(source: &Source, keys: &[String]) -> String {
    let is_plain = source.on.len() == keys.len() && source.on.iter().all(|(key, column)| key == column);
    if is_plain {
        return String::new();
    }
    let pair = |(key, column): &(String, String)| if key == column { key.clone() } else { format!("{key} = {column}") };
    format!(" by {}", source.on.iter().map(pair).collect::<Vec<_>>().join(", "))
}

/// An aggregate with its arguments: `quantile(fare_amount, 0.9)`.
fn aggregate_call(aggregate: &Aggregate) -> String {
    // The name and the parameter, as they are part of the fingerprint.
    let kind = serde_json::to_value(aggregate.kind()).unwrap_or_default();
    let (name, parameter) = match &kind {
        serde_json::Value::Object(one) => {
            one.iter().next().map_or_else(Default::default, |(name, value)| (name.clone(), format!(", {value}")))
        }
        other => (other.as_str().unwrap_or_default().to_owned(), String::new()),
    };
    let arguments: Vec<String> = aggregate.arguments().map(|argument| on_one_line(argument.text())).collect();
    let arguments = if arguments.is_empty() { "*".to_owned() } else { arguments.join(", ") };
    format!("{name}({arguments}{parameter})")
}

fn drawn(drawn: &Drawn) -> String {
    let columns: Vec<String> = drawn.outputs().into_iter().map(|(_, column)| column).collect();
    // Which column stands for which key, unless they are called the same.
    let keys = drawn.entities().map(|entities| entities.keys.clone()).unwrap_or_default();
    let pair = |(key, column): (&String, &String)| if key == column { key.clone() } else { format!("{key} = {column}") };
    let by: Vec<String> = keys.iter().zip(&drawn.by).map(pair).collect();
    format!("{} by {}: {}", drawn.set.name, by.join(", "), columns.join(", "))
}

/// The labels that lie ahead in a table, with what each is made of.
fn ahead(ahead: &Ahead) -> Columns {
    let table = &ahead.table;
    let next = ahead.next.iter().map(|(column, label)| (label.clone(), format!("the next {column} in {table}")));
    let windows = ahead.windows.iter().flat_map(|(length, aggregates)| {
        let span = shown_span(*length);
        aggregates.iter().map(move |a| (a.output().to_owned(), format!("{} over the next {span} of {table}", aggregate_call(a))))
    });
    next.chain(windows).collect()
}

impl fmt::Display for SetSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            SetKind::Rows { .. } => "a set of rows",
            SetKind::Entities { .. } => "a set of entities",
        };
        writeln!(f, "{}: {kind}", self.name)?;
        let mut head: Vec<Vec<String>> = Vec::new();
        let mut line = |name: &str, value: String| head.push(vec![format!("  {name}"), value]);
        if let Some(owner) = &self.owner {
            line("owner", on_one_line(owner));
        }
        if let Some(text) = &self.text {
            line("description", on_one_line(text));
        }
        line("tables", self.tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        match self.cutoff {
            Cutoff::Exclusive => line("sees", "facts before the as-of".into()),
            Cutoff::Inclusive => line("sees", "facts before the as-of, and at it".into()),
        }
        match &self.kind {
            SetKind::Rows { event_time, at, drawn, selections, intermediate, .. } => {
                line("event time", event_time.clone());
                if let Some(at) = at {
                    line("instant", at.clone());
                }
                for drawn in drawn {
                    line("draws on", drawn.clone());
                }
                for selection in selections {
                    line("keeps rows by", selection.clone());
                }
                for output in intermediate {
                    line("computes", output.clone());
                }
            }
            SetKind::Entities { table, keys } => line("key", format!("{} of {table}", keys.join(", "))),
        }
        lines(&head, 2).iter().try_for_each(|line| writeln!(f, "{line}"))?;
        if let SetKind::Rows { query, .. } = &self.kind {
            writeln!(f, "  query")?;
            query.lines().try_for_each(|line| writeln!(f, "{}", format!("    {line}").trim_end()))?;
        }
        for view in &self.views {
            writeln!(f, "  view {}", view.shown())?;
            view.query().lines().try_for_each(|line| writeln!(f, "{}", format!("    {line}").trim_end()))?;
        }
        write_columns(f, "features", &self.features)?;
        write_columns(f, "labels", &self.labels)
    }
}

/// A line per column: name, unit, what it is made of, text, tags.
fn write_columns(f: &mut fmt::Formatter<'_>, title: &str, columns: &[FeatureSummary]) -> fmt::Result {
    if columns.is_empty() {
        return Ok(());
    }
    writeln!(f, "  {title}")?;
    let row = |column: &FeatureSummary| {
        let Description { unit, text, tags } = &column.description;
        let one_line = |text: &Option<String>| text.as_deref().map(on_one_line).unwrap_or_default();
        let tags = tags.iter().map(|tag| format!("[{}]", on_one_line(tag))).collect::<Vec<_>>().join(" ");
        vec![format!("    {}", column.name), one_line(unit), column.made_of.clone(), one_line(text), tags]
    };
    let mut rows: Vec<Vec<String>> = columns.iter().map(row).collect();
    // A column of the table that is empty throughout is left out.
    for i in (0..5).rev() {
        if rows.iter().all(|row| row[i].is_empty()) {
            rows.iter_mut().for_each(|row| drop(row.remove(i)));
        }
    }
    lines(&rows, 5).iter().try_for_each(|line| writeln!(f, "{line}"))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::temporal::Expression;

    #[test]
    fn a_set_of_entities_is_described_line_by_line() {
        let weather = Source::of("weather").on_columns("zone", "area").lookup("temp", "temp").max_age(TimeDelta::hours(3));
        let aggregates = [
            Aggregate::count().named("trips").filter("payment = 2"),
            Aggregate::quantile("fare", 0.9).named("q"),
            Aggregate::last_k("fare", 3).named("last"),
            Aggregate::max_by("tip", "fare").named("tip"),
            Aggregate::max_by("tip", Expression::sql("fare /\n  miles")).named("top"),
            Aggregate::quantile(Expression::sql("fare /\n  miles"), 0.5).named("rate"),
        ];
        let set = FeatureSet::entities("zones_v1", "trips")
            .owner("lab")
            .description("How busy\n  a zone is")
            .key("zone")
            .window(TimeDelta::hours(1), aggregates)
            .all_before([Aggregate::mean("fare").named("mean")])
            .also(weather)
            .describe("trips", Description::new().unit("trips").text("Paid in cash").tag("demand").tag("cash"))
            .describe("temp", Description::new().unit("°C"))
            .build()
            .unwrap();
        let expected = "\
zones_v1: a set of entities
  owner        lab
  description  How busy a zone is
  tables       trips, weather
  sees         facts before the as-of
  key          zone of trips
  features
    trips  trips  count(*) of trips over 1 hour where payment = 2             Paid in cash  [demand] [cash]
    q             quantile(fare, 0.9) of trips over 1 hour
    last          last_k(fare, 3) of trips over 1 hour
    tip           max_by(tip, fare) of trips over 1 hour
    top           max_by(tip, fare / miles) of trips over 1 hour
    rate          quantile(fare / miles, 0.5) of trips over 1 hour
    mean          mean(fare) of trips over everything before
    temp   °C     newest temp of weather by zone = area, at most 3 hours old
";
        assert_eq!(set.describe().to_string(), expected);
        assert_eq!((set.owner(), set.description()), (Some("lab"), Some("How busy\n  a zone is")));
        assert_eq!(set.feature("temp").unwrap().description.unit.as_deref(), Some("°C"));
        assert_eq!(set.feature("fare"), None);
    }

    #[test]
    fn columns_without_any_description_have_no_empty_columns() {
        let set = FeatureSet::entities("zones_v1", "trips").key("zone").inclusive().lookup("fare", "last_fare").build().unwrap();
        let told = set.describe().to_string();
        assert!(told.ends_with("  features\n    last_fare  newest fare of trips\n"), "{told}");
        assert!(told.contains("  sees    facts before the as-of, and at it\n"), "{told}");
        assert_eq!(serde_json::to_value(set.describe()).unwrap()["kind"]["entities"]["keys"][0], "zone");
    }
}
