//! The serving side of one materialization.
//! Requests are encoded by the same code and with the same states as training rows. Entities are read, not recomputed.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, new_null_array},
    compute::cast,
    datatypes::{DataType, Schema, SchemaRef, TimestampMicrosecondType},
};

use crate::{
    error::{Error, Result},
    feature_set::{FeatureSet, SetBody, Source, event_time_column},
    materialize::{KeyedRows, Materialization, Pipeline},
    time::AsOf,
    value::Value,
};

/// Serves the features of one materialization.
pub struct Online {
    materialization: Materialization,
    served: Served,
}

/// What is served: encoded requests, or rows by key.
enum Served {
    Rows { pipeline: Pipeline, request: SchemaRef, features: SchemaRef },
    Entities { rows: Box<KeyedRows>, partial: Vec<Partial>, nothing: RecordBatch, max_ages: Vec<MaxAge> },
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

impl Online {
    /// Prepares to serve a materialization. The rows of a set of entities are read into the cache if they are not there.
    pub(crate) async fn new(materialization: Materialization) -> Result<Self> {
        let served = match materialization.pipeline()? {
            Some((_, pipeline)) => Served::Rows {
                request: pipeline.request_schema(),
                features: Arc::new(Schema::new(pipeline.features())),
                pipeline,
            },
            None => entities(&materialization).await?,
        };
        Ok(Self { materialization, served })
    }

    /// The materialization that is served.
    pub fn materialization(&self) -> &Materialization {
        &self.materialization
    }

    /// The columns that [`Online::encode`] needs. Other columns of a request are ignored.
    ///
    /// # Errors
    /// [`Error::Definition`] for a set of entities, which is served by key.
    pub fn request_schema(&self) -> Result<SchemaRef> {
        match &self.served {
            Served::Rows { request, .. } => Ok(request.clone()),
            Served::Entities { .. } => Err(self.refused("is served by key: use `get`")),
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
            Served::Rows { pipeline, features, .. } => {
                Ok(RecordBatch::try_new(features.clone(), pipeline.encode("the request", rows)?)?)
            }
            Served::Entities { .. } => Err(self.refused("is served by key: use `get`")),
        }
    }

    /// The features of one request. A category may be given as a text, an integer, a truth value or a date.
    ///
    /// # Errors
    /// As [`Online::encode`].
    pub fn encode_row(&self, values: &[(&str, Value)]) -> Result<FeatureRow> {
        let request = self.request_schema()?;
        let mut columns = Vec::with_capacity(request.fields().len());
        for field in request.fields() {
            let given = values.iter().find(|(name, _)| name == field.name());
            let (_, value) = given.ok_or_else(|| Error::UnknownColumn {
                subject: "the request".into(),
                column: field.name().clone(),
                known: values.iter().map(|(name, _)| (*name).to_owned()).collect(),
            })?;
            columns.push(match (value, field.data_type()) {
                // A category is read as text, whatever type it has.
                (Value::Int(_) | Value::Unsigned(_) | Value::Bool(_) | Value::Date(_), DataType::Utf8) => {
                    cast(&value.own_array("the request", field.name())?, &DataType::Utf8)?
                }
                (value, data_type) => value.to_array("the request", field.name(), data_type)?,
            });
        }
        Ok(FeatureRow(self.encode(&RecordBatch::try_new(request, columns)?)?))
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
        match &self.served {
            Served::Entities { max_ages, .. } if !max_ages.is_empty() => {
                Err(self.refused("has a max age, which depends on the instant of the request: use `get_at`"))
            }
            _ => self.read(key),
        }
    }

    /// As [`Online::get`], for a request at this instant: looked-up values whose fact happened before `at` minus their max age are
    /// NULL. Take the instant from the request or from a [`Clock`](crate::time::Clock).
    ///
    /// # Errors
    /// As [`Online::get`]; and [`Error::Definition`] for an instant before the as-of of the materialization, since its values were not
    /// all known then.
    pub fn get_at(&self, key: &[Value], at: AsOf) -> Result<FeatureRow> {
        let made = self.materialization.as_of();
        if at < made {
            return Err(self.refused(&format!(
                "is served as of {made}, and a request at {at} is earlier: it could not have known these values"
            )));
        }
        let row = self.read(key)?;
        let Served::Entities { max_ages, .. } = &self.served else { return Ok(row) };
        let mut columns = row.0.columns().to_vec();
        let schema = row.0.schema();
        for MaxAge { event_time, max_age_us, features } in max_ages {
            let times = row.0.column_by_name(event_time).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>().cloned());
            let event = times.filter(|times| times.is_valid(0)).map(|times| times.value(0));
            if event.is_none_or(|event| event < at.micros().saturating_sub(*max_age_us)) {
                for feature in features {
                    let position = schema.index_of(feature)?;
                    columns[position] = new_null_array(schema.field(position).data_type(), 1);
                }
            }
        }
        // Event times are only used to compute ages; they are not features.
        let served: Vec<usize> =
            (0..columns.len()).filter(|&i| max_ages.iter().all(|a| a.event_time != *schema.field(i).name())).collect();
        Ok(FeatureRow(RecordBatch::try_new(schema, columns)?.project(&served)?))
    }

