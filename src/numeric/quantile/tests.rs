//! Quantiles against exact rational arithmetic that shares no code with them.
//! It tests bits, never tolerances.

use std::cmp::Ordering;

use proptest::{collection::vec, num::f64 as class, prelude::*, sample::select};

use super::*;
use crate::numeric::float_key;

fn of_integers(values: &[i64], q: f64, scale: i8) -> f64 {
    let value = |i: u64| OrderStatistic::Decimal { units: values[i as usize].into(), scale };
    quantile(q, values.len() as u64, value).unwrap()
}

fn of_floats(values: &[f64], q: f64) -> f64 {
    quantile(q, values.len() as u64, |i| OrderStatistic::Float(values[i as usize])).unwrap()
}

/// A signed integer of any length: digits to the base 2^16, the lowest first. The highest one has the sign.
#[derive(Clone)]
struct Big(Vec<i64>);

impl Big {
    fn of(value: i128) -> Self {
        Big((0..8).map(|i| (value >> (16 * i)) as i64 & 0xffff).chain([(value >> 127) as i64]).collect())
    }

    fn power_of_two(exponent: u32) -> Self {
        let mut digits = vec![0; exponent as usize / 16];
        digits.push(1 << (exponent % 16));
        Big(digits)
    }

    fn power_of_ten(exponent: u32) -> Self {
        (0..exponent).fold(Big::of(1), |power, _| power.times(&Big::of(10)))
    }

    /// A finite float, or the power of two after the largest one for an infinity, in units of 2^-1074.
    fn units_of(x: f64) -> Self {
        let (exponent, fraction) = ((x.to_bits() >> 52) as u32 & 0x7ff, x.to_bits() as i128 & ((1 << 52) - 1));
        let magnitude = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        let signed = if x.is_sign_negative() { -magnitude } else { magnitude };
        Big::of(signed).times(&Big::power_of_two(exponent.max(1) - 1))
    }

    fn carried(self) -> Self {
        let mut carry = 0;
        let mut digits: Vec<i64> = Vec::new();
        for digit in self.0 {
            carry += digit;
            digits.push(carry & 0xffff);
            carry >>= 16;
        }
        while carry != 0 && carry != -1 {
            digits.push(carry & 0xffff);
            carry >>= 16;
        }
        digits.push(carry);
        Big(digits)
    }

    fn plus(&self, other: &Self) -> Self {
        let digit = |digits: &[i64], i: usize| digits.get(i).copied().unwrap_or(0);
        Big((0..self.0.len().max(other.0.len())).map(|i| digit(&self.0, i) + digit(&other.0, i)).collect()).carried()
    }

    fn minus(&self, other: &Self) -> Self {
        self.plus(&Big(other.0.iter().map(|digit| -digit).collect()))
    }

    fn times(&self, other: &Self) -> Self {
        let mut digits = vec![0; self.0.len() + other.0.len()];
        for (i, a) in self.0.iter().enumerate() {
            for (j, b) in other.0.iter().enumerate() {
                digits[i + j] += a * b;
            }
        }
        Big(digits).carried()
    }

    fn sign(&self) -> Ordering {
        let digits = self.clone().carried().0;
        if digits.last() == Some(&-1) {
            return Ordering::Less;
        }
        if digits.iter().all(|digit| *digit == 0) { Ordering::Equal } else { Ordering::Greater }
    }

    fn order(&self, other: &Self) -> Ordering {
        self.minus(other).sign()
    }
}

