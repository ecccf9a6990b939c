//! Sort keys: values of any type as 64-bit integers that have the order of the values.
//! Texts have no such encoding. They are numbered in a dictionary, and their order is that of the texts behind the numbers. The
//! same goes for other values that do not fit into 64 bits, by their bytes in Arrow's row format.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryViewArray, Float64Array, Int64Array, LargeBinaryArray,
        PrimitiveArray, UInt64Array,
    },
    buffer::{NullBuffer, ScalarBuffer},
    compute::cast,
    datatypes::{
        DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Float64Type, Int64Type, UInt64Type,
        i256,
    },
    error::ArrowError,
    row::{RowConverter, SortField},
};
use datafusion::common::HashMap;
use twox_hash::XxHash64;

use crate::{
    error::Result,
    numeric::{canonical, decimal_value, float_key, key_float},
};

const SIGN: u64 = 1 << 63;

/// How the values of a column are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Floats, in their total order: -0.0 before 0.0, NaN last.
    Float,
    /// Signed integers, and types that are stored as such: dates, instants, truth values.
    Signed,
    Unsigned,
    /// Decimals of at most 18 digits, in units of the last digit.
    Decimal64,
    /// Texts, longer decimals and other types: numbers of a [`ValueDictionary`].
    Dictionary,
    /// Hashes of the values, equal for equal values. Both zeros are equal. They have no order, and no value is found by them.
    Hash,
    /// Decimals of any length that are added up. They are not encoded.
    RawDecimal,
    /// Only whether a value is NULL.
    Presence,
}

impl Encoding {
    /// The encoding of numbers that are computed with as floats, each rounded once; and of other values.
    pub(super) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Dictionary(_, values) => Encoding::of(values),
            DataType::UInt64 => Encoding::Unsigned,
            t if t.is_floating() || t.is_decimal() => Encoding::Float,
            t if t.is_integer() => Encoding::Signed,
            DataType::Boolean | DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Encoding::Signed,
            _ => Encoding::Dictionary,
        }
    }

    /// The encoding of values that are compared and returned: no digit of a decimal may be lost.
    pub(super) fn for_order(data_type: &DataType) -> Self {
        use DataType::{Decimal32, Decimal64, Decimal128, Decimal256, Dictionary};
        match data_type {
            Dictionary(_, values) => Encoding::for_order(values),
            Decimal32(..) | Decimal64(..) | Decimal128(..=18, _) | Decimal256(..=18, _) => Encoding::Decimal64,
            t if t.is_decimal() => Encoding::Dictionary,
            other => Encoding::of(other),
        }
    }

    /// The encoding of numbers between which results are interpolated: short decimals in units of the last digit, longer ones
    /// as the nearest float.
    pub(super) fn for_quantile(data_type: &DataType) -> Self {
        match Encoding::for_order(data_type) {
            Encoding::Decimal64 => Encoding::Decimal64,
            _ => Encoding::of(data_type),
        }
    }

    /// The encoding of numbers that are added up, or their squares.
    pub(super) fn for_sum(data_type: &DataType) -> Self {
        if data_type.is_decimal() { Encoding::RawDecimal } else { Encoding::of(data_type) }
    }

    /// The integer of a key.
    #[inline]
    pub(super) fn integer(self, key: u64) -> i128 {
        if self == Encoding::Unsigned { i128::from(key) } else { i128::from((key ^ SIGN) as i64) }
    }

    /// The number of a key, as two floats whose exact sum it is.
    #[inline]
    pub(super) fn number(self, key: u64) -> (f64, f64) {
        match self {
            Encoding::Float => (key_float(key), 0.0),
            Encoding::Signed | Encoding::Decimal64 => {
                let value = (key ^ SIGN) as i64;
                let low = value & 0xffff_ffff;
                ((value - low) as f64, low as f64)
            }
            _ => {
                let low = key & 0xffff_ffff;
                ((key - low) as f64, low as f64)
            }
        }
    }
}

/// Texts and other values by number.
#[derive(Default)]
pub(super) struct ValueDictionary {
    numbers: HashMap<Arc<[u8]>, u64>,
    values: Vec<Arc<[u8]>>,
    pub(super) bytes: usize,
}

impl ValueDictionary {
    /// The number of a value, which is added if it is new.
    pub(super) fn number(&mut self, text: &[u8]) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text: Arc<[u8]> = text.into();
        let number = self.values.len() as u64;
        self.bytes += text.len() + 64;
        self.numbers.insert(text.clone(), number);
        self.values.push(text);
        number
    }

    /// The value with this number.
    pub(super) fn value(&self, number: u64) -> Option<&[u8]> {
        self.values.get(usize::try_from(number).ok()?).map(AsRef::as_ref)
    }

    /// The order of two values.
    pub(super) fn compare(&self, encoding: Encoding, a: u64, b: u64) -> Ordering {
        match encoding {
            Encoding::Dictionary if a != b => self.values[a as usize].cmp(&self.values[b as usize]),
            _ => a.cmp(&b),
        }
    }
}

