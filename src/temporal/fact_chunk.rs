//! A batch of facts on its way to an operator: the rows that belong to an entity, with their times in ticks.
//! It does not decide which slots see a fact.

use arrow::array::RecordBatch;

use super::{
    fact_input::PhysicalFactInput,
    keys::{Keys, NO_KEY},
    time_decoder::{Direction, Times, Visibility},
};
use crate::error::{Error, Result};

/// Facts of entities of the spine, with their times in ticks. The vectors are parallel.
pub(crate) struct FactChunk {
    /// All columns of the facts. It may have other rows too.
    pub(crate) batch: RecordBatch,
    /// The rows of the facts in the batch.
    pub(crate) rows: Vec<u32>,
    pub(crate) entities: Vec<u32>,
    /// The first tick at which a fact is visible, by the later of event time and known-at and by the cutoff.
    pub(crate) visible_from: Vec<i64>,
    pub(crate) event: Vec<i64>,
    /// The order of facts by event time, if event times are finer than ticks.
    pub(crate) order: Option<Vec<i64>>,
    /// The order of facts by known-at, if it is a column.
    pub(crate) known: Option<Vec<i64>>,
    /// If facts are replaced: the last tick at which a fact is visible.
    pub(crate) visible_until: Option<Vec<i64>>,
    /// If facts are replaced: their rank among all facts, from the oldest to the newest.
    pub(crate) recency: Option<Vec<i64>>,
}

impl FactChunk {
    /// Sorts the facts by entity, and the facts of an entity by the tick from which they are visible. Accumulators then walk
    /// through memory, and from slot to slot, instead of jumping.
    pub(super) fn sort_by_entity(&mut self, entities: usize) {
        let mut sorted: Vec<u32>;
        if entities <= 8 * self.rows.len() + 1_024 {
            let mut starts = vec![0u32; entities + 1];
            for &entity in &self.entities {
                starts[entity as usize + 1] += 1;
            }
            for i in 1..starts.len() {
                starts[i] += starts[i - 1];
            }
            sorted = vec![0; self.rows.len()];
            for (i, &entity) in self.entities.iter().enumerate() {
                let next = &mut starts[entity as usize];
                sorted[*next as usize] = i as u32;
                *next += 1;
            }
        } else {
            let packed = self.entities.iter().zip(0u64..).map(|(&entity, i)| (u64::from(entity) << 32) | i);
            let mut packed: Vec<u64> = packed.collect();
            packed.sort_unstable();
            sorted = packed.into_iter().map(|packed| packed as u32).collect();
        }
        let (entities, visible) = (&self.entities, &self.visible_from);
        for run in sorted.chunk_by_mut(|&a, &b| entities[a as usize] == entities[b as usize]) {
            if !run.is_sorted_by_key(|&i| visible[i as usize]) {
                run.sort_unstable_by_key(|&i| (visible[i as usize], i));
            }
        }
        let pick = |times: &[i64]| sorted.iter().map(|&i| times[i as usize]).collect::<Vec<_>>();
        let pick_rows = |rows: &[u32]| sorted.iter().map(|&i| rows[i as usize]).collect::<Vec<_>>();
        self.visible_from = pick(&self.visible_from);
        self.event = pick(&self.event);
        self.order = self.order.as_deref().map(pick);
        self.known = self.known.as_deref().map(pick);
        self.rows = pick_rows(&self.rows);
        self.entities = pick_rows(&self.entities);
    }

    /// The order of facts by event time.
    pub(crate) fn order(&self) -> &[i64] {
        self.order.as_deref().unwrap_or(&self.event)
    }
}

/// The first tick at which each fact of a batch is visible, by one of its times.
struct VisibleFrom {
    times: Times,
    /// Ticks between the (mirrored) time and the first tick at which the fact is visible; `None` if `times` are these ticks.
    after: Option<i64>,
}

impl VisibleFrom {
    /// From a time column's visibility and its ticks.
    fn of(visible: Visibility, ticks: &Times) -> Self {
        match visible {
            Visibility::After(after) => Self { times: ticks.clone(), after: Some(after) },
            Visibility::From(times) => Self { times, after: None },
        }
    }

    /// The first tick for a row; `None` if the fact is never visible.
    #[inline]
    fn row(&self, row: usize, mirrored: impl Fn(i64) -> i64) -> Option<i64> {
        let (times, nulls) = &self.times;
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        match self.after {
            Some(after) => mirrored(times[row]).checked_add(after),
            None => Some(times[row]),
        }
    }
}

impl<S> PhysicalFactInput<S> {
    /// The facts of a batch that belong to an entity of the spine (all facts if `keep_all`) and are ever visible, sorted by
    /// entity.
    pub(super) fn chunk(&self, keys: &Keys, batch: RecordBatch, keep_all: bool) -> Result<FactChunk> {
        let found = keys.find(&self.key_columns(&batch))?;
        let mut chunk = self.facts_of(&found, batch, keep_all)?;
        if !keep_all {
            chunk.sort_by_entity(keys.count());
        }
        Ok(chunk)
    }

    /// The facts of a batch that have an entity (all facts if `keep_all`) and are ever visible, in their order. `found` has the
    /// entity of each row.
    pub(super) fn facts_of(&self, found: &[u32], batch: RecordBatch, keep_all: bool) -> Result<FactChunk> {
        let (direction, cutoff) = (self.logical.direction, self.logical.cutoff);
        let (event_position, decoder) = &self.time_decoders[0];
        let events = batch.column(*event_position);
        let event = decoder.facts(events)?;
        let happened = VisibleFrom::of(decoder.visibility(events, &event, direction, cutoff, self.delay_us)?, &event);
        let order = decoder.order(events)?;
        let known = self.time_decoders.get(1).map(|(p, decoder)| {
            let times = batch.column(*p);
            let ticks = decoder.facts(times)?;
            let from = VisibleFrom::of(decoder.visibility(times, &ticks, direction, cutoff, 0)?, &ticks);
            let order = decoder.order(times)?.unwrap_or(ticks.0);
            Ok::<_, Error>((from, order))
        });
        let known = known.transpose()?;
        // Looking forward is the same as looking backward in mirrored time.
        let backward = direction == Direction::Backward;
        let mirrored = |time: i64| if backward { time } else { !time };
        let mut chunk = FactChunk {
            rows: Vec::with_capacity(found.len()),
            entities: Vec::with_capacity(found.len()),
            visible_from: Vec::with_capacity(found.len()),
            event: Vec::with_capacity(found.len()),
            order: order.as_ref().map(|_| Vec::with_capacity(found.len())),
            known: known.as_ref().map(|_| Vec::with_capacity(found.len())),
            visible_until: None,
            recency: None,
            batch,
        };
        let (event, event_nulls) = event;
        for (row, &entity) in found.iter().enumerate() {
            if (entity == NO_KEY && !keep_all) || event_nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            // A fact that no instant can see is left out.
            let Some(mut from) = happened.row(row, mirrored) else { continue };
            if let Some((known, _)) = &known {
                let Some(known) = known.row(row, mirrored) else { continue };
                from = from.max(known);
            }
            chunk.rows.push(row as u32);
            chunk.entities.push(entity);
            chunk.visible_from.push(from);
            chunk.event.push(mirrored(event[row]));
            if let (Some(kept), Some(order)) = (&mut chunk.order, &order) {
                kept.push(mirrored(order[row]));
            }
            if let (Some(kept), Some((_, order))) = (&mut chunk.known, &known) {
                kept.push(order[row]);
            }
        }
        Ok(chunk)
    }
}
