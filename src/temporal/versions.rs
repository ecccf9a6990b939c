//! Facts that are replaced: rows with the same identity are versions of one fact, and only the latest visible version counts.
//! All versions of a table are held at once, since a correction may move a fact to another time or entity.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, UInt32Array},
    compute::take,
    datatypes::{DataType, Float32Type, Float64Type, Schema},
    row::{RowConverter, Rows, SortField},
};

use super::{
    budget::Budget,
    fact_chunk::FactChunk,
    keys::NO_KEY,
    time_decoder::{FIRST_TICK, LAST_TICK},
};
use crate::error::Result;

/// Finds for every fact until when it is visible and its rank by recency, and drops facts of entities that are not in the
/// spine.
///
/// A version is replaced as soon as a version with a later known-at is visible. Between versions with the same known-at, event
/// time decides, and then the columns `order`. A row with a NULL in an identity column is a fact of its own. `replaced` has the first tick
/// at which each fact is replaced, if it is known already; then `identity` is not looked at.
pub(super) fn resolve(
    subject: &str,
    schema: &Schema,
    (identity, order): (&[usize], &[usize]),
    replaced: Option<Vec<Option<i64>>>,
    chunks: Vec<FactChunk>,
    budget: &Budget,
) -> Result<Vec<FactChunk>> {
    let all = Versions::of(subject, schema, order, &chunks, budget)?;
    let replaced_from = match replaced {
        Some(known) => known,
        None => all.replaced_from(subject, schema, identity, &chunks, budget)?,
    };
    let recency = all.recency();
    let mut row = 0;
    let resolved = chunks.into_iter().map(|chunk| {
        let of_chunk = row..row + chunk.rows.len();
        row = of_chunk.end;
        visible_versions(chunk, &replaced_from[of_chunk.clone()], &recency[of_chunk])
    });
    Ok(resolved.collect())
}

/// The first tick at which each fact is replaced, if it is, in the order of the chunks; see [`resolve`].
pub(super) fn replaced_from(
    subject: &str,
    schema: &Schema,
    (identity, order): (&[usize], &[usize]),
    chunks: &[FactChunk],
    budget: &Budget,
) -> Result<Vec<Option<i64>>> {
    Versions::of(subject, schema, order, chunks, budget)?.replaced_from(subject, schema, identity, chunks, budget)
}

/// All versions of all facts, in the order of the chunks.
struct Versions {
    /// The columns that decide between versions of the same times.
    values: Rows,
    visible_from: Vec<i64>,
    event: Vec<i64>,
    known: Vec<i64>,
}

impl Versions {
    fn of(subject: &str, schema: &Schema, order: &[usize], chunks: &[FactChunk], budget: &Budget) -> Result<Self> {
        let rows: usize = chunks.iter().map(|chunk| chunk.rows.len()).sum();
        budget.grow(subject, rows * 72)?;
        // In Arrow's row format, since the texts of a whole table could be too long for one array.
        let mut values = Format::new(schema, order)?;
        for chunk in chunks {
            values.append(chunk)?;
        }
        budget.grow(subject, values.rows.size())?;
        let flat = |pick: fn(&FactChunk, usize) -> i64| -> Vec<i64> {
            chunks.iter().flat_map(|chunk| (0..chunk.rows.len()).map(move |i| pick(chunk, i))).collect()
        };
        Ok(Self {
            values: values.rows,
            visible_from: flat(|chunk, i| chunk.visible_from[i]),
            event: flat(|chunk, i| chunk.order()[i]),
            // Without a column, known-at is the event time plus a constant.
            known: flat(|chunk, i| chunk.known.as_ref().map_or(chunk.order()[i], |known| known[i])),
        })
    }

