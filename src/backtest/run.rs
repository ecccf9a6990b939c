//! A backtest: for each fold it materializes, fits, scores, and compares with the fold before.
//! Training sees what a materialization at the as-of sees, and nothing of the scored span.

use std::{fmt, sync::Arc};

use chrono::TimeDelta;

use super::{Fold, Folds, Learner, Linear, MeanOnly, Metrics, scoring::Scoring};
use crate::{
    error::{Error, Result},
    feature_set::FeatureSet,
    materialize::{Materialization, materialize_many_pinned},
    time::{AsOf, shown_span},
    training::Dataset,
    workspace::Workspace,
};

/// What to backtest: a set of rows, a label, folds and a learner.
///
/// ```
/// use asof::backtest::{Backtest, Folds};
/// use chrono::NaiveDate;
/// let day = |m| NaiveDate::from_ymd_opt(2014, m, 1).unwrap();
/// let folds = Folds::monthly(day(2), day(12), "America/New_York".parse()?)?;
/// let backtest = Backtest::new("taxi_v1", "total_amount", folds);
/// # Ok::<(), asof::Error>(())
/// ```
#[must_use]
pub struct Backtest {
    pub(crate) set: String,
    pub(crate) label: String,
    pub(crate) folds: Folds,
    pub(crate) learner: Arc<dyn Learner>,
    pub(super) settle_us: i64,
    pub(super) refreshed_us: Option<i64>,
    pub(super) without: Vec<String>,
    progress: Option<Progress>,
}

/// Called with the number of finished folds.
type Progress = Arc<dyn Fn(usize) + Send + Sync>;

impl Backtest {
    /// A backtest of [`LinearRegression`](super::LinearRegression). It needs the flag `linfa`.
    #[cfg(feature = "linfa")]
    pub fn new(set: &str, label: &str, folds: Folds) -> Self {
        Self::with_learner(set, label, folds, super::LinearRegression::new())
    }

    /// A backtest of this learner.
    ///
    /// ```
    /// use asof::backtest::{Backtest, Folds, MeanOnly};
    /// use chrono::NaiveDate;
    /// let day = |m| NaiveDate::from_ymd_opt(2014, m, 1).unwrap();
    /// let folds = Folds::monthly(day(2), day(12), "America/New_York".parse()?)?;
    /// let baseline = Backtest::with_learner("taxi_v1", "total_amount", folds, MeanOnly);
    /// # Ok::<(), asof::Error>(())
    /// ```
    pub fn with_learner(set: &str, label: &str, folds: Folds, learner: impl Learner + 'static) -> Self {
        Self {
            set: set.into(),
            label: label.into(),
            folds,
            learner: Arc::new(learner),
            settle_us: 0,
            refreshed_us: None,
            without: Vec::new(),
            progress: None,
        }
    }

    /// Uses this learner instead.
    pub fn learner(mut self, learner: impl Learner + 'static) -> Self {
        self.learner = Arc::new(learner);
        self
    }

    /// How long after the end of a scored span its labels may still become known; zero by default. A negative time is refused.
    ///
    /// A trip that starts in the last minutes of a month ends in the next month: with zero it is not scored.
    pub fn settle(mut self, delay: chrono::TimeDelta) -> Self {
        self.settle_us = crate::time::saturating_micros(delay);
        self
    }

    /// Scores rows with drawn features as a service would have had them: the sets that are drawn on are materialized at each
    /// fold's as-of and every so often before and after it, and a row sees the last values at or before its instant. Max ages apply at
    /// the instant.
    ///
    /// Without this, scored rows have features as of their own instant, which only a service that computes them for each request can
    /// give. The difference of the two is the cost of stale features. Models are fitted on features as of each row's instant
    /// either way.
    pub fn refreshed(mut self, every: TimeDelta) -> Self {
        self.refreshed_us = Some(crate::time::saturating_micros(every));
        self
    }

