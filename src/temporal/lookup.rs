//! Looking up: for each slot of the spine the newest fact that becomes visible between it and the slot before.
//! It keeps a fact's values only while that fact wins a slot; the answers are the running newest of an entity's slots.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashSet},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use arrow::{
    array::{ArrayRef, DynComparator, UInt32Array},
    buffer::{NullBuffer, ScalarBuffer},
    compute::take,
};

use super::{
    budget::Budget,
    candidates::{CandidateBatch, CandidateColumns, Candidates, RecencyOrder, TieColumns, comparators},
    fact_input::{FactAccumulator, FactChunk, OperatorContext, OperatorOutput, OutputMemory, TemporalOperator},
    node::{LookupSpec, fact_position},
    spine_index::SpineIndex,
};
use crate::error::{Error, Result};

/// No fact: zero, so that memory for slots that no fact ever reaches need not be touched. Other numbers are those of kept
/// facts, plus one.
const NONE: u32 = 0;
/// Slots whose numbers of facts share a page of memory.
const SLOTS_IN_PAGE: usize = 1_024;
/// Kept facts beyond twice those that win are dropped when there are so many.
const SLACK_ROWS: usize = 1 << 19;

pub(crate) fn operator(spec: &LookupSpec, context: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
    let mut positions = context.tie_break.clone();
    for column in &spec.columns {
        positions.push(fact_position(&context.subject, &context.facts_schema, &column.fact)?);
    }
    let ties = context.tie_break.len();
    let place_of = |name: &String| (ties..positions.len()).find(|&i| context.facts_schema.field(positions[i]).name() == name);
    let tie_columns = match &context.deciding_columns {
        None => TieColumns { decisive: (0..positions.len()).collect(), open: Vec::new() },
        Some(whole) => {
            let first: Vec<usize> = whole.iter().map_while(place_of).collect();
            // What was computed of a fact decides nothing, and tells all the same that two facts differ.
            let open = (ties..positions.len()).filter(|position| !first.contains(position)).collect();
            TieColumns { decisive: (0..ties).chain(first).collect(), open }
        }
    };
    let max_age = spec.max_age_us.map(|age| context.unit.ticks(age));
    Ok(Arc::new(Lookup::new(context, positions, tie_columns, max_age, Weak::new())?))
}

struct Lookup {
    subject: String,
    index: Arc<SpineIndex>,
    /// Tie-breaks, then looked-up columns: positions in the facts, and names.
    positions: Vec<usize>,
    names: Vec<String>,
    facts_types: Vec<arrow::datatypes::DataType>,
    ties: usize,
    tie_columns: TieColumns,
    /// Columns of the whole fact, in the order in which they decide.
    whole: Vec<String>,
    max_age: Option<i64>,
    has_versions: bool,
    tasks: usize,
    budget: Arc<Budget>,
    found: Mutex<NewestFacts>,
    /// Who looks again at what is left open here; and whose open slots are looked at here.
    again: OnceLock<Arc<Lookup>>,
    of: Weak<Lookup>,
}

/// What all tasks have found so far.
#[derive(Default)]
struct NewestFacts {
    /// The newest fact of each slot: its number, plus one.
    best: Vec<u32>,
    /// Which pages of them hold a fact: to read one that was never written costs as much as to write it.
    written: Vec<bool>,
    live: usize,
    candidates: Candidates,
    /// Where facts are replaced: the slots that see a fact, and its number.
    runs: Vec<(u32, u32, u32)>,
    /// A bit for each slot whose newest fact has a rival, and columns that are not there decide; none where no slot has one.
    open: Vec<u64>,
}

impl NewestFacts {
    fn is_open(&self, slot: u32) -> bool {
        self.open.get(slot as usize / 64).is_some_and(|bits| bits >> (slot % 64) & 1 == 1)
    }

    fn set_open(&mut self, slot: u32, is_open: bool) {
        if !is_open && self.open.is_empty() {
            return;
        }
        if self.open.len() <= slot as usize / 64 {
            self.open.resize(self.best.len().max(slot as usize + 1).div_ceil(64), 0);
        }
        let bit = 1 << (slot % 64);
        let bits = &mut self.open[slot as usize / 64];
        *bits = if is_open { *bits | bit } else { *bits & !bit };
    }

