//! Builders of feature sets, which check everything in `build`.
//! Whether tables and columns exist is checked when the set is used.

use std::sync::Arc;

use chrono::TimeDelta;

use super::{
    Ahead, Description, Drawn, EntitySet, FactsOf, FeatureSet, Fingerprint, RowSet, SetBody, Source, View,
    description::Notes,
    fingerprint::behaviour,
    mistakes::Mistakes,
    names::NamePattern,
    reads_encoder,
    source::pattern_mistake,
    view::{self, TablesAndViews},
};
use crate::{
    encoder::{Encoder, FittedEncoder, RowSelection, Spec, fitted, pure, selection},
    error::Result,
    name::{ContentId, SetName, TableName},
    temporal::{Aggregate, WindowLength},
    time::Cutoff,
};

/// Builds a set of rows; see [`FeatureSet::rows`].
#[must_use]
pub struct RowSetBuilder {
    name: String,
    tables: Vec<String>,
    cutoff: Cutoff,
    event_time: Option<String>,
    set: RowSet,
    notes: Notes,
}

impl RowSetBuilder {
    pub(super) fn new(name: &str, query: &str) -> Self {
        let set = RowSet {
            query: query.trim().into(),
            query_tables: 0,
            views: Vec::new(),
            own_views: 0,
            event_time: String::new(),
            at: None,
            drawn: Vec::new(),
            ahead: Vec::new(),
            labels: Vec::new(),
            selections: Vec::new(),
            encoders: Vec::new(),
            intermediate: Vec::new(),
        };
        let (name, notes) = (name.into(), Notes::default());
        Self { name, tables: Vec::new(), cutoff: Cutoff::default(), event_time: None, set, notes }
    }

    /// Declares a fact table that the query reads. It can read no other.
    pub fn table(mut self, name: &str) -> Self {
        self.tables.push(name.into());
        self
    }

    /// The query's column that holds the event time of each row: a timestamp with a zone.
    pub fn event_time(mut self, column: &str) -> Self {
        self.event_time = Some(column.into());
        self
    }

    /// Adds features of a set of entities as columns of each row, as they were at the row's own instant: its event time, or the
    /// column that [`RowSetBuilder::at`] names. Encoders and row selections read them like columns of the query. To make them
    /// features of this set, encode them: [`RowSetBuilder::pass`] passes columns on as they are.
    ///
    /// In training the temporal operators compute them for each row. A request has the columns that the set is drawn by, and gets
    /// the values of the newest materialization of the set of entities.
    ///
    /// Each row of the query must be a row of one fact table: one that is made of several facts could hold its own future.
    pub fn features_of(mut self, drawn: Drawn) -> Self {
        self.set.drawn.push(drawn);
        self
    }

    /// The query's column of the instants at which features are drawn and from which labels lie ahead: a timestamp with a zone. It
    /// is the event time unless it is given.
    ///
    /// A row whose instant lies after it was known is refused when the set is used, since its own label could be among its features. If
    /// a set that is drawn on is inclusive, a row that was known at exactly its instant is refused, too.
    pub fn at(mut self, column: &str) -> Self {
        self.set.at = Some(column.into());
        self
    }

    /// Adds a view, which labels ahead name as they name a table. The set's own query does not read it: write the SQL of the view
    /// into the query, as a common table expression.
    ///
    /// ```
    /// # use asof::FeatureSet;
    /// use asof::{Aggregate, encoder::Number, feature_set::{Ahead, View}};
    /// use chrono::TimeDelta;
    ///
    /// let orders = FeatureSet::rows("orders_v1", "SELECT ordered_at, shop, price FROM orders")
    ///     .table("orders")
    ///     .event_time("ordered_at")
    ///     .encode(Number::of("price"))
    ///     .view(View::sql("broken", "SELECT returned_at, shop FROM returns WHERE reason = 'broken'"))
    ///     .label_ahead(Ahead::of("broken").on("shop").window(TimeDelta::days(7), [Aggregate::count().named("broken_7d")]))
    ///     .build()?;
    /// assert_eq!(orders.views()[0].name(), "broken");
    /// # Ok::<(), asof::Error>(())
    /// ```
    pub fn view(mut self, view: View) -> Self {
        self.set.views.push(view);
        self
    }

