//! The serving side of one materialization.
//! Requests are encoded by the same code and with the same states as training rows. Entities are read, not recomputed.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use super::{
    drawn::ServedDraws,
    entities::ServedEntities,
    read_counts::{ReadCounts, Reads},
};
use crate::{
    error::{Error, Result},
    materialize::{Materialization, Pipeline},
    time::AsOf,
    value::Value,
};

/// Serves the features of one materialization.
pub struct Online {
    materialization: Materialization,
    served: Served,
    reads: Arc<ReadCounts>,
}

/// What is served: encoded requests, or rows by key.
enum Served {
    Rows { pipeline: Box<Pipeline>, request: SchemaRef, features: SchemaRef, draws: ServedDraws },
    Entities(Box<ServedEntities>),
}

impl Online {
    /// Prepares to serve a materialization. The rows of a set of entities are read into the cache if they are not there. `drawn` are
    /// the materializations that a set of rows draws on, in the order of its definition. Reads are counted in `reads`.
    pub(crate) async fn new(
        materialization: Materialization,
        drawn: Vec<Materialization>,
        reads: Arc<ReadCounts>,
    ) -> Result<Self> {
        let served = match materialization.pipeline()? {
            Some((set, pipeline)) => {
                let draws = ServedDraws::new(set, drawn).await?;
                let request = draws.request_schema(&pipeline.request_schema());
                let features = Arc::new(Schema::new(pipeline.features()));
                Served::Rows { request, features, pipeline: Box::new(pipeline), draws }
            }
            None => Served::Entities(Box::new(ServedEntities::new(materialization.clone()).await?)),
        };
        Ok(Self { materialization, served, reads })
    }

    /// The materialization that is served.
    pub fn materialization(&self) -> &Materialization {
        &self.materialization
    }

    /// The materializations of the sets that this one draws on, in the order of its definition; none for other sets.
    pub fn drawn_on(&self) -> Vec<&Materialization> {
        match &self.served {
            Served::Rows { draws, .. } => draws.materializations().collect(),
            Served::Entities(_) => Vec::new(),
        }
    }

    /// How many keys were asked for. A [`Live`](super::Live) goes on counting when it moves to another materialization.
    pub fn reads(&self) -> Reads {
        self.reads.reads()
    }

    /// The columns that [`Online::encode`] needs: those that encoders read, and those by which features are drawn. If a set that is
    /// drawn on has a max age, the column of the instants belongs to them. Other columns of a request are ignored.
    ///
    /// # Errors
    /// [`Error::Definition`] for a set of entities, which is served by key.
    pub fn request_schema(&self) -> Result<SchemaRef> {
        match &self.served {
            Served::Rows { request, .. } => Ok(request.clone()),
            Served::Entities(_) => Err(self.refused("is served by key: use `get`")),
        }
    }

    /// The features of request rows, one row per row and in the same order, with the states that were learned at the as-of.
    ///
    /// Row selections do not apply, so every request gets an answer.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] or [`Error::ColumnType`] when a request column is missing or does not fit,
    /// [`Error::Definition`] for a set of entities.
    pub fn encode(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        match &self.served {
            Served::Rows { pipeline, features, draws, .. } => {
                let rows = draws.add_to(rows)?;
                Ok(RecordBatch::try_new(features.clone(), pipeline.encode("the request", &rows)?)?)
            }
            Served::Entities(_) => Err(self.refused("is served by key: use `get`")),
        }
    }

