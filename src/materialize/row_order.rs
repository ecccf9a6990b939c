//! The order of a materialization's rows: by event time, then by all other columns of the query. It does not depend on files, tasks
//! and batches, since rows that are equal in all columns are interchangeable: they are given the same added columns.
//!
//! DataFusion sorts by event time alone, whose integers it compares many times faster than rows of several columns. What is left are
//! runs of rows with one event time, which are next to each other. They are short as a rule, and sorted here. A run of many rows goes to
//! a temporary file, and DataFusion sorts it by the other columns.

use std::{cmp::Ordering, ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array, make_comparator},
    compute::{BatchCoalescer, SortOptions, concat_batches, take_record_batch},
    datatypes::{Schema, SchemaRef},
};
use datafusion::{
    logical_expr::SortExpr,
    prelude::{DataFrame, ident},
};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use super::row_buffer::{RowBuffer, RowBufferWriter};
use crate::{
    engine::{Engine, Parallelism},
    error::{Error, Result},
    workspace::plain_rows,
};

/// Bytes of a run that are held in memory.
const HELD_BYTES: usize = 16 << 20;

/// Rows in their order, batch by batch.
pub(crate) type Rows = BoxStream<'static, Result<RecordBatch>>;

/// By which columns rows are sorted.
#[derive(Debug, Clone)]
pub(super) struct RowOrder {
    event_time: String,
    others: Vec<String>,
    held_bytes: usize,
}

impl RowOrder {
    /// The order of rows with the columns of a query.
    pub(super) fn of(query: &Schema, event_time: &str) -> Self {
        let others = query.fields().iter().map(|field| field.name().clone()).filter(|name| name != event_time);
        Self { event_time: event_time.to_owned(), others: others.collect(), held_bytes: HELD_BYTES }
    }

    /// The rows in this order with plain types, and their schema.
    pub(super) async fn sort(self, engine: &Engine, rows: DataFrame) -> Result<(SchemaRef, Rows)> {
        let schema = rows.schema().as_arrow();
        let is_flat = |name: &String| schema.field_with_name(name).is_ok_and(|field| !field.data_type().is_nested());
        if !self.others.iter().all(is_flat) {
            let order = std::iter::once(&self.event_time).chain(&self.others).map(|name| ascending(name)).collect();
            return Ok(plain_rows(rows.sort(order)?.execute_stream().await?));
        }
        let order = vec![ascending(&self.event_time)];
        let (schema, rows) = plain_rows(rows.sort(order)?.execute_stream().await?);
        let runs = RunSorter { engine: engine.clone(), order: self, schema: schema.clone(), rows, run: Run::default() };
        let runs = stream::try_unfold(Some(runs), |runs| async move {
            match runs {
                Some(runs) => runs.next().await.map(Some),
                None => Ok(None),
            }
        });
        let batch_rows = engine.batch_rows();
        Ok((schema.clone(), in_batches_of(batch_rows, schema, runs.try_flatten().boxed())))
    }
}

/// The same rows in batches of this many, as DataFusion's sort makes them.
fn in_batches_of(count: usize, schema: SchemaRef, rows: Rows) -> Rows {
    let rest = Some((rows, BatchCoalescer::new(schema, count)));
    let batches = stream::try_unfold(rest, |rest| async move {
        let Some((mut rows, mut filling)) = rest else { return Ok(None) };
        loop {
            if let Some(full) = filling.next_completed_batch() {
                return Ok(Some((full, Some((rows, filling)))));
            }
            match rows.try_next().await? {
                Some(batch) => filling.push_batch(batch)?,
                None => {
                    filling.finish_buffered_batch()?;
                    return Ok(filling.next_completed_batch().map(|last| (last, None)));
                }
            }
        }
    });
    batches.boxed()
}

fn ascending(column: &str) -> SortExpr {
    ident(column).sort(true, true)
}

/// Compares two rows of one array; NULL comes first.
fn comparator(values: &ArrayRef) -> Result<impl Fn(usize, usize) -> Ordering + use<>> {
    Ok(make_comparator(values, values, SortOptions { descending: false, nulls_first: true })?)
}

/// Sorts the runs of rows that come in the order of their event times.
struct RunSorter {
    engine: Engine,
    order: RowOrder,
    schema: SchemaRef,
    rows: Rows,
    /// Rows of the last event time that was seen.
    run: Run,
}

/// Rows with one event time.
#[derive(Default)]
struct Run {
    held: Vec<RecordBatch>,
    bytes: usize,
    /// Rows before those that are held.
    spilled: Option<RowBufferWriter>,
}

