//! A hash of the values in a row. It depends on the values and their types alone: not on batches, on the width in which numbers
//! are stored, or on the version of a library.
//!
//! A row's hash is BLAKE3 over the seed and the columns' values. A value is a byte for its kind and the value: integers of any
//! width as 128 bits, floats as 64 bits with one zero and one NaN, texts and bytes with their length, times in nanoseconds. NULL
//! is a kind of its own.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Decimal256Type, Float64Type, Int32Type, Int64Type, TimeUnit, UInt64Type},
};

use crate::{
    error::{Error, Result},
    numeric::canonical,
};

/// Appends the value in a row of a column.
type Append = Box<dyn Fn(usize, &mut Vec<u8>)>;

/// Hashes the rows of a batch.
pub(super) struct RowHasher {
    seed: u64,
    columns: Vec<Append>,
    bytes: Vec<u8>,
}

impl RowHasher {
    /// A hasher of rows with these named columns. `subject` names the rows in errors.
    ///
    /// # Errors
    /// [`Error::ColumnType`] for a column whose values cannot be hashed: structs, maps and unions.
    pub(super) fn new<'a>(subject: &str, seed: u64, columns: impl Iterator<Item = (&'a str, &'a ArrayRef)>) -> Result<Self> {
        let columns =
            columns.map(|(name, column)| appender(column).and_then(|found| found.ok_or_else(|| refused(subject, name, column))));
        Ok(Self { seed, columns: columns.collect::<Result<_>>()?, bytes: Vec::new() })
    }

    /// The hash of a row as a number in `[0, 1)`.
    pub(super) fn share(&mut self, row: usize) -> f64 {
        self.bytes.clear();
        self.bytes.extend(self.seed.to_le_bytes());
        for append in &self.columns {
            append(row, &mut self.bytes);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&blake3::hash(&self.bytes).as_bytes()[..8]);
        // The upper 53 bits are exactly a float.
        (u64::from_le_bytes(first) >> 11) as f64 * (-53_f64).exp2()
    }
}

fn refused(subject: &str, name: &str, column: &ArrayRef) -> Error {
    Error::ColumnType {
        subject: subject.into(),
        column: name.into(),
        found: column.data_type().to_string(),
        needed: "rows can be split only by columns of numbers, texts, bytes, times and lists of them; split by other columns"
            .into(),
    }
}

const NULL: u8 = 0;
const BOOLEAN: u8 = 1;
const INTEGER: u8 = 2;
const FLOAT: u8 = 3;
const DECIMAL: u8 = 4;
const TEXT: u8 = 5;
const BYTES: u8 = 6;
const INSTANT: u8 = 7;
const LOCAL_TIME: u8 = 8;
const TIME_OF_DAY: u8 = 9;
const DURATION: u8 = 10;
const LIST: u8 = 11;