    fn open_slots(&self) -> impl Iterator<Item = u32> {
        let words = self.open.iter().zip(0u32..).filter(|(bits, _)| **bits != 0);
        words.flat_map(|(bits, word)| (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit))
    }

    /// The newest fact of a slot so far.
    fn best(&self, slot: u32) -> Option<u32> {
        if self.written[slot as usize / SLOTS_IN_PAGE] { self.best[slot as usize].checked_sub(1) } else { None }
    }

    fn set_best(&mut self, slot: u32, fact: u32) {
        self.written[slot as usize / SLOTS_IN_PAGE] = true;
        self.best[slot as usize] = fact + 1;
    }

    /// Makes room for so many slots.
    fn resize(&mut self, slots: usize) {
        self.best.resize(slots, NONE);
        self.written.resize(slots.div_ceil(SLOTS_IN_PAGE), false);
    }
}

impl Lookup {
    fn new(
        context: &OperatorContext,
        positions: Vec<usize>,
        tie_columns: TieColumns,
        max_age: Option<i64>,
        of: Weak<Lookup>,
    ) -> Result<Self> {
        let index = context.index.clone();
        let slots_kept = if context.has_versions { 0 } else { index.len() };
        context.budget.grow(&context.subject, slots_kept * 4)?;
        let fields = || positions.iter().map(|&p| context.facts_schema.field(p));
        Ok(Self {
            subject: context.subject.clone(),
            names: fields().map(|field| field.name().clone()).collect(),
            facts_types: fields().map(|field| field.data_type().clone()).collect(),
            positions,
            ties: context.tie_break.len(),
            tie_columns,
            whole: context.deciding_columns.clone().unwrap_or_default(),
            max_age,
            has_versions: context.has_versions,
            tasks: context.tasks,
            budget: context.budget.clone(),
            found: Mutex::new(NewestFacts {
                best: vec![NONE; slots_kept],
                written: vec![false; slots_kept.div_ceil(SLOTS_IN_PAGE)],
                ..NewestFacts::default()
            }),
            index,
            again: OnceLock::new(),
            of,
        })
    }

    fn found(&self) -> MutexGuard<'_, NewestFacts> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values of some facts of a chunk, given by their places in its vectors.
    fn facts(&self, chunk: &FactChunk, places: &[u32]) -> Result<CandidateBatch> {
        let rows: UInt32Array = places.iter().map(|&i| chunk.rows[i as usize]).collect::<Vec<u32>>().into();
        let columns = self.positions.iter().map(|&p| Ok(take(chunk.batch.column(p), &rows, None)?));
        let pick = |times: &[i64]| places.iter().map(|&i| times[i as usize]).collect();
        let facts = CandidateBatch {
            event: if self.max_age.is_some() { pick(&chunk.event) } else { Vec::new() },
            order: pick(chunk.age.as_deref().unwrap_or_else(|| chunk.order())),
            known: chunk.known.as_deref().filter(|_| chunk.age.is_none()).map_or_else(Vec::new, pick),
            columns: columns.collect::<Result<_>>()?,
        };
        self.budget.grow(&self.subject, facts.bytes())?;
        Ok(facts)
    }

    /// Refuses more facts than can be numbered.
    fn check_count(&self, found: &NewestFacts, more: usize) -> Result<()> {
        if found.candidates.len() + more < u32::MAX as usize {
            return Ok(());
        }
        let reason = format!("holds more than {} facts at once; ask about fewer rows at once", u32::MAX - 1);
        Err(Error::Limit { subject: format!("the lookup in {}", self.subject), reason })
    }

    /// Drops the facts that no longer win.
    fn compact(&self, found: &mut NewestFacts) -> Result<()> {
        let winners: Vec<u32> = found.best.iter().filter_map(|&best| best.checked_sub(1)).collect();
        let for_a_column = found.candidates.column_bytes();
        let old = std::mem::take(&mut found.candidates);
        let old_bytes = old.bytes;
        self.budget.grow(&self.subject, for_a_column)?;
        found.candidates = old.gathered(&winners)?;
        self.budget.shrink(old_bytes + for_a_column);
        self.budget.grow(&self.subject, found.candidates.bytes)?;
        let winning = found.best.iter_mut().filter(|best| **best != NONE);
        for (best, number) in winning.zip(1..) {
            *best = number;
        }
        Ok(())
    }
}