    /// Adds labels made of facts that happen after a row's instant.
    pub fn label_ahead(mut self, ahead: Ahead) -> Self {
        self.set.ahead.push(ahead);
        self
    }

    /// Passes numeric columns on as features under their own names, each as [`Number`](crate::encoder::Number) does.
    pub fn pass<C: Into<String>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        columns.into_iter().fold(self, |set, column| set.encode(crate::encoder::Number::of(column)))
    }

    /// Adds a row selection. Selections apply to training rows in the order in which they are added, and each is fitted on the rows
    /// that those before it kept.
    pub fn keep<S: RowSelection + 'static>(mut self, step: S) -> Self {
        self.set.selections.push(selection(step));
        self
    }

    /// Adds a pure encoder. It reads columns of the query, drawn features, and outputs of the encoders before it.
    pub fn encode<E: Encoder + 'static>(mut self, encoder: E) -> Self {
        self.set.encoders.push(pure(encoder));
        self
    }

    /// Adds an encoder that is fitted at the as-of. It reads what a pure encoder reads.
    pub fn encode_fitted<E: FittedEncoder + 'static>(mut self, encoder: E) -> Self {
        self.set.encoders.push(fitted(encoder));
        self
    }

    /// Makes outputs of encoders no features: they are there for the encoders after them, and neither kept nor served.
    ///
    /// ```
    /// # use asof::FeatureSet;
    /// use asof::encoder::{Pca, Standardize};
    /// let set = FeatureSet::rows("parts_v1", "SELECT made_at, length, width, failed FROM parts")
    ///     .table("parts")
    ///     .event_time("made_at")
    ///     .encode_fitted(Standardize::of("length"))
    ///     .encode_fitted(Standardize::of("width"))
    ///     .encode_fitted(Pca::of(["length_std", "width_std"], 1).named("size"))
    ///     .intermediate(["length_std", "width_std"])
    ///     .label("failed")
    ///     .build()?;
    /// assert_eq!(set.features(), ["size_1"]);
    /// # Ok::<(), asof::Error>(())
    /// ```
    pub fn intermediate<N: Into<String>>(mut self, outputs: impl IntoIterator<Item = N>) -> Self {
        self.set.intermediate.extend(outputs.into_iter().map(Into::into));
        self
    }

    /// Adds a column of the query as a label. It is kept beside the features, and requests do not need it.
    pub fn label(mut self, column: &str) -> Self {
        self.set.labels.push(column.into());
        self
    }

    /// Makes facts at exactly the as-of visible too. Without it the rule is exclusive.
    pub fn inclusive(mut self) -> Self {
        self.cutoff = Cutoff::Inclusive;
        self
    }

    /// Who answers for the set: a person or a team. It is not part of the fingerprint.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.notes.owner = Some(owner.into());
        self
    }

    /// What the set is for. It is not part of the fingerprint.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.notes.text = Some(text.into());
        self
    }

    /// Describes a feature or label by its name: unit, text, tags. Descriptions are not part of the fingerprint: another text makes
    /// no new version.
    ///
    /// ```
    /// # use asof::FeatureSet;
    /// use asof::{encoder::Number, feature_set::Description};
    /// let taxi = FeatureSet::rows("taxi_v1", "SELECT pickup_at, trip_distance, total_amount FROM nyc_taxi")
    ///     .owner("pricing")
    ///     .table("nyc_taxi")
    ///     .event_time("pickup_at")
    ///     .encode(Number::of("trip_distance"))
    ///     .describe("trip_distance", Description::new().unit("miles").text("By the taximeter").tag("geo"))
    ///     .label("total_amount")
    ///     .describe("total_amount", Description::new().unit("USD"))
    ///     .build()?;
    /// println!("{}", taxi.describe());
    /// # Ok::<(), asof::Error>(())
    /// ```
    pub fn describe(mut self, feature: impl Into<String>, description: Description) -> Self {
        self.notes.columns.push((feature.into(), description));
        self
    }

    /// Checks the definition and takes its fingerprint, for which every encoder runs once on fixed inputs. All mistakes are reported
    /// at once.
    ///
    /// # Errors
    /// [`Error::InvalidName`](crate::Error::InvalidName) for the set's or a table's name,
    /// [`Error::Definition`](crate::Error::Definition) when something is missing, named twice, or described and not there,
    /// [`Error::Step`](crate::Error::Step) when an encoder or row selection fails on the fixed inputs, and
    /// [`Error::Mistakes`](crate::Error::Mistakes) when there are several of these.
    pub fn build(self) -> Result<FeatureSet> {
        let mut set = self.set;
        let ahead_in = set.ahead.iter().map(|ahead| &ahead.table);
        let mut mistakes = Mistakes::of(&self.name, self.tables.iter().chain(ahead_in));
        if set.query.is_empty() {
            mistakes.add("it has no query: give the SQL that yields its rows");
        }
        if self.event_time.is_none() {
            mistakes.add("it has no event time: name the column with `event_time`");
        }
        if self.tables.is_empty() {
            mistakes.add("it declares no table: name those that the query reads with `table`");
        }
        if set.encoders.is_empty() {
            mistakes.add("it has no feature: add an encoder");
        }
        let ahead_in: Vec<(&str, bool)> = set.ahead.iter().map(|ahead| (ahead.table.as_str(), false)).collect();
        let (of_views, reasons) = view::mistakes(&set.views, &ahead_in);
        mistakes.steps(of_views.into_iter().map(|e| e.in_place(&format!("feature set `{}`", self.name))).collect());
        mistakes.extend(reasons);
        for view in set.views.iter().filter(|view| self.tables.iter().any(|table| table == view.name())) {
            mistakes.add(format!(
                "it declares its view `{0}` as a table of its query: write the SQL of the view into the query, as \
                 `WITH {0} AS (...)`, and declare the tables that it reads",
                view.name()
            ));
        }
        mistakes.extend(set.drawn.iter().flat_map(Drawn::mistakes));
        mistakes.extend(set.ahead.iter().flat_map(Ahead::mistakes));
        let ahead = set.ahead.iter().flat_map(|ahead| ahead.labels().map(str::to_owned));
        set.labels.extend(ahead.collect::<Vec<_>>());
        mistakes.named_twice(set.added().map(|column| (column, "drawn or ahead".to_owned())));
        let specs: Vec<Spec> = set.encoders.iter().map(|encoder| encoder.spec()).collect();
        mistakes.extend(reads_labels(&specs, &set.labels));
        mistakes.extend(not_intermediate(&specs, &set.intermediate));
        let mut columns: Vec<(String, String)> = Vec::new();
        for spec in &specs {
            columns.extend(spec.outputs.iter().map(|output| (output.name().clone(), format!("a feature of `{}`", spec.name))));
        }
        columns.extend(set.labels.iter().map(|label| (label.clone(), "a label".to_owned())));
        let described = columns.iter().map(|(name, _)| name).filter(|name| !set.intermediate.contains(name));
        let described: Vec<String> = described.cloned().collect();
        mistakes.extend(self.notes.mistakes(&described));
        columns.extend(self.event_time.iter().map(|column| (column.clone(), "the event time".to_owned())));
        mistakes.named_twice(columns);
        set.event_time = self.event_time.unwrap_or_default();
        let mut body = SetBody::Rows(set);
        let (behaviour, failed) = behaviour(mistakes.set(), &body);
        mistakes.steps(failed);
        mistakes.refuse()?;
        let (name, mut tables) = names(&self.name, &self.tables)?;
        if let SetBody::Rows(set) = &mut body {
            tables = add_tables(tables, set)?;
        }
        finished(name, tables, self.cutoff, body, self.notes, behaviour)
    }
}

