//! Functions of numbers.
//! DataFusion's own, such as `abs` and `round`, are not here.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array},
    datatypes::{DataType, Float64Type, Int64Type},
};
use datafusion::{
    common::{Result, exec_err, plan_err},
    logical_expr::ScalarUDF,
};

use super::scalar::scalar;

pub(super) fn functions() -> Vec<ScalarUDF> {
    vec![scalar(&["width_bucket"], number_and_range, |_| DataType::Int64, width_bucket)]
}

/// A number, two bounds, and how many buckets lie between them.
fn number_and_range(types: &[DataType]) -> Result<Vec<DataType>> {
    let is_number = |data_type: &DataType| data_type.is_numeric() || data_type.is_null();
    match types {
        [x, first, second, n] if [x, first, second].into_iter().all(is_number) && (n.is_integer() || n.is_null()) => {
            Ok(vec![DataType::Float64, DataType::Float64, DataType::Float64, DataType::Int64])
        }
        _ => plan_err!("needs a number, two bounds, and a whole number of buckets"),
    }
}

fn width_bucket(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let [x, first, second] = [0, 1, 2].map(|i| columns[i].as_primitive::<Float64Type>().iter());
    let rows = x.zip(first).zip(second.zip(columns[3].as_primitive::<Int64Type>()));
    let buckets = rows.map(|((x, first), (second, n))| match (x, first, second, n) {
        (Some(x), Some(first), Some(second), Some(n)) => bucket(x, first, second, n).map(Some),
        _ => Ok(None),
    });
    Ok(Arc::new(buckets.collect::<Result<Int64Array>>()?))
}

/// The number of the bucket that holds `x`, as Trino computes it. Buckets hold their lower end. From a larger first bound to a
/// smaller second one they are counted backwards, and then the first bound itself lies in bucket 0.
fn bucket(x: f64, first: f64, second: f64, n: i64) -> Result<i64> {
    if n <= 0 {
        return exec_err!("there are {n} buckets, and must be 1 or more");
    }
    if x.is_nan() {
        return exec_err!("NaN lies in no bucket");
    }
    for bound in [first, second] {
        if !bound.is_finite() {
            return exec_err!("the bound {bound:?} is not finite");
        }
    }
    if first == second {
        return exec_err!("both bounds are {first:?}, and no bucket lies between them");
    }
    let (low, high) = (first.min(second), first.max(second));
    let ascending = if x < low {
        Some(0)
    } else if x >= high {
        n.checked_add(1)
    } else {
        let (part, whole) = (n as f64 * (x - low), high - low);
        if !part.is_finite() || !whole.is_finite() {
            return exec_err!("the bounds {first:?} and {second:?} are too far apart for {n} buckets");
        }
        Some((part / whole + 1.0) as i64)
    };
    let number = ascending.and_then(|number| if first < second { Some(number) } else { (n - number).checked_add(1) });
    match number {
        Some(number) => Ok(number),
        None => exec_err!("the number of the bucket after {n} others is beyond a bigint"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_lower_end_and_cover_the_range() {
        let numbers = |first, second| {
            [-0.1, 0.0, 0.9, 1.0, 2.5, 3.0, 3.9, 4.0, f64::INFINITY].map(|x| bucket(x, first, second, 4).unwrap())
        };
        assert_eq!(numbers(0.0, 4.0), [0, 1, 1, 2, 3, 4, 4, 5, 5]);
        assert_eq!(numbers(4.0, 0.0), [5, 4, 4, 3, 2, 1, 1, 0, 0]);
        assert_eq!(bucket(f64::NEG_INFINITY, 0.0, 4.0, 4).unwrap(), 0);
        assert_eq!(bucket(-0.0, 0.0, 4.0, 4).unwrap(), 1);
    }

    #[test]
    fn what_has_no_bucket_is_an_error() {
        for (x, first, second, n) in [
            (f64::NAN, 0.0, 1.0, 1),
            (0.5, f64::NAN, 1.0, 1),
            (0.5, 0.0, f64::INFINITY, 1),
            (0.5, 1.0, 1.0, 1),
            (0.5, 0.0, -0.0, 1),
            (0.5, 0.0, 1.0, 0),
            (0.5, 0.0, 1.0, i64::MIN),
            (0.5, -f64::MAX, f64::MAX, 1),
            (1e308, 0.0, f64::MAX, 10),
            (f64::INFINITY, 0.0, 1.0, i64::MAX),
            (f64::INFINITY, 1.0, 0.0, i64::MAX),
            (-1.0, 1.0, 0.0, i64::MAX),
        ] {
            assert!(bucket(x, first, second, n).is_err(), "{x} {first} {second} {n}");
        }
        assert_eq!(bucket(0.5, 0.0, 1.0, i64::MAX).unwrap(), 1 << 62);
        assert_eq!(bucket(-1.0, 0.0, 1.0, i64::MAX).unwrap(), 0);
    }
}
