//! The percentile outlier filter: rows strictly between two percentiles of each named column.
//! It learns from the rows visible at the as-of, and never touches a row at inference.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    datatypes::Float64Type,
};
use serde::{Deserialize, Serialize};

use super::{
    Purpose, RowSelection, Spec,
    quantile::{Passes, quantiles},
};
use crate::{
    error::{Error, Result},
    scan::AsOfView,
};

/// Keeps the rows whose value lies strictly between two percentiles of every named column.
///
/// Percentiles are exact and linear between order statistics, as NumPy's `percentile` gives them, over all values of the
/// column that are finite; all columns are learned from the same rows. A row with NULL, NaN or an infinity is dropped.
///
/// ```
/// use asof::encoder::OutlierFilter;
/// let filter = OutlierFilter::between_percentiles(2.0, 98.0).of(["trip_distance", "total_amount"]);
/// ```
#[derive(Debug, Clone)]
pub struct OutlierFilter {
    low: f64,
    high: f64,
    columns: Vec<String>,
}

/// The bounds of one column, both exclusive; `None` when the column held no value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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

struct Column<'a, 'b>(&'a AsOfView<'b>, &'a str);

impl Passes for Column<'_, '_> {
    fn pass(&self, each: &mut dyn FnMut(f64)) -> Result<()> {
        // Infinities are outliers, and would make the line between them and their neighbours meaningless.
        self.0.for_each_number(self.1, |x| {
            if x.is_finite() {
                each(x);
            }
        })
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
        let refused = |reason: String| Err(Error::Definition { subject: "the outlier filter".into(), reason });
        if self.columns.is_empty() {
            return refused("it names no columns; name them with `of`".into());
        }
        if self.low.is_nan() || self.high.is_nan() || self.low >= self.high {
            return refused(format!("nothing lies between the percentiles {} and {}", self.low, self.high));
        }
        let learn = |column: &String| {
            let found = quantiles(&Column(view, column), &[self.low / 100.0, self.high / 100.0])?;
            let bounds = found.and_then(|q| Some(OutlierBounds { low: *q.first()?, high: *q.get(1)? }));
            Ok((column.clone(), bounds))
        };
        self.columns.iter().map(learn).collect()
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
