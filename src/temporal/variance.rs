//! The variance of a sample, from exact sums of its values and of their squares.
//! It never sees a value.

use super::ExactSum;

/// The variance of a sample from exact sums: (n Σx² - (Σx)²) / (n (n - 1)), in doubled precision until the division.
pub(super) fn variance(count: u64, sum: &ExactSum, squares: &ExactSum) -> f64 {
    let ((s, s_low), (q, q_low)) = (sum.parts(), squares.parts());
    if !s.is_finite() || !q.is_finite() {
        return f64::NAN;
    }
    let n = count as f64;
    // n q - s², each product with what rounding takes from it.
    let (product, square) = (n * q, s * s);
    let low = n.mul_add(q, -product) + n * q_low - s.mul_add(s, -square) - 2.0 * s * s_low;
    ((product - square + low) / (n * (n - 1.0))).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variance_survives_a_mean_far_from_zero() {
        let (mut sum, mut squares) = (ExactSum::default(), ExactSum::default());
        for x in [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0, 1e9 + 4.0] {
            let square: f64 = x * x;
            sum.add(x);
            squares.add(square);
            squares.add(f64::mul_add(x, x, -square));
        }
        assert_eq!(variance(4, &sum, &squares), 5.0 / 3.0);
    }
}