impl TemporalOperator for Lookup {
    fn accumulator(self: Arc<Self>) -> Box<dyn FactAccumulator> {
        let places = match self.index.single_instant() {
            None => Places::Hints(vec![0; self.index.hint_table_len()]),
            Some(_) => Places::Newest { orders: Vec::new(), winners: Vec::new() },
        };
        Box::new(LookupAccumulator { places, lookup: self })
    }

    fn undecided_ties(&self) -> Option<(i64, i64)> {
        let found = self.found();
        let orders = found.open_slots().filter_map(|slot| found.best(slot)).map(|fact| found.candidates.order(fact));
        orders.fold(None, |range, order| match range {
            None => Some((order, order)),
            Some((first, last)) => Some((order.min(first), order.max(last))),
        })
    }

    fn tie_resolver(self: Arc<Self>, context: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        let mut names: Vec<&String> = self.names[..self.ties].iter().chain(&self.whole).collect();
        let decisive = (0..names.len()).collect();
        let others: Vec<&String> = self.names[self.ties..].iter().filter(|name| !names.contains(name)).collect();
        names.extend(others);
        let find = |name: &String| fact_position(&context.subject, &context.facts_schema, name);
        let positions = names.into_iter().map(find).collect::<Result<Vec<_>>>()?;
        let tie_columns = TieColumns { decisive, open: Vec::new() };
        let again = Arc::new(Lookup::new(context, positions, tie_columns, self.max_age, Arc::downgrade(&self))?);
        Ok(self.again.get_or_init(|| again).clone())
    }

    fn output(&self) -> Result<Arc<dyn OperatorOutput>> {
        let mut found = std::mem::take(&mut *self.found());
        if let Some(again) = self.again.get() {
            self.settle(&mut found, again)?;
        }
        if !self.has_versions && found.candidates.len() > found.live + found.live / 2 {
            self.compact(&mut found)?;
        }
        let bytes = found.candidates.bytes + found.best.len() * 4;
        self.make_room(&mut found)?;
        let mut best = std::mem::take(&mut found.best);
        if self.has_versions {
            best = vec![NONE; self.index.len()];
            self.sweep_versions(&found, &mut best)?;
        } else {
            self.sweep(&found, &mut best)?;
        }
        // What a row without a slot gets.
        best.push(NONE);
        let columns = found.candidates.into_columns(self.ties, &self.facts_types)?;
        let held = OutputMemory::of(bytes, self.facts_types[self.ties..].iter());
        Ok(Arc::new(LookupOutput { best, columns, held }))
    }
}

impl Lookup {
    /// The winners of open slots are those of the second look.
    fn settle(&self, found: &mut NewestFacts, again: &Lookup) -> Result<()> {
        let settled = std::mem::take(&mut *again.found());
        let best = |slot: u32| settled.best.get(slot as usize).and_then(|best| best.checked_sub(1));
        let (slots, winners): (Vec<u32>, Vec<u32>) = found.open_slots().filter_map(|slot| Some((slot, best(slot)?))).unzip();
        self.check_count(found, winners.len())?;
        let column_bytes = settled.candidates.bytes;
        let candidates = settled.candidates.gathered(&winners)?;
        self.budget.shrink(column_bytes);
        self.budget.grow(&self.subject, candidates.bytes)?;
        let column = |name: &String| again.names.iter().position(|known| known == name);
        let columns: Vec<usize> = self.names.iter().filter_map(column).collect();
        let first = found.candidates.append(candidates, &columns);
        for (slot, fact) in slots.into_iter().zip(first..) {
            found.set_best(slot, fact);
        }
        Ok(())
    }

    fn is_too_old(&self, slot: usize, fact: u32, candidates: &Candidates) -> bool {
        self.max_age.is_some_and(|age| candidates.event(fact) < self.index.instant(slot).saturating_sub(age))
    }

