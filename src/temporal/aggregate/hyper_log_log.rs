//! HyperLogLog: about how many different hashes there are, in a bounded number of bytes.
//! It knows hashes; which values they are of is known to the caller.
//!
//! P. Flajolet et al., *HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm*, AofA 2007. The estimate is
//! that of O. Ertl, *New cardinality estimation algorithms for HyperLogLog sketches*, arXiv:1702.01284 (2017), algorithm 6, which
//! needs no correction for small and large numbers. Few hashes are kept as they are, as in S. Heule et al., *HyperLogLog in
//! Practice*, EDBT 2013.

/// The bits of a hash that choose a register.
const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;
/// The highest rank of a hash: all of its other bits are zero.
const HIGHEST_RANK: usize = 64 - PRECISION as usize + 1;
/// Up to so many different hashes are counted exactly. They take as many bytes as the registers.
pub(super) const MOST_EXACT: usize = REGISTERS / 8;

/// The register of a hash, and the hash's rank there: the position of the first one among its other bits, from 1 on.
fn place(hash: u64) -> (usize, u8) {
    let rank = (hash << PRECISION).leading_zeros() as usize + 1;
    ((hash >> (64 - PRECISION)) as usize, rank.min(HIGHEST_RANK) as u8)
}

/// What is kept of a set of hashes. It depends on the set alone: not on the order, and not on how often a hash was added.
pub(super) enum Sketch {
    /// All of them, in ascending order.
    Hashes(Vec<u64>),
    /// Of more than [`MOST_EXACT`] hashes the highest rank in each register; 0 in a register without a hash.
    Ranks(Box<[u8]>),
}

impl Default for Sketch {
    fn default() -> Self {
        Sketch::Hashes(Vec::new())
    }
}

impl Sketch {
    /// Adds a hash.
    #[inline]
    pub(super) fn add(&mut self, hash: u64) {
        match self {
            Sketch::Hashes(hashes) => {
                let Err(position) = hashes.binary_search(&hash) else { return };
                if hashes.len() < MOST_EXACT {
                    hashes.insert(position, hash);
                    return;
                }
                let mut ranks = vec![0; REGISTERS].into_boxed_slice();
                hashes.iter().chain([&hash]).for_each(|&hash| raise(&mut ranks, hash));
                *self = Sketch::Ranks(ranks);
            }
            Sketch::Ranks(ranks) => raise(ranks, hash),
        }
    }

    /// The hashes, if all of them are kept.
    pub(super) fn hashes(&self) -> &[u64] {
        match self {
            Sketch::Hashes(hashes) => hashes,
            Sketch::Ranks(_) => &[],
        }
    }

    /// The ranks, if they are what is kept.
    pub(super) fn ranks(&self) -> Option<&[u8]> {
        match self {
            Sketch::Hashes(_) => None,
            Sketch::Ranks(ranks) => Some(ranks),
        }
    }

    /// Bytes held besides those of the sketch itself.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        match self {
            Sketch::Hashes(hashes) => hashes.capacity() * 8,
            Sketch::Ranks(_) => REGISTERS,
        }
    }
}

fn raise(ranks: &mut [u8], hash: u64) {
    let (register, rank) = place(hash);
    ranks[register] = ranks[register].max(rank);
}

/// The ranks of several sets of hashes, of which each can be removed again.
pub(super) struct RankCounts {
    /// How many sets have each rank in each register.
    counts: Vec<u32>,
    /// The highest rank in each register.
    highest: Vec<u8>,
    /// How many registers have each highest rank.
    registers: [u32; HIGHEST_RANK + 1],
}

/// A power of two above the highest rank.
const RANKS: usize = 64;

impl RankCounts {
    /// Those of no set.
    pub(super) fn new() -> Self {
        let mut empty =
            Self { counts: vec![0; REGISTERS * RANKS], highest: vec![0; REGISTERS], registers: [0; HIGHEST_RANK + 1] };
        empty.registers[0] = REGISTERS as u32;
        empty
    }

