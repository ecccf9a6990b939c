//! One execution of a question: index the spine, let the facts stream past it, make the answers.
//! What is kept of the facts, and how an answer is made of it, is the business of `lookup` and `window`.

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
    keys::{Keys, NO_KEY},
    node::{Ask, Direction, fact_position},
    reach::Reach,
    side::{Answering, Answers, Chunk, PlannedSide, SideParts, Taking, is_too_long},
    slots::Slots,
    versions,
    whole::of_versions,
};
use crate::error::{Error, Result};

/// Batches have at least this many rows, for fewer, larger steps: those of the facts, and those of the spine, which are also
/// those of the result.
const FACT_BATCH_ROWS: usize = 131_072;
const SPINE_BATCH_ROWS: usize = 65_536;

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

/// The slot of each spine row, and the answers by slot.
type SideAnswers = (Arc<Vec<u32>>, Arc<dyn Answers>);

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

        let timer = self.metrics.facts_time.timer();
        let mut answering = Vec::with_capacity(self.sides.len());
        for (side, index) in self.sides.iter().zip(&indexes) {
            answering.push(side.side.ask.answering(&side_parts(side, &index.slots, &self.budget, self.tasks)?)?);
        }
        for (reach, index) in self.reaches.iter().zip(&indexes) {
            reach.iter().try_for_each(|reach| reach.spine_is(index.between))?;
        }
        self.take_facts_in(&indexes, &answering).await?;
        self.look_again(&indexes, &answering).await?;
        timer.done();

        let timer = self.metrics.answer_time.timer();
        let slots_of_rows: Vec<_> = indexes.iter().map(|index| index.slots.slot_of_row()).collect();
        drop(indexes);
        let mut answers = Vec::with_capacity(answering.len());
        for (side, slot_of_row) in answering.into_iter().zip(slots_of_rows) {
            answers.push((slot_of_row, blocking(move || side.answer()).await?));
        }
        timer.done();
        Ok(self.output(spine, answers))
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

    /// Where the columns that were asked for leave open which fact is the newer one, those facts are read again, with all.
    async fn look_again(&self, indexes: &[Arc<Indexed>], answering: &[Arc<dyn Answering>]) -> Result<()> {
        for ((side, index), answering) in self.sides.iter().zip(indexes).zip(answering) {
            let (Some(whole), Some(orders)) = (&side.whole, answering.undecided()) else { continue };
            let facts = whole.read(orders).await?;
            let again = answering.clone().again(&side_parts(&whole.side, &index.slots, &self.budget, self.tasks)?)?;
            let takers = Arc::new(Takers::of(again));
            let context = facts_context(&self.context);
            let mut running = JoinSet::new();
            for partition in 0..facts.output_partitioning().partition_count() {
                let stream = facts.execute(partition, context.clone())?;
                let goal = Goal::Answer(takers.clone());
                running.spawn(take_partition(whole.side.clone(), index.clone(), stream, self.metrics.clone(), goal));
            }
            while let Some(done) = running.join_next().await {
                joined(done)?;
            }
            for taker in takers.take_all() {
                blocking(move || taker.finish()).await?;
            }
        }
        Ok(())
    }

    /// Reads all facts, table by table. Partitions of a table may wait for each other, as those of a hash join do, so all of
    /// them are read at once; the next table begins as soon as fewer are left than the session has tasks.
    async fn take_facts_in(&self, indexes: &[Arc<Indexed>], answering: &[Arc<dyn Answering>]) -> Result<()> {
        let context = facts_context(&self.context);
        let collected: Vec<Arc<Mutex<Vec<Chunk>>>> = self.sides.iter().map(|_| Arc::default()).collect();
        let takers: Vec<Arc<Takers>> = answering.iter().map(|answering| Arc::new(Takers::of(answering.clone()))).collect();
        let mut running = JoinSet::new();
        let mut tables = 0..self.facts.len();
        loop {
            while running.len() < self.tasks
                && let Some(i) = tables.next()
            {
                for partition in 0..self.facts[i].output_partitioning().partition_count() {
                    let stream = self.facts[i].execute(partition, context.clone())?;
                    let (side, index) = (self.sides[i].clone(), indexes[i].clone());
                    // Versions of a fact find each other only when all are there.
                    let goal = match side.identity.is_empty() {
                        true => Goal::Answer(takers[i].clone()),
                        false => Goal::Collect(collected[i].clone(), self.budget.clone()),
                    };
                    running.spawn(take_partition(side, index, stream, self.metrics.clone(), goal));
                }
            }
            match running.join_next().await {
                Some(done) => joined(done)?,
                None => break,
            }
        }
        let mut finishing = JoinSet::new();
        for taker in takers.iter().flat_map(|takers| takers.take_all()) {
            finishing.spawn_blocking(move || taker.finish());
        }
        while let Some(done) = finishing.join_next().await {
            joined(done)?;
        }
        for (i, chunks) in collected.into_iter().enumerate() {
            let side = &self.sides[i];
            if side.identity.is_empty() {
                continue;
            }
            let chunks = std::mem::take(&mut *chunks.lock().unwrap_or_else(PoisonError::into_inner));
            let (side, answering, budget) = (side.clone(), answering[i].clone(), self.budget.clone());
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
        Ok(())
    }

    /// The spine's batches with the added columns, in order; several are made at once.
    fn output(
        self,
        spine: Arc<Vec<RecordBatch>>,
        answers: Vec<SideAnswers>,
    ) -> impl futures::Stream<Item = DfResult<RecordBatch>> {
        let batches = Arc::try_unwrap(spine).unwrap_or_else(|shared| shared.to_vec());
        let (schema, metrics, tasks) = (self.schema, self.metrics.baseline, self.tasks);
        // The reservation lives as long as the rows that it stands for.
        let budget = self.budget;
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

/// The query's context for reading facts. They may come in any order: a task that is done takes over files of the others.
pub(super) fn facts_context(context: &TaskContext) -> Arc<TaskContext> {
    context_of(context, FACT_BATCH_ROWS, |execution| execution.enable_file_stream_work_stealing = true)
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
    answers: Vec<SideAnswers>,
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
            let columns = self.answers.iter().map(|(slot_of_row, answer)| answer.columns(&slot_of_row[rows.clone()]));
            match columns.collect::<Result<Vec<_>>>() {
                Ok(columns) => {
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
                    let reason = "its texts and lists are longer than one batch can hold; ask for fewer values or shorter ones";
                    return Err(Error::Definition { subject: "the answer to one row".into(), reason: reason.into() });
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

    fn take_all(&self) -> Vec<Box<dyn Taking>> {
        std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where the facts of a partition go.
enum Goal {
    Answer(Arc<Takers>),
    Collect(Arc<Mutex<Vec<Chunk>>>, Arc<Budget>),
}

async fn take_partition<Q>(
    side: Arc<PlannedSide<Q>>,
    index: Arc<Indexed>,
    mut stream: SendableRecordBatchStream,
    metrics: Metrics,
    goal: Goal,
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
        match &goal {
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
    let instants = || (0..slots.len()).map(|slot| slots.instant(slot));
    let between = instants().min().zip(instants().max()).map(|(first, last)| match side.side.direction {
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