    /// From the newest fact of each slot's own to the newest that the slot sees; entities in runs, which tasks share out.
    fn sweep(&self, found: &NewestFacts, best: &mut [u32]) -> Result<()> {
        let per_task = best.len().div_ceil(self.tasks).max(1);
        let mut runs = Vec::new();
        let (mut rest, mut first, mut taken) = (best, 0u32, 0);
        for entity in 0..self.index.entities() as u32 {
            let end = self.index.slots_of(entity).end as usize;
            if end - taken >= per_task || entity as usize + 1 == self.index.entities() {
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

    fn sweep_run(&self, entities: Range<u32>, found: &NewestFacts, offset: usize, best: &mut [u32]) -> Result<()> {
        let candidates = &found.candidates;
        let mut newer = RecencyOrder::default();
        for entity in entities {
            let mut newest: Option<u32> = None;
            for slot in self.index.slots_of(entity) {
                let slot = slot as usize;
                if let Some(challenger) = best[slot - offset].checked_sub(1) {
                    let is_newer = match newest {
                        None => true,
                        Some(newest) => newer.compare(candidates, &self.tie_columns, challenger, newest)?.0.is_gt(),
                    };
                    if is_newer {
                        newest = Some(challenger);
                    }
                }
                let seen = newest.filter(|&fact| !self.is_too_old(slot, fact, candidates));
                best[slot - offset] = seen.map_or(NONE, |fact| fact + 1);
            }
        }
        Ok(())
    }

    /// The newest fact that each slot sees, where facts leave when they are replaced.
    fn sweep_versions(&self, found: &NewestFacts, best: &mut [u32]) -> Result<()> {
        let mut newer = RecencyOrder::default();
        let mut by_age: Vec<usize> = (0..found.runs.len()).collect();
        let mut failed = None;
        by_age.sort_by(|&a, &b| {
            let order = newer.compare(&found.candidates, &self.tie_columns, found.runs[a].2, found.runs[b].2);
            order.map_or_else(
                |e| {
                    failed = Some(e);
                    Ordering::Equal
                },
                |(order, _)| order,
            )
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let mut ranked: Vec<(u32, u32, u32, u32)> = vec![(0, 0, 0, 0); by_age.len()];
        for (rank, &i) in by_age.iter().enumerate() {
            let (enter, leave, fact) = found.runs[i];
            ranked[i] = (enter, leave, rank as u32, fact);
        }
        ranked.sort_unstable();
        let mut next = ranked.iter().peekable();
        let mut visible: BinaryHeap<(u32, u32, u32)> = BinaryHeap::new();
        for entity in 0..self.index.entities() as u32 {
            visible.clear();
            for slot in self.index.slots_of(entity) {
                while let Some((_, leave, rank, fact)) = next.next_if(|(enter, ..)| *enter <= slot) {
                    visible.push((*rank, *leave, *fact));
                }
                while visible.peek().is_some_and(|(_, leave, _)| *leave <= slot) {
                    visible.pop();
                }
                if let Some(&(_, _, fact)) = visible.peek()
                    && !self.is_too_old(slot as usize, fact, &found.candidates)
                {
                    best[slot as usize] = fact + 1;
                }
            }
        }
        Ok(())
    }
}

struct LookupAccumulator {
    lookup: Arc<Lookup>,
    places: Places,
}

/// What a task remembers of the facts that it has taken in.
enum Places {
    /// The slot that an entity's last fact fell into, by the lower bits of its number: where to look first.
    Hints(Vec<u32>),
    /// Where every entity has one slot: the order of the newest fact of each, and the place of its winner in the present
    /// chunk, plus one.
    Newest { orders: Vec<i64>, winners: Vec<u32> },
}

impl FactAccumulator for LookupAccumulator {
    fn update(&mut self, chunk: &FactChunk) -> Result<()> {
        let lookup = self.lookup.clone();
        if lookup.has_versions {
            return self.take_versions(chunk);
        }
        let (mut winners, open) = match &mut self.places {
            Places::Hints(hints) => lookup.winners(chunk, hints)?,
            Places::Newest { orders, winners } => lookup.single_winners(chunk, orders, winners)?,
        };
        // A first look, so that values are taken only of facts that can still win.
        {
            let mut found = lookup.found();
            lookup.make_room(&mut found)?;
            winners.retain(|&(slot, row)| {
                found.best(slot).is_none_or(|best| chunk.order()[row as usize] >= found.candidates.order(best))
            });
        }
        if let Some(first) = lookup.of.upgrade() {
            // A second look is at the rivals for open slots alone.
            let found = first.found();
            let known = |row: u32| chunk.known.as_ref().map(|known| known[row as usize]);
            winners.retain(|&(slot, row)| {
                found.is_open(slot)
                    && found.best(slot).is_some_and(|best| {
                        (chunk.order()[row as usize], known(row)) == (found.candidates.order(best), found.candidates.known(best))
                    })
            });
        }
        if winners.is_empty() {
            return Ok(());
        }
        let facts = lookup.facts(chunk, &winners.iter().map(|&(_, row)| row).collect::<Vec<_>>())?;

        let mut found = lookup.found();
        let found = &mut *found;
        lookup.check_count(found, winners.len())?;
        lookup.make_room(found)?;
        let first = found.candidates.push(facts);
        let mut newer = RecencyOrder::default();
        for (fact, &(slot, _)) in (first..).zip(&winners) {
            let (order, is_open) = match found.best(slot) {
                None => {
                    found.live += 1;
                    (Ordering::Greater, false)
                }
                Some(best) => newer.compare(&found.candidates, &lookup.tie_columns, fact, best)?,
            };
            if order.is_gt() {
                found.set_best(slot, fact);
            }
            match order {
                _ if is_open => found.set_open(slot, true),
                Ordering::Greater => found.set_open(slot, open.contains(&slot)),
                Ordering::Equal if open.contains(&slot) => found.set_open(slot, true),
                _ => {}
            }
        }
        if found.candidates.len() > 2 * found.live + SLACK_ROWS {
            lookup.compact(found)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// The slots that facts of a chunk fall into, and the newest fact in each; and those of them where it is left open which it is.
type Winners = (Vec<(u32, u32)>, HashSet<u32>);

/// Which of two facts of a chunk is the newer one.
struct Rivals<'a> {
    chunk: &'a FactChunk,
    positions: &'a [usize],
    tie_columns: &'a TieColumns,
    values: Option<Vec<DynComparator>>,
}

impl Rivals<'_> {
    #[inline]
    fn compare(&mut self, a: usize, b: usize) -> Result<(Ordering, bool)> {
        let known = |i: usize| self.chunk.known.as_ref().map(|known| known[i]);
        let by_times = self.chunk.order()[a].cmp(&self.chunk.order()[b]).then_with(|| known(a).cmp(&known(b)));
        if by_times.is_ne() {
            return Ok((by_times, false));
        }
        let comparators = match &mut self.values {
            Some(known) => known,
            none => {
                let columns: Vec<ArrayRef> = self.positions.iter().map(|&p| self.chunk.batch.column(p).clone()).collect();
                none.insert(comparators(&columns, &columns)?)
            }
        };
        Ok(self.tie_columns.compare(comparators, self.chunk.rows[a] as usize, self.chunk.rows[b] as usize))
    }
}

impl Lookup {
    fn rivals<'a>(&'a self, chunk: &'a FactChunk) -> Rivals<'a> {
        Rivals { chunk, positions: &self.positions, tie_columns: &self.tie_columns, values: None }
    }

    /// Slots that were added since get a place for their newest fact.
    fn make_room(&self, found: &mut NewestFacts) -> Result<()> {
        let slots = self.index.len();
        if !self.has_versions && found.best.len() < slots {
            self.budget.grow(&self.subject, (slots - found.best.len()) * 4)?;
            found.resize(slots);
        }
        Ok(())
    }

    /// The newest fact of each entity of a chunk that has one newer than all before it; every entity has one slot.
    fn single_winners(&self, chunk: &FactChunk, orders: &mut Vec<i64>, winners: &mut Vec<u32>) -> Result<Winners> {
        let slots = self.index.len();
        orders.resize(slots, i64::MIN);
        winners.resize(slots, NONE);
        let mut rivals = self.rivals(chunk);
        let mut touched: Vec<u32> = Vec::new();
        let mut open = HashSet::new();
        for (i, &slot) in chunk.entities.iter().enumerate() {
            let order = chunk.order()[i];
            let (known, winner) = (&mut orders[slot as usize], &mut winners[slot as usize]);
            if order < *known {
                continue;
            }
            if *winner == NONE {
                touched.push(slot);
            } else if order == *known {
                let (order, is_open) = rivals.compare(i, *winner as usize - 1)?;
                note(&mut open, slot, order, is_open);
                if order.is_le() {
                    continue;
                }
            } else if !open.is_empty() {
                open.remove(&slot);
            }
            (*known, *winner) = (order, i as u32 + 1);
        }
        let winner = |slot: u32| (slot, std::mem::replace(&mut winners[slot as usize], NONE) - 1);
        Ok((touched.into_iter().map(winner).collect(), open))
    }

    /// The slots that facts of a chunk fall into, ascending, and the newest fact in each.
    fn winners(&self, chunk: &FactChunk, hints: &mut [u32]) -> Result<Winners> {
        let mask = hints.len() - 1;
        let mut winners: Vec<(u32, u32)> = Vec::new();
        let mut open = HashSet::new();
        let mut rivals = self.rivals(chunk);
        // The facts of an entity lie side by side in the order in which they become visible: a slot's facts do too.
        let (mut entity, mut end, mut slot, mut to) = (u32::MAX, 0, 0, i64::MIN);
        for i in 0..chunk.rows.len() {
            let visible_from = chunk.visible_from[i];
            if chunk.entities[i] == entity && visible_from <= to {
                if slot == end {
                    // Nobody sees a fact beyond the last slot.
                    continue;
                }
            } else {
                let run = self.index.slots_of(chunk.entities[i]);
                let place = chunk.entities[i] as usize & mask;
                let hint = if chunk.entities[i] == entity { slot } else { hints[place] };
                (entity, end) = (chunk.entities[i], run.end);
                slot = self.index.first_from(&run, visible_from, hint);
                to = self.index.preceding_ticks(&run, slot).1;
                hints[place] = slot;
                if slot < end {
                    winners.push((slot, i as u32));
                }
                continue;
            }
            let Some((_, best)) = winners.last_mut() else { continue };
            let (order, is_open) = rivals.compare(i, *best as usize)?;
            note(&mut open, slot, order, is_open);
            if order.is_gt() {
                *best = i as u32;
            }
        }
        Ok((winners, open))
    }
}

/// Whether a slot is left open after a comparison with its newest fact so far.
#[inline]
fn note(open: &mut HashSet<u32>, slot: u32, order: Ordering, is_open: bool) {
    if is_open {
        open.insert(slot);
    } else if order.is_gt() && !open.is_empty() {
        open.remove(&slot);
    }
}

impl LookupAccumulator {
    /// Where facts are replaced the newest of a slot may leave before the next comes: all that are seen are kept.
    fn take_versions(&mut self, chunk: &FactChunk) -> Result<()> {
        let index = &self.lookup.index;
        let mut seen: Vec<(u32, u32, u32)> = Vec::new();
        for i in 0..chunk.rows.len() {
            let run = index.slots_of(chunk.entities[i]);
            let enter = index.first_from(&run, chunk.visible_from[i], run.start);
            let leave = match &chunk.visible_until {
                Some(until) => index.first_after(&run, until[i], run.end),
                None => run.end,
            };
            if enter < leave {
                seen.push((enter, leave, i as u32));
            }
        }
        let facts = self.lookup.facts(chunk, &seen.iter().map(|&(.., i)| i).collect::<Vec<_>>())?;
        self.lookup.budget.grow(&self.lookup.subject, seen.len() * 40)?;
        let mut found = self.lookup.found();
        self.lookup.check_count(&found, seen.len())?;
        let first = found.candidates.push(facts);
        found.runs.extend((first..).zip(&seen).map(|(fact, &(enter, leave, _))| (enter, leave, fact)));
        Ok(())
    }
}

/// The newest fact that each slot sees.
struct LookupOutput {
    best: Vec<u32>,
    columns: CandidateColumns,
    held: Option<OutputMemory>,
}

impl OperatorOutput for LookupOutput {
    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let found: Vec<u32> = slots.iter().map(|&slot| self.best[slot as usize]).collect();
        let is_found = found.contains(&NONE).then(|| found.iter().map(|&fact| fact != NONE).collect::<NullBuffer>());
        let numbers = found.into_iter().map(|fact| fact.wrapping_sub(1)).collect::<ScalarBuffer<u32>>();
        self.columns.read(&UInt32Array::new(numbers, is_found))
    }

    fn memory(&self) -> Option<OutputMemory> {
        self.held
    }
}
