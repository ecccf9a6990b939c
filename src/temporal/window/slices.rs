//! The slices of one accumulator: for each the entity, the slots that see it, and the states of the aggregates.
//! It does not decide which slice a fact belongs to; that is what `assignment` does.

use super::plan::WindowPlan;
use crate::temporal::aggregate::{NO_SLICE, SliceLocation, SliceStates, TieBreaks, VisibleSlice};

/// The number of regions into which entities are divided when their slices are brought together. A region is then small enough
/// for a cache.
const REGIONS: usize = 256;

/// Slices, numbered as they are opened.
pub(super) struct Slices {
    pub(super) entities: Vec<u32>,
    /// Slice by slice: the first slot that sees it, and for each length of windows the first slot that sees it no longer.
    edges: Vec<u32>,
    lengths: usize,
    /// For each state of the plan.
    pub(super) states: Vec<SliceStates>,
    pub(super) ties: TieBreaks,
}

impl Slices {
    pub(super) fn new(plan: &WindowPlan) -> Self {
        Self {
            entities: Vec::new(),
            edges: Vec::new(),
            lengths: plan.lengths.len(),
            states: plan.states.iter().map(|state| SliceStates::new(state.kind)).collect(),
            ties: TieBreaks::new(plan.ties.len()),
        }
    }

    /// How many slices there are.
    pub(super) fn len(&self) -> usize {
        self.entities.len()
    }

    /// Opens a slice.
    pub(super) fn open(&mut self, entity: u32, enter: u32, leaves: &[u32]) -> u32 {
        self.entities.push(entity);
        self.edges.push(enter);
        self.edges.extend_from_slice(leaves);
        self.entities.len() as u32 - 1
    }

    /// Does a slice have these edges?
    pub(super) fn has_edges(&self, slice: u32, enter: u32, leaves: &[u32]) -> bool {
        self.enter(slice) == enter && self.leaves(slice) == leaves
    }

    /// The first slot that sees the slice.
    pub(super) fn enter(&self, slice: u32) -> u32 {
        self.edges[slice as usize * (self.lengths + 1)]
    }

    /// For each length of windows, the first slot that sees the slice no longer.
    pub(super) fn leaves(&self, slice: u32) -> &[u32] {
        &self.edges[slice as usize * (self.lengths + 1) + 1..][..self.lengths]
    }

    /// Is there a slot whose window of this length holds the slice?
    pub(super) fn is_seen(&self, slice: u32, length: usize) -> bool {
        slice != NO_SLICE && self.enter(slice) < self.leaves(slice)[length]
    }

    /// Which slots see the slice through windows of this length.
    pub(super) fn visible(&self, location: SliceLocation, length: usize) -> VisibleSlice {
        VisibleSlice { enter: self.enter(location.slice), leave: self.leaves(location.slice)[length], location }
    }

    /// No more facts come.
    pub(super) fn finish(&mut self) {
        let slices = self.len();
        self.states.iter_mut().for_each(|states| states.as_state_mut().finish(slices));
    }

    /// Brings the slices of neighbouring entities together. Slices are opened in the order of the facts, so those of one entity
    /// are scattered in memory; the output is made entity by entity.
    pub(super) fn sort_by_entity(&mut self, entities: usize) {
        // Regions have about as many slices each, however many entities that are.
        let mut counts = vec![0u32; entities];
        self.entities.iter().for_each(|&entity| counts[entity as usize] += 1);
        let per_region = self.len().div_ceil(REGIONS).max(1);
        let (mut region_of, mut starts, mut slices) = (vec![0u16; entities], vec![0u32; REGIONS + 1], 0usize);
        for (entity, &count) in counts.iter().enumerate() {
            let region = (slices / per_region).min(REGIONS - 1);
            region_of[entity] = region as u16;
            starts[region + 1] += count;
            slices += count as usize;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut order = vec![0u32; self.len()];
        let mut new_number = vec![0u32; self.len()];
        for (slice, &entity) in self.entities.iter().enumerate() {
            let next = &mut starts[usize::from(region_of[entity as usize])];
            (order[*next as usize], new_number[slice]) = (slice as u32, *next);
            *next += 1;
        }
        self.entities = order.iter().map(|&slice| self.entities[slice as usize]).collect();
        let stride = self.lengths + 1;
        self.edges = order.iter().flat_map(|&slice| &self.edges[slice as usize * stride..][..stride]).copied().collect();
        self.states.iter_mut().for_each(|states| states.as_state_mut().reorder(&order, &new_number));
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let states = self.states.iter().map(|states| states.as_state().bytes()).sum::<usize>();
        states + self.entities.capacity() * 4 + self.edges.capacity() * 4 + self.ties.bytes()
    }
}
