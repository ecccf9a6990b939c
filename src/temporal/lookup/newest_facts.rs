//! The newest fact of each slot among the facts that become visible between the slot and the one before it, as far as the
//! accumulators have read.

use super::candidates::Candidates;

/// No fact. It is zero, so that memory for slots that no fact reaches need not be written. Every other number is that of a
/// candidate, plus one.
pub(super) const NONE: u32 = 0;
/// Slots whose numbers share a page of memory.
const SLOTS_PER_PAGE: usize = 1_024;

/// What all accumulators of a lookup have found so far.
#[derive(Default)]
pub(super) struct NewestFacts {
    /// The newest fact of each slot: its number, plus one.
    pub(super) newest: Vec<u32>,
    /// The pages of `newest` that hold a fact. Reading a page that was never written costs as much as writing it.
    written: Vec<bool>,
    /// How many slots have a fact.
    pub(super) occupied: usize,
    pub(super) candidates: Candidates,
    /// If facts are replaced: for each fact the first slot that sees it, the first slot that sees it no longer, and its number.
    pub(super) runs: Vec<(u32, u32, u32)>,
    /// A bit for each slot whose newest fact ties with another one, and columns that were not read decide. Empty if there is no
    /// such slot.
    undecided: Vec<u64>,
}

impl NewestFacts {
    /// No fact in any of these slots.
    pub(super) fn new(slots: usize) -> Self {
        let written = vec![false; slots.div_ceil(SLOTS_PER_PAGE)];
        Self { newest: vec![NONE; slots], written, ..Self::default() }
    }

    /// The newest fact of a slot.
    pub(super) fn of(&self, slot: u32) -> Option<u32> {
        if self.written[slot as usize / SLOTS_PER_PAGE] { self.newest[slot as usize].checked_sub(1) } else { None }
    }

    pub(super) fn set(&mut self, slot: u32, fact: u32) {
        self.written[slot as usize / SLOTS_PER_PAGE] = true;
        self.newest[slot as usize] = fact + 1;
    }

    /// Makes room for so many slots.
    pub(super) fn resize(&mut self, slots: usize) {
        self.newest.resize(slots, NONE);
        self.written.resize(slots.div_ceil(SLOTS_PER_PAGE), false);
    }

    pub(super) fn is_undecided(&self, slot: u32) -> bool {
        self.undecided.get(slot as usize / 64).is_some_and(|bits| bits >> (slot % 64) & 1 == 1)
    }

    pub(super) fn set_undecided(&mut self, slot: u32, is_undecided: bool) {
        if !is_undecided && self.undecided.is_empty() {
            return;
        }
        if self.undecided.len() <= slot as usize / 64 {
            self.undecided.resize(self.newest.len().max(slot as usize + 1).div_ceil(64), 0);
        }
        let bit = 1 << (slot % 64);
        let bits = &mut self.undecided[slot as usize / 64];
        *bits = if is_undecided { *bits | bit } else { *bits & !bit };
    }

    pub(super) fn undecided_slots(&self) -> impl Iterator<Item = u32> {
        let words = self.undecided.iter().zip(0u32..).filter(|(bits, _)| **bits != 0);
        words.flat_map(|(bits, word)| (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit))
    }
}
