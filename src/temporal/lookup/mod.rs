//! The lookup operator: the newest visible fact of an entity at each slot of the spine.
//!
//! For each slot it finds the newest of the facts that become visible between the slot before and this one. Only the values of
//! such facts are kept. At the end the result of a slot is the newest over all of its entity's slots up to it.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use arrow::{
    array::{ArrayRef, UInt32Array},
    buffer::{NullBuffer, ScalarBuffer},
    compute::take,
    datatypes::DataType,
};

use super::{
    budget::Budget,
    fact_chunk::FactChunk,
    operator::{CreateOperator, FactAccumulator, OperatorContext, OperatorOutput, OutputMemory, TemporalOperator},
    spec::{LookupSpec, fact_position},
    spine_index::SpineIndex,
};
use crate::error::{Error, Result};

mod accumulator;
mod candidates;
mod newest_facts;

use accumulator::LookupAccumulator;
pub(super) use candidates::column_comparators;
use candidates::{CandidateBatch, CandidateColumns, Candidates, RecencyOrder, TieColumns};
use newest_facts::{NONE, NewestFacts};

impl CreateOperator for LookupSpec {
    fn operator(&self, context: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        let mut positions = context.tie_break.clone();
        for column in &self.columns {
            positions.push(fact_position(&context.subject, &context.facts_schema, &column.fact)?);
        }
        let ties = context.tie_break.len();
        let position_of =
            |name: &String| (ties..positions.len()).find(|&i| context.facts_schema.field(positions[i]).name() == name);
        let tie_columns = match &context.deciding_columns {
            None => TieColumns { decisive: (0..positions.len()).collect(), others: Vec::new() },
            Some(deciding) => {
                // Columns decide in order. From the first one that was not read, the rest only tell whether facts differ; and
                // so do computed columns.
                let first: Vec<usize> = deciding.iter().map_while(position_of).collect();
                let others = (ties..positions.len()).filter(|position| !first.contains(position)).collect();
                TieColumns { decisive: (0..ties).chain(first).collect(), others }
            }
        };
        let max_age = self.max_age_us.map(|age| context.unit.ticks(age));
        Ok(Arc::new(Lookup::new(context, positions, tie_columns, max_age, Weak::new())?))
    }
}

struct Lookup {
    /// The table, for messages.
    subject: String,
    index: Arc<SpineIndex>,
    /// Tie-breaks, then looked-up columns: positions in the facts, names and types.
    positions: Vec<usize>,
    names: Vec<String>,
    types: Vec<DataType>,
    /// How many tie-breaks there are.
    ties: usize,
    tie_columns: TieColumns,
    /// All columns that decide between tied facts, in order.
    deciding_columns: Vec<String>,
    max_age: Option<i64>,
    has_versions: bool,
    tasks: usize,
    budget: Arc<Budget>,
    newest_facts: Mutex<NewestFacts>,
    /// The lookup that decides the ties that are undecided here.
    tie_resolver: OnceLock<Arc<Lookup>>,
    /// The lookup whose ties are decided here.
    resolves: Weak<Lookup>,
}

impl Lookup {
    fn new(
        context: &OperatorContext,
        positions: Vec<usize>,
        tie_columns: TieColumns,
        max_age: Option<i64>,
        resolves: Weak<Lookup>,
    ) -> Result<Self> {
        let slots = if context.has_versions { 0 } else { context.index.len() };
        context.budget.grow(&context.subject, slots * 4)?;
        let fields = || positions.iter().map(|&p| context.facts_schema.field(p));
        Ok(Self {
            subject: context.subject.clone(),
            index: context.index.clone(),
            names: fields().map(|field| field.name().clone()).collect(),
            types: fields().map(|field| field.data_type().clone()).collect(),
            positions,
            ties: context.tie_break.len(),
            tie_columns,
            deciding_columns: context.deciding_columns.clone().unwrap_or_default(),
            max_age,
            has_versions: context.has_versions,
            tasks: context.tasks,
            budget: context.budget.clone(),
            newest_facts: Mutex::new(NewestFacts::new(slots)),
            tie_resolver: OnceLock::new(),
            resolves,
        })
    }

    fn newest_facts(&self) -> MutexGuard<'_, NewestFacts> {
        self.newest_facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for the slots that were added since.
    fn make_room(&self, shared: &mut NewestFacts) -> Result<()> {
        let slots = self.index.len();
        if !self.has_versions && shared.newest.len() < slots {
            self.budget.grow(&self.subject, (slots - shared.newest.len()) * 4)?;
            shared.resize(slots);
        }
        Ok(())
    }

