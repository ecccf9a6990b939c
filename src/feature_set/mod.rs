//! Feature sets: named, versioned definitions of rows or entities and their features.
//! A definition is data and code; its fingerprint shows whether either has changed.

mod ahead;
mod builder;
mod description;
mod difference;
mod drawn;
mod fingerprint;
mod inputs;
mod mistakes;
mod names;
mod operators;
mod source;
mod summary;
mod view;

use std::{fmt, sync::Arc};

pub use ahead::Ahead;
pub use builder::{EntitySetBuilder, RowSetBuilder};
pub use description::Description;
pub(crate) use difference::difference;
pub use difference::{Difference, DifferentPart};
pub use drawn::Drawn;
pub use fingerprint::Fingerprint;
pub(crate) use inputs::{field_of, reads_encoder, select_inputs};
pub(crate) use operators::{event_time_column, lookups_and_windows};
pub use source::Source;
pub use summary::{FeatureSummary, SetKind, SetSummary};
pub(crate) use view::FactsOf;
pub use view::View;

use description::Notes;
use serde_json::Value;

use crate::{
    encoder::{AnyEncoder, AnySelection},
    error::{Error, Result},
    name::{SetName, TableName},
    time::{AsOf, Cutoff, Horizon},
};

/// A named, versioned definition of features.
///
/// There are two kinds. A set of **rows** has one training row per row of a SQL query over facts; its encoders turn
/// rows into features, in training and for requests. A set of **entities** has one row per entity; its features are the
/// newest visible fact of the entity and aggregates over trailing windows, served by key.
///
/// ```
/// use asof::{Aggregate, FeatureSet};
/// use asof::encoder::{Number, OutlierFilter, Sample};
/// use chrono::TimeDelta;
///
/// let taxi = FeatureSet::rows("taxi_v1", "SELECT pickup_at, trip_distance, total_amount FROM nyc_taxi")
///     .table("nyc_taxi")
///     .event_time("pickup_at")
///     .keep(OutlierFilter::between_percentiles(2.0, 98.0).of(["trip_distance", "total_amount"]))
///     .encode(Number::of("trip_distance"))
///     .label("total_amount")
///     .build()?;
///
/// let demand = FeatureSet::entities("zone_demand_v1", "nyc_taxi")
///     .key("pickup_zone")
///     .lookup("fare_amount", "last_fare")
///     .window(TimeDelta::hours(1), [Aggregate::count().named("trips_1h")])
///     .build()?;
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Clone)]
pub struct FeatureSet {
    pub(crate) name: SetName,
    pub(crate) tables: Vec<TableName>,
    pub(crate) cutoff: Cutoff,
    pub(crate) body: SetBody,
    pub(crate) fingerprint: Fingerprint,
    /// What the fingerprint's `declared` is the hash of.
    pub(crate) declared: Arc<Value>,
    /// What it says for people. No value depends on it.
    pub(crate) notes: Arc<Notes>,
}

/// What a set consists of.
#[derive(Clone)]
pub(crate) enum SetBody {
    Rows(RowSet),
    Entities(EntitySet),
}

#[derive(Clone)]
pub(crate) struct RowSet {
    /// The SQL of the rows.
    pub(crate) query: String,
    /// How many of [`FeatureSet::tables`], from the first on, the query reads. The others are drawn on or lie ahead.
    pub(crate) query_tables: usize,
    /// The views of labels ahead, then those of sets that are drawn on.
    pub(crate) views: Vec<View>,
    /// How many of the views, from the first on, are of this definition.
    pub(crate) own_views: usize,
    pub(crate) event_time: String,
    /// The column of the instants at which features are drawn, unless it is the event time.
    pub(crate) at: Option<String>,
    pub(crate) drawn: Vec<Drawn>,
    pub(crate) ahead: Vec<Ahead>,
    /// Columns of the query, then those that lie ahead.
    pub(crate) labels: Vec<String>,
    pub(crate) selections: Vec<Arc<dyn AnySelection>>,
    pub(crate) encoders: Vec<Arc<dyn AnyEncoder>>,
    /// Outputs of encoders that are no features: later encoders read them.
    pub(crate) intermediate: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct EntitySet {
    /// The table or view whose facts say which entities there are.
    pub(crate) table: TableName,
    pub(crate) keys: Vec<String>,
    /// That table first, with all keys; it may have no features of its own.
    pub(crate) sources: Vec<Source>,
    pub(crate) views: Vec<View>,
    /// For each source its table in [`FeatureSet::tables`], or its view.
    pub(crate) facts_of_source: Vec<FactsOf>,
}

impl RowSet {
    /// The column of the instants at which features are drawn and from which labels lie ahead.
    pub(crate) fn at(&self) -> &str {
        self.at.as_ref().unwrap_or(&self.event_time)
    }

    /// The names of the features.
    pub(crate) fn features(&self) -> Vec<String> {
        let outputs = self.encoders.iter().flat_map(|encoder| encoder.spec().outputs);
        outputs.map(|output| output.name().clone()).filter(|name| !self.intermediate.contains(name)).collect()
    }