/// Builds a set of entities; see [`FeatureSet::entities`].
#[derive(Debug)]
#[must_use]
pub struct EntitySetBuilder {
    name: String,
    table: String,
    cutoff: Cutoff,
    keys: Vec<String>,
    own: Source,
    others: Vec<Source>,
    views: Vec<View>,
    names: Option<String>,
    notes: Notes,
}

impl EntitySetBuilder {
    pub(super) fn new(name: &str, table: &str) -> Self {
        let own = Source::of(table);
        let (keys, others, views, notes) = (Vec::new(), Vec::new(), Vec::new(), Notes::default());
        Self { name: name.into(), table: table.into(), cutoff: Cutoff::default(), keys, own, others, views, names: None, notes }
    }

    /// Adds a column to the entity's key.
    pub fn key(mut self, column: &str) -> Self {
        self.keys.push(column.into());
        self
    }

    /// Adds the value of `column` in the entity's newest visible fact, as the feature `output`.
    ///
    /// All looked-up columns of a table come from the same fact.
    pub fn lookup(mut self, column: &str, output: &str) -> Self {
        self.own = self.own.lookup(column, output);
        self
    }

    /// Adds aggregates over the visible facts with an event time in `[t - length, t)`, or in a span of a zone's calendar that ends
    /// at t, or over the newest facts, or those since the last fact of a kind: see [`WindowLength`].
    pub fn window(mut self, length: impl Into<WindowLength>, aggregates: impl IntoIterator<Item = Aggregate>) -> Self {
        self.own = self.own.window(length, aggregates);
        self
    }