    /// Fits and scores without these features. What the metrics lose is the gain of the features;
    /// [`FeatureStore::feature_gains`](crate::FeatureStore::feature_gains) leaves out each one in turn.
    pub fn without<F: Into<String>>(mut self, features: impl IntoIterator<Item = F>) -> Self {
        self.without.extend(features.into_iter().map(Into::into));
        self
    }

    /// Calls `each` after each fold, with the number of finished folds.
    pub fn on_progress(mut self, each: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(each));
        self
    }
}

impl fmt::Debug for Backtest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backtest({} -> {}, {}, {} folds)", self.set, self.label, self.learner.name(), self.folds.iter().count())
    }
}

/// The result of a backtest.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BacktestReport {
    /// The feature set.
    pub set: String,
    /// The label.
    pub label: String,
    /// The features, in the order of the slopes.
    pub features: Vec<String>,
    /// The folds, in the order of time.
    pub folds: Vec<FoldReport>,
}

impl BacktestReport {
    /// The metrics over all folds that have some, each fold weighted by its scored rows: a row of a table that compares backtests.
    /// `None` if no fold was scored.
    pub fn mean(&self) -> Option<Metrics> {
        mean_of(self.folds.iter())
    }
}

/// The mean of the metrics of folds, each weighted by its scored rows.
pub(super) fn mean_of<'a>(folds: impl Iterator<Item = &'a FoldReport>) -> Option<Metrics> {
    let scored: Vec<(f64, Metrics)> = folds.filter_map(|fold| Some((fold.rows_scored as f64, fold.metrics?))).collect();
    let rows: f64 = scored.iter().map(|(rows, _)| rows).sum();
    let mean = |pick: fn(&Metrics) -> f64| scored.iter().map(|(weight, metrics)| weight * pick(metrics)).sum::<f64>() / rows;
    (rows > 0.0).then(|| Metrics {
        r2: mean(|m| m.r2),
        mae: mean(|m| m.mae),
        rmse: mean(|m| m.rmse),
        label_mean: mean(|m| m.label_mean),
    })
}

/// The result of one fold.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FoldReport {
    /// The fold.
    pub fold: Fold,
    /// Rows of the set's query at the as-of.
    pub rows_seen: u64,
    /// Rows that the selections kept, on which the model was fitted.
    pub rows_kept: u64,
    /// The model, if it is linear and there were rows to fit: more of them than there are features.
    pub linear: Option<Linear>,
    /// Rows that were scored.
    pub rows_scored: u64,
    /// The metrics, if there was a model and there were rows to score.
    pub metrics: Option<Metrics>,
    /// The mean of the scored labels minus that of the fold before.
    pub label_shift: Option<f64>,
}

/// Runs a backtest.
pub(crate) async fn run(workspace: &Arc<Workspace>, set: &FeatureSet, backtest: &Backtest) -> Result<BacktestReport> {
    Ok(run_without_each(workspace, set, backtest, &[]).await?.0)
}

