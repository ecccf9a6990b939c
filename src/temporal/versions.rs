//! Facts that are replaced: rows of one declared identity are versions of one fact, and the latest visible one counts.
//! It holds all versions of a table at once: a correction may have moved its fact to another time or entity.

use std::cmp::Ordering;

use arrow::{
    array::{Array, ArrayRef},
    compute::concat,
    row::{RowConverter, SortField},
};

use super::{budget::Budget, keys::NO_KEY, side::Chunk};
use crate::error::{Error, Result};

/// Says of every fact until when it is seen, and drops those of entities that are not in the spine.
///
/// A version is replaced from the instant on at which one with a later known-at is visible; between versions of the same
/// known-at the order of event time, tie-breaks and all other columns decides. A NULL in an identity column makes a row a
/// fact of its own.
pub(super) fn resolve(
    place: &str,
    identity: &[usize],
    tie_break: &[usize],
    chunks: Vec<Chunk>,
    budget: &Budget,
) -> Result<Vec<Chunk>> {
    let Some(first) = chunks.first() else { return Ok(chunks) };
    let rows: usize = chunks.iter().map(|chunk| chunk.rows.len()).sum();
    budget.grow(place, rows * 64)?;
    let columns = first.batch.num_columns();
    // All facts' columns, in the order of the chunks' vectors.
    let all = (0..columns).map(|c| {
        let parts = chunks.iter().map(|chunk| {
            let rows = arrow::array::UInt32Array::from(chunk.rows.clone());
            Ok(arrow::compute::take(chunk.batch.column(c), &rows, None)?)
        });
        let parts = parts.collect::<Result<Vec<ArrayRef>>>()?;
        Ok(concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?)
    });
    let all = all.collect::<Result<Vec<ArrayRef>>>()?;
    let rows_of = |positions: &[usize]| {
        let columns: Vec<ArrayRef> = positions.iter().map(|&p| all[p].clone()).collect();
        let converter = RowConverter::new(columns.iter().map(|c| SortField::new(c.data_type().clone())).collect())?;
        Ok::<_, Error>(converter.convert_columns(&columns)?)
    };
    let names = rows_of(identity)?;
    let order: Vec<usize> = tie_break.iter().copied().chain((0..columns).filter(|c| !tie_break.contains(c))).collect();
    let values = rows_of(&order)?;
    let is_named: Vec<bool> = (0..rows).map(|row| identity.iter().all(|&p| all[p].is_valid(row))).collect();

    let flat = |pick: fn(&Chunk, usize) -> i64| -> Vec<i64> {
        chunks.iter().flat_map(|chunk| (0..chunk.rows.len()).map(move |i| pick(chunk, i))).collect()
    };
    let visible = flat(|chunk, i| chunk.visible[i]);
    let event = flat(|chunk, i| chunk.order()[i]);
    // Without a column, known-at is the event time plus a constant.
    let known = flat(|chunk, i| chunk.known.as_ref().map_or(chunk.order()[i], |known| known[i]));

    let mut sorted: Vec<usize> = (0..rows).filter(|&row| is_named[row]).collect();
    let newer = |a: usize, b: usize| -> Ordering {
        (known[a], event[a]).cmp(&(known[b], event[b])).then_with(|| values.row(a).cmp(&values.row(b)))
    };
    sorted.sort_unstable_by(|&a, &b| names.row(a).cmp(&names.row(b)).then_with(|| newer(a, b)).then(a.cmp(&b)));
    let mut until = vec![i64::MAX; rows];
    for pair in sorted.windows(2).rev() {
        let (older, later) = (pair[0], pair[1]);
        if names.row(older) == names.row(later) {
            until[older] = until[later].min(visible[later]);
        }
    }
    let mut row = 0;
    let resolved = chunks.into_iter().map(|chunk| {
        let until = &until[row..row + chunk.rows.len()];
        row += chunk.rows.len();
        kept(chunk, until)
    });
    Ok(resolved.collect())
}

/// The facts of a chunk that belong to an entity of the spine.
fn kept(chunk: Chunk, until: &[i64]) -> Chunk {
    let places: Vec<usize> = (0..chunk.rows.len()).filter(|&i| chunk.entities[i] != NO_KEY).collect();
    let pick = |times: &[i64]| places.iter().map(|&i| times[i]).collect::<Vec<_>>();
    Chunk {
        rows: places.iter().map(|&i| chunk.rows[i]).collect(),
        entities: places.iter().map(|&i| chunk.entities[i]).collect(),
        visible: pick(&chunk.visible),
        event: pick(&chunk.event),
        order: chunk.order.as_deref().map(pick),
        known: chunk.known.as_deref().map(pick),
        until: Some(pick(until)),
        batch: chunk.batch,
    }
}
