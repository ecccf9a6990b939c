//! Values as 64-bit patterns whose unsigned order is the order of the values, whatever their type.
//! Texts are numbered as they come; their order is that of the texts behind the numbers. So are values of types that no 64
//! bits can stand for, by their bytes in Arrow's row format.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, UInt64Array},
    buffer::{NullBuffer, ScalarBuffer},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type, UInt64Type},
    row::{RowConverter, SortField},
};
use datafusion::common::HashMap;

use crate::error::Result;

const SIGN: u64 = 1 << 63;

/// How a column's values are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Floats, in their total order: -0.0 before 0.0, NaN last.
    Float,
    /// Signed integers, and what is counted in them: dates, instants, truth values.
    Signed,
    Unsigned,
    Text,
    /// Only whether there is a value.
    Presence,
}

impl Lane {
    /// The lane of values that are computed with.
    pub(super) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Dictionary(_, values) => Lane::of(values),
            DataType::UInt64 => Lane::Unsigned,
            t if t.is_floating() || t.is_decimal() => Lane::Float,
            t if t.is_integer() => Lane::Signed,
            DataType::Boolean | DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Lane::Signed,
            _ => Lane::Text,
        }
    }

    /// The lane of values that are only compared: no digit of a decimal may get lost.
    pub(super) fn of_order(data_type: &DataType) -> Self {
        match data_type {
            DataType::Dictionary(_, values) => Lane::of_order(values),
            t if t.is_decimal() => Lane::Text,
            other => Lane::of(other),
        }
    }

    /// The number that a pattern stands for, as two floats that add up to it exactly.
    #[inline]
    pub(super) fn number(self, pattern: u64) -> (f64, f64) {
        match self {
            Lane::Float => (float(pattern), 0.0),
            Lane::Signed => {
                let value = (pattern ^ SIGN) as i64;
                let low = value & 0xffff_ffff;
                ((value - low) as f64, low as f64)
            }
            _ => {
                let low = pattern & 0xffff_ffff;
                ((pattern - low) as f64, low as f64)
            }
        }
    }
}

/// The pattern of a float: the signed total order of IEEE 754, shifted to unsigned. All NaN are one.
#[inline]
pub(super) fn pattern(x: f64) -> u64 {
    let bits = if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() };
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

#[inline]
pub(super) fn float(pattern: u64) -> f64 {
    f64::from_bits(if pattern & SIGN == 0 { !pattern } else { pattern & !SIGN })
}

/// Texts by number.
#[derive(Default)]
pub(super) struct Texts {
    numbers: HashMap<Arc<[u8]>, u64>,
    texts: Vec<Arc<[u8]>>,
    pub(super) bytes: usize,
}

impl Texts {
    fn number(&mut self, text: &[u8]) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text: Arc<[u8]> = text.into();
        let number = self.texts.len() as u64;
        self.bytes += text.len() + 64;
        self.numbers.insert(text.clone(), number);
        self.texts.push(text);
        number
    }

    /// The order of two values of a lane.
    pub(super) fn compare(&self, lane: Lane, a: u64, b: u64) -> Ordering {
        match lane {
            Lane::Text if a != b => self.texts[a as usize].cmp(&self.texts[b as usize]),
            _ => a.cmp(&b),
        }
    }
}

/// The patterns of a column, and which rows have none.
pub(super) fn patterns(lane: Lane, array: &ArrayRef, texts: &mut Texts) -> Result<(ScalarBuffer<u64>, Option<NullBuffer>)> {
    let nulls = array.logical_nulls();
    let values: Vec<u64> = match lane {
        Lane::Float => {
            let values = cast(array, &DataType::Float64)?;
            values.as_primitive::<Float64Type>().values().iter().map(|&x| pattern(x)).collect()
        }
        Lane::Unsigned => cast(array, &DataType::UInt64)?.as_primitive::<UInt64Type>().values().to_vec(),
        Lane::Signed => {
            let values = match array.data_type() {
                DataType::Date32 => cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?,
                _ => cast(array, &DataType::Int64)?,
            };
            values.as_primitive::<Int64Type>().values().iter().map(|&x| x as u64 ^ SIGN).collect()
        }
        Lane::Text if is_bytes(array.data_type()) => {
            let values = cast(array, &DataType::Binary)?;
            values.as_binary::<i32>().iter().map(|text| text.map_or(0, |text| texts.number(text))).collect()
        }
        Lane::Text => {
            let rows = RowConverter::new(vec![SortField::new(array.data_type().clone())])?
                .convert_columns(std::slice::from_ref(array))?;
            rows.iter().map(|row| texts.number(row.as_ref())).collect()
        }
        Lane::Presence => vec![0; array.len()],
    };
    Ok((values.into(), nulls))
}

fn is_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_bytes(values),
        other => other.is_string() || other.is_binary(),
    }
}

/// The values of patterns, in a type of their lane.
pub(super) fn values(
    lane: Lane,
    data_type: &DataType,
    patterns: &[u64],
    nulls: Option<NullBuffer>,
    texts: &Texts,
) -> Result<ArrayRef> {
    let array: ArrayRef = match lane {
        Lane::Float => Arc::new(Float64Array::new(patterns.iter().map(|&p| float(p)).collect(), nulls)),
        Lane::Unsigned => Arc::new(UInt64Array::new(patterns.to_vec().into(), nulls)),
        Lane::Signed | Lane::Presence => Arc::new(Int64Array::new(patterns.iter().map(|&p| (p ^ SIGN) as i64).collect(), nulls)),
        Lane::Text => {
            let text = |(i, &p): (usize, &u64)| match &nulls {
                Some(nulls) if nulls.is_null(i) => None,
                _ => texts.texts.get(p as usize).map(AsRef::as_ref),
            };
            Arc::new(patterns.iter().enumerate().map(text).collect::<BinaryArray>())
        }
    };
    Ok(match data_type {
        DataType::Date32 => cast(&cast(&array, &DataType::Int32)?, data_type)?,
        _ => cast(&array, data_type)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_keep_the_order_and_the_bits_of_floats() {
        let ordered = [f64::NEG_INFINITY, -1e300, -1.0, -f64::MIN_POSITIVE, -0.0, 0.0, 1e-300, 2.5, f64::INFINITY, f64::NAN];
        for pair in ordered.windows(2) {
            assert!(pattern(pair[0]) < pattern(pair[1]), "{pair:?}");
        }
        for x in ordered {
            assert_eq!(float(pattern(x)).to_bits(), x.to_bits());
        }
        assert_eq!(pattern(-f64::NAN), pattern(f64::NAN));
    }

    #[test]
    fn an_integer_is_the_sum_of_two_floats_exactly() {
        for value in [i64::MIN, -1, 0, 1, i64::MAX, (1 << 53) + 1] {
            let (high, low) = Lane::Signed.number(value as u64 ^ SIGN);
            assert_eq!(high as i128 + low as i128, i128::from(value));
        }
        let (high, low) = Lane::Unsigned.number(u64::MAX);
        assert_eq!(high as u128 + low as u128, u128::from(u64::MAX));
    }
}
