//! Instants, spans, cutoffs and clocks: the rule that says which facts are visible.
//! Only [`SystemClock`] reads the wall clock, and no rounding makes a fact visible early.
//!
//! | question | rule |
//! |---|---|
//! | when is a fact visible at T? | `event_time < T` and `known_at < T`, strictly before |
//! | may it be inclusive? | only with [`Cutoff::Inclusive`], then `<=` in both places |
//! | spans | half-open, `[start, end)` |
//! | dates | the local time at their midnight, by the clock that their table declares, or UTC's |
//! | local times of facts | a time that occurs twice is the later instant, one that does not exist the instant after the gap |
//! | local times of a spine | the earliest instant that the time can mean: the first of two, and in a gap the instant by the clock after the change |
//! | units | instants are microseconds UTC; stored times of other units are compared exactly, never rounded |

mod calendar;
mod clock;
mod date;
mod every;
mod hopping;
mod horizon;
mod instant;
pub(crate) mod month;
mod scale;
mod span_text;
mod text;
mod zone;

pub(crate) use calendar::{CalendarSpan, CalendarStarts, Period};
pub use clock::{Clock, FixedClock, SystemClock};
pub(crate) use date::{DAY_US, date_of, days_of, midnight_ns, midnight_us};
pub use every::Every;
pub(crate) use hopping::{ClockStep, HoppingEdges, HoppingSpan};
pub(crate) use horizon::Horizon;
pub use instant::{AsOf, Cutoff, Span};
pub(crate) use instant::{length_micros, saturating_micros};
pub use scale::TimeUnit;
pub(crate) use scale::{TimeScale, instant_type, is_local, stored_integers};
pub(crate) use span_text::{parse_span, short_span, shown_span};
pub use text::parse_time;
pub(crate) use text::{NO_ZONE, parse_date, parse_local_ns, parse_time_ns};
pub(crate) use zone::InGap;
pub use zone::Zone;
