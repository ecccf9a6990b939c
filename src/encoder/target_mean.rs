//! The mean label of a category, smoothed towards the mean of all rows.
//! The label of a training row never enters the feature of the same row: it is encoded by the labels of other rows.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::{DataType, Float64Type, TimestampMicrosecondType},
};
use serde::{Deserialize, Serialize};

use super::{
    AsOfView, FittedEncoder, Spec, TrainingEncoder, unusable,
    vocabulary::{BYTES_AT_MOST, CATEGORIES_AT_MOST, too_many},
};
use crate::{error::Result, numeric::ExactSum, time::instant_type};

/// Into how many parts training rows are divided.
const FOLDS: usize = 5;

/// The feature `<label>_by_<category>`: the mean of a label over the training rows with the same category, smoothed towards the
/// mean of all rows: `(sum + prior * mean of all) / (count + prior)`.
///
/// The formula is that of D. Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes in classification
/// and prediction problems", SIGKDD Explorations 3 (2001), with the weight `count / (count + prior)`; scikit-learn's
/// `TargetEncoder(smooth=prior)` computes the same for requests.
///
/// Requests and scored rows are encoded with all training rows. A training row must not see its own label, so it is encoded in
/// one of two ways:
///
/// - out of fold, the default: training rows are dealt to five folds in turn, in the order of the materialization, and a row is
///   encoded with the rows of the other four;
/// - [in the order of time](TargetMean::in_order_of): with the rows that lie before its instant and whose label was known before it.
///
/// A category that was never seen, or NULL, gets the mean of all rows. If there are none, the feature is NULL, or what
/// [`TargetMean::otherwise`] gives. Labels that are NULL, NaN or
/// infinite are not learned from.
///
/// ```
/// use asof::encoder::TargetMean;
/// let fare = TargetMean::of("total_amount").by("pickup_zone").prior(20.0);
/// let in_time = TargetMean::of("total_amount").by("pickup_zone").in_order_of("pickup_at", "dropoff_at");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct TargetMean {
    label: String,
    category: String,
    prior: f64,
    order: Option<(String, String)>,
    otherwise: Option<f64>,
    output: Option<String>,
}

/// What [`TargetMean`] learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TargetMeanState {
    /// The mean of all rows, if there are any.
    pub mean: Option<f64>,
    /// The encoded value of each category.
    pub values: BTreeMap<String, f64>,
}

/// The sum of labels and their number.
type Total = (ExactSum, u64);

/// Labels in all and by category, by the fold of their row.
#[derive(Default)]
struct Totals {
    all: [Total; FOLDS],
    categories: BTreeMap<String, [Total; FOLDS]>,
}

impl TargetMean {
    /// The mean of this label, a numeric column. Name the category with [`TargetMean::by`].
    pub fn of(label: impl Into<String>) -> Self {
        Self { label: label.into(), category: String::new(), prior: 10.0, order: None, otherwise: None, output: None }
    }

    /// By the values of this column, read as text: texts, integers, booleans or dates.
    pub fn by(mut self, category: impl Into<String>) -> Self {
        self.category = category.into();
        self
    }

    /// How many rows with the mean of all rows are added to each category: zero or more, 10 unless it is given.
    pub fn prior(mut self, rows: f64) -> Self {
        self.prior = rows;
        self
    }

    /// Encodes a training row with the rows that lie before its instant and whose label was known before it: both their `at` and their
    /// `known_at` are smaller than its `at`. So a row never sees its own label, even if that was known before its instant. Both are
    /// columns of instants. A row with a NULL `at` sees no row; one with a NULL in either is seen by none.
    pub fn in_order_of(mut self, at: impl Into<String>, known_at: impl Into<String>) -> Self {
        self.order = Some((at.into(), known_at.into()));
        self
    }

    /// The feature where no label was known before, instead of NULL: in the order of time those are the first rows. Most learners
    /// cannot use NULL.
    pub fn otherwise(mut self, value: f64) -> Self {
        self.otherwise = Some(value);
        self
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = Some(output.into());
        self
    }

    fn output(&self) -> String {
        self.output.clone().unwrap_or_else(|| format!("{}_by_{}", self.label, self.category))
    }