    fn replaced_from(
        &self,
        subject: &str,
        schema: &Schema,
        identity: &[usize],
        chunks: &[FactChunk],
        budget: &Budget,
    ) -> Result<Vec<Option<i64>>> {
        let Self { values, visible_from, event, known } = self;
        let mut names = Format::new(schema, identity)?;
        let mut is_named = Vec::with_capacity(event.len());
        for chunk in chunks {
            let of_identity = names.append(chunk)?;
            is_named.extend((0..chunk.rows.len()).map(|i| of_identity.iter().all(|column| column.is_valid(i))));
        }
        let names = names.rows;
        budget.grow(subject, names.size())?;
        let mut sorted: Vec<usize> = (0..event.len()).filter(|&row| is_named[row]).collect();
        let later = |a: usize, b: usize| -> Ordering {
            (known[a], event[a]).cmp(&(known[b], event[b])).then_with(|| values.row(a).cmp(&values.row(b)))
        };
        sorted.sort_unstable_by(|&a, &b| names.row(a).cmp(&names.row(b)).then_with(|| later(a, b)).then(a.cmp(&b)));
        let mut replaced_from: Vec<Option<i64>> = vec![None; event.len()];
        for pair in sorted.windows(2).rev() {
            let (older, later) = (pair[0], pair[1]);
            if names.row(older) == names.row(later) {
                let by_later = visible_from[later];
                replaced_from[older] = Some(replaced_from[later].map_or(by_later, |tick| tick.min(by_later)));
            }
        }
        Ok(replaced_from)
    }

    fn recency(&self) -> Vec<i64> {
        let Self { values, event, known, .. } = self;
        let mut sorted: Vec<usize> = (0..event.len()).collect();
        sorted.sort_unstable_by(|&a, &b| {
            (event[a], known[a]).cmp(&(event[b], known[b])).then_with(|| values.row(a).cmp(&values.row(b))).then(a.cmp(&b))
        });
        let mut recency = vec![0; event.len()];
        sorted.iter().zip(0..).for_each(|(&row, rank)| recency[row] = rank);
        recency
    }
}

/// Some columns of all facts in Arrow's row format, in the order of the chunks.
struct Format<'a> {
    converter: RowConverter,
    columns: &'a [usize],
    rows: Rows,
}

impl<'a> Format<'a> {
    fn new(schema: &Schema, columns: &'a [usize]) -> Result<Self> {
        let fields = columns.iter().map(|&p| SortField::new(schema.field(p).data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let rows = converter.empty_rows(0, 0);
        Ok(Self { converter, columns, rows })
    }

    /// Appends the columns of a chunk, and returns them.
    fn append(&mut self, chunk: &FactChunk) -> Result<Vec<ArrayRef>> {
        let rows = UInt32Array::from(chunk.rows.clone());
        let columns = self.columns.iter().map(|&p| Ok(take(chunk.batch.column(p), &rows, None)?));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let ordered: Vec<ArrayRef> = columns.iter().map(nan_is_largest).collect();
        self.converter.append(&mut self.rows, &ordered)?;
        Ok(columns)
    }
}

/// Makes every NaN positive, so that it is the largest float in total order.
pub(super) fn nan_is_largest(column: &ArrayRef) -> ArrayRef {
    fn without_sign<T: ArrowPrimitiveType>(column: &ArrayRef, order: impl Fn(T::Native) -> T::Native) -> ArrayRef {
        Arc::new(column.as_primitive::<T>().unary::<_, T>(order))
    }
    match column.data_type() {
        DataType::Float32 => without_sign::<Float32Type>(column, |x| if x.is_nan() { x.abs() } else { x }),
        DataType::Float64 => without_sign::<Float64Type>(column, |x| if x.is_nan() { x.abs() } else { x }),
        _ => column.clone(),
    }
}

/// The facts of a chunk that belong to an entity of the spine and are visible at some tick.
fn visible_versions(chunk: FactChunk, replaced_from: &[Option<i64>], recency: &[i64]) -> FactChunk {
    let is_visible = |i: &usize| chunk.entities[*i] != NO_KEY && replaced_from[*i] != Some(FIRST_TICK);
    let positions: Vec<usize> = (0..chunk.rows.len()).filter(is_visible).collect();
    let pick = |times: &[i64]| positions.iter().map(|&i| times[i]).collect::<Vec<_>>();
    FactChunk {
        rows: positions.iter().map(|&i| chunk.rows[i]).collect(),
        entities: positions.iter().map(|&i| chunk.entities[i]).collect(),
        visible_from: pick(&chunk.visible_from),
        event: pick(&chunk.event),
        order: chunk.order.as_deref().map(pick),
        known: chunk.known.as_deref().map(pick),
        visible_until: Some(positions.iter().map(|&i| replaced_from[i].map_or(LAST_TICK, |tick| tick - 1)).collect()),
        recency: Some(pick(recency)),
        batch: chunk.batch,
    }
}
