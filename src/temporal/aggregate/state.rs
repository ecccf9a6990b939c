//! What an accumulator keeps of the facts in each of its slices, for one input: a count, a sum, an extreme, all values.
//! Which aggregates make use of it, and how, is in the files of the aggregates.

use arrow::buffer::{NullBuffer, ScalarBuffer};

use super::{
    approx_count_distinct::Sketches,
    count::Count,
    entity_slices::SliceLocation,
    exact_sums::Counted,
    fact_order::{DatedValue, FactOrder, TieBreaks},
    first_last::FirstOrLast,
    max_by::MaxOrMinBy,
    min_max::MinOrMax,
    stored::{MergeContext, StateReader, StateWriter, StoredValue},
    value_log::ValueLog,
};
use crate::{
    error::{Error, Result},
    numeric::{ExactSum, FloatMoments, FloatSlope, Integer, IntegerMoments, IntegerSlope},
    temporal::{fact_chunk::FactChunk, sort_keys::EncodedValues},
};

/// The slice of a fact that no slot sees.
pub(in crate::temporal) const NO_SLICE: u32 = u32::MAX;

/// Declares the kinds of states, and for each kind the type that holds such states of all slices.
macro_rules! slice_states {
    ($($(#[$doc:meta])* $kind:ident: $states:ty,)*) => {
        /// A kind of state.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in crate::temporal) enum StateKind {
            $($(#[$doc])* $kind,)*
        }

        /// The states of all slices of one accumulator, for one input.
        pub(in crate::temporal) enum SliceStates {
            $($kind($states),)*
        }

        impl SliceStates {
            /// States of no slice.
            pub(in crate::temporal) fn new(kind: StateKind) -> Self {
                match kind {
                    $(StateKind::$kind => SliceStates::$kind(<$states>::default()),)*
                }
            }

            /// The states behind the interface that all of them have.
            pub(in crate::temporal) fn as_state(&self) -> &dyn SliceState {
                match self {
                    $(SliceStates::$kind(states) => states,)*
                }
            }

            /// Reads the stored states of so many slices; `None` if the bytes are none of this kind.
            pub(in crate::temporal) fn load(kind: StateKind, slices: usize, from: &mut StateReader<'_>) -> Option<Self> {
                match kind {
                    $(StateKind::$kind => <$states as SliceState>::load(slices, from).map(SliceStates::$kind),)*
                }
            }

            /// As [`SliceStates::as_state`], to change them.
            pub(in crate::temporal) fn as_state_mut(&mut self) -> &mut dyn SliceState {
                match self {
                    $(SliceStates::$kind(states) => states,)*
                }
            }
        }

        $(impl StatesOf for $states {
            fn of(states: &SliceStates) -> Option<&Self> {
                if let SliceStates::$kind(states) = states { Some(states) } else { None }
            }
        })*
    };
}

slice_states! {
    /// How many values there are; without an input, how many facts.
    Count: PerSlice<Count>,
    FloatSum: PerSlice<Counted<ExactSum>>,
    DecimalSum: PerSlice<Counted<Integer<5>>>,
    /// The sums of the values and of their squares, of floats, integers and decimals.
    FloatMoments: PerSlice<Counted<FloatMoments>>,
    IntegerMoments: PerSlice<Counted<IntegerMoments<3, 3>>>,
    DecimalMoments: PerSlice<Counted<IntegerMoments<5, 9>>>,
    /// The sums of values, of times and of their products, of floats, integers and decimals.
    FloatSlope: PerSlice<Counted<FloatSlope>>,
    IntegerSlope: PerSlice<Counted<IntegerSlope<2, 3>>>,
    DecimalSlope: PerSlice<Counted<IntegerSlope<5, 6>>>,
    Min: PerSlice<MinOrMax<true>>,
    Max: PerSlice<MinOrMax<false>>,
    First: PerSlice<FirstOrLast<true>>,
    Last: PerSlice<FirstOrLast<false>>,
    MaxBy: PerSlice<MaxOrMinBy<true>>,
    MinBy: PerSlice<MaxOrMinBy<false>>,
    /// A sketch of the different values.
    Sketches: Sketches,
    /// Every value.
    Values: ValueLog<u64>,
    /// Every value, with what orders its fact among others.
    DatedValues: ValueLog<DatedValue>,
}

/// The states of one kind.
pub(super) trait StatesOf: Sized {
    /// The states, if they are of this kind.
    fn of(states: &SliceStates) -> Option<&Self>;
}

impl StateKind {
    /// Does the state also say how many values there are?
    pub(in crate::temporal) fn counts_values(self) -> bool {
        match self {
            StateKind::Count
            | StateKind::FloatSum
            | StateKind::DecimalSum
            | StateKind::FloatMoments
            | StateKind::IntegerMoments
            | StateKind::DecimalMoments
            | StateKind::FloatSlope
            | StateKind::IntegerSlope
            | StateKind::DecimalSlope => true,
            StateKind::Min
            | StateKind::Max
            | StateKind::First
            | StateKind::Last
            | StateKind::MaxBy
            | StateKind::MinBy
            | StateKind::Sketches
            | StateKind::Values
            | StateKind::DatedValues => false,
        }
    }

    /// Has the state of a slice one size, however many facts the slice has? Only then is it stored. Every state that counts values is,
    /// since the count of a stored window may be read from it.
    pub(in crate::temporal) fn is_stored(self) -> bool {
        match self {
            StateKind::Count
            | StateKind::FloatSum
            | StateKind::DecimalSum
            | StateKind::FloatMoments
            | StateKind::IntegerMoments
            | StateKind::DecimalMoments
            | StateKind::FloatSlope
            | StateKind::IntegerSlope
            | StateKind::DecimalSlope
            | StateKind::Min
            | StateKind::Max
            | StateKind::First
            | StateKind::Last
            | StateKind::MaxBy
            | StateKind::MinBy => true,
            StateKind::Sketches | StateKind::Values | StateKind::DatedValues => false,
        }
    }

    /// Does the state depend on the order of facts?
    pub(in crate::temporal) fn needs_fact_order(self) -> bool {
        match self {
            StateKind::First | StateKind::Last | StateKind::MaxBy | StateKind::MinBy | StateKind::DatedValues => true,
            StateKind::Count
            | StateKind::FloatSum
            | StateKind::DecimalSum
            | StateKind::FloatMoments
            | StateKind::IntegerMoments
            | StateKind::DecimalMoments
            | StateKind::FloatSlope
            | StateKind::IntegerSlope
            | StateKind::DecimalSlope
            | StateKind::Min
            | StateKind::Max
            | StateKind::Sketches
            | StateKind::Values => false,
        }
    }
}

/// What all states have in common. Each call is for a whole chunk or accumulator; loops over facts are inside.
pub(in crate::temporal) trait SliceState {
    /// Adds the facts of a chunk.
    fn update(&mut self, facts: &FactUpdate<'_>) -> Result<()>;

    /// Moves the slices: `order` has the old number of each slice, and `new_number` the new number of each old one.
    fn reorder(&mut self, order: &[u32], new_number: &[u32]);

    /// No more facts come. Slices without a fact get the state of an empty slice.
    fn finish(&mut self, slices: usize);

    /// Bytes held.
    fn bytes(&self) -> usize;

    /// Writes the states of these slices, which exist. `ties` are those of the accumulator.
    ///
    /// # Errors
    /// [`Error::Internal`] for states that are not stored.
    fn store(&self, slices: &[u32], ties: &TieBreaks, to: &mut StateWriter<'_>) -> Result<()>;

    /// Reads the stored states of so many slices; `None` if the bytes are no such states.
    fn load(slices: usize, from: &mut StateReader<'_>) -> Option<Self>
    where
        Self: Sized;

    /// Adds states of the same kind: the i-th of the others to the i-th of these slices. `count` is how many slices there are.
    ///
    /// # Errors
    /// [`Error::Internal`] for states that are not stored, or of another kind.
    fn merge(&mut self, slices: &[u32], count: usize, others: &SliceStates, with: &mut MergeContext<'_>) -> Result<()>;
}

/// The state of one slice, where all slices have states of one size. The default is the state of an empty slice.
pub(in crate::temporal) trait SliceValue: Clone + Default {
    /// Adds the facts of a chunk to their slices.
    fn update(states: &mut [Self], facts: &FactUpdate<'_>) -> Result<()>;
}

/// A state for each slice, by the slice's number.
#[derive(Default)]
pub(in crate::temporal) struct PerSlice<T>(Vec<T>);

impl<T> PerSlice<T> {
    /// The state of a slice of this accumulator.
    #[inline]
    pub(super) fn at(&self, location: SliceLocation) -> &T {
        &self.0[location.slice as usize]
    }
}

impl<T: StoredValue> SliceState for PerSlice<T>
where
    PerSlice<T>: StatesOf,
{
    fn update(&mut self, facts: &FactUpdate<'_>) -> Result<()> {
        self.0.resize(facts.slices, T::default());
        T::update(&mut self.0, facts)
    }

    fn reorder(&mut self, order: &[u32], _: &[u32]) {
        self.0 = order.iter().map(|&slice| self.0[slice as usize].clone()).collect();
    }

    fn finish(&mut self, slices: usize) {
        self.0.resize(slices, T::default());
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<T>()
    }

    fn store(&self, slices: &[u32], ties: &TieBreaks, to: &mut StateWriter<'_>) -> Result<()> {
        for &slice in slices {
            self.0.get(slice as usize).ok_or_else(other_states)?.store(ties, to);
        }
        Ok(())
    }

    fn load(slices: usize, from: &mut StateReader<'_>) -> Option<Self> {
        (0..slices).map(|_| T::load(from)).collect::<Option<Vec<T>>>().map(Self)
    }

    fn merge(&mut self, slices: &[u32], count: usize, others: &SliceStates, with: &mut MergeContext<'_>) -> Result<()> {
        let others = Self::of(others).ok_or_else(other_states)?;
        self.0.resize(count.max(self.0.len()), T::default());
        for (&slice, other) in slices.iter().zip(&others.0) {
            self.0.get_mut(slice as usize).ok_or_else(other_states)?.merge(other, with);
        }
        Ok(())
    }
}

/// The error of states that do not belong together.
fn other_states() -> Error {
    Error::Internal { subject: "a window".into(), reason: "states of other slices, or of another kind, are to be added".into() }
}

/// Facts that are read between two rounds of prefetching.
const PREFETCH_FACTS: usize = 128;
/// About as many slices as fit into the nearer caches. For fewer slices prefetching gains nothing.
const NEAR_SLICES: usize = 1 << 14;

/// The facts of a chunk, as values of one input.
pub(in crate::temporal) struct FactUpdate<'a> {
    pub(in crate::temporal) chunk: &'a FactChunk,
    /// The slice of each fact, or [`NO_SLICE`].
    pub(in crate::temporal) slice_of: &'a [u32],
    /// How many slices there are.
    pub(in crate::temporal) slices: usize,
    /// The values by row of the chunk's batch; `None` if there is no input.
    pub(in crate::temporal) values: Option<&'a EncodedValues>,
    /// The values of the column that decides which value counts, if there is one.
    pub(in crate::temporal) by: Option<&'a EncodedValues>,
    /// Rows without a value in either column, and rows that the filter of the aggregate rejects.
    pub(in crate::temporal) nulls: Option<&'a NullBuffer>,
    pub(in crate::temporal) order: FactOrder<'a>,
    /// The number of the chunk's first fact in the accumulator's tie-breaks, to which the chunk has been added.
    pub(in crate::temporal) first_tie: u32,
    pub(in crate::temporal) ties: &'a TieBreaks,
}

impl FactUpdate<'_> {
    /// The values of the input.
    pub(super) fn values(&self) -> Result<&EncodedValues> {
        self.values.ok_or_else(|| self.unexpected_encoding())
    }

    fn keys(&self) -> Result<&ScalarBuffer<u64>> {
        self.keys_of(self.values)
    }

    fn keys_of<'k>(&self, values: Option<&'k EncodedValues>) -> Result<&'k ScalarBuffer<u64>> {
        match values {
            Some(EncodedValues::Keys(keys)) => Ok(keys),
            Some(EncodedValues::Decimals(_) | EncodedValues::WideDecimals(_)) | None => Err(self.unexpected_encoding()),
        }
    }

    /// The error of a state that does not read values of this encoding.
    pub(super) fn unexpected_encoding(&self) -> Error {
        let reason = format!("an aggregate cannot read values that are encoded as {:?}", self.order.encoding);
        Error::Internal { subject: "a window".into(), reason }
    }

    /// The event time of the fact at a position in the chunk, in units as fine as the facts' own.
    #[inline]
    pub(super) fn time(&self, i: usize) -> i64 {
        self.chunk.order()[i]
    }

    /// The value with what orders its fact, given the fact's position in the chunk.
    #[inline]
    pub(super) fn dated(&self, i: usize, value: u64) -> DatedValue {
        DatedValue {
            event: self.time(i),
            known: self.chunk.known.as_ref().map_or(0, |known| known[i]),
            tie: self.first_tie + i as u32,
            value,
        }
    }

    /// Calls `add` for every fact that has a slice and a value, with the state of its slice, the fact's position in the chunk
    /// and its row in the batch.
    ///
    /// The slices of neighbouring facts are scattered in memory. So before a stretch of facts is added, `touch` reads a word of
    /// each of their states: these loads do not wait for each other, while additions would.
    #[inline]
    pub(super) fn each_row<T>(&self, states: &mut [T], touch: impl Fn(&T) -> u32, mut add: impl FnMut(&mut T, usize, usize)) {
        let (rows, nulls) = (&self.chunk.rows, self.nulls);
        let prefetch = states.len() > NEAR_SLICES;
        for (stretch, first) in self.slice_of.chunks(PREFETCH_FACTS).zip((0..).step_by(PREFETCH_FACTS)) {
            if prefetch {
                let touched = stretch.iter().filter_map(|&slice| states.get(slice as usize)).map(&touch);
                std::hint::black_box(touched.fold(0, u32::wrapping_add));
            }
            for (i, &slice) in (first..).zip(stretch) {
                let row = rows[i] as usize;
                if nulls.is_none_or(|n| n.is_valid(row))
                    && let Some(state) = states.get_mut(slice as usize)
                {
                    add(state, i, row);
                }
            }
        }
    }

    /// As [`FactUpdate::each_row`], with the key of the value instead of the row.
    #[inline]
    pub(super) fn each_key<T>(
        &self,
        states: &mut [T],
        touch: impl Fn(&T) -> u32,
        mut add: impl FnMut(&mut T, usize, u64),
    ) -> Result<()> {
        let keys = self.keys()?;
        self.each_row(states, touch, |state, i, row| add(state, i, keys[row]));
        Ok(())
    }

    /// As [`FactUpdate::each_key`], with the key of the column that decides which value counts, too.
    #[inline]
    pub(super) fn each_pair<T>(
        &self,
        states: &mut [T],
        touch: impl Fn(&T) -> u32,
        mut add: impl FnMut(&mut T, usize, u64, u64),
    ) -> Result<()> {
        let (keys, by) = (self.keys()?, self.keys_of(self.by)?);
        self.each_row(states, touch, |state, i, row| add(state, i, keys[row], by[row]));
        Ok(())
    }

    /// Calls `add` for every fact that has a slice and a value, with the slice, the fact's position in the chunk and the key of
    /// the value.
    #[inline]
    pub(super) fn each_in_order(&self, mut add: impl FnMut(u32, usize, u64)) -> Result<()> {
        let keys = self.keys()?;
        for (i, (&slice, &row)) in self.slice_of.iter().zip(&self.chunk.rows).enumerate() {
            if slice != NO_SLICE && self.nulls.is_none_or(|n| n.is_valid(row as usize)) {
                add(slice, i, keys[row as usize]);
            }
        }
        Ok(())
    }
}
