//! The rows that a backtest scores, fold by fold: encoded with the states that were learned before the cutoff of the fold, and selected
//! by the population selections with their states.
//!
//! The set's query runs again, at the instant when the labels are known. That is sound only when each of its rows comes from one fact: a
//! join or an aggregate would build a scored row from facts of its own future, so such a query is refused. One query gives the rows of
//! many folds where that costs less than a query for each; a pass takes as many folds as memory allows.

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::StreamExt;

use super::{Backtest, Fold};
use crate::{
    engine::Engine,
    error::{Error, ErrorKind, Result},
    feature_set::{FeatureSet, RowSet},
    materialize::{Apply, Materialization, Refreshes, Rows, ScoredRows, ScoredSpan, output_batch, output_schema, scored_rows},
    time::AsOf,
    training::Dataset,
    workspace::PinnedTable,
};

/// The rows to score of the folds of a backtest, which are asked for in their order.
pub(super) struct Scoring<'a> {
    engine: &'a Engine,
    set: &'a FeatureSet,
    tables: &'a [PinnedTable],
    label: &'a str,
    /// By fold.
    spans: Vec<ScoredSpan>,
    /// Folds that a pass takes at most.
    most: usize,
    /// The first fold of the last pass, and the rows that it has found.
    pass: Option<(usize, ScoredRows)>,
}

impl<'a> Scoring<'a> {
    pub(super) fn new(engine: &'a Engine, set: &'a FeatureSet, tables: &'a [PinnedTable], backtest: &'a Backtest) -> Self {
        let spans: Vec<ScoredSpan> = backtest.folds.iter().map(|fold| scored_span(set, backtest, fold)).collect();
        Self { engine, set, tables, label: &backtest.label, most: spans.len(), spans, pass: None }
    }

    /// The rows of a fold, which was trained on this materialization.
    pub(super) async fn rows(&mut self, fold: usize, trained: &Materialization) -> Result<Dataset> {
        let set = self.set;
        let Some((rows, pipeline)) = trained.pipeline()? else {
            let reason = "a backtest scores rows, and a set of entities has none".to_owned();
            return Err(Error::Definition { subject: format!("feature set `{}`", set.name), reason });
        };
        let (schema, batches) = self.queried(fold, rows).await?;
        let output = output_schema(rows, &schema, &pipeline)?;
        let encoded = batches.map(|batch| -> Result<RecordBatch> {
            let batch = batch?;
            let kept = pipeline.select(Apply::Population, &batch, None)?;
            output_batch(rows, &output, &kept, pipeline.encode("the set's query", &kept)?)
        });
        let features: Vec<String> = set.features().into_iter().filter(|f| f != self.label).collect();
        Dataset::collect(&format!("the query of `{}`", set.name), encoded, &features, self.label).await
    }

    /// The rows of a fold as they are queried.
    async fn queried(&mut self, fold: usize, rows: &RowSet) -> Result<(SchemaRef, Rows)> {
        loop {
            if let Some((first, pass)) = &self.pass
                && let Some(span) = fold.checked_sub(*first).filter(|span| *span < pass.spans())
            {
                return pass.of_span(span);
            }
            // Its file is removed before the next one grows.
            self.pass = None;
            let spans = &self.spans[fold..];
            let count = self.most.min(spans.len());
            let [alone, ..] = spans else {
                return Err(Error::Internal { subject: "a backtest".into(), reason: format!("there is no fold {fold}") });
            };
            if count < 2 {
                return scored_rows(self.engine, self.set, rows, self.tables, alone).await;
            }
            match ScoredRows::query(self.engine, self.set, rows, self.tables, &spans[..count]).await {
                Ok(Some(found)) => self.pass = Some((fold, found)),
                Ok(None) => self.most = 1,
                Err(error) if may_be_of_this_pass(&error) => {
                    tracing::debug!(
                        "scoring {count} folds of `{}` at once failed, half of them come next: {error}",
                        self.set.name
                    );
                    self.most = count / 2;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn scored_span(set: &FeatureSet, backtest: &Backtest, fold: &Fold) -> ScoredSpan {
    let mut span = fold.scored();
    if set.horizon(fold.as_of()).sees(span.start) {
        // A fact at exactly the as-of was trained on.
        span.start = AsOf::from_micros(span.start.micros().saturating_add(1));
    }
    ScoredSpan {
        span,
        known_at: AsOf::from_micros(fold.scored().end.micros().saturating_add(backtest.settle_us)),
        served: backtest.refreshed_us.map(|every_us| Refreshes { first: fold.as_of(), every_us }),
    }
}

/// May fewer folds at once succeed? They take less memory, and have fewer rows on which an expression can fail. If not, the fold
/// that fails does so alone.
fn may_be_of_this_pass(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ResourceLimit | ErrorKind::InvalidInput)
}
