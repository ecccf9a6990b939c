//! Exact arithmetic: sums, variances, slopes, quantiles, entropies and decimals that are rounded once, and the order of floats.
//! It knows numbers alone: no column, no fact and no window.

mod entropy;
mod exact_sum;
mod float;
mod integer;
mod limbs;
mod quantile;
mod ratio;
mod slope;
mod stored;
mod sums;
mod variance;

pub(crate) use entropy::Entropy;
pub(crate) use exact_sum::ExactSum;
pub(crate) use float::{canonical, float_key, key_float};
pub(crate) use integer::Integer;
pub(crate) use quantile::{OrderStatistic, neighbours, quantile};
pub(crate) use ratio::{decimal_mean, decimal_value};
pub(crate) use slope::{FloatSlope, IntegerSlope, SlopeSums};
pub(crate) use stored::{NumberReader, NumberWriter, Stored};
pub(crate) use sums::ExactSums;
pub(crate) use variance::{FloatMoments, IntegerMoments, Moments};
