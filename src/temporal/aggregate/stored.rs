//! The states of slices as bytes, and states that were read from bytes added to those of other slices.
//! Where such bytes are kept, and which facts they stand for, is not known here.

use std::collections::HashMap;

use super::{
    fact_order::{DatedValue, FactOrder, TieBreaks},
    state::SliceValue,
};
use crate::{
    error::Error,
    numeric::{NumberReader, NumberWriter},
    temporal::sort_keys::Encoding,
};

/// A state that can be stored, and to which another one can be added: a fixed number of bytes, however many facts it is made of.
pub(super) trait StoredValue: SliceValue {
    /// Appends its bytes. `ties` are those of its accumulator.
    fn store(&self, ties: &TieBreaks, to: &mut StateWriter<'_>);

    /// Reads the bytes of one; `None` if they are none.
    fn load(from: &mut StateReader<'_>) -> Option<Self>;

    /// Adds the facts of another state, as if they had been read one by one.
    fn merge(&mut self, other: &Self, with: &mut MergeContext<'_>);
}

/// What orders the facts of two accumulators.
pub(in crate::temporal) struct MergeContext<'a> {
    pub(in crate::temporal) order: FactOrder<'a>,
    /// The tie-breaks of the accumulator to which states are added.
    pub(in crate::temporal) ties: &'a mut TieBreaks,
    /// The tie-breaks of the other one.
    pub(in crate::temporal) other_ties: &'a TieBreaks,
}

impl MergeContext<'_> {
    /// The value of the other accumulator as one of this accumulator.
    pub(super) fn taken(&mut self, dated: &DatedValue) -> DatedValue {
        let tie = self.ties.push(self.other_ties.of(dated).iter().copied());
        DatedValue { tie, ..*dated }
    }
}

/// The keys of a column, as they are stored. Numbers of a dictionary are stored as numbers of the values that are used.
pub(in crate::temporal) struct KeyWriter {
    encoding: Encoding,
    numbers: HashMap<u64, u64>,
    used: Vec<u64>,
}

impl KeyWriter {
    pub(in crate::temporal) fn new(encoding: Encoding) -> Self {
        Self { encoding, numbers: HashMap::new(), used: Vec::new() }
    }

    /// The numbers in the dictionary of the values that are used, in the order of their stored numbers.
    pub(in crate::temporal) fn used(&self) -> &[u64] {
        &self.used
    }

    fn write(&mut self, key: u64, to: &mut NumberWriter) {
        if self.encoding != Encoding::Dictionary {
            return to.word(key);
        }
        let used = &mut self.used;
        let number = *self.numbers.entry(key).or_insert_with(|| {
            used.push(key);
            used.len() as u64 - 1
        });
        to.unsigned(number);
    }
}

/// The keys of a column, as they are read: for one with a dictionary, the number there of each stored number.
pub(in crate::temporal) struct KeyReader(pub(in crate::temporal) Option<Vec<u64>>);

impl KeyReader {
    fn read(&self, from: &mut NumberReader<'_>) -> Option<u64> {
        match &self.0 {
            None => from.word(),
            Some(numbers) => numbers.get(usize::try_from(from.unsigned()?).ok()?).copied(),
        }
    }
}

/// Which columns a state refers to: positions among those of the plan, and then the tie-breaks.
#[derive(Clone, Copy, Default)]
pub(in crate::temporal) struct StateColumns {
    pub(in crate::temporal) value: usize,
    pub(in crate::temporal) by: usize,
    pub(in crate::temporal) first_tie: usize,
}

/// Writes the states of one input.
pub(in crate::temporal) struct StateWriter<'a> {
    pub(in crate::temporal) numbers: &'a mut NumberWriter,
    /// Those of the plan, then those of the tie-breaks.
    pub(in crate::temporal) keys: &'a mut [KeyWriter],
    pub(in crate::temporal) columns: StateColumns,
}

impl StateWriter<'_> {
    fn key(&mut self, column: usize, key: u64) {
        if let Some(keys) = self.keys.get_mut(column) {
            keys.write(key, self.numbers);
        }
    }

    /// Is there a value? Then it follows.
    pub(super) fn is_there(&mut self, is_there: bool) {
        self.numbers.unsigned(u64::from(is_there));
    }

    /// The key of a value of the input.
    pub(super) fn value(&mut self, key: u64) {
        self.key(self.columns.value, key);
    }

    /// The key of the column that decides which value counts.
    pub(super) fn by(&mut self, key: u64) {
        self.key(self.columns.by, key);
    }

    pub(super) fn dated(&mut self, dated: &DatedValue, ties: &TieBreaks) {
        self.numbers.signed(dated.event);
        self.numbers.signed(dated.known);
        self.value(dated.value);
        for (i, tie) in ties.of(dated).iter().enumerate() {
            self.is_there(tie.is_some());
            if let Some(key) = tie {
                self.key(self.columns.first_tie + i, *key);
            }
        }
    }
}

/// Reads the states of one input.
pub(in crate::temporal) struct StateReader<'a> {
    pub(in crate::temporal) numbers: NumberReader<'a>,
    pub(in crate::temporal) keys: &'a [KeyReader],
    pub(in crate::temporal) columns: StateColumns,
    /// The tie-breaks of the facts that have been read.
    pub(in crate::temporal) ties: TieBreaks,
}

impl StateReader<'_> {
    fn key(&mut self, column: usize) -> Option<u64> {
        self.keys.get(column)?.read(&mut self.numbers)
    }

    pub(super) fn is_there(&mut self) -> Option<bool> {
        match self.numbers.unsigned()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn count(&mut self) -> Option<u32> {
        u32::try_from(self.numbers.unsigned()?).ok()
    }

    pub(super) fn value(&mut self) -> Option<u64> {
        self.key(self.columns.value)
    }

    pub(super) fn by(&mut self) -> Option<u64> {
        self.key(self.columns.by)
    }

    pub(super) fn dated(&mut self) -> Option<DatedValue> {
        let (event, known, value) = (self.numbers.signed()?, self.numbers.signed()?, self.value()?);
        let mut ties = Vec::with_capacity(self.ties.per_fact());
        for i in 0..self.ties.per_fact() {
            ties.push(if self.is_there()? { Some(self.key(self.columns.first_tie + i)?) } else { None });
        }
        Some(DatedValue { event, known, tie: self.ties.push(ties.into_iter()), value })
    }
}

/// The error of a state that is not stored, since it may be as long as the values of its slice.
pub(super) fn not_stored() -> Error {
    Error::Internal { subject: "a window".into(), reason: "a state that is never stored is to be stored".into() }
}
