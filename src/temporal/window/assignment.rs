//! The slice of each fact. Between two neighbouring edges of an entity all facts enter and leave the same windows at the same
//! slots, so they are one slice; an edge is an instant, or the start of its window.

use std::ops::Range;

use super::{
    Window,
    edges::{WindowEdges, event_range},
    slices::Slices,
};
use crate::{
    error::{Error, Result},
    temporal::{aggregate::NO_SLICE, fact_chunk::FactChunk, time_decoder::FIRST_TICK},
};

/// How an accumulator finds the slices of facts.
pub(super) enum SliceFinder {
    /// From the slice of the entity's previous fact.
    Previous(Vec<PreviousFact>),
    /// By the age of the fact, if all entities have the same instant.
    Ages(AgeRings),
    /// The caller knows them.
    Known,
}

impl SliceFinder {
    pub(super) fn new(window: &Window) -> Self {
        match (window.index.single_instant(), window.level) {
            (None, _) => SliceFinder::Previous(vec![PreviousFact::default(); window.index.hint_table_len()]),
            (Some(instant), Some(level)) => SliceFinder::Ages(AgeRings::of_level(window, instant, level)),
            (Some(instant), None) => SliceFinder::Ages(AgeRings::new(window, instant)),
        }
    }

    /// Finds the slices of facts, and opens those that are new.
    pub(super) fn assign(&mut self, window: &Window, slices: &mut Slices, chunk: &FactChunk) -> Result<Assignment> {
        match self {
            SliceFinder::Previous(previous) => Ok(Assignment::uniform(from_previous(window, previous, slices, chunk))),
            SliceFinder::Ages(rings) => {
                let slice_of = rings.slice_of(window, slices, chunk)?;
                Ok(Assignment::by_state(slice_of, &rings.is_needed))
            }
            SliceFinder::Known => Ok(Assignment::uniform(vec![NO_SLICE; chunk.rows.len()])),
        }
    }
}

/// The slice of each fact of a chunk; [`NO_SLICE`] for a fact that no slot sees.
pub(super) struct Assignment {
    all: Vec<u32>,
    /// For each state the slices that it needs, if it does not need all.
    needed: Vec<Option<Vec<u32>>>,
}

impl Assignment {
    /// All states need all slices.
    pub(super) fn uniform(slice_of: Vec<u32>) -> Self {
        Self { all: slice_of, needed: Vec::new() }
    }

    /// A state needs the slices whose number, modulo the number of rings, is marked for it.
    fn by_state(slice_of: Vec<u32>, is_needed: &[Vec<bool>]) -> Self {
        let of_state = |is_needed: &Vec<bool>| {
            let rings = is_needed.len() as u32;
            let keep = |&slice: &u32| if slice != NO_SLICE && is_needed[(slice % rings) as usize] { slice } else { NO_SLICE };
            is_needed.contains(&false).then(|| slice_of.iter().map(keep).collect())
        };
        Self { needed: is_needed.iter().map(of_state).collect(), all: slice_of }
    }

    /// The slices as a state of the plan needs them.
    pub(super) fn of_state(&self, state: usize) -> &[u32] {
        self.needed.get(state).and_then(Option::as_deref).unwrap_or(&self.all)
    }

    /// Does no slot see any fact?
    pub(super) fn is_empty(&self) -> bool {
        self.all.iter().all(|&slice| slice == NO_SLICE)
    }

    /// The slice of a fact.
    pub(super) fn slice(&self, fact: usize) -> u32 {
        self.all[fact]
    }
}

/// What an accumulator remembers of an entity's previous fact.
#[derive(Clone)]
pub(super) struct PreviousFact {
    entity: u32,
    slice: u32,
    /// Facts with event times from `from` (inclusive) to `to` (exclusive) belong to the same slice. Empty unless all facts
    /// become visible after the same delay.
    from: i64,
    to: i64,
}

impl Default for PreviousFact {
    fn default() -> Self {
        Self { entity: u32::MAX, slice: NO_SLICE, from: 0, to: 0 }
    }
}

fn from_previous(window: &Window, previous: &mut [PreviousFact], slices: &mut Slices, chunk: &FactChunk) -> Vec<u32> {
    let mask = previous.len() - 1;
    let (index, starts) = (&window.index, &window.starts);
    let mut leaves = vec![0u32; starts.len()];
    let mut slice_of = Vec::with_capacity(chunk.rows.len());
    for i in 0..chunk.rows.len() {
        let (entity, event, visible_from) = (chunk.entities[i], chunk.event[i], chunk.visible_from[i]);
        let previous = &mut previous[entity as usize & mask];
        if previous.entity == entity && event >= previous.from && event < previous.to {
            slice_of.push(previous.slice);
            continue;
        }
        let run = index.slots_of(entity);
        // An entity's next fact is usually near its previous one.
        let near = (previous.entity == entity && previous.slice != NO_SLICE).then_some(previous.slice);
        let hint = near.map_or(run.start, |slice| slices.enter(slice));
        let visible = index.first_from(&run, visible_from, hint);
        let gone = chunk.visible_until.as_ref().map_or(run.end, |until| index.first_after(&run, until[i], run.end));
        // Without a constant delay the range of event times is empty, so the next fact is looked up again.
        let (mut from, mut to) =
            window.constant_delay.map_or((0, 0), |delay| event_range(index, &run, visible, delay.saturating_sub(1)));
        let mut enter = visible;
        if let Some((ended, (first, last))) = window.first_ended(&run, event, visible) {
            (from, to) = (from.max(first), to.min(last));
            enter = enter.max(ended);
        }
        let mut is_seen = false;
        for (i, (starts, leave)) in starts.iter().zip(&mut leaves).enumerate() {
            *leave = gone;
            let hint = near.map_or(enter, |slice| slices.leaves(slice)[i]);
            if let Some((end, (first, last))) = starts.first_after(index, &run, event, hint) {
                (from, to) = (from.max(first), to.min(last));
                *leave = end.min(gone);
            }
            is_seen |= enter < *leave;
        }
        let slice = match near {
            _ if !is_seen => NO_SLICE,
            Some(slice) if slices.has_edges(slice, enter, &leaves) => slice,
            _ => slices.open(entity, enter, &leaves),
        };
        *previous = PreviousFact { entity, slice, from, to };
        slice_of.push(slice);
    }
    slice_of
}

