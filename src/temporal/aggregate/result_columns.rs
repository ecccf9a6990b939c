//! The results of windows: slot by slot while they are made, and then as Arrow arrays row by row.
//! It computes nothing.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, ListArray, UInt32Array},
    buffer::{NullBuffer, OffsetBuffer},
    compute::take,
    datatypes::{DataType, Decimal256Type, DecimalType, Field, i256},
    error::ArrowError,
};

use crate::{
    error::{Error, Result},
    numeric::Integer,
    temporal::sort_keys::{Encoding, ValueDictionary, decimal_array, decode},
};

/// The most bytes of texts, and the most list items, that one array of results holds. Larger arrays are refused, and the caller
/// asks for fewer rows.
const MAX_ARRAY_LEN: usize = 1 << 28;

/// The results of one output by slot, while they are made.
pub(in crate::temporal) enum ResultColumn {
    Counts(Vec<i64>),
    Floats(Nullable<f64>),
    Decimals(Decimals),
    /// Values of the input's type, as sort keys.
    Keys(Nullable<u64>),
    Lists(Lists),
}

/// Values side by side, with zero for NULL. Optional values would take twice the memory.
pub(in crate::temporal) struct Nullable<T> {
    values: Vec<T>,
    valid: Vec<bool>,
}

impl<T: Default> Nullable<T> {
    /// No value yet, and room for so many.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { values: Vec::with_capacity(count), valid: Vec::with_capacity(count) }
    }

    pub(super) fn push(&mut self, value: Option<T>) {
        self.valid.push(value.is_some());
        self.values.push(value.unwrap_or_default());
    }

    fn append(&mut self, part: Self) {
        self.values.extend(part.values);
        self.valid.extend(part.valid);
    }
}

/// Sums of decimals, in units of their last digit.
pub(in crate::temporal) struct Decimals {
    sums: Nullable<i256>,
    precision: u8,
    /// Has a sum more digits than the result type?
    overflows: bool,
}

impl Decimals {
    /// No sum yet of this result type, and room for so many.
    pub(super) fn new(result_type: &DataType, count: usize) -> Self {
        let precision = match result_type {
            DataType::Decimal32(precision, _)
            | DataType::Decimal64(precision, _)
            | DataType::Decimal128(precision, _)
            | DataType::Decimal256(precision, _) => *precision,
            _ => Decimal256Type::MAX_PRECISION,
        };
        Self { sums: Nullable::with_capacity(count), precision, overflows: false }
    }

    pub(super) fn push(&mut self, sum: Option<Integer<5>>) {
        let fits = |sum: &i256| Decimal256Type::is_valid_decimal_precision(*sum, self.precision);
        let value = sum.and_then(Integer::to_i256).filter(fits);
        self.overflows |= sum.is_some() && value.is_none();
        self.sums.push(value);
    }
}

/// Lists of sort keys. An empty list is NULL.
#[derive(Default)]
pub(in crate::temporal) struct Lists {
    ends: Vec<usize>,
    valid: Vec<bool>,
    items: Vec<u64>,
}

impl Lists {
    /// Adds a list of these items.
    pub(super) fn push(&mut self, items: impl Iterator<Item = u64>) {
        let first = self.items.len();
        self.items.extend(items);
        self.close(first);
    }

    /// Adds a list of these items, the last of them first.
    pub(super) fn push_reversed(&mut self, items: impl Iterator<Item = u64>) {
        let first = self.items.len();
        self.items.extend(items);
        self.items[first..].reverse();
        self.close(first);
    }

    /// Ends the list that begins with this item.
    fn close(&mut self, first: usize) {
        self.ends.push(self.items.len());
        self.valid.push(self.items.len() > first);
    }
}

impl ResultColumn {
    /// Bytes of a slot, without the items of its list.
    pub(in crate::temporal) fn bytes_per_slot(&self) -> usize {
        match self {
            ResultColumn::Counts(_) => 8,
            ResultColumn::Floats(_) | ResultColumn::Keys(_) | ResultColumn::Lists(_) => 9,
            ResultColumn::Decimals(_) => 33,
        }
    }

