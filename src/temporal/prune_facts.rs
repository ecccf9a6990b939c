//! An operator that leaves out facts that no row of a spine can be given, before facts are divided among processes.
//!
//! Every task reads the keys and instants of the whole spine, and its own share of the facts. What passes is never too little: a fact that
//! an operator needs always passes, and one that it does not need may. So nothing depends on how facts are shared out, nor on whether they
//! are pruned at all. Which of two facts wins is left to the operator, except where times decide.
//!
//! - A fact passes if some row of its entity sees it, and is not too late for it.
//! - For a lookup, of the facts that become visible between two rows of an entity only the newest pass, with all that have the same times.
//!   Facts that may be replaced later are not compared: an older one can be needed after that.

use std::{fmt, sync::Arc};

use arrow::array::RecordBatch;
use datafusion::{
    common::{
        Result as DfResult,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
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
use tokio::sync::OnceCell;

use super::{
    budget::Budget,
    event_time_filter::EventTimeFilter,
    execution::{file_context, index_spine},
    fact_input::PhysicalFactInput,
    pruner::{Indexed, Needed, Pruner, is_refused},
    resolve_versions::AskedFacts,
    tasks::blocking,
};
use crate::error::{Error, Result};

const NAME: &str = "PruneFacts";

/// The most rows of a spine that every task indexes. With more of them, all facts pass.
const MOST_ROWS: usize = 1 << 23;
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

    /// The rows of the spine, if they are in the plan.
    fn own_rows(&self) -> Option<&MemorySourceConfig> {
        let rows = self.spine.children().first().and_then(|rows| rows.downcast_ref::<DataSourceExec>())?;
        rows.data_source().downcast_ref::<MemorySourceConfig>()
    }

    /// Sets the filter on event times.
    fn set_event_times(&self, rows: &MemorySourceConfig) -> Result<()> {
        let Some(filter) = &self.event_times else { return Ok(()) };
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

/// A plan that holds the rows of its spines, before it leaves this process. Filters on event times are set; and a spine that is too large to
/// be indexed by every task is not sent to them.
pub(super) fn before_it_leaves(plan: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    let left = plan.transform_up(|node| {
        let Some(prune) = node.downcast_ref::<PruneFactsExec>() else { return Ok(Transformed::no(node)) };
        let Some(rows) = prune.own_rows() else { return Ok(Transformed::no(node)) };
        prune.set_event_times(rows)?;
        let count: usize = rows.partitions().iter().flatten().map(RecordBatch::num_rows).sum();
        Ok(if count > MOST_ROWS { Transformed::yes(prune.facts.clone()) } else { Transformed::no(node) })
    })?;
    Ok(left.data)
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
            Ok(Some(Arc::new(Indexed::new(spine, budget))))
        }
        Err(Error::Memory { .. }) => Ok(None),
        Err(error) => Err(error),
    })
    .await
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
