//! One task's part of a lookup: finds the newest fact of each slot in a chunk, and puts those that can win into the shared
//! state. Values are copied only of facts that are newer than all that other tasks have found so far.

use std::{cmp::Ordering, collections::HashSet, sync::Arc};

use arrow::array::{ArrayRef, DynComparator};

use super::{
    Lookup,
    candidates::{RecencyOrder, TieColumns, column_comparators},
    newest_facts::NONE,
};
use crate::{
    error::Result,
    temporal::{
        fact_chunk::FactChunk,
        operator::FactAccumulator,
        time_decoder::{FIRST_TICK, LAST_TICK},
    },
};

/// Candidates that win no slot are dropped once there are this many of them beyond twice the winners.
const SLACK_ROWS: usize = 1 << 19;

pub(super) struct LookupAccumulator {
    lookup: Arc<Lookup>,
    previous: PreviousFacts,
}

/// What an accumulator remembers of the facts that it has read.
enum PreviousFacts {
    /// The slot of an entity's previous fact, by the lower bits of the entity's number. The search for a slot begins there.
    Slots(Vec<u32>),
    /// If every entity has one slot: for each slot the event order of the newest fact, and the position of the newest fact in
    /// the present chunk, plus one.
    Newest { orders: Vec<i64>, winners: Vec<u32> },
}

impl LookupAccumulator {
    pub(super) fn new(lookup: Arc<Lookup>) -> Self {
        let previous = match lookup.index.single_instant() {
            None => PreviousFacts::Slots(vec![0; lookup.index.hint_table_len()]),
            Some(_) => PreviousFacts::Newest { orders: Vec::new(), winners: Vec::new() },
        };
        Self { lookup, previous }
    }
}

impl FactAccumulator for LookupAccumulator {
    fn update(&mut self, chunk: &FactChunk) -> Result<()> {
        let lookup = self.lookup.clone();
        if lookup.has_versions {
            return self.add_versions(chunk);
        }
        let Winners { mut facts, undecided } = match &mut self.previous {
            PreviousFacts::Slots(hints) => lookup.winners(chunk, hints)?,
            PreviousFacts::Newest { orders, winners } => lookup.single_slot_winners(chunk, orders, winners)?,
        };
        // Drop facts that have lost already, before any values are copied.
        {
            let mut shared = lookup.newest_facts();
            lookup.make_room(&mut shared)?;
            facts.retain(|&(slot, i)| {
                shared.of(slot).is_none_or(|newest| chunk.order()[i as usize] >= shared.candidates.order(newest))
            });
        }
        if let Some(first) = lookup.resolves.upgrade() {
            // Only facts that tie in an undecided slot are read again.
            let shared = first.newest_facts();
            let known = |i: u32| chunk.known.as_ref().map(|known| known[i as usize]);
            facts.retain(|&(slot, i)| {
                shared.is_undecided(slot)
                    && shared.of(slot).is_some_and(|newest| {
                        (chunk.order()[i as usize], known(i))
                            == (shared.candidates.order(newest), shared.candidates.known(newest))
                    })
            });
        }
        if facts.is_empty() {
            return Ok(());
        }
        let candidates = lookup.candidates(chunk, &facts.iter().map(|&(_, i)| i).collect::<Vec<_>>())?;

        let mut shared = lookup.newest_facts();
        let shared = &mut *shared;
        lookup.check_count(shared, facts.len())?;
        lookup.make_room(shared)?;
        let first = shared.candidates.push(candidates);
        let mut recency = RecencyOrder::default();
        for (fact, &(slot, _)) in (first..).zip(&facts) {
            let (order, is_undecided) = match shared.of(slot) {
                None => {
                    shared.occupied += 1;
                    (Ordering::Greater, false)
                }
                Some(newest) => recency.compare(&shared.candidates, &lookup.tie_columns, fact, newest)?,
            };
            if order.is_gt() {
                shared.set(slot, fact);
            }
            match order {
                _ if is_undecided => shared.set_undecided(slot, true),
                Ordering::Greater => shared.set_undecided(slot, undecided.contains(&slot)),
                Ordering::Equal if undecided.contains(&slot) => shared.set_undecided(slot, true),
                Ordering::Equal | Ordering::Less => {}
            }
        }
        if shared.candidates.len() > 2 * shared.occupied + SLACK_ROWS {
            lookup.compact(shared)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl LookupAccumulator {
    /// If facts are replaced, the newest fact of a slot may leave before the next one enters. So all facts that some slot sees
    /// are kept.
    fn add_versions(&mut self, chunk: &FactChunk) -> Result<()> {
        let lookup = &self.lookup;
        let mut seen: Vec<(u32, u32, u32)> = Vec::new();
        for i in 0..chunk.rows.len() {
            let run = lookup.index.slots_of(chunk.entities[i]);
            let enter = lookup.index.first_from(&run, chunk.visible_from[i], run.start);
            let leave = match &chunk.visible_until {
                Some(until) => lookup.index.first_after(&run, until[i], run.end),
                None => run.end,
            };
            if enter < leave {
                seen.push((enter, leave, i as u32));
            }
        }
        let candidates = lookup.candidates(chunk, &seen.iter().map(|&(.., i)| i).collect::<Vec<_>>())?;
        lookup.budget.grow(&lookup.subject, seen.len() * 40)?;
        let mut shared = lookup.newest_facts();
        lookup.check_count(&shared, seen.len())?;
        let first = shared.candidates.push(candidates);
        shared.runs.extend((first..).zip(&seen).map(|(fact, &(enter, leave, _))| (enter, leave, fact)));
        Ok(())
    }
}

/// The newest facts of a chunk.
struct Winners {
    /// Slots, and the position of the newest fact of each in the chunk.
    facts: Vec<(u32, u32)>,
    /// Those slots in which other columns decide which fact is the newest.
    undecided: HashSet<u32>,
}

/// Compares facts of a chunk.
struct ChunkOrder<'a> {
    chunk: &'a FactChunk,
    positions: &'a [usize],
    tie_columns: &'a TieColumns,
    /// Made when two facts tie for the first time.
    comparators: Option<Vec<DynComparator>>,
}

impl ChunkOrder<'_> {
    /// Which of two facts is newer, and whether other columns decide that.
    #[inline]
    fn compare(&mut self, a: usize, b: usize) -> Result<(Ordering, bool)> {
        let known = |i: usize| self.chunk.known.as_ref().map(|known| known[i]);
        let by_times = self.chunk.order()[a].cmp(&self.chunk.order()[b]).then_with(|| known(a).cmp(&known(b)));
        if by_times.is_ne() {
            return Ok((by_times, false));
        }
        let comparators = match &mut self.comparators {
            Some(comparators) => comparators,
            none => {
                let columns: Vec<ArrayRef> = self.positions.iter().map(|&p| self.chunk.batch.column(p).clone()).collect();
                none.insert(column_comparators(&columns, &columns)?)
            }
        };
        Ok(self.tie_columns.compare(comparators, self.chunk.rows[a] as usize, self.chunk.rows[b] as usize))
    }
}

impl Lookup {
    fn chunk_order<'a>(&'a self, chunk: &'a FactChunk) -> ChunkOrder<'a> {
        ChunkOrder { chunk, positions: &self.positions, tie_columns: &self.tie_columns, comparators: None }
    }

