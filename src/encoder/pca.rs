//! Principal components of several columns.
//! The covariances are exact sums, so what it learns does not depend on the order of the rows; linfa decomposes them.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Float64Array, RecordBatch},
    datatypes::DataType,
};
use linfa_linalg::eigh::{EigSort, EighInto};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::{
    AsOfView, FittedEncoder, Spec,
    number_rows::{NumberRows, check_columns, for_each_finite_row, power_of_two_scale},
    numeric::finite,
    unusable,
};
use crate::{error::Result, numeric::ExactSum};

/// The first principal components of several columns, as the features `<prefix>_1`, `<prefix>_2`, ... in `Float64`: the numbers less
/// their means, multiplied by the eigenvectors of the covariance matrix with the largest eigenvalues. As scikit-learn's `PCA`
/// (Pearson 1901, Hotelling 1933).
///
/// Columns are centred and not scaled: a column with a larger spread weighs more. Standardize the columns first if that is not meant,
/// and read the outputs. The weight of the largest absolute value in a component is positive, as in scikit-learn 1.5 and later. Where
/// eigenvalues are equal, the directions of their components mean nothing.
///
/// A row in which a number is NULL, NaN or infinite is not learned from, and gives NULL in all components. So does every row if
/// there was none to learn from, or if the numbers lie so far apart that their differences are not finite.
///
/// A set is refused when it is built if it names no column, more than 256, or one twice, or if it asks for no component, or for more
/// components than columns.
///
/// ```
/// use asof::encoder::{Pca, Standardize};
/// let shape = Pca::of(["length_std", "width_std", "height_std"], 2).named("shape"); // `shape_1` and `shape_2`
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Pca {
    columns: Vec<String>,
    components: usize,
    prefix: String,
}

/// What [`Pca`] learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PcaState {
    /// The mean of each column.
    pub means: Vec<f64>,
    /// For each component, the weight of each column. Their squares add up to one.
    pub components: Vec<Vec<f64>>,
    /// The standard deviation of each component over the training rows, of the sample (`n - 1`): the square root of scikit-learn's
    /// `explained_variance_`.
    pub deviations: Vec<f64>,
    /// The share of each component in the variance of all columns, scikit-learn's `explained_variance_ratio_`; 0 if nothing varies.
    pub variance_shares: Vec<f64>,
}

impl Pca {
    /// The features `pca_1` to `pca_<components>` of these columns.
    pub fn of<S: Into<String>>(columns: impl IntoIterator<Item = S>, components: usize) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), components, prefix: "pca".into() }
    }

    /// What the names of the features begin with, instead of `pca`.
    pub fn named(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    fn check(&self) -> Result<()> {
        check_columns(&self.prefix, &self.columns)?;
        if !(1..=self.columns.len()).contains(&self.components) {
            let (asked, columns) = (self.components, self.columns.len());
            let reason = format!("it has {asked} components of {columns} columns; it can have 1 to {columns}");
            return Err(unusable(&self.prefix, reason));
        }
        Ok(())
    }

    /// The features that are declared. A number that `fit` refuses must not fill the memory before.
    fn outputs(&self) -> usize {
        self.components.min(self.columns.len())
    }
}

impl FittedEncoder for Pca {
    /// `None` when there was no row to learn from.
    type State = Option<PcaState>;