    /// The names of the columns that are added to those of the query: drawn features, then labels that lie ahead.
    pub(crate) fn added(&self) -> impl Iterator<Item = String> {
        let drawn = self.drawn.iter().flat_map(|drawn| drawn.outputs().into_iter().map(|(_, name)| name));
        drawn.chain(self.ahead.iter().flat_map(|ahead| ahead.labels().map(str::to_owned)))
    }
}

impl EntitySet {
    /// The names of the features, source by source.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().flat_map(Source::outputs)
    }
}

impl FeatureSet {
    /// Begins a set of rows: one training row per row of `query`, which is SQL over fact tables.
    pub fn rows(name: &str, query: &str) -> RowSetBuilder {
        RowSetBuilder::new(name, query)
    }

    /// Begins a set of entities, described by the facts of `table`, which may also be a view of the set
    /// ([`EntitySetBuilder::view`]).
    pub fn entities(name: &str, table: &str) -> EntitySetBuilder {
        EntitySetBuilder::new(name, table)
    }

    /// The name with its version.
    pub fn name(&self) -> &SetName {
        &self.name
    }

    /// The tables it reads, also through views, and the only ones it can.
    pub fn tables(&self) -> &[TableName] {
        &self.tables
    }

    /// The views that its sources read, and those of the sets that it draws on.
    pub fn views(&self) -> &[View] {
        match &self.body {
            SetBody::Rows(rows) => &rows.views,
            SetBody::Entities(entities) => &entities.views,
        }
    }

    /// The sets of entities that it draws on, in the order of its definition. A set that is drawn on twice is there twice.
    pub fn drawn_on(&self) -> impl Iterator<Item = &FeatureSet> {
        let drawn = match &self.body {
            SetBody::Rows(rows) => rows.drawn.as_slice(),
            SetBody::Entities(_) => &[],
        };
        drawn.iter().map(|drawn| &drawn.set)
    }

    /// Whether facts at exactly the as-of are visible.
    pub fn cutoff(&self) -> Cutoff {
        self.cutoff
    }

    /// How far the set sees as of an instant.
    pub(crate) fn horizon(&self, as_of: AsOf) -> Horizon {
        Horizon::new(as_of, self.cutoff)
    }

    /// The hash of the definition and of what its code does to fixed inputs.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Who answers for it, as its definition says.
    pub fn owner(&self) -> Option<&str> {
        self.notes.owner.as_deref()
    }

    /// What it is for, as its definition says.
    pub fn description(&self) -> Option<&str> {
        self.notes.text.as_deref()
    }

    /// What one of its features or labels is made of and what its definition says about it; `None` if it has no such column.
    pub fn feature(&self, name: &str) -> Option<FeatureSummary> {
        let SetSummary { features, labels, .. } = self.describe();
        features.into_iter().chain(labels).find(|feature| feature.name == name)
    }

    /// All that the definition says, as a value that prints as text: owner, tables, query or key, and each feature with its
    /// description.
    pub fn describe(&self) -> SetSummary {
        SetSummary::of(self)
    }

    /// What must change in this definition to make it `other`. Names and descriptions do not count.
    ///
    /// ```
    /// # use asof::FeatureSet;
    /// # let zones = |name: &str| FeatureSet::entities(name, "nyc_taxi").key("pickup_zone");
    /// let v1 = zones("zones_v1").lookup("fare_amount", "last_fare").build()?;
    /// let v2 = zones("zones_v2").lookup("fare_amount", "last_fare").lookup("tip_amount", "last_tip").build()?;
    /// let difference = v1.diff(&v2);
    /// assert_eq!(difference.added, ["last_tip"]);
    /// println!("{difference}");
    /// # Ok::<(), asof::Error>(())
    /// ```
    pub fn diff(&self, other: &FeatureSet) -> Difference {
        Difference::between(self, other)
    }

    /// Refuses this definition when another one holds its name. `remedy` is appended to the error as an alternative.
    pub(crate) fn check_same(&self, known: &Fingerprint, declared: &Value, remedy: &str) -> Result<()> {
        if *known == self.fingerprint {
            return Ok(());
        }
        let next = format!("{}_v{}", self.name.stem(), u64::from(self.name.version()) + 1);
        let reason = match difference(declared, &self.declared) {
            Some(parts) => format!(
                "has another definition already, and a published version never changes: {parts}; name this one as the next version, \
                 `{next}`{remedy}"
            ),
            None => format!(
                "has other code already under the same revisions: on fixed inputs the two yield different values; raise the revision \
                 of the encoder that was changed, and name the set as its next version, `{next}`{remedy}"
            ),
        };
        Err(Error::AlreadyExists { subject: format!("feature set `{}`", self.name), reason })
    }

    /// The names of the features, in the order of the columns.
    pub fn features(&self) -> Vec<String> {
        match &self.body {
            SetBody::Rows(rows) => rows.features(),
            SetBody::Entities(set) => set.outputs().map(str::to_owned).collect(),
        }
    }
}

impl fmt::Debug for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FeatureSet({}, fingerprint={})", self.name, self.fingerprint.id)
    }
}
