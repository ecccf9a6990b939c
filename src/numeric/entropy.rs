//! Shannon's entropy of the frequencies of values, from integers that are added and subtracted exactly, and rounded once.
//! It keeps no values. It calls no mathematical library, so its bits are the same on every platform.

use super::{integer::Integer, ratio::Magnitude};

/// Bits behind the point of a logarithm. The least entropy above zero of `2^32` values is about `2^-27`, and then 70 bits are
/// still right.
const FRACTION: u32 = 100;

/// Logarithms of integers below this are computed once.
const KEPT: usize = 1_024;

/// The frequencies `c` of the different values of a multiset, as far as its entropy needs them: their sum `n`, and the sum of all
/// `c log2 c`.
///
/// With `p = c / n`, Shannon's entropy `-Σ p log2 p` (*A Mathematical Theory of Communication*, 1948) is
/// `(n log2 n - Σ c log2 c) / n`. A logarithm is an integer, in units of `2^-100` and rounded down, so the sums are exact and do
/// not depend on the order of changes.
pub(crate) struct Entropy {
    total: u64,
    weighted: Integer<3>,
    /// Logarithms of small integers; zero where one was not needed yet.
    logarithms: Vec<u128>,
}

impl Entropy {
    /// That of no value.
    pub(crate) fn new() -> Self {
        Self { total: 0, weighted: Integer::default(), logarithms: vec![0; KEPT] }
    }

    /// Removes all values.
    pub(crate) fn clear(&mut self) {
        (self.total, self.weighted) = (0, Integer::default());
    }

    /// A value that occurred `before` times occurs `after` times now.
    pub(crate) fn change(&mut self, before: u32, after: u32) {
        if before == after {
            return;
        }
        let (taken, added) = (self.weight(before.into()), self.weight(after.into()));
        self.total = self.total - u64::from(before) + u64::from(after);
        self.weighted.subtract(&taken);
        self.weighted.add(&added);
    }

    /// The entropy in bits; `None` without a value.
    pub(crate) fn bits(&mut self) -> Option<f64> {
        let count = self.total;
        if count == 0 {
            return None;
        }
        // No frequency is larger than the count, and the logarithms rise, so the difference is not negative.
        let mut sum = self.weight(count);
        sum.subtract(&self.weighted);
        let (_, units) = sum.magnitude();
        Some(Magnitude::<4>::of(&units).decimal(-(FRACTION as i32), 0, &[count]).value())
    }

    /// An integer times its logarithm.
    fn weight(&mut self, count: u64) -> Integer<3> {
        // A logarithm is below 64, so it has at most 106 bits.
        let mut weight = Integer::from(self.logarithm(count) as i128);
        weight.multiply(count.into());
        weight
    }

    fn logarithm(&mut self, count: u64) -> u128 {
        if count <= 1 {
            return 0;
        }
        match usize::try_from(count).ok().and_then(|count| self.logarithms.get_mut(count)) {
            Some(known) => {
                if *known == 0 {
                    *known = log2(count);
                }
                *known
            }
            None => log2(count),
        }
    }
}

/// The logarithm to base two of a positive integer, in units of `2^-100`.
///
/// One bit after the other, by squaring: D. E. Knuth, *The Art of Computer Programming*, volume 1, 1.2.2. What the squares are cut
/// off by changes the logarithm by less than `2^-126`.
fn log2(x: u64) -> u128 {
    let whole = x.ilog2();
    // The integer divided by a power of two: from 1 (inclusive) to 2 (exclusive), with 127 bits behind the point.
    let mut rest = u128::from(x) << (127 - whole);
    let mut logarithm = u128::from(whole);
    for _ in 0..FRACTION {
        // A square has twice the logarithm. The next bit of that says whether the square is 2 or more.
        let (high, low) = square(rest);
        let bit = high >> 127;
        rest = if bit == 1 { high } else { high << 1 | low >> 127 };
        logarithm = logarithm << 1 | bit;
    }
    logarithm
}

/// The square of an integer, as its upper and its lower 128 bits.
fn square(x: u128) -> (u128, u128) {
    let (high, low) = (x >> 64, x & u128::from(u64::MAX));
    // x² = high² 2^128 + 2 high low 2^64 + low².
    let middle = high * low;
    let (bottom, carry) = (low * low).overflowing_add(middle << 65);
    (high * high + (middle >> 63) + u128::from(carry), bottom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entropy(frequencies: &[u32]) -> f64 {
        let mut entropy = Entropy::new();
        frequencies.iter().for_each(|&count| entropy.change(0, count));
        entropy.bits().unwrap()
    }

    #[test]
    fn squares_have_all_their_bits() {
        for x in [0, 1, u128::from(u64::MAX), 1 << 64, u128::MAX, u128::MAX / 3, (1 << 127) + 12_345] {
            let (high, low) = square(x);
            let expected: [u64; 4] = super::super::limbs::product(&[x as u64, (x >> 64) as u64], &[x as u64, (x >> 64) as u64]);
            assert_eq!([low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64], expected, "{x}");
        }
    }

    /// The expected numbers are from Python's `decimal` with 80 digits.
    #[test]
    fn logarithms_have_a_hundred_right_bits() {
        for (x, expected) in [
            (1, 0),
            (2, 1 << 100),
            (3, 2_009_178_665_378_409_109_047_848_542_368),
            (5, 2_943_393_543_170_754_072_109_742_145_491),
            (1_024, 10 << 100),
            (1_000_003, 25_266_270_346_885_374_696_096_020_178_890),
            (u64::from(u32::MAX), 40_564_819_206_877_532_428_713_913_628_138),
            ((1 << 63) + 1, 79_861_987_814_378_452_294_490_584_435_287),
        ] {
            assert_eq!(log2(x), expected, "{x}");
        }
    }

    /// The expected numbers are from Python's `decimal` with 80 digits, rounded to a float.
    #[test]
    fn an_entropy_is_the_nearest_float() {
        for (frequencies, expected) in [
            (&[1][..], 0.0),
            (&[5], 0.0),
            (&[1, 1], 1.0),
            (&[7, 7, 7, 7], 2.0),
            (&[2, 1, 1], 1.5),
            (&[1, 1, 1], 1.584962500721156),
            (&[2, 1], 0.9182958340544896),
            (&[3, 2, 1], 1.4591479170272448),
            (&[5, 3], 0.9544340029249649),
            (&[3, 2, 2, 1, 1], 2.197159723424149),
            (&[10, 10, 10, 10, 10, 10, 10, 1], 2.8746067442636205),
            (&[999_999, 1], 2.1374262888865376e-5),
            (&[u32::MAX, 1], 7.786484211851147e-9),
        ] {
            assert_eq!(entropy(frequencies), expected, "{frequencies:?}");
            let reversed: Vec<u32> = frequencies.iter().rev().copied().collect();
            assert_eq!(entropy(&reversed), expected, "{frequencies:?}");
        }
        assert_eq!(Entropy::new().bits(), None);
    }

    #[test]
    fn what_was_taken_out_leaves_no_trace() {
        let mut changed = Entropy::new();
        for (before, after) in [(0, 900), (0, 5_000), (900, 3), (5_000, 1), (0, 77), (3, 2), (77, 0), (1, 0), (0, 1)] {
            changed.change(before, after);
        }
        assert_eq!(changed.bits(), Some(entropy(&[2, 1])));
        changed.clear();
        assert_eq!(changed.bits(), None);
        changed.change(0, 4);
        assert_eq!(changed.bits(), Some(0.0));
    }
}
