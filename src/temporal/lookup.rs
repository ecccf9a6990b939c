//! Looking up: for each slot of the spine the newest fact that becomes visible between it and the slot before.
//! It keeps a fact's values only while that fact wins a slot; the answers are the running newest of an entity's slots.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrow::{
    array::{Array, ArrayRef, DynComparator, UInt32Array, make_comparator, new_null_array},
    compute::{SortOptions, interleave, take},
};

use super::{
    exec::{Answering, Answers, Budget, Chunk, SideParts, Taking},
    node::{LookupAsk, fact_field},
    slots::Slots,
};
use crate::error::Result;

/// No fact: zero, so that memory for slots that no fact ever reaches need not be touched.
const NONE: u64 = 0;
/// Entities whose last slot a task remembers, at most.
const REMEMBERED: usize = 1 << 17;
/// Kept facts beyond twice those that win are dropped when there are so many.
const SLACK_ROWS: usize = 1 << 19;
/// Rows in a batch of kept facts, at most.
const KEPT_ROWS: usize = 1 << 20;
/// Comparators of pairs of batches that are remembered.
const COMPARATORS: usize = 4_096;

pub(crate) fn answering(ask: &LookupAsk, side: &SideParts) -> Result<Arc<dyn Answering>> {
    let mut positions = side.tie_break.clone();
    for column in &ask.columns {
        fact_field(&side.place, &side.facts_schema, &column.fact)?;
        positions.push(side.facts_schema.index_of(&column.fact)?);
    }
    let slots = side.slots.clone();
    let slots_kept = if side.has_versions { 0 } else { slots.len() };
    side.budget.grow(&side.place, slots_kept * 16)?;
    Ok(Arc::new(Lookup {
        place: side.place.clone(),
        facts_types: positions.iter().map(|&p| side.facts_schema.field(p).data_type().clone()).collect(),
        positions,
        ties: side.tie_break.len(),
        max_age: ask.max_age_us.map(|age| side.unit.ticks(age)),
        has_versions: side.has_versions,
        tasks: side.tasks,
        budget: side.budget.clone(),
        found: Mutex::new(Found { best: vec![NONE; slots_kept], best_rank: vec![0; slots_kept], ..Found::default() }),
        slots,
    }))
}

struct Lookup {
    place: String,
    slots: Arc<Slots>,
    /// Tie-breaks, then looked-up columns: positions in the facts.
    positions: Vec<usize>,
    facts_types: Vec<arrow::datatypes::DataType>,
    ties: usize,
    max_age: Option<i64>,
    has_versions: bool,
    tasks: usize,
    budget: Arc<Budget>,
    found: Mutex<Found>,
}

/// What all tasks have found so far. A reference is a batch of kept facts (upper 32 bits) and a row in it.
#[derive(Default)]
struct Found {
    /// The newest fact of each slot, and the rank of its event time.
    best: Vec<u64>,
    best_rank: Vec<u64>,
    kept: Vec<Kept>,
    kept_rows: usize,
    kept_bytes: usize,
    live: usize,
    /// Where facts are replaced: the slots that see a fact, and the fact.
    runs: Vec<(u32, u32, u64)>,
}

/// Facts that win, or won, a slot.
struct Kept {
    /// Event times in ticks, where a max age asks for them.
    event: Vec<i64>,
    /// What orders facts by event time and known-at.
    order: Vec<i64>,
    known: Vec<i64>,
    /// Tie-breaks, then looked-up columns.
    columns: Vec<ArrayRef>,
}

fn reference(batch: usize, row: usize) -> u64 {
    ((batch as u64 + 1) << 32) | row as u64
}

fn parts(reference: u64) -> (usize, usize) {
    ((reference >> 32) as usize - 1, reference as u32 as usize)
}

/// A time as a number of the same order whose smallest is zero.
fn rank(time: i64) -> u64 {
    time as u64 ^ (1 << 63)
}

