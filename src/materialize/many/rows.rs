//! A set of rows at several instants: its query runs once, and each instant takes the rows that were visible at it.
//!
//! That is sound when each row is made of one fact. Then a row says when it is visible: its times are passed on.

use std::sync::Arc;

use arrow::{
    array::BooleanArray,
    compute::{BatchCoalescer, filter_record_batch},
};

use crate::{
    catalog::FactTable,
    engine::Engine,
    error::Result,
    feature_set::RowSet,
    manifest::Manifest,
    materialize::{
        compute::{Computed, compute_of_queried},
        row_buffer::RowBuffer,
        row_set::{QueriedRows, on_blocking_thread},
    },
    name::SetName,
    scan::{Visibility, VisibleTable},
    time::{AsOf, stored_integers},
};

/// The rows of a set's query as of the last of several instants.
pub(super) struct ManyRows {
    name: SetName,
    set: RowSet,
    queried: QueriedRows,
    /// The declaration of the rows' table, with the names of the hidden columns.
    times: FactTable,
    batch_rows: usize,
}

impl ManyRows {
    /// Runs the query; `None` if its rows do not each come from one fact. `tables` are those of the set, as of the last instant.
    pub(super) async fn query(
        engine: &Engine,
        name: &SetName,
        set: &RowSet,
        tables: &[VisibleTable],
        last: AsOf,
    ) -> Result<Option<Self>> {
        let Some((queried, times)) = QueriedRows::query_with_times(engine, name, set, tables, last).await? else {
            return Ok(None);
        };
        Ok(Some(Self { name: name.clone(), set: set.clone(), queried, times, batch_rows: engine.batch_rows() }))
    }

    /// Computes the materialization of an instant.
    pub(super) async fn compute(&self, engine: &Engine, manifest: Manifest) -> Result<Computed> {
        let horizon = manifest.horizon();
        let rows = self.queried.rows().clone();
        let visibility = Visibility::of("the set's query", &self.times, rows.schema(), horizon)?;
        let batch_rows = self.batch_rows;
        let visible = move || visible(&rows, &visibility, batch_rows);
        let visible = on_blocking_thread(&self.name, visible).await?;
        let rows = self.queried.part(visible);
        compute_of_queried(engine, &self.set, rows.at(horizon.as_of), manifest).await
    }
}

/// The rows that are visible, in batches as a query gives them.
fn visible(rows: &Arc<RowBuffer>, visibility: &Visibility, batch_rows: usize) -> Result<RowBuffer> {
    let schema = rows.schema();
    let positions = visibility.positions(schema)?;
    let mut kept = RowBuffer::create(schema.clone())?;
    let mut filling = BatchCoalescer::new(schema.clone(), batch_rows);
    for batch in rows.batches(None)? {
        let batch = batch?;
        let mut is_visible = vec![true; batch.num_rows()];
        for (limit, &position) in visibility.limits.iter().zip(&positions) {
            let times = stored_integers(batch.column(position))?;
            for (is_visible, time) in is_visible.iter_mut().zip(&times) {
                *is_visible &= time.is_some_and(|time| limit.admits(time));
            }
        }
        filling.push_batch(filter_record_batch(&batch, &BooleanArray::from(is_visible))?)?;
        while let Some(full) = filling.next_completed_batch() {
            kept.write(&full)?;
        }
    }
    filling.finish_buffered_batch()?;
    while let Some(last) = filling.next_completed_batch() {
        kept.write(&last)?;
    }
    kept.finish()
}
