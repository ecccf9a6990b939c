//! Which slots see a fact among the newest of its entity, for windows over a number of facts or those since the last fact of a kind.
//!
//! Facts of an entity are gone through from the newest to the oldest. If facts are never replaced, a newer fact that a slot sees is
//! seen by all later slots too: a fact leaves at the first slot that sees as many newer ones as the window holds. That is the n-th
//! smallest of their first slots, which a heap of n keeps. It also leaves at the first slot that sees a newer marking fact, the smallest
//! of their first slots. If facts are replaced, slots are counted one by one: a slot that has seen n facts or a marking fact is full,
//! and is passed over from then on.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

use arrow::{
    array::{ArrayRef, UInt32Array},
    compute::take,
    row::{RowConverter, Rows, SortField},
};

use super::{Window, plan::PlannedLength};
use crate::{
    error::Result,
    temporal::{fact_chunk::FactChunk, versions::nan_is_largest},
};

/// Facts that wait, with a batch of their rows alone.
pub(super) struct HeldFacts {
    pub(super) chunk: FactChunk,
    /// The first slot that sees each fact.
    pub(super) enters: Vec<u32>,
    /// For each of the plan's marks, whether each fact is a marking fact.
    pub(super) marks: Vec<Vec<bool>>,
}

impl HeldFacts {
    pub(super) fn len(&self) -> usize {
        self.enters.len()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let FactChunk { order, known, visible_until, recency, .. } = &self.chunk;
        let times = 2 + [order, known, visible_until, recency].into_iter().flatten().count();
        self.chunk.batch.get_array_memory_size() + self.len() * (12 + 8 * times + self.marks.len())
    }

    /// Is a fact one after which windows of this length begin?
    fn is_marking(&self, i: usize, length: &PlannedLength) -> bool {
        length.since.is_some_and(|mark| self.marks[mark][i])
    }

    /// The time order of a fact, larger is newer.
    fn newness(&self, i: usize) -> (i64, i64) {
        let order = self.chunk.order()[i];
        match &self.chunk.recency {
            Some(recency) => (recency[i], 0),
            None => (order, self.chunk.known.as_ref().map_or(order, |known| known[i])),
        }
    }
}

/// A fact that slots see, from one slot to another.
#[derive(Clone, Copy)]
pub(super) struct SeenFact {
    chunk: u32,
    pub(super) fact: u32,
    pub(super) enter: u32,
    /// Its number, by which [`NewestFacts::leaves`] finds where it leaves.
    number: u32,
}

/// The facts that slots see among the newest, and marking facts that hide older ones. A fact may be there several times, for different
/// slots.
pub(super) struct NewestFacts {
    /// Chunk by chunk, and in it by entity and from the newest to the oldest.
    seen: Vec<SeenFact>,
    /// Where each chunk begins in `seen`, and their number.
    starts: Vec<usize>,
    /// By number: for each length of windows the first slot that sees the fact no longer.
    leaves: Vec<u32>,
    lengths: usize,
}

impl NewestFacts {
    /// The bytes that [`NewestFacts::find`] needs for each fact.
    pub(super) fn bytes_per_fact(window: &Window) -> usize {
        56 + 4 * window.plan.lengths.len()
    }

    /// Finds them. `row_order` are the positions of the columns that decide between facts of the same times.
    pub(super) fn find(window: &Window, held: &[HeldFacts], row_order: &[usize]) -> Result<Self> {
        let lengths = window.plan.lengths.len();
        let mut found = Self { seen: Vec::new(), starts: Vec::new(), leaves: Vec::new(), lengths };
        let sorted = newest_first(window, held, row_order)?;
        for facts in sorted.chunk_by(|a, b| a.entity == b.entity) {
            let is_replaced = facts.iter().any(|fact| held[fact.chunk as usize].chunk.visible_until.is_some());
            if is_replaced {
                found.add_versions(window, held, facts);
            } else {
                found.add_facts(window, held, facts);
            }
        }
        found.seen.sort_by_key(|seen| seen.chunk);
        found.starts = (0..=held.len()).map(|chunk| found.seen.partition_point(|seen| (seen.chunk as usize) < chunk)).collect();
        Ok(found)
    }