/// How the values of a column are appended; `None` for a type that is not hashed.
fn appender(column: &ArrayRef) -> Result<Option<Append>> {
    use DataType::{
        Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Dictionary, Duration, LargeList, List, Null,
        Time32, Time64, Timestamp, UInt64,
    };
    let integers = |to: &DataType| -> Result<ArrayRef> { Ok(cast(column, to)?) };
    Ok(Some(match column.data_type() {
        Null => Box::new(|_, bytes| bytes.push(NULL)),
        Boolean => {
            let values = column.as_boolean().clone();
            nullable(column, BOOLEAN, move |row, bytes| bytes.push(values.value(row).into()))
        }
        UInt64 => {
            let values = column.as_primitive::<UInt64Type>().clone();
            nullable(column, INTEGER, move |row, bytes| bytes.extend(i128::from(values.value(row)).to_le_bytes()))
        }
        t if t.is_integer() => counted(column, integers(&DataType::Int64)?, INTEGER, 1),
        t if t.is_floating() => {
            let values = cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone();
            nullable(column, FLOAT, move |row, bytes| bytes.extend(canonical(values.value(row)).to_bits().to_le_bytes()))
        }
        Decimal32(_, scale) | Decimal64(_, scale) | Decimal128(_, scale) | Decimal256(_, scale) => {
            let scale = *scale;
            let values = cast(column, &Decimal256(76, scale))?.as_primitive::<Decimal256Type>().clone();
            nullable(column, DECIMAL, move |row, bytes| {
                bytes.extend(scale.to_le_bytes());
                bytes.extend(values.value(row).to_le_bytes());
            })
        }
        t if t.is_string() => {
            let values = cast(column, &DataType::LargeUtf8)?.as_string::<i64>().clone();
            nullable(column, TEXT, move |row, bytes| sized(values.value(row).as_bytes(), bytes))
        }
        t if t.is_binary() => {
            let values = cast(column, &DataType::LargeBinary)?.as_binary::<i64>().clone();
            nullable(column, BYTES, move |row, bytes| sized(values.value(row), bytes))
        }
        // The numbers of a timestamp are its units; a cast to another unit could overflow.
        Timestamp(unit, zone) => {
            let kind = if zone.is_some() { INSTANT } else { LOCAL_TIME };
            counted(column, integers(&DataType::Int64)?, kind, nanos_in(*unit))
        }
        Date32 => {
            let days = cast(column, &DataType::Int32)?.as_primitive::<Int32Type>().clone();
            nullable(column, LOCAL_TIME, move |row, bytes| {
                bytes.extend((i128::from(days.value(row)) * 86_400_000_000_000).to_le_bytes());
            })
        }
        Date64 => counted(column, integers(&DataType::Int64)?, LOCAL_TIME, 1_000_000),
        Time32(unit) => {
            let times = cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?;
            counted(column, times, TIME_OF_DAY, nanos_in(*unit))
        }
        Time64(unit) => counted(column, integers(&DataType::Int64)?, TIME_OF_DAY, nanos_in(*unit)),
        Duration(unit) => counted(column, integers(&DataType::Int64)?, DURATION, nanos_in(*unit)),
        List(_) => {
            let lists = column.as_list::<i32>().clone();
            let Some(item) = appender(lists.values())? else { return Ok(None) };
            nullable(column, LIST, move |row, bytes| {
                let (start, end) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
                items(start..end, &item, bytes);
            })
        }
        LargeList(_) => {
            let lists = column.as_list::<i64>().clone();
            let Some(item) = appender(lists.values())? else { return Ok(None) };
            nullable(column, LIST, move |row, bytes| {
                let (start, end) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
                items(start..end, &item, bytes);
            })
        }
        Dictionary(_, values) => return appender(&cast(column, values)?),
        _ => return Ok(None),
    }))
}

fn nullable(column: &ArrayRef, kind: u8, append: impl Fn(usize, &mut Vec<u8>) + 'static) -> Append {
    let nulls = column.logical_nulls();
    Box::new(move |row, bytes| {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            bytes.push(NULL);
        } else {
            bytes.push(kind);
            append(row, bytes);
        }
    })
}

/// Integers that count units of so many.
fn counted(column: &ArrayRef, integers: ArrayRef, kind: u8, unit: i64) -> Append {
    let integers = integers.as_primitive::<Int64Type>().clone();
    nullable(column, kind, move |row, bytes| bytes.extend((i128::from(integers.value(row)) * i128::from(unit)).to_le_bytes()))
}

fn sized(value: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend((value.len() as u64).to_le_bytes());
    bytes.extend(value);
}

fn items(range: std::ops::Range<usize>, item: &Append, bytes: &mut Vec<u8>) {
    bytes.extend((range.len() as u64).to_le_bytes());
    range.for_each(|row| item(row, bytes));
}

