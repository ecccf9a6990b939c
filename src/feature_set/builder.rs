//! Builders of feature sets, which check everything in `build`.
//! Whether tables and columns exist is checked when the set is used.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::{Ahead, Drawn, EntitySet, FeatureSet, Fingerprint, RowSet, SetBody, Source, reads_encoder};
use crate::{
    encoder::{Encoder, FittedEncoder, RowSelection, Spec, fitted, pure, selection},
    error::{Error, Result},
    name::{SetName, TableName},
    temporal::Aggregate,
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
}

impl RowSetBuilder {
    pub(super) fn new(name: &str, query: &str) -> Self {
        let set = RowSet {
            query: query.trim().into(),
            query_tables: 0,
            event_time: String::new(),
            at: None,
            drawn: Vec::new(),
            ahead: Vec::new(),
            labels: Vec::new(),
            selections: Vec::new(),
            encoders: Vec::new(),
        };
        Self { name: name.into(), tables: Vec::new(), cutoff: Cutoff::default(), event_time: None, set }
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
    /// A row whose instant lies after it was known is refused when the set is used, since its own label could be among its features.
    pub fn at(mut self, column: &str) -> Self {
        self.set.at = Some(column.into());
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

    /// Checks the definition and takes its fingerprint, for which every encoder runs once on fixed inputs.
    ///
    /// # Errors
    /// [`Error::InvalidName`] for the set's or a table's name, [`Error::Definition`] when something is missing or named
    /// twice, [`Error::Step`] when an encoder fails on the fixed inputs.
    pub fn build(self) -> Result<FeatureSet> {
        let mut set = self.set;
        let (name, own) = names(&self.name, &self.tables)?;
        let mut mistakes = Vec::new();
        if self.event_time.is_none() {
            mistakes.push("it has no event time: name the column with `event_time`".to_owned());
        }
        if own.is_empty() {
            mistakes.push("it declares no table: name those that the query reads with `table`".to_owned());
        }
        if set.encoders.is_empty() {
            mistakes.push("it has no feature: add an encoder".to_owned());
        }
        mistakes.extend(set.drawn.iter().flat_map(Drawn::mistakes));
        mistakes.extend(set.ahead.iter().flat_map(Ahead::mistakes));
        set.query_tables = own.len();
        let tables = all_tables(own, &mut set)?;
        mistakes.extend(named_twice(set.added()));
        set.labels.extend(set.ahead.iter().flat_map(|ahead| ahead.labels().map(str::to_owned)).collect::<Vec<_>>());
        let specs: Vec<Spec> = set.encoders.iter().map(|e| e.spec()).collect();
        mistakes.extend(reads_labels(&specs, &set.labels));
        let outputs = specs.iter().flat_map(|spec| spec.outputs.iter().map(|f| f.name().clone()));
        mistakes.extend(named_twice(outputs.chain(set.labels.iter().cloned()).chain(self.event_time.clone())));
        refuse_any(&name, &mistakes)?;
        set.event_time = self.event_time.unwrap_or_default();
        let body = SetBody::Rows(set);
        let (fingerprint, declared) = Fingerprint::take(&name, &tables, self.cutoff, &body)?;
        Ok(FeatureSet { name, tables, cutoff: self.cutoff, body, fingerprint, declared })
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
}

impl EntitySetBuilder {
    pub(super) fn new(name: &str, table: &str) -> Self {
        let own = Source::of(table);
        Self { name: name.into(), table: table.into(), cutoff: Cutoff::default(), keys: Vec::new(), own, others: Vec::new() }
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

    /// Adds aggregates over the visible facts with an event time in `[t - length, t)`.
    pub fn window(mut self, length: TimeDelta, aggregates: impl IntoIterator<Item = Aggregate>) -> Self {
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

    /// Adds features from another table, or from this one by some of the keys.
    pub fn also(mut self, source: Source) -> Self {
        self.others.push(source);
        self
    }

    /// Makes facts at exactly the instant visible too. Without it the rule is exclusive.
    pub fn inclusive(mut self) -> Self {
        self.cutoff = Cutoff::Inclusive;
        self
    }

    /// Checks the definition and takes its fingerprint.
    ///
    /// # Errors
    /// [`Error::InvalidName`] for the set's or a table's name, [`Error::Definition`] when something is missing, named
    /// twice, a window is not positive, or a max age is negative.
    pub fn build(self) -> Result<FeatureSet> {
        let Self { name, table, cutoff, keys, mut own, others } = self;
        let all: Vec<String> = std::iter::once(&table).chain(others.iter().map(|source| &source.table)).cloned().collect();
        let (name, tables) = names(&name, &all)?;
        let position = |table: &String| -> Result<usize> {
            let table: TableName = table.parse()?;
            Ok(tables.iter().take_while(|known| **known != table).count())
        };
        let table_of_source = all.iter().map(position).collect::<Result<_>>()?;
        let mut mistakes = Vec::new();
        own.on = keys.iter().map(|key| (key.clone(), key.clone())).collect();
        let sources: Vec<Source> = std::iter::once(own).chain(others).collect();
        match keys.is_empty() {
            true => mistakes.push("it has no key: name the entity's columns with `key`".to_owned()),
            false => mistakes.extend(sources.iter().flat_map(|source| source.mistakes(&keys))),
        }
        let set = EntitySet { table: table.parse()?, keys, sources, table_of_source };
        if set.outputs().next().is_none() {
            mistakes.push("it has no feature: add a lookup or a window".to_owned());
        }
        mistakes.extend(named_twice(set.outputs().map(str::to_owned).chain(set.keys.iter().cloned())));
        refuse_any(&name, &mistakes)?;
        let body = SetBody::Entities(set);
        let (fingerprint, declared) = Fingerprint::take(&name, &tables, cutoff, &body)?;
        Ok(FeatureSet { name, tables, cutoff, body, fingerprint, declared })
    }
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

/// The tables of a set of rows: those of its query, then those of the sets that it draws on and of its labels ahead.
fn all_tables(own: Vec<TableName>, set: &mut RowSet) -> Result<Vec<TableName>> {
    let mut tables = own;
    let mut position = |table: &TableName| {
        tables.iter().position(|known| known == table).unwrap_or_else(|| {
            tables.push(table.clone());
            tables.len() - 1
        })
    };
    for drawn in &mut set.drawn {
        let of_set = drawn.entities().map(|entities| entities.table_of_source.clone()).unwrap_or_default();
        drawn.table_of_source = of_set.iter().filter_map(|&table| drawn.set.tables.get(table)).map(&mut position).collect();
    }
    for ahead in &mut set.ahead {
        ahead.table_of = position(&ahead.table.parse()?);
    }
    Ok(tables)
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

/// Refuses a set with all of its mistakes.
fn refuse_any(name: &SetName, mistakes: &[String]) -> Result<()> {
    match mistakes {
        [] => Ok(()),
        _ => Err(Error::Definition { subject: format!("feature set `{name}`"), reason: mistakes.join("; and ") }),
    }
}

/// A mistake for each name that several columns have.
fn named_twice(columns: impl Iterator<Item = String>) -> Vec<String> {
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    twice.extend(columns.filter(|column| !seen.insert(column.clone())));
    twice.iter().map(|column| format!("two of its columns are called `{column}`; give one of them another name")).collect()
}
