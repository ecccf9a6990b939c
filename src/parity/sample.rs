//! Which rows are compared: all, or a seeded sample of exactly so many.
//! Whether a row is picked depends on its number, the number of rows and the seed; not on batches, tasks or files.

/// Which rows [`FeatureStore::verify_parity`](crate::FeatureStore::verify_parity) compares.
///
/// ```
/// use asof::parity::ParitySample;
/// let quick = ParitySample::rows(10_000).seed(7);
/// let whole = ParitySample::all();
/// assert_ne!(quick, whole);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct ParitySample {
    rows: Option<u64>,
    seed: u64,
}

impl ParitySample {
    /// This many rows of the set's query, or published keys of a set of entities; all of them if there are fewer. The seed is 0.
    pub fn rows(count: u64) -> Self {
        Self { rows: Some(count), seed: 0 }
    }

    /// All rows, or all published keys.
    pub fn all() -> Self {
        Self { rows: None, seed: 0 }
    }

    /// Picks other rows. The same seed picks the same ones.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Picks of so many rows, which are told in their order.
    pub(super) fn picks(self, of: u64) -> Picks {
        Picks { seed: self.seed, left: of, wanted: self.rows.unwrap_or(of).min(of), number: 0 }
    }
}

/// Decides row by row, so that each set of `wanted` rows is equally likely.
pub(super) struct Picks {
    seed: u64,
    left: u64,
    wanted: u64,
    number: u64,
}

impl Picks {
    /// Is the next row picked?
    pub(super) fn pick(&mut self) -> bool {
        let number = self.number;
        self.number += 1;
        let left = self.left;
        self.left = left.saturating_sub(1);
        let is_picked = match self.wanted {
            0 => false,
            wanted if wanted >= left => true,
            wanted => (u128::from(self.chance(number)) * u128::from(left)) >> 64 < u128::from(wanted),
        };
        self.wanted -= u64::from(is_picked);
        is_picked
    }

    fn chance(&self, number: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&number.to_le_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(sample: ParitySample, of: u64) -> Vec<u64> {
        let mut picks = sample.picks(of);
        (0..of).filter(|_| picks.pick()).collect()
    }

    #[test]
    fn exactly_so_many_are_picked_and_every_row_as_often_as_another() {
        for (rows, of) in [(0, 10), (1, 10), (10, 10), (11, 10), (3, 0), (250, 1_000)] {
            let found = picked(ParitySample::rows(rows).seed(3), of);
            assert_eq!(found.len() as u64, rows.min(of), "{rows} of {of}");
        }
        assert_eq!(picked(ParitySample::all(), 5), [0, 1, 2, 3, 4]);
        assert_ne!(picked(ParitySample::rows(20), 1_000), picked(ParitySample::rows(20).seed(1), 1_000));
        let mut counts = [0; 10];
        for seed in 0..2_000 {
            picked(ParitySample::rows(3).seed(seed), 10).into_iter().for_each(|row| counts[row as usize] += 1);
        }
        // 600 are expected, with a standard deviation of 20.
        assert!(counts.iter().all(|count| (480..720).contains(count)), "{counts:?}");
    }
}