/// Runs a backtest as it is, and once more without each of some features. Rows are materialized and scored rows are computed once for
/// all of them.
pub(super) async fn run_without_each(
    workspace: &Arc<Workspace>,
    set: &FeatureSet,
    backtest: &Backtest,
    left_out: &[String],
) -> Result<(BacktestReport, Vec<BacktestReport>)> {
    if let Some(every) = backtest.refreshed_us.filter(|every| *every <= 0) {
        return Err(Error::Definition {
            subject: format!("the backtest of `{}`", set.name),
            reason: format!("it refreshes features every {}; the time must be longer than zero", shown_span(every)),
        });
    }
    if backtest.settle_us < 0 {
        return Err(Error::Definition {
            subject: format!("the backtest of `{}`", set.name),
            reason: format!("its labels settle after {}; the time must be zero or more", shown_span(backtest.settle_us)),
        });
    }
    let known = set.features();
    if let Some(unknown) = backtest.without.iter().find(|name| !known.contains(name)) {
        let subject = format!("the backtest of `{}` without `{unknown}`", set.name);
        return Err(Error::UnknownColumn { subject, column: unknown.clone(), known });
    }
    let (set_name, label) = (backtest.set.clone(), backtest.label.clone());
    let mut all = BacktestReport { set: set_name, label, features: Vec::new(), folds: Vec::new() };
    let mut without_each = vec![all.clone(); left_out.len()];
    // One state of the facts for the whole report, even if facts are loaded in the meantime.
    let tables = workspace.pin_all(&set.tables).await?;
    let as_ofs: Vec<AsOf> = backtest.folds.iter().map(Fold::as_of).collect();
    let trained = materialize_many_pinned(workspace, set, &as_ofs, &tables).await?;
    // Rows of many folds are numbered by a function that only this process has.
    let engine = workspace.engine.here();
    let mut scoring = Scoring::new(&engine, set, &tables, backtest);
    for (done, (fold, trained)) in backtest.folds.iter().zip(trained).enumerate() {
        let training = left_with(trained.dataset(&backtest.label).await?, &backtest.without);
        let scored = left_with(scoring.rows(done, &trained).await?, &backtest.without);
        let add = |report: &mut BacktestReport, training: &Dataset, scored: &Dataset| -> Result<()> {
            let of_fold = fold_report(backtest, set, &trained, fold, training, scored, report.folds.last())?;
            report.folds.push(of_fold);
            report.features.clone_from(&training.features);
            Ok(())
        };
        add(&mut all, &training, &scored)?;
        for (report, feature) in without_each.iter_mut().zip(left_out) {
            add(report, &training.without([feature]), &scored.without([feature]))?;
        }
        if let Some(progress) = &backtest.progress {
            progress(done + 1);
        }
    }
    Ok((all, without_each))
}

/// The rows without these features. If there are none, nothing is copied.
fn left_with(rows: Dataset, without: &[String]) -> Dataset {
    if without.is_empty() { rows } else { rows.without(without) }
}

/// Fits a model on the training rows of a fold, and scores it.
fn fold_report(
    backtest: &Backtest,
    set: &FeatureSet,
    trained: &Materialization,
    fold: &Fold,
    training: &Dataset,
    scored: &Dataset,
    before: Option<&FoldReport>,
) -> Result<FoldReport> {
    let of_fold = |e: Error| match e {
        Error::Step { step, reason, cause, .. } => {
            Error::Step { set: format!("`{}` as of {}", set.name, fold.as_of()), step, reason, cause }
        }
        other => other,
    };
    // Folds around the first fact may have too few rows to fit, which is not an error. Without any feature, the mean is what is left.
    let model = match training.targets.len() <= training.features.len() {
        true => None,
        false if training.features.is_empty() => Some(MeanOnly.fit(training).map_err(of_fold)?),
        false => Some(backtest.learner.fit(training).map_err(of_fold)?),
    };
    let metrics = match &model {
        Some(model) => {
            let predictions = model.predict(&scored.records);
            if scored.targets.iter().chain(&predictions).any(|x| !x.is_finite()) {
                let reason = |reason| Error::Step { set: String::new(), step: "scoring".into(), reason, cause: None };
                scored.check_finite().map_err(|e| of_fold(reason(e)))?;
            }
            Metrics::of(&scored.targets, &predictions)
        }
        None => None,
    };
    let before = before.and_then(|fold| fold.metrics).map(|metrics| metrics.label_mean);
    Ok(FoldReport {
        fold: *fold,
        rows_seen: trained.manifest().rows_seen,
        rows_kept: trained.rows(),
        linear: model.and_then(|model| model.linear()),
        rows_scored: scored.targets.len() as u64,
        metrics,
        label_shift: metrics.zip(before).map(|(m, before)| m.label_mean - before),
    })
}
