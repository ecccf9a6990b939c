//! The features of one request or one entity.

use std::{collections::HashMap, fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use crate::{
    error::{Error, Result},
    served::{Row, RowLayout, Rows},
    value::Value,
};

/// Which columns of a served row are features, and their names.
#[derive(Debug)]
pub(super) struct Shape {
    layouts: Arc<Vec<RowLayout>>,
    pub(super) features: SchemaRef,
    /// The column of each feature.
    pub(super) columns: Vec<usize>,
    by_name: HashMap<String, usize>,
}

impl Shape {
    /// Rows of the first of these layouts, with these columns as features.
    pub(super) fn new(layouts: Arc<Vec<RowLayout>>, columns: Vec<usize>) -> Result<Self> {
        let features = Arc::new(layouts[0].value_schema().project(&columns)?);
        let by_name = features.fields().iter().zip(&columns).map(|(field, &column)| (field.name().clone(), column)).collect();
        Ok(Self { layouts, features, columns, by_name })
    }

    pub(super) fn layout(&self) -> &RowLayout {
        &self.layouts[0]
    }

    /// The features of these rows.
    pub(super) fn batch(&self, rows: &Rows) -> Result<RecordBatch> {
        self.layout().batch(&self.features, &self.columns, rows)
    }
}

/// The features of one request or entity.
#[derive(Clone)]
pub struct FeatureRow(Content);

#[derive(Clone)]
enum Content {
    Encoded(RecordBatch),
    Served(Arc<Shape>, Row),
}

impl FeatureRow {
    /// A batch of one row.
    pub(super) fn encoded(row: RecordBatch) -> Self {
        Self(Content::Encoded(row))
    }

    /// A row as its file has it.
    pub(super) fn served(shape: Arc<Shape>, row: Row) -> Self {
        Self(Content::Served(shape, row))
    }

    /// The features and their types.
    pub fn schema(&self) -> &SchemaRef {
        match &self.0 {
            Content::Encoded(row) => row.schema_ref(),
            Content::Served(shape, _) => &shape.features,
        }
    }

    /// The features as a batch of one row. Each call for a row that was read by key makes its arrays.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a row whose bytes are not what was written.
    pub fn batch(&self) -> Result<RecordBatch> {
        match &self.0 {
            Content::Encoded(row) => Ok(row.clone()),
            Content::Served(shape, row) => {
                let mut rows = Rows::with_capacity(shape.layout(), 1);
                rows.push(row);
                shape.batch(&rows)
            }
        }
    }

    /// The exact value of a feature.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] when there is no such feature, [`Error::ColumnType`] when no [`Value`] can hold it: a struct, a map,
    /// an interval, or a time beyond the range of dates.
    pub fn value(&self, feature: &str) -> Result<Value> {
        let unknown = || Error::unknown_column("the row", feature, self.schema());
        match &self.0 {
            Content::Encoded(row) => Value::of("the row", feature, row.column_by_name(feature).ok_or_else(unknown)?, 0),
            Content::Served(shape, row) => shape.layout().value(row, *shape.by_name.get(feature).ok_or_else(unknown)?),
        }
    }

    /// A numeric feature as the nearest float; `None` for NULL. A truth value is 0 or 1, as in a [`Dataset`](crate::training::Dataset).
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] when there is no such feature, [`Error::ColumnType`] when it is not a number.
    pub fn number(&self, feature: &str) -> Result<Option<f64>> {
        match self.value(feature)? {
            Value::Null => Ok(None),
            Value::Int(x) => Ok(Some(x as f64)),
            Value::Unsigned(x) => Ok(Some(x as f64)),
            Value::Float(x) => Ok(Some(x)),
            Value::Bool(x) => Ok(Some(f64::from(u8::from(x)))),
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

impl PartialEq for FeatureRow {
    fn eq(&self, other: &Self) -> bool {
        matches!((self.batch(), other.batch()), (Ok(one), Ok(other)) if one == other)
    }
}

impl fmt::Debug for FeatureRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.batch() {
            Ok(batch) => f.debug_tuple("FeatureRow").field(&batch).finish(),
            Err(error) => write!(f, "FeatureRow({error})"),
        }
    }
}
