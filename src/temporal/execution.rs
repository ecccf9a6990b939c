//! Runs an operator: reads and indexes the spine, streams the facts past it, and makes the output.
//! What is kept of the facts and how results are made of it is up to the operators, `lookup` and `window`.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::{Result as DfResult, config::ExecutionOptions, utils::memory::RecordBatchMemoryCounter},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties,
        metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, Time},
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use super::{
    budget::Budget,
    event_time_filter::EventTimeFilter,
    fact_chunk::FactChunk,
    fact_input::PhysicalFactInput,
    full_rows::version_order,
    keys::{Keys, NO_KEY},
    operator::{CreateOperator, FactAccumulator, OperatorContext, OutputMemory, TemporalOperator},
    output::{TableOutput, joined_batches},
    resolve_versions::replaced_ticks,
    spine_index::SpineIndex,
    tasks::{blocking, joined},
    time_decoder::Direction,
    versions,
};
use crate::error::{Error, Result};

/// The least number of rows of a batch of the spine, and so of the result. Larger batches are fewer steps.
const SPINE_BATCH_ROWS: usize = 65_536;
/// The number of values in a batch of facts, and limits for its number of rows.
const FACT_BATCH_VALUES: usize = 1 << 20;
const FACT_BATCH_ROWS: Range<usize> = 8_192..131_072;

/// The metrics that `EXPLAIN ANALYZE` shows.
#[derive(Clone)]
pub(super) struct Metrics {
    baseline: BaselineMetrics,
    /// Wall times: reading the spine, indexing it, reading facts, making the output.
    spine_time: Time,
    index_time: Time,
    facts_time: Time,
    answer_time: Time,
    /// Processor times of all tasks within `facts_time`, without decoding: finding keys and times, and accumulating facts.
    match_time: Time,
    take_time: Time,
    spine_rows: Count,
    facts_rows: Count,
    facts_of_entities: Count,
}

impl Metrics {
    pub(super) fn new(set: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let time = |name: &'static str| MetricBuilder::new(set).subset_time(name, partition);
        let count = |name: &'static str| MetricBuilder::new(set).counter(name, partition);
        Self {
            baseline: BaselineMetrics::new(set, partition),
            spine_time: time("spine_time"),
            index_time: time("index_time"),
            facts_time: time("facts_time"),
            answer_time: time("answer_time"),
            match_time: time("match_time"),
            take_time: time("take_time"),
            spine_rows: count("spine_rows"),
            facts_rows: count("facts_rows"),
            facts_of_entities: count("facts_of_entities"),
        }
    }
}

/// One execution of a plan.
pub(super) struct Execution<S> {
    pub(super) spine: Arc<dyn ExecutionPlan>,
    pub(super) at_position: usize,
    pub(super) facts: Vec<Arc<dyn ExecutionPlan>>,
    pub(super) fact_inputs: Vec<Arc<PhysicalFactInput<S>>>,
    pub(super) event_time_filters: Vec<Option<Arc<EventTimeFilter>>>,
    pub(super) schema: SchemaRef,
    /// The partition of the spine and of the facts that meet here; `None` for all.
    pub(super) partition: Option<usize>,
    pub(super) tasks: usize,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: Metrics,
    pub(super) context: Arc<TaskContext>,
}

/// The spine, indexed by the keys of some fact tables.
pub(super) struct IndexedSpine {
    pub(super) keys: Keys,
    pub(super) index: Arc<SpineIndex>,
    /// The first and the last instant of rows that can see a fact, in ticks.
    instant_range: Option<(i64, i64)>,
}

impl<S: CreateOperator> Execution<S> {
    /// The result.
    pub(super) async fn rows(self) -> DfResult<impl futures::Stream<Item = DfResult<RecordBatch>>> {
        let timer = self.metrics.spine_time.timer();
        let spine = Arc::new(self.spine_batches().await?);
        timer.done();
        self.metrics.spine_rows.add(spine.iter().map(RecordBatch::num_rows).sum());

        let timer = self.metrics.index_time.timer();
        let indexes = self.indexes(&spine).await?;
        timer.done();

        for (filter, indexed) in self.event_time_filters.iter().zip(&indexes) {
            filter.iter().try_for_each(|filter| filter.set_spine_range(indexed.instant_range))?;
        }
        let this = Arc::new(self);
        let tables = this.table_outputs(indexes, &spine).await?;
        let spine = Arc::try_unwrap(spine).unwrap_or_else(|shared| shared.to_vec());
        let metrics = this.metrics.baseline.clone();
        Ok(joined_batches(spine, tables, this.schema.clone(), this.tasks, this.budget.clone(), metrics))
    }

