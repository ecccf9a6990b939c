//! The results of a window question, slot by slot, while they are made, and as Arrow arrays row by row when they are.
//! It computes nothing.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, ListArray, UInt32Array},
    buffer::{NullBuffer, OffsetBuffer},
    compute::take,
    datatypes::{DataType, Decimal256Type, DecimalType, i256},
    error::ArrowError,
};

use super::{
    aggregate::AggregateKind,
    integer::Integer,
    sort_keys::{Encoding, ValueDictionary, decimals, values},
    window::{is_list, item_of},
};
use crate::error::{Error, Result};

/// Bytes of the texts of one array of results, and values of its lists, at most. More are asked for in several pieces.
const AT_ONCE: usize = 1 << 28;

/// One output of a question.
pub(super) struct Output {
    pub(super) kind: AggregateKind,
    pub(super) span: usize,
    pub(super) gather: usize,
    pub(super) input: Option<usize>,
    /// The digits behind the point of the input, if it is a decimal.
    pub(super) scale: i8,
    pub(super) data_type: DataType,
    /// The column of the facts, for messages.
    pub(super) of: String,
}

/// Results by slot, while they are made.
pub(super) enum Column {
    Counts(Vec<i64>),
    Numbers(Nullable<f64>),
    Decimals(Decimals),
    Values(Nullable<u64>),
    Lists { ends: Vec<usize>, valid: Vec<bool>, items: Vec<u64> },
}

/// Values side by side, zero where there is none: half of what optional values take.
pub(super) struct Nullable<T> {
    values: Vec<T>,
    valid: Vec<bool>,
}