    /// Bytes of the items of all lists.
    pub(in crate::temporal) fn item_bytes(&self) -> usize {
        match self {
            ResultColumn::Lists(lists) => lists.items.len() * 8,
            ResultColumn::Counts(_) | ResultColumn::Floats(_) | ResultColumn::Keys(_) | ResultColumn::Decimals(_) => 0,
        }
    }

    /// Appends results of the same output.
    ///
    /// # Errors
    /// [`Error::Internal`] for results of another kind.
    pub(in crate::temporal) fn append(&mut self, part: ResultColumn) -> Result<()> {
        match (self, part) {
            (ResultColumn::Counts(all), ResultColumn::Counts(part)) => all.extend(part),
            (ResultColumn::Floats(all), ResultColumn::Floats(part)) => all.append(part),
            (ResultColumn::Decimals(all), ResultColumn::Decimals(part)) => {
                all.sums.append(part.sums);
                all.overflows |= part.overflows;
            }
            (ResultColumn::Keys(all), ResultColumn::Keys(part)) => all.append(part),
            (ResultColumn::Lists(all), ResultColumn::Lists(part)) => {
                let first = all.items.len();
                all.ends.extend(part.ends.into_iter().map(|end| end + first));
                all.valid.extend(part.valid);
                all.items.extend(part.items);
            }
            _ => {
                let reason = "an aggregate has results of two kinds".into();
                return Err(Error::Internal { subject: "a window".into(), reason });
            }
        }
        Ok(())
    }

    /// Appends the result of a slot that sees no fact: a count of 0, and NULL for everything else.
    pub(in crate::temporal) fn push_empty(&mut self) {
        match self {
            ResultColumn::Counts(counts) => counts.push(0),
            ResultColumn::Floats(floats) => floats.push(None),
            ResultColumn::Decimals(sums) => sums.push(None),
            ResultColumn::Keys(keys) => keys.push(None),
            ResultColumn::Lists(lists) => lists.push(std::iter::empty()),
        }
    }

    /// The results, ready to be read by slot. `encoding` and `dictionary` are those of the input.
    ///
    /// # Errors
    /// What `overflow` says if a sum of decimals has more digits than the result type.
    pub(in crate::temporal) fn into_slot_column(
        self,
        data_type: &DataType,
        encoding: Encoding,
        dictionary: Arc<ValueDictionary>,
        overflow: impl FnOnce() -> Error,
    ) -> Result<SlotColumn> {
        let array: ArrayRef = match self {
            ResultColumn::Counts(counts) => Arc::new(Int64Array::from(counts)),
            ResultColumn::Floats(floats) => Arc::new(Float64Array::new(floats.values.into(), Some(floats.valid.into()))),
            ResultColumn::Decimals(found) if found.overflows => return Err(overflow()),
            ResultColumn::Decimals(found) => {
                decimal_array(data_type, found.sums.values.into_iter(), Some(found.sums.valid.into()))?
            }
            // All texts in one array could be longer than its offsets allow.
            ResultColumn::Keys(keys) if encoding == Encoding::Dictionary => {
                return Ok(SlotColumn::Dictionary { data_type: data_type.clone(), keys, dictionary, max_len: MAX_ARRAY_LEN });
            }
            ResultColumn::Keys(keys) => {
                decode(encoding, data_type, &keys.values, Some(keys.valid.into()), &dictionary, MAX_ARRAY_LEN)?
            }
            ResultColumn::Lists(lists) => {
                let data_type = data_type.clone();
                return Ok(SlotColumn::Lists { data_type, lists, encoding, dictionary, max_len: MAX_ARRAY_LEN });
            }
        };
        Ok(SlotColumn::Array(array))
    }
}

