//! The exact sum against the exact definition, on values chosen to break it.
//! It tests bits, never tolerances.

use proptest::collection::vec;
use proptest::num::f64 as class;
use proptest::prelude::*;

use super::*;

/// The smallest positive value.
const TINY: f64 = f64::from_bits(1);
/// `2^53`, from where on odd integers are ties.
const TWO_53: f64 = 9_007_199_254_740_992.0;

fn sum_of(values: &[f64]) -> ExactSum {
    let mut sum = ExactSum::default();
    for &x in values {
        sum.add(x);
    }
    sum
}

fn bits_of(values: &[f64]) -> u64 {
    sum_of(values).value().to_bits()
}

fn is_wide(sum: &ExactSum) -> bool {
    matches!(sum.form, Form::Wide(_))
}

/// Values of one magnitude, as columns have them; the narrow form takes these.
fn ordinary() -> BoxedStrategy<f64> {
    prop_oneof![-1e6..1e6, (-1000..1000_i32).prop_map(f64::from)].boxed()
}

/// Few bits at moderately many places: much cancellation, many ties, both forms.
fn sparse() -> BoxedStrategy<f64> {
    (-3..=3_i32, -70..70_i32).prop_map(|(units, exponent)| f64::from(units) * 2_f64.powi(exponent)).boxed()
}

/// Every finite value, over the whole range of exponents.
fn finite() -> BoxedStrategy<f64> {
    (class::NORMAL | class::SUBNORMAL | class::ZERO | class::POSITIVE | class::NEGATIVE).boxed()
}

fn anything() -> BoxedStrategy<f64> {
    prop_oneof![
        8 => ordinary(),
        8 => sparse(),
        8 => finite(),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
    ]
    .boxed()
}

/// Columns of one kind, and columns of all kinds at once.
fn column() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![vec(ordinary(), 0..60), vec(sparse(), 0..60), vec(finite(), 0..60), vec(anything(), 0..60),]
}

/// The correctly rounded sum by another method: the non-overlapping partial sums of J. R.
/// Shewchuk, *Adaptive precision floating-point arithmetic* (1997), for values and sums that
/// stay clear of overflow.
fn by_expansion(values: &[f64]) -> f64 {
    let mut partials: Vec<f64> = Vec::new();
    for &value in values {
        let mut x = value;
        let mut kept = Vec::new();
        for &partial in &partials {
            let (large, small) = if x.abs() < partial.abs() { (partial, x) } else { (x, partial) };
            let high = large + small;
            let low = small - (high - large);
            if low != 0.0 {
                kept.push(low);
            }
            x = high;
        }
        kept.push(x);
        partials = kept;
    }
    let mut high = 0.0;
    while let Some(partial) = partials.pop() {
        let before: f64 = high;
        high = before + partial;
        let low = partial - (high - before);
        if low != 0.0 {
            // A tie that the next partial shows to be none goes the way that one points.
            let beyond = partials.last().copied().unwrap_or(0.0);
            let further = high + low * 2.0;
            if low * beyond > 0.0 && further - high == low * 2.0 {
                high = further;
            }
            break;
        }
    }
    // An expansion can end in a zero of either sign.
    high + 0.0
}