    /// The facts of each chunk.
    pub(super) fn by_chunk(&self) -> impl Iterator<Item = &[SeenFact]> {
        self.starts.windows(2).map(|pair| &self.seen[pair[0]..pair[1]])
    }

    /// For each length of windows the first slot that sees a fact no longer.
    pub(super) fn leaves(&self, seen: &SeenFact) -> &[u32] {
        &self.leaves[seen.number as usize * self.lengths..][..self.lengths]
    }

    /// Do slots see it through windows of some length? If not, it is there as a marking fact.
    pub(super) fn is_in_a_window(&self, seen: &SeenFact) -> bool {
        self.leaves(seen).iter().any(|&leave| seen.enter < leave)
    }

    /// Adds a fact if slots see it, or if it hides older facts from some slot.
    fn push(&mut self, fact: &SortedFact, enter: u32, leaves: &[u32], hides: bool) {
        if hides || leaves.iter().any(|&leave| enter < leave) {
            let number = (self.leaves.len() / self.lengths.max(1)) as u32;
            self.leaves.extend_from_slice(leaves);
            self.seen.push(SeenFact { chunk: fact.chunk, fact: fact.fact, enter, number });
        }
    }

    /// Adds the facts of an entity, from the newest to the oldest. None is replaced.
    fn add_facts(&mut self, window: &Window, held: &[HeldFacts], facts: &[SortedFact]) {
        let Some(run) = facts.first().map(|fact| window.index.slots_of(fact.entity)) else { return };
        // For each length the first slots of newer facts, as many as the window holds: those that enter first.
        let mut newer: Vec<BinaryHeap<u32>> = vec![BinaryHeap::new(); self.lengths];
        // For each length the first slot that sees a newer marking fact.
        let mut hidden_from = vec![run.end; self.lengths];
        let mut leaves = vec![0; self.lengths];
        for fact in facts {
            let (of_chunk, i) = (&held[fact.chunk as usize], fact.fact as usize);
            let enter = of_chunk.enters[i];
            let mut hides = false;
            for (length, planned) in window.plan.lengths.iter().enumerate() {
                let (newer, hidden_from) = (&mut newer[length], &mut hidden_from[length]);
                let mut leave = (*hidden_from).min(window.end_of_reach(length, &of_chunk.chunk, i, enter));
                if let Some(holds) = planned.newest {
                    let is_full = newer.len() >= holds as usize;
                    leave = leave.min(newer.peek().copied().filter(|_| is_full).unwrap_or(run.end));
                    newer.push(enter);
                    if is_full {
                        newer.pop();
                    }
                }
                if of_chunk.is_marking(i, planned) {
                    hides |= enter < leave;
                    *hidden_from = (*hidden_from).min(enter);
                    leave = enter;
                }
                leaves[length] = leave;
            }
            self.push(fact, enter, &leaves, hides);
        }
    }

    /// Adds the facts of an entity, from the newest to the oldest, of which some are replaced.
    fn add_versions(&mut self, window: &Window, held: &[HeldFacts], facts: &[SortedFact]) {
        let Some(run) = facts.first().map(|fact| window.index.slots_of(fact.entity)) else { return };
        for (length, planned) in window.plan.lengths.iter().enumerate() {
            let mut slots = OpenSlots::new(run.len());
            for fact in facts {
                let (of_chunk, i) = (&held[fact.chunk as usize], fact.fact as usize);
                let enter = of_chunk.enters[i];
                let end = window.end_of(length, &of_chunk.chunk, i, enter);
                // Beyond its reach a fact is not counted: windows there see no older one either.
                let range = enter - run.start..end.max(enter) - run.start;
                if of_chunk.is_marking(i, planned) {
                    slots.take(range, 0, |_, _| {});
                    continue;
                }
                slots.take(range, planned.newest.unwrap_or(u32::MAX), |from, to| {
                    let (from, to) = (run.start + from, run.start + to);
                    let leaves: Vec<u32> = (0..self.lengths).map(|other| if other == length { to } else { from }).collect();
                    self.push(fact, from, &leaves, false);
                });
            }
        }
    }
}