impl<T: Default> Nullable<T> {
    fn with_capacity(count: usize) -> Self {
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

/// Sums of decimals, in their units.
pub(super) struct Decimals {
    sums: Nullable<i256>,
    precision: u8,
    /// Has a sum more digits than the type of the result?
    overflows: bool,
}

impl Decimals {
    pub(super) fn push(&mut self, sum: Option<Integer<5>>) {
        let fits = |sum: &i256| Decimal256Type::is_valid_decimal_precision(*sum, self.precision);
        let value = sum.and_then(Integer::to_i256).filter(fits);
        self.overflows |= sum.is_some() && value.is_none();
        self.sums.push(value);
    }
}

impl Column {
    pub(super) fn new(output: &Output, slots: usize) -> Self {
        match (output.kind, &output.data_type) {
            (AggregateKind::Count | AggregateKind::CountDistinct, _) => Column::Counts(Vec::with_capacity(slots)),
            (
                AggregateKind::Sum,
                DataType::Decimal32(precision, _)
                | DataType::Decimal64(precision, _)
                | DataType::Decimal128(precision, _)
                | DataType::Decimal256(precision, _),
            ) => Column::Decimals(Decimals { sums: Nullable::with_capacity(slots), precision: *precision, overflows: false }),
            (
                AggregateKind::Sum
                | AggregateKind::Mean
                | AggregateKind::Variance
                | AggregateKind::Stddev
                | AggregateKind::Quantile(_),
                _,
            ) => Column::Numbers(Nullable::with_capacity(slots)),
            (kind, _) if is_list(kind) => Column::Lists { ends: Vec::new(), valid: Vec::new(), items: Vec::new() },
            _ => Column::Values(Nullable::with_capacity(slots)),
        }
    }

    /// Bytes that a slot takes, without what its list holds.
    pub(super) fn bytes_per_slot(output: &Output) -> usize {
        match Column::new(output, 0) {
            Column::Counts(_) => 8,
            Column::Numbers(_) | Column::Values(_) | Column::Lists { .. } => 9,
            Column::Decimals(_) => 33,
        }
    }

    /// Bytes that the items of lists take.
    pub(super) fn item_bytes(&self) -> usize {
        if let Column::Lists { items, .. } = self { items.len() * 8 } else { 0 }
    }

    pub(super) fn append(&mut self, part: Column) {
        match (self, part) {
            (Column::Counts(all), Column::Counts(part)) => all.extend(part),
            (Column::Numbers(all), Column::Numbers(part)) => all.append(part),
            (Column::Decimals(all), Column::Decimals(part)) => {
                all.sums.append(part.sums);
                all.overflows |= part.overflows;
            }
            (Column::Values(all), Column::Values(part)) => all.append(part),
            (Column::Lists { ends, valid, items }, Column::Lists { ends: e, valid: v, items: i }) => {
                let first = items.len();
                ends.extend(e.into_iter().map(|end| end + first));
                valid.extend(v);
                items.extend(i);
            }
            _ => {}
        }
    }

    /// What a slot gets that sees no fact.
    pub(super) fn push_nothing(&mut self) {
        match self {
            Column::Counts(counts) => counts.push(0),
            Column::Numbers(numbers) => numbers.push(None),
            Column::Decimals(sums) => sums.push(None),
            Column::Values(values) => values.push(None),
            Column::Lists { ends, valid, items } => {
                ends.push(items.len());
                valid.push(false);
            }
        }
    }

    /// The results, ready to be read by slot; `lane` and `texts` are those of the input, and `place` is the table's.
    pub(super) fn into_answer(self, place: &str, output: &Output, lane: Encoding, texts: Arc<ValueDictionary>) -> Result<Answer> {
        let data_type = &output.data_type;
        let whole: ArrayRef = match self {
            Column::Counts(counts) => Arc::new(Int64Array::from(counts)),
            Column::Numbers(numbers) => Arc::new(Float64Array::new(numbers.values.into(), Some(numbers.valid.into()))),
            Column::Decimals(found) if found.overflows => {
                let result = data_type.to_string();
                return Err(Error::Overflow { subject: place.into(), column: output.of.clone(), result });
            }
            Column::Decimals(found) => decimals(data_type, found.sums.values.into_iter(), Some(found.sums.valid.into()))?,
            // Texts in one piece could be longer than their offsets can say.
            Column::Values(found) if lane == Encoding::Dictionary => {
                return Ok(Answer::ValueDictionary { data_type: data_type.clone(), found, texts, at_once: AT_ONCE });
            }
            Column::Values(found) => values(lane, data_type, &found.values, Some(found.valid.into()), &texts, AT_ONCE)?,
            Column::Lists { ends, valid, items } => {
                let data_type = data_type.clone();
                return Ok(Answer::Lists { data_type, ends, valid, items, lane, texts, at_once: AT_ONCE });
            }
        };
        Ok(Answer::Whole(whole))
    }
}

/// The results of one output, by slot.
pub(super) enum Answer {
    Whole(ArrayRef),
    ValueDictionary {
        data_type: DataType,
        found: Nullable<u64>,
        texts: Arc<ValueDictionary>,
        at_once: usize,
    },
    Lists {
        data_type: DataType,
        ends: Vec<usize>,
        valid: Vec<bool>,
        items: Vec<u64>,
        lane: Encoding,
        texts: Arc<ValueDictionary>,
        at_once: usize,
    },
}

impl Answer {
    /// The results of these slots.
    ///
    /// # Errors
    /// [`ArrowError::OffsetOverflowError`] when they are too many for one array; fewer may not be.
    pub(super) fn read(&self, slots: &UInt32Array) -> Result<ArrayRef> {
        match self {
            Answer::Whole(values) => Ok(take(values, slots, None)?),
            Answer::ValueDictionary { data_type, found, texts, at_once } => {
                let patterns: Vec<u64> = slots.values().iter().map(|&slot| found.values[slot as usize]).collect();
                let valid: Vec<bool> = slots.values().iter().map(|&slot| found.valid[slot as usize]).collect();
                values(Encoding::Dictionary, data_type, &patterns, Some(valid.into()), texts, *at_once)
            }
            Answer::Lists { data_type, ends, valid, items, lane, texts, at_once } => {
                let list = |slot: usize| slot.checked_sub(1).map_or(0, |before| ends[before])..ends[slot];
                let count: usize = slots.values().iter().map(|&slot| list(slot as usize).len()).sum();
                if count > *at_once {
                    return Err(ArrowError::OffsetOverflowError(count).into());
                }
                let mut patterns = Vec::with_capacity(count);
                let mut offsets = Vec::with_capacity(slots.len() + 1);
                offsets.push(0i32);
                for &slot in slots.values() {
                    patterns.extend_from_slice(&items[list(slot as usize)]);
                    offsets.push(patterns.len() as i32);
                }
                let valid: NullBuffer = slots.values().iter().map(|&slot| valid[slot as usize]).collect();
                let item = item_of(data_type);
                let items = values(*lane, item.data_type(), &patterns, None, texts, *at_once)?;
                Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::new(offsets.into()), items, Some(valid))?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, StringArray};

    use super::{super::sort_keys::read, *};

    #[test]
    fn what_is_too_much_for_one_array_is_refused_and_read_in_pieces() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["abc", "de", "f"]));
        let mut texts = ValueDictionary::default();
        read(Encoding::Dictionary, &column, &mut texts).unwrap();
        let texts = Arc::new(texts);
        let found = Nullable { values: vec![0, 1, 2], valid: vec![true, true, true] };
        let answer = Answer::ValueDictionary { data_type: DataType::Utf8, found, texts: texts.clone(), at_once: 5 };
        let whole = answer.read(&UInt32Array::from(vec![0, 1, 2]));
        assert!(matches!(whole, Err(Error::Query(_))));
        assert_eq!(answer.read(&UInt32Array::from(vec![0, 1])).unwrap().as_string::<i32>().value(1), "de");
        let data_type = DataType::List(item_of(&DataType::Utf8));
        let (ends, valid) = (vec![2, 2, 3], vec![true, false, true]);
        let answer =
            Answer::Lists { data_type, ends, valid, items: vec![0, 1, 2], lane: Encoding::Dictionary, texts, at_once: 5 };
        assert!(answer.read(&UInt32Array::from(vec![0, 1, 2])).is_err());
        let half = answer.read(&UInt32Array::from(vec![1, 2])).unwrap();
        assert_eq!((half.is_null(0), half.as_list::<i32>().value(1).as_string::<i32>().value(0)), (true, "f"));
    }
}