    /// Adds aggregates over everything visible before t.
    pub fn all_before(mut self, aggregates: impl IntoIterator<Item = Aggregate>) -> Self {
        self.own = self.own.all_before(aggregates);
        self
    }

    /// Makes looked-up values NULL if their fact is older than this; see [`Source::max_age`].
    pub fn max_age(mut self, max_age: TimeDelta) -> Self {
        self.own = self.own.max_age(max_age);
        self
    }

    /// Adds a view: a SQL query over facts that sources name as they name a table. A name of a source is that of a view of the
    /// set if there is one, and else that of a table. See [`View`] for what the query may be.
    ///
    /// ```
    /// # use asof::FeatureSet;
    /// use asof::{Aggregate, feature_set::{Source, View}};
    /// use chrono::TimeDelta;
    ///
    /// let shops = FeatureSet::entities("shops_v1", "orders")
    ///     .key("shop")
    ///     .window(TimeDelta::days(7), [Aggregate::count().named("orders_7d")])
    ///     .view(View::sql("paid", "SELECT ordered_at, shop, price * quantity AS revenue FROM orders WHERE status = 'paid'"))
    ///     .also(Source::of("paid").on("shop").window(TimeDelta::days(7), [Aggregate::sum("revenue").named("revenue_7d")]))
    ///     .build()?;
    /// assert_eq!(shops.feature("revenue_7d").unwrap().made_of, "sum(revenue) of paid over 7 days");
    /// # Ok::<(), asof::Error>(())
    /// ```
    pub fn view(mut self, view: View) -> Self {
        self.views.push(view);
        self
    }

    /// Adds features from another table, or from this one by some of the keys.
    pub fn also(mut self, source: Source) -> Self {
        self.others.push(source);
        self
    }

    /// Names the aggregates that have no name by a pattern, such as `{aggregate}_{column}_{window}`: those of the set's own table,
    /// and those of every source without a pattern of its own. See [`Source::names`].
    pub fn names(mut self, pattern: &str) -> Self {
        self.names = Some(pattern.into());
        self
    }

    /// Puts this before the names of all features of the set's own table; see [`Source::prefixed`].
    pub fn prefixed(mut self, prefix: &str) -> Self {
        self.own = self.own.prefixed(prefix);
        self
    }

