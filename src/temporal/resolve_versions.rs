//! An operator that finds from when on each fact of a table with an identity is replaced by a later version.
//! One process that has all facts finds it while it matches them; see `execution`. Here the versions of a fact meet before facts are
//! divided by entity, since a later version may have other keys.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use datafusion::{
    common::{DFSchemaRef, Result as DfResult, tree_node::TreeNodeRecursion, utils::memory::RecordBatchMemoryCounter},
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
        PlanProperties, ReplaceChildrenOptions,
        execution_plan::EmissionType,
        metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    budget::Budget,
    fact_chunk::FactChunk,
    fact_input::{PhysicalFactInput, SpineTime},
    full_rows::version_order,
    keys::NO_KEY,
    tasks::blocking,
    versions,
};
use crate::error::{Error, Result};

/// The column of the first ticks at which facts are replaced; NULL for a fact that is not. Its name is that of a computed column, which
/// takes no part in deciding between facts.
pub(super) const REPLACED_FROM: &str = "asof computed: replaced from";

const NAME: &str = "ResolveVersions";

/// The ticks of [`REPLACED_FROM`], in the order of the chunks.
pub(super) fn replaced_ticks(chunks: &[FactChunk], position: usize) -> Vec<Option<i64>> {
    let of_chunk = |chunk: &FactChunk| {
        let ticks = chunk.batch.column(position).as_primitive::<Int64Type>().clone();
        chunk.rows.iter().map(move |&row| ticks.is_valid(row as usize).then(|| ticks.value(row as usize))).collect::<Vec<_>>()
    };
    chunks.iter().flat_map(of_chunk).collect()
}

/// By which names the columns of one fact table, and those of the spine that find its facts, were found.
#[derive(Debug)]
pub(super) struct AskedFacts {
    pub(super) spine: DFSchemaRef,
    pub(super) at: SpineTime,
    pub(super) facts: DFSchemaRef,
}

/// Adds [`REPLACED_FROM`] to the facts. Facts that no instant can see are left out.
#[derive(Debug)]
pub(super) struct ResolveVersionsExec {
    facts: Arc<dyn ExecutionPlan>,
    pub(super) input: Arc<PhysicalFactInput<()>>,
    pub(super) asked: Arc<AskedFacts>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ResolveVersionsExec {
    pub(super) fn new(facts: Arc<dyn ExecutionPlan>, input: Arc<PhysicalFactInput<()>>, asked: Arc<AskedFacts>) -> Self {
        let of_facts = facts.schema();
        let added = Arc::new(Field::new(REPLACED_FROM, DataType::Int64, true));
        let fields: Vec<_> = of_facts.fields().iter().cloned().chain([added]).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, of_facts.metadata().clone()));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(facts.output_partitioning().partition_count()),
            EmissionType::Final,
            facts.properties().boundedness,
        );
        Self { facts, input, asked, schema, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for ResolveVersionsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}: {}, identity=[{}]", self.input.logical.subject, self.input.logical.declared.identity.join(", "))
    }
}

impl ExecutionPlan for ResolveVersionsExec {
    fn name(&self) -> &str {
        NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.facts]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
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
        Ok(Arc::new(Self::new(children.swap_remove(0), self.input.clone(), self.asked.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let peak = MetricBuilder::new(&self.metrics).gauge("peak_mem_used", partition);
        let budget = Budget::new(NAME, &context, peak);
        let (input, schema, facts) = (self.input.clone(), self.schema.clone(), self.facts.execute(partition, context)?);
        let resolved = stream::once(async move {
            let chunks = held(&input, facts, &budget).await?;
            let batches = blocking(move || {
                let (subject, order) = (&input.logical.subject, version_order(&input)?);
                let columns = (input.identity.as_slice(), order.as_slice());
                let replaced = versions::replaced_from(subject, &input.facts_schema, columns, &chunks, &budget)?;
                with_ticks(&chunks, &replaced, &schema)
            });
            Ok::<_, Error>(stream::iter(batches.await?.into_iter().map(Ok)))
        });
        let resolved = resolved.map_err(DataFusionError::from).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), resolved.boxed())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// All facts of a partition.
async fn held(input: &PhysicalFactInput<()>, mut facts: SendableRecordBatchStream, budget: &Budget) -> Result<Vec<FactChunk>> {
    let (mut chunks, mut counter) = (Vec::new(), RecordBatchMemoryCounter::new());
    while let Some(batch) = facts.try_next().await.map_err(|e| Error::reading(&input.logical.subject, e))? {
        let chunk = input.facts_of(&vec![NO_KEY; batch.num_rows()], batch, true)?;
        budget.grow(&input.logical.subject, counter.count_batch(&chunk.batch) + chunk.rows.len() * 40)?;
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// The facts with the ticks, batch by batch.
fn with_ticks(chunks: &[FactChunk], replaced: &[Option<i64>], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let (mut row, mut batches) = (0, Vec::with_capacity(chunks.len()));
    for chunk in chunks {
        let facts = take_record_batch(&chunk.batch, &UInt32Array::from(chunk.rows.clone()))?;
        let ticks: ArrayRef = Arc::new(Int64Array::from(replaced[row..row + chunk.rows.len()].to_vec()));
        row += chunk.rows.len();
        batches.push(RecordBatch::try_new(schema.clone(), facts.columns().iter().cloned().chain([ticks]).collect())?);
    }
    Ok(batches)
}