/// The encoded values of a column.
pub(super) enum EncodedValues {
    Keys(ScalarBuffer<u64>),
    Decimals(ScalarBuffer<i128>),
    WideDecimals(ScalarBuffer<i256>),
}

/// Encodes a column. Also returns which rows are NULL.
pub(super) fn encode(
    encoding: Encoding,
    array: &ArrayRef,
    dictionary: &mut ValueDictionary,
) -> Result<(EncodedValues, Option<NullBuffer>)> {
    let nulls = array.logical_nulls();
    let values: Vec<u64> = match encoding {
        Encoding::RawDecimal => {
            let values = match array.data_type() {
                DataType::Decimal128(..) => EncodedValues::Decimals(array.as_primitive::<Decimal128Type>().values().clone()),
                DataType::Decimal256(..) => EncodedValues::WideDecimals(array.as_primitive::<Decimal256Type>().values().clone()),
                _ => EncodedValues::Decimals(units(array, |units| Ok(units.as_i128()))?.into()),
            };
            return Ok((values, nulls));
        }
        Encoding::Float => match scale_of(array.data_type()) {
            Some(scale) => units(array, |units| Ok(float_key(decimal_value(units, scale))))?,
            None => {
                let values = cast(array, &DataType::Float64)?;
                values.as_primitive::<Float64Type>().values().iter().map(|&x| float_key(x)).collect()
            }
        },
        Encoding::Unsigned => cast(array, &DataType::UInt64)?.as_primitive::<UInt64Type>().values().to_vec(),
        Encoding::Signed => {
            let values = cast(array, &DataType::Int64)?;
            values.as_primitive::<Int64Type>().values().iter().map(|&x| x as u64 ^ SIGN).collect()
        }
        Encoding::Decimal64 => {
            let beyond = || ArrowError::InvalidArgumentError(format!("a decimal has more digits than {}", array.data_type()));
            let narrow = |units: i256| units.to_i128().and_then(|units| i64::try_from(units).ok());
            let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            let mut row = 0;
            units(array, |units| {
                row += 1;
                let value = if is_null(row - 1) { 0 } else { narrow(units).ok_or_else(beyond)? };
                Ok(value as u64 ^ SIGN)
            })?
        }
        Encoding::Dictionary if scale_of(array.data_type()).is_some() => {
            units(array, |units| Ok(dictionary.number(&ordered_bytes(units))))?
        }
        Encoding::Dictionary => by_bytes(array, &mut |text| dictionary.number(text))?,
        Encoding::Hash => hashes(array)?,
        Encoding::Presence => Vec::new(),
    };
    Ok((EncodedValues::Keys(values.into()), nulls))
}

/// As [`encode`], for an encoding that has keys.
pub(super) fn encode_keys(
    encoding: Encoding,
    array: &ArrayRef,
    dictionary: &mut ValueDictionary,
) -> Result<(ScalarBuffer<u64>, Option<NullBuffer>)> {
    match encode(encoding, array, dictionary)? {
        (EncodedValues::Keys(keys), nulls) => Ok((keys, nulls)),
        (_, nulls) => Ok((ScalarBuffer::from(vec![0; array.len()]), nulls)),
    }
}

/// The hashes of a column: the same ones wherever and whenever they are made.
fn hashes(array: &ArrayRef) -> Result<Vec<u64>> {
    let encoding = Encoding::for_order(array.data_type());
    if encoding == Encoding::Dictionary {
        return match scale_of(array.data_type()) {
            Some(_) => units(array, |units| Ok(hash(&units.to_be_bytes()))),
            None => by_bytes(array, &mut hash),
        };
    }
    let (keys, _) = encode_keys(encoding, array, &mut ValueDictionary::default())?;
    let one_zero = |key: u64| if encoding == Encoding::Float { float_key(canonical(key_float(key))) } else { key };
    Ok(keys.iter().map(|&key| hash(&one_zero(key).to_le_bytes())).collect())
}

