//! Reports for people: a backtest as a table, and, behind the flag `plot`, its picture.
//! Nothing here computes what it shows.

#[cfg(feature = "plot")]
mod plot;
mod table;

#[cfg(feature = "plot")]
pub use plot::{Line, PlotError, Scatter};
