//! Bins of about equal counts of training rows, between quantiles.
//! What it learns does not depend on the order of the rows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};
use serde::{Deserialize, Serialize};

use super::{
    AsOfView, FittedEncoder, Spec,
    numeric::finite,
    quantile::{Fraction, quantiles_at},
    unusable,
};
use crate::error::Result;

/// Beyond this many bins the search for their edges would take too much memory.
const BINS_AT_MOST: usize = 256;

/// The feature `<column>_bin`: the number of the bin, from 0, that a number lies in. The edges are the quantiles at `0, 1/n, .. 1` of
/// the training rows, as in scikit-learn's `KBinsDiscretizer(strategy="quantile", quantile_method="linear", encode="ordinal")`.
///
/// A number on an edge is in the upper bin. A number below all edges is in the first bin, one above all in the last. Equal edges
/// count once, so a column with many equal numbers has fewer bins than asked for, and a constant column has bin 0 alone.
/// (scikit-learn also merges edges that differ by 1e-8 or less.) NULL, NaN and infinities are neither learned from nor encoded: they
/// give NULL, as does every number if there was none to learn from. A set with fewer than 2 or more than 256 bins is refused when it
/// is built.
///
/// ```
/// use asof::encoder::QuantileBins;
/// let decile = QuantileBins::of("trip_distance", 10); // named `trip_distance_bin`
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct QuantileBins {
    column: String,
    bins: usize,
    output: String,
}

/// What [`QuantileBins`] learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuantileBinsState {
    /// The edges in ascending order, each once: the smallest number, those between the bins, the largest number.
    pub edges: Vec<f64>,
}

impl QuantileBins {
    /// This many bins, from 2 to 256.
    pub fn of(column: impl Into<String>, bins: usize) -> Self {
        let column = column.into();
        Self { output: format!("{column}_bin"), column, bins }
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl FittedEncoder for QuantileBins {
    /// `None` when there was no number to learn from.
    type State = Option<QuantileBinsState>;

    fn spec(&self) -> Spec {
        let spec = Spec::new("quantile_bins", 1).number(&self.column).output(&self.output, DataType::Int64);
        spec.parameter("bins", self.bins)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        if !(2..=BINS_AT_MOST).contains(&self.bins) {
            let reason = format!("it has {} bins; it can have 2 to {BINS_AT_MOST}", self.bins);
            return Err(unusable(&self.output, reason));
        }
        let edge = |i: usize| {
            let (numerator, denominator) = (i as f64, self.bins as f64);
            Fraction { numerator, denominator, nearest: numerator / denominator }
        };
        let probabilities = (0..=self.bins).map(edge).collect();
        Ok(quantiles_at(view, probabilities)?.map(|mut edges| {
            edges.dedup();
            QuantileBinsState { edges }
        }))
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let numbers = input.column(0).as_primitive::<Float64Type>();
        let between = state.as_ref().map(|s| s.edges.get(1..s.edges.len().saturating_sub(1)).unwrap_or_default());
        let bins: Int64Array =
            numbers.unary_opt(|x| finite(x).zip(between).map(|(x, edges)| edges.partition_point(|edge| *edge <= x) as i64));
        Ok(vec![Arc::new(bins)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::fixed_rows::{assert_near, fixture, integers, learned, learned_and_encoded, numbers};

    /// Edges that fall on numbers are these numbers, so equal ones count once; numpy's percentiles and scikit-learn's bins.
    #[test]
    fn an_edge_on_a_number_is_that_number() {
        let rows = [0.1, 1.1, 4.1, 4.1, 16.1, 25.1, 36.1, 49.1, 64.1, 81.1, 100.1];
        let (encoder, rows) = (QuantileBins::of("x", 10), numbers(rows));
        let state = learned(&encoder, &rows).unwrap().unwrap();
        assert_eq!(state.edges, [0.1, 1.1, 4.1, 16.1, 25.1, 36.1, 49.1, 64.1, 81.1, 100.1]);
        let expected = integers([0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 8]);
        assert_eq!(&learned_and_encoded(&encoder, &rows, &rows), &expected);
    }

    #[test]
    fn it_bins_as_scikit_learn_does() {
        #[derive(Deserialize)]
        struct Case {
            training: Vec<Option<f64>>,
            bins: usize,
            edges: Vec<f64>,
            rows: Vec<Option<f64>>,
            binned: Vec<Option<f64>>,
        }
        for case in fixture::<Vec<Case>>("quantile_bins") {
            let (encoder, training) = (QuantileBins::of("x", case.bins), numbers(case.training));
            let edges = learned(&encoder, &training).unwrap().unwrap().edges;
            assert_near(&numbers(edges), &case.edges.into_iter().map(Some).collect::<Vec<_>>());
            assert_near(&learned_and_encoded(&encoder, &training, &numbers(case.rows)), &case.binned);
        }
    }

    #[test]
    fn a_number_on_an_edge_is_in_the_upper_bin_whatever_the_number_of_bins() {
        for bins in [2, 3, 6, 7, 10, 49, 100, BINS_AT_MOST] {
            let steps = |from: i32| numbers((0..=bins as i32).map(|i| f64::from(i + from)));
            let expected = integers((0..=bins as i64).map(|i| i.min(bins as i64 - 1)));
            for from in [0, -7, 1_000_000] {
                let found = learned_and_encoded(&QuantileBins::of("x", bins), &steps(from), &steps(from));
                assert_eq!(&found, &expected, "{bins} bins from {from}");
            }
        }
    }

    #[test]
    fn numbers_beyond_the_edges_are_in_the_outer_bins_and_others_have_none() {
        let encoder = QuantileBins::of("x", 2);
        let odd = [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY)];
        let training = numbers(odd.into_iter().chain([1.0, 2.0, 4.0].map(Some)));
        assert_eq!(learned(&encoder, &training).unwrap().unwrap().edges, [1.0, 2.0, 4.0]);
        let rows = numbers([-1e308, 1.0, 1.9, 2.0, 4.0, 1e308]);
        assert_eq!(&learned_and_encoded(&encoder, &training, &rows), &integers([0, 0, 0, 1, 1, 1]));
        assert_eq!(&learned_and_encoded(&encoder, &training, &numbers(odd)), &integers([None; 4]));
        assert_eq!(&learned_and_encoded(&encoder, &numbers([3.0; 5]), &rows), &integers([0; 6]));
        assert_eq!(&learned_and_encoded(&encoder, &numbers(odd), &numbers([1.0])), &integers([None]));
        assert_eq!(learned(&encoder, &numbers([0.0, -0.0, 0.0])).unwrap().unwrap().edges.len(), 1);
    }

    #[test]
    fn too_few_and_too_many_bins_are_refused() {
        for bins in [0, 1, BINS_AT_MOST + 1, usize::MAX] {
            let refused = learned(&QuantileBins::of("x", bins), &numbers([1.0])).unwrap_err();
            assert!(refused.to_string().contains(&format!("{bins} bins")), "{refused}");
        }
    }
}
