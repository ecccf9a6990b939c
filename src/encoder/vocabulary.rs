//! The categories of a column, counted over the training rows, and what stands for a category that is not among those learned.
//! Counts do not depend on the order of the rows.

use std::collections::BTreeMap;

use super::AsOfView;
use crate::error::{Error, Result};

/// More categories than this are refused: a state is kept in a manifest, which every reader of a materialization loads.
pub(super) const CATEGORIES_AT_MOST: usize = 100_000;
/// So are longer texts: the bytes of all categories together.
pub(super) const BYTES_AT_MOST: usize = 16 << 20;

/// What [`OneHot`](super::OneHot) and [`Ordinal`](super::Ordinal) give for a category that is not among theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unseen {
    /// NULL, in every column.
    Null,
    /// 0, in every column. The numbers of [`Ordinal`](super::Ordinal) then begin at 1.
    Zero,
    /// What one more category would get: 1 in one more column, `<column>_other`, of [`OneHot`](super::OneHot); the number after the
    /// last of [`Ordinal`](super::Ordinal).
    Other,
}

impl Unseen {
    /// As it is written in a spec.
    pub(super) fn name(self) -> &'static str {
        match self {
            Unseen::Null => "null",
            Unseen::Zero => "zero",
            Unseen::Other => "other",
        }
    }
}

/// How many training rows have each category. NULL is none.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) by_category: BTreeMap<String, u64>,
}

impl Counts {
    /// The counts of a column of categories. `feature` is named in errors.
    pub(super) fn of(view: &AsOfView<'_>, column: &str, feature: &str) -> Result<Self> {
        let (mut counts, mut bytes) = (Self::default(), 0);
        view.for_each_text(column, |text| {
            counts.rows += 1;
            if let Some(count) = counts.by_category.get_mut(text) {
                *count += 1;
                return Ok(());
            }
            bytes += text.len();
            if counts.by_category.len() == CATEGORIES_AT_MOST || bytes > BYTES_AT_MOST {
                return Err(too_many(column, feature));
            }
            counts.by_category.insert(text.to_owned(), 1);
            Ok(())
        })?;
        Ok(counts)
    }

    /// The most frequent categories, the most frequent one first; of equally frequent ones the one whose bytes are smaller.
    pub(super) fn most_frequent(self, count: usize) -> Vec<String> {
        let mut categories: Vec<(String, u64)> = self.by_category.into_iter().collect();
        // The sort is stable, and the categories are in the order of their bytes.
        categories.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        categories.into_iter().take(count).map(|(category, _)| category).collect()
    }
}

/// The error of a column with more categories than a state can hold.
pub(super) fn too_many(column: &str, feature: &str) -> Error {
    let reason = format!(
        "learns the categories of `{column}`, and there are more than {CATEGORIES_AT_MOST} or more than {} MiB of them: hash them into \
         buckets, or give rare ones one name in the set's query",
        BYTES_AT_MOST >> 20
    );
    Error::Limit { subject: format!("`{feature}`"), reason }
}

/// Refuses a list of categories without any, with one twice, or with too many.
pub(super) fn check_list(feature: &str, categories: &[String], at_most: usize) -> Result<()> {
    let refused = |reason: String| Err(Error::Definition { subject: format!("`{feature}`"), reason });
    if categories.is_empty() {
        return refused("it has an empty list of categories; name at least one".into());
    }
    if categories.len() > at_most {
        return refused(format!("it lists {} categories; it can have {at_most}", categories.len()));
    }
    let mut sorted: Vec<&String> = categories.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => refused(format!("it lists the category {:?} twice", pair[0])),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::ArrayRef;

    use super::*;
    use crate::encoder::{
        Frequency, ImputeCategory, OneHot, Ordinal,
        fixed_rows::{learned, texts},
    };

    #[test]
    fn equally_frequent_categories_are_in_the_order_of_their_bytes() {
        let counts = |pairs: &[(&str, u64)]| Counts {
            rows: 0,
            by_category: pairs.iter().map(|(category, count)| ((*category).to_owned(), *count)).collect(),
        };
        let counted = || counts(&[("b", 2), ("ä", 2), ("Z", 2), ("", 2), ("rare", 1), ("often", 9)]);
        assert_eq!(counted().most_frequent(9), ["often", "", "Z", "b", "ä", "rare"]);
        assert_eq!(counted().most_frequent(2), ["often", ""]);
        assert!(counted().most_frequent(0).is_empty());
    }

    #[test]
    fn a_vocabulary_without_bounds_is_refused_with_what_to_do() {
        let many = |count: usize| {
            let all: Vec<String> = (0..count).map(|i| i.to_string()).collect();
            texts(all.iter().map(String::as_str))
        };
        let refused = |column: &ArrayRef| {
            let of = |found: Result<()>| found.unwrap_err().to_string();
            [
                of(learned(&Frequency::of("zone"), column).map(|_| ())),
                of(learned(&Ordinal::of("zone"), column).map(|_| ())),
                of(learned(&OneHot::top("zone", 3), column).map(|_| ())),
                of(learned(&ImputeCategory::most_frequent("zone"), column).map(|_| ())),
            ]
        };
        let mib = ["x".repeat(8 << 20), "y".repeat(8 << 20), "z".to_owned()];
        for column in [many(CATEGORIES_AT_MOST + 1), texts(mib.iter().map(String::as_str))] {
            for said in refused(&column) {
                assert!(said.contains("`zone`") && said.contains("more than 100000") && said.contains("hash"), "{said}");
            }
        }
        assert_eq!(learned(&Ordinal::of("zone"), &many(CATEGORIES_AT_MOST)).unwrap().len(), CATEGORIES_AT_MOST);
    }
}