    /// Whether there is a visible fact about the entity with this key, in a table that has all columns of the key.
    ///
    /// # Errors
    /// [`Error::Definition`] for a set of rows, and for a key of another length; [`Error::ColumnType`] when a value does not fit.
    pub fn contains(&self, key: &[Value]) -> Result<bool> {
        let (Served::Entities { rows, .. }, columns) = (&self.served, self.key_columns(key)?) else { return Ok(false) };
        Ok(whole_row(rows, &columns)?.is_some())
    }

    fn read(&self, key: &[Value]) -> Result<FeatureRow> {
        let columns = self.key_columns(key)?;
        let Served::Entities { rows, partial, nothing, .. } = &self.served else { return Err(self.has_no_keys()) };
        if let Some(row) = whole_row(rows, &columns)? {
            return Ok(FeatureRow(row));
        }
        // Without a row of its own, the key is answered from rows by some of its columns.
        let mut found = nothing.columns().to_vec();
        for part in partial {
            let keys: Vec<ArrayRef> = part.keys.iter().map(|&key| columns[key].clone()).collect();
            if let Some(row) = whole_row(&part.rows, &keys)? {
                part.columns.iter().zip(row.columns()).for_each(|(&position, column)| found[position] = column.clone());
            }
        }
        Ok(FeatureRow(RecordBatch::try_new(nothing.schema(), found)?))
    }

    /// A key as one-row columns.
    fn key_columns(&self, key: &[Value]) -> Result<Vec<ArrayRef>> {
        let Served::Entities { rows, .. } = &self.served else { return Err(self.has_no_keys()) };
        let fields = rows.key_schema().fields();
        if key.len() != fields.len() {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            return Err(self.refused(&format!("has the key ({}), and {} values were given", names.join(", "), key.len())));
        }
        key.iter().zip(fields).map(|(value, field)| value.to_array("the key", field.name(), field.data_type())).collect()
    }

    fn has_no_keys(&self) -> Error {
        self.refused("has no keys: use `encode`")
    }

    fn refused(&self, what: &str) -> Error {
        Error::Definition { subject: format!("feature set `{}`", self.materialization.set().name), reason: format!("it {what}") }
    }
}

/// The row with this key; `None` for a key with a NULL, which matches nothing.
fn whole_row(rows: &KeyedRows, key: &[ArrayRef]) -> Result<Option<RecordBatch>> {
    if key.iter().any(|column| column.null_count() > 0) { Ok(None) } else { rows.get(key) }
}

/// Opens the rows of a materialization of entities.
async fn entities(made: &Materialization) -> Result<Served> {
    let rows = KeyedRows::open(made, 0).await?;
    let all = rows.value_schema().clone();
    let mut partial = Vec::with_capacity(made.manifest().partial.len());
    for (i, part) in made.manifest().partial.iter().enumerate() {
        let position_of = |name: &String| made.manifest().keys.iter().position(|key| key == name);
        let keys = part.keys.iter().filter_map(position_of).collect();
        let rows = KeyedRows::open(made, i + 1).await?;
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
    Ok(Served::Entities { rows: Box::new(rows), partial, nothing, max_ages: max_ages(made.set()) })
}

fn max_ages(set: &FeatureSet) -> Vec<MaxAge> {
    let SetBody::Entities(set) = &set.body else { return Vec::new() };
    let of_source = |(i, source): (usize, &Source)| {
        let features = source.lookups.iter().map(|(_, output)| output.clone()).collect();
        source.max_age_us.map(|max_age_us| MaxAge { event_time: event_time_column(i), max_age_us, features })
    };
    set.sources.iter().enumerate().filter_map(of_source).collect()
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