    /// Makes facts at exactly the instant visible too. Without it the rule is exclusive.
    pub fn inclusive(mut self) -> Self {
        self.cutoff = Cutoff::Inclusive;
        self
    }

    /// Who answers for the set: a person or a team. It is not part of the fingerprint.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.notes.owner = Some(owner.into());
        self
    }

    /// What the set is for. It is not part of the fingerprint.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.notes.text = Some(text.into());
        self
    }

    /// Describes a feature by its name: unit, text, tags. Descriptions are not part of the fingerprint: another text makes no
    /// new version.
    ///
    /// ```
    /// # use asof::FeatureSet;
    /// use asof::feature_set::Description;
    /// let zones = FeatureSet::entities("zones_v1", "nyc_taxi")
    ///     .key("pickup_zone")
    ///     .lookup("fare_amount", "last_fare")
    ///     .describe("last_fare", Description::new().unit("USD").text("Of the newest trip from the zone"))
    ///     .build()?;
    /// println!("{}", zones.describe());
    /// # Ok::<(), asof::Error>(())
    /// ```
    pub fn describe(mut self, feature: impl Into<String>, description: Description) -> Self {
        self.notes.columns.push((feature.into(), description));
        self
    }

    /// Checks the definition and takes its fingerprint. All mistakes are reported at once.
    ///
    /// # Errors
    /// [`Error::InvalidName`](crate::Error::InvalidName) for the set's or a table's name,
    /// [`Error::Definition`](crate::Error::Definition) when something is missing, named twice, or described and not there, a window
    /// is not positive, a max age is negative, or an expression or a pattern of names cannot be read, and [`Error::Mistakes`](crate::Error::Mistakes) when there are several of these.
    pub fn build(self) -> Result<FeatureSet> {
        let Self { name, table, cutoff, keys, mut own, others, views: own_views, names: pattern, notes } = self;
        own.on = keys.iter().map(|key| (key.clone(), key.clone())).collect();
        let sources: Vec<Source> = std::iter::once(own).chain(others).collect();
        let of_sources: Vec<String> = sources.iter().map(|source| source.table.clone()).collect();
        let mut mistakes = Mistakes::of(&name, &of_sources);
        let pattern = pattern.as_deref().map(NamePattern::parse).transpose();
        let set_pattern_is_read = pattern.is_ok();
        let pattern = pattern.unwrap_or_else(|mistake| {
            mistakes.add(pattern_mistake(&table, &mistake));
            None
        });
        let (sources, of_names): (Vec<Source>, Vec<Option<String>>) =
            sources.into_iter().map(|source| source.with_names(pattern.as_ref())).unzip();
        let of_names: Vec<String> = of_names.into_iter().flatten().collect();
        // Names that an unreadable pattern would have made are not known, so nothing is said about them.
        let names_are_known = of_names.is_empty() && set_pattern_is_read;
        mistakes.extend(of_names);
        let read: Vec<(&str, bool)> = sources.iter().map(|source| (source.table.as_str(), source.timeless)).collect();
        let (of_views, reasons) = view::mistakes(&own_views, &read);
        mistakes.steps(of_views.into_iter().map(|e| e.in_place(&format!("feature set `{name}`"))).collect());
        mistakes.extend(reasons);
        if keys.is_empty() {
            mistakes.add("it has no key: name the entity's columns with `key`");
        }
        mistakes.extend(sources.iter().flat_map(|source| source.mistakes(&keys)));
        let features: Vec<String> = sources.iter().flat_map(Source::outputs).map(str::to_owned).collect();
        if features.is_empty() {
            mistakes.add("it has no feature: add a lookup or a window");
        }
        let of_keys = keys.iter().map(|key| (key.clone(), "a key".to_owned()));
        if names_are_known {
            mistakes.named_twice(sources.iter().flat_map(Source::named_outputs).chain(of_keys));
            mistakes.extend(notes.mistakes(&features));
        }
        mistakes.refuse()?;
        let mut views = Vec::new();
        let mut all = TablesAndViews { tables: Vec::new(), views: &mut views };
        let facts_of_source = of_sources.iter().map(|source| all.named(source, &own_views)).collect::<Result<_>>()?;
        let tables = all.tables;
        let body = SetBody::Entities(EntitySet { table: table.parse()?, keys, sources, views, facts_of_source });
        let (behaviour, _) = behaviour(&name, &body);
        finished(name.parse()?, tables, cutoff, body, notes, behaviour)
    }
}

