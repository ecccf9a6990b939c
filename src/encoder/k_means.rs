//! Clusters of rows by several columns.
//! linfa finds the clusters; their centroids are then moved to the exact means of their rows. What it learns does not depend on the
//! order of the rows, because they are sorted first.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch},
    datatypes::DataType,
};
use linfa::{DatasetBase, traits::Fit};
use ndarray::Array2;
use rand_xoshiro::{Xoshiro256Plus, rand_core::SeedableRng};
use serde::{Deserialize, Serialize};

use super::{
    AsOfView, FittedEncoder, Spec,
    number_rows::{NumberRows, check_columns, for_each_finite_row, power_of_two_scale},
    numeric::finite,
    unusable,
};
use crate::{
    error::{Error, Result},
    numeric::{ExactSum, canonical},
};

/// How many clusters at most.
const CLUSTERS_AT_MOST: usize = 1_000;

/// How many numbers are held while it learns: 256 MiB of them.
const NUMBERS_AT_MOST: usize = 32 << 20;

/// How often the algorithm begins anew, as in scikit-learn's `n_init=10`, and how many rounds it makes at most.
const RUNS: usize = 10;
const ROUNDS_AT_MOST: u64 = 300;

/// How little all centroids together move in the last round, as a share of the largest distance of a number from its mean.
const TOLERANCE: f64 = 1e-6;

/// The cluster of a row, found by k-means over several columns: the number of the nearest centroid, from 0, as the feature `cluster`
/// in `Int64`. As scikit-learn's `KMeans(init="k-means++", n_init=10)` (Lloyd 1982; Arthur and Vassilvitskii 2007).
///
/// Columns are not scaled: a column with a larger spread weighs more. Standardize the columns first if that is not meant, and read the
/// outputs. Clusters are numbered in the order of their centroids, by the first column, then the second, and so on. Each centroid is
/// the mean of the training rows that are nearest to it. Of equally near centroids the first counts. Which of several good divisions
/// is found depends on [`KMeans::seed`].
///
/// A row in which a number is NULL, NaN or infinite is not learned from, and gives NULL. So does a row so far from all centroids that
/// its distance is not finite, and every row if there was none to learn from. With fewer different rows than clusters, each of them
/// is a cluster.
///
/// A set is refused when it is built if it names no column, more than 256, or one twice, or if it asks for no cluster, or for more
/// than 1,000. Training rows of more than 33,554,432 numbers are refused with [`Error::Limit`]: select a sample of them.
///
/// ```
/// use asof::encoder::KMeans;
/// let place = KMeans::of(["pickup_latitude", "pickup_longitude"], 20).named("place"); // `place`
/// let shape = KMeans::of(["length_std", "width_std"], 5).seed(7).with_distance(); // `cluster` and `cluster_distance`
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct KMeans {
    columns: Vec<String>,
    clusters: usize,
    seed: u64,
    has_distance: bool,
    output: String,
}

/// What [`KMeans`] learns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KMeansState {
    /// The centroid of each cluster, with a number for each column. Empty when there was no row to learn from.
    pub centroids: Vec<Vec<f64>>,
}

impl KMeans {
    /// The feature `cluster`: one of this many clusters by these columns.
    pub fn of<S: Into<String>>(columns: impl IntoIterator<Item = S>, clusters: usize) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { columns, clusters, seed: 0, has_distance: false, output: "cluster".into() }
    }

    /// What the choice of the first centroids begins with; 0 unless this is called.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Adds the feature `<output>_distance`: the Euclidean distance from the centroid, in `Float64`.
    pub fn with_distance(mut self) -> Self {
        self.has_distance = true;
        self
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }

    fn check(&self) -> Result<()> {
        check_columns(&self.output, &self.columns)?;
        if !(1..=CLUSTERS_AT_MOST).contains(&self.clusters) {
            let reason = format!("it has {} clusters; it can have 1 to {CLUSTERS_AT_MOST}", self.clusters);
            return Err(unusable(&self.output, reason));
        }
        Ok(())
    }

    /// The training rows, one after the other.
    fn training_rows(&self, view: &AsOfView<'_>) -> Result<Vec<f64>> {
        let mut numbers = Vec::new();
        for_each_finite_row(view, |row| {
            if numbers.len() + row.len() > NUMBERS_AT_MOST {
                let columns = row.len();
                return Err(Error::Limit {
                    subject: format!("`{}`", self.output),
                    reason: format!(
                        "it learns from at most {} rows of {columns} columns, and there are more: keep a `Sample` of them",
                        NUMBERS_AT_MOST / columns
                    ),
                });
            }
            numbers.extend(row.iter().map(|x| canonical(*x)));
            Ok(())
        })?;
        Ok(numbers)
    }
}

impl FittedEncoder for KMeans {
    type State = KMeansState;

