//! Reports for people: a backtest as a table, and, behind the flag `plot`, its picture.
//! Nothing here computes what it shows.

#[cfg(feature = "plot")]
mod density;
#[cfg(feature = "plot")]
mod plot;
mod table;

#[cfg(feature = "plot")]
pub use density::Density;
#[cfg(feature = "plot")]
pub use plot::{Line, PlotError, Scatter};
