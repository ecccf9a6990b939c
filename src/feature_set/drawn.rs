//! Features that a set of rows draws from a set of entities, at each row's own instant.
//! A set of entities exists before it is drawn on, so sets cannot draw on each other in a circle.

use super::{EntitySet, FactsOf, FeatureSet, SetBody, Source};

/// Features of a set of entities, found by columns of a set of rows. Made by [`FeatureSet::by`], used by
/// [`RowSetBuilder::features_of`](super::RowSetBuilder::features_of).
///
/// ```
/// use asof::{Aggregate, FeatureSet};
/// use chrono::TimeDelta;
///
/// let demand = FeatureSet::entities("zone_demand_v1", "nyc_taxi")
///     .key("pickup_zone")
///     .lookup("fare_amount", "last_fare")
///     .window(TimeDelta::hours(1), [Aggregate::count().named("trips_1h")])
///     .build()?;
/// // How busy the zone of the destination is, as `dropoff_trips_1h`.
/// let drawn = demand.by(["dropoff_zone"]).only(["trips_1h"]).prefixed("dropoff_");
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Drawn {
    pub(crate) set: FeatureSet,
    /// Columns of the rows, one for each key of the set, in the order of the keys.
    pub(crate) by: Vec<String>,
    only: Option<Vec<String>>,
    prefix: String,
    /// For each source its table or view, among those of the set that draws.
    pub(crate) facts_of_source: Vec<FactsOf>,
}

impl FeatureSet {
    /// The features of this set of entities, found by these columns of a set of rows: one for each key, in the order of the keys.
    pub fn by<C: Into<String>>(&self, columns: impl IntoIterator<Item = C>) -> Drawn {
        Drawn {
            set: self.clone(),
            by: columns.into_iter().map(Into::into).collect(),
            only: None,
            prefix: String::new(),
            facts_of_source: Vec::new(),
        }
    }
}

impl Drawn {
    /// Draws these features only. What is not drawn is not computed.
    pub fn only<F: Into<String>>(mut self, features: impl IntoIterator<Item = F>) -> Self {
        self.only = Some(features.into_iter().map(Into::into).collect());
        self
    }

    /// Puts this before the names of the features, so that a set can be drawn on twice.
    pub fn prefixed(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The set of entities; `None` for a set of rows, which `build` refuses.
    pub(crate) fn entities(&self) -> Option<&EntitySet> {
        match &self.set.body {
            SetBody::Entities(set) => Some(set),
            SetBody::Rows(_) => None,
        }
    }

    /// The features that are drawn, as pairs of their name in the set of entities and their name among the rows' columns.
    pub(crate) fn outputs(&self) -> Vec<(String, String)> {
        let all = self.entities().into_iter().flat_map(EntitySet::outputs);
        all.filter(|name| self.has(name)).map(|name| (name.to_owned(), self.renamed(name))).collect()
    }

    /// The sources of the drawn features: found by columns of the rows, and named as the rows' columns are. With each its position
    /// among the sources of its set.
    pub(crate) fn sources(&self) -> Vec<(usize, Source)> {
        let Some(entities) = self.entities() else { return Vec::new() };
        let column_of = |key: &String| {
            let position = entities.keys.iter().position(|known| known == key);
            position.and_then(|position| self.by.get(position)).unwrap_or(key).clone()
        };
        let drawn = entities.sources.iter().map(|source| Source {
            on: source.on.iter().map(|(key, column)| (column_of(key), column.clone())).collect(),
            lookups: {
                let lookups = source.lookups.iter().filter(|(_, output)| self.has(output));
                lookups.map(|(column, output)| (column.clone(), self.renamed(output))).collect()
            },
            windows: source
                .windows
                .iter()
                .map(|(length, aggregates)| {
                    let drawn = aggregates.iter().filter(|aggregate| self.has(aggregate.output()));
                    (length.clone(), drawn.map(|a| a.clone().named(self.renamed(a.output()))).collect::<Vec<_>>())
                })
                .filter(|(_, aggregates)| !aggregates.is_empty())
                .collect(),
            ..source.clone()
        });
        drawn.enumerate().filter(|(_, source)| source.outputs().next().is_some()).collect()
    }

    /// Whether a value depends on the instant of the request, beyond the materialization.
    pub(crate) fn has_max_age(&self) -> bool {
        self.sources().iter().any(|(_, source)| source.max_age_us.is_some() && !source.lookups.is_empty())
    }

    fn has(&self, feature: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == feature))
    }

    fn renamed(&self, feature: &str) -> String {
        format!("{}{feature}", self.prefix)
    }

    /// As it enters the definition's hash.
    pub(super) fn canonical(&self) -> serde_json::Value {
        serde_json::json!({
            "set": self.set.name, "definition": self.set.fingerprint.id, "by": self.by, "features": self.outputs(),
        })
    }

    /// The mistakes that can be found without any table.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let name = &self.set.name;
        let Some(entities) = self.entities() else {
            return vec![format!("it draws on `{name}`, which is a set of rows; only sets of entities have features by key")];
        };
        let mut found = Vec::new();
        if self.by.len() != entities.keys.len() {
            found.push(format!(
                "it draws on `{name}` by ({}), and that set has the key ({}): name one column for each key, in their order",
                self.by.join(", "),
                entities.keys.join(", ")
            ));
        }
        let known: Vec<&str> = entities.outputs().collect();
        for feature in self.only.iter().flatten().filter(|feature| !known.contains(&feature.as_str())) {
            found.push(format!("it draws `{feature}`, which `{name}` does not have; it has {}", known.join(", ")));
        }
        if self.outputs().is_empty() {
            found.push(format!("it draws no feature of `{name}`"));
        }
        found
    }
}
