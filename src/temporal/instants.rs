//! The instants of slots, compressed: four bytes each if they are whole steps from the first instant, else eight.
//! It does not know entities or rows.

use std::ops::Range;

use arrow::buffer::ScalarBuffer;

/// Steps in which instants are counted, in ticks; each is a multiple of the one before it.
const STEPS: [u64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];

/// A list of instants.
pub(super) enum Instants {
    Ticks(Vec<i64>),
    Steps { first: i64, step: u64, counts: Vec<u32> },
}

impl Instants {
    /// Stores ticks in the order into which `scatter` puts them.
    pub(super) fn new(ticks: &[ScalarBuffer<i64>], scatter: &mut impl Scatter) -> Self {
        match step_of(ticks) {
            None => Instants::Ticks(scatter.scatter(ticks, |tick| tick)),
            Some((first, step)) => {
                let counts = match step {
                    1 => scatter.scatter(ticks, |tick| first.abs_diff(tick) as u32),
                    // The compiler turns a division by a constant into a multiplication.
                    1_000 => scatter.scatter(ticks, |tick| (first.abs_diff(tick) / 1_000) as u32),
                    1_000_000 => scatter.scatter(ticks, |tick| (first.abs_diff(tick) / 1_000_000) as u32),
                    step => scatter.scatter(ticks, |tick| (first.abs_diff(tick) / step) as u32),
                };
                Instants::Steps { first, step, counts }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Instants::Ticks(ticks) => ticks.len(),
            Instants::Steps { counts, .. } => counts.len(),
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Instants::Ticks(ticks) => ticks.len() * 8,
            Instants::Steps { counts, .. } => counts.len() * 4,
        }
    }

    /// The tick of an instant.
    #[inline]
    pub(super) fn get(&self, i: usize) -> i64 {
        match self {
            Instants::Ticks(ticks) => ticks[i],
            Instants::Steps { first, step, counts } => tick(*first, *step, counts[i]),
        }
    }

    /// The first of a run of ascending instants that is after `tick`, or the run's end. The search begins at `hint`, and takes
    /// time in the logarithm of the distance from there.
    #[inline]
    pub(super) fn first_after(&self, run: &Range<u32>, after: i64, hint: u32) -> u32 {
        let of = run.start as usize..run.end as usize;
        let hint = (hint.clamp(run.start, run.end) - run.start) as usize;
        let found = match self {
            Instants::Ticks(ticks) => first_that(&ticks[of], hint, |instant| instant > after),
            Instants::Steps { first, step, counts } => first_that(&counts[of], hint, |count| tick(*first, *step, count) > after),
        };
        run.start + found as u32
    }
}

/// Puts ticks into another order.
pub(super) trait Scatter {
    /// The values of `to` for all ticks, in the new order. `to` keeps the order of ticks.
    fn scatter<T: Copy + Default + Ord>(&mut self, ticks: &[ScalarBuffer<i64>], to: impl Fn(i64) -> T) -> Vec<T>;
}

#[inline]
fn tick(first: i64, step: u64, count: u32) -> i64 {
    // The sum is an instant that was stored, so it is in range whatever wraps on the way.
    first.wrapping_add((step * u64::from(count)) as i64)
}

/// The first tick, and the step in which all ticks can be counted from it in 32 bits.
fn step_of(ticks: &[ScalarBuffer<i64>]) -> Option<(i64, u64)> {
    let least = ticks.iter().filter_map(|piece| piece.iter().min()).min()?;
    let most = ticks.iter().filter_map(|piece| piece.iter().max()).max()?;
    let range = least.abs_diff(*most);
    // If a step does not divide the distances, its multiples do not either.
    let step = STEPS.into_iter().find(|step| range / step <= u64::from(u32::MAX))?;
    let divides = |piece: &ScalarBuffer<i64>| match step {
        1 => true,
        1_000 => piece.iter().all(|tick| least.abs_diff(*tick).is_multiple_of(1_000)),
        1_000_000 => piece.iter().all(|tick| least.abs_diff(*tick).is_multiple_of(1_000_000)),
        step => piece.iter().all(|tick| least.abs_diff(*tick).is_multiple_of(step)),
    };
    ticks.iter().all(divides).then_some((*least, step))
}

/// The position of the first value for which `is_after` is true; it is then true for all values after it. A galloping search
/// from `hint`.
#[inline]
pub(super) fn first_that<T: Copy>(values: &[T], hint: usize, is_after: impl Fn(T) -> bool) -> usize {
    let (mut low, mut high) = (0, values.len());
    let mut step = 1;
    if values.get(hint).is_some_and(|&value| !is_after(value)) {
        low = hint + 1;
        while let Some(&value) = values.get(low + step - 1) {
            if is_after(value) {
                high = low + step - 1;
                break;
            }
            low += step;
            step *= 2;
        }
    } else {
        high = hint;
        while high > 0 {
            let probe = high.saturating_sub(step);
            if !is_after(values[probe]) {
                low = probe + 1;
                break;
            }
            high = probe;
            step *= 2;
        }
    }
    low + values[low..high].partition_point(|&value| !is_after(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct InOrder;

    impl Scatter for InOrder {
        fn scatter<T: Copy + Default + Ord>(&mut self, ticks: &[ScalarBuffer<i64>], to: impl Fn(i64) -> T) -> Vec<T> {
            ticks.iter().flat_map(|piece| piece.iter().map(|&tick| to(tick))).collect()
        }
    }

    #[test]
    fn instants_are_those_that_were_stored_in_four_bytes_where_steps_say_them() {
        let far = 1_600_000_000_000_000;
        let cases: [(Vec<i64>, usize); 8] = [
            (vec![], 0),
            (vec![far], 4),
            (vec![-5, 7, far / 1_000_000], 4),
            // Whole seconds of 130 years; one of them with a fraction, and of 140 years.
            (vec![-far, 0, far], 4),
            (vec![-far, 1, far], 8),
            (vec![-far, 0, far * 2], 4),
            (vec![0, 4_294_967_296 * 1_000 - 1], 8),
            (vec![i64::MIN, 0, i64::MAX], 8),
        ];
        for (ticks, bytes) in cases {
            let instants = Instants::new(&[ticks.clone().into()], &mut InOrder);
            assert_eq!((instants.len(), instants.bytes()), (ticks.len(), ticks.len() * bytes), "{ticks:?}");
            assert_eq!((0..ticks.len()).map(|i| instants.get(i)).collect::<Vec<_>>(), ticks);
            let run = 0..ticks.len() as u32;
            let near = |&tick: &i64| [tick.saturating_sub(1), tick, tick.saturating_add(1)];
            for after in ticks.iter().flat_map(near).chain([i64::MIN, i64::MAX]) {
                let expected = ticks.partition_point(|&tick| tick <= after) as u32;
                for hint in 0..=run.end + 1 {
                    assert_eq!(instants.first_after(&run, after, hint), expected, "{ticks:?} after {after} from {hint}");
                }
            }
        }
    }
}