impl RunSorter {
    /// The next rows, and what is left to be sorted.
    async fn next(mut self) -> Result<(Rows, Option<Self>)> {
        let Some(batch) = self.rows.try_next().await? else {
            return Ok((self.end_run().await?, None));
        };
        if batch.num_rows() == 0 {
            return Ok((stream::empty().boxed(), Some(self)));
        }
        let begins = self.joins(&batch)?;
        if begins == batch.num_rows() {
            self.run.add(batch, &self.order)?;
            return Ok((stream::empty().boxed(), Some(self)));
        }
        self.run.add(batch.slice(0, begins), &self.order)?;
        let before = self.end_run().await?;
        let rest = batch.slice(begins, batch.num_rows() - begins);
        let runs = runs(rest.column(self.schema.index_of(&self.order.event_time)?))?;
        let last = runs.last().map_or(0, |run| run.start);
        self.run.add(rest.slice(last, rest.num_rows() - last), &self.order)?;
        let whole = self.order.sorted(rest.slice(0, last), &runs[..runs.len().saturating_sub(1)])?;
        Ok((before.chain(stream::iter([Ok(whole)])).boxed(), Some(self)))
    }

    /// How many rows of the batch, from its first, belong to the run that is open.
    fn joins(&self, batch: &RecordBatch) -> Result<usize> {
        let Some(last) = self.run.held.last() else { return Ok(0) };
        let column = self.schema.index_of(&self.order.event_time)?;
        let times = batch.column(column);
        let same = make_comparator(last.column(column), times, SortOptions::default())?;
        // The rows are in the order of their times.
        Ok(partition_point(0..times.len(), |row| same(0, row) == Ordering::Equal))
    }

    /// The rows of the run that is open, in their order. None is open afterwards.
    async fn end_run(&mut self) -> Result<Rows> {
        let Run { held, spilled, .. } = std::mem::take(&mut self.run);
        let Some(mut spilled) = spilled else {
            if held.is_empty() {
                return Ok(stream::empty().boxed());
            }
            let rows = concat_batches(&self.schema, &held)?;
            let all = 0..rows.num_rows();
            let rows = self.order.sorted(rows, std::slice::from_ref(&all))?;
            return Ok(stream::iter([Ok(rows)]).boxed());
        };
        held.iter().try_for_each(|batch| spilled.write(batch))?;
        let rows = Arc::new(spilled.finish()?);
        let others = self.order.others.iter().map(|name| ascending(name)).collect();
        let session = self.engine.session(Parallelism::One, [])?;
        let rows = session.read_table(Arc::new(rows.table()?))?.sort(others)?.execute_stream().await?;
        Ok(rows.map_err(Error::from).boxed())
    }
}

impl Run {
    fn add(&mut self, batch: RecordBatch, order: &RowOrder) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.bytes += batch.get_array_memory_size();
        // The last batch stays, since it has the time of the run.
        if self.bytes > order.held_bytes && !order.others.is_empty() {
            let spilled = match &mut self.spilled {
                Some(spilled) => spilled,
                none => none.insert(RowBuffer::create(batch.schema())?),
            };
            self.held.drain(..).try_for_each(|held| spilled.write(&held))?;
            self.bytes = batch.get_array_memory_size();
        }
        self.held.push(batch);
        Ok(())
    }
}

impl RowOrder {
    /// These rows, with each run sorted by the other columns.
    fn sorted(&self, rows: RecordBatch, runs: &[Range<usize>]) -> Result<RecordBatch> {
        if runs.iter().all(|run| run.len() < 2) || self.others.is_empty() {
            return Ok(rows);
        }
        let comparators = self.others.iter().map(|name| comparator(rows.column(rows.schema_ref().index_of(name)?)));
        let comparators = comparators.collect::<Result<Vec<_>>>()?;
        let compare = |a: u32, b: u32| {
            let decided = comparators.iter().map(|compare| compare(a as usize, b as usize)).find(|order| order.is_ne());
            decided.unwrap_or(Ordering::Equal)
        };
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        for run in runs.iter().filter(|run| run.len() > 1) {
            order[run.clone()].sort_unstable_by(|a, b| compare(*a, *b));
        }
        Ok(take_record_batch(&rows, &UInt32Array::from(order))?)
    }
}

/// The runs of equal values of a column that is in order.
fn runs(times: &ArrayRef) -> Result<Vec<Range<usize>>> {
    let compare = comparator(times)?;
    let mut runs = Vec::new();
    let mut start = 0;
    for row in 1..times.len() {
        if compare(row - 1, row).is_ne() {
            runs.push(start..row);
            start = row;
        }
    }
    runs.push(start..times.len());
    Ok(runs)
}

