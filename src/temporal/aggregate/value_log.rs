//! All values of all slices of one accumulator, in the order of arrival, and their ranks within an entity.
//! It is the state of aggregates that no fixed number of bytes per slice can hold.

use std::cmp::Ordering;

use super::{
    entity_slices::{EntitySlices, SliceLocation},
    fact_order::{DatedValue, TieBreaks},
    slider::OutputStates,
    state::{FactUpdate, SliceState, SliceStates},
    stored::{MergeContext, StateReader, StateWriter, not_stored},
};
use crate::{
    error::Result,
    temporal::sort_keys::{Encoding, ValueDictionary},
};

/// Values with their slices.
#[derive(Default)]
pub(in crate::temporal) struct ValueLog<T> {
    values: Vec<(u32, T)>,
    /// By slice: where its part of `positions` begins. Empty until no more facts come.
    starts: Vec<u32>,
    /// Positions in `values`, slice by slice.
    positions: Vec<u32>,
}

/// What a log keeps of a fact.
pub(in crate::temporal) trait LogValue: Copy {
    /// The entry of a fact, given its position in the chunk and the key of its value.
    fn of(facts: &FactUpdate<'_>, i: usize, key: u64) -> Self;
}

impl LogValue for u64 {
    #[inline]
    fn of(_: &FactUpdate<'_>, _: usize, key: u64) -> Self {
        key
    }
}

impl LogValue for DatedValue {
    #[inline]
    fn of(facts: &FactUpdate<'_>, i: usize, key: u64) -> Self {
        facts.dated(i, key)
    }
}

impl<T: LogValue> ValueLog<T> {
    /// The values of a slice of this accumulator, in the order of arrival.
    fn of_slice(&self, slice: u32) -> impl Iterator<Item = T> {
        let (start, end) = (self.starts[slice as usize] as usize, self.starts[slice as usize + 1] as usize);
        self.positions[start..end].iter().map(|&position| self.values[position as usize].1)
    }
}

impl<T: LogValue> SliceState for ValueLog<T> {
    fn update(&mut self, facts: &FactUpdate<'_>) -> Result<()> {
        facts.each_in_order(|slice, i, key| self.values.push((slice, T::of(facts, i, key))))
    }

    fn reorder(&mut self, _: &[u32], new_number: &[u32]) {
        self.values.iter_mut().for_each(|(slice, _)| *slice = new_number[*slice as usize]);
    }

    /// Indexes the values by slice.
    fn finish(&mut self, slices: usize) {
        let mut starts = vec![0u32; slices + 1];
        self.values.iter().for_each(|(slice, _)| starts[*slice as usize + 1] += 1);
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let mut positions = vec![0u32; self.values.len()];
        for (position, (slice, _)) in (0u32..).zip(&self.values) {
            positions[next[*slice as usize] as usize] = position;
            next[*slice as usize] += 1;
        }
        (self.starts, self.positions) = (starts, positions);
    }

    fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<(u32, T)>()
    }

    fn store(&self, _: &[u32], _: &TieBreaks, _: &mut StateWriter<'_>) -> Result<()> {
        Err(not_stored())
    }

    fn load(_: usize, _: &mut StateReader<'_>) -> Option<Self> {
        None
    }

    fn merge(&mut self, _: &[u32], _: usize, _: &SliceStates, _: &mut MergeContext<'_>) -> Result<()> {
        Err(not_stored())
    }
}

/// The values of an entity's slices as ranks.
pub(super) struct Ranks {
    starts: Vec<usize>,
    ranks: Vec<u32>,
}

impl Ranks {
    /// The ranks of the values of the slice at this position.
    #[inline]
    pub(super) fn of_slice(&self, i: usize) -> &[u32] {
        &self.ranks[self.starts[i]..self.starts[i + 1]]
    }
}

/// The logs of one output, by task, and how their values are compared.
pub(super) struct ValueLogs<'a> {
    tasks: Vec<&'a ValueLog<u64>>,
    pub(super) encoding: Encoding,
    dictionary: &'a ValueDictionary,
}

impl<'a> ValueLogs<'a> {
    pub(super) fn new(states: &OutputStates<'a>) -> Result<Self> {
        Ok(Self { tasks: states.typed()?, encoding: states.order.encoding, dictionary: states.order.dictionary })
    }

    /// The values of an entity's slices as ranks among its different values, and these values in order. `normalize` maps values
    /// that count as one to the same key.
    pub(super) fn rank(&self, slices: &EntitySlices, normalize: impl Fn(Encoding, u64) -> u64) -> (Ranks, Vec<u64>) {
        let compare = |a: u64, b: u64| self.dictionary.compare(self.encoding, a, b);
        let (starts, values) = concatenate(slices, |location, values| {
            let of_slice = self.tasks[location.task as usize].of_slice(location.slice);
            values.extend(of_slice.map(|value| normalize(self.encoding, value)));
        });
        rank(starts, values, compare)
    }
}

/// The values of an entity's slices as ranks among its different values, and these values in order. `starts` says where the values
/// of each slice begin.
pub(super) fn rank(starts: Vec<usize>, values: Vec<u64>, compare: impl Fn(u64, u64) -> Ordering) -> (Ranks, Vec<u64>) {
    let mut different = values.clone();
    different.sort_unstable_by(|&a, &b| compare(a, b));
    different.dedup();
    let rank = |value: &u64| different.binary_search_by(|known| compare(*known, *value)).unwrap_or(0) as u32;
    let ranks = values.iter().map(rank).collect();
    (Ranks { starts, ranks }, different)
}

/// The dated values of an entity's slices as ranks from the oldest to the newest fact, and the values in this order. `compare`
/// takes dated values with their tasks.
pub(super) fn rank_by_recency(
    tasks: &[&ValueLog<DatedValue>],
    slices: &EntitySlices,
    compare: impl Fn((u32, &DatedValue), (u32, &DatedValue)) -> Ordering,
) -> (Ranks, Vec<u64>) {
    let (starts, values) = concatenate(slices, |location, values| {
        let of_slice = tasks[location.task as usize].of_slice(location.slice);
        values.extend(of_slice.map(|dated| (location.task, dated)));
    });
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| compare((values[a].0, &values[a].1), (values[b].0, &values[b].1)));
    let mut ranks = vec![0; values.len()];
    order.iter().enumerate().for_each(|(rank, &i)| ranks[i] = rank as u32);
    (Ranks { starts, ranks }, order.iter().map(|&i| values[i].1.value).collect())
}

/// The values of all slices one after the other, and where those of each slice begin.
pub(super) fn concatenate<T>(slices: &EntitySlices, append: impl Fn(SliceLocation, &mut Vec<T>)) -> (Vec<usize>, Vec<T>) {
    let (mut starts, mut values) = (vec![0], Vec::new());
    for location in slices.locations() {
        append(location, &mut values);
        starts.push(values.len());
    }
    (starts, values)
}
