//! Encoders and row selections: Rust functions from facts to features, pure or fitted.
//! They see declared columns only, cut at an as-of; what they learn is a state that is kept with the materialization.

mod calendar;
mod closure;
mod erased;
mod geo;
mod not_null;
mod numeric;
mod outlier;
mod quantile;
mod sample;
mod spec;
mod standardize;
mod view;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use serde::{Serialize, de::DeserializeOwned};

pub use calendar::{DayOfWeek, HourOfDay};
pub use closure::{FnEncoder, encoder_fn};
pub(crate) use erased::{AnyEncoder, AnySelection, Prepared, PreparedSelection, fitted, input_schema, pure, selection};
pub use geo::Haversine;
pub use not_null::NotNull;
pub use numeric::{Log, Number, Ratio};
pub use outlier::{OutlierBounds, OutlierFilter};
pub use sample::Sample;
pub use spec::Spec;
pub use standardize::{Standardize, StandardizeState};
pub use view::AsOfView;
pub(crate) use view::{Batches, Replay, ViewParts};

use crate::error::Result;

/// A pure encoder: feature columns from the input columns of the same rows.
///
/// The output for a row may depend on that row's input alone. A pure encoder is the same at every as-of and needs no fit.
pub trait Encoder: Send + Sync {
    /// What it is called, reads and yields, and its revision. Must not change between calls.
    fn spec(&self) -> Spec;

    /// The output columns, in the order and with the types of the spec, one value per row of `input`.
    ///
    /// `input` holds exactly the declared columns, in their order and of the declared types.
    ///
    /// # Errors
    /// Whatever keeps it from encoding; it is passed on with the encoder's name.
    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>>;
}

/// An encoder that first learns a state from the facts visible at an as-of.
///
/// The state is written as JSON, and offline and online encode with what was read back from there.
pub trait FittedEncoder: Send + Sync {
    /// What is learned.
    type State: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// What it is called, reads and yields, and its revision. Must not change between calls.
    fn spec(&self) -> Spec;

    /// Learns the state from the training rows: the rows of the set's query that all row selections keep.
    ///
    /// # Errors
    /// Whatever keeps it from learning; it is passed on with the encoder's name.
    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State>;

    /// As [`Encoder::encode`], with the learned state.
    ///
    /// # Errors
    /// Whatever keeps it from encoding; it is passed on with the encoder's name.
    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>>;
}

/// A step that keeps or drops training rows; never used at inference.
pub trait RowSelection: Send + Sync {
    /// What is learned before rows are judged; `()` if nothing.
    type State: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// What it is called and reads, and its revision. Must not change between calls.
    fn spec(&self) -> Spec;

    /// Whether it says which rows the model is about, or only makes training cheaper.
    fn purpose(&self) -> Purpose;

    /// Learns from the rows that the selections before it kept.
    ///
    /// # Errors
    /// Whatever keeps it from learning; it is passed on with the selection's name.
    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State>;

    /// Does it learn the same, to the last bit, in whatever order it sees the rows? Then they are selected before they are
    /// sorted, which is much faster where few are kept. Without this promise rows come in the order of the materialization.
    ///
    /// A promise that does not hold on fixed inputs is refused when a set is built.
    fn learns_in_any_order(&self) -> bool {
        false
    }

    /// Which rows of `input` to keep; NULL counts as "drop". A row's fate may depend on that row and the state alone.
    ///
    /// # Errors
    /// Whatever keeps it from judging; it is passed on with the selection's name.
    fn keep(&self, state: &Self::State, input: &RecordBatch) -> Result<BooleanArray>;
}

/// What a row selection is for, which decides whether a backtest scores the rows that it drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It says which rows the model is about (an outlier filter): a backtest scores only rows that it keeps, with what it
    /// learned before the cutoff.
    Population,
    /// It makes training cheaper (a sample): a backtest scores the rows that it drops too.
    Thinning,
}
