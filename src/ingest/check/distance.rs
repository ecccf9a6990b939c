//! How far apart two groups of rows are, by how often each class of values occurs in them.

use std::collections::BTreeMap;

/// The total variation distance of two shares of counts: half of the sum of all differences of shares. 0 if every class has the
/// same share, 1 if no class is common; `None` if nothing was counted on one side.
pub(super) fn total_variation<C: Ord>(here: &BTreeMap<C, u64>, there: &BTreeMap<C, u64>) -> Option<f64> {
    let (all_here, all_there) = (here.values().sum::<u64>(), there.values().sum::<u64>());
    if all_here == 0 || all_there == 0 {
        return None;
    }
    let share = |count: u64, all: u64| count as f64 / all as f64;
    let in_common =
        |(class, count): (&C, &u64)| share(*count, all_here).min(share(there.get(class).copied().unwrap_or(0), all_there));
    let common: f64 = here.iter().map(in_common).sum();
    Some((1.0 - common).max(0.0))
}