impl Kept {
    fn bytes(&self) -> usize {
        (self.event.len() + self.order.len() + self.known.len()) * 8
            + self.columns.iter().map(|c| c.get_array_memory_size()).sum::<usize>()
    }

    /// By event time and known-at alone.
    fn compare_times(&self, row: usize, other: &Kept, other_row: usize) -> Ordering {
        self.order[row].cmp(&other.order[other_row]).then_with(|| self.known.get(row).cmp(&other.known.get(other_row)))
    }
}

/// Which of two kept facts is the newer one; remembers how to compare the values of two batches.
#[derive(Default)]
struct Newer {
    comparators: HashMap<(usize, usize), Vec<DynComparator>>,
}

impl Newer {
    fn compare(&mut self, kept: &[Kept], a: u64, b: u64) -> Result<Ordering> {
        let ((batch_a, row_a), (batch_b, row_b)) = (parts(a), parts(b));
        let (left, right) = (&kept[batch_a], &kept[batch_b]);
        let by_time = left.compare_times(row_a, right, row_b);
        if by_time.is_ne() {
            return Ok(by_time);
        }
        if self.comparators.len() > COMPARATORS {
            self.comparators.clear();
        }
        let comparators = match self.comparators.entry((batch_a, batch_b)) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => new.insert(comparators(&left.columns, &right.columns)?),
        };
        Ok(by_values(comparators, row_a, row_b))
    }
}

/// Larger is newer; NULL is the smallest value, and floats are ordered totally.
fn comparators(left: &[ArrayRef], right: &[ArrayRef]) -> Result<Vec<DynComparator>> {
    let options = SortOptions { descending: false, nulls_first: true };
    left.iter().zip(right).map(|(a, b)| Ok(make_comparator(a, b, options)?)).collect()
}