    fn spec(&self) -> Spec {
        let spec = self.columns.iter().fold(Spec::new("k_means", 1), Spec::number);
        let spec = spec.parameter("clusters", self.clusters).parameter("seed", self.seed);
        let spec = spec.output(&self.output, DataType::Int64);
        if self.has_distance { spec.output(format!("{}_distance", self.output), DataType::Float64) } else { spec }
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        self.check()?;
        let numbers = self.training_rows(view)?;
        let mut rows: Vec<&[f64]> = numbers.chunks_exact(self.columns.len()).collect();
        rows.sort_unstable_by(|a, b| in_order(a, b));
        let different = rows.chunk_by(|a, b| a == b).count();
        if different <= self.clusters {
            let centroids = rows.chunk_by(|a, b| a == b).filter_map(|equal| equal.first());
            return Ok(KMeansState { centroids: centroids.map(|row| row.to_vec()).collect() });
        }
        let found = self.first_centroids(&rows)?;
        let mut centroids = moved_to_the_means(found, &rows);
        centroids.sort_by(|a, b| in_order(a, b));
        Ok(KMeansState { centroids })
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let mut rows = NumberRows::from(input);
        let nearest: Vec<Option<(usize, f64)>> = (0..input.num_rows())
            .map(|row| nearest(&state.centroids, rows.finite(row)?))
            .map(|nearest| nearest.and_then(|(cluster, distance)| Some((cluster, finite(distance)?))))
            .collect();
        let clusters: Int64Array = nearest.iter().map(|n| n.and_then(|(cluster, _)| i64::try_from(cluster).ok())).collect();
        let mut outputs: Vec<ArrayRef> = vec![Arc::new(clusters)];
        if self.has_distance {
            let distances: Float64Array = nearest.iter().map(|nearest| nearest.map(|(_, distance)| distance)).collect();
            outputs.push(Arc::new(distances));
        }
        Ok(outputs)
    }
}

impl KMeans {
    /// The centroids that linfa finds, for rows that are sorted.
    fn first_centroids(&self, rows: &[&[f64]]) -> Result<Vec<Vec<f64>>> {
        let failed = |reason: String| unusable(&self.output, format!("its clusters cannot be found: {reason}"));
        let means = mean(rows.iter().copied(), self.columns.len());
        let distances = rows.iter().flat_map(|row| row.iter().zip(&means).map(|(x, mean)| (x - mean).abs()));
        let largest = distances.fold(0.0, f64::max);
        if !largest.is_finite() {
            return Err(failed("its numbers lie so far apart that their differences are not finite; clip them first".into()));
        }
        let scale = power_of_two_scale(largest);
        // Centred and scaled, so that squares lose neither digits nor their range.
        let matrix = Array2::from_shape_fn((rows.len(), means.len()), |(i, j)| (rows[i][j] - means[j]) * scale);
        let found = linfa_clustering::KMeans::params_with_rng(self.clusters, Xoshiro256Plus::seed_from_u64(self.seed))
            .n_runs(RUNS)
            .max_n_iterations(ROUNDS_AT_MOST)
            .tolerance(TOLERANCE)
            .fit(&DatasetBase::from(matrix))
            .map_err(|e| failed(e.to_string()))?;
        let centroid =
            |scaled: ndarray::ArrayView1<'_, f64>| scaled.iter().zip(&means).map(|(x, mean)| x / scale + mean).collect();
        Ok(found.centroids().rows().into_iter().map(centroid).collect())
    }
}

/// Moves each centroid to the mean of the rows that are nearest to it, until no row changes its cluster. linfa treats a centroid as
/// one more row of its cluster, so it only comes near.
fn moved_to_the_means(mut centroids: Vec<Vec<f64>>, rows: &[&[f64]]) -> Vec<Vec<f64>> {
    let mut before = Vec::new();
    for _ in 0..ROUNDS_AT_MOST {
        let clusters: Vec<usize> = rows.iter().map(|row| nearest(&centroids, row).map_or(0, |(cluster, _)| cluster)).collect();
        if clusters == before {
            break;
        }
        let mut of_cluster: Vec<Vec<&[f64]>> = vec![Vec::new(); centroids.len()];
        clusters.iter().zip(rows).for_each(|(cluster, row)| of_cluster[*cluster].push(row));
        for (centroid, rows) in centroids.iter_mut().zip(&of_cluster) {
            if !rows.is_empty() {
                *centroid = mean(rows.iter().copied(), centroid.len());
            }
        }
        before = clusters;
    }
    centroids
}

/// The mean of rows of this many columns.
fn mean<'a>(rows: impl Iterator<Item = &'a [f64]>, columns: usize) -> Vec<f64> {
    let mut sums = vec![ExactSum::default(); columns];
    let mut count = 0;
    for row in rows {
        row.iter().zip(&mut sums).for_each(|(x, sum)| sum.add(*x));
        count += 1;
    }
    sums.iter().map(|sum| sum.finite_mean(count)).collect()
}