    /// The partitions of an input that are read here.
    fn partitions_of(&self, input: &Arc<dyn ExecutionPlan>) -> Range<usize> {
        match self.partition {
            Some(partition) => partition..partition + 1,
            None => 0..input.output_partitioning().partition_count(),
        }
    }

    /// The rows of the spine, partition after partition.
    async fn spine_batches(&self) -> Result<Vec<RecordBatch>> {
        let context = context_of(&self.context, SPINE_BATCH_ROWS, |_| ());
        let mut reading = JoinSet::new();
        let partitions = self.partitions_of(&self.spine);
        // Batches may be slices of a larger one, which is held once.
        let counter = Arc::new(Mutex::new(RecordBatchMemoryCounter::new()));
        for (number, partition) in partitions.clone().enumerate() {
            let (stream, budget) = (self.spine.execute(partition, context.clone())?, self.budget.clone());
            let counter = counter.clone();
            reading.spawn(async move {
                let mut batches = Vec::new();
                let mut stream = stream;
                while let Some(batch) = stream.try_next().await? {
                    // Batches are told apart by their first row.
                    if batch.num_rows() == 0 {
                        continue;
                    }
                    let bytes = counter.lock().unwrap_or_else(PoisonError::into_inner).count_batch(&batch);
                    budget.grow("the spine", bytes)?;
                    batches.push(batch);
                }
                Ok::<_, Error>((number, batches))
            });
        }
        let mut read = vec![Vec::new(); partitions.len()];
        while let Some(done) = reading.join_next().await {
            let (number, batches) = joined(done)?;
            read[number] = batches;
        }
        Ok(read.into_iter().flatten().collect())
    }

    /// The indexed spine for each fact table. Tables with the same keys, ticks and direction share one.
    async fn indexes(&self, spine: &Arc<Vec<RecordBatch>>) -> Result<Vec<Arc<IndexedSpine>>> {
        let same = |a: &PhysicalFactInput<S>, b: &PhysicalFactInput<S>| {
            (&a.spine_keys, &a.key_types, a.spine_decoder.unit, a.logical.direction)
                == (&b.spine_keys, &b.key_types, b.spine_decoder.unit, b.logical.direction)
        };
        let mut kinds: Vec<usize> = Vec::new();
        let mut kind_of = Vec::with_capacity(self.fact_inputs.len());
        for (i, input) in self.fact_inputs.iter().enumerate() {
            let known = kinds.iter().position(|&k| same(&self.fact_inputs[k], input));
            kind_of.push(known.unwrap_or_else(|| {
                kinds.push(i);
                kinds.len() - 1
            }));
        }
        let mut building = JoinSet::new();
        for (kind, &i) in kinds.iter().enumerate() {
            let (input, spine, at, budget) = (self.fact_inputs[i].clone(), spine.clone(), self.at_position, self.budget.clone());
            building.spawn_blocking(move || Ok::<_, Error>((kind, index_spine(&input, at, &spine, &budget)?)));
        }
        let mut built: Vec<Option<Arc<IndexedSpine>>> = vec![None; kinds.len()];
        while let Some(done) = building.join_next().await {
            let (kind, indexed) = joined(done)?;
            built[kind] = Some(Arc::new(indexed));
        }
        Ok(kind_of.into_iter().filter_map(|kind| built[kind].clone()).collect())
    }

