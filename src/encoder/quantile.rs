//! The order statistics that the quantiles of a column lie between, in bounded memory, by counting instead of sorting.
//! What a quantile is, is not decided here: see [`crate::numeric::quantile()`].
//!
//! The key of a float sorts like the float. One pass counts how many values share each of 65,536 leading 16-bit prefixes. The wanted rank then lies under one prefix, and the next pass counts the next 16 bits under it. Four
//! passes fix all 64 bits. Fewer are needed when the values under the wanted prefixes are few enough to be kept: usually one
//! counting pass and one collecting pass. Memory: half a megabyte of counters per open prefix, and [`KEPT_AT_MOST`] values.
//!
//! The caller feeds the values, so that several columns are searched in the same passes.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, Float64Array},
    datatypes::Float64Type,
};

use super::AsOfView;
use crate::{
    error::Result,
    numeric::{OrderStatistic, float_key, key_float, neighbours, quantile},
};

const DIGIT_BITS: u32 = 16;
const KEPT_AT_MOST: u64 = 1 << 20;

/// The search for the quantiles of one column.
///
/// The caller feeds all values, in any order, and again after each [`Quantiles::next_pass`] that returns true.
pub(super) struct Quantiles {
    probabilities: Vec<Fraction>,
    kept_at_most: u64,
    count: u64,
    found: BTreeMap<u64, f64>,
    pass: Pass,
}

/// A probability that need not be a float, such as a third or 2.5 percent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fraction {
    pub(super) numerator: f64,
    pub(super) denominator: f64,
    /// A float next to it, by which the quantile between two values is taken.
    pub(super) nearest: f64,
}

impl Fraction {
    /// This probability.
    fn float(probability: f64) -> Self {
        Self { numerator: probability, denominator: 1.0, nearest: probability }
    }

    /// So many percent.
    pub(super) fn percent(percent: f64) -> Self {
        Self { numerator: percent, denominator: 100.0, nearest: percent / 100.0 }
    }

    /// The rank of the value on which the quantile of `count` values falls, if it falls on one. A float that stands for a fraction
    /// would fall just beside it.
    fn rank(self, count: u64) -> Option<u64> {
        let last = count.checked_sub(1)? as f64;
        let product = self.numerator * last;
        let is_exact = self.numerator.mul_add(last, -product) == 0.0;
        (is_exact && product % self.denominator == 0.0).then(|| (product / self.denominator) as u64)
    }
}

/// What the values of a pass are for.
enum Pass {
    /// Counting all values by their first digit.
    First(Vec<u64>),
    /// Counting those under each prefix by their next digit.
    Count(Vec<Prefix>, Vec<Vec<u64>>),
    /// Keeping those under each prefix.
    Keep(Vec<Prefix>, Vec<Vec<u64>>),
    Done,
}

/// A prefix of ordered bits under which wanted ranks lie.
struct Prefix {
    digits: u32,
    bits: u64,
    /// How many values are smaller than all under it.
    before: u64,
    ranks: Vec<u64>,
}

/// The quantiles of the finite numbers in the only column of a view; `None` when there is none.
pub(super) fn quantiles_of(view: &AsOfView<'_>, probabilities: &[f64]) -> Result<Option<Vec<f64>>> {
    quantiles_at(view, probabilities.iter().copied().map(Fraction::float).collect())
}

/// As [`quantiles_of`], at fractions.
pub(super) fn quantiles_at(view: &AsOfView<'_>, probabilities: Vec<Fraction>) -> Result<Option<Vec<f64>>> {
    let mut search = Quantiles::at_fractions(probabilities);
    loop {
        for batch in view.batches()? {
            search.feed_finite(batch?.column(0).as_primitive::<Float64Type>());
        }
        if !search.next_pass() {
            return Ok(search.found());
        }
    }
}

