//! The operators as physical plans: the spine is indexed, the facts stream past it in any order, the answers follow.
//! What is kept of the facts, and how an answer is made of it, is the business of `lookup` and `window`.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, SchemaRef},
};
use datafusion::{
    common::{Result as DfResult, tree_node::TreeNodeRecursion, utils::memory::RecordBatchMemoryCounter},
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    physical_expr::{Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
        PlanProperties, ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, MetricsSet, Time},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use super::{
    clock::{Clock, NEVER, Round, TickUnit},
    keys::{Keys, NO_KEY},
    node::{Ask, Direction, Side},
    slots::Slots,
    versions,
};
use crate::{
    error::{Error, Result},
    time::Cutoff,
};

/// Facts are read in batches of at least this many rows: fewer, larger steps.
const FACT_BATCH_ROWS: usize = 131_072;

/// One question of a kind, planned.
pub(crate) struct AsOfExec<Q> {
    spine: Arc<dyn ExecutionPlan>,
    at: Clock,
    at_position: usize,
    facts: Vec<Arc<dyn ExecutionPlan>>,
    sides: Vec<Arc<PlannedSide<Q>>>,
    /// The order in which the spine was asked for; it is the result's.
    order: Option<LexOrdering>,
    shown: String,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// A side with its columns found.
#[derive(Debug, Clone)]
pub(crate) struct PlannedSide<Q> {
    pub(crate) side: Side<Q>,
    /// Positions of the keys in the spine and in the facts, and the types in which they are compared.
    pub(crate) spine_keys: Vec<usize>,
    pub(crate) fact_keys: Vec<usize>,
    pub(crate) key_types: Vec<DataType>,
    /// The spine's instants in this side's ticks; event time and, if there is one, known-at.
    pub(crate) spine_clock: Clock,
    pub(crate) clocks: Vec<(usize, Clock)>,
    pub(crate) delay: i64,
    pub(crate) identity: Vec<usize>,
    pub(crate) facts_schema: SchemaRef,
}

/// What a question needs to know to be answered.
pub(crate) struct SideParts {
    pub(crate) place: String,
    pub(crate) slots: Arc<Slots>,
    pub(crate) unit: TickUnit,
    pub(crate) facts_schema: SchemaRef,
    pub(crate) tie_break: Vec<usize>,
    /// Do facts have a known-at of their own?
    pub(crate) has_known: bool,
    /// Are facts replaced by later versions?
    pub(crate) has_versions: bool,
    pub(crate) budget: Arc<Budget>,
    pub(crate) tasks: usize,
}

/// Takes facts in, in any order and by several tasks, and answers when all are in.
pub(crate) trait Answering: Send + Sync {
    /// A task's own part.
    fn task(self: Arc<Self>) -> Box<dyn Taking>;

    /// The answers; called once, after every task has finished.
    fn answer(&self) -> Result<Arc<dyn Answers>>;
}

/// One task's part in taking facts in.
pub(crate) trait Taking: Send {
    /// Takes some facts in.
    fn take_in(&mut self, chunk: &Chunk) -> Result<()>;

    /// Hands over what was taken in.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// The added columns, by spine row.
pub(crate) trait Answers: Send + Sync {
    /// Those of a range of spine rows.
    fn columns(&self, rows: Range<usize>) -> Result<Vec<ArrayRef>>;
}

/// Facts of entities of the spine, with their times in ticks. The vectors lie side by side.
pub(crate) struct Chunk {
    /// All columns of the facts, and of other rows too.
    pub(crate) batch: RecordBatch,
    /// Their rows in the batch.
    pub(crate) rows: Vec<u32>,
    pub(crate) entities: Vec<u32>,
    /// A fact is visible at the instants after this tick: the later of event time and known-at, by the cutoff.
    pub(crate) visible: Vec<i64>,
    pub(crate) event: Vec<i64>,
    /// What orders facts by event time, where that is finer than ticks.
    pub(crate) order: Option<Vec<i64>>,
    /// What orders facts by known-at, if they have one of their own.
    pub(crate) known: Option<Vec<i64>>,
    /// A fact is gone at the instants after this tick: when its next version is visible.
    pub(crate) until: Option<Vec<i64>>,
}

impl Chunk {
    /// Puts the facts of an entity side by side, entities in the order of their slots, facts in the order in which they become
    /// visible: taking them in then walks through memory instead of jumping, and from slot to slot.
    fn arrange(&mut self, entities: usize) {
        let mut places: Vec<u32>;
        if entities <= 8 * self.rows.len() + 1_024 {
            let mut starts = vec![0u32; entities + 1];
            for &entity in &self.entities {
                starts[entity as usize + 1] += 1;
            }
            for i in 1..starts.len() {
                starts[i] += starts[i - 1];
            }
            places = vec![0; self.rows.len()];
            for (i, &entity) in self.entities.iter().enumerate() {
                let next = &mut starts[entity as usize];
                places[*next as usize] = i as u32;
                *next += 1;
            }
        } else {
            let packed = self.entities.iter().zip(0u64..).map(|(&entity, i)| (u64::from(entity) << 32) | i);
            let mut packed: Vec<u64> = packed.collect();
            packed.sort_unstable();
            places = packed.into_iter().map(|place| place as u32).collect();
        }
        let (entities, visible) = (&self.entities, &self.visible);
        for run in places.chunk_by_mut(|&a, &b| entities[a as usize] == entities[b as usize]) {
            if !run.is_sorted_by_key(|&i| visible[i as usize]) {
                run.sort_unstable_by_key(|&i| (visible[i as usize], i));
            }
        }
        let pick = |times: &[i64]| places.iter().map(|&i| times[i as usize]).collect::<Vec<_>>();
        let pick_rows = |rows: &[u32]| places.iter().map(|&i| rows[i as usize]).collect::<Vec<_>>();
        self.visible = pick(&self.visible);
        self.event = pick(&self.event);
        self.order = self.order.as_deref().map(pick);
        self.known = self.known.as_deref().map(pick);
        self.rows = pick_rows(&self.rows);
        self.entities = pick_rows(&self.entities);
    }

    /// Numbers in the order of event times.
    pub(crate) fn order(&self) -> &[i64] {
        self.order.as_deref().unwrap_or(&self.event)
    }
}

/// Bytes that a running question holds, within what the session allows.
pub(crate) struct Budget {
    operator: &'static str,
    reservation: Mutex<MemoryReservation>,
    peak: Gauge,
    held: AtomicUsize,
}

impl Budget {
    fn new(operator: &'static str, context: &TaskContext, peak: Gauge) -> Self {
        let reservation = MemoryConsumer::new(operator).register(context.memory_pool());
        Self { operator, reservation: Mutex::new(reservation), peak, held: AtomicUsize::new(0) }
    }

    /// Takes more.
    ///
    /// # Errors
    /// [`Error::Memory`] when the session does not allow it.
    pub(crate) fn grow(&self, place: &str, bytes: usize) -> Result<()> {
        let reservation = self.reservation.lock().unwrap_or_else(PoisonError::into_inner);
        reservation.try_grow(bytes).map_err(|e| Error::Memory {
            operator: self.operator,
            place: place.into(),
            needed: bytes,
            held: reservation.size(),
            reason: e.strip_backtrace(),
        })?;
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.set_max(held);
        Ok(())
    }

    /// Gives some back.
    pub(crate) fn shrink(&self, bytes: usize) {
        self.reservation.lock().unwrap_or_else(PoisonError::into_inner).shrink(bytes);
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl<Q: Ask> AsOfExec<Q> {
    pub(crate) fn new(
        spine: Arc<dyn ExecutionPlan>,
        at: (usize, Clock),
        facts: Vec<Arc<dyn ExecutionPlan>>,
        sides: Vec<Arc<PlannedSide<Q>>>,
        order: Option<LexOrdering>,
        schema: SchemaRef,
        shown: String,
    ) -> Self {
        let mut equivalences = EquivalenceProperties::new(schema.clone());
        if let Some(order) = &order {
            equivalences.add_ordering(order.clone());
        }
        let properties =
            PlanProperties::new(equivalences, Partitioning::UnknownPartitioning(1), EmissionType::Final, Boundedness::Bounded);
        let (at_position, at) = at;
        let metrics = ExecutionPlanMetricsSet::new();
        Self { spine, at, at_position, facts, sides, order, shown, schema, properties: Arc::new(properties), metrics }
    }
}

impl<Q: Ask> fmt::Debug for AsOfExec<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl<Q: Ask> DisplayAs for AsOfExec<Q> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl<Q: Ask> ExecutionPlan for AsOfExec<Q> {
    fn name(&self) -> &str {
        Q::NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        std::iter::once(&self.spine).chain(&self.facts).collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let mut children = children.into_iter();
        let spine = children.next().unwrap_or_else(|| self.spine.clone());
        let at = (self.at_position, self.at.clone());
        Ok(Arc::new(Self::new(
            spine,
            at,
            children.collect(),
            self.sides.clone(),
            self.order.clone(),
            self.schema.clone(),
            self.shown.clone(),
        )))
    }

    /// A sorted spine stays sorted: the rows come out in its order.
    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let spine = self.order.clone().map(OrderingRequirements::from);
        std::iter::once(spine).chain(self.facts.iter().map(|_| None)).collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        let spine = if self.order.is_some() { Distribution::SinglePartition } else { Distribution::UnspecifiedDistribution };
        std::iter::once(spine).chain(self.facts.iter().map(|_| Distribution::UnspecifiedDistribution)).collect()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        std::iter::once(true).chain(self.facts.iter().map(|_| false)).collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let run = Run {
            spine: self.spine.clone(),
            at_position: self.at_position,
            facts: self.facts.clone(),
            sides: self.sides.clone(),
            schema: self.schema.clone(),
            tasks: context.session_config().target_partitions().max(1),
            budget: Arc::new(Budget::new(Q::NAME, &context, MetricBuilder::new(&self.metrics).gauge("peak_mem_used", 0))),
            metrics: Metrics::new(&self.metrics),
            context,
        };
        let rows = stream::once(run.rows()).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

#[derive(Clone)]
struct Metrics {
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
    fn new(set: &ExecutionPlanMetricsSet) -> Self {
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

/// One execution.
struct Run<Q> {
    spine: Arc<dyn ExecutionPlan>,
    at_position: usize,
    facts: Vec<Arc<dyn ExecutionPlan>>,
    sides: Vec<Arc<PlannedSide<Q>>>,
    schema: SchemaRef,
    tasks: usize,
    budget: Arc<Budget>,
    metrics: Metrics,
    context: Arc<TaskContext>,
}

/// The spine as one kind of side sees it: its entities and their slots.
struct Indexed {
    keys: Keys,
    slots: Arc<Slots>,
}

impl<Q: Ask> Run<Q> {
    async fn rows(self) -> DfResult<impl futures::Stream<Item = DfResult<RecordBatch>>> {
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
            answering.push(side.side.ask.answering(&self.parts(side, index)?)?);
        }
        self.take_facts_in(&indexes, &answering).await?;
        timer.done();

        let timer = self.metrics.answer_time.timer();
        drop(indexes);
        let mut answers = Vec::with_capacity(answering.len());
        for side in answering {
            answers.push(blocking(move || side.answer()).await?);
        }
        timer.done();
        Ok(self.output(spine, answers))
    }

    /// The spine's rows: those of the first partition, then those of the second, and so on.
    async fn spine_batches(&self) -> Result<Vec<RecordBatch>> {
        let mut reading = JoinSet::new();
        let partitions = self.spine.output_partitioning().partition_count();
        // Batches may be slices of a larger one, which is held once.
        let counter = Arc::new(Mutex::new(RecordBatchMemoryCounter::new()));
        for partition in 0..partitions {
            let (stream, budget) = (self.spine.execute(partition, self.context.clone())?, self.budget.clone());
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

    fn parts(&self, side: &PlannedSide<Q>, index: &Indexed) -> Result<SideParts> {
        let tie_break = side.side.declared.tie_break.iter();
        Ok(SideParts {
            place: side.side.place.clone(),
            slots: index.slots.clone(),
            unit: side.spine_clock.unit,
            facts_schema: side.facts_schema.clone(),
            tie_break: tie_break.map(|name| Ok(side.facts_schema.index_of(name)?)).collect::<Result<_>>()?,
            has_known: side.clocks.len() > 1,
            has_versions: !side.identity.is_empty(),
            budget: self.budget.clone(),
            tasks: self.tasks,
        })
    }

    /// Reads all facts, as many partitions at once as the session has tasks, whatever table they are of.
    async fn take_facts_in(&self, indexes: &[Arc<Indexed>], answering: &[Arc<dyn Answering>]) -> Result<()> {
        let config = self.context.session_config();
        let mut config = config.clone().with_batch_size(config.batch_size().max(FACT_BATCH_ROWS));
        // Facts may come in any order: a task that is done takes over files of the others.
        config.options_mut().execution.enable_file_stream_work_stealing = true;
        let context = Arc::new(TaskContext::new(
            self.context.task_id(),
            self.context.session_id(),
            config,
            self.context.scalar_functions().clone(),
            self.context.higher_order_functions().clone(),
            self.context.aggregate_functions().clone(),
            self.context.window_functions().clone(),
            self.context.runtime_env(),
        ));
        // Tables take turns, so that tasks meet at the same one as late as possible.
        let mut work = Vec::new();
        for (i, facts) in self.facts.iter().enumerate() {
            work.extend((0..facts.output_partitioning().partition_count()).map(|partition| (partition, i)));
        }
        work.sort_unstable();
        let collected: Vec<Arc<Mutex<Vec<Chunk>>>> = self.sides.iter().map(|_| Arc::default()).collect();
        let mut running = JoinSet::new();
        let mut work = work.into_iter();
        loop {
            while running.len() < self.tasks
                && let Some((partition, i)) = work.next()
            {
                let stream = self.facts[i].execute(partition, context.clone())?;
                let (side, index) = (self.sides[i].clone(), indexes[i].clone());
                let (metrics, budget) = (self.metrics.clone(), self.budget.clone());
                // Versions of a fact find each other only when all are there.
                let goal = match side.identity.is_empty() {
                    true => Goal::Answer(answering[i].clone().task()),
                    false => Goal::Collect(collected[i].clone(), budget),
                };
                running.spawn(take_partition(side, index, stream, metrics, goal));
            }
            match running.join_next().await {
                Some(done) => joined(done)?,
                None => break,
            }
        }
        for (i, chunks) in collected.into_iter().enumerate() {
            let side = &self.sides[i];
            if side.identity.is_empty() {
                continue;
            }
            let chunks = std::mem::take(&mut *chunks.lock().unwrap_or_else(PoisonError::into_inner));
            let (side, answering, budget) = (side.clone(), answering[i].clone(), self.budget.clone());
            blocking(move || {
                let chunks = versions::resolve(&side.side.place, &side.identity, &tie_columns(&side)?, chunks, &budget)?;
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
        answers: Vec<Arc<dyn Answers>>,
    ) -> impl futures::Stream<Item = DfResult<RecordBatch>> {
        let batches = Arc::try_unwrap(spine).unwrap_or_else(|shared| shared.to_vec());
        let (schema, answers, metrics, tasks) = (self.schema, Arc::new(answers), self.metrics.baseline, self.tasks);
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
        stream::iter(pieces)
            .map(move |(batch, rows, bytes)| {
                let (schema, answers) = (schema.clone(), answers.clone());
                async move {
                    let made = blocking(move || {
                        let mut columns = batch.columns().to_vec();
                        for answer in answers.iter() {
                            columns.extend(answer.columns(rows.clone())?);
                        }
                        Ok((RecordBatch::try_new(schema, columns)?, bytes))
                    });
                    Ok::<_, datafusion::error::DataFusionError>(made.await?)
                }
            })
            .buffered(tasks)
            .map(move |made| {
                let (batch, bytes) = made?;
                budget.shrink(bytes);
                metrics.record_output(batch.num_rows());
                Ok(batch)
            })
    }
}

fn tie_columns<Q>(side: &PlannedSide<Q>) -> Result<Vec<usize>> {
    side.side.declared.tie_break.iter().map(|name| Ok(side.facts_schema.index_of(name)?)).collect()
}

/// Where the facts of a partition go.
enum Goal {
    Answer(Box<dyn Taking>),
    Collect(Arc<Mutex<Vec<Chunk>>>, Arc<Budget>),
}

async fn take_partition<Q: Ask>(
    side: Arc<PlannedSide<Q>>,
    index: Arc<Indexed>,
    mut stream: SendableRecordBatchStream,
    metrics: Metrics,
    mut goal: Goal,
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
        match &mut goal {
            Goal::Answer(task) => task.take_in(&chunk)?,
            Goal::Collect(chunks, budget) => {
                budget.grow(&side.side.place, counter.count_batch(&chunk.batch) + chunk.rows.len() * 40)?;
                chunks.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
            }
        }
        timer.done();
    }
    match goal {
        Goal::Answer(task) => task.finish(),
        Goal::Collect(..) => Ok(()),
    }
}

impl<Q: Ask> PlannedSide<Q> {
    /// The facts of a batch that belong to an entity of the spine (or all of them) and have their times.
    fn chunk(&self, keys: &Keys, batch: RecordBatch, keep_all: bool) -> Result<Chunk> {
        let key_columns: Vec<ArrayRef> = self.fact_keys.iter().map(|&p| batch.column(p).clone()).collect();
        let found = keys.find(&key_columns)?;
        let (event_position, clock) = &self.clocks[0];
        let backward = self.side.direction == Direction::Backward;
        let inclusive = self.side.cutoff == Cutoff::Inclusive;
        let round = if inclusive == backward { Round::Up } else { Round::Down };
        let events = batch.column(*event_position);
        let (event, event_nulls) = clock.facts(events, Round::Down)?;
        let deciding = match round {
            Round::Down => event.clone(),
            Round::Up => clock.facts(events, round)?.0,
        };
        let order = clock.order(events)?;
        let known = self.clocks.get(1).map(|(p, clock)| {
            let (deciding, nulls) = clock.facts(batch.column(*p), round)?;
            let order = clock.order(batch.column(*p))?.unwrap_or_else(|| deciding.clone());
            Ok::<_, Error>((deciding, nulls, order))
        });
        let known = known.transpose()?;
        // Inclusive at t is exclusive one tick later.
        let earlier = i64::from(inclusive);
        // Looking forward is looking backward in mirrored time.
        let mirrored = |time: i64| if backward { time } else { !time };
        let mut chunk = Chunk {
            rows: Vec::with_capacity(found.len()),
            entities: Vec::with_capacity(found.len()),
            visible: Vec::with_capacity(found.len()),
            event: Vec::with_capacity(found.len()),
            order: order.as_ref().map(|_| Vec::with_capacity(found.len())),
            known: known.as_ref().map(|_| Vec::with_capacity(found.len())),
            until: None,
            batch,
        };
        let is_null = |nulls: &Option<arrow::buffer::NullBuffer>, row| nulls.as_ref().is_some_and(|n| n.is_null(row));
        for (row, &entity) in found.iter().enumerate() {
            if (entity == NO_KEY && !keep_all) || is_null(&event_nulls, row) {
                continue;
            }
            let mut visible = mirrored(deciding[row]).saturating_add(self.delay);
            if let Some((times, nulls, _)) = &known {
                if is_null(nulls, row) {
                    continue;
                }
                visible = visible.max(times[row]);
            }
            if visible == NEVER {
                // Beyond every instant that can be asked about.
                continue;
            }
            chunk.rows.push(row as u32);
            chunk.entities.push(entity);
            chunk.visible.push(visible.saturating_sub(earlier));
            chunk.event.push(mirrored(event[row]));
            if let (Some(kept), Some(order)) = (&mut chunk.order, &order) {
                kept.push(mirrored(order[row]));
            }
            if let (Some(kept), Some((.., order))) = (&mut chunk.known, &known) {
                kept.push(order[row]);
            }
        }
        if !keep_all {
            chunk.arrange(keys.count());
        }
        Ok(chunk)
    }
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
    Ok(Indexed { keys, slots: Arc::new(slots) })
}

/// Runs what computes for long away from the threads that wait for files and networks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    joined(tokio::task::spawn_blocking(work).await)
}

fn joined<T>(done: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    match done {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(datafusion::error::DataFusionError::External(Box::new(error)).into()),
    }
}
