//! What sums, variances and slopes have in common: exact sums over the values of a slice with their count, and a window that adds the
//! slices that enter it and subtracts those that leave it. What is summed up is in the files of the aggregates.

use std::ops::Range;

use arrow::datatypes::i256;

use super::{
    entity_slices::{EntitySlices, Step},
    fact_order::TieBreaks,
    slider::TaskStates,
    state::{FactUpdate, SliceValue},
    stored::{MergeContext, StateReader, StateWriter, StoredValue},
};
use crate::{
    error::Result,
    numeric::{ExactSums, Stored},
    temporal::sort_keys::EncodedValues,
};

/// Sums over the values of a slice, and how many values there are.
#[derive(Clone, Default)]
pub(in crate::temporal) struct Counted<S> {
    sums: S,
    pub(super) count: u32,
}

/// Sums to which facts are added.
pub(super) trait SumsOfFacts: ExactSums + Stored {
    /// Adds the facts of a chunk to their slices.
    fn update(slices: &mut [Counted<Self>], facts: &FactUpdate<'_>) -> Result<()>;
}

impl<S: SumsOfFacts> SliceValue for Counted<S> {
    fn update(slices: &mut [Self], facts: &FactUpdate<'_>) -> Result<()> {
        S::update(slices, facts)
    }
}

/// Adds each fact by its position in the chunk and the key of its value.
#[inline]
pub(super) fn add_keys<S>(slices: &mut [Counted<S>], facts: &FactUpdate<'_>, add: impl Fn(&mut S, usize, u64)) -> Result<()> {
    facts.each_key(
        slices,
        |slice| slice.count,
        |slice, i, key| {
            slice.count += 1;
            add(&mut slice.sums, i, key);
        },
    )
}

/// Adds each fact by its position in the chunk and its decimal, in units of the last digit.
#[inline]
pub(super) fn add_decimals<S>(
    slices: &mut [Counted<S>],
    facts: &FactUpdate<'_>,
    add: impl Fn(&mut S, usize, i128),
    add_wide: impl Fn(&mut S, usize, i256),
) -> Result<()> {
    match facts.values()? {
        EncodedValues::Decimals(units) => facts.each_row(
            slices,
            |slice| slice.count,
            |slice, i, row| {
                slice.count += 1;
                add(&mut slice.sums, i, units[row]);
            },
        ),
        EncodedValues::WideDecimals(units) => facts.each_row(
            slices,
            |slice| slice.count,
            |slice, i, row| {
                slice.count += 1;
                add_wide(&mut slice.sums, i, units[row]);
            },
        ),
        EncodedValues::Keys(_) => return Err(facts.unexpected_encoding()),
    }
    Ok(())
}

impl<S: SumsOfFacts> StoredValue for Counted<S> {
    fn store(&self, _: &TieBreaks, to: &mut StateWriter<'_>) {
        to.numbers.unsigned(self.count.into());
        if self.count > 0 {
            self.sums.store(to.numbers);
        }
    }

    fn load(from: &mut StateReader<'_>) -> Option<Self> {
        match from.count()? {
            0 => Some(Self::default()),
            count => Some(Self { count, sums: S::load(&mut from.numbers)? }),
        }
    }

    fn merge(&mut self, other: &Self, _: &mut MergeContext<'_>) {
        self.count = self.count.wrapping_add(other.count);
        self.sums.merge(&other.sums);
    }
}

/// Calls `to` at each slot with the sums over its window and the count of their values.
#[inline]
pub(super) fn slide_sums<S: ExactSums>(
    tasks: &TaskStates<'_, Counted<S>>,
    slices: &EntitySlices,
    slots: Range<u32>,
    mut to: impl FnMut(&S, u64),
) {
    let (mut count, mut sums) = (0u64, S::default());
    slices.slide(slots, |step| match step {
        Step::Enter(i) => {
            let slice = tasks.at(slices.location(i));
            count += u64::from(slice.count);
            sums.merge(&slice.sums);
        }
        Step::Leave(i) => {
            let slice = tasks.at(slices.location(i));
            count -= u64::from(slice.count);
            match count {
                0 => sums = S::default(),
                _ => sums.unmerge(&slice.sums),
            }
        }
        Step::Slot(_) => to(&sums, count),
    });
}