    /// The features of one request.
    ///
    /// A category, which is needed as text, may also be given as an integer, a boolean or a date, as its column in training may hold
    /// them.
    ///
    /// # Errors
    /// As [`Online::encode`].
    pub fn encode_row(&self, values: &[(&str, Value)]) -> Result<FeatureRow> {
        let request = self.request_schema()?;
        let mut columns = Vec::with_capacity(request.fields().len());
        for field in request.fields() {
            let mut given = values.iter().filter(|(name, _)| name == field.name());
            let (first, second) = (given.next(), given.next());
            if second.is_some() {
                let reason = format!("it gives `{}` more than once; give each column one value", field.name());
                return Err(Error::Definition { subject: "the request".into(), reason });
            }
            let (_, value) = first.ok_or_else(|| Error::UnknownColumn {
                subject: "the request".into(),
                column: field.name().clone(),
                known: values.iter().map(|(name, _)| (*name).to_owned()).collect(),
            })?;
            columns.push(as_input(value, field)?);
        }
        let given = request.fields().iter().zip(&columns).map(|(f, c)| Field::new(f.name(), c.data_type().clone(), true));
        let given = Arc::new(Schema::new(given.collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        Ok(FeatureRow(self.encode(&RecordBatch::try_new_with_options(given, columns, &options)?)?))
    }

    /// The features of the entity with this key. Its values are in the order of the key columns of the definition.
    ///
    /// Any key gets an answer: the row that a training row with this key gets at this as-of. Without facts lookups are NULL and
    /// counts are 0. A NULL in a key matches nothing. [`Online::contains`] says whether there is any fact.
    ///
    /// # Errors
    /// [`Error::Definition`] for a set of rows, for a set with a max age, which needs [`Online::get_at`], and for a key of another
    /// length; [`Error::ColumnType`] when a value does not fit.
    pub fn get(&self, key: &[Value]) -> Result<FeatureRow> {
        let entities = self.entities()?;
        if entities.has_max_age() {
            return Err(self.refused("has a max age, which depends on the instant of the request: use `get_at`"));
        }
        entities.get(&entities.key_columns(key)?).map(FeatureRow)
    }

    /// As [`Online::get`], for a request at this instant: looked-up values whose fact happened before `at` minus their max age are
    /// NULL. Take the instant from the request or from a [`Clock`](crate::time::Clock).
    ///
    /// # Errors
    /// As [`Online::get`]; and [`Error::Definition`] for an instant before the as-of of the materialization, since its values were not
    /// all known then.
    pub fn get_at(&self, key: &[Value], at: AsOf) -> Result<FeatureRow> {
        let entities = self.entities()?;
        entities.get_at(&entities.key_columns(key)?, at).map(FeatureRow)
    }

    /// Whether there is a visible fact about the entity with this key, in a table that has all columns of the key.
    ///
    /// # Errors
    /// [`Error::Definition`] for a set of rows, and for a key of another length; [`Error::ColumnType`] when a value does not fit.
    pub fn contains(&self, key: &[Value]) -> Result<bool> {
        let entities = self.entities()?;
        entities.contains(&entities.key_columns(key)?)
    }

    fn entities(&self) -> Result<&ServedEntities> {
        match &self.served {
            Served::Entities(entities) => Ok(entities),
            Served::Rows { .. } => Err(self.refused("has no keys: use `encode`")),
        }
    }

    fn refused(&self, what: &str) -> Error {
        Error::Definition { subject: format!("feature set `{}`", self.materialization.set().name), reason: format!("it {what}") }
    }
}

/// A value of a request as a column of one row, from which this input can be read.
fn as_input(value: &Value, field: &Field) -> Result<ArrayRef> {
    let is_category = *field.data_type() == DataType::Utf8;
    match value {
        // Written as text by the code that writes the columns of training.
        Value::Bool(_) | Value::Int(_) | Value::Unsigned(_) | Value::Date(_) if is_category => {
            value.own_array("the request", field.name())
        }
        _ => value.to_array("the request", field.name(), field.data_type()),
    }
}

impl fmt::Debug for Online {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Online({:?})", self.materialization)
    }
}

/// The features of one request or entity.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow(RecordBatch);

impl FeatureRow {
    /// The features as a batch of one row.
    pub fn batch(&self) -> &RecordBatch {
        &self.0
    }

    /// The exact value of a feature.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] when there is no such feature, [`Error::ColumnType`] when no [`Value`] can hold it: a struct, a map,
    /// an interval, or a time beyond the range of dates.
    pub fn value(&self, feature: &str) -> Result<Value> {
        let column =
            self.0.column_by_name(feature).ok_or_else(|| Error::unknown_column("the row", feature, self.0.schema_ref()))?;
        Value::of("the row", feature, column, 0)
    }

    /// A numeric feature as the nearest float; `None` for NULL.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] when there is no such feature, [`Error::ColumnType`] when it is not a number.
    pub fn number(&self, feature: &str) -> Result<Option<f64>> {
        match self.value(feature)? {
            Value::Null => Ok(None),
            Value::Int(x) => Ok(Some(x as f64)),
            Value::Unsigned(x) => Ok(Some(x as f64)),
            Value::Float(x) => Ok(Some(x)),
            Value::Decimal(x) => Ok(Some(x.to_f64())),
            other => Err(Error::ColumnType {
                subject: "the row".into(),
                column: feature.into(),
                found: format!("{other:?}"),
                needed: "it must be a number".into(),
            }),
        }
    }
}