/// The slices of entities that all have the same instant. Each entity has one slice, a ring, for every length of windows: the
/// facts that are in the window of this length and in no shorter one. All slices of an entity are opened at once, so the number
/// of a slice follows from the entity and the ring.
pub(super) struct AgeRings {
    instant: i64,
    /// For each ring, from the youngest on, the earliest event time in it.
    from: Vec<i64>,
    /// Where the youngest ring ends, if that is before the instant.
    end: Option<i64>,
    /// For each ring, which lengths of windows hold it.
    is_in: Vec<Vec<bool>>,
    /// For each state, the rings that an output reads.
    is_needed: Vec<Vec<bool>>,
    /// The number of entities whose slices are open.
    opened: u32,
}

impl AgeRings {
    pub(super) fn new(window: &Window, instant: i64) -> Self {
        let (plan, start) = (&window.plan, |starts: &WindowEdges| starts.of_single_instant(instant));
        let mut from: Vec<i64> = window.starts.iter().map(start).collect();
        from.sort_unstable_by(|a, b| b.cmp(a));
        from.dedup();
        let is_in: Vec<Vec<bool>> =
            from.iter().map(|&first| window.starts.iter().map(|starts| start(starts) <= first).collect()).collect();
        let of_state = |state: usize| {
            let lengths = || plan.outputs.iter().filter(move |output| output.state == state).map(|output| output.length);
            is_in.iter().map(|is_in| lengths().any(|length| is_in[length])).collect()
        };
        let is_needed = (0..plan.states.len()).map(of_state).collect();
        let end = window.ends.as_ref().map(|ends| ends.of_single_instant(instant));
        Self { instant, from, end, is_in, is_needed, opened: 0 }
    }

    /// One ring for all facts, which lies in the windows that [`WindowPlan::holds`] names; none if no window holds them.
    pub(super) fn of_level(window: &Window, instant: i64, level: usize) -> Self {
        let plan = &window.plan;
        let holds = plan.holds(level);
        if !holds.contains(&true) {
            return Self {
                instant,
                from: Vec::new(),
                end: None,
                is_in: Vec::new(),
                is_needed: vec![Vec::new(); plan.states.len()],
                opened: 0,
            };
        }
        let is_needed = |state: usize| plan.outputs.iter().any(|output| output.state == state && holds[output.length]);
        let is_needed = (0..plan.states.len()).map(|state| vec![is_needed(state)]).collect();
        Self { instant, from: vec![FIRST_TICK], end: None, is_in: vec![holds], is_needed, opened: 0 }
    }

    /// The ring of an event time; `None` if no window holds it.
    pub(super) fn ring(&self, event: i64) -> Option<usize> {
        if self.end.is_some_and(|end| event >= end) {
            return None;
        }
        self.from.iter().position(|&from| event >= from)
    }

    /// The slice of an entity in a ring, if its slices are open.
    pub(super) fn slice(&self, entity: u32, ring: usize) -> u32 {
        entity * self.from.len() as u32 + ring as u32
    }

    /// Does an output read this state in this ring?
    pub(super) fn is_needed(&self, state: usize, ring: usize) -> bool {
        self.is_needed[state][ring]
    }

    /// Opens the slices of the entities that were added since.
    pub(super) fn open(&mut self, window: &Window, slices: &mut Slices) -> Result<()> {
        // Read once: other tasks go on adding entities.
        let entities = window.index.len() as u32;
        if entities as usize * self.from.len() >= NO_SLICE as usize {
            let reason = format!("has more than {NO_SLICE} combinations of an entity and a window length; ask in several sets");
            return Err(Error::Limit { subject: format!("the window over {}", window.subject), reason });
        }
        let mut leaves = vec![0; window.plan.lengths.len()];
        for entity in self.opened..entities {
            for is_in in &self.is_in {
                // The entity's only slot has the entity's number: a slice that leaves there is not seen.
                leaves.iter_mut().zip(is_in).for_each(|(leave, &is_in)| *leave = entity + u32::from(is_in));
                slices.open(entity, entity, &leaves);
            }
        }
        self.opened = self.opened.max(entities);
        Ok(())
    }

    fn slice_of(&mut self, window: &Window, slices: &mut Slices, chunk: &FactChunk) -> Result<Vec<u32>> {
        self.open(window, slices)?;
        let slice = |i: usize| {
            let is_gone = chunk.visible_until.as_ref().is_some_and(|until| until[i] < self.instant);
            if is_gone || chunk.visible_from[i] > self.instant {
                return NO_SLICE;
            }
            self.ring(chunk.event[i]).map_or(NO_SLICE, |ring| self.slice(chunk.entities[i], ring))
        };
        Ok((0..chunk.rows.len()).map(slice).collect())
    }
}

impl Window {
    /// The first slot of a run whose windows end after an event, and the event times for which it is this slot, as
    /// [`WindowEdges::first_after`]; `None` if windows end at their instants.
    pub(super) fn first_ended(&self, run: &Range<u32>, event: i64, hint: u32) -> Option<(u32, (i64, i64))> {
        self.ends.as_ref()?.first_after(&self.index, run, event, hint)
    }
}