/// The set with its fingerprint, once its definition has no mistake.
fn finished(
    name: SetName,
    tables: Vec<TableName>,
    cutoff: Cutoff,
    body: SetBody,
    notes: Notes,
    behaviour: ContentId,
) -> Result<FeatureSet> {
    let (fingerprint, declared) = Fingerprint::take(&name, &tables, cutoff, &body, behaviour)?;
    Ok(FeatureSet { name, tables, cutoff, body, fingerprint, declared, notes: Arc::new(notes) })
}

fn names(name: &str, tables: &[String]) -> Result<(SetName, Vec<TableName>)> {
    let mut known = Vec::with_capacity(tables.len());
    for table in tables {
        let table = table.parse()?;
        if !known.contains(&table) {
            known.push(table);
        }
    }
    Ok((name.parse()?, known))
}

/// Adds to the tables of a set's query those of the sets that it draws on and of its labels ahead, and to its views those of the
/// former. Gives the tables.
fn add_tables(tables: Vec<TableName>, set: &mut RowSet) -> Result<Vec<TableName>> {
    set.query_tables = tables.len();
    set.own_views = set.views.len();
    let own = set.views.clone();
    let mut all = TablesAndViews { tables, views: &mut set.views };
    for drawn in &mut set.drawn {
        let Some(entities) = drawn.entities() else { continue };
        let mut facts_of_source = Vec::with_capacity(entities.facts_of_source.len());
        for of in &entities.facts_of_source {
            let found = match *of {
                FactsOf::Table(table) => drawn.set.tables.get(table).map(|table| FactsOf::Table(all.table(table))),
                FactsOf::View(view) => entities.views.get(view).map(|view| all.view(view)),
            };
            facts_of_source.extend(found);
        }
        drawn.facts_of_source = facts_of_source;
    }
    for ahead in &mut set.ahead {
        ahead.facts_of = all.named(&ahead.table, &own)?;
    }
    Ok(all.tables)
}

/// A mistake for each column that is called intermediate and is not an output that a later encoder reads.
fn not_intermediate(specs: &[Spec], intermediate: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for name in intermediate {
        let Some(position) = specs.iter().position(|spec| spec.outputs.iter().any(|output| output.name() == name)) else {
            found.push(format!("it calls `{name}` intermediate, and no encoder makes it"));
            continue;
        };
        let is_read = |(i, spec): (usize, &Spec)| {
            let before: Vec<&Spec> = specs[..i].iter().collect();
            let mut inputs = spec.inputs.iter().chain(&spec.learned_from);
            inputs.any(|input| input.name() == name && reads_encoder(&before, name) == Some(position))
        };
        if !specs.iter().enumerate().skip(position + 1).any(is_read) {
            found.push(format!("it calls `{name}` intermediate, and no encoder after it reads it: leave the encoder out"));
        }
    }
    found
}

/// A mistake for each encoder that reads a label as an input: a request has none.
fn reads_labels(specs: &[Spec], labels: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        let before: Vec<&Spec> = specs[..i].iter().collect();
        for input in spec.inputs.iter().filter(|input| labels.contains(input.name())) {
            if reads_encoder(&before, input.name()).is_none() {
                found.push(format!(
                    "its encoder `{}` reads the label `{}`, which no request has; a fitted encoder may learn from it \
                     (`Spec::learned_from`)",
                    spec.name,
                    input.name()
                ));
            }
        }
    }
    found
}
