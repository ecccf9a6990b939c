//! One-hot encoding: a column of zeros and ones for each of a fixed number of categories.
//! The columns are fixed by the definition; which category each stands for may be learned.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    buffer::NullBuffer,
    datatypes::DataType,
};

use super::{
    AsOfView, FittedEncoder, Spec, Unseen, unusable,
    vocabulary::{Counts, check_list},
};
use crate::error::Result;

/// More columns than this are refused.
const COLUMNS_AT_MOST: usize = 1_000;

/// A column of 0 and 1 for each category: 1 where the row has this category, as scikit-learn's `OneHotEncoder`.
///
/// The columns of a set are known when it is built, so their number is part of the definition, in one of two ways:
///
/// - [`OneHot::of`] lists the categories. The columns are named after them and learn nothing.
/// - [`OneHot::top`] says how many of the most frequent categories of the training rows get a column. The columns are numbered,
///   `<column>_1` for the most frequent one; of equally frequent categories the one whose bytes are smaller comes first. The state in
///   the manifest says which category each column stands for. If there are fewer categories, the last columns are 0.
///
/// The input is read as by [`Spec::category`]. A category without a column gives 0 in all columns, or what [`OneHot::unseen`] says.
/// NULL is no category: it is not learned from, and gives NULL in all columns. The empty text is a category like others.
///
/// A set whose list is empty or names a category twice, and one with no or more than 1,000 columns, is refused when it is built.
/// [`OneHot::top`] fails with [`Error::Limit`](crate::Error::Limit) where the training rows have more than 100,000 categories, or more
/// than 16 MiB of them.
///
/// ```
/// use asof::encoder::{OneHot, Unseen};
/// let paid = OneHot::of("payment_type", ["card", "cash"]); // `payment_type_card`, `payment_type_cash`
/// let zone = OneHot::top("pickup_zone", 3).unseen(Unseen::Other); // `pickup_zone_1`, .._2, .._3, `pickup_zone_other`
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct OneHot {
    column: String,
    prefix: String,
    categories: Categories,
    unseen: Unseen,
}

#[derive(Debug, Clone)]
enum Categories {
    Listed(Vec<String>),
    Top(usize),
}

impl OneHot {
    /// The columns `<column>_<category>` for these categories.
    pub fn of<S: Into<String>>(column: impl Into<String>, categories: impl IntoIterator<Item = S>) -> Self {
        Self::new(column.into(), Categories::Listed(categories.into_iter().map(Into::into).collect()))
    }

    /// The columns `<column>_1` to `<column>_<count>` for this many of the most frequent categories.
    pub fn top(column: impl Into<String>, count: usize) -> Self {
        Self::new(column.into(), Categories::Top(count))
    }

    fn new(column: String, categories: Categories) -> Self {
        Self { prefix: column.clone(), column, categories, unseen: Unseen::Zero }
    }

    /// What a category without a column gives; [`Unseen::Zero`] unless this is called.
    pub fn unseen(mut self, unseen: Unseen) -> Self {
        self.unseen = unseen;
        self
    }

    /// What the names of the columns begin with, instead of the column's name: `<prefix>_<category>`.
    pub fn named(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    fn columns(&self) -> usize {
        match &self.categories {
            Categories::Listed(categories) => categories.len(),
            Categories::Top(count) => *count,
        }
    }
}

impl FittedEncoder for OneHot {
    /// The number of the column, from 1, that stands for each category.
    type State = BTreeMap<String, usize>;