    /// The values of some facts of a chunk, given by their positions in it.
    fn candidates(&self, chunk: &FactChunk, facts: &[u32]) -> Result<CandidateBatch> {
        let rows: UInt32Array = facts.iter().map(|&i| chunk.rows[i as usize]).collect::<Vec<u32>>().into();
        let columns = self.positions.iter().map(|&p| Ok(take(chunk.batch.column(p), &rows, None)?));
        let pick = |times: &[i64]| facts.iter().map(|&i| times[i as usize]).collect();
        let candidates = CandidateBatch {
            event: if self.max_age.is_some() { pick(&chunk.event) } else { Vec::new() },
            order: pick(chunk.recency.as_deref().unwrap_or_else(|| chunk.order())),
            known: chunk.known.as_deref().filter(|_| chunk.recency.is_none()).map_or_else(Vec::new, pick),
            columns: columns.collect::<Result<_>>()?,
        };
        self.budget.grow(&self.subject, candidates.bytes())?;
        Ok(candidates)
    }

    /// Refuses more facts than can be numbered.
    fn check_count(&self, shared: &NewestFacts, more: usize) -> Result<()> {
        if shared.candidates.len() + more < u32::MAX as usize {
            return Ok(());
        }
        let reason = format!("would hold more than {} facts at once; look up for fewer rows at once", u32::MAX - 1);
        Err(Error::Limit { subject: format!("the lookup in {}", self.subject), reason })
    }

    /// Drops the candidates that win no slot.
    fn compact(&self, shared: &mut NewestFacts) -> Result<()> {
        let winners: Vec<u32> = shared.newest.iter().filter_map(|&newest| newest.checked_sub(1)).collect();
        let for_a_column = shared.candidates.largest_column_bytes();
        let old = std::mem::take(&mut shared.candidates);
        let old_bytes = old.bytes;
        self.budget.grow(&self.subject, for_a_column)?;
        shared.candidates = old.gathered(&winners)?;
        self.budget.shrink(old_bytes + for_a_column);
        self.budget.grow(&self.subject, shared.candidates.bytes)?;
        let winning = shared.newest.iter_mut().filter(|newest| **newest != NONE);
        for (newest, number) in winning.zip(1..) {
            *newest = number;
        }
        Ok(())
    }
}

impl TemporalOperator for Lookup {
    fn accumulator(self: Arc<Self>) -> Box<dyn FactAccumulator> {
        Box::new(LookupAccumulator::new(self))
    }

    fn undecided_ties(&self) -> Option<(i64, i64)> {
        let shared = self.newest_facts();
        let orders = shared.undecided_slots().filter_map(|slot| shared.of(slot)).map(|fact| shared.candidates.order(fact));
        orders.fold(None, |range, order| match range {
            None => Some((order, order)),
            Some((first, last)) => Some((order.min(first), order.max(last))),
        })
    }

    fn tie_resolver(self: Arc<Self>, context: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        let mut names: Vec<&String> = self.names[..self.ties].iter().chain(&self.deciding_columns).collect();
        let decisive = (0..names.len()).collect();
        let others: Vec<&String> = self.names[self.ties..].iter().filter(|name| !names.contains(name)).collect();
        names.extend(others);
        let find = |name: &String| fact_position(&context.subject, &context.facts_schema, name);
        let positions = names.into_iter().map(find).collect::<Result<Vec<_>>>()?;
        let tie_columns = TieColumns { decisive, others: Vec::new() };
        let resolver = Arc::new(Lookup::new(context, positions, tie_columns, self.max_age, Arc::downgrade(&self))?);
        Ok(self.tie_resolver.get_or_init(|| resolver).clone())
    }

    fn output(&self) -> Result<Arc<dyn OperatorOutput>> {
        let mut shared = std::mem::take(&mut *self.newest_facts());
        if let Some(resolver) = self.tie_resolver.get() {
            self.use_decisions(&mut shared, resolver)?;
        }
        if !self.has_versions && shared.candidates.len() > shared.occupied + shared.occupied / 2 {
            self.compact(&mut shared)?;
        }
        let bytes = shared.candidates.bytes + shared.newest.len() * 4;
        self.make_room(&mut shared)?;
        let mut newest = std::mem::take(&mut shared.newest);
        if self.has_versions {
            newest = vec![NONE; self.index.len()];
            self.sweep_versions(&shared, &mut newest)?;
        } else {
            self.sweep(&shared.candidates, &mut newest)?;
        }
        // For rows without a slot.
        newest.push(NONE);
        let columns = shared.candidates.into_columns(self.ties, &self.types)?;
        let memory = OutputMemory::of(bytes, self.types[self.ties..].iter());
        Ok(Arc::new(LookupOutput { newest, columns, memory }))
    }
}

