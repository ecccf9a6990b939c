//! The index of a spine: each entity's instants in the order of time. Each row of the spine has a slot in it.
//! It holds times and row numbers, no values.
//!
//! A fact is visible to a contiguous run of its entity's slots: from the first instant after it became visible to the last
//! instant before it leaves the window or is replaced. So facts can be read in any order and by any number of tasks, and the
//! memory that is needed depends on the spine and not on the number of facts.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use arrow::buffer::ScalarBuffer;

use super::{
    instants::{Instants, Scatter, first_that},
    keys::NO_KEY,
};

/// The most entities for which an accumulator remembers where their previous fact was.
const MAX_HINTS: usize = 1 << 17;

/// The slots of a spine. The slots of an entity are contiguous and in the order of time.
pub(crate) struct SpineIndex {
    layout: Layout,
    /// The slot of each spine row; the number of all slots for a row that has none.
    slot_of_row: Arc<Vec<u32>>,
}

enum Layout {
    Spine {
        /// The first slot of each entity, and the number of all slots.
        starts: Vec<u32>,
        instants: Instants,
    },
    /// Every entity has a slot at each of these instants. Entities are added while facts are read.
    SameInstants { instants: Box<[i64]>, entities: AtomicU32 },
}

impl SpineIndex {
    /// Indexes a spine, given the entity of each row and the instants by batch. Rows without an entity get no slot.
    pub(crate) fn new(mut numbers: Vec<u32>, ticks: &[ScalarBuffer<i64>], entities: usize) -> Self {
        let mut starts = vec![0u32; entities + 1];
        for &number in numbers.iter().filter(|&&n| n != NO_KEY) {
            starts[number as usize + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let instants = Instants::new(ticks, &mut SlotAssigner { starts: &starts, numbers: &mut numbers });
        Self { layout: Layout::Spine { starts, instants }, slot_of_row: Arc::new(numbers) }
    }

    /// A slot at each of these instants, which are in order, for every entity. There is no entity yet.
    pub(crate) fn of_entities_at(instants: &[i64]) -> Self {
        let layout = Layout::SameInstants { instants: instants.into(), entities: AtomicU32::new(0) };
        Self { layout, slot_of_row: Arc::default() }
    }

    /// The instant of all slots, if every entity has one slot at the same instant.
    pub(crate) fn single_instant(&self) -> Option<i64> {
        match &self.layout {
            Layout::SameInstants { instants, .. } if instants.len() == 1 => instants.first().copied(),
            Layout::Spine { .. } | Layout::SameInstants { .. } => None,
        }
    }

    /// Adds entities up to this number, if entities are added while facts are read. Returns false if slots cannot be numbered.
    #[must_use]
    pub(crate) fn ensure_entities(&self, count: u32) -> bool {
        let Layout::SameInstants { entities, instants } = &self.layout else { return true };
        // One number more stands for no slot.
        let has_room = count as usize * instants.len() < u32::MAX as usize - 1;
        if has_room {
            entities.fetch_max(count, Ordering::Relaxed);
        }
        has_room
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        match &self.layout {
            Layout::Spine { instants, .. } => instants.len(),
            Layout::SameInstants { instants, entities } => entities.load(Ordering::Relaxed) as usize * instants.len(),
        }
    }

    /// How many entities there are.
    pub(crate) fn entities(&self) -> usize {
        match &self.layout {
            Layout::Spine { starts, .. } => starts.len() - 1,
            Layout::SameInstants { entities, .. } => entities.load(Ordering::Relaxed) as usize,
        }
    }

    /// For how many entities an accumulator remembers where their previous fact was: a power of two.
    pub(crate) fn hint_table_len(&self) -> usize {
        match &self.layout {
            Layout::Spine { .. } => self.entities().next_power_of_two().min(MAX_HINTS),
            // There may be any number.
            Layout::SameInstants { .. } => MAX_HINTS,
        }
    }

    /// The instant of a slot.
    #[inline]
    pub(crate) fn instant(&self, slot: usize) -> i64 {
        match &self.layout {
            Layout::Spine { instants, .. } => instants.get(slot),
            Layout::SameInstants { instants, .. } => instants[slot % instants.len()],
        }
    }

    /// The slot of each row of the spine; [`SpineIndex::len`] for a row without a slot.
    pub(crate) fn slot_of_row(&self) -> Arc<Vec<u32>> {
        self.slot_of_row.clone()
    }

    /// The slots of an entity.
    #[inline]
    pub(crate) fn slots_of(&self, entity: u32) -> std::ops::Range<u32> {
        match &self.layout {
            Layout::Spine { starts, .. } => starts[entity as usize]..starts[entity as usize + 1],
            Layout::SameInstants { instants, .. } => {
                let count = instants.len() as u32;
                entity * count..(entity + 1) * count
            }
        }
    }

    /// The first slot of a run whose instant is after `tick`, or the run's end. The search begins at `hint`, and takes time
    /// in the logarithm of the distance from there.
    #[inline]
    pub(crate) fn first_after(&self, run: &std::ops::Range<u32>, tick: i64, hint: u32) -> u32 {
        match &self.layout {
            Layout::Spine { instants, .. } => instants.first_after(run, tick, hint),
            Layout::SameInstants { instants, .. } => {
                let hint = (hint.clamp(run.start, run.end) - run.start) as usize;
                run.start + first_that(instants, hint, |instant| instant > tick) as u32
            }
        }
    }

    /// The first slot of a run whose instant is at `tick` or after it, or the run's end; as [`SpineIndex::first_after`].
    #[inline]
    pub(crate) fn first_from(&self, run: &std::ops::Range<u32>, tick: i64, hint: u32) -> u32 {
        match tick.checked_sub(1) {
            Some(before) => self.first_after(run, before, hint),
            None => run.start,
        }
    }

    /// The ticks for which this slot of a run, or the run's end, is the first one after them: from the first (inclusive) to the
    /// second (exclusive). Before a run's first slot they have no beginning, and after its last slot no end.
    #[inline]
    pub(crate) fn preceding_ticks(&self, run: &std::ops::Range<u32>, slot: u32) -> (Option<i64>, Option<i64>) {
        self.preceding(run, slot, |slot| self.instant(slot))
    }

    /// As [`SpineIndex::preceding_ticks`], with another tick for each slot that rises with its instant.
    #[inline]
    pub(crate) fn preceding(
        &self,
        run: &std::ops::Range<u32>,
        slot: u32,
        tick_of: impl Fn(usize) -> i64,
    ) -> (Option<i64>, Option<i64>) {
        let from = (slot > run.start).then(|| tick_of(slot as usize - 1));
        let to = (slot < run.end).then(|| tick_of(slot as usize));
        (from, to)
    }

    /// How many instants there are: one for each slot, or one for each slot of an entity if all entities have the same. They are
    /// those of the first slots.
    pub(crate) fn instant_count(&self) -> usize {
        match &self.layout {
            Layout::Spine { instants, .. } => instants.len(),
            Layout::SameInstants { instants, .. } => instants.len(),
        }
    }

    /// The value of a slot's instant, of as many values as there are instants.
    #[inline]
    pub(crate) fn value_of(&self, values: &[i64], slot: usize) -> i64 {
        match &self.layout {
            Layout::Spine { .. } => values[slot],
            Layout::SameInstants { instants, .. } => values[slot % instants.len()],
        }
    }

    /// The first slot of a run whose value is larger than `tick`, or the run's end; as [`SpineIndex::first_after`]. There are as many
    /// values as instants, and they rise with them.
    #[inline]
    pub(crate) fn first_with(&self, run: &std::ops::Range<u32>, values: &[i64], tick: i64, hint: u32) -> u32 {
        let values = match &self.layout {
            Layout::Spine { .. } => &values[run.start as usize..run.end as usize],
            Layout::SameInstants { .. } => values,
        };
        let hint = (hint.clamp(run.start, run.end) - run.start) as usize;
        run.start + first_that(values, hint, |value| value > tick) as u32
    }

    /// The first and the last instant of all slots.
    pub(crate) fn instant_range(&self) -> Option<(i64, i64)> {
        let runs = (0..self.entities() as u32).map(|entity| self.slots_of(entity)).filter(|run| !run.is_empty());
        let ends = runs.map(|run| (self.instant(run.start as usize), self.instant(run.end as usize - 1)));
        ends.reduce(|(first, last), (start, end)| (first.min(start), last.max(end)))
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let layout = match &self.layout {
            Layout::Spine { starts, instants } => starts.len() * 4 + instants.bytes(),
            Layout::SameInstants { instants, .. } => instants.len() * 8,
        };
        layout + self.slot_of_row.len() * 4
    }
}

/// Puts the instants of rows into slots, and notes the slot of each row.
struct SlotAssigner<'a> {
    /// The first slot of each entity, and the number of all slots.
    starts: &'a [u32],
    /// The entity of each row; afterwards its slot, or the number of all slots.
    numbers: &'a mut [u32],
}

impl Scatter for SlotAssigner<'_> {
    fn scatter<T: Copy + Default + Ord>(&mut self, ticks: &[ScalarBuffer<i64>], to: impl Fn(i64) -> T) -> Vec<T> {
        let starts = self.starts;
        let slots = starts.last().copied().unwrap_or(0);
        let mut next = starts.to_vec();
        let mut instants = vec![T::default(); slots as usize];
        let mut is_sorted = true;
        for (number, &tick) in self.numbers.iter_mut().zip(ticks.iter().flat_map(|piece| piece.iter())) {
            if *number == NO_KEY {
                *number = slots;
                continue;
            }
            let (slot, instant) = (next[*number as usize], to(tick));
            is_sorted &= slot == starts[*number as usize] || instants[slot as usize - 1] <= instant;
            instants[slot as usize] = instant;
            next[*number as usize] += 1;
            *number = slot;
        }
        if !is_sorted {
            sort(starts, &mut instants, self.numbers);
        }
        instants
    }
}

