//! Candidates for the newest fact of a slot: their times and values, numbered as they are added.
//! Which of them win is decided by the lookup; here they are stored, compared and gathered.

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

use crate::{
    error::{Error, Result},
    temporal::operator::is_too_long,
};

/// The most facts of a batch that is made by gathering.
const GATHERED_ROWS: usize = 1 << 20;
/// The most columns whose batches are joined into one array per column. That makes reading faster. But the memory of the
/// batches is freed in pieces that are too small for the next column, so with many columns all of them would be held twice.
const JOINED_COLUMNS: usize = 16;
/// The most pairs of batches whose comparators are kept.
const COMPARATORS: usize = 4_096;

/// Some candidates: times side by side, and columns.
pub(super) struct CandidateBatch {
    /// Event times in ticks, if there is a max age.
    pub(super) event: Vec<i64>,
    /// The order of facts by event time, and by known-at if there is one.
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

/// Facts that are being gathered into one batch, and the columns gathered so far.
struct Piece<'a> {
    facts: &'a [u32],
    /// The batch and the row of each.
    locations: Vec<(usize, usize)>,
    columns: Vec<Option<ArrayRef>>,
}

impl Piece<'_> {
    fn halves(&self) -> [Self; 2] {
        let middle = self.facts.len() / 2;
        [0..middle, middle..self.facts.len()].map(|half| Piece {
            facts: &self.facts[half.clone()],
            locations: self.locations[half.clone()].to_vec(),
            columns: self.columns.iter().map(|column| Some(column.as_ref()?.slice(half.start, half.len()))).collect(),
        })
    }
}

/// All candidates of a lookup.
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
    /// How many candidates there are.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Adds candidates. Returns the number of the first.
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

    /// The order of a fact by its event time.
    pub(super) fn order(&self, fact: u32) -> i64 {
        self.order[fact as usize]
    }

    /// The order of a fact by its known-at, if there is one.
    pub(super) fn known(&self, fact: u32) -> Option<i64> {
        self.known.get(fact as usize).copied()
    }

    /// Adds the candidates of another, with only these of its columns. Returns the number of the first.
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

    fn location(&self, fact: u32) -> (usize, usize) {
        let batch = self.starts.partition_point(|&start| start <= fact) - 1;
        (batch, (fact - self.starts[batch]) as usize)
    }

    /// About the bytes of the largest column, which gathering holds twice.
    pub(super) fn largest_column_bytes(&self) -> usize {
        let bytes = |column: usize| self.batches.iter().map(|batch| batch[column].get_array_memory_size()).sum();
        (0..self.batches.first().map_or(0, Vec::len)).map(bytes).max().unwrap_or(0)
    }

    /// Only these facts, in this order. Columns are gathered one by one, so no more than one is held twice.
    pub(super) fn gathered<'a>(mut self, facts: &'a [u32]) -> Result<Self> {
        let width = self.batches.first().map_or(0, Vec::len);
        let piece = |facts: &'a [u32]| Piece {
            facts,
            locations: facts.iter().map(|&fact| self.location(fact)).collect(),
            columns: vec![None; width],
        };
        let mut pieces: Vec<Piece> = facts.chunks(GATHERED_ROWS).map(piece).collect();
        // If texts are too long for one array, the pieces become smaller for all columns. So columns of texts come first.
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
                match interleave(&parts, &piece.locations).map_err(Error::from) {
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

    /// The columns from `first` on, ready to be read by fact. `types` are those of all columns.
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
            // All texts in one array could be longer than its offsets allow.
            columns.push(match data_type.primitive_width() {
                Some(_) if !parts.is_empty() && !has_many => {
                    CandidateColumn::Joined(concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?)
                }
                _ => CandidateColumn::Batches(std::iter::once(new_null_array(data_type, 1)).chain(parts).collect()),
            });
        }
        Ok(CandidateColumns { starts: self.starts, columns })
    }
}

/// The values of the candidates.
pub(super) struct CandidateColumns {
    starts: Vec<u32>,
    columns: Vec<CandidateColumn>,
}

enum CandidateColumn {
    /// All values in one array.
    Joined(ArrayRef),
    /// A NULL, then the values batch by batch.
    Batches(Vec<ArrayRef>),
}

impl CandidateColumns {
    /// The values of these facts; NULL for a NULL.
    pub(super) fn read(&self, facts: &UInt32Array) -> Result<Vec<ArrayRef>> {
        let mut locations = Vec::new();
        let mut read = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            read.push(match column {
                CandidateColumn::Joined(values) => take(values, facts, None)?,
                CandidateColumn::Batches(pieces) => {
                    if locations.is_empty() {
                        locations = facts.iter().map(|fact| self.location(fact)).collect();
                    }
                    interleave(&pieces.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>(), &locations)?
                }
            });
        }
        Ok(read)
    }

    fn location(&self, fact: Option<u32>) -> (usize, usize) {
        let Some(fact) = fact else { return (0, 0) };
        let batch = self.starts.partition_point(|&start| start <= fact);
        (batch, (fact - self.starts[batch - 1]) as usize)
    }
}

/// Tells which of two candidates is newer. Keeps the comparators of pairs of batches.
#[derive(Default)]
pub(super) struct RecencyOrder {
    comparators: HashMap<(usize, usize), Vec<DynComparator>>,
}

impl RecencyOrder {
    /// Compares by event time, known-at, and then the columns. Also says whether the facts tie on all of these, although other
    /// columns decide which of them is newer.
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
        let ((batch_a, row_a), (batch_b, row_b)) = (candidates.location(a), candidates.location(b));
        let comparators = match self.comparators.entry((batch_a, batch_b)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(column_comparators(&candidates.batches[batch_a], &candidates.batches[batch_b])?),
        };
        Ok(tie_columns.compare(comparators, row_a, row_b))
    }
}

/// Compares columns by row: NULL is the smallest value, and NaN the largest float, whatever its sign.
pub(in crate::temporal) fn column_comparators(left: &[ArrayRef], right: &[ArrayRef]) -> Result<Vec<DynComparator>> {
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
    marked: fn(T::Native) -> (bool, T::Native),
    order: fn(&T::Native, &T::Native) -> Ordering,
) -> DynComparator {
    let (left, right) = (left.as_primitive::<T>().clone(), right.as_primitive::<T>().clone());
    Box::new(move |a, b| {
        let value = |array: &PrimitiveArray<T>, row: usize| array.is_valid(row).then(|| marked(array.value(row)));
        match (value(&left, a), value(&right, b)) {
            (Some((a_nan, a)), Some((b_nan, b))) => a_nan.cmp(&b_nan).then_with(|| order(&a, &b)),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    })
}

/// The columns that decide between facts of the same times.
pub(super) struct TieColumns {
    /// Columns that decide, in this order.
    pub(super) decisive: Vec<usize>,
    /// Columns that only tell whether two facts differ, because a column that was not read decides before them.
    pub(super) others: Vec<usize>,
}

impl TieColumns {
    /// The order of two rows, and whether a column that was not read decides it.
    pub(super) fn compare(&self, comparators: &[DynComparator], a: usize, b: usize) -> (Ordering, bool) {
        let first = |columns: &[usize]| {
            let orders = columns.iter().map(|&column| comparators[column](a, b));
            orders.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        };
        let decided = first(&self.decisive);
        if decided.is_ne() {
            return (decided, false);
        }
        let by_others = first(&self.others);
        (by_others, by_others.is_ne())
    }
}
