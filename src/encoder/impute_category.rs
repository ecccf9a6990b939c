//! Imputation of categories: a category where a row has none.
//! What it learns does not depend on the order of the rows.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray},
    datatypes::DataType,
};

use super::{
    AsOfView, FittedEncoder, Spec,
    impute::{flag, missing},
    vocabulary::Counts,
};
use crate::error::Result;

/// The feature `<column>_imputed`, a text: the category of a row, or another one where it is NULL, as scikit-learn's
/// `SimpleImputer`.
///
/// The empty text is a category like others, and is not replaced. The input is read as by [`Spec::category`]. What replaces NULL is
/// one of these:
///
/// - [`ImputeCategory::most_frequent`]: the most frequent category of the training rows, and of several the one whose bytes are
///   smallest. NULL stays if there was none to learn from. Fitting fails with [`Error::Limit`](crate::Error::Limit) where the
///   training rows have more than 100,000 categories, or more than 16 MiB of them;
/// - [`ImputeCategory::constant`]: a given category.
///
/// ```
/// use asof::encoder::ImputeCategory;
/// let paid = ImputeCategory::constant("payment_type", "unknown"); // named `payment_type_imputed`
/// let vendor = ImputeCategory::most_frequent("vendor").flagged(); // and `vendor_missing`
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ImputeCategory {
    column: String,
    output: String,
    constant: Option<String>,
    is_flagged: bool,
}

impl ImputeCategory {
    /// The most frequent category for NULL.
    pub fn most_frequent(column: impl Into<String>) -> Self {
        Self::new(column.into(), None)
    }

    /// This category for NULL.
    pub fn constant(column: impl Into<String>, category: impl Into<String>) -> Self {
        Self::new(column.into(), Some(category.into()))
    }

    fn new(column: String, constant: Option<String>) -> Self {
        Self { output: format!("{column}_imputed"), column, constant, is_flagged: false }
    }

    /// Adds the feature `<column>_missing`: 1 where the category is NULL, and 0 elsewhere.
    pub fn flagged(mut self) -> Self {
        self.is_flagged = true;
        self
    }

    /// The feature's name. That of the flag stays.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl FittedEncoder for ImputeCategory {
    /// What replaces NULL; `None` when there was no category to learn from.
    type State = Option<String>;

    fn spec(&self) -> Spec {
        let spec = Spec::new("impute_category", 1).category(&self.column).output(&self.output, DataType::Utf8);
        let spec = spec.parameter("constant", self.constant.clone()).parameter("is_flagged", self.is_flagged);
        flag(spec, &self.column, self.is_flagged)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        match &self.constant {
            Some(category) => Ok(Some(category.clone())),
            None => Ok(Counts::of(view, &self.column, &self.output)?.most_frequent(1).pop()),
        }
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let texts = input.column(0).as_string::<i32>();
        let imputed: StringArray = texts.iter().map(|text| text.or(state.as_deref())).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(imputed)];
        if self.is_flagged {
            columns.push(missing((0..texts.len()).map(|row| texts.is_null(row))));
        }
        Ok(columns)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::encoder::fixed_rows::{encoded, fixture, integers, learned, learned_and_encoded, texts};

    #[test]
    fn it_imputes_as_scikit_learn_does() {
        #[derive(Deserialize)]
        struct Expected {
            training: Vec<Option<String>>,
            rows: Vec<Option<String>>,
            most_frequent: Vec<String>,
            constant: Vec<String>,
            missing: Vec<i64>,
        }
        let expected: Expected = fixture("impute_category");
        let (training, rows) =
            (texts(expected.training.iter().map(Option::as_deref)), texts(expected.rows.iter().map(Option::as_deref)));
        for (encoder, imputed) in [
            (ImputeCategory::most_frequent("x"), expected.most_frequent),
            (ImputeCategory::constant("x", "none"), expected.constant),
        ] {
            let encoder = encoder.flagged();
            let found = encoded(&encoder, &learned(&encoder, &training).unwrap(), &rows);
            assert_eq!(found, [texts(imputed.iter().map(String::as_str)), integers(expected.missing.clone())]);
        }
    }

    #[test]
    fn the_empty_text_is_a_category_and_null_stays_if_there_was_none() {
        let encoder = ImputeCategory::most_frequent("x");
        let rows = texts([Some(""), None, Some("new")]);
        let training = texts([Some("b"), Some(""), Some("b"), Some(""), None, None, None]);
        assert_eq!(&learned_and_encoded(&encoder, &training, &rows), &texts(["", "", "new"]));
        assert_eq!(&learned_and_encoded(&encoder, &texts([None]), &rows), &rows);
    }
}