    /// Removes all sets.
    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
        self.highest.fill(0);
        self.registers.fill(0);
        self.registers[0] = REGISTERS as u32;
    }

    /// Adds a set of one hash.
    pub(super) fn add_hash(&mut self, hash: u64) {
        let (register, rank) = place(hash);
        self.add(register, rank);
    }

    /// Removes a set of one hash, which was added before.
    pub(super) fn remove_hash(&mut self, hash: u64) {
        let (register, rank) = place(hash);
        self.remove(register, rank);
    }

    /// Adds a set with these ranks.
    pub(super) fn add_ranks(&mut self, ranks: &[u8]) {
        ranks.iter().enumerate().filter(|(_, rank)| **rank > 0).for_each(|(register, &rank)| self.add(register, rank));
    }

    /// Removes a set with these ranks, which was added before.
    pub(super) fn remove_ranks(&mut self, ranks: &[u8]) {
        ranks.iter().enumerate().filter(|(_, rank)| **rank > 0).for_each(|(register, &rank)| self.remove(register, rank));
    }

    fn add(&mut self, register: usize, rank: u8) {
        self.counts[register * RANKS + usize::from(rank)] += 1;
        if rank > self.highest[register] {
            self.set_highest(register, rank);
        }
    }

    fn remove(&mut self, register: usize, rank: u8) {
        let counts = &mut self.counts[register * RANKS..][..RANKS];
        counts[usize::from(rank)] -= 1;
        if rank == self.highest[register] && counts[usize::from(rank)] == 0 {
            // No set has rank 0, so that is what is left where there is none.
            let next = (1..rank).rev().find(|&lower| counts[usize::from(lower)] > 0);
            self.set_highest(register, next.unwrap_or(0));
        }
    }

    fn set_highest(&mut self, register: usize, rank: u8) {
        self.registers[usize::from(self.highest[register])] -= 1;
        self.registers[usize::from(rank)] += 1;
        self.highest[register] = rank;
    }

    /// About how many different hashes there are in all sets. The standard error is `1.04 / sqrt(4096)` of them, 1.6 %.
    ///
    /// Only operations whose results IEEE 754 states to the last bit, so every platform has the same bits.
    pub(super) fn estimate(&self) -> f64 {
        let all = REGISTERS as f64;
        let share = |rank: usize| f64::from(self.registers[rank]) / all;
        let mut sum = all * tau(1.0 - share(HIGHEST_RANK));
        for rank in (1..HIGHEST_RANK).rev() {
            sum = (sum + f64::from(self.registers[rank])) / 2.0;
        }
        sum += all * sigma(share(0));
        std::f64::consts::LOG2_E / 2.0 * all * all / sum
    }
}

/// `x + Σ x^(2^k) 2^(k-1)` over k from 1 on, for x from 0 to 1.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut sum, mut weight) = (x, 1.0);
    loop {
        x *= x;
        let next = sum + x * weight;
        if next == sum {
            return sum;
        }
        (sum, weight) = (next, weight * 2.0);
    }
}

/// `(1 - x - Σ (1 - x^(2^-k))² 2^-k) / 3` over k from 1 on, for x from 0 to 1.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut sum, mut weight) = (1.0 - x, 1.0);
    loop {
        x = x.sqrt();
        weight /= 2.0;
        let next = sum - (1.0 - x) * (1.0 - x) * weight;
        if next == sum {
            return sum / 3.0;
        }
        sum = next;
    }
}

#[cfg(test)]
mod tests {
    use twox_hash::XxHash64;

    use super::*;

    fn hash(number: u64) -> u64 {
        XxHash64::oneshot(0, &number.to_le_bytes())
    }

    fn sketch(numbers: impl IntoIterator<Item = u64>) -> Sketch {
        let mut sketch = Sketch::default();
        numbers.into_iter().for_each(|number| sketch.add(hash(number)));
        sketch
    }

    fn put(counts: &mut RankCounts, sketch: &Sketch) {
        sketch.hashes().iter().for_each(|&hash| counts.add_hash(hash));
        counts.add_ranks(sketch.ranks().unwrap_or(&[]));
    }