proptest! {
    #[test]
    fn agrees_with_expansion(values in prop_oneof![
        vec(ordinary(), 0..60),
        vec(sparse(), 0..60),
        vec(prop_oneof![ordinary(), sparse(), finite().prop_filter(
            "the oracle must not overflow",
            |x| x.abs() < 1e300,
        )], 0..60),
    ]) {
        prop_assert_eq!(bits_of(&values), by_expansion(&values).to_bits());
    }

    #[test]
    fn order_does_not_matter(
        (values, shuffled) in column().prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle()))
    ) {
        prop_assert_eq!(bits_of(&values), bits_of(&shuffled));
    }

    #[test]
    fn form_does_not_matter(values in column()) {
        let mut wide = ExactSum::default();
        wide.widen(|_| ());
        for &x in &values {
            wide.add(x);
        }
        prop_assert!(is_wide(&wide));
        prop_assert_eq!(wide.value().to_bits(), bits_of(&values));
        wide.narrow_if_possible();
        prop_assert_eq!(wide.value().to_bits(), bits_of(&values));
    }

    #[test]
    fn what_came_and_went_leaves_no_trace(kept in column(), passing in column()) {
        let mut sum = sum_of(&kept);
        for &x in &passing {
            sum.add(x);
        }
        for &x in &passing {
            sum.subtract(x);
        }
        prop_assert_eq!(sum.value().to_bits(), bits_of(&kept));
    }

    #[test]
    fn sliding_window_is_the_sum_of_its_rows(values in vec(anything(), 0..200), width in 1..20_usize) {
        let mut sum = ExactSum::default();
        for (end, &x) in values.iter().enumerate() {
            sum.add(x);
            if let Some(start) = end.checked_sub(width) {
                sum.subtract(values[start]);
            }
            let window = &values[(end + 1).saturating_sub(width)..=end];
            prop_assert_eq!(sum.value().to_bits(), bits_of(window));
        }
    }

    #[test]
    fn merge_is_concatenation(parts in vec(column(), 0..5)) {
        let mut merged = ExactSum::default();
        for part in &parts {
            merged.merge(&sum_of(part));
        }
        prop_assert_eq!(merged.value().to_bits(), bits_of(&parts.concat()));
        let mut backwards = ExactSum::default();
        for part in parts.iter().rev() {
            let mut sum = sum_of(part);
            sum.merge(&backwards);
            backwards = sum;
        }
        prop_assert_eq!(backwards.value().to_bits(), merged.value().to_bits());
    }

    #[test]
    fn a_product_is_the_sum_of_the_products_with_the_bits_of_the_factor(values in vec(
        (
            prop_oneof![ordinary(), sparse(), finite().prop_filter("a product must not overflow", |x| x.abs() < 1e290)],
            -(1_i64 << 32)..(1 << 32),
        ),
        0..30,
    )) {
        let (mut products, mut parts) = (ExactSum::default(), ExactSum::default());
        for &(x, times) in &values {
            products.add_times(x, times);
            let signed = if times < 0 { -x } else { x };
            for bit in (0..33).filter(|bit| times.unsigned_abs() >> bit & 1 == 1) {
                parts.add(signed * 2_f64.powi(bit));
            }
        }
        prop_assert_eq!(products.value().to_bits(), parts.value().to_bits());
    }

    #[test]
    fn one_value_is_itself(x in finite()) {
        // A negative zero is the one value that is not.
        prop_assert_eq!(bits_of(&[x]), (x + 0.0).to_bits());
    }

    #[test]
    fn a_pair_is_rounded_as_one_addition(a in anything(), b in anything()) {
        let expected = a + b;
        let expected = if expected.is_nan() { f64::NAN } else { expected + 0.0 };
        prop_assert_eq!(bits_of(&[a, b]), expected.to_bits());
    }

    #[test]
    fn opposites_cancel_to_positive_zero(values in vec(finite(), 0..60)) {
        let mut both = values.clone();
        both.extend(values.iter().map(|x| -x));
        prop_assert_eq!(bits_of(&both), 0.0_f64.to_bits());
    }
}

#[test]
fn is_small() {
    assert!(size_of::<ExactSum>() <= 24);
    assert!(size_of::<Option<ExactSum>>() <= 24);
    assert!(size_of::<Wide>() <= 304);
}

#[test]
fn zeros_are_positive() {
    for values in [&[][..], &[0.0], &[-0.0], &[-0.0, -0.0], &[1.5, -1.5, -0.0]] {
        assert_eq!(bits_of(values), 0.0_f64.to_bits(), "{values:?}");
    }
}

