//! One execution of a question: index the spine, let the facts stream past it, make the answers.
//! What is kept of the facts, and how an answer is made of it, is the business of `lookup` and `window`.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::SchemaRef,
};
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
    event_time_filter::Reach,
    fact_input::{Answering, Answers, Chunk, Held, PlannedSide, SideParts, Taking, is_too_long},
    full_rows::of_versions,
    keys::{Keys, NO_KEY},
    node::{Ask, Direction, fact_position},
    spine_index::Slots,
    versions,
};
use crate::error::{Error, Result};

/// Batches of the spine, which are also those of the result, have at least this many rows, for fewer, larger steps.
const SPINE_BATCH_ROWS: usize = 65_536;
/// Those of the facts have so many values, and between so many rows.
const FACT_BATCH_VALUES: usize = 1 << 20;
const FACT_BATCH_ROWS: Range<usize> = 8_192..131_072;

#[derive(Clone)]
pub(super) struct Metrics {
    baseline: BaselineMetrics,
    /// Wall time: reading the spine, indexing it, taking facts in, making the answers.
    spine_time: Time,
    index_time: Time,
    facts_time: Time,
    answer_time: Time,
    /// Processor time of all tasks within `facts_time`, without decoding: finding keys and times, and taking facts in.
    match_time: Time,
    take_time: Time,
    spine_rows: Count,
    facts_rows: Count,
    facts_of_entities: Count,
}