    /// The newest fact of each entity in a chunk, if it is not older than those before the chunk. Every entity has one slot.
    fn single_slot_winners(&self, chunk: &FactChunk, orders: &mut Vec<i64>, winners: &mut Vec<u32>) -> Result<Winners> {
        let slots = self.index.len();
        orders.resize(slots, FIRST_TICK);
        winners.resize(slots, NONE);
        let mut chunk_order = self.chunk_order(chunk);
        let mut touched: Vec<u32> = Vec::new();
        let mut undecided = HashSet::new();
        for (i, &slot) in chunk.entities.iter().enumerate() {
            let order = chunk.order()[i];
            let (known, winner) = (&mut orders[slot as usize], &mut winners[slot as usize]);
            if order < *known {
                continue;
            }
            if *winner == NONE {
                touched.push(slot);
            } else if order == *known {
                let (order, is_undecided) = chunk_order.compare(i, *winner as usize - 1)?;
                note_tie(&mut undecided, slot, order, is_undecided);
                if order.is_le() {
                    continue;
                }
            } else if !undecided.is_empty() {
                undecided.remove(&slot);
            }
            (*known, *winner) = (order, i as u32 + 1);
        }
        let winner = |slot: u32| (slot, std::mem::replace(&mut winners[slot as usize], NONE) - 1);
        Ok(Winners { facts: touched.into_iter().map(winner).collect(), undecided })
    }

    /// The newest fact of each slot in a chunk, slots ascending.
    fn winners(&self, chunk: &FactChunk, hints: &mut [u32]) -> Result<Winners> {
        let mask = hints.len() - 1;
        let mut facts: Vec<(u32, u32)> = Vec::new();
        let mut undecided = HashSet::new();
        let mut chunk_order = self.chunk_order(chunk);
        // An entity's facts are side by side, in the order in which they become visible. So a slot's facts are side by side
        // too.
        // No slot is remembered yet. All facts that become visible up to the tick `to` have the same slot.
        let (mut entity, mut end, mut slot, mut to) = (u32::MAX, 0, 0, FIRST_TICK);
        for i in 0..chunk.rows.len() {
            let visible_from = chunk.visible_from[i];
            if chunk.entities[i] == entity && visible_from <= to {
                if slot == end {
                    // No slot sees it.
                    continue;
                }
            } else {
                let run = self.index.slots_of(chunk.entities[i]);
                let remembered = chunk.entities[i] as usize & mask;
                let hint = if chunk.entities[i] == entity { slot } else { hints[remembered] };
                (entity, end) = (chunk.entities[i], run.end);
                slot = self.index.first_from(&run, visible_from, hint);
                to = self.index.preceding_ticks(&run, slot).1.unwrap_or(LAST_TICK);
                hints[remembered] = slot;
                if slot < end {
                    facts.push((slot, i as u32));
                }
                continue;
            }
            let Some((_, newest)) = facts.last_mut() else { continue };
            let (order, is_undecided) = chunk_order.compare(i, *newest as usize)?;
            note_tie(&mut undecided, slot, order, is_undecided);
            if order.is_gt() {
                *newest = i as u32;
            }
        }
        Ok(Winners { facts, undecided })
    }
}

/// Notes whether a slot is undecided, after a fact was compared with the slot's newest one.
#[inline]
fn note_tie(undecided: &mut HashSet<u32>, slot: u32, order: Ordering, is_undecided: bool) {
    if is_undecided {
        undecided.insert(slot);
    } else if order.is_gt() && !undecided.is_empty() {
        undecided.remove(&slot);
    }
}
