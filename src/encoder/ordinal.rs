//! Ordinal encoding: a number for each category.
//! The numbers follow the order of the texts, or a given order.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::DataType,
};

use super::{
    AsOfView, FittedEncoder, Spec, Unseen,
    vocabulary::{CATEGORIES_AT_MOST, Counts, check_list},
};
use crate::error::Result;

/// The feature `<column>_ordinal`: the number of a row's category, from 0, as scikit-learn's `OrdinalEncoder`.
///
/// [`Ordinal::of`] learns all categories of the training rows and numbers them in the order of their bytes, whatever their number of
/// rows: `"10"` comes before `"9"`. [`Ordinal::in_order`] numbers listed categories and learns nothing.
///
/// The input is read as by [`Spec::category`]. A category that is not among these gives NULL, or what [`Ordinal::unseen`] says. NULL
/// is no category: it is not learned from, and gives NULL. The empty text is a category like others.
///
/// A set whose list is empty or names a category twice is refused when it is built. Fitting fails with
/// [`Error::Limit`](crate::Error::Limit) where the training rows have more than 100,000 categories, or more than 16 MiB of them.
///
/// ```
/// use asof::encoder::{Ordinal, Unseen};
/// let zone = Ordinal::of("pickup_zone").unseen(Unseen::Other); // named `pickup_zone_ordinal`
/// let size = Ordinal::in_order("size", ["S", "M", "L"]);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Ordinal {
    column: String,
    output: String,
    categories: Option<Vec<String>>,
    unseen: Unseen,
}

impl Ordinal {
    /// The categories of the training rows.
    pub fn of(column: impl Into<String>) -> Self {
        Self::new(column.into(), None)
    }

    /// These categories, in this order.
    pub fn in_order<S: Into<String>>(column: impl Into<String>, categories: impl IntoIterator<Item = S>) -> Self {
        Self::new(column.into(), Some(categories.into_iter().map(Into::into).collect()))
    }

    fn new(column: String, categories: Option<Vec<String>>) -> Self {
        Self { output: format!("{column}_ordinal"), column, categories, unseen: Unseen::Null }
    }

    /// What a category without a number gives; [`Unseen::Null`] unless this is called.
    pub fn unseen(mut self, unseen: Unseen) -> Self {
        self.unseen = unseen;
        self
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl FittedEncoder for Ordinal {
    /// The number of each category.
    type State = BTreeMap<String, i64>;

    fn spec(&self) -> Spec {
        let spec = Spec::new("ordinal", 1).category(&self.column).parameter("unseen", self.unseen.name());
        spec.parameter("categories", self.categories.clone()).output(&self.output, DataType::Int64)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        let categories: Vec<String> = match &self.categories {
            Some(categories) => {
                check_list(&self.output, categories, CATEGORIES_AT_MOST)?;
                categories.clone()
            }
            None => Counts::of(view, &self.column, &self.output)?.by_category.into_keys().collect(),
        };
        let first = i64::from(self.unseen == Unseen::Zero);
        Ok(categories.into_iter().zip(first..).collect())
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let unseen = match self.unseen {
            Unseen::Null => None,
            Unseen::Zero => Some(0),
            Unseen::Other => Some(state.len() as i64),
        };
        let texts = input.column(0).as_string::<i32>();
        let numbers: Int64Array = texts.iter().map(|text| state.get(text?).copied().or(unseen)).collect();
        Ok(vec![Arc::new(numbers)])
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::encoder::fixed_rows::{assert_near, fixture, integers, learned, learned_and_encoded, texts};

    #[test]
    fn it_numbers_as_scikit_learn_does() {
        #[derive(Deserialize)]
        struct Expected {
            rows: Vec<String>,
            learned: Vec<Option<f64>>,
            order: Vec<String>,
            in_order: Vec<Option<f64>>,
        }
        let (expected, training) = (fixture::<Expected>("ordinal"), fixture::<Vec<String>>("categories"));
        let (training, rows) = (texts(training.iter().map(String::as_str)), texts(expected.rows.iter().map(String::as_str)));
        assert_near(&learned_and_encoded(&Ordinal::of("x"), &training, &rows), &expected.learned);
        assert_near(&learned_and_encoded(&Ordinal::in_order("x", expected.order), &training, &rows), &expected.in_order);
    }

    #[test]
    fn unseen_categories_follow_the_rule_and_null_is_null() {
        let training = texts([Some("9"), Some("10"), None, Some("ä"), Some("9"), Some("")]);
        let rows = texts([Some(""), Some("10"), Some("9"), Some("ä"), Some("new"), None]);
        for (unseen, expected) in [
            (Unseen::Null, [Some(0), Some(1), Some(2), Some(3), None, None]),
            (Unseen::Zero, [Some(1), Some(2), Some(3), Some(4), Some(0), None]),
            (Unseen::Other, [Some(0), Some(1), Some(2), Some(3), Some(4), None]),
        ] {
            assert_eq!(&learned_and_encoded(&Ordinal::of("x").unseen(unseen), &training, &rows), &integers(expected));
            let listed = Ordinal::in_order("x", ["", "10", "9", "ä"]).unseen(unseen);
            assert_eq!(&learned_and_encoded(&listed, &texts(["new"]), &rows), &integers(expected));
        }
        let nothing = learned_and_encoded(&Ordinal::of("x").unseen(Unseen::Other), &texts([None]), &texts(["a"]));
        assert_eq!(&nothing, &integers([0]));
    }

    #[test]
    fn a_list_is_empty_or_repeats_itself() {
        for (categories, expected) in [(vec![], "empty list"), (vec!["S", "M", "S"], "\"S\" twice")] {
            let refused = learned(&Ordinal::in_order("x", categories), &texts(["S"])).unwrap_err();
            assert!(refused.to_string().contains("`x_ordinal`") && refused.to_string().contains(expected), "{refused}");
        }
    }
}