impl Quantiles {
    /// A search for the quantiles at these probabilities, each in `[0, 1]`.
    pub(super) fn at(probabilities: &[f64]) -> Self {
        Self::at_fractions(probabilities.iter().copied().map(Fraction::float).collect())
    }

    fn at_fractions(probabilities: Vec<Fraction>) -> Self {
        let pass = Pass::First(vec![0; 1 << DIGIT_BITS]);
        Self { probabilities, kept_at_most: KEPT_AT_MOST, count: 0, found: BTreeMap::new(), pass }
    }

    /// Feeds values of a pass.
    pub(super) fn feed(&mut self, values: impl Iterator<Item = f64>) {
        let find = |prefixes: &[Prefix], key: u64| prefixes.iter().position(|p| key >> (64 - DIGIT_BITS * p.digits) == p.bits);
        match &mut self.pass {
            Pass::First(counts) => values.for_each(|x| counts[digit(float_key(x), 0)] += 1),
            Pass::Count(prefixes, counts) => values.map(float_key).for_each(|key| {
                if let Some(i) = find(prefixes, key) {
                    counts[i][digit(key, prefixes[i].digits)] += 1;
                }
            }),
            Pass::Keep(prefixes, kept) => values.map(float_key).for_each(|key| {
                if let Some(i) = find(prefixes, key) {
                    kept[i].push(key);
                }
            }),
            Pass::Done => {}
        }
    }

    /// Feeds the finite numbers of an array. Interpolating between an infinity and another number would be meaningless.
    pub(super) fn feed_finite(&mut self, numbers: &Float64Array) {
        match numbers.null_count() {
            0 => self.feed(numbers.values().iter().copied().filter(|x| x.is_finite())),
            _ => self.feed(numbers.iter().flatten().filter(|x| x.is_finite())),
        }
    }

    /// Ends a pass; returns whether all values must be fed again.
    pub(super) fn next_pass(&mut self) -> bool {
        let mut open = Vec::new();
        match std::mem::replace(&mut self.pass, Pass::Done) {
            Pass::First(counts) => {
                self.count = counts.iter().sum();
                if self.count > 0 {
                    let root = Prefix { digits: 0, bits: 0, before: 0, ranks: self.ranks() };
                    open = split(&root, &counts, &mut self.found);
                }
            }
            Pass::Count(prefixes, counts) => {
                for (prefix, counts) in prefixes.iter().zip(counts) {
                    open.extend(split(prefix, &counts, &mut self.found));
                }
            }
            Pass::Keep(prefixes, kept) => {
                for (prefix, mut keys) in prefixes.iter().zip(kept) {
                    keys.sort_unstable();
                    let at = |rank: u64| keys.get((rank - prefix.before) as usize).copied().map_or(f64::NAN, key_float);
                    self.found.extend(prefix.ranks.iter().map(|&rank| (rank, at(rank))));
                }
            }
            Pass::Done => {}
        }
        if open.is_empty() {
            return false;
        }
        let size: u64 = open.iter().map(|(_, size)| size).sum();
        let prefixes: Vec<Prefix> = open.into_iter().map(|(prefix, _)| prefix).collect();
        self.pass = match size <= self.kept_at_most {
            true => {
                let kept = prefixes.iter().map(|_| Vec::new()).collect();
                Pass::Keep(prefixes, kept)
            }
            false => {
                let counts = prefixes.iter().map(|_| vec![0; 1 << DIGIT_BITS]).collect();
                Pass::Count(prefixes, counts)
            }
        };
        true
    }

    /// The quantiles. `None` when there is no value.
    pub(super) fn found(&self) -> Option<Vec<f64>> {
        let at = |rank: u64| OrderStatistic::Float(self.found.get(&rank).copied().unwrap_or(f64::NAN));
        let one = |p: &Fraction| match p.rank(self.count) {
            Some(rank) => quantile(0.0, 1, |_| at(rank)),
            None => quantile(p.nearest, self.count, at),
        };
        self.probabilities.iter().map(one).collect()
    }