/// Is this the float nearest to the quantile at `q` of the numbers, given as numerators over one denominator? It follows from the
/// definition: with q = m / 2^d, the quantile is `(x[k] ((k + 1) 2^d - m (n - 1)) + x[k + 1] (m (n - 1) - k 2^d)) / 2^d`.
fn is_nearest_to_quantile(found: f64, q: f64, numerators: &[Big], denominator: &Big) -> bool {
    let (exponent, fraction) = ((q.to_bits() >> 52) as u32, q.to_bits() & ((1 << 52) - 1));
    let (m, d) = if exponent == 0 { (fraction, 1074) } else { (fraction | 1 << 52, 1075 - exponent) };
    let product = u128::from(m) * (numerators.len() as u128 - 1);
    let k = product.checked_shr(d).unwrap_or(0);
    let whole = Big::power_of_two(d);
    let above = Big::of(product as i128).minus(&Big::of(k as i128).times(&whole));
    let (low, high) = (&numerators[k as usize], &numerators[(k as usize + 1).min(numerators.len() - 1)]);
    let numerator = low.times(&whole.minus(&above)).plus(&high.times(&above));
    let denominator = denominator.times(&whole);

    // The ends of the numbers that are rounded to it, in units of 2^-1075. They belong to it if its last bit is even.
    let (start, end) = [found.next_down(), found.next_up()].map(|next| Big::units_of(found).plus(&Big::units_of(next))).into();
    let exact = numerator.times(&Big::power_of_two(1075));
    let (after, before) = (exact.order(&start.times(&denominator)), exact.order(&end.times(&denominator)));
    let is_even = found.to_bits() & 1 == 0;
    let is_inside = if is_even { after.is_ge() && before.is_le() } else { after.is_gt() && before.is_lt() };
    let has_sign = numerator.sign().is_eq() || found.is_sign_negative() == numerator.sign().is_lt();
    found.is_finite() && is_inside && has_sign
}

fn is_nearest_of_floats(found: f64, q: f64, values: &[f64]) -> bool {
    let numerators: Vec<Big> = values.iter().map(|x| Big::units_of(*x)).collect();
    is_nearest_to_quantile(found, q, &numerators, &Big::power_of_two(1074))
}

/// Ends, halves, fractions that no float is, and those so near to an end that their product with a count is no float.
fn any_q() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..=1.0f64,
        2 => select(vec![0.0, 0.5, 1.0, 0.02, 0.1, 0.25, 0.9, 0.98, 1.0 / 3.0, 2.0 / 3.0]),
        1 => select(vec![5e-324, 1e-310, f64::MIN_POSITIVE, f64::EPSILON, 1.0f64.next_down(), 0.5f64.next_up(), 0.5f64.next_down()]),
        1 => (0..320i32).prop_map(|digits| 10f64.powi(-digits)),
    ]
}

/// Columns of ordinary numbers, of few different ones, and of numbers of any size and sign.
fn any_floats() -> impl Strategy<Value = Vec<f64>> {
    let cents = || (-100_000..100_000i64).prop_map(|cents| cents as f64 / 100.0);
    let few = || select(vec![-1.5, -0.0, 0.0, 1.0, 1.0f64.next_up(), 7.25]);
    let finite = || class::NORMAL | class::SUBNORMAL | class::ZERO | class::POSITIVE | class::NEGATIVE;
    let ends = || select(vec![5e-324, -5e-324, 1e-323, f64::MIN_POSITIVE, f64::MAX, f64::MIN, f64::MAX.next_down(), -0.0, 0.0]);
    let columns = prop_oneof![vec(cents(), 1..40), vec(few(), 1..40), vec(finite(), 1..12), vec(ends(), 1..6)];
    columns.prop_map(|mut values| {
        values.sort_by(f64::total_cmp);
        values
    })
}

proptest! {
    #[test]
    fn a_quantile_of_floats_is_the_nearest_float(values in any_floats(), q in any_q()) {
        prop_assert!(is_nearest_of_floats(of_floats(&values, q), q, &values));
    }

    #[test]
    fn a_quantile_of_decimals_is_the_nearest_float(
        values in prop_oneof![vec(-10_000..10_000i64, 1..40), vec(any::<i64>(), 1..10)],
        q in any_q(),
        scale in prop_oneof![Just(0), -20..=38i8, any::<i8>()],
    ) {
        let mut values = values;
        values.sort_unstable();
        let tens = Big::power_of_ten(scale.unsigned_abs().into());
        let (factor, denominator) = if scale < 0 { (tens, Big::of(1)) } else { (Big::of(1), tens) };
        let numerators: Vec<Big> = values.iter().map(|units| Big::of((*units).into()).times(&factor)).collect();
        prop_assert!(is_nearest_to_quantile(of_integers(&values, q, scale), q, &numerators, &denominator));
    }

    #[test]
    fn quantiles_rise_with_q_and_stay_between_their_neighbours(values in any_floats(), a in any_q(), b in any_q()) {
        let (low, high) = (of_floats(&values, a.min(b)), of_floats(&values, a.max(b)));
        prop_assert!(low <= high);
        let [below, above] = neighbours(a, values.len() as u64).unwrap();
        let found = of_floats(&values, a);
        prop_assert!(above - below <= 1 && values[below as usize] <= found && found <= values[above as usize]);
    }
}

