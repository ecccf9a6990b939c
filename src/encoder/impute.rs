//! Imputation of numbers: a number where a row has none.
//! What it learns does not depend on the order of the rows.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};

use super::{AsOfView, FittedEncoder, Spec, numeric::finite, quantile::quantiles_of, unusable};
use crate::{
    error::{Error, Result},
    numeric::{ExactSum, canonical, float_key, key_float},
};

/// The memory for counting this many different numbers is some 50 MB.
const NUMBERS_AT_MOST: usize = 1_000_000;

/// The feature `<column>_imputed`: the number of a row, or another number where it is missing, as scikit-learn's `SimpleImputer`.
///
/// NULL, NaN and infinities are missing: they are not learned from, and are replaced. (scikit-learn refuses infinities.) So every
/// feature is a finite number; it is NULL only where a number is missing and there was none to learn from. What replaces them is one
/// of these:
///
/// - [`Impute::mean`]: the mean of the training rows, summed exactly;
/// - [`Impute::median`]: their median, with the bits of [`Aggregate::median`](crate::Aggregate::median) over the same floats;
/// - [`Impute::most_frequent`]: their most frequent number, and of several the smallest. Both zeros are one number, 0.0. Fitting
///   fails with [`Error::Limit`] where there are more than 1,000,000 different numbers;
/// - [`Impute::constant`]: a given number. A set in which it is not finite is refused when it is built.
///
/// ```
/// use asof::encoder::Impute;
/// let passengers = Impute::most_frequent("passenger_count"); // named `passenger_count_imputed`
/// let tip = Impute::constant("tip_amount", 0.0).flagged(); // and `tip_amount_missing`
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Impute {
    column: String,
    output: String,
    by: By,
    is_flagged: bool,
}

#[derive(Debug, Clone, Copy)]
enum By {
    Mean,
    Median,
    MostFrequent,
    Constant(f64),
}

impl Impute {
    /// The mean for what is missing.
    pub fn mean(column: impl Into<String>) -> Self {
        Self::new(column.into(), By::Mean)
    }

    /// The median for what is missing.
    pub fn median(column: impl Into<String>) -> Self {
        Self::new(column.into(), By::Median)
    }

    /// The most frequent number for what is missing.
    pub fn most_frequent(column: impl Into<String>) -> Self {
        Self::new(column.into(), By::MostFrequent)
    }

    /// This number for what is missing.
    pub fn constant(column: impl Into<String>, number: f64) -> Self {
        Self::new(column.into(), By::Constant(number))
    }

    fn new(column: String, by: By) -> Self {
        Self { output: format!("{column}_imputed"), column, by, is_flagged: false }
    }

    /// Adds the feature `<column>_missing`: 1 where the number is missing, and 0 elsewhere.
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

impl FittedEncoder for Impute {
    /// What replaces a missing number; `None` when there was none to learn from.
    type State = Option<f64>;

    fn spec(&self) -> Spec {
        let spec = Spec::new("impute", 1).number(&self.column).output(&self.output, DataType::Float64);
        let spec = match self.by {
            By::Mean => spec.parameter("by", "mean"),
            By::Median => spec.parameter("by", "median"),
            By::MostFrequent => spec.parameter("by", "most_frequent"),
            By::Constant(number) => spec.parameter("by", "constant").parameter("constant", number),
        };
        flag(spec.parameter("is_flagged", self.is_flagged), &self.column, self.is_flagged)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        match self.by {
            By::Mean => {
                let (mut sum, mut count) = (ExactSum::default(), 0);
                view.for_each_number(&self.column, |x| {
                    if x.is_finite() {
                        sum.add(x);
                        count += 1;
                    }
                })?;
                Ok(finite(sum.finite_mean(count)))
            }
            By::Median => Ok(quantiles_of(view, &[0.5])?.and_then(|found| found.first().copied())),
            By::MostFrequent => self.most_frequent_of(view),
            By::Constant(number) if number.is_finite() => Ok(Some(number)),
            By::Constant(number) => {
                let reason = format!("it replaces missing numbers by {number:?}; give a finite number");
                Err(unusable(&self.output, reason))
            }
        }
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let numbers = input.column(0).as_primitive::<Float64Type>();
        let present = || numbers.iter().map(|x| x.and_then(finite));
        let imputed: Float64Array = present().map(|x| x.or(*state)).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(imputed)];
        if self.is_flagged {
            columns.push(missing(present().map(|x| x.is_none())));
        }
        Ok(columns)
    }
}

impl Impute {
    fn most_frequent_of(&self, view: &AsOfView<'_>) -> Result<Option<f64>> {
        // By key, which sorts as the numbers do. Numbers beyond the limit are not counted, and the view is read to its end.
        let (mut counts, mut are_too_many) = (BTreeMap::<u64, u64>::new(), false);
        view.for_each_number(&self.column, |x| {
            if x.is_finite() {
                let room = counts.len() < NUMBERS_AT_MOST;
                match counts.entry(float_key(canonical(x))) {
                    Entry::Occupied(count) => *count.into_mut() += 1,
                    Entry::Vacant(count) if room => *count.insert(0) += 1,
                    Entry::Vacant(_) => are_too_many = true,
                }
            }
        })?;
        if are_too_many {
            let reason = format!(
                "looks for the most frequent number of `{}`, which has more than {NUMBERS_AT_MOST} different ones: take the median",
                self.column
            );
            return Err(Error::Limit { subject: format!("`{}`", self.output), reason });
        }
        // Of equal counts the last one wins, so the largest number is the first.
        Ok(counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(key, _)| key_float(key)))
    }
}

