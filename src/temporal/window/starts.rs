//! Where the windows of each slot begin. A fact leaves the windows of its entity at the first slot whose window begins after it.
//! The later an instant, the later its window begins, whatever kind of length it has.

use std::ops::Range;

use crate::temporal::{
    operator::OperatorContext,
    spine_index::SpineIndex,
    time_decoder::{FIRST_TICK, LAST_TICK, TickUnit},
    window_length::{Reach, WindowLength},
};
use crate::{
    error::Result,
    time::{CalendarSpan, CalendarStarts, Zone},
};

/// The length of windows in ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TickLength {
    /// Everything before the instant.
    Everything,
    Fixed(i64),
    Calendar(CalendarSpan, Zone),
}

impl TickLength {
    pub(super) fn new(length: &WindowLength, unit: TickUnit) -> Self {
        match length.reach {
            Reach::Everything => TickLength::Everything,
            Reach::Micros(length) => unit.length(length).map_or(TickLength::Everything, TickLength::Fixed),
            Reach::Calendar(span, zone) => TickLength::Calendar(span, zone),
        }
    }
}

/// The starts of windows of one length.
pub(super) enum WindowStarts {
    /// There are none: every event before the instant is in the window.
    None,
    /// So many ticks before each instant.
    Before(i64),
    /// A tick for each instant of the index.
    Each(Vec<i64>),
}

impl WindowStarts {
    pub(super) fn new(length: TickLength, context: &OperatorContext) -> Result<Self> {
        let (span, zone) = match length {
            TickLength::Everything => return Ok(WindowStarts::None),
            TickLength::Fixed(length) => return Ok(WindowStarts::Before(length)),
            TickLength::Calendar(span, zone) => (span, zone),
        };
        let (index, tick_ns) = (&context.index, i128::from(context.unit.nanos()));
        let instants = index.instant_count();
        context.budget.grow(&context.subject, instants * 8)?;
        let mut starts = CalendarStarts::new(span, zone);
        let start = |slot: usize| {
            let start_ns = starts.start_ns(i128::from(index.instant(slot)) * tick_ns);
            // An instant is a whole tick, and so is its start. One before all ticks is the first.
            start_ns.and_then(|ns| i64::try_from(ns.div_euclid(tick_ns)).ok()).unwrap_or(FIRST_TICK)
        };
        Ok(WindowStarts::Each((0..instants).map(start).collect()))
    }

    /// Where the window at an instant begins, if all entities have this one instant.
    pub(super) fn of_single_instant(&self, instant: i64) -> i64 {
        match self {
            WindowStarts::None => FIRST_TICK,
            // A window of length w at T holds the events of [T - w, T).
            WindowStarts::Before(length) => instant.saturating_sub(*length),
            WindowStarts::Each(starts) => starts.first().copied().unwrap_or(FIRST_TICK),
        }
    }

    /// The first slot of a run whose window begins after an event, or the run's end; and the event times for which it is this
    /// slot, from the first (inclusive) to the second (exclusive). The search begins at `hint`. Without starts it is `None`.
    pub(super) fn first_after(&self, index: &SpineIndex, run: &Range<u32>, event: i64, hint: u32) -> Option<(u32, (i64, i64))> {
        match self {
            WindowStarts::None => None,
            WindowStarts::Before(length) => {
                let slot = index.first_after(run, event.saturating_add(*length), hint);
                Some((slot, event_range(index, run, slot, *length)))
            }
            WindowStarts::Each(starts) => {
                let slot = index.first_with(run, starts, event, hint);
                let (from, to) = index.preceding(run, slot, |slot| index.value_of(starts, slot));
                Some((slot, (from.map_or(FIRST_TICK + 1, |from| from.max(FIRST_TICK + 1)), to.unwrap_or(LAST_TICK))))
            }
        }
    }
}

/// The event times for which a slot is the first one after them plus a shift: from the first (inclusive) to the second
/// (exclusive).
///
/// The first and the last tick are left out, since they also stand for times beyond them: such a fact is looked up on its own.
pub(super) fn event_range(index: &SpineIndex, run: &Range<u32>, slot: u32, shift: i64) -> (i64, i64) {
    let (from, to) = index.preceding_ticks(run, slot);
    let (first, end) = (FIRST_TICK + 1, LAST_TICK);
    (from.map_or(first, |from| from.saturating_sub(shift).max(first)), to.map_or(end, |to| to.saturating_sub(shift)))
}
