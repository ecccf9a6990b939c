//! The serving side of one materialization.
//! Requests are encoded by the same code and with the same states as training rows. Entities are read, not recomputed.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use super::{
    drawn::ServedDraws,
    entities::ServedEntities,
    feature_row::FeatureRow,
    read_counts::{ReadCounts, Reads},
};
use crate::{
    error::{Error, Result},
    materialize::{BuildThreads, Materialization, Pipeline},
    served::Rows,
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
    /// the materializations that a set of rows draws on, in the order of its definition. Reads are counted in `reads`. Files are built
    /// on so many `threads`.
    pub(crate) async fn new(
        materialization: Materialization,
        drawn: Vec<Materialization>,
        reads: Arc<ReadCounts>,
        threads: BuildThreads,
    ) -> Result<Self> {
        let served = match materialization.pipeline()? {
            Some((set, pipeline)) => {
                let draws = ServedDraws::new(set, drawn, threads).await?;
                let request = draws.request_schema(&pipeline.request_schema());
                let features = Arc::new(Schema::new(pipeline.features()));
                Served::Rows { request, features, pipeline: Box::new(pipeline), draws }
            }
            None => Served::Entities(Box::new(ServedEntities::new(materialization.clone(), threads).await?)),
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

    /// How many keys were asked for. A request of a set of rows asks for one key of each set that it draws on. A [`Live`](super::Live) goes on counting when it moves to another materialization.
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
                let rows = draws.add_to(rows, &self.reads)?;
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
        Ok(FeatureRow::encoded(self.encode(&RecordBatch::try_new_with_options(given, columns, &options)?)?))
    }

    /// The features of the entity with this key. Its values are in the order of the key columns of the definition.
    ///
    /// Any key gets an answer: the row that a training row with this key gets at this as-of. Without facts lookups are NULL and
    /// counts are 0. A NULL in a key matches nothing. [`Online::contains`] says whether there is any fact.
    ///
    /// # Errors
    /// [`Error::Definition`] for a set of rows, for a set with a max age, which needs [`Online::get_at`], and for a key of another
    /// length; [`Error::ColumnType`] when a value does not fit; [`Error::Corrupt`] when the row is lost and the published files are
    /// gone.
    pub fn get(&self, key: &[Value]) -> Result<FeatureRow> {
        let entities = self.entities()?;
        entities.check_needs_no_instant()?;
        self.counted(entities.get(key, None)?)
    }

    /// As [`Online::get`], for a request at this instant: looked-up values whose fact happened before `at` minus their max age are
    /// NULL. Take the instant from the request or from a [`Clock`](crate::time::Clock).
    ///
    /// # Errors
    /// As [`Online::get`]; and [`Error::Definition`] for an instant before the as-of of the materialization, since its values were not
    /// all known then.
    pub fn get_at(&self, key: &[Value], at: AsOf) -> Result<FeatureRow> {
        self.counted(self.entities()?.get(key, Some(at))?)
    }

    /// The features of several entities as one batch: row `i` answers key `i`. Keys may repeat, and any key gets an answer, as in
    /// [`Online::get`].
    ///
    /// ```no_run
    /// # async fn run(store: asof::FeatureStore) -> asof::Result<()> {
    /// let online = store.online("zone_demand_v1").await?;
    /// let zones = online.get_many(&[[132.into()], [138.into()], [132.into()]])?;
    /// assert_eq!(zones.num_rows(), 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Online::get`].
    pub fn get_many<K: AsRef<[Value]>>(&self, keys: &[K]) -> Result<RecordBatch> {
        let entities = self.entities()?;
        entities.check_needs_no_instant()?;
        self.batch_of(entities, entities.get_many(keys, None)?)
    }

    /// As [`Online::get_many`], for requests at this instant; see [`Online::get_at`].
    ///
    /// # Errors
    /// As [`Online::get_at`].
    pub fn get_many_at<K: AsRef<[Value]>>(&self, keys: &[K], at: AsOf) -> Result<RecordBatch> {
        let entities = self.entities()?;
        self.batch_of(entities, entities.get_many(keys, Some(at))?)
    }

    /// Writes the features of an entity into `out`, one number for each feature in their order. It allocates no memory if the key is made
    /// of signed integers (of 16 bits or more) and texts, and the features are floats, integers of 32 or 64 bits and truth values. NULL is
    /// NaN, a truth value is 0 or 1, and other numbers are the nearest floats, as in a [`Dataset`](crate::training::Dataset). Returns what
    /// [`Online::contains`] does.
    ///
    /// ```no_run
    /// # async fn run(store: asof::FeatureStore) -> asof::Result<()> {
    /// let online = store.online("zone_demand_v1").await?;
    /// let mut features = [0.0; 7];
    /// let is_known = online.get_into(&[132.into()], &mut features)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Online::get`]; [`Error::ColumnType`] for a set with a feature that is no number, and [`Error::Definition`] when `out` has
    /// another length than the features. After an error `out` holds anything.
    pub fn get_into(&self, key: &[Value], out: &mut [f64]) -> Result<bool> {
        let entities = self.entities()?;
        entities.check_needs_no_instant()?;
        Ok(self.count(entities.get_into(key, None, out)?))
    }

    /// As [`Online::get_into`], for a request at this instant; see [`Online::get_at`].
    ///
    /// # Errors
    /// As [`Online::get_into`] and [`Online::get_at`].
    pub fn get_into_at(&self, key: &[Value], at: AsOf, out: &mut [f64]) -> Result<bool> {
        Ok(self.count(self.entities()?.get_into(key, Some(at), out)?))
    }

    /// As [`Online::get_many`], for keys in columns of the key's types, each at its instant if there are instants. Columns hold keys
    /// that no [`Value`] does.
    pub(crate) fn get_columns(&self, keys: &[ArrayRef], at: Option<&TimestampMicrosecondArray>) -> Result<RecordBatch> {
        let entities = self.entities()?;
        let count = keys.first().map_or(0, |column| column.len());
        self.batch_of(entities, entities.get_columns(keys, count, at)?)
    }

    /// Whether there is a visible fact about the entity with this key, in a table that has all columns of the key.
    ///
    /// # Errors
    /// [`Error::Definition`] for a set of rows, and for a key of another length; [`Error::ColumnType`] when a value does not fit.
    pub fn contains(&self, key: &[Value]) -> Result<bool> {
        self.entities()?.contains(key)
    }

    /// The size in bytes of the files from which rows are read by key, of this set and of those that it draws on.
    pub fn served_bytes(&self) -> u64 {
        match &self.served {
            Served::Rows { draws, .. } => draws.bytes(),
            Served::Entities(entities) => entities.bytes(),
        }
    }

    /// The key's columns, of a set of entities.
    ///
    /// # Errors
    /// [`Error::Definition`] for a set of rows, which has no keys.
    pub fn key_schema(&self) -> Result<SchemaRef> {
        Ok(self.entities()?.key_schema().clone())
    }

    /// The features and their types, in the order of the definition.
    pub fn features(&self) -> &SchemaRef {
        match &self.served {
            Served::Rows { features, .. } => features,
            Served::Entities(entities) => entities.features(),
        }
    }

    fn batch_of(&self, entities: &ServedEntities, (rows, there): (Rows, u64)) -> Result<RecordBatch> {
        self.reads.add(there, rows.len() as u64 - there);
        entities.shape().batch(&rows)
    }

    fn counted(&self, (row, is_there): (FeatureRow, bool)) -> Result<FeatureRow> {
        self.count(is_there);
        Ok(row)
    }

    fn count(&self, is_there: bool) -> bool {
        self.reads.add(u64::from(is_there), u64::from(!is_there));
        is_there
    }

    fn entities(&self) -> Result<&ServedEntities> {
        match &self.served {
            Served::Entities(entities) => Ok(entities),
            Served::Rows { .. } => Err(self.refused("has no keys: use `encode`")),
        }
    }

    fn refused(&self, what: &str) -> Error {
        Error::Definition {
            subject: format!("feature set `{}`", self.materialization.manifest().set),
            reason: format!("it {what}"),
        }
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