impl Lookup {
    /// Takes the newest facts of undecided slots from the lookup that has decided them.
    fn use_decisions(&self, shared: &mut NewestFacts, resolver: &Lookup) -> Result<()> {
        let decided = std::mem::take(&mut *resolver.newest_facts());
        let newest = |slot: u32| decided.newest.get(slot as usize).and_then(|newest| newest.checked_sub(1));
        let (slots, winners): (Vec<u32>, Vec<u32>) =
            shared.undecided_slots().filter_map(|slot| Some((slot, newest(slot)?))).unzip();
        self.check_count(shared, winners.len())?;
        let old_bytes = decided.candidates.bytes;
        let candidates = decided.candidates.gathered(&winners)?;
        self.budget.shrink(old_bytes);
        self.budget.grow(&self.subject, candidates.bytes)?;
        let column = |name: &String| resolver.names.iter().position(|known| known == name);
        let columns: Vec<usize> = self.names.iter().filter_map(column).collect();
        let first = shared.candidates.append(candidates, &columns);
        for (slot, fact) in slots.into_iter().zip(first..) {
            shared.set(slot, fact);
        }
        Ok(())
    }

    fn is_too_old(&self, slot: usize, fact: u32, candidates: &Candidates) -> bool {
        self.max_age.is_some_and(|age| candidates.event(fact) < self.index.instant(slot).saturating_sub(age))
    }

    /// From the newest fact between each slot and the one before to the newest fact that the slot sees. Tasks share the
    /// entities.
    fn sweep(&self, candidates: &Candidates, newest: &mut [u32]) -> Result<()> {
        let per_task = newest.len().div_ceil(self.tasks).max(1);
        let mut runs = Vec::new();
        let (mut rest, mut first, mut taken) = (newest, 0u32, 0);
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
                .map(|(entities, offset, newest)| scope.spawn(move || self.sweep_run(entities, candidates, offset, newest)))
                .collect();
            tasks.into_iter().try_for_each(|task| match task.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    /// As [`Lookup::sweep`], for some entities. `newest` begins with the slot `offset`.
    fn sweep_run(&self, entities: Range<u32>, candidates: &Candidates, offset: usize, newest: &mut [u32]) -> Result<()> {
        let mut recency = RecencyOrder::default();
        for entity in entities {
            let mut so_far: Option<u32> = None;
            for slot in self.index.slots_of(entity) {
                let slot = slot as usize;
                if let Some(own) = newest[slot - offset].checked_sub(1) {
                    let is_newer = match so_far {
                        None => true,
                        Some(known) => recency.compare(candidates, &self.tie_columns, own, known)?.0.is_gt(),
                    };
                    if is_newer {
                        so_far = Some(own);
                    }
                }
                let seen = so_far.filter(|&fact| !self.is_too_old(slot, fact, candidates));
                newest[slot - offset] = seen.map_or(NONE, |fact| fact + 1);
            }
        }
        Ok(())
    }

    /// The newest fact that each slot sees, where facts leave when they are replaced.
    fn sweep_versions(&self, shared: &NewestFacts, newest: &mut [u32]) -> Result<()> {
        let mut recency = RecencyOrder::default();
        let mut by_recency: Vec<usize> = (0..shared.runs.len()).collect();
        let mut failed = None;
        by_recency.sort_by(|&a, &b| {
            let order = recency.compare(&shared.candidates, &self.tie_columns, shared.runs[a].2, shared.runs[b].2);
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
        let mut ranked: Vec<(u32, u32, u32, u32)> = vec![(0, 0, 0, 0); by_recency.len()];
        for (rank, &i) in by_recency.iter().enumerate() {
            let (enter, leave, fact) = shared.runs[i];
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
                    && !self.is_too_old(slot as usize, fact, &shared.candidates)
                {
                    newest[slot as usize] = fact + 1;
                }
            }
        }
        Ok(())
    }
}

/// The newest fact that each slot sees.
struct LookupOutput {
    newest: Vec<u32>,
    columns: CandidateColumns,
    memory: Option<OutputMemory>,
}

impl OperatorOutput for LookupOutput {
    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let found: Vec<u32> = slots.iter().map(|&slot| self.newest[slot as usize]).collect();
        let is_found = found.contains(&NONE).then(|| found.iter().map(|&fact| fact != NONE).collect::<NullBuffer>());
        let numbers = found.into_iter().map(|fact| fact.wrapping_sub(1)).collect::<ScalarBuffer<u32>>();
        self.columns.read(&UInt32Array::new(numbers, is_found))
    }

    fn memory(&self) -> Option<OutputMemory> {
        self.memory
    }
}
