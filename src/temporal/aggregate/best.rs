//! The best slice of a window at each slot: what minimum, maximum, first and last have in common.
//! Which of two slices is better is up to the caller.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
    ops::Range,
};

use super::{
    entity_slices::{EntitySlices, Step},
    result_columns::Nullable,
};

/// Appends the value of the best slice at each slot. `value` and `compare` take positions of slices; the greater slice is the
/// better one, and a slice without a value is left out.
pub(super) fn slide_best(
    slices: &EntitySlices,
    slots: Range<u32>,
    value: impl Fn(usize) -> Option<u64>,
    compare: impl Fn(usize, usize) -> Ordering,
    results: &mut Nullable<u64>,
) {
    if slices.leave_in_order() {
        // A slice that enters later leaves later. So a slice that is not better than a later one is never the best again.
        let mut candidates: VecDeque<usize> = VecDeque::new();
        slices.slide(slots, |step| match step {
            Step::Enter(i) => {
                if value(i).is_some() {
                    while candidates.back().is_some_and(|&last| compare(last, i).is_le()) {
                        candidates.pop_back();
                    }
                    candidates.push_back(i);
                }
            }
            Step::Leave(i) => {
                if candidates.front() == Some(&i) {
                    candidates.pop_front();
                }
            }
            Step::Slot(_) => results.push(candidates.front().and_then(|&i| value(i))),
        });
        return;
    }
    let mut order: Vec<usize> = (0..slices.len()).filter(|&i| value(i).is_some()).collect();
    order.sort_by(|&a, &b| compare(a, b));
    let mut rank = vec![0usize; slices.len()];
    order.iter().enumerate().for_each(|(r, &i)| rank[i] = r);
    let mut heap: BinaryHeap<(usize, usize)> = BinaryHeap::new();
    slices.slide(slots, |step| match step {
        Step::Enter(i) => {
            if value(i).is_some() {
                heap.push((rank[i], i));
            }
        }
        // Slices are removed once they are at the top.
        Step::Leave(_) => {}
        Step::Slot(slot) => {
            while heap.peek().is_some_and(|&(_, i)| slices.leave(i) <= slot) {
                heap.pop();
            }
            results.push(heap.peek().and_then(|&(_, i)| value(i)));
        }
    });
}
