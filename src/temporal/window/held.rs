//! Windows over a number of facts, or over those since the last fact of a kind: facts are held until it is known which slots see them
//! among the newest, and then they are added to the slices of ordinary windows.
//!
//! How the newest facts are found is in `newest`. Facts that no slot can see any more are dropped from time to time, so that at most
//! about twice as many facts are held as the windows of all slots hold, and their marking facts. A table whose facts are replaced is held
//! as a whole anyway.

use std::sync::{Arc, Mutex};

use arrow::{array::UInt32Array, compute::take_record_batch};

use super::{
    Window,
    accumulator::WindowAccumulator,
    locked,
    newest::{HeldFacts, NewestFacts, SeenFact},
};
use crate::{
    error::Result,
    temporal::{
        fact_chunk::FactChunk,
        operator::{FactAccumulator, OperatorContext, OperatorOutput, TemporalOperator},
    },
};

/// Facts are dropped when there are at least so many.
const MIN_HELD: usize = 65_536;

pub(super) struct HeldWindow {
    window: Arc<Window>,
    /// Positions of the columns that decide between facts of the same times.
    row_order: Vec<usize>,
    /// Does the table have replaced facts?
    has_versions: bool,
    /// The facts of the accumulators that have finished.
    finished: Mutex<Vec<HeldFacts>>,
}

impl HeldWindow {
    pub(super) fn new(window: Window, context: &OperatorContext) -> Self {
        Self {
            window: Arc::new(window),
            row_order: context.row_order.clone(),
            has_versions: context.has_versions,
            finished: Mutex::default(),
        }
    }

    fn seen(&self, held: &[HeldFacts]) -> Result<NewestFacts> {
        NewestFacts::find(&self.window, held, &self.row_order)
    }
}

impl TemporalOperator for HeldWindow {
    fn accumulator(self: Arc<Self>) -> Box<dyn FactAccumulator> {
        Box::new(HoldingAccumulator { operator: self, held: Vec::new(), drop_at: MIN_HELD })
    }

    fn tie_resolver(self: Arc<Self>, _: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        Ok(self)
    }

    fn output(&self) -> Result<Arc<dyn OperatorOutput>> {
        let held = std::mem::take(&mut *locked(&self.finished));
        let window = &self.window;
        let bytes: usize = held.iter().map(HeldFacts::bytes).sum();
        let sorting: usize = held.iter().map(HeldFacts::len).sum::<usize>() * NewestFacts::bytes_per_fact(window);
        window.budget.grow(&window.subject, sorting)?;
        let found = self.seen(&held)?;
        let mut accumulator = Box::new(WindowAccumulator::of_known_slices(window.clone()));
        for (facts, seen) in held.iter().zip(found.by_chunk()) {
            let seen: Vec<&SeenFact> = seen.iter().filter(|seen| found.is_in_a_window(seen)).collect();
            let positions: Vec<usize> = seen.iter().map(|seen| seen.fact as usize).collect();
            let edges = seen.iter().map(|seen| (seen.enter, found.leaves(seen)));
            accumulator.add_with_edges(&picked(&facts.chunk, &positions), edges)?;
        }
        drop(found);
        drop(held);
        window.budget.shrink(bytes + sorting);
        accumulator.finish()?;
        window.output()
    }
}

struct HoldingAccumulator {
    operator: Arc<HeldWindow>,
    held: Vec<HeldFacts>,
    /// How many facts there are when facts are dropped next.
    drop_at: usize,
}

impl FactAccumulator for HoldingAccumulator {
    fn update(&mut self, chunk: &FactChunk) -> Result<()> {
        let operator = self.operator.clone();
        let index = &operator.window.index;
        let (mut enters, mut positions) = (Vec::new(), Vec::new());
        for (i, (&entity, &visible_from)) in chunk.entities.iter().zip(&chunk.visible_from).enumerate() {
            let run = index.slots_of(entity);
            let visible = index.first_from(&run, visible_from, run.start);
            let enter =
                operator.window.first_ended(&run, chunk.event[i], visible).map_or(visible, |(ended, _)| ended.max(visible));
            if enter < run.end {
                enters.push(enter);
                positions.push(i);
            }
        }
        if positions.is_empty() {
            return Ok(());
        }
        let chunk = compact(&picked(chunk, &positions))?;
        let marks = operator.window.marks(&chunk, &enters)?;
        self.hold(HeldFacts { chunk, enters, marks })?;
        let count: usize = self.held.iter().map(HeldFacts::len).sum();
        if count >= self.drop_at && !operator.has_versions {
            self.drop_unseen()?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        locked(&self.operator.finished).extend(self.held);
        Ok(())
    }
}

impl HoldingAccumulator {
    fn hold(&mut self, facts: HeldFacts) -> Result<()> {
        let window = &self.operator.window;
        window.budget.grow(&window.subject, facts.bytes())?;
        self.held.push(facts);
        Ok(())
    }

    /// Drops the facts that no slot sees among the newest of those that this task has read, unless they mark where windows begin. Others
    /// can only make fewer of them seen.
    fn drop_unseen(&mut self) -> Result<()> {
        let operator = self.operator.clone();
        let window = &operator.window;
        let sorting = self.held.iter().map(HeldFacts::len).sum::<usize>() * NewestFacts::bytes_per_fact(window);
        window.budget.grow(&window.subject, sorting)?;
        let found = operator.seen(&self.held)?;
        let mut released = sorting;
        for (facts, seen) in std::mem::take(&mut self.held).into_iter().zip(found.by_chunk()) {
            let mut positions: Vec<usize> = seen.iter().map(|seen| seen.fact as usize).collect();
            if positions.len() == facts.len() {
                self.held.push(facts);
                continue;
            }
            released += facts.bytes();
            if !positions.is_empty() {
                positions.sort_unstable();
                let enters = positions.iter().map(|&i| facts.enters[i]).collect();
                let marks = facts.marks.iter().map(|marks| positions.iter().map(|&i| marks[i]).collect()).collect();
                self.hold(HeldFacts { chunk: compact(&picked(&facts.chunk, &positions))?, enters, marks })?;
            }
        }
        window.budget.shrink(released);
        self.drop_at = MIN_HELD.max(2 * self.held.iter().map(HeldFacts::len).sum::<usize>());
        Ok(())
    }
}

/// Some facts of a chunk, over the same batch. A fact may be taken several times.
fn picked(chunk: &FactChunk, positions: &[usize]) -> FactChunk {
    let times = |times: &[i64]| positions.iter().map(|&i| times[i]).collect::<Vec<_>>();
    FactChunk {
        batch: chunk.batch.clone(),
        rows: positions.iter().map(|&i| chunk.rows[i]).collect(),
        entities: positions.iter().map(|&i| chunk.entities[i]).collect(),
        visible_from: times(&chunk.visible_from),
        event: times(&chunk.event),
        order: chunk.order.as_deref().map(times),
        known: chunk.known.as_deref().map(times),
        visible_until: chunk.visible_until.as_deref().map(times),
        recency: chunk.recency.as_deref().map(times),
    }
}

/// The same facts, with a batch of their rows alone.
fn compact(chunk: &FactChunk) -> Result<FactChunk> {
    let batch = take_record_batch(&chunk.batch, &UInt32Array::from(chunk.rows.clone()))?;
    let all: Vec<usize> = (0..chunk.rows.len()).collect();
    Ok(FactChunk { batch, rows: (0..chunk.rows.len() as u32).collect(), ..picked(chunk, &all) })
}