    /// The ranks that the quantiles lie between.
    fn ranks(&self) -> Vec<u64> {
        let of = |p: &Fraction| match p.rank(self.count) {
            Some(rank) => Some([rank, rank]),
            None => neighbours(p.nearest, self.count),
        };
        let mut ranks: Vec<u64> = self.probabilities.iter().filter_map(of).flatten().collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }
}

/// The prefixes one digit longer under which the wanted ranks lie, with their sizes; ranks whose value is fixed are found.
fn split(prefix: &Prefix, counts: &[u64], found: &mut BTreeMap<u64, f64>) -> Vec<(Prefix, u64)> {
    let mut longer = Vec::new();
    let mut before = prefix.before;
    for (digit, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let ranks: Vec<u64> = prefix.ranks.iter().copied().filter(|rank| (before..before + count).contains(rank)).collect();
        let bits = prefix.bits << DIGIT_BITS | digit as u64;
        if !ranks.is_empty() && prefix.digits + 1 == 64 / DIGIT_BITS {
            found.extend(ranks.iter().map(|&rank| (rank, key_float(bits))));
        } else if !ranks.is_empty() {
            longer.push((Prefix { digits: prefix.digits + 1, bits, before, ranks }, count));
        }
        before += count;
    }
    longer
}

fn digit(key: u64, position: u32) -> usize {
    (key >> (64 - DIGIT_BITS * (position + 1)) & ((1 << DIGIT_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(mut quantiles: Quantiles, values: &[f64]) -> Option<Vec<f64>> {
        loop {
            quantiles.feed(values.iter().copied());
            if !quantiles.next_pass() {
                return quantiles.found();
            }
        }
    }

    fn quantiles(values: &[f64], probabilities: &[f64]) -> Option<Vec<f64>> {
        search(Quantiles::at(probabilities), values)
    }

    fn by_sorting(values: &[f64], p: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        quantile(p, sorted.len() as u64, |rank| OrderStatistic::Float(sorted[rank as usize])).unwrap()
    }

    #[test]
    fn numbers_from_numpy() {
        // np.percentile([1, 2, 4, 8, 16.5], [0, 2, 50, 98, 100])
        let found = quantiles(&[16.5, 8.0, 1.0, 4.0, 2.0], &[0.0, 0.02, 0.5, 0.98, 1.0]).unwrap();
        assert_eq!(found, [1.0, 1.08, 4.0, 15.82, 16.5]);
        assert_eq!(quantiles(&[], &[0.5]), None);
        assert_eq!(quantiles(&[7.0], &[0.0, 0.3, 1.0]).unwrap(), [7.0, 7.0, 7.0]);
    }

    #[test]
    fn many_values_under_one_prefix_are_counted_digit_by_digit() {
        // 200,000 values that share their first 16 bits, many of them equal.
        let values: Vec<f64> = (0..200_000u64).map(|i| 1.0 + (i * 7_919 % 1_000) as f64 * 1e-9).collect();
        for p in [0.0, 0.02, 0.25, 0.5, 0.9801, 1.0] {
            let few = Quantiles { kept_at_most: 1_000, ..Quantiles::at(&[p]) };
            assert_eq!(search(few, &values).unwrap(), [by_sorting(&values, p)], "{p}");
            assert_eq!(quantiles(&values, &[p]).unwrap(), [by_sorting(&values, p)], "{p}");
        }
    }

    proptest! {
        #[test]
        fn counting_agrees_with_sorting(
            values in prop::collection::vec(prop_oneof![-1e3..1e3, prop::num::f64::NORMAL, Just(0.0), Just(-0.0), Just(5.5)], 1..300),
            p in 0.0..=1.0f64,
        ) {
            let found = quantiles(&values, &[p]).unwrap()[0];
            prop_assert_eq!(found.to_bits(), by_sorting(&values, p).to_bits());
        }
    }
}
