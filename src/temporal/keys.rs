//! Entity keys as dense numbers. Each distinct key of a spine has a number, and a fact with another key has none.
//! Keys are compared column by column, never as one text. A key with a NULL in any column matches nothing.
//!
//! Without a spine, keys are numbered as they are found in facts: [`GrowingKeys`].

use std::sync::{Arc, PoisonError, RwLock};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, UInt32Array, UInt64Array},
    buffer::NullBuffer,
    compute::{cast, take},
    datatypes::{DataType, Int64Type},
    row::{RowConverter, SortField},
};
use datafusion::common::HashMap;

use crate::error::{Error, Result};

/// The number of a row whose key is NULL or not in the spine.
pub(crate) const NO_KEY: u32 = u32::MAX;

/// Integer keys are looked up in an array if their range is at most this many times their number.
const DENSE: i128 = 8;
const ALWAYS_DENSE: i128 = 1 << 16;

/// The type in which a key column of the spine and one of the facts are compared.
///
/// Integers of any width are compared by value, texts and bytes by their bytes, and other types only with themselves.
///
/// # Errors
/// What is wrong. The caller adds the subject.
pub(crate) fn comparable(spine: &DataType, facts: &DataType) -> std::result::Result<DataType, String> {
    let (spine, facts) = (plain(spine), plain(facts));
    if spine.is_floating() || facts.is_floating() {
        return Err("floats do not identify an entity; cast the key to an integer or a text".into());
    }
    if spine.is_integer() && facts.is_integer() {
        let both = spine == DataType::UInt64 && facts == DataType::UInt64;
        return Ok(if both { DataType::UInt64 } else { DataType::Int64 });
    }
    if spine != facts {
        return Err(format!("keys of {spine} and {facts} cannot be compared; cast one of them"));
    }
    let is_hashable = RowConverter::supports_datatype(&spine) && !spine.is_nested();
    if is_hashable { Ok(spine) } else { Err(format!("{spine} cannot be a key; use integers, texts, dates or instants")) }
}

/// The type without its encoding.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

trait Supports {
    fn supports_datatype(data_type: &DataType) -> bool;
}

impl Supports for RowConverter {
    fn supports_datatype(data_type: &DataType) -> bool {
        RowConverter::supports_fields(&[SortField::new(data_type.clone())])
    }
}

/// The distinct keys of a spine.
pub(crate) struct Keys {
    types: Vec<DataType>,
    form: KeyMap,
    count: u32,
}

enum KeyMap {
    /// One column of integers, dates, instants or truth values, in a narrow range.
    Dense { first: i64, numbers: Vec<u32> },
    /// The same in a wide range.
    Sparse(HashMap<i64, u32>),
    /// One column of texts or bytes.
    Text(HashMap<Box<[u8]>, u32>),
    /// Several columns, or one of another type, in Arrow's row format.
    Rows(RowConverter, HashMap<Box<[u8]>, u32>),
}

impl Keys {
    /// Numbers the keys of a spine, given the key columns of its batches. Returns the number of each row.
    ///
    /// # Errors
    /// [`Error::Limit`] for more than `u32::MAX - 1` rows.
    pub(crate) fn number(types: &[DataType], batches: &[Vec<ArrayRef>]) -> Result<(Self, Vec<u32>)> {
        let rows: usize = batches.iter().map(|columns| columns.first().map_or(0, |c| c.len())).sum();
        if rows >= NO_KEY as usize {
            let reason = format!("has {rows} rows, and a query takes at most {}; run it in parts", NO_KEY - 1);
            return Err(Error::Limit { subject: "the spine".into(), reason });
        }
        let mut keys = Self { types: types.to_vec(), form: KeyMap::Sparse(HashMap::new()), count: 0 };
        let mut numbers = Vec::with_capacity(rows);
        match types {
            [only] if is_integral(only) => {
                // Each batch is cast twice. Casting all at once would hold a copy of the column.
                let integers = |columns: &Vec<ArrayRef>| IntegerKeys::of(&cast(&columns[0], only)?);
                keys.form = integral_form(batches.iter().map(integers))?;
                for columns in batches {
                    keys.number_integers(&integers(columns)?, &mut numbers);
                }
            }
            [only] if is_bytes(only) => {
                keys.form = KeyMap::Text(HashMap::new());
                for columns in batches {
                    keys.number_bytes(&columns[0], None, &mut numbers)?;
                }
            }
            _ => {
                let converter = RowConverter::new(types.iter().map(|t| SortField::new(t.clone())).collect())?;
                keys.form = KeyMap::Rows(converter, HashMap::new());
                for columns in batches {
                    let columns = keys.cast(columns)?;
                    keys.number_bytes(&columns[0], Some(&columns), &mut numbers)?;
                }
            }
        }
        Ok((keys, numbers))
    }

