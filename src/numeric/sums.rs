//! Sums that can be added to each other, and subtracted again exactly.

use super::{ExactSum, Integer};

/// What is summed up over several values.
pub(crate) trait ExactSums: Default + Clone {
    /// Adds what another holds.
    fn merge(&mut self, other: &Self);

    /// Subtracts what another holds, all of which was added before.
    fn unmerge(&mut self, other: &Self);
}

impl ExactSums for ExactSum {
    #[inline]
    fn merge(&mut self, other: &Self) {
        ExactSum::merge(self, other);
    }

    #[inline]
    fn unmerge(&mut self, other: &Self) {
        ExactSum::unmerge(self, other);
    }
}

impl<const N: usize> ExactSums for Integer<N>
where
    Self: Default + Clone,
{
    #[inline]
    fn merge(&mut self, other: &Self) {
        self.add(other);
    }

    #[inline]
    fn unmerge(&mut self, other: &Self) {
        self.subtract(other);
    }
}
