//! Features and a label as `ndarray` matrices.
//! NULL becomes NaN, and no row is dropped.

use arrow::{
    array::{Array, RecordBatch},
    datatypes::DataType,
};
use futures::{Stream, StreamExt};
use ndarray::{Array1, Array2, ArrayView1, Axis};

use crate::{
    error::{Error, Result},
    materialize::Materialization,
    value::floats,
};

/// A training set: one row of `records` and one of `targets` per row of the materialization, in its order.
///
/// With the flag `linfa`, `linfa::Dataset::from(data)` converts it to a dataset of linfa 0.8.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The names of the features: the columns of `records`.
    pub features: Vec<String>,
    /// The name of the label.
    pub label: String,
    /// Features, rows by features; NULL is NaN.
    pub records: Array2<f64>,
    /// The label of each row; NULL is NaN.
    pub targets: Array1<f64>,
}

impl Dataset {
    /// The named columns of these rows as numbers.
    pub(crate) async fn collect(
        place: &str,
        rows: impl Stream<Item = Result<RecordBatch>>,
        features: &[String],
        label: &str,
    ) -> Result<Self> {
        let (mut records, mut targets) = (Vec::new(), Vec::new());
        let mut rows = std::pin::pin!(rows);
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let columns = features.iter().map(|name| numbers(place, &batch, name)).collect::<Result<Vec<_>>>()?;
            targets.extend(numbers(place, &batch, label)?);
            for row in 0..batch.num_rows() {
                records.extend(columns.iter().map(|column| column[row]));
            }
        }
        let shape = (targets.len(), features.len());
        let records = Array2::from_shape_vec(shape, records)
            .map_err(|e| Error::Internal { subject: format!("reading the rows of {place}"), reason: e.to_string() })?;
        Ok(Self { features: features.to_vec(), label: label.into(), records, targets: targets.into() })
    }

    /// The same rows without these features; names that it does not have are of no effect.
    pub fn without<S: AsRef<str>>(&self, features: impl IntoIterator<Item = S>) -> Self {
        let dropped: Vec<String> = features.into_iter().map(|name| name.as_ref().to_owned()).collect();
        let kept: Vec<usize> = (0..self.features.len()).filter(|&i| !dropped.contains(&self.features[i])).collect();
        Self {
            features: kept.iter().map(|&i| self.features[i].clone()).collect(),
            label: self.label.clone(),
            records: self.records.select(Axis(1), &kept),
            targets: self.targets.clone(),
        }
    }

    /// The columns that hold NULL, NaN or an infinity, each with the number of such rows: features in their order, then the
    /// label. Learners cannot use such values; see [`NotNull`](crate::encoder::NotNull).
    pub fn unusable(&self) -> Vec<(String, usize)> {
        let count = |column: ArrayView1<'_, f64>| column.iter().filter(|x| !x.is_finite()).count();
        let features = self.features.iter().zip(self.records.axis_iter(Axis(1)));
        let all = features.chain([(&self.label, self.targets.view())]);
        all.map(|(name, column)| (name.clone(), count(column))).filter(|(_, count)| *count > 0).collect()
    }

    /// Refuses features or labels that are not finite; the error names the columns.
    pub(crate) fn check_finite(&self) -> Result<(), String> {
        self.refuse(&self.unusable())
    }

    /// As [`Dataset::check_finite`], for the label alone.
    pub(crate) fn check_targets(&self) -> Result<(), String> {
        let mut unusable = self.unusable();
        unusable.retain(|(name, _)| *name == self.label);
        self.refuse(&unusable)
    }

    fn refuse(&self, unusable: &[(String, usize)]) -> Result<(), String> {
        if unusable.is_empty() {
            return Ok(());
        }
        let rows = self.targets.len();
        let one = |(name, count): &(String, usize)| format!("`{name}` in {count} of {rows} rows");
        Err(format!(
            "NULL, NaN or infinite: {}; drop such rows with the row selection `NotNull::of_numbers`, which names columns of the \
             set's query, or by a condition in that query",
            unusable.iter().map(one).collect::<Vec<_>>().join(", ")
        ))
    }
}

fn numbers(place: &str, batch: &RecordBatch, name: &str) -> Result<Vec<f64>> {
    let schema = batch.schema_ref();
    let column = batch.column_by_name(name).ok_or_else(|| Error::unknown_column(place, name, schema))?;
    if !column.data_type().is_numeric() && *column.data_type() != DataType::Boolean {
        return Err(Error::ColumnType {
            subject: place.into(),
            column: name.into(),
            found: column.data_type().to_string(),
            needed: "a dataset can hold only numbers; encode the column as a number".into(),
        });
    }
    let floats = floats(column)?;
    Ok((0..floats.len()).map(|row| if floats.is_null(row) { f64::NAN } else { floats.value(row) }).collect())
}

impl Materialization {
    /// The features and the column `label` as matrices. `label` is a label of a set of rows, or any other column.
    ///
    /// If `label` is a feature, it is left out of the features.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] when there is no such column, [`Error::ColumnType`] when a feature or the label is not a number.
    pub async fn dataset(&self, label: &str) -> Result<Dataset> {
        let features: Vec<String> = self.manifest().features.iter().filter(|f| *f != label).cloned().collect();
        Dataset::collect(&format!("materialization of `{}`", self.manifest().set), self.batches().await?, &features, label).await
    }
}