fn nanos_in(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, ListArray,
        StringArray, StringViewArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
    };

    use super::*;

    fn shares(columns: &[ArrayRef]) -> Vec<f64> {
        let mut hasher = RowHasher::new("the rows", 7, columns.iter().map(|c| ("c", c))).unwrap();
        (0..columns[0].len()).map(|row| hasher.share(row)).collect()
    }

    fn one(column: impl Array + 'static) -> Vec<f64> {
        shares(&[Arc::new(column)])
    }

    #[test]
    fn equal_values_hash_alike_in_any_width() {
        assert_eq!(one(Int32Array::from(vec![Some(5), None])), one(Int64Array::from(vec![Some(5), None])));
        assert_eq!(one(Int64Array::from(vec![5])), one(UInt64Array::from(vec![5])));
        assert_eq!(one(Float32Array::from(vec![0.5])), one(Float64Array::from(vec![0.5])));
        assert_eq!(one(Float64Array::from(vec![0.0, f64::NAN])), one(Float64Array::from(vec![-0.0, -f64::NAN])));
        assert_eq!(one(StringArray::from(vec!["a", ""])), one(StringViewArray::from(vec!["a", ""])));
        let micros = TimestampMicrosecondArray::from(vec![3]).with_timezone("UTC");
        assert_eq!(one(micros), one(TimestampNanosecondArray::from(vec![3_000]).with_timezone("UTC")));
    }

    #[test]
    fn other_values_kinds_and_seeds_hash_otherwise() {
        let list = |items: Vec<Option<i64>>| ListArray::from_iter_primitive::<Int64Type, _, _>([Some(items)]);
        let all: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1])),
            Arc::new(Int64Array::from(vec![None])),
            Arc::new(Int64Array::from(vec![257])),
            Arc::new(BooleanArray::from(vec![true])),
            Arc::new(Float64Array::from(vec![1.0])),
            Arc::new(Decimal128Array::from(vec![1])),
            Arc::new(StringArray::from(vec!["1"])),
            Arc::new(BinaryArray::from(vec![b"1".as_slice()])),
            Arc::new(Date32Array::from(vec![1])),
            Arc::new(TimestampMicrosecondArray::from(vec![1])),
            Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC")),
            Arc::new(list(vec![Some(1)])),
            Arc::new(list(vec![Some(1), None])),
            Arc::new(list(vec![])),
        ];
        let mut found: Vec<f64> = all.iter().map(|column| shares(std::slice::from_ref(column))[0]).collect();
        found.sort_by(f64::total_cmp);
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
        let two = |a: &str, b: &str| {
            shares(&[Arc::new(StringArray::from(vec![a])) as ArrayRef, Arc::new(StringArray::from(vec![b]))])[0]
        };
        assert_ne!(two("ab", "c").to_bits(), two("a", "bc").to_bits());
        let with = |seed| RowHasher::new("the rows", seed, [("c", &all[0])].into_iter()).unwrap().share(0);
        assert_ne!(with(1).to_bits(), with(2).to_bits());
    }

    /// What a release has split must be split alike by the next one. The expected bytes follow from the head of this file.
    #[test]
    fn the_hash_is_what_it_is_said_to_be() {
        let mut bytes = 7_u64.to_le_bytes().to_vec();
        bytes.push(INTEGER);
        bytes.extend(5_i128.to_le_bytes());
        bytes.push(TEXT);
        bytes.extend(2_u64.to_le_bytes());
        bytes.extend(b"ab");
        bytes.push(NULL);
        let hash = blake3::hash(&bytes);
        let word = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap());
        let columns: [ArrayRef; 3] = [
            Arc::new(Int32Array::from(vec![5])),
            Arc::new(StringArray::from(vec!["ab"])),
            Arc::new(Float64Array::from(vec![None])),
        ];
        assert_eq!(shares(&columns), [(word >> 11) as f64 / (1_u64 << 53) as f64]);
    }

    #[test]
    fn shares_are_spread_evenly() {
        let all = one(Int64Array::from_iter_values(0..20_000));
        let below = all.iter().filter(|share| **share < 0.3).count();
        // The standard deviation is 65.
        assert!((5_700..6_300).contains(&below), "{below}");
    }

    #[test]
    fn a_struct_is_refused_by_name() {
        let fields = vec![arrow::datatypes::Field::new("x", DataType::Int64, true)];
        let column: ArrayRef =
            Arc::new(arrow::array::StructArray::new(fields.into(), vec![Arc::new(Int64Array::from(vec![1]))], None));
        let error = RowHasher::new("the rows", 0, [("place", &column)].into_iter()).err().unwrap();
        assert!(matches!(&error, Error::ColumnType { column, .. } if column == "place"), "{error}");
    }
}
