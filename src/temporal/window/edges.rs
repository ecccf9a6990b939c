//! Where the windows of each slot begin, and where they end if that is before the instant. A fact enters the windows of its entity at the
//! first slot whose window ends after it, and leaves them at the first slot whose window begins after it. The later an instant, the later
//! its window begins and ends, whatever kind of length it has.

use std::ops::Range;

use crate::temporal::{
    operator::OperatorContext,
    spine_index::SpineIndex,
    time_decoder::{FIRST_TICK, LAST_TICK, TickUnit},
    window_length::{Reach, WindowLength},
};
use crate::{
    error::Result,
    time::{CalendarSpan, CalendarStarts, HoppingEdges, HoppingSpan, Zone},
};

/// The length of windows in ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TickLength {
    /// Everything before the instant.
    Everything,
    Fixed(i64),
    Calendar(CalendarSpan, Zone),
    Hopping(HoppingSpan, Zone),
}

impl TickLength {
    pub(super) fn new(length: &WindowLength, unit: TickUnit) -> Self {
        match length.reach {
            Reach::Everything => TickLength::Everything,
            Reach::Micros(length) => unit.length(length).map_or(TickLength::Everything, TickLength::Fixed),
            Reach::Calendar(span, zone) => TickLength::Calendar(span, zone),
            Reach::Hopping(span, zone) => TickLength::Hopping(span, zone),
        }
    }
}

/// The starts of windows of one length, or their ends.
pub(super) enum WindowEdges {
    /// There are none: every event before the instant is in the window.
    None,
    /// So many ticks before each instant.
    Before(i64),
    /// A tick for each instant of the index.
    Each(Vec<i64>),
}

impl WindowEdges {
    /// The starts.
    pub(super) fn starts(length: TickLength, context: &OperatorContext) -> Result<Self> {
        match length {
            TickLength::Everything => Ok(WindowEdges::None),
            TickLength::Fixed(length) => Ok(WindowEdges::Before(length)),
            TickLength::Calendar(span, zone) => {
                let mut starts = CalendarStarts::new(span, zone);
                Self::each(context, |instant_ns| starts.start_ns(instant_ns))
            }
            TickLength::Hopping(span, zone) => {
                let mut edges = HoppingEdges::new(span, zone);
                Self::each(context, |instant_ns| edges.edges_ns(instant_ns)?.0)
            }
        }
    }

    /// The ends, which are excluded; `None` if windows end at their instants.
    pub(super) fn ends(length: TickLength, context: &OperatorContext) -> Result<Option<Self>> {
        match length {
            TickLength::Everything | TickLength::Fixed(_) | TickLength::Calendar(..) => Ok(None),
            TickLength::Hopping(span, zone) => {
                let mut edges = HoppingEdges::new(span, zone);
                Self::each(context, |instant_ns| Some(edges.edges_ns(instant_ns)?.1)).map(Some)
            }
        }
    }

    /// The edge of each instant, in nanoseconds. One before the calendar is `None`.
    fn each(context: &OperatorContext, mut edge: impl FnMut(i128) -> Option<i128>) -> Result<Self> {
        let (index, tick_ns) = (&context.index, i128::from(context.unit.nanos()));
        let instants = index.instant_count();
        context.budget.grow(&context.subject, instants * 8)?;
        let edge = |slot: usize| {
            // An instant is a whole tick, and so is its edge. One before all ticks is the first.
            let edge_ns = edge(i128::from(index.instant(slot)) * tick_ns);
            edge_ns.and_then(|ns| i64::try_from(ns.div_euclid(tick_ns)).ok()).unwrap_or(FIRST_TICK)
        };
        Ok(WindowEdges::Each((0..instants).map(edge).collect()))
    }

    /// Where the window at an instant begins or ends, if all entities have this one instant.
    pub(super) fn of_single_instant(&self, instant: i64) -> i64 {
        match self {
            WindowEdges::None => FIRST_TICK,
            // A window of length w at T holds the events of [T - w, T).
            WindowEdges::Before(length) => instant.saturating_sub(*length),
            WindowEdges::Each(starts) => starts.first().copied().unwrap_or(FIRST_TICK),
        }
    }

    /// The first slot of a run whose edge lies after an event, or the run's end; and the event times for which it is this
    /// slot, from the first (inclusive) to the second (exclusive). The search begins at `hint`. Without starts it is `None`.
    pub(super) fn first_after(&self, index: &SpineIndex, run: &Range<u32>, event: i64, hint: u32) -> Option<(u32, (i64, i64))> {
        match self {
            WindowEdges::None => None,
            WindowEdges::Before(length) => {
                let slot = index.first_after(run, event.saturating_add(*length), hint);
                Some((slot, event_range(index, run, slot, *length)))
            }
            WindowEdges::Each(starts) => {
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