    /// How many distinct keys there are; numbers are below it.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        match &self.form {
            KeyMap::Dense { numbers, .. } => numbers.len() * 4,
            KeyMap::Sparse(map) => map.capacity() * 17,
            KeyMap::Text(map) | KeyMap::Rows(_, map) => map.iter().map(|(key, _)| key.len() + 40).sum(),
        }
    }

    fn cast(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        columns.iter().zip(&self.types).map(|(column, data_type)| Ok(cast(column, data_type)?)).collect()
    }

    fn number_integers(&mut self, column: &IntegerKeys, numbers: &mut Vec<u32>) {
        let count = &mut self.count;
        let mut fresh = || {
            *count += 1;
            *count - 1
        };
        for row in 0..column.values.len() {
            if column.is_null(row) {
                numbers.push(NO_KEY);
                continue;
            }
            let value = column.values[row];
            let number = match &mut self.form {
                KeyMap::Dense { first, numbers } => {
                    let number = &mut numbers[value.wrapping_sub(*first) as usize];
                    if *number == NO_KEY {
                        *number = fresh();
                    }
                    *number
                }
                KeyMap::Sparse(map) => *map.entry(value).or_insert_with(&mut fresh),
                KeyMap::Text(_) | KeyMap::Rows(..) => NO_KEY,
            };
            numbers.push(number);
        }
    }

    /// Numbers one column of texts or bytes, or rows of several columns.
    fn number_bytes(&mut self, first: &ArrayRef, columns: Option<&[ArrayRef]>, numbers: &mut Vec<u32>) -> Result<()> {
        let count = &mut self.count;
        let mut number = |map: &mut HashMap<Box<[u8]>, u32>, key: &[u8]| match map.get(key) {
            Some(number) => *number,
            None => {
                map.insert(key.into(), *count);
                *count += 1;
                *count - 1
            }
        };
        match (&mut self.form, columns) {
            (KeyMap::Text(map), _) => {
                let bytes = cast(first, &DataType::Binary)?;
                numbers.extend(bytes.as_binary::<i32>().iter().map(|key| key.map_or(NO_KEY, |key| number(map, key))));
            }
            (KeyMap::Rows(converter, map), Some(columns)) => {
                let nulls = any_null(columns);
                let rows = converter.convert_columns(columns)?;
                for (i, row) in rows.iter().enumerate() {
                    let is_null = nulls.as_ref().is_some_and(|n| n.is_null(i));
                    numbers.push(if is_null { NO_KEY } else { number(map, row.as_ref()) });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The numbers of these rows' keys.
    pub(crate) fn find(&self, columns: &[ArrayRef]) -> Result<Vec<u32>> {
        match &self.form {
            KeyMap::Dense { first, numbers } => {
                let column = IntegerKeys::of(&cast(&columns[0], &self.types[0])?)?;
                let find = |value: i64| {
                    let offset = value.wrapping_sub(*first) as u64;
                    usize::try_from(offset).ok().and_then(|offset| numbers.get(offset)).copied().unwrap_or(NO_KEY)
                };
                Ok(column.map(find))
            }
            KeyMap::Sparse(map) => {
                let column = IntegerKeys::of(&cast(&columns[0], &self.types[0])?)?;
                Ok(column.map(|value| map.get(&value).copied().unwrap_or(NO_KEY)))
            }
            KeyMap::Text(map) => {
                let bytes = cast(&columns[0], &DataType::Binary)?;
                let find = |key: Option<&[u8]>| key.and_then(|key| map.get(key).copied()).unwrap_or(NO_KEY);
                Ok(bytes.as_binary::<i32>().iter().map(find).collect())
            }
            KeyMap::Rows(converter, map) => {
                let columns = self.cast(columns)?;
                let nulls = any_null(&columns);
                let rows = converter.convert_columns(&columns)?;
                let find = |(i, row): (usize, arrow::row::Row<'_>)| match &nulls {
                    Some(nulls) if nulls.is_null(i) => NO_KEY,
                    _ => map.get(row.as_ref()).copied().unwrap_or(NO_KEY),
                };
                Ok(rows.iter().enumerate().map(find).collect())
            }
        }
    }
}

/// Keys that several tasks number as they find them.
pub(crate) struct GrowingKeys(RwLock<Keys>);

impl GrowingKeys {
    /// No key yet; `types` are those in which keys are compared.
    pub(crate) fn new(types: &[DataType]) -> Result<Self> {
        let form = match types {
            [only] if is_integral(only) => KeyMap::Dense { first: 0, numbers: Vec::new() },
            [only] if is_bytes(only) => KeyMap::Text(HashMap::new()),
            _ => {
                let converter = RowConverter::new(types.iter().map(|t| SortField::new(t.clone())).collect())?;
                KeyMap::Rows(converter, HashMap::new())
            }
        };
        Ok(Self(RwLock::new(Keys { types: types.to_vec(), form, count: 0 })))
    }

    /// The numbers of these rows' keys. A new key gets the next number, and a key with a NULL gets [`NO_KEY`].
    ///
    /// # Errors
    /// [`Error::Limit`] for more than `u32::MAX - 1` keys.
    pub(crate) fn number(&self, columns: &[ArrayRef]) -> Result<Vec<u32>> {
        let mut numbers = self.0.read().unwrap_or_else(PoisonError::into_inner).find(columns)?;
        let nulls = any_null(columns);
        let is_new = |row: usize| numbers[row] == NO_KEY && nulls.as_ref().is_none_or(|n| n.is_valid(row));
        let new: Vec<u32> = (0..numbers.len()).filter(|&row| is_new(row)).map(|row| row as u32).collect();
        if new.is_empty() {
            return Ok(numbers);
        }
        let rows = UInt32Array::from(new);
        let columns = columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<Vec<_>>>()?;
        let added = self.0.write().unwrap_or_else(PoisonError::into_inner).add(&columns)?;
        for (&row, number) in rows.values().iter().zip(added) {
            numbers[row as usize] = number;
        }
        Ok(numbers)
    }

    /// The keys by number, in the types in which they are compared.
    pub(crate) fn columns(&self) -> Result<Vec<ArrayRef>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).columns()
    }

    /// The keys, once there are no more.
    pub(crate) fn into_keys(self) -> Keys {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    /// Numbers the keys of these rows, after those that have a number already.
    fn add(&mut self, columns: &[ArrayRef]) -> Result<Vec<u32>> {
        let rows = columns.first().map_or(0, |column| column.len());
        if self.count() + rows >= NO_KEY as usize {
            let reason = format!("has more than {} entities; ask about fewer", NO_KEY - 1);
            return Err(Error::Limit { subject: "the set of entities".into(), reason });
        }
        let mut numbers = Vec::with_capacity(rows);
        let columns = self.cast(columns)?;
        match self.types.as_slice() {
            [only] if is_integral(only) => {
                let integers = IntegerKeys::of(&columns[0])?;
                self.make_room(&integers);
                self.number_integers(&integers, &mut numbers);
            }
            [only] if is_bytes(only) => self.number_bytes(&columns[0], None, &mut numbers)?,
            _ => self.number_bytes(&columns[0], Some(&columns), &mut numbers)?,
        }
        Ok(numbers)
    }

    /// Widens the array of numbers for these keys, or replaces it by a hash table.
    fn make_room(&mut self, column: &IntegerKeys) {
        let KeyMap::Dense { first, numbers } = &mut self.form else { return };
        let values = || (0..column.values.len()).filter(|&row| !column.is_null(row)).map(|row| column.values[row]);
        let (Some(least), Some(greatest)) = (values().min(), values().max()) else { return };
        if numbers.is_empty() {
            *first = least;
        }
        let last = i128::from(*first) + numbers.len() as i128 - 1;
        let (from, to) = (i128::from(least.min(*first)), last.max(i128::from(greatest)));
        let width = to - from + 1;
        let rows = i128::from(self.count) + column.values.len() as i128;
        if width > (rows * DENSE).max(ALWAYS_DENSE) || width >= i128::from(NO_KEY) {
            self.form = KeyMap::Sparse(dense_entries(*first, numbers).collect());
            return;
        }
        let before = (i128::from(*first) - from) as usize;
        if before > 0 {
            numbers.splice(0..0, std::iter::repeat_n(NO_KEY, before));
            *first = from as i64;
        }
        numbers.resize(width as usize, NO_KEY);
    }

    /// The keys by number, in the types in which they are compared.
    pub(crate) fn columns(&self) -> Result<Vec<ArrayRef>> {
        let mut integers = vec![0i64; self.count()];
        let mut bytes: Vec<&[u8]> = vec![&[]; self.count()];
        match &self.form {
            KeyMap::Dense { first, numbers } => {
                dense_entries(*first, numbers).for_each(|(value, number)| integers[number as usize] = value);
            }
            KeyMap::Sparse(map) => map.iter().for_each(|(&value, &number)| integers[number as usize] = value),
            KeyMap::Text(map) | KeyMap::Rows(_, map) => {
                map.iter().for_each(|(key, &number)| bytes[number as usize] = key.as_ref());
            }
        }
        Ok(match (&self.form, self.types.as_slice()) {
            (KeyMap::Rows(converter, _), _) => {
                let parser = converter.parser();
                converter.convert_rows(bytes.iter().map(|row| parser.parse(row)))?
            }
            (KeyMap::Text(_), [only]) => vec![cast(&(Arc::new(BinaryArray::from(bytes)) as ArrayRef), only)?],
            (_, [DataType::UInt64]) => vec![Arc::new(integers.iter().map(|&v| v as u64).collect::<UInt64Array>())],
            (_, [only]) => {
                let integers: ArrayRef = Arc::new(Int64Array::from(integers));
                vec![cast(&integers, only)?]
            }
            _ => Vec::new(),
        })
    }
}

/// The keys of an array of numbers, and their numbers.
fn dense_entries(first: i64, numbers: &[u32]) -> impl Iterator<Item = (i64, u32)> {
    let known = numbers.iter().enumerate().filter(|(_, number)| **number != NO_KEY);
    known.map(move |(offset, &number)| (first.wrapping_add(offset as i64), number))
}

fn any_null(columns: &[ArrayRef]) -> Option<NullBuffer> {
    columns.iter().fold(None, |nulls, column| NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref()))
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Binary)
}