/// Adds the flag of a missing value to a spec.
pub(super) fn flag(spec: Spec, column: &str, is_flagged: bool) -> Spec {
    if is_flagged { spec.output(format!("{column}_missing"), DataType::Int64) } else { spec }
}

/// The flags of missing values.
pub(super) fn missing(are_missing: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(are_missing.map(i64::from)))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::encoder::fixed_rows::{assert_near, encoded, fixture, integers, learned, learned_and_encoded, numbers};

    #[test]
    fn it_imputes_as_scikit_learn_does() {
        #[derive(Deserialize)]
        struct Expected {
            mean: Vec<Option<f64>>,
            median: Vec<Option<f64>>,
            most_frequent: Vec<Option<f64>>,
            constant: Vec<Option<f64>>,
            missing: Vec<Option<f64>>,
        }
        let expected: Expected = fixture("impute");
        let (training, rows) = (numbers(fixture::<Vec<Option<f64>>>("training")), numbers(fixture::<Vec<Option<f64>>>("rows")));
        for (encoder, imputed) in [
            (Impute::mean("x"), expected.mean),
            (Impute::median("x"), expected.median),
            (Impute::most_frequent("x"), expected.most_frequent),
            (Impute::constant("x", -1.5), expected.constant),
        ] {
            let encoder = encoder.flagged();
            let columns = encoded(&encoder, &learned(&encoder, &training).unwrap(), &rows);
            assert_near(&columns[0], &imputed);
            assert_near(&columns[1], &expected.missing);
        }
    }

    #[test]
    fn null_nan_and_infinities_are_missing() {
        let odd = [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY)];
        let training = numbers(odd.into_iter().chain([1.0, 1.0, 2.0, 8.0].map(Some)));
        for (encoder, filled) in [
            (Impute::mean("x"), 3.0),
            (Impute::median("x"), 1.5),
            (Impute::most_frequent("x"), 1.0),
            (Impute::constant("x", 0.0), 0.0),
        ] {
            let encoder = encoder.flagged().named("filled");
            let names: Vec<String> = encoder.spec().outputs.iter().map(|field| field.name().clone()).collect();
            assert_eq!(names, ["filled", "x_missing"]);
            let state = learned(&encoder, &training).unwrap();
            let found = encoded(&encoder, &state, &numbers(odd.into_iter().chain([Some(5.0), Some(-0.0)])));
            assert_eq!(found, [numbers([filled, filled, filled, filled, 5.0, -0.0]), integers([1, 1, 1, 1, 0, 0])]);
        }
    }

    #[test]
    fn without_a_number_to_learn_from_what_is_missing_stays_null() {
        let nothing = numbers([None, Some(f64::NAN), Some(f64::INFINITY)]);
        for encoder in [Impute::mean("x"), Impute::median("x"), Impute::most_frequent("x")] {
            assert_eq!(learned(&encoder, &nothing).unwrap(), None);
            assert_eq!(&learned_and_encoded(&encoder, &nothing, &numbers([None, Some(1.0)])), &numbers([None, Some(1.0)]));
        }
        assert_eq!(learned(&Impute::mean("x"), &numbers([f64::MAX, f64::MAX])).unwrap(), Some(f64::MAX));
    }

    #[test]
    fn the_smallest_of_equally_frequent_numbers_is_taken_and_both_zeros_are_one() {
        let most_frequent = |of: Vec<f64>| learned(&Impute::most_frequent("x"), &numbers(of)).unwrap().unwrap();
        assert_eq!(most_frequent(vec![3.0, -2.0, 3.0, -2.0, 9.0]), -2.0);
        assert_eq!(most_frequent(vec![1.0, 1.0, 0.0, -0.0, -0.0]).to_bits(), 0.0_f64.to_bits());
        assert_eq!(most_frequent(vec![1e-300]), 1e-300);
    }

    #[test]
    fn unusable_constants_and_too_many_numbers_are_refused() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let refused = learned(&Impute::constant("x", number), &numbers([1.0])).unwrap_err();
            assert!(matches!(refused, Error::Definition { .. }) && refused.to_string().contains(&format!("{number:?}")));
        }
        let many = |count: usize| learned(&Impute::most_frequent("x"), &numbers((0..count).map(|i| i as f64)));
        let refused = many(NUMBERS_AT_MOST + 1).unwrap_err();
        assert!(matches!(refused, Error::Limit { .. }) && refused.to_string().contains("median"), "{refused}");
        assert_eq!(many(1_000).unwrap(), Some(0.0));
    }
}
