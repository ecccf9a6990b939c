//! Facts that win a slot, or won one: their times and values, numbered as they come.
//! Which of them win is the business of `lookup`; here they are kept, compared and gathered.

use std::{
    cmp::Ordering,
    collections::{HashMap, hash_map::Entry},
};

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, DynComparator, PrimitiveArray, UInt32Array, make_comparator, new_null_array,
    },
    compute::{SortOptions, concat, interleave, take},
    datatypes::{DataType, Float16Type, Float32Type, Float64Type},
};

use super::fact_input::is_too_long;
use crate::error::{Error, Result};

/// Facts in a batch made by gathering, at most.
const GATHERED_ROWS: usize = 1 << 20;
/// So many columns are put into one array each, at most. It makes reading them faster, while the memory of the pieces comes
/// free in pieces that are too small for the next column: many columns would be held twice.
const JOINED_COLUMNS: usize = 16;
/// Comparators of pairs of batches that are remembered.
const COMPARATORS: usize = 4_096;

/// Some facts: times side by side, and the columns that are kept of them.
pub(super) struct CandidateBatch {
    /// Event times in ticks, where a max age asks for them.
    pub(super) event: Vec<i64>,
    /// What orders facts by event time, and by known-at where there is one.
    pub(super) order: Vec<i64>,
    pub(super) known: Vec<i64>,
    pub(super) columns: Vec<ArrayRef>,
}

impl CandidateBatch {
    pub(super) fn bytes(&self) -> usize {
        (self.event.len() + self.order.len() + self.known.len()) * 8
            + self.columns.iter().map(|c| c.get_array_memory_size()).sum::<usize>()
    }
}

/// Facts on their way into one batch, and the columns that were gathered of them.
struct Piece<'a> {
    facts: &'a [u32],
    /// The batch and the row of each.
    places: Vec<(usize, usize)>,
    columns: Vec<Option<ArrayRef>>,
}

impl Piece<'_> {
    fn halves(&self) -> [Self; 2] {
        let middle = self.facts.len() / 2;
        [0..middle, middle..self.facts.len()].map(|half| Piece {
            facts: &self.facts[half.clone()],
            places: self.places[half.clone()].to_vec(),
            columns: self.columns.iter().map(|column| Some(column.as_ref()?.slice(half.start, half.len()))).collect(),
        })
    }
}

/// All kept facts.
#[derive(Default)]
pub(super) struct Candidates {
    event: Vec<i64>,
    order: Vec<i64>,
    known: Vec<i64>,
    batches: Vec<Vec<ArrayRef>>,
    /// The number of the first fact of each batch.
    starts: Vec<u32>,
    pub(super) bytes: usize,
}

impl Candidates {
    /// How many facts are kept.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Keeps these too; yields the number of the first.
    pub(super) fn push(&mut self, facts: CandidateBatch) -> u32 {
        let first = self.order.len() as u32;
        self.bytes += facts.bytes();
        self.event.extend(facts.event);
        self.order.extend(facts.order);
        self.known.extend(facts.known);
        self.batches.push(facts.columns);
        self.starts.push(first);
        first
    }

    /// A fact's event time in ticks.
    pub(super) fn event(&self, fact: u32) -> i64 {
        self.event[fact as usize]
    }

    /// What orders a fact by its event time.
    pub(super) fn order(&self, fact: u32) -> i64 {
        self.order[fact as usize]
    }

    /// What orders a fact by its known-at, where there is one.
    pub(super) fn known(&self, fact: u32) -> Option<i64> {
        self.known.get(fact as usize).copied()
    }

    /// Keeps the facts of another, of whose columns these are taken; yields the number of the first.
    pub(super) fn append(&mut self, other: Candidates, columns: &[usize]) -> u32 {
        let first = self.order.len() as u32;
        self.bytes += other.bytes;
        self.event.extend(other.event);
        self.order.extend(other.order);
        self.known.extend(other.known);
        for (batch, start) in other.batches.into_iter().zip(other.starts) {
            self.batches.push(columns.iter().map(|&column| batch[column].clone()).collect());
            self.starts.push(first + start);
        }
        first
    }

    fn place(&self, fact: u32) -> (usize, usize) {
        let batch = self.starts.partition_point(|&start| start <= fact) - 1;
        (batch, (fact - self.starts[batch]) as usize)
    }