/// The first number of the range for which this does not hold, if it holds for none after it.
fn partition_point(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Array, AsArray, Float64Array, ListArray, StringArray, TimestampMicrosecondArray},
        datatypes::{Float64Type, Int32Type, TimestampMicrosecondType},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::engine::Resources;

    /// An event time, a number, a text. There are few different ones of each.
    type TestRow = (Option<i64>, Option<f64>, Option<&'static str>);

    fn test_row() -> impl Strategy<Value = TestRow> {
        let number = prop::option::of(prop::sample::select(vec![0.0, -0.0, f64::NAN, f64::NEG_INFINITY, 1.5]));
        (prop::option::of(0..4_i64), number, prop::option::of(prop::sample::select(vec!["", "a", "ab"])))
    }

    fn batch(rows: &[TestRow], with_list: bool) -> RecordBatch {
        let at = rows.iter().map(|row| row.0).collect::<TimestampMicrosecondArray>().with_timezone("UTC");
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("x", Arc::new(rows.iter().map(|row| row.1).collect::<Float64Array>())),
            ("at", Arc::new(at)),
            ("note", Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>())),
        ];
        if with_list {
            let lists = rows.iter().map(|row| row.2.map(|text| vec![Some(text.len() as i32)]));
            columns.push(("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))));
        }
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true))).unwrap()
    }

    /// The sorted rows, with the sizes of their batches.
    fn sorted(batches: Vec<RecordBatch>, held_bytes: usize, batch_rows: usize) -> (Vec<TestRow>, Vec<usize>) {
        let engine = Engine::new(Resources { batch_rows, partitions: 2, ..Resources::default() });
        let order = RowOrder { held_bytes, ..RowOrder::of(batches[0].schema_ref(), "at") };
        let found: Vec<RecordBatch> = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let rows = engine.session(Parallelism::Full, []).unwrap().read_batches(batches).unwrap();
            order.sort(&engine, rows).await.unwrap().1.try_collect().await.unwrap()
        });
        let mut rows = Vec::new();
        for batch in &found {
            let (x, at) = (batch["x"].as_primitive::<Float64Type>(), batch["at"].as_primitive::<TimestampMicrosecondType>());
            for (row, note) in batch["note"].as_string::<i32>().iter().enumerate() {
                let note = note.map(|note| ["", "a", "ab"][note.len()]);
                rows.push((at.is_valid(row).then(|| at.value(row)), x.is_valid(row).then(|| x.value(row)), note));
            }
        }
        (rows, found.iter().map(RecordBatch::num_rows).collect())
    }

    /// In which order rows come: NULL first, floats by `total_cmp`.
    fn compare(a: &TestRow, b: &TestRow) -> Ordering {
        let floats = match (a.1, b.1) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        a.0.cmp(&b.0).then(floats).then(a.2.cmp(&b.2))
    }

    fn shown(rows: &[TestRow]) -> Vec<String> {
        rows.iter().map(|row| format!("{:?} {:?} {:?}", row.0, row.1.map(f64::to_bits), row.2)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn rows_come_in_the_order_of_all_columns_in_full_batches(
            batches in prop::collection::vec(prop::collection::vec(test_row(), 1..40), 1..8),
            // All runs in memory, runs of a few batches, none.
            held_bytes in prop::sample::select(vec![usize::MAX, 2_000, 0]),
            batch_rows in prop::sample::select(vec![1, 3, 8_192]),
            with_list: bool,
        ) {
            let mut expected: Vec<TestRow> = batches.iter().flatten().copied().collect();
            expected.sort_by(compare);
            let all: Vec<RecordBatch> = batches.iter().map(|rows| batch(rows, with_list)).collect();
            let (found, sizes) = sorted(all, held_bytes, batch_rows);
            prop_assert_eq!(shown(&found), shown(&expected));
            prop_assert!(sizes[..sizes.len() - 1].iter().all(|rows| *rows == batch_rows), "{:?}", sizes);
        }
    }

    #[test]
    fn rows_of_event_times_alone_need_no_second_order() {
        let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![3, 1, 2, 1]).with_timezone("UTC"));
        let rows = RecordBatch::try_from_iter([("at", at)]).unwrap();
        let engine = Engine::new(Resources::default());
        let found: Vec<RecordBatch> = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let order = RowOrder { held_bytes: 0, ..RowOrder::of(rows.schema_ref(), "at") };
            let rows = engine.session(Parallelism::One, []).unwrap().read_batch(rows).unwrap();
            order.sort(&engine, rows).await.unwrap().1.try_collect().await.unwrap()
        });
        let times = found[0].column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.values(), &[1, 1, 2, 3]);
    }
}