    /// Reads all facts, table by table, and makes the output of each table once its facts are read. Partitions of a table may
    /// wait for each other, as those of a hash join do, so all of them are read at once. The next table begins as soon as fewer
    /// partitions are left than the session has tasks.
    async fn table_outputs(self: &Arc<Self>, indexes: Vec<Arc<IndexedSpine>>, spine: &[RecordBatch]) -> Result<Vec<TableOutput>> {
        let ends = spine.iter().scan(0, |end, batch| {
            *end += batch.num_rows();
            Some(*end)
        });
        let batches: Arc<Vec<Range<usize>>> = Arc::new(ends.zip(spine).map(|(end, batch)| end - batch.num_rows()..end).collect());
        let timer = self.metrics.facts_time.timer();
        let (mut running, mut finishing) = (JoinSet::new(), JoinSet::new());
        let mut tables = indexes.into_iter().enumerate();
        let mut left = vec![0; self.fact_inputs.len()];
        loop {
            while running.len() < self.tasks
                && let Some((i, indexed)) = tables.next()
            {
                let table = Arc::new(Table::new(self, i, indexed)?);
                let partitions = self.partitions_of(&self.facts[i]);
                left[i] = partitions.len();
                let context = facts_context(&self.context, self.facts[i].schema().fields().len());
                for partition in partitions {
                    let stream = self.facts[i].execute(partition, context.clone())?;
                    let (table, metrics) = (table.clone(), self.metrics.clone());
                    running.spawn(async move {
                        read_partition(&table.input, &table.indexed, stream, &metrics, &table.sink).await?;
                        Ok::<_, Error>((i, table))
                    });
                }
                if left[i] == 0 {
                    finishing.spawn(self.clone().finish(i, table, batches.clone()));
                }
            }
            let Some(done) = running.join_next().await else { break };
            let (i, table) = joined(done)?;
            left[i] -= 1;
            if left[i] == 0 {
                finishing.spawn(self.clone().finish(i, table, batches.clone()));
            }
        }
        timer.done();
        let _timer = self.metrics.answer_time.timer();
        let mut outputs: Vec<Option<TableOutput>> = self.fact_inputs.iter().map(|_| None).collect();
        while let Some(done) = finishing.join_next().await {
            let (i, output) = joined(done)?;
            outputs[i] = Some(output);
        }
        Ok(outputs.into_iter().flatten().collect())
    }

    /// The output of a table whose facts have been read.
    async fn finish(
        self: Arc<Self>,
        i: usize,
        table: Arc<Table<S>>,
        batches: Arc<Vec<Range<usize>>>,
    ) -> Result<(usize, TableOutput)> {
        let Table { input, indexed, operator, sink } = &*table;
        match sink {
            Sink::Accumulate(accumulators) => accumulators.finish().await?,
            Sink::Collect(collected, budget) => {
                let chunks = std::mem::take(&mut *collected.lock().unwrap_or_else(PoisonError::into_inner));
                let (input, operator, budget) = (input.clone(), operator.clone(), budget.clone());
                blocking(move || {
                    let (schema, order) = (&input.facts_schema, version_order(&input)?);
                    let (subject, columns) = (&input.logical.subject, (input.identity.as_slice(), order.as_slice()));
                    let replaced = input.replaced_from.map(|position| replaced_ticks(&chunks, position));
                    let chunks = versions::resolve(subject, schema, columns, replaced, chunks, &budget)?;
                    let mut accumulator = operator.accumulator();
                    for chunk in &chunks {
                        accumulator.update(chunk)?;
                    }
                    accumulator.finish()
                })
                .await?;
            }
        }
        self.resolve_ties(&table).await?;
        let (slot_of_row, operator) = (indexed.index.slot_of_row(), operator.clone());
        // The keys may be as large as the spine. They are freed before the output is made.
        drop(table);
        let output = blocking(move || operator.output()).await?;
        let subject = &self.fact_inputs[i].logical.subject;
        let output = match output.memory() {
            Some(memory) if self.gathers_at_once(&memory, slot_of_row.len()) => {
                let gathered = batches.iter().cloned().map(|rows| {
                    let (slot_of_row, output) = (slot_of_row.clone(), output.clone());
                    blocking(move || Ok((rows.start, output.columns(&slot_of_row[rows])?)))
                });
                let gathered = stream::iter(gathered).buffered(self.tasks).try_collect().await?;
                self.budget.grow(subject, slot_of_row.len() * memory.row_bytes)?;
                self.budget.shrink(memory.bytes);
                TableOutput::ByRow(Mutex::new(gathered))
            }
            _ => TableOutput::BySlot(slot_of_row, output),
        };
        Ok((i, output))
    }

