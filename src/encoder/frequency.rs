//! Frequency encoding: how common a row's category is.
//! What it learns does not depend on the order of the rows.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::DataType,
};
use serde::{Deserialize, Serialize};

use super::{AsOfView, FittedEncoder, Spec, vocabulary::Counts};
use crate::error::Result;

/// The feature `<column>_frequency`: the share of the training rows that have this row's category, from 0 to 1, as pandas'
/// `value_counts(normalize=True)`.
///
/// Rows with NULL are not counted, and NULL gives NULL. A category that no training row has gives 0. The input is read as by
/// [`Spec::category`]. Fitting fails with [`Error::Limit`](crate::Error::Limit) where the training rows have more than 100,000
/// categories, or more than 16 MiB of them.
///
/// ```
/// use asof::encoder::Frequency;
/// let zone = Frequency::of("pickup_zone"); // named `pickup_zone_frequency`
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Frequency {
    column: String,
    output: String,
}

/// What [`Frequency`] learns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FrequencyState {
    /// The number of training rows with a category.
    pub rows: u64,
    /// The number of those with each category.
    pub rows_of: BTreeMap<String, u64>,
}

impl Frequency {
    /// Of this column.
    pub fn of(column: impl Into<String>) -> Self {
        let column = column.into();
        Self { output: format!("{column}_frequency"), column }
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl FittedEncoder for Frequency {
    type State = FrequencyState;

    fn spec(&self) -> Spec {
        Spec::new("frequency", 1).category(&self.column).output(&self.output, DataType::Float64)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        let counts = Counts::of(view, &self.column, &self.output)?;
        Ok(FrequencyState { rows: counts.rows, rows_of: counts.by_category })
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let share = |text: &str| state.rows_of.get(text).map_or(0.0, |count| *count as f64 / state.rows as f64);
        let shares: Float64Array = input.column(0).as_string::<i32>().iter().map(|text| text.map(share)).collect();
        Ok(vec![Arc::new(shares)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::fixed_rows::{assert_near, fixture, learned, learned_and_encoded, numbers, texts};

    #[test]
    fn shares_are_those_of_pandas() {
        #[derive(Deserialize)]
        struct Expected {
            training: Vec<Option<String>>,
            rows: Vec<Option<String>>,
            shares: Vec<Option<f64>>,
        }
        let expected: Expected = fixture("frequency");
        let (training, rows) =
            (texts(expected.training.iter().map(Option::as_deref)), texts(expected.rows.iter().map(Option::as_deref)));
        assert_near(&learned_and_encoded(&Frequency::of("x"), &training, &rows), &expected.shares);
    }

    #[test]
    fn null_is_not_counted_and_unseen_categories_give_zero() {
        let encoder = Frequency::of("x");
        let training = texts([Some("a"), None, Some(""), Some("a"), None, Some("b")]);
        let state = learned(&encoder, &training).unwrap();
        assert_eq!((state.rows, state.rows_of["a"], state.rows_of.len()), (4, 2, 3));
        let rows = texts([Some("a"), Some(""), Some("new"), None]);
        assert_eq!(&learned_and_encoded(&encoder, &training, &rows), &numbers([Some(0.5), Some(0.25), Some(0.0), None]));
        assert_eq!(&learned_and_encoded(&encoder, &texts([None]), &rows), &numbers([Some(0.0), Some(0.0), Some(0.0), None]));
    }
}