impl Window {
    /// For each of the plan's marks, which of these facts are marking facts. `enters` are the first slots that see them.
    ///
    /// # Errors
    /// If a condition fails for a fact that is visible at a slot and within the reach of its windows.
    pub(super) fn marks(&self, chunk: &FactChunk, enters: &[u32]) -> Result<Vec<Vec<bool>>> {
        let is_seen = |i: usize, length: usize| enters[i] < self.end_of(length, chunk, i, enters[i]);
        let marks = self.plan.marks.iter().map(|mark| {
            let mask = mark.mask(chunk, is_seen)?;
            Ok(chunk.rows.iter().map(|&row| mask.is_valid(row as usize)).collect())
        });
        marks.collect()
    }

    /// The first slot from `enter` on that sees a fact no longer through windows of this length, whichever facts are newer.
    fn end_of(&self, length: usize, chunk: &FactChunk, fact: usize, enter: u32) -> u32 {
        let run = self.index.slots_of(chunk.entities[fact]);
        let gone = chunk.visible_until.as_ref().map_or(run.end, |until| self.index.first_after(&run, until[fact], enter));
        self.end_of_reach(length, chunk, fact, enter).min(gone)
    }

    /// The first slot whose windows of this length begin after a fact.
    fn end_of_reach(&self, length: usize, chunk: &FactChunk, fact: usize, enter: u32) -> u32 {
        let run = self.index.slots_of(chunk.entities[fact]);
        let found = self.starts[length].first_after(&self.index, &run, chunk.event[fact], enter);
        found.map_or(run.end, |(slot, _)| slot)
    }
}

/// The slots of an entity that are not full yet.
struct OpenSlots {
    counts: Vec<u32>,
    /// For each slot a slot at it or after it, such that those in between are full.
    next: Vec<u32>,
}

impl OpenSlots {
    fn new(slots: usize) -> Self {
        Self { counts: vec![0; slots], next: (0..=slots as u32).collect() }
    }

    /// The first slot at this one or after it that is not full.
    fn open_from(&mut self, slot: u32) -> u32 {
        let mut open = slot;
        while self.next[open as usize] != open {
            open = self.next[open as usize];
        }
        let mut passed = slot;
        while self.next[passed as usize] != open {
            passed = std::mem::replace(&mut self.next[passed as usize], open);
        }
        open
    }

    /// Counts a fact in the slots of a range that hold fewer than `most`. Calls `each` with every run of such slots.
    fn take(&mut self, slots: Range<u32>, most: u32, mut each: impl FnMut(u32, u32)) {
        let mut slot = self.open_from(slots.start);
        while slot < slots.end {
            let from = slot;
            let mut end = from;
            while slot == end && slot < slots.end {
                let count = &mut self.counts[slot as usize];
                *count += 1;
                if *count >= most {
                    self.next[slot as usize] = slot + 1;
                }
                end = slot + 1;
                slot = self.open_from(end);
            }
            each(from, end);
        }
    }
}

/// A held fact in the order of entities.
#[derive(Clone, Copy)]
struct SortedFact {
    entity: u32,
    newness: (i64, i64),
    chunk: u32,
    fact: u32,
    /// The number of its row among those of tied facts, if its times tie.
    row: u32,
}

