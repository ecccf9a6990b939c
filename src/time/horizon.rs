//! How far a question sees: its as-of, and whether facts at exactly that instant count.
//! Which rows of a table lie before a horizon is decided by `scan`.

use std::{cmp::Ordering, fmt};

use super::{AsOf, Cutoff};

/// How far a question sees. A fact is visible if its event time and its known-at both lie before the horizon.
///
/// Horizons are ordered by what they see: of two the smaller one sees no fact that the larger one does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Horizon {
    pub(crate) as_of: AsOf,
    pub(crate) cutoff: Cutoff,
}

impl Horizon {
    /// Sees all facts; see [`AsOf::END_OF_TIME`].
    pub(crate) const END_OF_TIME: Horizon = Horizon::before(AsOf::END_OF_TIME);

    /// The horizon at `as_of`. The cutoff says whether `as_of` itself is seen.
    pub(crate) const fn new(as_of: AsOf, cutoff: Cutoff) -> Self {
        Self { as_of, cutoff }
    }

    /// Sees what lies strictly before `as_of`.
    pub(crate) const fn before(as_of: AsOf) -> Self {
        Self::new(as_of, Cutoff::Exclusive)
    }

    /// Does the instant lie before the horizon?
    pub(crate) const fn sees(self, instant: AsOf) -> bool {
        match self.cutoff {
            Cutoff::Exclusive => instant.micros() < self.as_of.micros(),
            Cutoff::Inclusive => instant.micros() <= self.as_of.micros(),
        }
    }

    /// The first instant that is not seen, in nanoseconds.
    ///
    /// Inclusive at T is exclusive at the next instant that any unit can tell from T: one nanosecond later.
    pub(crate) fn first_hidden_ns(self) -> i128 {
        i128::from(self.as_of.micros()) * 1_000 + i128::from(self.cutoff == Cutoff::Inclusive)
    }

    /// The horizon so many microseconds earlier; the first instant if there is none so early.
    pub(crate) fn minus_us(self, us: i64) -> Self {
        Self { as_of: AsOf::from_micros(self.as_of.micros().saturating_sub(us)), ..self }
    }

    /// The as-of as plans show it; `None` for one after the calendar's end, before which all facts lie.
    pub(crate) fn shown_as_of(self) -> Option<String> {
        (self.as_of.to_datetime().is_some() || self.as_of.micros() < 0).then(|| self.as_of.to_string())
    }
}

impl Ord for Horizon {
    fn cmp(&self, other: &Self) -> Ordering {
        self.first_hidden_ns().cmp(&other.first_hidden_ns())
    }
}

impl PartialOrd for Horizon {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Horizon {
    /// As plans show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "as_of={}, cutoff={}", self.shown_as_of().as_deref().unwrap_or("all facts"), self.cutoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_horizon_sees_all_that_a_smaller_one_sees() {
        let at = |us, cutoff| Horizon::new(AsOf::from_micros(us), cutoff);
        let ascending =
            [at(i64::MIN, Cutoff::Exclusive), at(9, Cutoff::Exclusive), at(9, Cutoff::Inclusive), at(10, Cutoff::Exclusive)];
        assert!(ascending.is_sorted());
        assert!(ascending.iter().all(|horizon| *horizon <= Horizon::END_OF_TIME));
        for pair in ascending.windows(2) {
            for instant in [i64::MIN, 8, 9, 10, i64::MAX].map(AsOf::from_micros) {
                assert!(pair[1].sees(instant) || !pair[0].sees(instant), "{instant} from {} and {}", pair[0], pair[1]);
            }
        }
    }

    #[test]
    fn the_first_hidden_instant_divides_what_is_seen_from_what_is_not() {
        for cutoff in [Cutoff::Exclusive, Cutoff::Inclusive] {
            let horizon = Horizon::new(AsOf::from_micros(10), cutoff);
            for us in [9, 10, 11] {
                assert_eq!(horizon.sees(AsOf::from_micros(us)), i128::from(us) * 1_000 < horizon.first_hidden_ns(), "{us}");
            }
        }
    }

    #[test]
    fn a_horizon_is_shown_with_its_cutoff() {
        let horizon = Horizon::new(AsOf::from_micros(1_414_800_000_000_000), Cutoff::Inclusive);
        assert_eq!(horizon.to_string(), "as_of=2014-11-01T00:00:00Z, cutoff=inclusive");
        assert_eq!(horizon.minus_us(1_000_000).to_string(), "as_of=2014-10-31T23:59:59Z, cutoff=inclusive");
        assert_eq!(Horizon::END_OF_TIME.to_string(), "as_of=all facts, cutoff=exclusive");
    }
}
