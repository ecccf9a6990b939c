//! A set of rows that draws on sets of entities: its rows are asked again as requests after the as-of, when the service has what the
//! sets that are drawn on knew as of it.
//!
//! Training has drawn features at each row's own instant, and a service has them as of its materializations. The two are equal for
//! a row whose instant lies at or after that as-of, if training computes its features as of the as-of and ages them until the row's
//! instant: the rule by which a backtest with refreshes scores rows. So the instants of the rows are moved to after the as-of.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt64Array},
    compute::{CastOptions, cast_with_options, take_record_batch},
    datatypes::{Field, Schema, TimestampMicrosecondType},
};
use futures::TryStreamExt;

use super::{
    ParityReport, ParitySample,
    as_served::max_age,
    compare::Comparison,
    entities::table_of,
    queried::queried,
    rows::{RequestSide, numbered, scored},
};
use crate::{
    error::Result,
    feature_set::{FeatureSet, RowSet},
    materialize::{Pipeline, Refreshes, RowBuffer, add_drawn, facts_of_rows},
    scan::VisibleTable,
    time::{AsOf, instant_type},
    workspace::{PinnedTable, Workspace, plain_rows},
};

/// How long after the as-of requests come, unless a max age is longer than half of it.
const WEEK_US: i64 = 7 * 86_400_000_000;

/// Compares the sampled rows, asked after the as-of.
#[allow(clippy::too_many_arguments, reason = "the parts of one comparison, which `rows` has at hand")]
pub(super) async fn compare(
    workspace: &Arc<Workspace>,
    set: &FeatureSet,
    rows: &RowSet,
    as_of: AsOf,
    sample: ParitySample,
    pinned: &[PinnedTable],
    requests: &RequestSide<'_>,
    pipeline: &Pipeline,
    comparison: &mut Comparison,
    report: &mut ParityReport,
) -> Result<()> {
    let of_query = RowSet {
        drawn: Vec::new(),
        ahead: Vec::new(),
        labels: Vec::new(),
        selections: Vec::new(),
        encoders: Vec::new(),
        ..rows.clone()
    };
    let tables = VisibleTable::all(pinned, set.horizon(as_of))?;
    let queried = queried(&workspace.engine, &set.name, &of_query, &tables, as_of).await?;
    let (mut picks, mut seen, mut without) = (sample.picks(queried.rows()), 0_u64, 0_u64);
    let span_us = span_of(rows);
    let mut asked = None;
    let mut batches = queried.stream();
    while let Some(batch) = batches.try_next().await? {
        let picked: Vec<u64> = (0..batch.num_rows() as u64).filter(|_| picks.pick()).collect();
        let numbered = numbered(&batch, seen)?;
        seen += batch.num_rows() as u64;
        let moved = moved(&take_record_batch(&numbered, &UInt64Array::from(picked))?, rows.at(), as_of, span_us, &mut without)?;
        if asked.is_none() {
            asked = Some(RowBuffer::create(moved.schema())?);
        }
        if let Some(asked) = &mut asked {
            asked.write(&moved)?;
        }
    }
    report.notes.push(format!(
        "rows were asked as requests after {as_of}, the as-of of the sets that are drawn on; training has their drawn features as of \
         it, aged until the instant of the request, and the encoding that scoring uses"
    ));
    report.not_compared.push(
        "the published rows: their drawn features are those of each row's own instant, and the service has those of the as-of"
            .into(),
    );
    if without > 0 {
        report.not_compared.push(format!("{without} rows whose instant `{}` is NULL", rows.at()));
    }
    let Some(asked) = asked else { return Ok(()) };
    let asked = Arc::new(asked.finish()?);
    // The operators cut the facts at the as-of of each row, so all of them are opened.
    let tables = VisibleTable::all(pinned, set.horizon(AsOf::END_OF_TIME))?;
    let facts = facts_of_rows(&workspace.engine, &set.name, rows, &tables).await?;
    let served = Refreshes { first: as_of, every_us: i64::MAX };
    let training = add_drawn(table_of(workspace, &asked)?, rows, &facts, Some(served.into()))?;
    let (_, mut training) = plain_rows(training.execute_stream().await?);
    while let Some(batch) = training.try_next().await? {
        if batch.num_rows() > 0 {
            requests.add(comparison, &batch, &scored(pipeline, &batch)?)?;
        }
    }
    Ok(())
}

/// How long after the as-of the requests come: long enough that some values are too old.
fn span_of(rows: &RowSet) -> i64 {
    let sources = rows.drawn.iter().flat_map(|drawn| drawn.sources());
    let longest = sources.filter_map(|(_, source)| max_age(&source)).max();
    longest.map_or(WEEK_US, |age| age.saturating_mul(2).clamp(1_000_000, i64::MAX / 4))
}

/// The rows with their instants moved by whole spans to within a span after the as-of; without those that have none.
fn moved(rows: &RecordBatch, at: &str, as_of: AsOf, span_us: i64, without: &mut u64) -> Result<RecordBatch> {
    let position = rows.schema_ref().index_of(at)?;
    let instants = cast_with_options(rows.column(position), &instant_type(), &CastOptions { safe: true, ..Default::default() })?;
    let instants = instants.as_primitive::<TimestampMicrosecondType>();
    let known: Vec<u64> = (0..rows.num_rows()).filter(|&row| instants.is_valid(row)).map(|row| row as u64).collect();
    *without += (rows.num_rows() - known.len()) as u64;
    let instants: TimestampMicrosecondArray = instants
        .iter()
        .flatten()
        .map(|at| {
            let since = (i128::from(at) - i128::from(as_of.micros())).rem_euclid(i128::from(span_us));
            Some(as_of.micros().saturating_add(i64::try_from(since).unwrap_or(0)))
        })
        .collect();
    let kept = take_record_batch(rows, &UInt64Array::from(known))?;
    let mut columns: Vec<ArrayRef> = kept.columns().to_vec();
    columns[position] = Arc::new(instants.with_timezone("UTC"));
    let mut fields: Vec<_> = kept.schema().fields().iter().cloned().collect();
    fields[position] = Arc::new(Field::new(at, instant_type(), true));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
