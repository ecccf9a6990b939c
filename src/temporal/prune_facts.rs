//! An operator that leaves out facts that no row of a spine can be given, before facts are divided among processes.
//!
//! Every task reads the keys and instants of the whole spine, and its own share of the facts. What passes is never too little: a fact that
//! an operator needs always passes, and one that it does not need may. So nothing depends on how facts are shared out, nor on whether they
//! are pruned at all. Which of two facts wins is left to the operator, except where times decide.
//!
//! - A fact passes if some row of its entity sees it, and is not too late for it.
//! - For a lookup, of the facts that become visible between two rows of an entity only the newest pass, with all that have the same times.
//!   Facts that may be replaced later are not compared: an older one can be needed after that.

use std::{collections::VecDeque, fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::{filter_record_batch, take_record_batch},
    datatypes::DataType,
};
use datafusion::{
    common::{
        Result as DfResult,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    datasource::{memory::MemorySourceConfig, source::DataSourceExec},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
        PlanProperties, ReplaceChildrenOptions,
        execution_plan::EmissionType,
        metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::{
    budget::Budget,
    event_time_filter::EventTimeFilter,
    execution::{IndexedSpine, file_context, index_spine},
    fact_chunk::FactChunk,
    fact_input::PhysicalFactInput,
    resolve_versions::{AskedFacts, replaced_ticks},
    tasks::blocking,
    time_decoder::{Direction, FIRST_TICK},
};
use crate::error::{Error, Result};

const NAME: &str = "PruneFacts";

/// The most rows of a spine that every task indexes. With more of them, all facts pass.
const MOST_ROWS: usize = 1 << 23;
/// Facts that have lost are dropped once there are this many of them beyond twice the winners.
const SLACK_ROWS: usize = 1 << 18;

/// Which facts an operator may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Needed {
    /// Only the newest fact that a row sees.
    pub(super) newest: bool,
    /// None that lies longer than this before the row.
    pub(super) look_back_us: Option<i64>,
}

/// Leaves out facts that no row of a spine can be given.
pub(super) struct PruneFactsExec {
    /// Keys and instants of all rows, in one partition.
    spine: Arc<dyn ExecutionPlan>,
    facts: Arc<dyn ExecutionPlan>,
    pub(super) input: Arc<PhysicalFactInput<()>>,
    pub(super) asked: Arc<AskedFacts>,
    pub(super) needed: Needed,
    at_position: usize,
    /// The filter that the scan of the facts has. It is set before the plan leaves the process that has the spine.
    event_times: Option<Arc<EventTimeFilter>>,
    /// The spine, once one of the partitions has read it; `None` if it is too large.
    index: Arc<OnceCell<Option<Arc<Indexed>>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// An indexed spine, and the memory that it takes.
struct Indexed {
    spine: IndexedSpine,
    _budget: Budget,
}

impl PruneFactsExec {
    /// # Errors
    /// When a column that is named in `asked` is not in the spine or in the facts.
    pub(super) fn new(
        spine: Arc<dyn ExecutionPlan>,
        facts: Arc<dyn ExecutionPlan>,
        input: Arc<PhysicalFactInput<()>>,
        asked: Arc<AskedFacts>,
        needed: Needed,
    ) -> Result<Self> {
        let at = &asked.at.column;
        let at_position = asked.spine.maybe_index_of_column(at);
        let at_position = at_position.ok_or_else(|| Error::unknown_column("the spine", &at.name, asked.spine.as_arrow()))?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(facts.schema()),
            Partitioning::UnknownPartitioning(facts.output_partitioning().partition_count()),
            EmissionType::Both,
            facts.properties().boundedness,
        );
        let (index, metrics) = (Arc::default(), ExecutionPlanMetricsSet::new());
        let properties = Arc::new(properties);
        Ok(Self { spine, facts, input, asked, needed, at_position, event_times: None, index, properties, metrics })
    }

    /// The same operator over a scan that has this filter.
    pub(super) fn with_event_times(self, event_times: Option<Arc<EventTimeFilter>>) -> Self {
        Self { event_times, ..self }
    }

    /// Sets the filter on event times, if the rows of the spine are in the plan.
    fn set_event_times(&self) -> Result<()> {
        let Some(filter) = &self.event_times else { return Ok(()) };
        let rows = self.spine.children().first().and_then(|rows| rows.downcast_ref::<DataSourceExec>());
        let rows = rows.and_then(|rows| rows.data_source().downcast_ref::<MemorySourceConfig>());
        let Some(rows) = rows else { return Ok(()) };
        let mut range: Option<(i64, i64)> = None;
        for batch in rows.partitions().iter().flatten() {
            let (ticks, missing) = self.input.spine_decoder.instants(batch.column(self.at_position))?;
            let known =
                ticks.iter().enumerate().filter(|(row, _)| !missing.as_ref().is_some_and(|missing| missing.is_null(*row)));
            range = known.fold(range, |range, (_, &tick)| {
                Some(range.map_or((tick, tick), |(first, last)| (first.min(tick), last.max(tick))))
            });
        }
        filter.set_spine_range(range)
    }
}

/// Sets the filters on event times of a plan that holds the rows of its spines.
pub(super) fn set_event_times(plan: &Arc<dyn ExecutionPlan>) -> DfResult<()> {
    plan.apply(|node| {
        if let Some(prune) = node.downcast_ref::<PruneFactsExec>() {
            prune.set_event_times()?;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(drop)
}

impl fmt::Debug for PruneFactsExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for PruneFactsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}: {}", self.input.logical.subject)?;
        if self.needed.newest { write!(f, ", newest") } else { Ok(()) }
    }
}

impl ExecutionPlan for PruneFactsExec {
    fn name(&self) -> &str {
        NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.spine, &self.facts]
    }

    /// Whoever divides a plan among tasks must leave the spine whole.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition, Distribution::UnspecifiedDistribution]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false, false]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let (facts, spine) = (children.swap_remove(1), children.swap_remove(0));
        let replaced = Self::new(spine, facts, self.input.clone(), self.asked.clone(), self.needed)?;
        Ok(Arc::new(replaced.with_event_times(self.event_times.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let count = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, partition);
        let counts = Counts { read: count("facts_rows"), kept: count("facts_kept") };
        let peak = MetricBuilder::new(&self.metrics).gauge("peak_mem_used", partition);
        let budget = Budget::new(NAME, &context, peak);
        let columns = self.facts.schema().fields().len();
        let facts = self.facts.execute(partition, file_context(&context, columns))?;
        let (index, spine, input, at) = (self.index.clone(), self.spine.clone(), self.input.clone(), self.at_position);
        let needed = self.needed;
        let rows = stream::once(async move {
            let indexed = index.get_or_try_init(|| indexed(spine, input.clone(), at, budget.another(), context)).await?.clone();
            Ok::<_, Error>(match indexed {
                None => facts,
                Some(indexed) => {
                    let schema = facts.schema();
                    let pruner = Pruner::new(input, indexed, needed, budget);
                    Box::pin(RecordBatchStreamAdapter::new(schema, pruned(facts, pruner, counts))) as SendableRecordBatchStream
                }
            })
        });
        let rows = rows.map_err(datafusion::error::DataFusionError::from).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The indexed spine; `None` if it takes more memory than there is.
async fn indexed(
    spine: Arc<dyn ExecutionPlan>,
    input: Arc<PhysicalFactInput<()>>,
    at: usize,
    budget: Budget,
    context: Arc<TaskContext>,
) -> Result<Option<Arc<Indexed>>> {
    let (mut rows, mut batches, mut bytes, mut stream) = (0, Vec::new(), 0, spine.execute(0, context)?);
    while let Some(batch) = stream.try_next().await? {
        rows += batch.num_rows();
        let of_batch = batch.get_array_memory_size();
        if rows > MOST_ROWS || is_refused(budget.grow("the spine", of_batch))? {
            return Ok(None);
        }
        bytes += of_batch;
        batches.push(batch);
    }
    blocking(move || match index_spine(&input, at, &batches, &budget) {
        Ok(spine) => {
            budget.shrink(bytes);
            Ok(Some(Arc::new(Indexed { spine, _budget: budget })))
        }
        Err(Error::Memory { .. }) => Ok(None),
        Err(error) => Err(error),
    })
    .await
}

/// Is there no memory for it?
fn is_refused(grown: Result<()>) -> Result<bool> {
    match grown {
        Ok(()) => Ok(false),
        Err(Error::Memory { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

struct Counts {
    read: Count,
    kept: Count,
}

/// The facts of a partition that pass.
fn pruned(
    facts: SendableRecordBatchStream,
    pruner: Pruner,
    counts: Counts,
) -> impl futures::Stream<Item = DfResult<RecordBatch>> + Send {
    stream::try_unfold((Some(facts), pruner, counts), |(mut facts, mut pruner, counts)| async move {
        loop {
            if let Some(batch) = pruner.passed.pop_front() {
                counts.kept.add(batch.num_rows());
                return Ok(Some((batch, (facts, pruner, counts))));
            }
            let Some(reading) = &mut facts else { return Ok(None) };
            match reading.try_next().await.map_err(|e| Error::reading(&pruner.input.logical.subject, e))? {
                Some(batch) => {
                    counts.read.add(batch.num_rows());
                    pruner.add(batch)?;
                }
                None => {
                    facts = None;
                    pruner.pass_all()?;
                }
            }
        }
    })
}

/// Prunes the facts of one partition.
struct Pruner {
    input: Arc<PhysicalFactInput<()>>,
    indexed: Arc<Indexed>,
    /// In ticks.
    look_back: Option<i64>,
    /// The slot of an entity's previous fact, by the lower bits of the entity's number. The search for a slot begins there.
    hints: Vec<u32>,
    newest: Option<Newest>,
    /// What can be given out.
    passed: VecDeque<RecordBatch>,
    budget: Budget,
}

/// The times of the newest fact of each slot, and the facts that have not lost yet.
struct Newest {
    /// By slot: event time and known-at, both as order numbers.
    times: Vec<(i64, i64)>,
    /// How many slots have a fact.
    occupied: usize,
    held: Vec<Held>,
    rows: usize,
    bytes: usize,
}

/// Facts, with their slots and times.
struct Held {
    batch: RecordBatch,
    slots: Vec<u32>,
    times: Vec<(i64, i64)>,
}

/// The times of a slot without a fact.
const NO_FACT: (i64, i64) = (i64::MIN, i64::MIN);

impl Pruner {
    fn new(input: Arc<PhysicalFactInput<()>>, indexed: Arc<Indexed>, needed: Needed, budget: Budget) -> Self {
        let unit = input.spine_decoder.unit;
        // A microsecond more, since finer times are rounded.
        let is_backward = input.logical.direction == Direction::Backward;
        let look_back = needed.look_back_us.filter(|_| is_backward).and_then(|us| unit.length(us)?.checked_add(unit.ticks(1)));
        let index = &indexed.spine.index;
        let hints = vec![0; index.hint_table_len()];
        // Without memory for the times, facts are not compared.
        let compares = needed.newest && input.identity.is_empty();
        let newest = (compares && budget.grow("the newest facts", index.len() * size_of::<(i64, i64)>()).is_ok()).then(|| {
            let times = vec![NO_FACT; index.len()];
            Newest { times, occupied: 0, held: Vec::new(), rows: 0, bytes: 0 }
        });
        Self { input, indexed, look_back, hints, newest, passed: VecDeque::new(), budget }
    }

    fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let chunk = self.input.chunk(&self.indexed.spine.keys, batch, false)?;
        let seen = self.seen(&chunk);
        let Some(newest) = &mut self.newest else {
            if !seen.is_empty() {
                let rows: UInt32Array = seen.iter().map(|&(_, i)| chunk.rows[i as usize]).collect::<Vec<_>>().into();
                self.passed.push_back(take_record_batch(&chunk.batch, &rows)?);
            }
            return Ok(());
        };
        let Some(held) = newest.of_chunk(&chunk, seen)? else { return Ok(()) };
        let bytes = held.bytes();
        newest.rows += held.slots.len();
        newest.bytes += bytes;
        newest.held.push(held);
        let is_full = is_refused(self.budget.grow("the newest facts", bytes))?;
        if is_full {
            newest.bytes -= bytes;
        }
        if is_full || newest.rows > 2 * newest.occupied + SLACK_ROWS {
            let before = newest.bytes;
            newest.drop_losers()?;
            self.budget.shrink(before);
            // Where dropping does not help, as with many facts of the same times, they are given out now: that is never wrong.
            let still = is_refused(self.budget.grow("the newest facts", newest.bytes))?;
            if still || newest.rows > newest.occupied + SLACK_ROWS / 2 {
                if !still {
                    self.budget.shrink(newest.bytes);
                }
                self.passed.extend(newest.take());
            }
        }
        Ok(())
    }

    /// All facts have been read.
    fn pass_all(&mut self) -> Result<()> {
        if let Some(newest) = &mut self.newest {
            let before = newest.bytes;
            newest.drop_losers()?;
            self.passed.extend(newest.take());
            self.budget.shrink(before);
        }
        Ok(())
    }

    /// The facts of a chunk that some slot sees: the first of these slots, and the position of the fact.
    fn seen(&mut self, chunk: &FactChunk) -> Vec<(u32, u32)> {
        let index = &self.indexed.spine.index;
        let mask = self.hints.len() - 1;
        let replaced_from = self.input.replaced_from.filter(|_| self.input.logical.direction == Direction::Backward);
        let replaced = replaced_from.map(|position| replaced_ticks(std::slice::from_ref(chunk), position));
        let mut seen = Vec::with_capacity(chunk.rows.len());
        let (mut entity, mut slot) = (u32::MAX, 0);
        for i in 0..chunk.rows.len() {
            let run = index.slots_of(chunk.entities[i]);
            let remembered = chunk.entities[i] as usize & mask;
            let hint = if chunk.entities[i] == entity { slot } else { self.hints[remembered] };
            entity = chunk.entities[i];
            slot = index.first_from(&run, chunk.visible_from[i], hint);
            self.hints[remembered] = slot;
            if slot == run.end {
                continue;
            }
            let instant = index.instant(slot as usize);
            let is_too_old = self.look_back.is_some_and(|back| chunk.event[i] < instant.saturating_sub(back).max(FIRST_TICK));
            let is_replaced = replaced.as_ref().and_then(|replaced| replaced[i]).is_some_and(|replaced| replaced <= instant);
            if !is_too_old && !is_replaced {
                seen.push((slot, i as u32));
            }
        }
        seen
    }
}

impl Newest {
    /// The facts of a chunk that have not lost.
    fn of_chunk(&mut self, chunk: &FactChunk, seen: Vec<(u32, u32)>) -> Result<Option<Held>> {
        let known = chunk.known.as_deref();
        let times_of = |i: u32| (chunk.order()[i as usize], known.map_or(0, |known| known[i as usize]));
        for &(slot, i) in &seen {
            let newest = &mut self.times[slot as usize];
            if *newest == NO_FACT {
                self.occupied += 1;
            }
            *newest = times_of(i).max(*newest);
        }
        let mut held = Held { batch: RecordBatch::new_empty(chunk.batch.schema()), slots: Vec::new(), times: Vec::new() };
        let mut rows = Vec::new();
        for (slot, i) in seen {
            if times_of(i) == self.times[slot as usize] {
                rows.push(chunk.rows[i as usize]);
                held.slots.push(slot);
                held.times.push(times_of(i));
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        held.batch = compacted(&take_record_batch(&chunk.batch, &UInt32Array::from(rows))?)?;
        Ok(Some(held))
    }

    /// Drops the facts that are not the newest of their slot any more.
    fn drop_losers(&mut self) -> Result<()> {
        (self.rows, self.bytes) = (0, 0);
        for mut held in std::mem::take(&mut self.held) {
            let wins: Vec<bool> =
                held.slots.iter().zip(&held.times).map(|(&slot, times)| *times == self.times[slot as usize]).collect();
            if wins.contains(&false) {
                let mut next = wins.iter();
                held.slots.retain(|_| next.next().copied().unwrap_or(true));
                let mut next = wins.iter();
                held.times.retain(|_| next.next().copied().unwrap_or(true));
                held.batch = compacted(&filter_record_batch(&held.batch, &BooleanArray::from(wins))?)?;
            }
            if !held.slots.is_empty() {
                self.rows += held.slots.len();
                self.bytes += held.bytes();
                self.held.push(held);
            }
        }
        Ok(())
    }

    /// The facts that are held.
    fn take(&mut self) -> impl Iterator<Item = RecordBatch> + use<> {
        (self.rows, self.bytes) = (0, 0);
        std::mem::take(&mut self.held).into_iter().map(|held| held.batch)
    }
}

impl Held {
    fn bytes(&self) -> usize {
        self.batch.get_array_memory_size() + self.slots.len() * (size_of::<u32>() + size_of::<(i64, i64)>())
    }
}

/// The batch without the texts of rows that are no longer in it.
fn compacted(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => column.clone(),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)?)
}