    fn spec(&self) -> Spec {
        let spec = self.columns.iter().fold(Spec::new("pca", 1), Spec::number);
        let outputs = (1..=self.outputs()).map(|component| format!("{}_{component}", self.prefix));
        outputs.fold(spec.parameter("components", self.components), |spec, name| spec.output(name, DataType::Float64))
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        self.check()?;
        let Some(Spread { means, largest, rows }) = Spread::of(view, self.columns.len())? else { return Ok(None) };
        let scale = power_of_two_scale(largest);
        let mut centred = vec![0.0; means.len()];
        let mut sums = vec![ExactSum::default(); means.len() * means.len()];
        for_each_finite_row(view, |row| {
            centred.iter_mut().zip(row).zip(&means).for_each(|((own, x), mean)| *own = (x - mean) * scale);
            for (i, (x, sums)) in centred.iter().zip(sums.chunks_mut(means.len())).enumerate() {
                centred.iter().zip(sums).skip(i).for_each(|(y, sum)| sum.add(x * y));
            }
            Ok(())
        })?;
        let divisor = rows.max(2) - 1;
        let covariance = |i: usize, j: usize| sums[i.min(j) * means.len() + i.max(j)].mean(divisor);
        let matrix = Array2::from_shape_fn((means.len(), means.len()), |(i, j)| covariance(i, j));
        let total: f64 = (0..means.len()).map(|i| covariance(i, i)).sum();
        let failed = |e: linfa_linalg::LinalgError| unusable(&self.prefix, format!("its covariances cannot be decomposed: {e}"));
        let (values, vectors) = matrix.eigh_into().map_err(failed)?.sort_eig_desc();
        // An eigenvalue below zero is zero but for rounding.
        let values: Vec<f64> = values.iter().take(self.components).map(|value| value.max(0.0)).collect();
        Ok(Some(PcaState {
            components: vectors.columns().into_iter().take(self.components).map(|vector| turned(vector.to_vec())).collect(),
            deviations: values.iter().map(|value| (value.sqrt() / scale).min(f64::MAX)).collect(),
            variance_shares: values.iter().map(|value| if total > 0.0 { value / total } else { 0.0 }).collect(),
            means,
        }))
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let mut outputs = vec![vec![None; input.num_rows()]; self.outputs()];
        if let Some(PcaState { means, components, .. }) = state {
            let mut rows = NumberRows::from(input);
            for row in 0..input.num_rows() {
                let Some(numbers) = rows.finite(row) else { continue };
                for (output, weights) in outputs.iter_mut().zip(components) {
                    let terms = numbers.iter().zip(means).zip(weights).map(|((x, mean), weight)| (x - mean) * weight);
                    output[row] = finite(terms.sum());
                }
            }
        }
        Ok(outputs.into_iter().map(|output| Arc::new(Float64Array::from(output)) as ArrayRef).collect())
    }
}

/// Where the numbers of a view lie.
struct Spread {
    means: Vec<f64>,
    /// The largest distance of a number from its mean.
    largest: f64,
    rows: u64,
}

impl Spread {
    fn of(view: &AsOfView<'_>, columns: usize) -> Result<Option<Self>> {
        let mut sums = vec![ExactSum::default(); columns];
        let mut ends = vec![(f64::INFINITY, f64::NEG_INFINITY); columns];
        let mut rows = 0;
        for_each_finite_row(view, |row| {
            rows += 1;
            for ((x, sum), (min, max)) in row.iter().zip(&mut sums).zip(&mut ends) {
                sum.add(*x);
                (*min, *max) = (min.min(*x), max.max(*x));
            }
            Ok(())
        })?;
        let means: Vec<f64> = sums.iter().map(|sum| sum.finite_mean(rows)).collect();
        let distances = ends.iter().zip(&means).map(|((min, max), mean)| (mean - min).max(max - mean));
        let largest = distances.fold(0.0, f64::max);
        let is_usable = rows > 0 && largest.is_finite();
        Ok(is_usable.then_some(Self { means, largest, rows }))
    }
}