/// The results of one output, by slot.
pub(in crate::temporal) enum SlotColumn {
    Array(ArrayRef),
    Dictionary { data_type: DataType, keys: Nullable<u64>, dictionary: Arc<ValueDictionary>, max_len: usize },
    Lists { data_type: DataType, lists: Lists, encoding: Encoding, dictionary: Arc<ValueDictionary>, max_len: usize },
}

impl SlotColumn {
    /// The results of these slots.
    ///
    /// # Errors
    /// [`ArrowError::OffsetOverflowError`] if they are too long for one array; fewer may fit.
    pub(in crate::temporal) fn read(&self, slots: &UInt32Array) -> Result<ArrayRef> {
        match self {
            SlotColumn::Array(values) => Ok(take(values, slots, None)?),
            SlotColumn::Dictionary { data_type, keys, dictionary, max_len } => {
                let values: Vec<u64> = slots.values().iter().map(|&slot| keys.values[slot as usize]).collect();
                let valid: Vec<bool> = slots.values().iter().map(|&slot| keys.valid[slot as usize]).collect();
                decode(Encoding::Dictionary, data_type, &values, Some(valid.into()), dictionary, *max_len)
            }
            SlotColumn::Lists { data_type, lists: Lists { ends, valid, items }, encoding, dictionary, max_len } => {
                let list = |slot: usize| slot.checked_sub(1).map_or(0, |before| ends[before])..ends[slot];
                let count: usize = slots.values().iter().map(|&slot| list(slot as usize).len()).sum();
                if count > *max_len {
                    return Err(ArrowError::OffsetOverflowError(count).into());
                }
                let mut keys = Vec::with_capacity(count);
                let mut offsets = Vec::with_capacity(slots.len() + 1);
                offsets.push(0i32);
                for &slot in slots.values() {
                    keys.extend_from_slice(&items[list(slot as usize)]);
                    offsets.push(keys.len() as i32);
                }
                let valid: NullBuffer = slots.values().iter().map(|&slot| valid[slot as usize]).collect();
                let item = item_field(data_type);
                let items = decode(*encoding, item.data_type(), &keys, None, dictionary, *max_len)?;
                Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::new(offsets.into()), items, Some(valid))?))
            }
        }
    }
}

/// The field of a list's items.
fn item_field(data_type: &DataType) -> Arc<Field> {
    match data_type {
        DataType::List(item) => item.clone(),
        other => Field::new_list_field(other.clone(), true).into(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, StringArray};

    use super::*;
    use crate::temporal::sort_keys::encode;

    #[test]
    fn results_that_are_too_long_for_one_array_are_refused_and_read_in_pieces() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["abc", "de", "f"]));
        let mut dictionary = ValueDictionary::default();
        encode(Encoding::Dictionary, &column, &mut dictionary).unwrap();
        let dictionary = Arc::new(dictionary);
        let keys = Nullable { values: vec![0, 1, 2], valid: vec![true, true, true] };
        let texts = SlotColumn::Dictionary { data_type: DataType::Utf8, keys, dictionary: dictionary.clone(), max_len: 5 };
        let all = texts.read(&UInt32Array::from(vec![0, 1, 2]));
        assert!(matches!(all, Err(Error::Query(_))));
        assert_eq!(texts.read(&UInt32Array::from(vec![0, 1])).unwrap().as_string::<i32>().value(1), "de");
        let data_type = DataType::List(item_field(&DataType::Utf8));
        let lists = Lists { ends: vec![2, 2, 3], valid: vec![true, false, true], items: vec![0, 1, 2] };
        let lists = SlotColumn::Lists { data_type, lists, encoding: Encoding::Dictionary, dictionary, max_len: 5 };
        assert!(lists.read(&UInt32Array::from(vec![0, 1, 2])).is_err());
        let half = lists.read(&UInt32Array::from(vec![1, 2])).unwrap();
        assert_eq!((half.is_null(0), half.as_list::<i32>().value(1).as_string::<i32>().value(0)), (true, "f"));
    }
}