fn is_integral(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int64 | DataType::UInt64 | DataType::Boolean | DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)
    )
}

/// One key column as 64-bit patterns, equal exactly where the values are.
struct IntegerKeys {
    values: arrow::buffer::ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
}

impl IntegerKeys {
    fn of(array: &ArrayRef) -> Result<Self> {
        let nulls = array.logical_nulls();
        let values = match array.data_type() {
            DataType::Int64 => array.as_primitive::<Int64Type>().values().clone(),
            DataType::UInt64 => {
                let values = array.as_primitive::<arrow::datatypes::UInt64Type>().values();
                values.iter().map(|&v| v as i64).collect::<Vec<_>>().into()
            }
            DataType::Boolean => {
                let values: &BooleanArray = array.as_boolean();
                values.values().iter().map(i64::from).collect::<Vec<_>>().into()
            }
            DataType::Date32 | DataType::Dictionary(..) => return Self::of(&cast(array, &DataType::Int64)?),
            _ => return Self::of(&(Arc::new(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()) as ArrayRef)),
        };
        Ok(Self { values, nulls })
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|n| n.is_null(row))
    }

    fn map(&self, find: impl Fn(i64) -> u32) -> Vec<u32> {
        match &self.nulls {
            None => self.values.iter().map(|&value| find(value)).collect(),
            Some(nulls) => {
                self.values.iter().enumerate().map(|(row, &v)| if nulls.is_null(row) { NO_KEY } else { find(v) }).collect()
            }
        }
    }
}