    fn take(counts: &mut RankCounts, sketch: &Sketch) {
        sketch.hashes().iter().for_each(|&hash| counts.remove_hash(hash));
        counts.remove_ranks(sketch.ranks().unwrap_or(&[]));
    }

    fn estimate(numbers: impl IntoIterator<Item = u64>) -> f64 {
        let mut counts = RankCounts::new();
        put(&mut counts, &sketch(numbers));
        counts.estimate()
    }

    #[test]
    fn a_hash_has_a_register_and_a_rank() {
        assert_eq!(place(0), (0, 53));
        assert_eq!(place(u64::MAX), (4_095, 1));
        assert_eq!(place(1), (0, 52));
        assert_eq!(place((7 << 52) | (1 << 51)), (7, 1));
        assert_eq!(place((7 << 52) | (1 << 50) | 1), (7, 2));
    }

    #[test]
    fn few_hashes_are_kept_and_many_are_not() {
        let exact = sketch((0..MOST_EXACT as u64).chain(0..100));
        assert_eq!((exact.hashes().len(), exact.ranks()), (MOST_EXACT, None));
        assert!(exact.hashes().is_sorted() && exact.bytes() <= 2 * 8 * MOST_EXACT);
        let many = sketch(0..=MOST_EXACT as u64);
        assert_eq!((many.hashes().len(), many.ranks().map(<[u8]>::len), many.bytes()), (0, Some(4_096), 4_096));
        // A sketch depends on the set alone.
        let again = sketch((0..=MOST_EXACT as u64).rev().chain(3..300).chain(3..300));
        assert_eq!(again.ranks(), many.ranks());
    }

    /// Of numbers of any size, and of many sets of one size: no estimate is far off, and they are right on average.
    #[test]
    fn estimates_have_the_stated_error() {
        for count in [513, 1_000, 3_000, 10_000, 20_000, 50_000, 200_000, 1_000_000u64] {
            let error = estimate(0..count) / count as f64 - 1.0;
            assert!(error.abs() < 4.0 * 1.04 / 64.0, "{count}: {error}");
        }
        for count in [600u64, 2_000, 8_000, 30_000] {
            let errors: Vec<f64> =
                (0..100).map(|set| estimate((0..count).map(|i| (set + 1) << 32 | i)) / count as f64 - 1.0).collect();
            let mean = errors.iter().sum::<f64>() / 100.0;
            let deviation = (errors.iter().map(|error| error * error).sum::<f64>() / 100.0).sqrt();
            assert!(deviation < 1.3 * 1.04 / 64.0 && mean.abs() < 3.0 * 1.04 / 64.0 / 10.0, "{count}: {mean} {deviation}");
        }
    }

    #[test]
    fn sums_of_sets_are_the_sets_together_and_what_was_taken_out_leaves_no_trace() {
        let parts = [0..400u64, 300..2_000, 1_500..1_600, 5_000..5_001, 0..9_000, 8_000..20_000];
        let sketches: Vec<Sketch> = parts.iter().cloned().map(sketch).collect();
        let mut counts = RankCounts::new();
        sketches.iter().for_each(|part| put(&mut counts, part));
        assert_eq!(counts.estimate(), estimate(0..20_000));
        // What is left are the first three, in any order of leaving.
        for leaving in [[3, 4, 5], [5, 3, 4], [4, 5, 3]] {
            leaving.iter().for_each(|&i| take(&mut counts, &sketches[i]));
            assert_eq!(counts.estimate(), estimate(0..2_000));
            leaving.iter().for_each(|&i| put(&mut counts, &sketches[i]));
            assert_eq!(counts.estimate(), estimate(0..20_000));
        }
        counts.clear();
        put(&mut counts, &sketches[1]);
        assert_eq!(counts.estimate(), estimate(300..2_000));
    }

    #[test]
    fn the_ends_of_the_scale_are_numbers() {
        assert_eq!(RankCounts::new().estimate(), 0.0);
        let mut full = RankCounts::new();
        full.add_ranks(&[HIGHEST_RANK as u8; REGISTERS]);
        assert!(full.estimate() > 1e18, "{}", full.estimate());
    }
}