impl Metrics {
    pub(super) fn new(set: &ExecutionPlanMetricsSet) -> Self {
        let time = |name: &'static str| MetricBuilder::new(set).subset_time(name, 0);
        let count = |name: &'static str| MetricBuilder::new(set).counter(name, 0);
        Self {
            baseline: BaselineMetrics::new(set, 0),
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

/// The answers of one table.
enum Made {
    /// By slot, and the slot of each row of the spine.
    BySlot(Arc<Vec<u32>>, Arc<dyn Answers>),
    /// By row: for each batch of the spine, the number of its first row and its columns. They are given up with the rows.
    ByRow(Mutex<BTreeMap<usize, Vec<ArrayRef>>>),
}

impl Made {
    /// The answers to some rows of the spine, of one of its batches.
    fn columns(&self, rows: &Range<usize>) -> Result<Vec<ArrayRef>> {
        match self {
            Made::BySlot(slot_of_row, answers) => answers.columns(&slot_of_row[rows.clone()]),
            Made::ByRow(batches) => {
                let batches = batches.lock().unwrap_or_else(PoisonError::into_inner);
                let Some((&first, columns)) = batches.range(..=rows.start).next_back() else { return Ok(Vec::new()) };
                Ok(columns.iter().map(|column| column.slice(rows.start - first, rows.len())).collect())
            }
        }
    }

    /// Lets go of what was held for rows that were made, when they were the last of their batch.
    fn let_go(&self, rows: &Range<usize>) {
        if let Made::ByRow(batches) = self {
            let mut batches = batches.lock().unwrap_or_else(PoisonError::into_inner);
            let batch = batches.range(..=rows.start).next_back();
            if let Some((&first, columns)) = batch
                && columns.first().is_none_or(|column| first + column.len() == rows.end)
            {
                batches.remove(&first);
            }
        }
    }
}

/// One execution.
pub(super) struct Run<Q> {
    pub(super) spine: Arc<dyn ExecutionPlan>,
    pub(super) at_position: usize,
    pub(super) facts: Vec<Arc<dyn ExecutionPlan>>,
    pub(super) sides: Vec<Arc<PlannedSide<Q>>>,
    pub(super) reaches: Vec<Option<Arc<Reach>>>,
    pub(super) schema: SchemaRef,
    pub(super) tasks: usize,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: Metrics,
    pub(super) context: Arc<TaskContext>,
}

/// The spine as one kind of side sees it: its entities and their slots.
struct Indexed {
    keys: Keys,
    slots: Arc<Slots>,
    /// The first and the last instant of rows that can see a fact, in ticks.
    between: Option<(i64, i64)>,
}

impl<Q: Ask> Run<Q> {
    pub(super) async fn rows(self) -> DfResult<impl futures::Stream<Item = DfResult<RecordBatch>>> {
        let timer = self.metrics.spine_time.timer();
        let spine = Arc::new(self.spine_batches().await?);
        timer.done();
        self.metrics.spine_rows.add(spine.iter().map(RecordBatch::num_rows).sum());

        let timer = self.metrics.index_time.timer();
        let indexes = self.indexes(&spine).await?;
        timer.done();

        for (reach, index) in self.reaches.iter().zip(&indexes) {
            reach.iter().try_for_each(|reach| reach.spine_is(index.between))?;
        }
        let this = Arc::new(self);
        let answers = this.answers(indexes, &spine).await?;
        Ok(this.output(spine, answers))
    }

    /// The spine's rows: those of the first partition, then those of the second, and so on.
    async fn spine_batches(&self) -> Result<Vec<RecordBatch>> {
        let context = context_of(&self.context, SPINE_BATCH_ROWS, |_| ());
        let mut reading = JoinSet::new();
        let partitions = self.spine.output_partitioning().partition_count();
        // Batches may be slices of a larger one, which is held once.
        let counter = Arc::new(Mutex::new(RecordBatchMemoryCounter::new()));
        for partition in 0..partitions {
            let (stream, budget) = (self.spine.execute(partition, context.clone())?, self.budget.clone());
            let counter = counter.clone();
            reading.spawn(async move {
                let mut batches = Vec::new();
                let mut stream = stream;
                while let Some(batch) = stream.try_next().await? {
                    let bytes = counter.lock().unwrap_or_else(PoisonError::into_inner).count_batch(&batch);
                    budget.grow("the spine", bytes)?;
                    batches.push(batch);
                }
                Ok::<_, Error>((partition, batches))
            });
        }
        let mut read = vec![Vec::new(); partitions];
        while let Some(done) = reading.join_next().await {
            let (partition, batches) = joined(done)?;
            read[partition] = batches;
        }
        Ok(read.into_iter().flatten().collect())
    }

    /// The spine's entities and slots for each side; sides with the same keys and ticks share them.
    async fn indexes(&self, spine: &Arc<Vec<RecordBatch>>) -> Result<Vec<Arc<Indexed>>> {
        let same = |a: &PlannedSide<Q>, b: &PlannedSide<Q>| {
            (&a.spine_keys, &a.key_types, a.spine_clock.unit, a.side.direction)
                == (&b.spine_keys, &b.key_types, b.spine_clock.unit, b.side.direction)
        };
        let mut kinds: Vec<usize> = Vec::new();
        let mut kind_of = Vec::with_capacity(self.sides.len());
        for (i, side) in self.sides.iter().enumerate() {
            let known = kinds.iter().position(|&k| same(&self.sides[k], side));
            kind_of.push(known.unwrap_or_else(|| {
                kinds.push(i);
                kinds.len() - 1
            }));
        }
        let mut building = JoinSet::new();
        for (kind, &i) in kinds.iter().enumerate() {
            let (side, spine, at, budget) = (self.sides[i].clone(), spine.clone(), self.at_position, self.budget.clone());
            building.spawn_blocking(move || Ok::<_, Error>((kind, index(&side, at, &spine, &budget)?)));
        }
        let mut built: Vec<Option<Arc<Indexed>>> = vec![None; kinds.len()];
        while let Some(done) = building.join_next().await {
            let (kind, index) = joined(done)?;
            built[kind] = Some(Arc::new(index));
        }
        Ok(kind_of.into_iter().filter_map(|kind| built[kind].clone()).collect())
    }

    /// Reads all facts, table by table, and answers each table when its facts are through. Partitions of a table may wait for
    /// each other, as those of a hash join do, so all of them are read at once; the next table begins as soon as fewer are left
    /// than the session has tasks.
    async fn answers(self: &Arc<Self>, indexes: Vec<Arc<Indexed>>, spine: &[RecordBatch]) -> Result<Vec<Made>> {
        let ends = spine.iter().scan(0, |end, batch| {
            *end += batch.num_rows();
            Some(*end)
        });
        let batches: Arc<Vec<Range<usize>>> = Arc::new(ends.zip(spine).map(|(end, batch)| end - batch.num_rows()..end).collect());
        let timer = self.metrics.facts_time.timer();
        let (mut running, mut finishing) = (JoinSet::new(), JoinSet::new());
        let mut tables = indexes.into_iter().enumerate();
        let mut left = vec![0; self.sides.len()];
        loop {
            while running.len() < self.tasks
                && let Some((i, index)) = tables.next()
            {
                let table = Arc::new(Table::new(self, i, index)?);
                left[i] = self.facts[i].output_partitioning().partition_count();
                let context = facts_context(&self.context, self.facts[i].schema().fields().len());
                for partition in 0..left[i] {
                    let stream = self.facts[i].execute(partition, context.clone())?;
                    let (table, metrics) = (table.clone(), self.metrics.clone());
                    running.spawn(async move {
                        take_partition(&table.side, &table.index, stream, &metrics, &table.goal).await?;
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
        let mut made: Vec<Option<Made>> = self.sides.iter().map(|_| None).collect();
        while let Some(done) = finishing.join_next().await {
            let (i, answers) = joined(done)?;
            made[i] = Some(answers);
        }
        Ok(made.into_iter().flatten().collect())
    }

    /// The answers of a table whose facts are through.
    async fn finish(self: Arc<Self>, i: usize, table: Arc<Table<Q>>, batches: Arc<Vec<Range<usize>>>) -> Result<(usize, Made)> {
        let Table { side, index, answering, goal } = &*table;
        match goal {
            Goal::Answer(takers) => takers.finish().await?,
            Goal::Collect(collected, budget) => {
                let chunks = std::mem::take(&mut *collected.lock().unwrap_or_else(PoisonError::into_inner));
                let (side, answering, budget) = (side.clone(), answering.clone(), budget.clone());
                blocking(move || {
                    let (schema, order) = (&side.facts_schema, of_versions(&side)?);
                    let chunks = versions::resolve(&side.side.place, schema, &side.identity, &order, chunks, &budget)?;
                    let mut task = answering.task();
                    for chunk in &chunks {
                        task.take_in(chunk)?;
                    }
                    task.finish()
                })
                .await?;
            }
        }
        self.look_again(&table).await?;
        let (slot_of_row, answering) = (index.slots.slot_of_row(), answering.clone());
        // The index is as large as the spine, and is let go of before the answers are made.
        drop(table);
        let answers = blocking(move || answering.answer()).await?;
        let place = &self.sides[i].side.place;
        let made = match answers.held() {
            Some(held) if self.gathers_at_once(&held, slot_of_row.len()) => {
                let gathered = batches.iter().cloned().map(|rows| {
                    let (slot_of_row, answers) = (slot_of_row.clone(), answers.clone());
                    blocking(move || Ok((rows.start, answers.columns(&slot_of_row[rows])?)))
                });
                let gathered = stream::iter(gathered).buffered(self.tasks).try_collect().await?;
                self.budget.grow(place, slot_of_row.len() * held.row_bytes)?;
                self.budget.shrink(held.bytes);
                Made::ByRow(Mutex::new(gathered))
            }
            _ => Made::BySlot(slot_of_row, answers),
        };
        Ok((i, made))
    }

    /// Are the answers of a table brought into the order of the rows at once? The answers of several tables wait for each other,
    /// and are as a rule held until all rows are made. So they are where both forms take about the same.
    fn gathers_at_once(&self, held: &Held, rows: usize) -> bool {
        self.sides.len() > 1 && rows * held.row_bytes <= 2 * held.bytes
    }

    /// Where the columns that were asked for leave open which fact is the newer one, those facts are read again, with all.
    async fn look_again(&self, table: &Table<Q>) -> Result<()> {
        let Table { side, index, answering, .. } = table;
        let (Some(whole), Some(orders)) = (&side.whole, answering.undecided()) else { return Ok(()) };
        let facts = whole.read(orders).await?;
        let again = answering.clone().again(&side_parts(&whole.side, &index.slots, &self.budget, self.tasks)?)?;
        let goal = Arc::new(Goal::Answer(Takers::of(again)));
        let context = facts_context(&self.context, facts.schema().fields().len());
        let mut running = JoinSet::new();
        for partition in 0..facts.output_partitioning().partition_count() {
            let stream = facts.execute(partition, context.clone())?;
            let (side, index, metrics, goal) = (whole.side.clone(), index.clone(), self.metrics.clone(), goal.clone());
            running.spawn(async move { take_partition(&side, &index, stream, &metrics, &goal).await });
        }
        while let Some(done) = running.join_next().await {
            joined(done)?;
        }
        match &*goal {
            Goal::Answer(takers) => takers.finish().await,
            Goal::Collect(..) => Ok(()),
        }
    }

    /// The spine's batches with the added columns, in order; several are made at once.
    fn output(
        self: Arc<Self>,
        spine: Arc<Vec<RecordBatch>>,
        answers: Vec<Made>,
    ) -> impl futures::Stream<Item = DfResult<RecordBatch>> + use<Q> {
        let batches = Arc::try_unwrap(spine).unwrap_or_else(|shared| shared.to_vec());
        let (schema, metrics, tasks) = (self.schema.clone(), self.metrics.baseline.clone(), self.tasks);
        // The reservation lives as long as the rows that it stands for.
        let budget = self.budget.clone();
        let mut first = 0;
        let mut pieces: Vec<_> = batches
            .into_iter()
            .map(|batch| {
                let rows = first..first + batch.num_rows();
                first = rows.end;
                (batch, rows, 0)
            })
            .collect();
        // What several batches share is given back with the last of them.
        let mut counter = RecordBatchMemoryCounter::new();
        for (batch, _, bytes) in pieces.iter_mut().rev() {
            *bytes = counter.count_batch(batch);
        }
        let answered = Arc::new(Answered { schema, answers });
        let rest = answered.clone();
        stream::iter(pieces)
            .map(move |(batch, rows, bytes)| {
                let answered = answered.clone();
                async move { Ok::<_, Error>((blocking(move || answered.first(batch, rows)).await?, bytes)) }
            })
            .buffered(tasks)
            .map_ok(move |((made, left), bytes)| {
                budget.shrink(bytes);
                let others = stream::try_unfold((rest.clone(), left), |(answered, mut left)| async move {
                    let Some((batch, rows)) = left.pop() else { return Ok(None) };
                    let own = answered.clone();
                    let (made, more) = blocking(move || own.first(batch, rows)).await?;
                    left.extend(more);
                    Ok::<_, Error>(Some((made, (answered, left))))
                });
                stream::iter([Ok(made)]).chain(others)
            })
            .try_flatten()
            .map(move |made| {
                let batch = made?;
                metrics.record_output(batch.num_rows());
                Ok(batch)
            })
    }
}

/// The query's context for reading facts of so many columns. They may come in any order: a task that is done takes over files of
/// the others.
pub(super) fn facts_context(context: &TaskContext, columns: usize) -> Arc<TaskContext> {
    let rows = (FACT_BATCH_VALUES / columns.max(1)).clamp(FACT_BATCH_ROWS.start, FACT_BATCH_ROWS.end);
    context_of(context, rows, |execution| execution.enable_file_stream_work_stealing = true)
}

/// The query's context, with larger batches and other options of execution.
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

/// Rows of the spine with the answers to them.
struct Answered {
    schema: SchemaRef,
    answers: Vec<Made>,
}

/// Some rows of the spine, and which they are.
type Rows = (RecordBatch, Range<usize>);

impl Answered {
    /// The first of these rows with their answers, as many as one batch can hold, and those that are left, the last of them
    /// first. As a rule none is: only texts and lists can be too long for one batch.
    fn first(&self, batch: RecordBatch, rows: Range<usize>) -> Result<(RecordBatch, Vec<Rows>)> {
        let (mut taken, mut left) = ((batch, rows), Vec::new());
        loop {
            let (batch, rows) = &taken;
            let columns = self.answers.iter().map(|made| made.columns(rows));
            match columns.collect::<Result<Vec<_>>>() {
                Ok(columns) => {
                    self.answers.iter().for_each(|made| made.let_go(rows));
                    let all = batch.columns().iter().cloned().chain(columns.into_iter().flatten()).collect();
                    return Ok((RecordBatch::try_new(self.schema.clone(), all)?, left));
                }
                Err(error) if rows.len() > 1 && is_too_long(&error) => {
                    let half = rows.len() / 2;
                    let second = (batch.slice(half, rows.len() - half), rows.start + half..rows.end);
                    let first = (batch.slice(0, half), rows.start..rows.start + half);
                    left.push(second);
                    taken = first;
                }
                Err(error) if is_too_long(&error) => {
                    let reason = "has texts and lists longer than one batch can hold; ask for fewer values or shorter ones";
                    return Err(Error::Limit { subject: "the answer to one row".into(), reason: reason.into() });
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What a side's question needs to know, over these slots.
pub(super) fn side_parts<P>(side: &PlannedSide<P>, slots: &Arc<Slots>, budget: &Arc<Budget>, tasks: usize) -> Result<SideParts> {
    Ok(SideParts {
        place: side.side.place.clone(),
        slots: slots.clone(),
        unit: side.spine_clock.unit,
        facts_schema: side.facts_schema.clone(),
        tie_break: tie_columns(side)?,
        whole: side.whole.as_ref().map(|whole| whole.columns.clone()),
        conditions: side.conditions.clone(),
        steady: side.steady(),
        has_versions: !side.identity.is_empty(),
        budget: budget.clone(),
        tasks,
    })
}

pub(super) fn tie_columns<Q>(side: &PlannedSide<Q>) -> Result<Vec<usize>> {
    let names = side.side.declared.tie_break.iter();
    names.map(|name| fact_position(&side.side.place, &side.facts_schema, name)).collect()
}

/// Those who take the facts of a table in: as many as are ever at work at once, however many partitions the table has.
struct Takers {
    answering: Arc<dyn Answering>,
    idle: Mutex<Vec<Box<dyn Taking>>>,
}

impl Takers {
    fn of(answering: Arc<dyn Answering>) -> Self {
        Self { answering, idle: Mutex::default() }
    }

    fn take_in(&self, chunk: &Chunk) -> Result<()> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut taker = idle.unwrap_or_else(|| self.answering.clone().task());
        taker.take_in(chunk)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(taker);
        Ok(())
    }

    /// Hands over what all have taken in.
    async fn finish(&self) -> Result<()> {
        let takers = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        let mut finishing = JoinSet::new();
        for taker in takers {
            finishing.spawn_blocking(move || taker.finish());
        }
        while let Some(done) = finishing.join_next().await {
            joined(done)?;
        }
        Ok(())
    }
}

/// A table whose facts are being read.
struct Table<Q> {
    side: Arc<PlannedSide<Q>>,
    index: Arc<Indexed>,
    answering: Arc<dyn Answering>,
    goal: Goal,
}

impl<Q: Ask> Table<Q> {
    fn new(run: &Run<Q>, i: usize, index: Arc<Indexed>) -> Result<Self> {
        let side = run.sides[i].clone();
        let answering = side.side.ask.answering(&side_parts(&side, &index.slots, &run.budget, run.tasks)?)?;
        // Versions of a fact find each other only when all are there.
        let goal = match side.identity.is_empty() {
            true => Goal::Answer(Takers::of(answering.clone())),
            false => Goal::Collect(Mutex::default(), run.budget.clone()),
        };
        Ok(Self { side, index, answering, goal })
    }
}

/// Where the facts of a table go.
enum Goal {
    Answer(Takers),
    Collect(Mutex<Vec<Chunk>>, Arc<Budget>),
}

async fn take_partition<Q>(
    side: &PlannedSide<Q>,
    index: &Indexed,
    mut stream: SendableRecordBatchStream,
    metrics: &Metrics,
    goal: &Goal,
) -> Result<()> {
    let mut counter = RecordBatchMemoryCounter::new();
    while let Some(batch) = stream.try_next().await? {
        metrics.facts_rows.add(batch.num_rows());
        let timer = metrics.match_time.timer();
        let keep_all = matches!(goal, Goal::Collect(..));
        let chunk = side.chunk(&index.keys, batch, keep_all)?;
        timer.done();
        metrics.facts_of_entities.add(chunk.rows.len());
        if chunk.rows.is_empty() {
            continue;
        }
        let timer = metrics.take_time.timer();
        match goal {
            Goal::Answer(takers) => takers.take_in(&chunk)?,
            Goal::Collect(chunks, budget) => {
                budget.grow(&side.side.place, counter.count_batch(&chunk.batch) + chunk.rows.len() * 40)?;
                chunks.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
            }
        }
        timer.done();
    }
    Ok(())
}

/// Numbers the spine's entities and lays out their slots.
fn index<Q: Ask>(side: &PlannedSide<Q>, at: usize, spine: &[RecordBatch], budget: &Budget) -> Result<Indexed> {
    let mut columns = Vec::with_capacity(spine.len());
    let mut ticks = Vec::with_capacity(spine.len());
    let (mut rows, mut without_instant) = (0, Vec::new());
    for batch in spine {
        columns.push(side.spine_keys.iter().map(|&p| batch.column(p).clone()).collect());
        let (mut values, missing) = side.spine_clock.instants(batch.column(at))?;
        if let Some(missing) = missing {
            without_instant.extend((0..values.len()).filter(|&row| missing.is_null(row)).map(|row| rows + row));
        }
        if side.side.direction == Direction::Forward {
            values = values.iter().map(|tick| !tick).collect();
        }
        rows += values.len();
        ticks.push(values);
    }
    let (keys, mut numbers) = Keys::number(&side.key_types, &columns)?;
    // A row without an instant sees nothing.
    for row in without_instant {
        numbers[row] = NO_KEY;
    }
    let slots = Slots::new(numbers, &ticks, keys.count());
    budget.grow("the spine", keys.bytes() + slots.bytes())?;
    let between = slots.between().map(|(first, last)| match side.side.direction {
        Direction::Backward => (first, last),
        Direction::Forward => (!last, !first),
    });
    Ok(Indexed { keys, slots: Arc::new(slots), between })
}

/// Runs what computes for long away from the threads that wait for files and networks.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    joined(tokio::task::spawn_blocking(work).await)
}

pub(super) fn joined<T>(done: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    match done {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(datafusion::error::DataFusionError::External(Box::new(error)).into()),
    }
}