    fn check(&self) -> Result<()> {
        if self.category.is_empty() {
            return Err(unusable(&self.output(), "it has no category: name the column with `by`"));
        }
        if !(self.prior.is_finite() && self.prior >= 0.0) {
            let reason = format!("its prior is {:?}; it must be a number of rows, zero or more", self.prior);
            return Err(unusable(&self.output(), reason));
        }
        if let Some(value) = self.otherwise.filter(|value| !value.is_finite()) {
            return Err(unusable(&self.output(), format!("it is {value:?} where no label is known; give a finite number")));
        }
        Ok(())
    }

    /// The smoothed mean; `None` without any row.
    fn value(&self, of_category: Option<(f64, u64)>, mean: Option<f64>) -> Option<f64> {
        let mean = mean?;
        let (sum, count) = of_category.unwrap_or((0.0, 0));
        let weight = count as f64 + self.prior;
        let value = if weight > 0.0 { (sum + self.prior * mean) / weight } else { mean };
        value.is_finite().then_some(value)
    }

    /// Calls `each` with the category and the label of every row that has a label, and with the number of the row.
    fn for_each_label(
        &self,
        view: &AsOfView<'_>,
        mut each: impl FnMut(usize, Option<&str>, f64, &RecordBatch, usize),
    ) -> Result<()> {
        let mut number = 0;
        for batch in view.batches()? {
            let batch = batch?;
            let (categories, labels) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Float64Type>());
            for row in 0..batch.num_rows() {
                let category = categories.is_valid(row).then(|| categories.value(row));
                let label = labels.is_valid(row).then(|| labels.value(row)).filter(|label| label.is_finite());
                if let Some(label) = label {
                    each(number + row, category, label, &batch, row);
                }
            }
            number += batch.num_rows();
        }
        Ok(())
    }

    /// The totals of all rows.
    fn totals(&self, view: &AsOfView<'_>) -> Result<Totals> {
        let (mut totals, mut bytes) = (Totals::default(), 0);
        let add = |total: &mut Total, label: f64| {
            total.0.add(label);
            total.1 += 1;
        };
        self.for_each_label(view, |number, category, label, _, _| {
            let fold = number % FOLDS;
            add(&mut totals.all[fold], label);
            let Some(category) = category else { return };
            let is_full = totals.categories.len() > CATEGORIES_AT_MOST || bytes > BYTES_AT_MOST;
            if !is_full && !totals.categories.contains_key(category) {
                bytes += category.len();
                totals.categories.insert(category.to_owned(), Default::default());
            }
            if let Some(of_category) = totals.categories.get_mut(category) {
                add(&mut of_category[fold], label);
            }
        })?;
        if totals.categories.len() > CATEGORIES_AT_MOST || bytes > BYTES_AT_MOST {
            return Err(too_many(&self.category, &self.output()));
        }
        Ok(totals)
    }

    /// What the rows teach that are not in a fold; all rows if it is `None`.
    fn state_without(&self, totals: &Totals, fold: Option<usize>) -> TargetMeanState {
        let (all, count) = without(&totals.all, fold);
        let mean = (count > 0).then(|| all.mean(count)).filter(|mean| mean.is_finite());
        let value = |by_fold: &[Total; FOLDS]| {
            let (sum, count) = without(by_fold, fold);
            // A category that only the fold has is unseen.
            (count > 0).then(|| self.value(Some((sum.value(), count)), mean)).flatten()
        };
        let values = totals.categories.iter().filter_map(|(name, by_fold)| Some((name.clone(), value(by_fold)?))).collect();
        TargetMeanState { mean, values }
    }

    /// Encodes each training row with the rows of the other folds.
    fn out_of_fold(&self, view: &AsOfView<'_>) -> Result<TrainingEncoder> {
        let totals = self.totals(view)?;
        let states: Vec<TargetMeanState> = (0..FOLDS).map(|fold| self.state_without(&totals, Some(fold))).collect();
        let (mut number, otherwise) = (0, self.otherwise);
        Ok(Box::new(move |rows| {
            let categories = rows.column(0).as_string::<i32>();
            let values: Float64Array = (0..rows.num_rows())
                .map(|row| {
                    let category = categories.is_valid(row).then(|| categories.value(row));
                    states[(number + row) % FOLDS].encode(category).or(otherwise)
                })
                .collect();
            number += rows.num_rows();
            Ok(vec![Arc::new(values) as ArrayRef])
        }))
    }

    /// Encodes each training row with the rows that lie before its instant and whose label was known before it.
    fn in_time(&self, view: &AsOfView<'_>) -> Result<TrainingEncoder> {
        // Labels with the time after which they are seen, in all and by category.
        let (mut all, mut by_category) = (Vec::new(), BTreeMap::<String, Vec<(i64, f64)>>::new());
        self.for_each_label(view, |_, category, label, batch, row| {
            let [at, known] = [2, 3].map(|column| batch.column(column).as_primitive::<TimestampMicrosecondType>());
            if at.is_valid(row) && known.is_valid(row) {
                // A label that was known before its own instant must not be seen at that instant.
                let seen_after = known.value(row).max(at.value(row));
                all.push((seen_after, label));
                match category.map(|category| (category, by_category.get_mut(category))) {
                    Some((_, Some(labels))) => labels.push((seen_after, label)),
                    Some((category, None)) => drop(by_category.insert(category.to_owned(), vec![(seen_after, label)])),
                    None => {}
                }
            }
        })?;
        let all = History::of(all);
        let by_category: BTreeMap<String, History> =
            by_category.into_iter().map(|(category, labels)| (category, History::of(labels))).collect();
        let encoder = self.clone();
        Ok(Box::new(move |rows| {
            let (categories, at) = (rows.column(0).as_string::<i32>(), rows.column(2).as_primitive::<TimestampMicrosecondType>());
            let value = |row: usize| {
                let at = at.is_valid(row).then(|| at.value(row))?;
                let mean = all.before(at).map(|(sum, count)| sum / count as f64);
                let history = categories.is_valid(row).then(|| by_category.get(categories.value(row))).flatten();
                encoder.value(history.and_then(|history| history.before(at)), mean)
            };
            let values: Float64Array = (0..rows.num_rows()).map(|row| value(row).or(encoder.otherwise)).collect();
            Ok(vec![Arc::new(values) as ArrayRef])
        }))
    }
}

