//! Entity keys as dense numbers: each distinct key of a spine gets one, and a fact with another key gets none.
//! Keys are compared column by column, never as one text; a NULL in any column matches nothing.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray},
    buffer::NullBuffer,
    compute::cast,
    datatypes::{DataType, Int64Type},
    row::{RowConverter, SortField},
};
use datafusion::common::HashMap;

use crate::error::{Error, Result};

/// The number of a row whose key is NULL or not in the spine.
pub(crate) const NO_KEY: u32 = u32::MAX;

/// Integer keys whose range is at most this much wider than their count are looked up in an array.
const DENSE: i128 = 8;
const ALWAYS_DENSE: i128 = 1 << 16;

/// The type in which a key column of the spine and one of the facts are compared.
///
/// Integers of any width are compared by value, texts and bytes by their bytes; other types only with themselves.
///
/// # Errors
/// What is wrong, without the place: the caller knows it.
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
    form: Form,
    count: u32,
}

enum Form {
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
    /// Numbers the keys of a spine: batches of key columns, in any number. Yields the number of each row.
    ///
    /// # Errors
    /// [`Error::Definition`] for more than `u32::MAX - 1` rows.
    pub(crate) fn number(types: &[DataType], batches: &[Vec<ArrayRef>]) -> Result<(Self, Vec<u32>)> {
        let rows: usize = batches.iter().map(|columns| columns.first().map_or(0, |c| c.len())).sum();
        if rows >= NO_KEY as usize {
            let reason = format!("it has {rows} rows, and one question takes at most {}; ask it in parts", NO_KEY - 1);
            return Err(Error::Definition { subject: "the spine".into(), reason });
        }
        let mut keys = Self { types: types.to_vec(), form: Form::Sparse(HashMap::new()), count: 0 };
        let mut numbers = Vec::with_capacity(rows);
        match types {
            [only] if is_integral(only) => {
                // Batch by batch, twice: all at once would hold a copy of the column.
                let integers = |columns: &Vec<ArrayRef>| Integers::of(&cast(&columns[0], only)?);
                keys.form = integral_form(batches.iter().map(integers))?;
                for columns in batches {
                    keys.number_integers(&integers(columns)?, &mut numbers);
                }
            }
            [only] if is_bytes(only) => {
                keys.form = Form::Text(HashMap::new());
                for columns in batches {
                    keys.number_bytes(&columns[0], None, &mut numbers)?;
                }
            }
            _ => {
                let converter = RowConverter::new(types.iter().map(|t| SortField::new(t.clone())).collect())?;
                keys.form = Form::Rows(converter, HashMap::new());
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
            Form::Dense { numbers, .. } => numbers.len() * 4,
            Form::Sparse(map) => map.capacity() * 17,
            Form::Text(map) | Form::Rows(_, map) => map.iter().map(|(key, _)| key.len() + 40).sum(),
        }
    }

    fn cast(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        columns.iter().zip(&self.types).map(|(column, data_type)| Ok(cast(column, data_type)?)).collect()
    }

    fn number_integers(&mut self, column: &Integers, numbers: &mut Vec<u32>) {
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
                Form::Dense { first, numbers } => {
                    let place = &mut numbers[value.wrapping_sub(*first) as usize];
                    if *place == NO_KEY {
                        *place = fresh();
                    }
                    *place
                }
                Form::Sparse(map) => *map.entry(value).or_insert_with(&mut fresh),
                Form::Text(_) | Form::Rows(..) => NO_KEY,
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
            (Form::Text(map), _) => {
                let bytes = cast(first, &DataType::Binary)?;
                numbers.extend(bytes.as_binary::<i32>().iter().map(|key| key.map_or(NO_KEY, |key| number(map, key))));
            }
            (Form::Rows(converter, map), Some(columns)) => {
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
            Form::Dense { first, numbers } => {
                let column = Integers::of(&cast(&columns[0], &self.types[0])?)?;
                let find = |value: i64| {
                    let at = value.wrapping_sub(*first) as u64;
                    usize::try_from(at).ok().and_then(|at| numbers.get(at)).copied().unwrap_or(NO_KEY)
                };
                Ok(column.map(find))
            }
            Form::Sparse(map) => {
                let column = Integers::of(&cast(&columns[0], &self.types[0])?)?;
                Ok(column.map(|value| map.get(&value).copied().unwrap_or(NO_KEY)))
            }
            Form::Text(map) => {
                let bytes = cast(&columns[0], &DataType::Binary)?;
                let find = |key: Option<&[u8]>| key.and_then(|key| map.get(key).copied()).unwrap_or(NO_KEY);
                Ok(bytes.as_binary::<i32>().iter().map(find).collect())
            }
            Form::Rows(converter, map) => {
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
struct Integers {
    values: arrow::buffer::ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
}

impl Integers {
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
            DataType::Date32 => return Self::of(&cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?),
            DataType::Dictionary(..) => return Self::of(&cast(array, &DataType::Int64)?),
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
fn integral_form(columns: impl Iterator<Item = Result<Integers>>) -> Result<Form> {
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
        return Ok(Form::Dense { first, numbers: vec![NO_KEY; width as usize] });
    }
    Ok(Form::Sparse(HashMap::new()))
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
    fn types_that_cannot_be_compared_say_so() {
        assert!(comparable(&DataType::Int64, &DataType::Utf8).unwrap_err().contains("cannot be compared"));
        assert!(comparable(&DataType::Float64, &DataType::Int64).is_err());
        assert_eq!(comparable(&DataType::Int8, &DataType::UInt64), Ok(DataType::Int64));
        assert_eq!(comparable(&DataType::Utf8View, &DataType::LargeUtf8), Ok(DataType::Utf8));
    }
}
