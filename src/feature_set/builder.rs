//! Builders of feature sets, which check everything in `build`.
//! Whether tables and columns exist is checked when the set is used.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::{EntitySet, FeatureSet, Fingerprint, RowSet, SetBody, Source};
use crate::{
    encoder::{Encoder, FittedEncoder, RowSelection, fitted, pure, selection},
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
            event_time: String::new(),
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

    /// Adds a row selection. Selections apply to training rows in the order in which they are added, and each is fitted on the rows
    /// that those before it kept.
    pub fn keep<S: RowSelection + 'static>(mut self, step: S) -> Self {
        self.set.selections.push(selection(step));
        self
    }

    /// Adds a pure encoder.
    pub fn encode<E: Encoder + 'static>(mut self, encoder: E) -> Self {
        self.set.encoders.push(pure(encoder));
        self
    }

    /// Adds an encoder that is fitted at the as-of.
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
        let (name, tables) = names(&self.name, &self.tables)?;
        let mut set = self.set;
        let mut mistakes = Vec::new();
        if self.event_time.is_none() {
            mistakes.push("it has no event time: name the column with `event_time`".to_owned());
        }
        if tables.is_empty() {
            mistakes.push("it declares no table: name those that the query reads with `table`".to_owned());
        }
        if set.encoders.is_empty() {
            mistakes.push("it has no feature: add an encoder".to_owned());
        }
        let outputs = set.encoders.iter().flat_map(|e| e.spec().outputs).map(|f| f.name().clone());
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
