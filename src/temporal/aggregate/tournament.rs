//! Counts of values by rank, with the highest counts at hand.
//! The value of a rank is known to the caller.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

use super::{
    entity_slices::{EntitySlices, Step},
    value_log::Ranks,
};

/// How many values of each rank there are, as a tournament tree: the leaves are the counts by rank, and every other node is the
/// larger of its two children. A change and a search follow one path between the root and a leaf.
pub(super) struct Tournament {
    /// The root is at 1, and the children of `i` are at `2 i` and `2 i + 1`. The second half are the leaves.
    nodes: Vec<u32>,
    total: u64,
}

impl Tournament {
    /// No value yet, of so many ranks.
    pub(super) fn new(ranks: usize) -> Self {
        Self { nodes: vec![0; 2 * ranks.next_power_of_two()], total: 0 }
    }

    /// Adds a value of a rank.
    pub(super) fn add(&mut self, rank: usize) {
        self.total += 1;
        self.change(rank, |count| count + 1);
    }

    /// Removes a value of a rank, which was added before.
    pub(super) fn remove(&mut self, rank: usize) {
        self.total -= 1;
        self.change(rank, |count| count - 1);
    }

    /// Changes the count of a rank.
    fn change(&mut self, rank: usize, change: impl Fn(u32) -> u32) {
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

    /// How many values there are.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How many values the most frequent rank has; zero without a value.
    pub(super) fn highest(&self) -> u32 {
        self.nodes[1]
    }

    /// The smallest of the ranks with the highest count, unless all counts are zero.
    pub(super) fn winner(&self) -> Option<usize> {
        let (highest, leaves) = (self.nodes[1], self.nodes.len() / 2);
        let mut at = 1;
        while at < leaves {
            at = 2 * at + usize::from(self.nodes[2 * at] != highest);
        }
        (highest > 0).then_some(at - leaves)
    }

    /// The ranks from the highest count down, of equal counts the smaller rank first. Ranks without a value are left out.
    pub(super) fn winners(&self) -> impl Iterator<Item = usize> {
        let leaves = self.nodes.len() / 2;
        // Nodes whose ranks are still to come. Their ranks are disjoint, so of two nodes with equal counts the one further left
        // has the smaller ranks.
        let mut open = BinaryHeap::from([self.node(1)]);
        std::iter::from_fn(move || {
            loop {
                let (_, _, at) = open.pop().filter(|(count, _, _)| *count > 0)?;
                if at >= leaves {
                    return Some(at - leaves);
                }
                open.extend([self.node(2 * at), self.node(2 * at + 1)]);
            }
        })
    }

    /// A node: its count, its first leaf, and where it is.
    fn node(&self, at: usize) -> (u32, Reverse<usize>, usize) {
        let levels_below = (self.nodes.len() / 2).ilog2() - at.ilog2();
        (self.nodes[at], Reverse(at << levels_below), at)
    }
}

/// Slides a window over these slots, and calls `to` at each slot with the counts of the values in the window. `ranks` are those
/// of the slices' values, of which so many are different.
pub(super) fn slide_counts(
    ranks: &Ranks,
    different: usize,
    slices: &EntitySlices,
    slots: Range<u32>,
    mut to: impl FnMut(&Tournament),
) {
    let mut counts = Tournament::new(different);
    slices.slide(slots, |step| match step {
        Step::Enter(i) => ranks.of_slice(i).iter().for_each(|&rank| counts.add(rank as usize)),
        Step::Leave(i) => ranks.of_slice(i).iter().for_each(|&rank| counts.remove(rank as usize)),
        Step::Slot(_) => to(&counts),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_ranks_are_found_in_order_after_any_changes() {
        for ranks in [1, 2, 3, 5, 8, 9] {
            let (mut tree, mut counts) = (Tournament::new(ranks), vec![0u32; ranks]);
            assert_eq!((tree.winner(), tree.winners().next(), tree.highest()), (None, None, 0));
            // A fixed sequence without a visible pattern, in which more enters than leaves at first, and the rest leaves last.
            let mut word = 1u64;
            for step in 0..400 {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let rank = (word >> 33) as usize % ranks;
                if counts[rank] > 0 && (step > 200 || word >> 62 == 0) {
                    counts[rank] -= 1;
                    tree.remove(rank);
                } else if step <= 200 {
                    counts[rank] += 1;
                    tree.add(rank);
                }
                let mut expected: Vec<usize> = (0..ranks).filter(|&rank| counts[rank] > 0).collect();
                expected.sort_by_key(|&rank| (Reverse(counts[rank]), rank));
                assert_eq!(tree.winners().collect::<Vec<_>>(), expected, "{counts:?}");
                assert_eq!(tree.winner(), expected.first().copied(), "{counts:?}");
                assert_eq!(tree.highest(), counts.iter().copied().max().unwrap_or(0));
                assert_eq!(tree.total(), counts.iter().copied().map(u64::from).sum::<u64>());
            }
        }
    }

    #[test]
    fn without_ranks_there_is_no_winner() {
        let none = Tournament::new(0);
        assert_eq!((none.winner(), none.winners().next(), none.highest()), (None, None, 0));
    }
}
