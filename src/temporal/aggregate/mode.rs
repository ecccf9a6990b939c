//! The most frequent value. Values of a window are counted by rank in a tree that keeps the highest count.
//! It does not order values: ranks are from `value_log`.

use std::ops::Range;

use super::{
    Aggregate, AggregateFunction, AggregateKind,
    count_distinct::distinct,
    entity_slices::{EntitySlices, Step},
    result_columns::{Nullable, ResultColumn},
    slider::{OutputStates, Slider},
    state::StateKind,
    value_log::ValueLogs,
};
use crate::{error::Result, temporal::sort_keys::Encoding};

impl Aggregate {
    /// The most frequent value; of several that are equally frequent, the smallest.
    ///
    /// All NaN are one value, the largest. Both zeros are one value, 0.0.
    pub fn mode(column: impl Into<String>) -> Self {
        Self::of(AggregateKind::Mode, "mode", column.into())
    }
}

pub(super) struct ModeFunction;

impl AggregateFunction for ModeFunction {
    fn state(&self, _: Encoding) -> StateKind {
        StateKind::Values
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        Ok(Box::new(ModeSlider { logs: ValueLogs::new(&states)?, results: Nullable::with_capacity(slots) }))
    }
}

struct ModeSlider<'a> {
    logs: ValueLogs<'a>,
    results: Nullable<u64>,
}

impl Slider for ModeSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { logs, results } = self;
        let (ranks, values) = logs.rank(slices, distinct);
        let mut counts = Tournament::new(values.len());
        slices.slide(slots, |step| match step {
            Step::Enter(i) => ranks.of_slice(i).iter().for_each(|&rank| counts.set(rank as usize, |count| count + 1)),
            Step::Leave(i) => ranks.of_slice(i).iter().for_each(|&rank| counts.set(rank as usize, |count| count - 1)),
            Step::Slot(_) => results.push(counts.winner().map(|rank| values[rank])),
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Keys(self.results)
    }
}

/// How many values of each rank there are, as a tournament tree: the leaves are the counts by rank, and every other node is the
/// larger of its two children. A change and a search follow one path between the root and a leaf.
struct Tournament {
    /// The root is at 1, and the children of `i` are at `2 i` and `2 i + 1`. The second half are the leaves.
    nodes: Vec<u32>,
}

impl Tournament {
    /// No value yet, of so many ranks.
    fn new(ranks: usize) -> Self {
        Self { nodes: vec![0; 2 * ranks.next_power_of_two()] }
    }

    /// Changes the count of a rank.
    fn set(&mut self, rank: usize, change: impl Fn(u32) -> u32) {
        let mut at = self.nodes.len() / 2 + rank;
        self.nodes[at] = change(self.nodes[at]);
        while at > 1 {
            at /= 2;
            let larger = self.nodes[2 * at].max(self.nodes[2 * at + 1]);
            if self.nodes[at] == larger {
                break;
            }
            self.nodes[at] = larger;
        }
    }

    /// The smallest of the ranks with the highest count, unless all counts are zero.
    fn winner(&self) -> Option<usize> {
        let (highest, leaves) = (self.nodes[1], self.nodes.len() / 2);
        let mut at = 1;
        while at < leaves {
            at = 2 * at + usize::from(self.nodes[2 * at] != highest);
        }
        (highest > 0).then_some(at - leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_of_the_most_frequent_ranks_is_found_after_any_changes() {
        for ranks in [1, 2, 3, 5, 8, 9] {
            let (mut tree, mut counts) = (Tournament::new(ranks), vec![0u32; ranks]);
            assert_eq!(tree.winner(), None);
            // A fixed sequence without a visible pattern, in which more enters than leaves at first, and the rest leaves last.
            let mut word = 1u64;
            for step in 0..400 {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let rank = (word >> 33) as usize % ranks;
                if counts[rank] > 0 && (step > 200 || word >> 62 == 0) {
                    counts[rank] -= 1;
                    tree.set(rank, |count| count - 1);
                } else if step <= 200 {
                    counts[rank] += 1;
                    tree.set(rank, |count| count + 1);
                }
                let highest = *counts.iter().max().unwrap();
                let first = counts.iter().position(|&count| count == highest && highest > 0);
                assert_eq!(tree.winner(), first, "{counts:?}");
            }
        }
    }

    #[test]
    fn without_ranks_there_is_no_winner() {
        assert_eq!(Tournament::new(0).winner(), None);
    }
}