#[test]
fn ties_go_to_even_and_no_bit_is_too_small_to_break_one() {
    for (values, expected) in [
        (&[TWO_53, 1.0][..], TWO_53),
        (&[TWO_53, 1.0, TINY], TWO_53 + 2.0),
        (&[TWO_53, 1.0, -TINY], TWO_53),
        (&[TWO_53, 3.0], TWO_53 + 4.0),
        (&[TWO_53, 3.0, TINY], TWO_53 + 4.0),
        (&[TWO_53, 3.0, -TINY], TWO_53 + 2.0),
        (&[TWO_53, 0.5, 0.5], TWO_53),
        (&[TWO_53, 0.5, 0.5, 2_f64.powi(-50)], TWO_53 + 2.0),
        (&[TWO_53 - 1.0, 0.5], TWO_53),
    ] {
        let negated: Vec<f64> = values.iter().map(|x| -x).collect();
        assert_eq!(sum_of(values).value(), expected, "{values:?}");
        assert_eq!(sum_of(&negated).value(), -expected, "{negated:?}");
    }
}

#[test]
fn a_sum_may_pass_beyond_the_largest_value_and_come_back() {
    let max = f64::MAX;
    // Half the distance from the largest value to where the next one would be.
    let half = 2_f64.powi(970);
    for (values, expected) in [
        (&[1e308, 1e308, -1e308][..], 1e308),
        (&[max, max, -max], max),
        (&[max, max, max, -max, -max], max),
        (&[max, max], f64::INFINITY),
        (&[-max, -max], f64::NEG_INFINITY),
        (&[max, half], f64::INFINITY),
        (&[max, half, -TINY], max),
        (&[max, half / 2.0], max),
        (&[max, TINY, -max], TINY),
    ] {
        assert_eq!(sum_of(values).value(), expected, "{values:?}");
    }
}

#[test]
fn subnormals_are_exact() {
    assert_eq!(sum_of(&[TINY; 1000]).value(), f64::from_bits(1000));
    let below = f64::MIN_POSITIVE - TINY;
    assert_eq!(sum_of(&[below, TINY]).value(), f64::MIN_POSITIVE);
    assert_eq!(sum_of(&[f64::MIN_POSITIVE, -TINY]).value(), below);
    assert_eq!(sum_of(&[1.0, TINY, -1.0]).value(), TINY);
}

#[test]
fn non_finite_values_come_and_go() {
    let mut sum = sum_of(&[0.1, 0.2]);
    let expected = sum.value();
    sum.add(f64::INFINITY);
    sum.add(f64::INFINITY);
    assert_eq!(sum.value(), f64::INFINITY);
    sum.add(f64::NEG_INFINITY);
    assert!(sum.value().is_nan());
    sum.subtract(f64::INFINITY);
    assert!(sum.value().is_nan());
    sum.subtract(f64::INFINITY);
    assert_eq!(sum.value(), f64::NEG_INFINITY);
    sum.add(-f64::NAN);
    sum.subtract(f64::NEG_INFINITY);
    assert_eq!(sum.value().to_bits(), f64::NAN.to_bits());
    assert!(is_wide(&sum));
    sum.subtract(f64::NAN);
    assert_eq!(sum.value(), expected);
    assert!(!is_wide(&sum));
}

#[test]
fn non_finite_values_are_told_from_the_largest_finite_ones() {
    for x in [f64::MAX, f64::MIN, 2_f64.powi(1023)] {
        for special in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut sum = sum_of(&[x, special]);
            assert_eq!(sum.value().to_bits(), special.to_bits());
            sum.subtract(special);
            assert_eq!(sum.value(), x);
        }
    }
}

#[test]
fn products_of_the_largest_floats_come_back() {
    let mut sum = ExactSum::default();
    for times in [(1 << 32) - 1, -(1 << 32), 1] {
        sum.add_times(f64::MAX, times);
        sum.add_times(TINY, times);
    }
    assert_eq!(sum.value(), 0.0);
    sum.add_times(f64::MAX, 2);
    assert_eq!(sum.value(), f64::INFINITY);
    sum.add_times(f64::MAX, -1);
    assert_eq!(sum.value(), f64::MAX);
}