fn hash(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// A number for each text or other value by its bytes, as `number` makes it. Those of NULL rows mean nothing.
fn by_bytes(array: &ArrayRef, number: &mut impl FnMut(&[u8]) -> u64) -> Result<Vec<u64>> {
    if let DataType::Dictionary(_, values) = array.data_type()
        && is_bytes(values)
    {
        return by_bytes(&cast(array, values)?, number);
    }
    let mut number = |text: Option<&[u8]>| text.map_or(0, &mut *number);
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().map(|text| number(text.map(str::as_bytes))).collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().map(|text| number(text.map(str::as_bytes))).collect(),
        DataType::Utf8View => array.as_string_view().iter().map(|text| number(text.map(str::as_bytes))).collect(),
        DataType::Binary => array.as_binary::<i32>().iter().map(number).collect(),
        DataType::LargeBinary => array.as_binary::<i64>().iter().map(number).collect(),
        DataType::BinaryView => array.as_binary_view().iter().map(number).collect(),
        data_type => {
            let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
            let rows = converter.convert_columns(std::slice::from_ref(array))?;
            rows.iter().map(|row| number(Some(row.as_ref()))).collect()
        }
    })
}

fn is_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_bytes(values),
        other => other.is_string() || other.is_binary(),
    }
}

/// The digits after the point of a decimal.
pub(super) fn scale_of(data_type: &DataType) -> Option<i8> {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    match data_type {
        DataType::Dictionary(_, values) => scale_of(values),
        Decimal32(_, scale) | Decimal64(_, scale) | Decimal128(_, scale) | Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}

/// Converts the units of each decimal, NULL rows included.
fn units<T>(array: &ArrayRef, to: impl FnMut(i256) -> Result<T>) -> Result<Vec<T>> {
    let whole = |units: i128| i256::from_i128(units);
    match array.data_type() {
        DataType::Dictionary(_, values) => units(&cast(array, values)?, to),
        DataType::Decimal32(..) => {
            array.as_primitive::<Decimal32Type>().values().iter().map(|&v| whole(v.into())).map(to).collect()
        }
        DataType::Decimal64(..) => {
            array.as_primitive::<Decimal64Type>().values().iter().map(|&v| whole(v.into())).map(to).collect()
        }
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().values().iter().map(|&v| whole(v)).map(to).collect(),
        _ => array.as_primitive::<Decimal256Type>().values().iter().copied().map(to).collect(),
    }
}

/// Bytes that have the order of the numbers.
fn ordered_bytes(units: i256) -> [u8; 32] {
    let mut bytes = units.to_be_bytes();
    bytes[0] ^= 0x80;
    bytes
}

fn units_of(bytes: &[u8]) -> i256 {
    let mut units = [0; 32];
    units.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    units[0] ^= 0x80;
    i256::from_be_bytes(units)
}

/// An array of decimals from their units, which the type can hold.
pub(super) fn decimal_array(
    data_type: &DataType,
    units: impl Iterator<Item = i256>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    fn of<T: ArrowPrimitiveType + DecimalType>(
        values: impl Iterator<Item = T::Native>,
        nulls: Option<NullBuffer>,
        precision: u8,
        scale: i8,
    ) -> Result<ArrayRef> {
        let array = PrimitiveArray::<T>::try_new(values.collect(), nulls)?;
        Ok(Arc::new(array.with_precision_and_scale(precision, scale)?))
    }
    match *data_type {
        DataType::Decimal32(p, s) => of::<Decimal32Type>(units.map(|v| v.as_i128() as i32), nulls, p, s),
        DataType::Decimal64(p, s) => of::<Decimal64Type>(units.map(|v| v.as_i128() as i64), nulls, p, s),
        DataType::Decimal128(p, s) => of::<Decimal128Type>(units.map(i256::as_i128), nulls, p, s),
        DataType::Decimal256(p, s) => of::<Decimal256Type>(units, nulls, p, s),
        ref other => Err(ArrowError::InvalidArgumentError(format!("{other} holds no decimals")).into()),
    }
}

/// The values of keys as an array.
///
/// # Errors
/// [`ArrowError::OffsetOverflowError`] if texts have more than `most_bytes` together.
pub(super) fn decode(
    encoding: Encoding,
    data_type: &DataType,
    keys: &[u64],
    nulls: Option<NullBuffer>,
    dictionary: &ValueDictionary,
    most_bytes: usize,
) -> Result<ArrayRef> {
    let is_decimal = scale_of(data_type).is_some();
    let text = |(i, &p): (usize, &u64)| match &nulls {
        Some(nulls) if nulls.is_null(i) => None,
        _ => dictionary.values.get(p as usize).map(AsRef::as_ref),
    };
    let array: ArrayRef = match encoding {
        Encoding::Float => Arc::new(Float64Array::new(keys.iter().map(|&p| key_float(p)).collect(), nulls)),
        Encoding::Unsigned => Arc::new(UInt64Array::new(keys.to_vec().into(), nulls)),
        Encoding::Decimal64 => {
            return decimal_array(data_type, keys.iter().map(|&p| i256::from_i128(encoding.integer(p))), nulls);
        }
        Encoding::Signed | Encoding::Hash | Encoding::Presence | Encoding::RawDecimal => {
            Arc::new(Int64Array::new(keys.iter().map(|&p| (p ^ SIGN) as i64).collect(), nulls))
        }
        Encoding::Dictionary if is_decimal => {
            let units: Vec<i256> = keys.iter().enumerate().map(text).map(|bytes| bytes.map_or(i256::ZERO, units_of)).collect();
            return decimal_array(data_type, units.into_iter(), nulls);
        }
        Encoding::Dictionary => {
            let bytes: usize = keys.iter().enumerate().filter_map(text).map(<[u8]>::len).sum();
            if bytes > most_bytes {
                return Err(ArrowError::OffsetOverflowError(bytes).into());
            }
            let all = keys.iter().enumerate().map(text);
            match data_type {
                DataType::LargeUtf8 | DataType::LargeBinary => Arc::new(all.collect::<LargeBinaryArray>()),
                DataType::Utf8View | DataType::BinaryView => Arc::new(all.collect::<BinaryViewArray>()),
                _ => Arc::new(all.collect::<BinaryArray>()),
            }
        }
    };
    Ok(cast(&array, data_type)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    #[test]
    fn an_integer_is_the_sum_of_two_floats_exactly() {
        for value in [i64::MIN, -1, 0, 1, i64::MAX, (1 << 53) + 1] {
            let (high, low) = Encoding::Signed.number(value as u64 ^ SIGN);
            assert_eq!(high as i128 + low as i128, i128::from(value));
        }
        let (high, low) = Encoding::Unsigned.number(u64::MAX);
        assert_eq!(high as u128 + low as u128, u128::from(u64::MAX));
    }

    #[test]
    fn decimals_keep_their_digits_and_their_order() {
        for (precision, expected) in [(18, Encoding::Decimal64), (38, Encoding::Dictionary)] {
            let data_type = DataType::Decimal128(precision, 2);
            let encoding = Encoding::for_order(&data_type);
            assert_eq!(encoding, expected);
            let units = [-999_999_999_999_999_999i128, -1, 0, 9_007_199_254_740_993, 9_007_199_254_740_994];
            let array = decimal_array(&data_type, units.iter().map(|&v| i256::from_i128(v)), None).unwrap();
            let mut dictionary = ValueDictionary::default();
            let (keys, _) = encode_keys(encoding, &array, &mut dictionary).unwrap();
            for pair in keys.windows(2) {
                assert!(dictionary.compare(encoding, pair[0], pair[1]).is_lt());
            }
            assert_eq!(&decode(encoding, &data_type, &keys, None, &dictionary, 1_000).unwrap(), &array);
        }
    }

    /// The hashes of fixed values are part of every approximate count that was ever made.
    #[test]
    fn hashes_are_those_of_the_values() {
        let hashes = |array: ArrayRef| match encode(Encoding::Hash, &array, &mut ValueDictionary::default()).unwrap() {
            (EncodedValues::Keys(keys), _) => keys.to_vec(),
            _ => Vec::new(),
        };
        // XXH64 of "abc" and of nothing, from the reference implementation.
        let known = [0x44bc_2cf5_ad77_0999, 0xef46_db37_51d8_e999];
        let texts = StringArray::from(vec!["abc", ""]);
        assert_eq!(hashes(Arc::new(texts.clone())), known);
        assert_eq!(hashes(cast(&texts, &DataType::Utf8View).unwrap()), known);
        assert_eq!(hashes(cast(&texts, &DataType::Binary).unwrap()), known);
        let words = cast(&texts, &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))).unwrap();
        assert_eq!(hashes(words), known);
        let floats = hashes(Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0])));
        assert_eq!((floats[0] == floats[1], floats[2] == floats[3], floats[0] == floats[4]), (true, true, false));
        for precision in [18, 38] {
            let units = [1, 10i128.pow(17), 10i128.pow(17) + 1, 1].map(i256::from_i128);
            let decimals = hashes(decimal_array(&DataType::Decimal128(precision, 2), units.into_iter(), None).unwrap());
            assert!(decimals[0] == decimals[3] && decimals[1] != decimals[2] && decimals[0] != decimals[1]);
        }
    }

    #[test]
    fn texts_that_are_too_long_together_are_refused_before_they_are_copied() {
        let mut dictionary = ValueDictionary::default();
        let numbers = [dictionary.number(b"abc"), dictionary.number(b"de")];
        let made =
            |most| decode(Encoding::Dictionary, &DataType::Utf8, &[numbers[0], numbers[1], numbers[0]], None, &dictionary, most);
        assert_eq!(made(8).unwrap().len(), 3);
        assert!(made(7).unwrap_err().to_string().contains("overflow"));
    }
}