/// The same direction, with a positive weight where the absolute value is largest.
fn turned(mut vector: Vec<f64>) -> Vec<f64> {
    let largest = vector.iter().fold(0.0_f64, |largest, x| if x.abs() > largest.abs() { *x } else { largest });
    if largest < 0.0 {
        vector.iter_mut().for_each(|x| *x = -*x);
    }
    vector.iter_mut().for_each(|x| *x += 0.0);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::fixed_rows::{assert_near_to, encoded_together, fixture, learned_together, numbers};

    fn rows(columns: &[Vec<Option<f64>>]) -> Vec<ArrayRef> {
        columns.iter().map(|column| numbers(column.iter().copied())).collect()
    }

    #[test]
    fn it_finds_the_components_that_scikit_learn_finds() {
        #[derive(Deserialize)]
        struct Expected {
            training: Vec<Vec<Option<f64>>>,
            rows: Vec<Vec<Option<f64>>>,
            means: Vec<f64>,
            components: Vec<Vec<f64>>,
            explained_variance: Vec<f64>,
            explained_variance_ratio: Vec<f64>,
            encoded: Vec<Vec<Option<f64>>>,
        }
        let expected = fixture::<Expected>("pca");
        let encoder = Pca::of(["a", "b", "c", "d"], 3);
        let state = learned_together(&encoder, &rows(&expected.training)).unwrap();
        let found = state.clone().unwrap();
        let near = |found: &[f64], expected: &[f64]| {
            assert_near_to(1e-11, &numbers(found.iter().copied()), &expected.iter().copied().map(Some).collect::<Vec<_>>());
        };
        near(&found.means, &expected.means);
        near(&found.deviations.iter().map(|x| x * x).collect::<Vec<_>>(), &expected.explained_variance);
        near(&found.variance_shares, &expected.explained_variance_ratio);
        found.components.iter().zip(&expected.components).for_each(|(found, expected)| near(found, expected));
        let encoded = encoded_together(&encoder, &state, &rows(&expected.rows));
        encoded.iter().zip(&expected.encoded).for_each(|(found, expected)| assert_near_to(1e-9, found, expected));
    }

    #[test]
    fn components_are_orthogonal_and_the_first_varies_most_however_large_the_numbers() {
        for factor in [1.0, 1e150, 1e-150, 1e300] {
            let column = |f: fn(f64) -> f64| numbers((0..50).map(|i| f(f64::from(i) * 0.37) * factor));
            let columns = [column(|x| x.sin() * 3.0), column(|x| x.cos()), column(|x| (x * 1.7).sin() * 0.5)];
            let state = learned_together(&Pca::of(["a", "b", "c"], 3), &columns).unwrap().unwrap();
            for (i, a) in state.components.iter().enumerate() {
                for (j, b) in state.components.iter().enumerate() {
                    let product: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
                    assert!((product - f64::from(u8::from(i == j))).abs() < 1e-14, "{factor} {i} {j} {product}");
                }
            }
            assert!(state.deviations.windows(2).all(|pair| pair[0] >= pair[1]), "{:?}", state.deviations);
            assert!((state.variance_shares.iter().sum::<f64>() - 1.0).abs() < 1e-14);
        }
    }

    #[test]
    fn rows_without_all_numbers_are_passed_over_and_give_nothing() {
        let encoder = Pca::of(["a", "b"], 1);
        let odd = [numbers([Some(1.0), None, Some(f64::NAN)]), numbers([None, Some(2.0), Some(f64::INFINITY)])];
        let state = learned_together(&encoder, &odd).unwrap();
        assert_eq!(state, None);
        assert_eq!(&encoded_together(&encoder, &state, &[numbers([1.0]), numbers([2.0])])[0], &numbers([None]));
        let beyond = [numbers([f64::MAX, -f64::MAX, -f64::MAX]), numbers([0.0, 1.0, 2.0])];
        assert_eq!(learned_together(&encoder, &beyond).unwrap(), None, "a difference from the mean is not finite");
        let widest = learned_together(&encoder, &[numbers([f64::MAX, -f64::MAX]), numbers([0.0, 1.0])]).unwrap().unwrap();
        assert_eq!(widest.components, [[1.0, 0.0]]);

        let one = learned_together(&encoder, &[numbers([4.0]), numbers([5.0])]).unwrap().unwrap();
        assert_eq!((one.means, one.deviations, one.variance_shares), (vec![4.0, 5.0], vec![0.0], vec![0.0]));
        let state = learned_together(&encoder, &[numbers([1.0, 3.0]), numbers([1.0, 3.0])]).unwrap();
        assert_eq!(encoded_together(&encoder, &state, &odd)[0].null_count(), 3);
    }
}