fn by_values(comparators: &[DynComparator], a: usize, b: usize) -> Ordering {
    comparators.iter().map(|compare| compare(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

impl Lookup {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values of some facts of a chunk, given by their places in its vectors.
    fn keep(&self, chunk: &Chunk, places: &[u32]) -> Result<Kept> {
        let rows: UInt32Array = places.iter().map(|&i| chunk.rows[i as usize]).collect::<Vec<u32>>().into();
        let columns = self.positions.iter().map(|&p| Ok(take(chunk.batch.column(p), &rows, None)?));
        let pick = |times: &[i64]| places.iter().map(|&i| times[i as usize]).collect();
        Ok(Kept {
            event: if self.max_age.is_some() { pick(&chunk.event) } else { Vec::new() },
            order: pick(chunk.order()),
            known: chunk.known.as_deref().map_or_else(Vec::new, pick),
            columns: columns.collect::<Result<_>>()?,
        })
    }

    /// Drops the facts that no longer win.
    fn compact(&self, found: &mut Found) -> Result<()> {
        let mut winners: Vec<u32> = (0..found.best.len() as u32).filter(|&slot| found.best[slot as usize] != NONE).collect();
        let mut fresh = Vec::new();
        while !winners.is_empty() {
            let rest = winners.split_off(winners.len().min(KEPT_ROWS));
            let places: Vec<(usize, usize)> = winners.iter().map(|&slot| parts(found.best[slot as usize])).collect();
            let columns = (0..self.positions.len()).map(|c| {
                let arrays: Vec<&dyn Array> = found.kept.iter().map(|kept| kept.columns[c].as_ref()).collect();
                Ok(interleave(&arrays, &places)?)
            });
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let has_known = found.kept.iter().any(|kept| !kept.known.is_empty());
            let pick = |wanted: bool, times: fn(&Kept) -> &[i64]| -> Vec<i64> {
                if wanted { places.iter().map(|&(batch, row)| times(&found.kept[batch])[row]).collect() } else { Vec::new() }
            };
            let event = pick(self.max_age.is_some(), |kept| &kept.event);
            let order = pick(true, |kept| &kept.order);
            let known = pick(has_known, |kept| &kept.known);
            for (row, &slot) in winners.iter().enumerate() {
                found.best[slot as usize] = reference(fresh.len(), row);
            }
            // Slots that follow still point into the old batches.
            fresh.push(Kept { event, order, known, columns });
            winners = rest;
        }
        let bytes: usize = fresh.iter().map(Kept::bytes).sum();
        self.budget.grow(&self.place, bytes)?;
        self.budget.shrink(found.kept_bytes);
        found.kept = fresh;
        (found.kept_bytes, found.kept_rows) = (bytes, found.live);
        Ok(())
    }
}

impl Answering for Lookup {
    fn task(self: Arc<Self>) -> Box<dyn Taking> {
        let size = self.slots.entities().next_power_of_two().min(REMEMBERED);
        Box::new(Task { hints: vec![0; size], lookup: self })
    }

    fn answer(&self) -> Result<Arc<dyn Answers>> {
        let mut found = std::mem::take(&mut *self.found());
        let mut best = std::mem::take(&mut found.best);
        if self.has_versions {
            best = vec![NONE; self.slots.len()];
            self.sweep_versions(&found, &mut best)?;
        } else {
            self.sweep(&found, &mut best)?;
        }
        // What a row without a slot gets.
        best.push(NONE);
        let columns = (self.ties..self.positions.len()).map(|c| {
            let nothing = new_null_array(&self.facts_types[c], 1);
            std::iter::once(nothing).chain(found.kept.iter().map(|kept| kept.columns[c].clone())).collect()
        });
        Ok(Arc::new(Newest { best, slots: self.slots.clone(), columns: columns.collect() }))
    }
}

impl Lookup {
    fn is_too_old(&self, slot: usize, fact: u64, kept: &[Kept]) -> bool {
        let (batch, row) = parts(fact);
        self.max_age.is_some_and(|age| kept[batch].event[row] < self.slots.instants()[slot].saturating_sub(age))
    }

    /// From the newest fact of each slot's own to the newest that the slot sees; entities in runs, which tasks share out.
    fn sweep(&self, found: &Found, best: &mut [u64]) -> Result<()> {
        let per_task = best.len().div_ceil(self.tasks).max(1);
        let mut runs = Vec::new();
        let (mut rest, mut first, mut taken) = (best, 0u32, 0);
        for entity in 0..self.slots.entities() as u32 {
            let end = self.slots.of(entity).end as usize;
            if end - taken >= per_task || entity as usize + 1 == self.slots.entities() {
                let (own, others) = std::mem::take(&mut rest).split_at_mut(end - taken);
                runs.push((first..entity + 1, taken, own));
                (rest, first, taken) = (others, entity + 1, end);
            }
        }
        std::thread::scope(|scope| {
            let tasks: Vec<_> = runs
                .into_iter()
                .map(|(entities, offset, best)| scope.spawn(move || self.sweep_run(entities, found, offset, best)))
                .collect();
            tasks.into_iter().try_for_each(|task| match task.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    fn sweep_run(&self, entities: Range<u32>, found: &Found, offset: usize, best: &mut [u64]) -> Result<()> {
        let kept = &found.kept;
        let mut newer = Newer::default();
        for entity in entities {
            let (mut newest, mut newest_rank) = (NONE, 0);
            for slot in self.slots.of(entity) {
                let slot = slot as usize;
                let (challenger, rank) = (best[slot - offset], found.best_rank[slot]);
                let is_newer = challenger != NONE
                    && match rank.cmp(&newest_rank) {
                        _ if newest == NONE => true,
                        Ordering::Equal => newer.compare(kept, challenger, newest)?.is_gt(),
                        by_time => by_time.is_gt(),
                    };
                if is_newer {
                    (newest, newest_rank) = (challenger, rank);
                }
                let is_seen = newest != NONE && !self.is_too_old(slot, newest, kept);
                best[slot - offset] = if is_seen { newest } else { NONE };
            }
        }
        Ok(())
    }
}

impl Lookup {
    /// The newest fact that each slot sees, where facts leave when they are replaced.
    fn sweep_versions(&self, found: &Found, best: &mut [u64]) -> Result<()> {
        let mut newer = Newer::default();
        let mut by_age: Vec<usize> = (0..found.runs.len()).collect();
        let mut failed = None;
        by_age.sort_by(|&a, &b| {
            newer.compare(&found.kept, found.runs[a].2, found.runs[b].2).unwrap_or_else(|e| {
                failed = Some(e);
                Ordering::Equal
            })
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let mut ranked: Vec<(u32, u32, u32, u64)> = vec![(0, 0, 0, 0); by_age.len()];
        for (rank, &i) in by_age.iter().enumerate() {
            let (enter, leave, fact) = found.runs[i];
            ranked[i] = (enter, leave, rank as u32, fact);
        }
        ranked.sort_unstable();
        let mut next = ranked.iter().peekable();
        let mut visible: BinaryHeap<(u32, u32, u64)> = BinaryHeap::new();
        for entity in 0..self.slots.entities() as u32 {
            visible.clear();
            for slot in self.slots.of(entity) {
                while let Some((_, leave, rank, fact)) = next.next_if(|(enter, ..)| *enter <= slot) {
                    visible.push((*rank, *leave, *fact));
                }
                while visible.peek().is_some_and(|(_, leave, _)| *leave <= slot) {
                    visible.pop();
                }
                if let Some(&(_, _, fact)) = visible.peek()
                    && !self.is_too_old(slot as usize, fact, &found.kept)
                {
                    best[slot as usize] = fact;
                }
            }
        }
        Ok(())
    }
}

struct Task {
    lookup: Arc<Lookup>,
    /// The slot that an entity's last fact fell into, by the lower bits of its number: where to look first.
    hints: Vec<u32>,
}

impl Taking for Task {
    fn take_in(&mut self, chunk: &Chunk) -> Result<()> {
        let lookup = self.lookup.clone();
        if lookup.has_versions {
            return self.take_versions(chunk);
        }
        let mut winners = self.winners(chunk)?;
        // A first look, so that values are taken only of facts that can still win.
        {
            let found = lookup.found();
            winners.retain(|&(slot, row)| rank(chunk.order()[row as usize]) >= found.best_rank[slot as usize]);
        }
        if winners.is_empty() {
            return Ok(());
        }
        let kept = lookup.keep(chunk, &winners.iter().map(|&(_, row)| row).collect::<Vec<_>>())?;
        let bytes = kept.bytes();
        lookup.budget.grow(&lookup.place, bytes)?;

        let mut found = lookup.found();
        let found = &mut *found;
        let batch = found.kept.len();
        found.kept.push(kept);
        found.kept_rows += winners.len();
        found.kept_bytes += bytes;
        let mut newer = Newer::default();
        for (row, &(slot, place)) in winners.iter().enumerate() {
            let (best, fact) = (found.best[slot as usize], reference(batch, row));
            let own = rank(chunk.order()[place as usize]);
            let is_newer = match own.cmp(&found.best_rank[slot as usize]) {
                _ if best == NONE => true,
                Ordering::Equal => newer.compare(&found.kept, fact, best)?.is_gt(),
                by_time => by_time.is_gt(),
            };
            if is_newer {
                found.live += usize::from(best == NONE);
                found.best[slot as usize] = fact;
                found.best_rank[slot as usize] = own;
            }
        }
        if found.kept_rows > 2 * found.live + SLACK_ROWS {
            lookup.compact(found)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Task {
    /// The slots that facts of a chunk fall into, ascending, and the newest fact in each.
    fn winners(&mut self, chunk: &Chunk) -> Result<Vec<(u32, u32)>> {
        let Self { lookup, hints } = self;
        let mask = hints.len() - 1;
        let mut winners: Vec<(u32, u32)> = Vec::new();
        let mut values: Option<Vec<DynComparator>> = None;
        let known = |i: usize| chunk.known.as_ref().map(|known| known[i]);
        // The facts of an entity lie side by side in the order in which they become visible: a slot's facts do too.
        let (mut entity, mut end, mut slot, mut to) = (u32::MAX, 0, 0, i64::MIN);
        for i in 0..chunk.rows.len() {
            let visible = chunk.visible[i];
            if chunk.entities[i] == entity && visible < to {
                if slot == end {
                    // Nobody sees a fact beyond the last slot.
                    continue;
                }
            } else {
                let run = lookup.slots.of(chunk.entities[i]);
                let place = chunk.entities[i] as usize & mask;
                let hint = if chunk.entities[i] == entity { slot } else { hints[place] };
                (entity, end) = (chunk.entities[i], run.end);
                slot = lookup.slots.first_after(&run, visible, hint);
                to = lookup.slots.reach(&run, slot).1;
                hints[place] = slot;
                if slot < end {
                    winners.push((slot, i as u32));
                }
                continue;
            }
            let Some((_, best)) = winners.last_mut() else { continue };
            let rival = *best as usize;
            let mut order = chunk.order()[i].cmp(&chunk.order()[rival]).then_with(|| known(i).cmp(&known(rival)));
            if order.is_eq() {
                let comparators = match &mut values {
                    Some(known) => known,
                    none => {
                        let columns: Vec<ArrayRef> = lookup.positions.iter().map(|&p| chunk.batch.column(p).clone()).collect();
                        none.insert(comparators(&columns, &columns)?)
                    }
                };
                order = by_values(comparators, chunk.rows[i] as usize, chunk.rows[rival] as usize);
            }
            if order.is_gt() {
                *best = i as u32;
            }
        }
        Ok(winners)
    }

    /// Where facts are replaced the newest of a slot may leave before the next comes: all that are seen are kept.
    fn take_versions(&mut self, chunk: &Chunk) -> Result<()> {
        let slots = &self.lookup.slots;
        let mut seen: Vec<(u32, u32, u32)> = Vec::new();
        for i in 0..chunk.rows.len() {
            let run = slots.of(chunk.entities[i]);
            let enter = slots.first_after(&run, chunk.visible[i], run.start);
            let leave = match &chunk.until {
                Some(until) => slots.first_after(&run, until[i], run.end),
                None => run.end,
            };
            if enter < leave {
                seen.push((enter, leave, i as u32));
            }
        }
        let kept = self.lookup.keep(chunk, &seen.iter().map(|&(.., i)| i).collect::<Vec<_>>())?;
        self.lookup.budget.grow(&self.lookup.place, kept.bytes() + seen.len() * 40)?;
        let mut found = self.lookup.found();
        let batch = found.kept.len();
        found.kept.push(kept);
        found.runs.extend(seen.iter().enumerate().map(|(row, &(enter, leave, _))| (enter, leave, reference(batch, row))));
        Ok(())
    }
}

/// The newest fact that each slot sees.
struct Newest {
    best: Vec<u64>,
    slots: Arc<Slots>,
    /// For each looked-up column: NULL, then the batches of kept facts.
    columns: Vec<Vec<ArrayRef>>,
}

impl Answers for Newest {
    fn columns(&self, rows: Range<usize>) -> Result<Vec<ArrayRef>> {
        let places: Vec<(usize, usize)> = self.slots.slot_of_row()[rows]
            .iter()
            .map(|&slot| match self.best[slot as usize] {
                NONE => (0, 0),
                fact => {
                    let (batch, row) = parts(fact);
                    (batch + 1, row)
                }
            })
            .collect();
        let column = |batches: &Vec<ArrayRef>| {
            let batches: Vec<&dyn Array> = batches.iter().map(AsRef::as_ref).collect();
            Ok(interleave(&batches, &places)?)
        };
        self.columns.iter().map(column).collect()
    }
}