/// The labels of a category in the order in which they became known.
struct History {
    known: Vec<i64>,
    /// The sum of the labels up to each.
    sums: Vec<f64>,
}

impl History {
    fn of(mut labels: Vec<(i64, f64)>) -> Self {
        labels.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut sum = ExactSum::default();
        let sums = labels.iter().map(|(_, label)| {
            sum.add(*label);
            sum.value()
        });
        Self { sums: sums.collect(), known: labels.iter().map(|(known, _)| *known).collect() }
    }

    /// Sum and count of the labels known before this instant, if there are any.
    fn before(&self, at: i64) -> Option<(f64, u64)> {
        let count = self.known.partition_point(|known| *known < at);
        Some((self.sums[count.checked_sub(1)?], count as u64))
    }
}

/// The total of all folds but one; of all of them if it is `None`.
fn without(by_fold: &[Total; FOLDS], fold: Option<usize>) -> Total {
    let mut total = Total::default();
    for (_, (sum, count)) in by_fold.iter().enumerate().filter(|(number, _)| Some(*number) != fold) {
        total.0.merge(sum);
        total.1 += count;
    }
    total
}

impl TargetMeanState {
    fn encode(&self, category: Option<&str>) -> Option<f64> {
        category.and_then(|category| self.values.get(category)).copied().or(self.mean)
    }
}

impl FittedEncoder for TargetMean {
    type State = TargetMeanState;

    fn spec(&self) -> Spec {
        let mut spec = Spec::new("target_mean", 1).parameter("prior", self.prior).category(&self.category);
        spec = spec.learned_from(&self.label, DataType::Float64);
        if let Some((at, known_at)) = &self.order {
            spec = spec.parameter("in_order", true).learned_from(at, instant_type()).learned_from(known_at, instant_type());
        }
        if let Some(value) = self.otherwise {
            spec = spec.parameter("otherwise", value);
        }
        spec.output(self.output(), DataType::Float64)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Self::State> {
        self.check()?;
        Ok(self.state_without(&self.totals(view)?, None))
    }

    fn encode(&self, state: &Self::State, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let values: Float64Array =
            input.column(0).as_string::<i32>().iter().map(|category| state.encode(category).or(self.otherwise)).collect();
        Ok(vec![Arc::new(values)])
    }

    fn training_encoder(&self, _: &Self::State, view: &AsOfView<'_>) -> Result<Option<TrainingEncoder>> {
        match &self.order {
            None => self.out_of_fold(view),
            Some(_) => self.in_time(view),
        }
        .map(Some)
    }
}