/// The nearest centroid, the first of equally near ones, and its distance.
fn nearest(centroids: &[Vec<f64>], row: &[f64]) -> Option<(usize, f64)> {
    let least = |distances: &mut dyn Iterator<Item = f64>| distances.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
    let square = |centroid: &Vec<f64>| -> f64 { row.iter().zip(centroid).map(|(x, c)| (x - c) * (x - c)).sum() };
    let length = |centroid: &Vec<f64>| row.iter().zip(centroid).map(|(x, c)| x - c).fold(0.0, f64::hypot);
    match least(&mut centroids.iter().map(square))? {
        (cluster, square) if square.is_normal() => Some((cluster, square.sqrt())),
        // The squares are out of range, or the row is a centroid.
        _ => least(&mut centroids.iter().map(length)),
    }
}

/// The order of rows by the first column, then the second, and so on.
fn in_order(a: &[f64], b: &[f64]) -> Ordering {
    a.iter().zip(b).map(|(x, y)| x.total_cmp(y)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;
    use crate::encoder::fixed_rows::{
        assert_near, assert_near_to, encoded_together, fixture, integers, learned_together, numbers,
    };

    #[test]
    fn it_finds_the_clusters_that_scikit_learn_finds() {
        #[derive(Deserialize)]
        struct Expected {
            x: Vec<f64>,
            y: Vec<f64>,
            centroids: Vec<Vec<f64>>,
            rows: Vec<Vec<f64>>,
            clusters: Vec<i64>,
            distances: Vec<f64>,
        }
        let expected = fixture::<Expected>("k_means");
        let training = [numbers(expected.x.iter().copied()), numbers(expected.y.iter().copied())];
        for seed in 0..5 {
            let encoder = KMeans::of(["x", "y"], expected.centroids.len()).seed(seed).with_distance();
            let state = learned_together(&encoder, &training).unwrap();
            assert_eq!(state.centroids.len(), expected.centroids.len());
            for (found, expected) in state.centroids.iter().zip(&expected.centroids) {
                assert_near(&numbers(found.iter().copied()), &expected.iter().copied().map(Some).collect::<Vec<_>>());
            }
            let rows: Vec<ArrayRef> = expected.rows.iter().map(|column| numbers(column.iter().copied())).collect();
            let encoded = encoded_together(&encoder, &state, &rows);
            assert_eq!(&encoded[0], &integers(expected.clusters.iter().copied()));
            assert_near_to(1e-12, &encoded[1], &expected.distances.iter().copied().map(Some).collect::<Vec<_>>());
        }
    }

    /// Every centroid is the mean of the rows that are nearest to it, whatever the size of the numbers and wherever they lie.
    #[test]
    fn no_row_has_a_nearer_centroid_and_no_centroid_a_better_place() {
        for (factor, shift) in [(1.0, 0.0), (1e200, 0.0), (1e-200, 0.0), (1e-3, 1e6), (1e307, 0.0)] {
            let column = |f: f64| -> Vec<f64> { (0..200).map(|i| (f64::from(i) * f).sin() * factor + shift).collect() };
            let columns = [column(0.7), column(1.3)];
            let encoder = KMeans::of(["x", "y"], 6).seed(3);
            let state = learned_together(&encoder, &columns.clone().map(numbers)).unwrap();
            let rows: Vec<[f64; 2]> = columns[0].iter().zip(&columns[1]).map(|(x, y)| [*x, *y]).collect();
            for (cluster, centroid) in state.centroids.iter().enumerate() {
                let own = rows.iter().filter(|row| nearest(&state.centroids, &row[..]).unwrap().0 == cluster);
                assert_eq!(&mean(own.map(|row| &row[..]), 2), centroid, "{factor} {cluster}");
            }
            assert!(state.centroids.windows(2).all(|pair| in_order(&pair[0], &pair[1]).is_lt()));
        }
    }

    #[test]
    fn few_rows_odd_numbers_and_ties() {
        let encoder = KMeans::of(["x", "y"], 3).with_distance();
        let odd = [numbers([Some(1.0), None, Some(f64::NAN)]), numbers([None, Some(2.0), Some(f64::INFINITY)])];
        let nothing = learned_together(&encoder, &odd).unwrap();
        assert_eq!(nothing, KMeansState::default());
        assert_eq!(encoded_together(&encoder, &nothing, &[numbers([1.0]), numbers([2.0])])[0].null_count(), 1);

        // Two different rows, as zeros of both signs are equal: each is a cluster.
        let few = [numbers([0.0, -0.0, 4.0]), numbers([1.0, 1.0, 1.0])];
        let state = learned_together(&encoder, &few).unwrap();
        assert_eq!(state.centroids, [[0.0, 1.0], [4.0, 1.0]]);
        let asked = [numbers([Some(2.0), Some(2.5), Some(1e200), None]), numbers([1.0; 4])];
        let encoded = encoded_together(&encoder, &state, &asked);
        assert_eq!(&encoded[0], &integers([Some(0), Some(1), Some(0), None]), "the first of equally near ones");
        assert_eq!(&encoded[1], &numbers([Some(2.0), Some(1.5), Some(1e200), None]));
    }
}