/// An array for keys in a narrow range, a hash table for others.
fn integral_form(columns: impl Iterator<Item = Result<IntegerKeys>>) -> Result<KeyMap> {
    let (mut first, mut last, mut rows) = (i64::MAX, i64::MIN, 0i128);
    for column in columns {
        let column = column?;
        for row in 0..column.values.len() {
            if !column.is_null(row) {
                first = first.min(column.values[row]);
                last = last.max(column.values[row]);
                rows += 1;
            }
        }
    }
    let width = i128::from(last) - i128::from(first) + 1;
    if rows > 0 && width <= (rows * DENSE).max(ALWAYS_DENSE) && width < i128::from(NO_KEY) {
        return Ok(KeyMap::Dense { first, numbers: vec![NO_KEY; width as usize] });
    }
    Ok(KeyMap::Sparse(HashMap::new()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, StringArray, UInt64Array};

    use super::*;

    fn found(types: &[DataType], spine: Vec<ArrayRef>, facts: Vec<ArrayRef>) -> (Vec<u32>, Vec<u32>) {
        let (keys, numbers) = Keys::number(types, &[spine]).unwrap();
        (numbers, keys.find(&facts).unwrap())
    }

    #[test]
    fn composite_keys_are_never_concatenated() {
        let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let types = [DataType::Utf8, DataType::Utf8];
        let (_, facts) = found(&types, vec![text(&["a", "ab"]), text(&["bc", "c"])], vec![text(&["ab", "a"]), text(&["c", "c"])]);
        assert_eq!(facts, [1, NO_KEY]);
    }

    #[test]
    fn integers_are_compared_by_value_whatever_their_width_and_range() {
        for spread in [1, 1 << 40] {
            let spine: ArrayRef = Arc::new(Int64Array::from(vec![Some(-spread), None, Some(7), Some(-spread)]));
            let facts: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), Some(-1), None, Some(8)]));
            let (numbers, facts) = found(&[DataType::Int64], vec![spine], vec![facts]);
            assert_eq!(numbers, [0, NO_KEY, 1, 0]);
            assert_eq!(facts, [1, if spread == 1 { 0 } else { NO_KEY }, NO_KEY, NO_KEY]);
        }
        // Beyond the signed range an unsigned key equals none.
        let spine: ArrayRef = Arc::new(Int64Array::from(vec![-1]));
        let facts: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        assert_eq!(found(&[DataType::Int64], vec![spine], vec![facts]).1, [NO_KEY]);
    }

    #[test]
    fn keys_are_numbered_as_they_come_whatever_their_range() {
        let batches: [&[Option<i64>]; 4] =
            [&[Some(5), None, Some(7), Some(5)], &[Some(-3), Some(7)], &[], &[Some(i64::MAX), Some(5), Some(i64::MIN)]];
        for data_type in [DataType::Int64, DataType::Utf8] {
            let keys = GrowingKeys::new(std::slice::from_ref(&data_type)).unwrap();
            let column =
                |values: &[Option<i64>]| cast(&(Arc::new(Int64Array::from(values.to_vec())) as ArrayRef), &data_type).unwrap();
            let numbers: Vec<Vec<u32>> = batches.iter().map(|values| keys.number(&[column(values)]).unwrap()).collect();
            assert_eq!(numbers, [vec![0, NO_KEY, 1, 0], vec![2, 1], vec![], vec![3, 0, 4]], "{data_type}");
            let keys = keys.into_keys();
            let wanted = column(&[Some(5), Some(7), Some(-3), Some(i64::MAX), Some(i64::MIN)]);
            assert_eq!(&keys.columns().unwrap()[0], &wanted);
            assert_eq!(keys.find(&[wanted]).unwrap(), [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn composite_keys_come_back_as_they_were() {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec![Some("a"), Some("a"), None])), Arc::new(Int64Array::from(vec![1, 2, 3]))];
        let keys = GrowingKeys::new(&[DataType::Utf8, DataType::Int64]).unwrap();
        assert_eq!(keys.number(&columns).unwrap(), [0, 1, NO_KEY]);
        let whole: Vec<ArrayRef> = columns.iter().map(|column| column.slice(0, 2)).collect();
        assert_eq!(keys.into_keys().columns().unwrap(), whole);
    }

    #[test]
    fn types_that_cannot_be_compared_say_so() {
        assert!(comparable(&DataType::Int64, &DataType::Utf8).unwrap_err().contains("cannot be compared"));
        assert!(comparable(&DataType::Float64, &DataType::Int64).is_err());
        assert_eq!(comparable(&DataType::Int8, &DataType::UInt64), Ok(DataType::Int64));
        assert_eq!(comparable(&DataType::Utf8View, &DataType::LargeUtf8), Ok(DataType::Utf8));
    }
}
