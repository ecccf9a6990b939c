//! Builders of feature sets: they collect, and check everything at the end.
//! Whether tables and columns exist is seen when a set meets a catalog, not here.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::{Body, EntitySet, FeatureSet, Fingerprint, RowSet};
use crate::{
    encoder::{Encoder, FittedEncoder, RowSelection, fitted, pure, selection},
    error::{Error, Result},
    name::{SetName, TableName},
    temporal::Aggregate,
    time::{Cutoff, saturating_micros},
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
    pub(super) fn new(name: &str, extract: &str) -> Self {
        let set = RowSet {
            extract: extract.trim().into(),
            event_time: String::new(),
            labels: Vec::new(),
            selections: Vec::new(),
            encoders: Vec::new(),
        };
        Self { name: name.into(), tables: Vec::new(), cutoff: Cutoff::default(), event_time: None, set }
    }

    /// Declares a fact table that the extract reads; it can read no other.
    pub fn table(mut self, name: &str) -> Self {
        self.tables.push(name.into());
        self
    }

    /// The extract's column that says when a row happened: a timestamp in UTC.
    pub fn event_time(mut self, column: &str) -> Self {
        self.event_time = Some(column.into());
        self
    }

    /// Adds a row selection; they apply to training rows in the order they are added, each fitted on what is left.
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

    /// Adds a column of the extract as a label: kept beside the features, and no input of a request.
    pub fn label(mut self, column: &str) -> Self {
        self.set.labels.push(column.into());
        self
    }

    /// Facts at exactly the as-of are visible too. The rule is exclusive unless this is said.
    pub fn inclusive(mut self) -> Self {
        self.cutoff = Cutoff::Inclusive;
        self
    }

    /// Checks the definition and takes its fingerprint, for which every encoder is run once on fixed inputs.
    ///
    /// # Errors
    /// [`Error::InvalidName`] for the set's or a table's name, [`Error::Definition`] when something is missing or named
    /// twice, [`Error::Step`] when an encoder fails on the fixed inputs.
    pub fn build(self) -> Result<FeatureSet> {
        let (name, tables) = names(&self.name, &self.tables)?;
        let mut set = self.set;
        set.event_time =
            self.event_time.ok_or_else(|| refused(&name, "it has no event time: name the column with `event_time`"))?;
        if tables.is_empty() {
            return Err(refused(&name, "it declares no table: name those that the extract reads with `table`"));
        }
        if set.encoders.is_empty() {
            return Err(refused(&name, "it has no feature: add an encoder"));
        }
        let outputs = set.encoders.iter().flat_map(|e| e.spec().outputs).map(|f| f.name().clone());
        check_unique(&name, outputs.chain(set.labels.iter().cloned()).chain([set.event_time.clone()]))?;
        let body = Body::Rows(set);
        let fingerprint = Fingerprint::take(&name, &tables, self.cutoff, &body)?;
        Ok(FeatureSet { name, tables, cutoff: self.cutoff, body, fingerprint })
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
    lookups: Vec<(String, String)>,
    windows: Vec<(TimeDelta, Vec<Aggregate>)>,
}

impl EntitySetBuilder {
    pub(super) fn new(name: &str, table: &str) -> Self {
        let cutoff = Cutoff::default();
        Self { name: name.into(), table: table.into(), cutoff, keys: Vec::new(), lookups: Vec::new(), windows: Vec::new() }
    }

    /// Adds a column to the entity's key.
    pub fn key(mut self, column: &str) -> Self {
        self.keys.push(column.into());
        self
    }

    /// Adds the value of `column` in the entity's newest visible fact, as the feature `output`.
    ///
    /// All looked-up columns come from one and the same fact.
    pub fn lookup(mut self, column: &str, output: &str) -> Self {
        self.lookups.push((column.into(), output.into()));
        self
    }

    /// Adds aggregates over the visible facts with an event time in `[as_of - length, as_of)`.
    pub fn window(mut self, length: TimeDelta, aggregates: impl IntoIterator<Item = Aggregate>) -> Self {
        self.windows.push((length, aggregates.into_iter().collect()));
        self
    }

    /// Facts at exactly the as-of are visible too. The rule is exclusive unless this is said.
    pub fn inclusive(mut self) -> Self {
        self.cutoff = Cutoff::Inclusive;
        self
    }

    /// Checks the definition and takes its fingerprint.
    ///
    /// # Errors
    /// [`Error::InvalidName`] for the set's or the table's name, [`Error::Definition`] when something is missing, named
    /// twice, or a window is not longer than nothing.
    pub fn build(self) -> Result<FeatureSet> {
        let (name, tables) = names(&self.name, std::slice::from_ref(&self.table))?;
        let table = self.table.parse()?;
        if self.keys.is_empty() {
            return Err(refused(&name, "it has no key: name the entity's columns with `key`"));
        }
        let mut windows = Vec::new();
        for (length, aggregates) in self.windows {
            let length_us = saturating_micros(length);
            if length_us <= 0 {
                return Err(refused(&name, &format!("a window of {length_us} us holds nothing; a window must be longer")));
            }
            windows.push((length_us, aggregates));
        }
        let set = EntitySet { table, keys: self.keys, lookups: self.lookups, windows };
        let aggregates = set.windows.iter().flat_map(|(_, aggregates)| aggregates.iter().map(|a| a.output().to_owned()));
        let outputs: Vec<String> = set.lookups.iter().map(|(_, output)| output.clone()).chain(aggregates).collect();
        if outputs.is_empty() {
            return Err(refused(&name, "it has no feature: add a lookup or a window"));
        }
        check_unique(&name, outputs.into_iter().chain(set.keys.iter().cloned()))?;
        let body = Body::Entities(set);
        let fingerprint = Fingerprint::take(&name, &tables, self.cutoff, &body)?;
        Ok(FeatureSet { name, tables, cutoff: self.cutoff, body, fingerprint })
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

fn refused(name: &SetName, reason: &str) -> Error {
    Error::Definition { subject: format!("feature set `{name}`"), reason: reason.into() }
}

fn check_unique(name: &SetName, columns: impl Iterator<Item = String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for column in columns {
        if !seen.insert(column.clone()) {
            return Err(refused(name, &format!("two of its columns are called `{column}`; give one of them another name")));
        }
    }
    Ok(())
}
