//! The slices of one entity that lie in windows of one length, in the order in which they enter the windows and leave them.
//! What is made of the slices in a window is up to each aggregate.

use std::ops::Range;

/// Where a slice is: the task that accumulated it, and its number there.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::temporal) struct SliceLocation {
    pub(in crate::temporal) task: u32,
    pub(in crate::temporal) slice: u32,
}

/// A slice, the first slot whose window holds it, and the first slot after that whose window does not.
#[derive(Clone, Copy)]
pub(in crate::temporal) struct VisibleSlice {
    pub(in crate::temporal) enter: u32,
    pub(in crate::temporal) leave: u32,
    pub(in crate::temporal) location: SliceLocation,
}

/// The slices of an entity, for windows of one length. Its buffers are used for one entity after the other.
#[derive(Default)]
pub(in crate::temporal) struct EntitySlices {
    entering: Vec<VisibleSlice>,
    /// Positions in `entering`, in the order in which the slices leave.
    leaving: Vec<u32>,
}

/// A step of a window that slides over an entity's slices. Slices are given by their positions in the order of entering.
pub(super) enum Step {
    Enter(usize),
    Leave(usize),
    /// The window is that of this slot.
    Slot(u32),
}

impl EntitySlices {
    /// Replaces the slices. Those that no slot sees are left out.
    pub(in crate::temporal) fn set(&mut self, slices: impl Iterator<Item = VisibleSlice>) {
        let Self { entering, leaving } = self;
        entering.clear();
        entering.extend(slices.filter(|slice| slice.enter < slice.leave));
        if !entering.is_sorted_by_key(|slice| slice.enter) {
            entering.sort_unstable_by_key(|slice| (slice.enter, slice.location));
        }
        leaving.clear();
        leaving.extend(0..entering.len() as u32);
        if !entering.is_sorted_by_key(|slice| slice.leave) {
            leaving.sort_unstable_by_key(|&i| (entering[i as usize].leave, i));
        }
    }

    /// How many slices there are.
    pub(super) fn len(&self) -> usize {
        self.entering.len()
    }

    /// Where the slice at this position is.
    #[inline]
    pub(super) fn location(&self, i: usize) -> SliceLocation {
        self.entering[i].location
    }

    /// Where all slices are, in the order of entering.
    pub(super) fn locations(&self) -> impl Iterator<Item = SliceLocation> {
        self.entering.iter().map(|slice| slice.location)
    }

    /// The first slot that no longer sees the slice at this position.
    #[inline]
    pub(super) fn leave(&self, i: usize) -> u32 {
        self.entering[i].leave
    }

    /// Do slices leave in the order in which they enter?
    pub(super) fn leave_in_order(&self) -> bool {
        self.entering.is_sorted_by_key(|slice| slice.leave)
    }

    /// Slides the window over these slots: for each slot slices enter, slices leave, and the window is read.
    #[inline]
    pub(super) fn slide(&self, slots: Range<u32>, mut to: impl FnMut(Step)) {
        let (mut entered, mut left) = (0, 0);
        for slot in slots {
            while self.entering.get(entered).is_some_and(|slice| slice.enter <= slot) {
                to(Step::Enter(entered));
                entered += 1;
            }
            while let Some(&i) = self.leaving.get(left).filter(|&&i| self.entering[i as usize].leave <= slot) {
                to(Step::Leave(i as usize));
                left += 1;
            }
            to(Step::Slot(slot));
        }
    }
}