/// All facts by entity, and those of an entity from the newest to the oldest.
fn newest_first(window: &Window, held: &[HeldFacts], row_order: &[usize]) -> Result<Vec<SortedFact>> {
    let mut sorted: Vec<SortedFact> = Vec::with_capacity(held.iter().map(HeldFacts::len).sum());
    for (chunk, facts) in (0u32..).zip(held) {
        let fact =
            |i: usize| SortedFact { entity: facts.chunk.entities[i], newness: facts.newness(i), chunk, fact: i as u32, row: 0 };
        sorted.extend((0..facts.len()).map(fact));
    }
    let by_time = |fact: &SortedFact| (fact.entity, Reverse(fact.newness));
    sorted.sort_unstable_by_key(|fact| (by_time(fact), fact.chunk, fact.fact));
    let is_tied = |a: &SortedFact, b: &SortedFact| by_time(a) == by_time(b);
    let mut tied: Vec<Vec<u32>> = vec![Vec::new(); held.len()];
    for ties in sorted.chunk_by(is_tied).filter(|ties| ties.len() > 1) {
        ties.iter().for_each(|fact| tied[fact.chunk as usize].push(fact.fact));
    }
    if tied.iter().all(Vec::is_empty) {
        return Ok(sorted);
    }
    let rows = rows_of(held, &tied, row_order)?;
    window.budget.grow(&window.subject, rows.size())?;
    // The rows are in the order in which the ties of each chunk were found.
    let mut next: Vec<u32> =
        tied.iter().scan(0, |first, tied| Some(std::mem::replace(first, *first + tied.len() as u32))).collect();
    for ties in sorted.chunk_by_mut(is_tied).filter(|ties| ties.len() > 1) {
        for fact in ties.iter_mut() {
            let row = &mut next[fact.chunk as usize];
            fact.row = *row;
            *row += 1;
        }
        ties.sort_by(|a, b| rows.row(b.row as usize).cmp(&rows.row(a.row as usize)));
    }
    window.budget.shrink(rows.size());
    Ok(sorted)
}

/// The columns that decide, of some facts of each chunk, in a form that is compared byte by byte. Columns of a type without an order
/// do not decide.
fn rows_of(held: &[HeldFacts], facts: &[Vec<u32>], row_order: &[usize]) -> Result<Rows> {
    let Some(schema) = held.first().map(|facts| facts.chunk.batch.schema()) else {
        return Ok(RowConverter::new(Vec::new())?.empty_rows(0, 0));
    };
    let field = |position: usize| SortField::new(schema.field(position).data_type().clone());
    let is_ordered = |position: &&usize| RowConverter::supports_fields(&[field(**position)]);
    let positions: Vec<usize> = row_order.iter().filter(is_ordered).copied().collect();
    let converter = RowConverter::new(positions.iter().map(|&position| field(position)).collect())?;
    let mut rows = converter.empty_rows(0, 0);
    for (held, facts) in held.iter().zip(facts) {
        let numbers = UInt32Array::from(facts.iter().map(|&fact| held.chunk.rows[fact as usize]).collect::<Vec<_>>());
        let column = |&position: &usize| Ok(nan_is_largest(&take(held.chunk.batch.column(position), &numbers, None)?));
        converter.append(&mut rows, &positions.iter().map(column).collect::<Result<Vec<ArrayRef>>>()?)?;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each slot counts one by one.
        #[test]
        fn a_slot_takes_the_first_facts_that_it_sees(
            slots in 0..12_usize,
            most in 1..4_u32,
            facts in prop::collection::vec((0..13_u32, 0..13_u32), 0..20),
        ) {
            let (mut open, mut counts) = (OpenSlots::new(slots), vec![0; slots]);
            for (a, b) in facts {
                let range = a.min(b).min(slots as u32)..a.max(b).min(slots as u32);
                let expected: Vec<u32> = range.clone().filter(|&slot| counts[slot as usize] < most).collect();
                expected.iter().for_each(|&slot| counts[slot as usize] += 1);
                let mut runs = Vec::new();
                open.take(range, most, |from, end| runs.push(from..end));
                prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start), "{runs:?}");
                prop_assert_eq!(runs.into_iter().flatten().collect::<Vec<_>>(), expected);
            }
        }
    }
}