    /// Is the output of a table put into the order of the rows at once? If there are several tables, their outputs wait for
    /// each other. So it is, if both forms take about the same memory.
    fn gathers_at_once(&self, memory: &OutputMemory, rows: usize) -> bool {
        self.fact_inputs.len() > 1 && rows * memory.row_bytes <= 2 * memory.bytes
    }

    /// If facts tie on the columns that were read, they are read again with all columns.
    async fn resolve_ties(&self, table: &Table<S>) -> Result<()> {
        let Table { input, indexed, operator, .. } = table;
        let (Some(full_rows), Some(orders)) = (&input.full_rows, operator.undecided_ties()) else { return Ok(()) };
        let facts = full_rows.read(orders).await?;
        let resolver =
            operator.clone().tie_resolver(&OperatorContext::new(&full_rows.input, &indexed.index, &self.budget, self.tasks)?)?;
        let sink = Arc::new(Sink::Accumulate(AccumulatorPool::of(resolver)));
        let context = facts_context(&self.context, facts.schema().fields().len());
        let mut running = JoinSet::new();
        for partition in 0..facts.output_partitioning().partition_count() {
            let stream = facts.execute(partition, context.clone())?;
            let (input, indexed, metrics, sink) = (full_rows.input.clone(), indexed.clone(), self.metrics.clone(), sink.clone());
            running.spawn(async move { read_partition(&input, &indexed, stream, &metrics, &sink).await });
        }
        while let Some(done) = running.join_next().await {
            joined(done)?;
        }
        match &*sink {
            Sink::Accumulate(accumulators) => accumulators.finish().await,
            Sink::Collect(..) => Ok(()),
        }
    }
}

/// The query's context for reading facts with so many columns. Facts may come in any order, so an idle task takes over files of
/// the others.
pub(super) fn facts_context(context: &TaskContext, columns: usize) -> Arc<TaskContext> {
    let rows = (FACT_BATCH_VALUES / columns.max(1)).clamp(FACT_BATCH_ROWS.start, FACT_BATCH_ROWS.end);
    context_of(context, rows, |execution| execution.enable_file_stream_work_stealing = true)
}

/// As [`facts_context`], where each task has to keep to its own files.
pub(super) fn file_context(context: &TaskContext, columns: usize) -> Arc<TaskContext> {
    let rows = (FACT_BATCH_VALUES / columns.max(1)).clamp(FACT_BATCH_ROWS.start, FACT_BATCH_ROWS.end);
    context_of(context, rows, |execution| execution.enable_file_stream_work_stealing = false)
}

/// The query's context with larger batches and changed options of execution.
fn context_of(context: &TaskContext, batch_rows: usize, change: impl FnOnce(&mut ExecutionOptions)) -> Arc<TaskContext> {
    let config = context.session_config();
    let mut config = config.clone().with_batch_size(config.batch_size().max(batch_rows));
    change(&mut config.options_mut().execution);
    Arc::new(TaskContext::new(
        context.task_id(),
        context.session_id(),
        config,
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    ))
}

/// The accumulators of a table: as many as are at work at once, however many partitions the table has.
struct AccumulatorPool {
    operator: Arc<dyn TemporalOperator>,
    idle: Mutex<Vec<Box<dyn FactAccumulator>>>,
}

impl AccumulatorPool {
    fn of(operator: Arc<dyn TemporalOperator>) -> Self {
        Self { operator, idle: Mutex::default() }
    }

    fn update(&self, chunk: &FactChunk) -> Result<()> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut accumulator = idle.unwrap_or_else(|| self.operator.clone().accumulator());
        accumulator.update(chunk)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(accumulator);
        Ok(())
    }

    /// Hands what all accumulators have to the operator.
    async fn finish(&self) -> Result<()> {
        let accumulators = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        let mut finishing = JoinSet::new();
        for accumulator in accumulators {
            finishing.spawn_blocking(move || accumulator.finish());
        }
        while let Some(done) = finishing.join_next().await {
            joined(done)?;
        }
        Ok(())
    }
}