    fn spec(&self) -> Spec {
        let spec = Spec::new("one_hot", 1).category(&self.column).parameter("unseen", self.unseen.name());
        // A number of columns that `fit` refuses must not fill the memory before.
        let columns = self.columns().min(COLUMNS_AT_MOST);
        let (spec, mut names) = match &self.categories {
            Categories::Listed(categories) => {
                (spec.parameter("categories", categories.clone()), categories.iter().take(columns).cloned().collect())
            }
            Categories::Top(count) => (spec.parameter("top", *count), (1..=columns).map(|n| n.to_string()).collect::<Vec<_>>()),
        };
        if self.unseen == Unseen::Other {
            names.push("other".into());
        }
        names.iter().fold(spec, |spec, name| spec.output(format!("{}_{name}", self.prefix), DataType::Int64))
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        let categories = match &self.categories {
            Categories::Listed(categories) => {
                check_list(&self.prefix, categories, COLUMNS_AT_MOST)?;
                categories.clone()
            }
            Categories::Top(count) if !(1..=COLUMNS_AT_MOST).contains(count) => {
                let reason =
                    format!("it has columns for the {count} most frequent categories; it can have 1 to {COLUMNS_AT_MOST}");
                return Err(unusable(&self.prefix, reason));
            }
            Categories::Top(count) => Counts::of(view, &self.column, &self.prefix)?.most_frequent(*count),
        };
        Ok(categories.into_iter().zip(1..).collect())
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let columns = self.columns().min(COLUMNS_AT_MOST) + usize::from(self.unseen == Unseen::Other);
        let mut ones = vec![vec![0_i64; input.num_rows()]; columns];
        let mut valid = vec![true; input.num_rows()];
        for (row, text) in input.column(0).as_string::<i32>().iter().enumerate() {
            let number = match (text.map(|text| state.get(text)), self.unseen) {
                (None, _) | (Some(None), Unseen::Null) => {
                    valid[row] = false;
                    continue;
                }
                (Some(Some(number)), _) => *number,
                (Some(None), Unseen::Other) => columns,
                (Some(None), Unseen::Zero) => continue,
            };
            if let Some(column) = number.checked_sub(1).and_then(|position| ones.get_mut(position)) {
                column[row] = 1;
            }
        }
        let nulls = NullBuffer::from(valid);
        let column = |ones: Vec<i64>| Arc::new(Int64Array::new(ones.into(), Some(nulls.clone()))) as ArrayRef;
        Ok(ones.into_iter().map(column).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::encoder::fixed_rows::{assert_near, encoded, fixture, integers, learned, texts};
    use crate::error::Error;

    fn names(encoder: &OneHot) -> Vec<String> {
        encoder.spec().outputs.iter().map(|field| field.name().clone()).collect()
    }

    #[test]
    fn it_encodes_as_scikit_learn_does() {
        #[derive(Deserialize)]
        struct Expected {
            rows: Vec<String>,
            categories: Vec<String>,
            columns: Vec<Vec<Option<f64>>>,
            top_categories: Vec<String>,
            top_columns: Vec<Vec<Option<f64>>>,
        }
        let (expected, training) = (fixture::<Expected>("one_hot"), fixture::<Vec<String>>("categories"));
        let (training, rows) = (texts(training.iter().map(String::as_str)), texts(expected.rows.iter().map(String::as_str)));
        let listed = OneHot::of("x", expected.categories);
        let top = OneHot::top("x", expected.top_categories.len()).unseen(Unseen::Other);
        assert_eq!(learned(&top, &training).unwrap(), expected.top_categories.into_iter().zip(1..).collect());
        for (encoder, columns) in [(listed, expected.columns), (top, expected.top_columns)] {
            let found = encoded(&encoder, &learned(&encoder, &training).unwrap(), &rows);
            assert_eq!(found.len(), columns.len());
            found.iter().zip(&columns).for_each(|(found, expected)| assert_near(found, expected));
        }
    }

    #[test]
    fn columns_are_named_by_the_definition_and_numbered_by_frequency() {
        assert_eq!(names(&OneHot::of("paid", ["card", ""]).unseen(Unseen::Other)), ["paid_card", "paid_", "paid_other"]);
        assert_eq!(names(&OneHot::top("zone", 2).named("z")), ["z_1", "z_2"]);
        let training = texts([Some("b"), None, Some("a"), Some("c"), Some("c"), None, Some("")]);
        let state = learned(&OneHot::top("zone", 3), &training).unwrap();
        assert_eq!(state, [("c", 1), ("", 2), ("a", 3)].map(|(category, number)| (category.to_owned(), number)).into());
        // One category more than there is: the last column stands for none.
        let top = OneHot::top("zone", 5);
        let found = encoded(&top, &learned(&top, &training).unwrap(), &texts(["b", "c"]));
        assert_eq!(found, [[0, 1], [0, 0], [0, 0], [1, 0], [0, 0]].map(integers));
    }

    #[test]
    fn unseen_categories_follow_the_rule_and_null_is_null() {
        let (training, rows) = (texts(["a", "b", "b"]), texts([Some("a"), None, Some("new"), Some("b")]));
        let (no, yes) = (Some(0), Some(1));
        let (b, a) = ([no, None, no, yes], [yes, None, no, no]);
        let null = |column: [Option<i64>; 4]| [column[0], column[1], None, column[3]];
        for (unseen, expected) in
            [(Unseen::Zero, vec![b, a]), (Unseen::Null, vec![null(b), null(a)]), (Unseen::Other, vec![b, a, [no, None, yes, no]])]
        {
            for encoder in [OneHot::top("x", 2).unseen(unseen), OneHot::of("x", ["b", "a"]).unseen(unseen)] {
                let found = encoded(&encoder, &learned(&encoder, &training).unwrap(), &rows);
                assert_eq!(found, expected.iter().copied().map(integers).collect::<Vec<_>>(), "{unseen:?}");
            }
        }
        // Without training rows every category is unseen.
        let encoder = OneHot::top("x", 1);
        let found = encoded(&encoder, &learned(&encoder, &texts([None, None])).unwrap(), &rows);
        assert_eq!(found, [integers([no, None, no, no])]);
    }

    #[test]
    fn unusable_definitions_are_refused_and_fill_no_memory() {
        let said = |encoder: &OneHot| {
            assert!(encoder.spec().outputs.len() <= COLUMNS_AT_MOST);
            let refused = learned(encoder, &texts(["a"])).unwrap_err();
            assert!(matches!(&refused, Error::Definition { .. }), "{refused}");
            refused.to_string()
        };
        for count in [0, COLUMNS_AT_MOST + 1, usize::MAX] {
            assert!(said(&OneHot::top("x", count)).contains(&format!("the {count} most frequent")));
        }
        assert!(said(&OneHot::of("x", [""; 0])).contains("empty list"));
        assert!(said(&OneHot::of("x", ["a", "b", "a"])).contains("\"a\" twice"));
        assert!(said(&OneHot::of("x", (0..=COLUMNS_AT_MOST).map(|i| i.to_string()))).contains("1001 categories"));
    }
}
