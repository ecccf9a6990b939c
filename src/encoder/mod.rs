//! Encoders and row selections: Rust functions from facts to features, pure or fitted.
//! They see only declared columns, cut at an as-of. What they learn is a state that is kept with the materialization.
//! The page `docs/encoders.md` has a table of them all.

mod arithmetic;
mod bins;
mod calendar;
mod clip;
mod closure;
mod coalesce;
mod cyclic;
mod erased;
#[cfg(test)]
mod fixed_rows;
mod frequency;
mod geo;
mod geohash;
mod grid_cell;
mod hash_bucket;
mod holidays;
mod impute;
mod impute_category;
#[cfg(feature = "linfa")]
mod k_means;
mod min_max;
mod not_null;
#[cfg(feature = "linfa")]
mod number_rows;
mod numeric;
mod one_hot;
mod ordinal;
mod outlier;
#[cfg(feature = "linfa")]
mod pca;
mod percentile_clip;
mod quantile;
mod quantile_bins;
mod robust_scale;
mod sample;
mod spec;
mod standardize;
mod target_mean;
mod view;
mod vocabulary;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use serde::{Serialize, de::DeserializeOwned};

pub use arithmetic::Arithmetic;
pub use bins::Bins;
pub use calendar::{Calendar, DayOfWeek, HourOfDay};
pub use clip::Clip;
pub use closure::{FnEncoder, encoder_fn};
pub use coalesce::Coalesce;
pub use cyclic::Cyclic;
pub(crate) use erased::{
    AnyEncoder, AnySelection, Prepared, PreparedSelection, fitted, input_schema, learning_schema, pure, selection,
};
pub use frequency::{Frequency, FrequencyState};
pub use geo::{Bearing, Haversine};
pub use geohash::Geohash;
pub use grid_cell::GridCell;
pub use hash_bucket::HashBucket;
pub use holidays::Holidays;
pub use impute::Impute;
pub use impute_category::ImputeCategory;
#[cfg(feature = "linfa")]
pub use k_means::{KMeans, KMeansState};
pub use min_max::{MinMax, MinMaxState};
pub use not_null::NotNull;
pub use numeric::{Log, Number, Ratio};
pub use one_hot::OneHot;
pub use ordinal::Ordinal;
pub use outlier::{OutlierBounds, OutlierFilter};
#[cfg(feature = "linfa")]
pub use pca::{Pca, PcaState};
pub use percentile_clip::{PercentileClip, PercentileClipState};
pub use quantile_bins::{QuantileBins, QuantileBinsState};
pub use robust_scale::{RobustScale, RobustScaleState};
pub use sample::Sample;
pub use spec::Spec;
pub use standardize::{Standardize, StandardizeState};
pub use target_mean::{TargetMean, TargetMeanState};
pub use view::AsOfView;
pub(crate) use view::{Batches, Replay, ViewParts};
pub use vocabulary::Unseen;

use crate::error::{Error, Result};

/// A pure encoder: feature columns from the input columns of the same rows.
///
/// The output for a row may depend on that row's input alone. A pure encoder is the same at every as-of and needs no fit.
pub trait Encoder: Send + Sync {
    /// Its name, revision, inputs and outputs. Must not change between calls.
    fn spec(&self) -> Spec;

    /// The output columns, in the order and with the types of the spec, one value per row of `input`.
    ///
    /// `input` holds exactly the declared columns, in their order and of the declared types.
    ///
    /// # Errors
    /// Any error; it is reported with the encoder's name.
    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>>;
}

/// An encoder that first learns a state from the facts visible at an as-of.
///
/// The state is written as JSON. Training and serving both encode with the state that was read back from there.
pub trait FittedEncoder: Send + Sync {
    /// What is learned.
    type State: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Its name, revision, inputs and outputs. Must not change between calls.
    fn spec(&self) -> Spec;

    /// Learns the state from the training rows: the rows of the set's query that all row selections keep.
    ///
    /// # Errors
    /// Any error; it is reported with the encoder's name.
    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State>;

    /// As [`Encoder::encode`], with the learned state.
    ///
    /// # Errors
    /// Any error; it is reported with the encoder's name.
    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>>;

    /// How the training rows themselves are encoded, if not by [`FittedEncoder::encode`]. An encoder that learns from a label
    /// needs this, so that the label of a row never enters a feature of the same row; [`TargetMean`] is a model.
    ///
    /// `view` holds the rows that the state was learned from, in the same order. The function that is returned is called with
    /// the columns of the view, batch by batch, from the first row to the last.
    ///
    /// # Errors
    /// Any error; it is reported with the encoder's name.
    fn training_encoder(&self, _state: &Self::State, _view: &AsOfView<'_>) -> Result<Option<TrainingEncoder>> {
        Ok(None)
    }
}

/// Encodes training rows, batch by batch in their order; see [`FittedEncoder::training_encoder`].
pub type TrainingEncoder = Box<dyn FnMut(&RecordBatch) -> Result<Vec<ArrayRef>> + Send>;

/// A step that keeps or drops training rows; never used at inference.
pub trait RowSelection: Send + Sync {
    /// What is learned before rows are selected; `()` if nothing.
    type State: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Its name, revision and inputs. Must not change between calls.
    fn spec(&self) -> Spec;

    /// Whether it defines the rows that the model is about, or only makes training cheaper.
    fn purpose(&self) -> Purpose;

    /// Learns from the rows that the selections before it kept.
    ///
    /// # Errors
    /// Any error; it is reported with the selection's name.
    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State>;

    /// Whether it learns the same state, to the last bit, whatever the order of the rows. If so, rows are selected before they are
    /// sorted, which is much faster when few are kept. Otherwise rows come in the order of the materialization.
    ///
    /// The promise is checked on fixed inputs when a set is built.
    fn learns_in_any_order(&self) -> bool {
        false
    }

    /// Which rows of `input` to keep; NULL drops the row. The decision may depend on the row and the state alone.
    ///
    /// # Errors
    /// Any error; it is reported with the selection's name.
    fn keep(&self, state: &Self::State, input: &RecordBatch) -> Result<BooleanArray>;
}

/// The purpose of a row selection. It decides whether a backtest scores the rows that the selection drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// It defines the rows that the model is about (an outlier filter). A backtest scores only rows that it keeps, with the state
    /// that was learned before the cutoff.
    Population,
    /// It makes training cheaper (a sample). A backtest also scores the rows that it drops.
    Thinning,
}

/// The refusal of a step whose parameters cannot be used, named by its output.
fn unusable(output: &str, reason: impl Into<String>) -> Error {
    Error::Definition { subject: format!("`{output}`"), reason: reason.into() }
}