/// A table whose facts are being read.
struct Table<S> {
    input: Arc<PhysicalFactInput<S>>,
    indexed: Arc<IndexedSpine>,
    operator: Arc<dyn TemporalOperator>,
    sink: Sink,
}

impl<S: CreateOperator> Table<S> {
    fn new(execution: &Execution<S>, i: usize, indexed: Arc<IndexedSpine>) -> Result<Self> {
        let input = execution.fact_inputs[i].clone();
        let operator =
            input.logical.spec.operator(&OperatorContext::new(&input, &indexed.index, &execution.budget, execution.tasks)?)?;
        // The versions of a fact can be compared only once all facts have been read.
        let sink = match input.identity.is_empty() {
            true => Sink::Accumulate(AccumulatorPool::of(operator.clone())),
            false => Sink::Collect(Mutex::default(), execution.budget.clone()),
        };
        Ok(Self { input, indexed, operator, sink })
    }
}

/// Where the facts of a table go: into accumulators at once, or into a buffer until all are read.
enum Sink {
    Accumulate(AccumulatorPool),
    Collect(Mutex<Vec<FactChunk>>, Arc<Budget>),
}

/// Reads one partition of a table.
async fn read_partition<S>(
    input: &PhysicalFactInput<S>,
    indexed: &IndexedSpine,
    mut stream: SendableRecordBatchStream,
    metrics: &Metrics,
    sink: &Sink,
) -> Result<()> {
    let mut counter = RecordBatchMemoryCounter::new();
    while let Some(batch) = stream.try_next().await.map_err(|e| Error::reading(&input.logical.subject, e))? {
        metrics.facts_rows.add(batch.num_rows());
        let timer = metrics.match_time.timer();
        // A version may replace one of another entity.
        let keep_all = matches!(sink, Sink::Collect(..)) && input.replaced_from.is_none();
        let chunk = input.chunk(&indexed.keys, batch, keep_all)?;
        timer.done();
        metrics.facts_of_entities.add(chunk.rows.len());
        if chunk.rows.is_empty() {
            continue;
        }
        let timer = metrics.take_time.timer();
        match sink {
            Sink::Accumulate(accumulators) => accumulators.update(&chunk)?,
            Sink::Collect(chunks, budget) => {
                budget.grow(&input.logical.subject, counter.count_batch(&chunk.batch) + chunk.rows.len() * 40)?;
                chunks.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
            }
        }
        timer.done();
    }
    Ok(())
}

/// Numbers the entities of the spine and indexes its instants.
pub(super) fn index_spine<S>(
    input: &PhysicalFactInput<S>,
    at: usize,
    spine: &[RecordBatch],
    budget: &Budget,
) -> Result<IndexedSpine> {
    let mut columns = Vec::with_capacity(spine.len());
    let mut ticks = Vec::with_capacity(spine.len());
    let (mut rows, mut without_instant) = (0, Vec::new());
    for batch in spine {
        columns.push(input.spine_keys.iter().map(|&p| batch.column(p).clone()).collect());
        let (mut values, missing) = input.spine_decoder.instants(batch.column(at))?;
        if let Some(missing) = missing {
            without_instant.extend((0..values.len()).filter(|&row| missing.is_null(row)).map(|row| rows + row));
        }
        if input.logical.direction == Direction::Forward {
            values = values.iter().map(|tick| !tick).collect();
        }
        rows += values.len();
        ticks.push(values);
    }
    let (keys, mut numbers) = Keys::number(&input.key_types, &columns)?;
    // A row without an instant sees nothing.
    for row in without_instant {
        numbers[row] = NO_KEY;
    }
    let index = SpineIndex::new(numbers, &ticks, keys.count());
    budget.grow("the spine", keys.bytes() + index.bytes())?;
    let instant_range = index.instant_range().map(|(first, last)| match input.logical.direction {
        Direction::Backward => (first, last),
        Direction::Forward => (!last, !first),
    });
    Ok(IndexedSpine { keys, index: Arc::new(index), instant_range })
}
