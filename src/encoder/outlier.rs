//! The percentile outlier filter: rows strictly between two percentiles of each named column.
//! It learns from the rows visible at the as-of, and does not apply at inference.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    datatypes::Float64Type,
};
use serde::{Deserialize, Serialize};

use super::{AsOfView, Purpose, RowSelection, Spec, quantile::Quantiles};
use crate::error::{Error, Result};

/// Keeps the rows whose value lies strictly between two percentiles of every named column.
///
/// Percentiles are those of NumPy's `percentile`, linear between order statistics, over all values of the column that are
/// finite: each is the float nearest to the exact number, and has the bits of [`Aggregate::quantile`](crate::Aggregate::quantile)
/// over the same floats. All columns are learned from the same rows. A row with NULL, NaN or an infinity is dropped.
///
/// ```
/// use asof::encoder::OutlierFilter;
/// let filter = OutlierFilter::between_percentiles(2.0, 98.0).of(["trip_distance", "total_amount"]);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct OutlierFilter {
    low: f64,
    high: f64,
    columns: Vec<String>,
}

/// The bounds of one column, both exclusive; `None` when the column held no value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OutlierBounds {
    /// Values must be greater than this.
    pub low: f64,
    /// Values must be less than this.
    pub high: f64,
}

impl OutlierFilter {
    /// Percentiles from 0 to 100.
    pub fn between_percentiles(low: f64, high: f64) -> Self {
        Self { low: low.clamp(0.0, 100.0), high: high.clamp(0.0, 100.0), columns: Vec::new() }
    }

    /// The columns that must all lie between their percentiles.
    pub fn of<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.columns.extend(columns.into_iter().map(Into::into));
        self
    }
}

impl RowSelection for OutlierFilter {
    type State = BTreeMap<String, Option<OutlierBounds>>;

    fn spec(&self) -> Spec {
        let spec = self.columns.iter().fold(Spec::new("outlier_filter", 1), Spec::number);
        spec.parameter("low_percentile", self.low).parameter("high_percentile", self.high)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Population
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        let refused = |reason: String| Err(Error::Definition { subject: "`outlier_filter`".into(), reason });
        if self.columns.is_empty() {
            return refused("it names no columns; name them with `of`".into());
        }
        if self.low.is_nan() || self.high.is_nan() || self.low >= self.high {
            return refused(format!("nothing lies between the percentiles {} and {}", self.low, self.high));
        }
        let at = [self.low / 100.0, self.high / 100.0];
        let mut searches: Vec<Quantiles> = self.columns.iter().map(|_| Quantiles::at(&at)).collect();
        loop {
            for batch in view.batches()? {
                let batch = batch?;
                for (column, search) in batch.columns().iter().zip(&mut searches) {
                    search.feed_finite(column.as_primitive::<Float64Type>());
                }
            }
            // `count`, because `any` would stop at the first search that needs another pass.
            if searches.iter_mut().map(Quantiles::next_pass).filter(|again| *again).count() == 0 {
                break;
            }
        }
        let bounds = |search: &Quantiles| search.found().and_then(|q| Some(OutlierBounds { low: *q.first()?, high: *q.get(1)? }));
        Ok(self.columns.iter().cloned().zip(searches.iter().map(bounds)).collect())
    }

    /// Percentiles do not depend on the order of the rows.
    fn learns_in_any_order(&self) -> bool {
        true
    }

    fn keep(&self, state: &Self::State, input: &RecordBatch) -> Result<BooleanArray> {
        let mut kept = vec![true; input.num_rows()];
        for (position, column) in self.columns.iter().enumerate() {
            let bounds = state.get(column).copied().flatten();
            let numbers = input.column(position).as_primitive::<Float64Type>();
            for (keep, number) in kept.iter_mut().zip(numbers) {
                *keep &= matches!((number, bounds), (Some(x), Some(b)) if b.low < x && x < b.high);
            }
        }
        Ok(kept.into())
    }
}
