//! Reports for people: a backtest as a table, and pictures behind the flag `plot`.

#[cfg(feature = "plot")]
mod axis;
#[cfg(feature = "plot")]
mod canvas;
#[cfg(feature = "plot")]
mod density;
#[cfg(feature = "plot")]
mod png;
#[cfg(feature = "plot")]
mod scatter;
mod table;

#[cfg(feature = "plot")]
pub use density::Density;
#[cfg(feature = "plot")]
pub use png::PlotError;
#[cfg(feature = "plot")]
pub use scatter::{Line, Scatter};
