//! Redundant features: constant ones, and linear combinations of others. Their slopes are not determined by a fit.
//!
//! Columns are centred, scaled to length one and orthogonalized one by one, the one with the largest remainder first (a QR
//! decomposition with column pivoting by modified Gram-Schmidt; Golub and Van Loan, *Matrix Computations*, 5.4). A column of
//! which no more than [`TOLERANCE`] of its length is left is redundant.

use ndarray::{Array1, Array2, Axis};

/// R's `lm` uses the same bound.
pub(super) const TOLERANCE: f64 = 1e-7;
/// A column counts as part of a combination from this share of the combined one on.
const SHARE: f64 = 1e-6;

/// A redundant feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redundant {
    pub(super) feature: usize,
    /// The features of which it is a combination; empty when it is constant.
    pub(super) of: Vec<usize>,
}

/// The redundant columns, in their order; earlier ones are kept rather than later ones.
pub(super) fn redundant(records: &Array2<f64>, means: &Array1<f64>) -> Vec<Redundant> {
    let mut found = Vec::new();
    // The remainder of each column, with its position.
    let mut left: Vec<(usize, Vec<f64>)> = Vec::new();
    for (feature, (column, mean)) in records.axis_iter(Axis(1)).zip(means).enumerate() {
        let first = column.first().copied().unwrap_or(0.0);
        let mut centred: Vec<f64> = column.iter().map(|x| x - mean).collect();
        let length = length(&centred);
        if column.iter().all(|x| *x == first) || length == 0.0 {
            found.push(Redundant { feature, of: Vec::new() });
            continue;
        }
        centred.iter_mut().for_each(|x| *x /= length);
        left.push((feature, centred));
    }
    // The components of each remaining column along the columns that were taken.
    let mut parts: Vec<Vec<f64>> = vec![Vec::new(); records.ncols()];
    let mut taken: Vec<usize> = Vec::new();
    while let Some((position, most)) = longest(&left) {
        if most <= TOLERANCE {
            break;
        }
        let (feature, mut direction) = left.remove(position);
        direction.iter_mut().for_each(|x| *x /= most);
        parts[feature].push(most);
        taken.push(feature);
        for (other, column) in &mut left {
            let part: f64 = column.iter().zip(&direction).map(|(a, b)| a * b).sum();
            column.iter_mut().zip(&direction).for_each(|(x, d)| *x -= part * d);
            parts[*other].push(part);
        }
    }
    for (feature, _) in left {
        let mut of = made_of(&parts[feature], &taken, &parts);
        of.sort_unstable();
        found.push(Redundant { feature, of });
    }
    found.sort_by_key(|redundant| redundant.feature);
    found
}

/// The first of the columns with the largest remainder, and its length. Lengths that differ by rounding count as equal.
fn longest(left: &[(usize, Vec<f64>)]) -> Option<(usize, f64)> {
    let lengths = left.iter().map(|(_, column)| length(column)).enumerate();
    lengths.reduce(|best, next| if next.1 > best.1 * (1.0 + TOLERANCE) { next } else { best })
}

fn length(column: &[f64]) -> f64 {
    // Divided by the largest value, so that squares of large numbers do not overflow.
    let largest = column.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    largest * column.iter().map(|x| (x / largest) * (x / largest)).sum::<f64>().sqrt()
}

/// The taken columns of which a column with these components is a combination, by back substitution.
fn made_of(own: &[f64], taken: &[usize], parts: &[Vec<f64>]) -> Vec<usize> {
    let mut rest = own.to_vec();
    let mut shares = vec![0.0; rest.len()];
    for i in (0..rest.len()).rev() {
        let column = &parts[taken[i]];
        shares[i] = rest[i] / column[i];
        rest.iter_mut().zip(column).take(i).for_each(|(rest, part)| *rest -= shares[i] * part);
    }
    let most = shares.iter().fold(0.0_f64, |most, share| most.max(share.abs()));
    taken.iter().zip(shares).filter(|(_, share)| share.abs() > most * SHARE).map(|(feature, _)| *feature).collect()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn found(columns: &[Vec<f64>]) -> Vec<(usize, Vec<usize>)> {
        let rows = columns[0].len();
        let records = Array2::from_shape_fn((rows, columns.len()), |(row, column)| columns[column][row]);
        let means = records.mean_axis(Axis(0)).unwrap();
        redundant(&records, &means).into_iter().map(|r| (r.feature, r.of)).collect()
    }

    fn random(seed: u64) -> Vec<f64> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..500).map(|_| rng.random_range(-3.0..40.0)).collect()
    }

    #[test]
    fn combinations_are_found_with_what_they_are_made_of() {
        let (a, b, c) = (random(1), random(2), random(3));
        let of = |f: &dyn Fn(usize) -> f64| (0..500).map(f).collect::<Vec<_>>();
        assert_eq!(found(&[a.clone(), b.clone(), c.clone()]), []);
        // The same in another unit and from another zero, as a column beside itself standardized.
        let scaled = of(&|i| (a[i] - 17.3) / 0.004);
        assert_eq!(found(&[a.clone(), b.clone(), scaled.clone()]), [(2, vec![0])]);
        assert_eq!(found(&[scaled, b.clone(), a.clone()]), [(2, vec![0])]);
        let sum = of(&|i| a[i] - 2.0 * b[i] + 5.0);
        let found_of_sum = found(&[a.clone(), sum, c.clone(), b.clone()]);
        assert_eq!(found_of_sum.len(), 1);
        // Any of the three can be told by the other two.
        let (feature, of_others) = &found_of_sum[0];
        let mut all = [of_others.clone(), vec![*feature]].concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 3]);
        assert_eq!(found(&[vec![4.5; 500], a.clone(), vec![0.1; 500]]), [(0, vec![]), (2, vec![])]);
        // Three of one kind: each of the later two by the first.
        let (twice, thrice) = (of(&|i| 2.0 * a[i]), of(&|i| 3.0 * a[i] + 1e6));
        assert_eq!(found(&[a, twice, thrice]), [(1, vec![0]), (2, vec![0])]);
    }

    #[test]
    fn what_is_nearly_the_same_is_not_the_same() {
        let (a, noise) = (random(1), random(2));
        let near = |share: f64| (0..500).map(|i| a[i] + share * noise[i]).collect::<Vec<_>>();
        assert_eq!(found(&[a.clone(), near(1e-4)]), []);
        assert_eq!(found(&[a.clone(), near(1e-9)]), [(1, vec![0])]);
        // Powers of a number, and numbers of very different size.
        let powers: Vec<Vec<f64>> = (1..5).map(|p| a.iter().map(|x| x.powi(p)).collect()).collect();
        assert_eq!(found(&powers), []);
        assert_eq!(found(&[a.iter().map(|x| x * 1e200).collect(), noise.iter().map(|x| x * 1e-200).collect()]), []);
        assert_eq!(found(&[vec![1.0, 2.0], vec![5.0, 5.0]]), [(1, vec![])]);
    }
}
