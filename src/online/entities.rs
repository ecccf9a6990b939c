//! Rows of entities by key, of one materialization. They are read, not recomputed.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, new_null_array},
    datatypes::{SchemaRef, TimestampMicrosecondType},
};

use crate::{
    error::{Error, Result},
    feature_set::{FeatureSet, SetBody, Source, event_time_column},
    materialize::{KeyedRows, Materialization},
    time::AsOf,
    value::Value,
};

/// The rows of a materialization of entities.
pub(super) struct ServedEntities {
    materialization: Materialization,
    rows: KeyedRows,
    partial: Vec<Partial>,
    /// The answer for a key without facts.
    nothing: RecordBatch,
    max_ages: Vec<MaxAge>,
    /// The features of an answer, and their positions among the columns. Event times are only used to compute ages.
    features: SchemaRef,
    served: Vec<usize>,
}

/// Rows by some of the keys, for keys that have no row of their own.
struct Partial {
    /// Their positions in the key.
    keys: Vec<usize>,
    rows: KeyedRows,
    /// The positions of its columns among those of the whole row.
    columns: Vec<usize>,
}

/// Looked-up features that become NULL when their fact is too old.
struct MaxAge {
    /// The column that holds the event time of the fact.
    event_time: String,
    max_age_us: i64,
    features: Vec<String>,
}

impl ServedEntities {
    /// Opens the rows of a materialization of entities.
    pub(super) async fn new(made: Materialization) -> Result<Self> {
        let rows = KeyedRows::open(&made, 0).await?;
        let all = rows.value_schema().clone();
        let mut partial = Vec::with_capacity(made.manifest().partial.len());
        for (i, part) in made.manifest().partial.iter().enumerate() {
            let position_of = |name: &String| made.manifest().keys.iter().position(|key| key == name);
            let keys = part.keys.iter().filter_map(position_of).collect();
            let rows = KeyedRows::open(&made, i + 1).await?;
            let columns = rows.value_schema().fields().iter().map(|field| Ok(all.index_of(field.name())?));
            partial.push(Partial { keys, columns: columns.collect::<Result<_>>()?, rows });
        }
        let SetBody::Entities(set) = &made.set().body else {
            return Err(Error::Internal {
                subject: format!("serving feature set `{}`", made.set().name),
                reason: "it has neither rows nor entities".into(),
            });
        };
        let nothing = all.fields().iter().map(|field| {
            let is_count = set.sources.iter().any(|source| source.counts().any(|name| name == field.name()));
            if is_count { Arc::new(Int64Array::from(vec![0])) } else { new_null_array(field.data_type(), 1) }
        });
        let nothing = RecordBatch::try_new(all.clone(), nothing.collect())?;
        let max_ages = max_ages(made.set());
        let is_served = |name: &String| max_ages.iter().all(|age| age.event_time != *name);
        let served: Vec<usize> = (0..all.fields().len()).filter(|&i| is_served(all.field(i).name())).collect();
        let features = Arc::new(all.project(&served)?);
        Ok(Self { materialization: made, rows, partial, nothing, max_ages, features, served })
    }

    pub(super) fn materialization(&self) -> &Materialization {
        &self.materialization
    }

    /// The key's columns.
    pub(super) fn key_schema(&self) -> &SchemaRef {
        self.rows.key_schema()
    }

    /// The columns of an answer.
    pub(super) fn features(&self) -> &SchemaRef {
        &self.features
    }

    pub(super) fn has_max_age(&self) -> bool {
        !self.max_ages.is_empty()
    }

    /// The features of an entity. Values that a max age applies to are as old as they are.
    pub(super) fn get(&self, key: &[ArrayRef]) -> Result<RecordBatch> {
        Ok(self.read(key)?.project(&self.served)?)
    }

    /// As [`ServedEntities::get`], for a request at this instant.
    pub(super) fn get_at(&self, key: &[ArrayRef], at: AsOf) -> Result<RecordBatch> {
        let made = self.materialization.as_of();
        if at < made {
            return Err(self.refused(&format!(
                "is served as of {made}, and a request at {at} is earlier: it could not have known these values"
            )));
        }
        let row = self.read(key)?;
        let mut columns = row.columns().to_vec();
        let schema = row.schema();
        for MaxAge { event_time, max_age_us, features } in &self.max_ages {
            let times = row.column_by_name(event_time).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>().cloned());
            let event = times.filter(|times| times.is_valid(0)).map(|times| times.value(0));
            if event.is_none_or(|event| event < at.micros().saturating_sub(*max_age_us)) {
                for feature in features {
                    let position = schema.index_of(feature)?;
                    columns[position] = new_null_array(schema.field(position).data_type(), 1);
                }
            }
        }
        Ok(RecordBatch::try_new(schema, columns)?.project(&self.served)?)
    }

    /// Whether there is a visible fact about this entity.
    pub(super) fn contains(&self, key: &[ArrayRef]) -> Result<bool> {
        Ok(whole_row(&self.rows, key)?.is_some())
    }

    /// A key as one-row columns.
    pub(super) fn key_columns(&self, key: &[Value]) -> Result<Vec<ArrayRef>> {
        let fields = self.rows.key_schema().fields();
        if key.len() != fields.len() {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            return Err(self.refused(&format!("has the key ({}), and {} values were given", names.join(", "), key.len())));
        }
        key.iter().zip(fields).map(|(value, field)| value.to_array("the key", field.name(), field.data_type())).collect()
    }

    fn read(&self, key: &[ArrayRef]) -> Result<RecordBatch> {
        if let Some(row) = whole_row(&self.rows, key)? {
            return Ok(row);
        }
        // Without a row of its own, the key is answered from rows by some of its columns.
        let mut found = self.nothing.columns().to_vec();
        for part in &self.partial {
            let keys: Vec<ArrayRef> = part.keys.iter().map(|&position| key[position].clone()).collect();
            if let Some(row) = whole_row(&part.rows, &keys)? {
                part.columns.iter().zip(row.columns()).for_each(|(&position, column)| found[position] = column.clone());
            }
        }
        Ok(RecordBatch::try_new(self.nothing.schema(), found)?)
    }

    fn refused(&self, what: &str) -> Error {
        Error::Definition { subject: format!("feature set `{}`", self.materialization.set().name), reason: format!("it {what}") }
    }
}

/// The row with this key; `None` for a key with a NULL, which matches nothing.
fn whole_row(rows: &KeyedRows, key: &[ArrayRef]) -> Result<Option<RecordBatch>> {
    if key.iter().any(|column| column.null_count() > 0) { Ok(None) } else { rows.get(key) }
}

fn max_ages(set: &FeatureSet) -> Vec<MaxAge> {
    let SetBody::Entities(set) = &set.body else { return Vec::new() };
    let of_source = |(i, source): (usize, &Source)| {
        let features = source.lookups.iter().map(|(_, output)| output.clone()).collect();
        source.max_age_us.map(|max_age_us| MaxAge { event_time: event_time_column(i), max_age_us, features })
    };
    set.sources.iter().enumerate().filter_map(of_source).collect()
}