#[test]
fn products_of_ordinary_columns_with_times_stay_narrow() {
    let (mut lower, mut upper) = (ExactSum::default(), ExactSum::default());
    for row in 0..100_000_i64 {
        // Cents, and a time in nanoseconds.
        let (x, time) = (row as f64 / 100.0, 1_700_000_000_000_000_000 + row * 1_000_003);
        lower.add_times(x, time & 0xffff_ffff);
        upper.add_times(x, time >> 32);
    }
    assert!(!is_wide(&lower) && !is_wide(&upper));
}

#[test]
fn ordinary_columns_stay_narrow() {
    let mut sum = ExactSum::default();
    for row in 0..100_000_u32 {
        // Cents, fractions and a timestamp in milliseconds.
        sum.add(f64::from(row) / 100.0);
        sum.add(1.0 / f64::from(row + 1));
        sum.add(1.7e12 + f64::from(row));
    }
    assert!(!is_wide(&sum));
}

#[test]
fn base_follows_the_values_while_they_fit() {
    // Each alone would have a base of its own, and the sum outgrows the first one's.
    let mut sum = sum_of(&[1.0]);
    for _ in 0..10 {
        sum.add(2_f64.powi(42));
    }
    sum.add(2_f64.powi(100));
    sum.add(2_f64.powi(-20));
    assert!(!is_wide(&sum));
    sum.subtract(2_f64.powi(100));
    assert_eq!(sum.value(), 10.0 * 2_f64.powi(42) + 1.0);
    for _ in 0..10 {
        sum.subtract(2_f64.powi(42));
    }
    assert_eq!(sum.value(), 1.0 + 2_f64.powi(-20));
}

#[test]
fn the_wide_form_is_left_when_it_is_no_longer_needed() {
    let mut sum = sum_of(&[1.0, 1e-200]);
    assert!(is_wide(&sum));
    sum.subtract(1e-200);
    for _ in 0..NARROW_EVERY {
        sum.add(0.1);
        sum.subtract(0.1);
    }
    assert!(!is_wide(&sum));
    assert_eq!(sum.value(), 1.0);
}

#[test]
fn narrow_sum_at_its_limit_is_promoted() {
    // Merging with itself reaches what no test could add up: 2^131 - 1, every bit of it set.
    let mut sum = sum_of(&[1.0]);
    for _ in 0..130 {
        sum.merge(&sum.clone());
        sum.add(1.0);
    }
    assert!(is_wide(&sum));
    assert_eq!(sum.value(), 2_f64.powi(131));
    sum.subtract(2_f64.powi(131));
    assert_eq!(sum.value(), -1.0);
}

#[test]
fn mean_divides_the_rounded_sum() {
    assert_eq!(sum_of(&[0.1; 10]).mean(10), 0.1);
    assert_eq!(sum_of(&[1.0, 2.0, 4.0]).mean(3), 7.0 / 3.0);
    assert!(ExactSum::default().mean(0).is_nan());
}

#[test]
fn the_mean_of_finite_numbers_is_finite() {
    let sum_of = |numbers: &[f64]| {
        let mut sum = ExactSum::default();
        numbers.iter().for_each(|x| sum.add(*x));
        sum.finite_mean(numbers.len() as u64)
    };
    assert_eq!(sum_of(&[f64::MAX, f64::MAX]), f64::MAX);
    assert_eq!(sum_of(&[-f64::MAX, -f64::MAX, -f64::MAX]), -f64::MAX);
    assert_eq!(sum_of(&[1e308, 1.5e308]), 1.25e308);
    assert_eq!(sum_of(&[f64::MAX, f64::MAX, f64::MAX, 0.0]), f64::MAX / 4.0 * 3.0);
    assert_eq!(sum_of(&[0.1, 0.2]), ExactSum::default().finite_mean(1) + (0.1 + 0.2) / 2.0);
    assert!(sum_of(&[]).is_nan());
}
