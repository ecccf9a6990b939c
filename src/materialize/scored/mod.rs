//! Rows to be scored: those of a set's query that happened in a span, as they are known at an instant. Those of several spans can come
//! from one query. Nothing is selected or encoded here, since what the steps have learned differs from span to span.

mod cost;
mod numbered;

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::{SchemaRef, UInt32Type},
};
use futures::{StreamExt, TryStreamExt, future::ready};

pub(super) use self::numbered::NumberedSpans;
use self::numbered::SPAN;
use super::{drawn::Refreshes, row_buffer::RowBuffer, row_order::Rows, rows::RowQuery};
use crate::{
    engine::Engine,
    error::Result,
    feature_set::{FeatureSet, RowSet},
    scan::VisibleTable,
    time::{AsOf, Span},
    workspace::PinnedTable,
};

/// Which rows are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScoredSpan {
    /// When they happened.
    pub(crate) span: Span,
    /// The instant as of which they are known. It does not lie before the end of the span.
    pub(crate) known_at: AsOf,
    /// Features as a service would have had them, instead of those at each row's own instant.
    pub(crate) served: Option<Refreshes>,
}

/// The rows of a span in the order of a materialization, and their schema. `pinned` are the tables of the set.
///
/// # Errors
/// [`Error::Definition`](crate::Error::Definition) for a query that joins, aggregates or has a subquery.
pub(crate) async fn scored_rows(
    engine: &Engine,
    set: &FeatureSet,
    rows: &RowSet,
    pinned: &[PinnedTable],
    scored: &ScoredSpan,
) -> Result<(SchemaRef, Rows)> {
    let ScoredSpan { span, known_at, served } = *scored;
    let tables = VisibleTable::all(pinned, set.horizon(known_at))?;
    let query = RowQuery { engine, name: &set.name, set: rows, tables: &tables, as_of: known_at, span: Some(span), served };
    query.rows().await?.in_order().await
}

/// The rows of several spans, in a temporary file.
pub(crate) struct ScoredRows {
    buffer: Arc<RowBuffer>,
    /// Where the rows of each span are.
    places: Vec<Place>,
}

/// The batches of the buffer from the first to the last that has rows of a span, and how many rows these batches have.
#[derive(Debug, Clone, Default)]
struct Place {
    batches: Range<usize>,
    rows: u64,
}

impl ScoredRows {
    /// Queries the rows of these spans at once, or of as many of them, from the first on, as a temporary file should hold. `None` if they
    /// cannot come from one query: a row need not come from one fact, or its
    /// labels depend on the instant; and if one query would cost hardly less than one for each span.
    ///
    /// # Errors
    /// As [`scored_rows`] for any of the spans. In addition an expression of the query may fail on a row between the spans, or on one that
    /// is known too late for its span.
    pub(crate) async fn query(
        engine: &Engine,
        set: &FeatureSet,
        rows: &RowSet,
        pinned: &[PinnedTable],
        spans: &[ScoredSpan],
    ) -> Result<Option<Self>> {
        let Some(last) = last_instant(spans) else { return Ok(None) };
        let tables = VisibleTable::all(pinned, set.horizon(last))?;
        let spans = &spans[..cost::spans_at_once(rows, &tables, spans).min(spans.len())];
        let (Some(last), Some(span)) = (last_instant(spans), hull(spans)) else { return Ok(None) };
        let tables = VisibleTable::all(pinned, set.horizon(last))?;
        let query = RowQuery { engine, name: &set.name, set: rows, tables: &tables, as_of: last, span: Some(span), served: None };
        let numbered = NumberedSpans::new(spans, set.cutoff);
        let is_worth = |is_skipping| cost::is_worth_sharing(rows, &tables, is_skipping, spans);
        let Some(planned) = query.rows_of_spans(&numbered, is_worth).await? else { return Ok(None) };
        let (schema, mut sorted) = planned.in_order().await?;
        let number = schema.index_of(SPAN)?;
        let mut buffer = RowBuffer::create(schema)?;
        let (mut places, mut batches) = (vec![Place::default(); spans.len()], Vec::new());
        while let Some(batch) = sorted.try_next().await? {
            for &span in batch.column(number).as_primitive::<UInt32Type>().values() {
                if let Some(place) = places.get_mut(span as usize) {
                    let first = if place.batches.is_empty() { batches.len() } else { place.batches.start };
                    place.batches = first..batches.len() + 1;
                }
            }
            buffer.write(&batch)?;
            batches.push(batch.num_rows() as u64);
        }
        for place in &mut places {
            place.rows = batches[place.batches.clone()].iter().sum();
        }
        Ok(Some(Self { buffer: Arc::new(buffer.finish()?), places }))
    }

    /// How many spans it has, from the first that was asked for.
    pub(crate) fn spans(&self) -> usize {
        self.places.len()
    }

    /// The rows of a span, counted from zero, as [`scored_rows`] gives them; they have hidden columns, too.
    pub(crate) fn of_span(&self, span: usize) -> Result<(SchemaRef, Rows)> {
        let schema = self.buffer.schema().clone();
        let Place { batches, rows } = self.places.get(span).cloned().unwrap_or_default();
        if batches.is_empty() {
            return Ok((schema, futures::stream::empty().boxed()));
        }
        let number = schema.index_of(SPAN)?;
        let own = self.buffer.stream_of_batches(batches, rows).map(move |batch| {
            let batch = batch?;
            let numbers = batch.column(number).as_primitive::<UInt32Type>();
            let is_own: BooleanArray = numbers.values().iter().map(|&number| Some(number as usize == span)).collect();
            Ok(filter_record_batch(&batch, &is_own)?)
        });
        Ok((schema, own.try_filter(|batch: &RecordBatch| ready(batch.num_rows() > 0)).boxed()))
    }
}

/// The last instant as of which rows of spans are known.
fn last_instant(spans: &[ScoredSpan]) -> Option<AsOf> {
    spans.iter().map(|scored| scored.known_at).max()
}

/// From the first start to the last end of spans.
fn hull(spans: &[ScoredSpan]) -> Option<Span> {
    let start = spans.iter().map(|scored| scored.span.start).min()?;
    Some(Span::new(start, spans.iter().map(|scored| scored.span.end).max()?))
}

/// Spans that cover these spans and nothing else, in order; none touches another.
fn merged(spans: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut sorted: Vec<Span> = spans.into_iter().filter(|span| span.start < span.end).collect();
    sorted.sort_by_key(|span| (span.start, span.end));
    let mut merged: Vec<Span> = Vec::new();
    for span in sorted {
        match merged.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(of: &[(i64, i64)]) -> Vec<Span> {
        of.iter().map(|&(start, end)| Span::new(AsOf::from_micros(start), AsOf::from_micros(end))).collect()
    }

    #[test]
    fn spans_that_meet_become_one() {
        assert_eq!(merged(spans(&[(5, 9), (1, 3), (3, 4), (6, 7), (20, 20), (30, 29)])), spans(&[(1, 4), (5, 9)]));
        assert_eq!(merged(spans(&[(1, 10), (2, 3), (9, 12)])), spans(&[(1, 12)]));
        assert_eq!(merged(spans(&[])), []);
    }
}
