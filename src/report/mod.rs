//! Reports for people: a backtest as a table, and pictures behind the flag `plot`.

#[cfg(feature = "plot")]
mod density;
#[cfg(feature = "plot")]
mod plot;
mod table;

#[cfg(feature = "plot")]
pub use density::Density;
#[cfg(feature = "plot")]
pub use plot::{Line, PlotError, Scatter};