#[test]
fn quantiles_are_rounded_once() {
    for (values, q, expected) in [
        (&[1, 2, 3][..], 0.1, 1.2),
        (&[1, 2, 3], 0.9, 2.8),
        (&[5, 6, 7, 8], 0.1, 5.3),
        (&[0, 0, 0, 1_000_000_007], 0.99, 970_000_006.79),
        (&[-3, 4], 0.5, 0.5),
        (&[i64::MAX - 1, i64::MAX], 0.5, i64::MAX as f64),
        (&[7], 0.3, 7.0),
        (&[1, 2], 1.0, 2.0),
        (&[1, 2], 5e-324, 1.0),
    ] {
        assert_eq!(of_integers(values, q, 0), expected, "{values:?} at {q}");
    }
    // 0.10 and 0.20, and 0.07 and 0.14: as decimals, not as floats.
    assert_eq!((of_integers(&[10, 20], 0.5, 2), of_integers(&[7, 14], 0.5, 2)), (0.15, 0.105));
    assert_eq!((of_integers(&[-1, -1], 0.7, 1), of_integers(&[3, 4], 0.5, -2)), (-0.1, 350.0));
}

#[test]
fn floats_of_any_size_and_sign_have_exact_quantiles() {
    assert_eq!(of_floats(&[-1e308, 1e308], 0.1), -8e307);
    assert_eq!(of_floats(&[-f64::MAX, f64::MAX], 0.5), 0.0);
    assert_eq!(of_floats(&[1e-300, 3e-300], 0.5), 2e-300);
    assert_eq!(of_floats(&[0.0, 1e300], 1e-310), 1e-310 * 1e300);
    assert!(of_floats(&[-0.0, 1.0], 0.0).is_sign_negative());
    assert!(of_floats(&[-0.0, 0.0], 0.5).is_sign_positive());
}

#[test]
fn values_that_are_not_finite_and_a_q_beyond_the_ends() {
    let infinity = f64::INFINITY;
    assert_eq!(of_floats(&[1.0, infinity], 0.5), infinity);
    // This position is so near to the second value that its distance from the first one is rounded to 1.
    assert_eq!(of_floats(&[-infinity, 5.0, 6.0, 7.0], 1.0 / 3.0), -infinity);
    assert_eq!(of_floats(&[infinity, infinity], 0.5), infinity);
    for values in [[-infinity, infinity], [1.0, f64::NAN], [infinity, f64::NAN]] {
        assert_eq!(of_floats(&values, 0.5).to_bits(), f64::NAN.to_bits(), "{values:?}");
    }
    for (q, expected) in [(-0.0, 1.0), (-1.0, 1.0), (f64::NAN, 1.0), (1.5, 3.0), (infinity, 3.0)] {
        assert_eq!(of_floats(&[1.0, 2.0, 3.0], q), expected, "{q}");
    }
    assert_eq!(quantile(0.5, 0, |_| OrderStatistic::Float(1.0)), None);
    assert_eq!((neighbours(0.5, 0), neighbours(0.5, 3), neighbours(0.5, 4)), (None, Some([1, 1]), Some([1, 2])));
    assert_eq!(neighbours(1.0, u64::MAX), Some([u64::MAX - 1; 2]));
}

#[test]
fn the_order_of_keys_is_the_order_that_quantiles_expect() {
    let mut values = [f64::NAN, 0.0, 2.0, -0.0, f64::NEG_INFINITY];
    values.sort_by_key(|x| float_key(*x));
    assert_eq!(of_floats(&values, 0.25).to_bits(), (-0.0f64).to_bits());
    assert!(of_floats(&values, 0.9).is_nan());
}