    /// Bytes of the column that takes most, about: what gathering holds beside the facts.
    pub(super) fn column_bytes(&self) -> usize {
        let bytes = |column: usize| self.batches.iter().map(|batch| batch[column].get_array_memory_size()).sum();
        (0..self.batches.first().map_or(0, Vec::len)).map(bytes).max().unwrap_or(0)
    }

    /// These facts alone, in this order. Column by column: no more than one of them is held twice.
    pub(super) fn gathered<'a>(mut self, facts: &'a [u32]) -> Result<Self> {
        let width = self.batches.first().map_or(0, Vec::len);
        let piece = |facts: &'a [u32]| Piece {
            facts,
            places: facts.iter().map(|&fact| self.place(fact)).collect(),
            columns: vec![None; width],
        };
        let mut pieces: Vec<Piece> = facts.chunks(GATHERED_ROWS).map(piece).collect();
        // Where texts are too long for one array, the pieces become smaller for all columns: those come first.
        let is_fixed = |column: &usize| self.batches[0][*column].data_type().primitive_width().is_some();
        let (fixed, others): (Vec<usize>, Vec<usize>) = (0..width).partition(is_fixed);
        for column in others.into_iter().chain(fixed) {
            let parts: Vec<ArrayRef> = self
                .batches
                .iter_mut()
                .map(|batch| std::mem::replace(&mut batch[column], new_null_array(&DataType::Null, 0)))
                .collect();
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            let mut left: Vec<Piece> = std::mem::take(&mut pieces).into_iter().rev().collect();
            while let Some(mut piece) = left.pop() {
                match interleave(&parts, &piece.places).map_err(Error::from) {
                    Ok(values) => {
                        piece.columns[column] = Some(values);
                        pieces.push(piece);
                    }
                    Err(error) if piece.facts.len() > 1 && is_too_long(&error) => {
                        let [first, second] = piece.halves();
                        left.extend([second, first]);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let mut gathered = Self::default();
        for Piece { facts, columns, .. } in pieces {
            let pick = |times: &[i64]| -> Vec<i64> {
                if times.is_empty() { Vec::new() } else { facts.iter().map(|&fact| times[fact as usize]).collect() }
            };
            let columns = columns.into_iter().flatten().collect();
            gathered.push(CandidateBatch {
                event: pick(&self.event),
                order: pick(&self.order),
                known: pick(&self.known),
                columns,
            });
        }
        Ok(gathered)
    }

    /// The columns from `first` on, ready to be read by the numbers of facts; the types are those of all columns.
    pub(super) fn into_columns(mut self, first: usize, types: &[DataType]) -> Result<CandidateColumns> {
        self.order = Vec::new();
        let mut columns = Vec::new();
        let has_many = types.len() - first > JOINED_COLUMNS;
        for (c, data_type) in types.iter().enumerate().skip(first) {
            let parts: Vec<ArrayRef> = self
                .batches
                .iter_mut()
                .map(|batch| std::mem::replace(&mut batch[c], new_null_array(&DataType::Null, 0)))
                .collect();
            // Texts in one piece could be longer than their offsets can say.
            columns.push(match data_type.primitive_width() {
                Some(_) if !parts.is_empty() && !has_many => {
                    CandidateColumn::Whole(concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?)
                }
                _ => CandidateColumn::Pieces(std::iter::once(new_null_array(data_type, 1)).chain(parts).collect()),
            });
        }
        Ok(CandidateColumns { starts: self.starts, columns })
    }
}

/// The values of kept facts.
pub(super) struct CandidateColumns {
    starts: Vec<u32>,
    columns: Vec<CandidateColumn>,
}

enum CandidateColumn {
    /// All values in one array.
    Whole(ArrayRef),
    /// A NULL, then the values batch by batch.
    Pieces(Vec<ArrayRef>),
}

impl CandidateColumns {
    /// The values of these facts; NULL where there is none.
    pub(super) fn read(&self, facts: &UInt32Array) -> Result<Vec<ArrayRef>> {
        let mut places = Vec::new();
        let mut read = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            read.push(match column {
                CandidateColumn::Whole(values) => take(values, facts, None)?,
                CandidateColumn::Pieces(pieces) => {
                    if places.is_empty() {
                        places = facts.iter().map(|fact| self.place(fact)).collect();
                    }
                    interleave(&pieces.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>(), &places)?
                }
            });
        }
        Ok(read)
    }

    fn place(&self, fact: Option<u32>) -> (usize, usize) {
        let Some(fact) = fact else { return (0, 0) };
        let batch = self.starts.partition_point(|&start| start <= fact);
        (batch, (fact - self.starts[batch - 1]) as usize)
    }
}

/// Which of two kept facts is the newer one; remembers how to compare the values of two batches.
#[derive(Default)]
pub(super) struct RecencyOrder {
    comparators: HashMap<(usize, usize), Vec<DynComparator>>,
}

impl RecencyOrder {
    /// By event time, known-at, and then the columns; says also whether it is left open which of two different facts is newer.
    pub(super) fn compare(
        &mut self,
        candidates: &Candidates,
        tie_columns: &TieColumns,
        a: u32,
        b: u32,
    ) -> Result<(Ordering, bool)> {
        let by_order = candidates.order(a).cmp(&candidates.order(b));
        let by_times = by_order.then_with(|| candidates.known.get(a as usize).cmp(&candidates.known.get(b as usize)));
        if by_times.is_ne() {
            return Ok((by_times, false));
        }
        if self.comparators.len() > COMPARATORS {
            self.comparators.clear();
        }
        let ((batch_a, row_a), (batch_b, row_b)) = (candidates.place(a), candidates.place(b));
        let comparators = match self.comparators.entry((batch_a, batch_b)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(comparators(&candidates.batches[batch_a], &candidates.batches[batch_b])?),
        };
        Ok(tie_columns.compare(comparators, row_a, row_b))
    }
}

/// Larger is newer; NULL is the smallest value, and of floats NaN is the largest, whatever its sign.
pub(super) fn comparators(left: &[ArrayRef], right: &[ArrayRef]) -> Result<Vec<DynComparator>> {
    let options = SortOptions { descending: false, nulls_first: true };
    let comparator = |(a, b): (&ArrayRef, &ArrayRef)| {
        Ok(match a.data_type() {
            DataType::Float16 => floats::<Float16Type>(a, b, |x| (x.is_nan(), x), |x, y| x.total_cmp(y)),
            DataType::Float32 => floats::<Float32Type>(a, b, |x| (x.is_nan(), x), f32::total_cmp),
            DataType::Float64 => floats::<Float64Type>(a, b, |x| (x.is_nan(), x), f64::total_cmp),
            _ => make_comparator(a, b, options)?,
        })
    };
    left.iter().zip(right).map(comparator).collect()
}

/// Compares floats by whether they are NaN, and then in their total order.
fn floats<T: ArrowPrimitiveType>(
    left: &ArrayRef,
    right: &ArrayRef,
    told: fn(T::Native) -> (bool, T::Native),
    order: fn(&T::Native, &T::Native) -> Ordering,
) -> DynComparator {
    let (left, right) = (left.as_primitive::<T>().clone(), right.as_primitive::<T>().clone());
    Box::new(move |a, b| {
        let value = |array: &PrimitiveArray<T>, row: usize| array.is_valid(row).then(|| told(array.value(row)));
        match (value(&left, a), value(&right, b)) {
            (Some((a_nan, a)), Some((b_nan, b))) => a_nan.cmp(&b_nan).then_with(|| order(&a, &b)),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    })
}

/// Which columns decide between facts of the same times: those whose order is that of the whole fact; and others, which tell
/// that two facts differ, while a column that is not there may come before them.
pub(super) struct TieColumns {
    pub(super) decisive: Vec<usize>,
    pub(super) open: Vec<usize>,
}

impl TieColumns {
    /// The order, and whether it is left open.
    pub(super) fn compare(&self, comparators: &[DynComparator], a: usize, b: usize) -> (Ordering, bool) {
        let first = |columns: &[usize]| {
            let orders = columns.iter().map(|&column| comparators[column](a, b));
            orders.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        };
        let decided = first(&self.decisive);
        if decided.is_ne() {
            return (decided, false);
        }
        let open = first(&self.open);
        (open, open.is_ne())
    }
}