/// Sorts the slots of every entity by time.
fn sort<T: Copy + Ord>(starts: &[u32], instants: &mut [T], slot_of_row: &mut [u32]) {
    let mut rows = vec![0u32; instants.len()];
    for (row, &slot) in slot_of_row.iter().enumerate() {
        if let Some(of_slot) = rows.get_mut(slot as usize) {
            *of_slot = row as u32;
        }
    }
    let mut pairs: Vec<(T, u32)> = Vec::new();
    for entity in starts.windows(2) {
        let run = entity[0] as usize..entity[1] as usize;
        if instants[run.clone()].is_sorted() {
            continue;
        }
        pairs.clear();
        pairs.extend(instants[run.clone()].iter().copied().zip(rows[run.clone()].iter().copied()));
        pairs.sort_unstable();
        for (slot, &(instant, row)) in run.zip(&pairs) {
            instants[slot] = instant;
            slot_of_row[row as usize] = slot as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_lie_by_entity_and_time_and_remember_their_rows() {
        let ticks = [vec![30, 5, 1].into(), vec![10, 30].into()];
        let index = SpineIndex::new(vec![1, 0, NO_KEY, 1, 1], &ticks, 2);
        assert_eq!((index.slots_of(0), index.slots_of(1)), (0..1, 1..4));
        assert_eq!([0, 1, 2, 3].map(|slot| index.instant(slot)), [5, 10, 30, 30]);
        assert_eq!(*index.slot_of_row(), [2, 0, 4, 1, 3]);
        for hint in 0..5 {
            assert_eq!(index.first_after(&index.slots_of(1), 9, hint), 1);
            assert_eq!(index.first_after(&index.slots_of(1), 10, hint), 2);
            assert_eq!(index.first_after(&index.slots_of(1), 30, hint), 4);
            assert_eq!(index.first_from(&index.slots_of(1), 30, hint), 2);
            assert_eq!(index.first_from(&index.slots_of(1), i64::MIN, hint), 1);
            let starts = [7, 2, 4, 4];
            assert_eq!([1, 2, 3, 4].map(|tick| index.first_with(&index.slots_of(1), &starts, tick, hint)), [1, 2, 2, 4]);
        }
    }

    #[test]
    fn entities_that_are_found_later_have_a_slot_at_each_instant() {
        let index = SpineIndex::of_entities_at(&[10, 20, 20]);
        assert!(index.ensure_entities(3) && index.ensure_entities(2));
        assert_eq!((index.entities(), index.len(), index.slots_of(2)), (3, 9, 6..9));
        assert_eq!([6, 7, 8].map(|slot| index.instant(slot)), [10, 20, 20]);
        for hint in 0..12 {
            let run = index.slots_of(2);
            assert_eq!([9, 10, 19, 20].map(|tick| index.first_after(&run, tick, hint)), [6, 7, 7, 9]);
            assert_eq!([10, 11, 20, 21].map(|tick| index.first_from(&run, tick, hint)), [6, 7, 7, 9]);
        }
        // Other ticks that rise with the instants.
        let starts = [1, 1, 3];
        assert_eq!(index.instant_count(), starts.len());
        assert_eq!(index.preceding(&(6..9), 8, |slot| index.value_of(&starts, slot)), (Some(1), Some(3)));
        for hint in 0..12 {
            let run = index.slots_of(2);
            assert_eq!([0, 1, 2, 3].map(|tick| index.first_with(&run, &starts, tick, hint)), [6, 8, 8, 9]);
        }
        assert!(index.single_instant().is_none());
        assert!(!index.ensure_entities(u32::MAX / 3), "more slots than there are numbers");
        assert_eq!(SpineIndex::of_entities_at(&[7]).single_instant(), Some(7));
    }
}
