//! "Facts could vanish in silence": the scheduler gives each task of a step only its share of every scan below it. An operator with one
//! output over a scan of several file groups must say that it reads all of them, or all but the first are lost.

use std::sync::Arc;

use ballista_scheduler::state::task_builder::restrict_plan_to_partitions;
use datafusion::{
    common::tree_node::TreeNodeRecursion,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, stream};

use crate::support::{FILES, ROWS, plan, session, temp, write_table};

/// Hands on the rows of its input, as the operators of asof do with their facts.
#[derive(Debug)]
struct Reader {
    input: Arc<dyn ExecutionPlan>,
    needs: Distribution,
    properties: Arc<PlanProperties>,
}

impl Reader {
    fn over(input: Arc<dyn ExecutionPlan>, needs: Distribution, partitions: usize) -> Arc<dyn ExecutionPlan> {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Arc::new(Self { input, needs, properties: Arc::new(properties) })
    }
}

impl DisplayAs for Reader {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Reader")
    }
}

impl ExecutionPlan for Reader {
    fn name(&self) -> &str {
        "Reader"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![self.needs.clone()]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children[0].clone();
        let one_to_one = self.properties.output_partitioning().partition_count() > 1;
        let partitions = if one_to_one { input.properties().output_partitioning().partition_count() } else { 1 };
        Ok(Self::over(input, self.needs.clone(), partitions))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let inputs = self.input.properties().output_partitioning().partition_count();
        let one_to_one = self.properties.output_partitioning().partition_count() > 1;
        let read = if one_to_one { partition..partition + 1 } else { 0..inputs };
        let rows: Result<Vec<_>> = read.map(|input| self.input.execute(input, context.clone())).collect();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::iter(rows?).flatten())))
    }
}

/// How many rows the tasks of a step read together, if each of them has one partition.
async fn rows_of_all_tasks(plan: &Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> usize {
    let mut rows = 0;
    for partition in 0..plan.properties().output_partitioning().partition_count() {
        let task = restrict_plan_to_partitions(plan.clone(), &[partition]).unwrap();
        // As it arrives after its way: nothing is kept of how it was computed.
        let children = task.children().into_iter().cloned().collect();
        let task = task.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute)).unwrap();
        assert_eq!(task.properties().output_partitioning().partition_count(), 1);
        let mut read = task.execute(0, context.clone()).unwrap();
        while let Some(batch) = read.next().await {
            rows += batch.unwrap().num_rows();
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_one_output_loses_file_groups_unless_it_says_that_it_reads_all() {
    let data = temp();
    write_table(data.path());
    let context = session(data.path().to_str().unwrap(), FILES).await;
    let task = context.task_ctx();
    let scan = plan(&context, "SELECT * FROM t").await;
    assert_eq!(scan.properties().output_partitioning().partition_count(), FILES);
    let all = FILES * ROWS;

    let silent = Reader::over(scan.clone(), Distribution::UnspecifiedDistribution, 1);
    assert_eq!(rows_of_all_tasks(&silent, &task).await, ROWS, "the scheduler no longer loses rows: say so in docs/cluster.md");

    let single = Reader::over(scan.clone(), Distribution::SinglePartition, 1);
    assert_eq!(rows_of_all_tasks(&single, &task).await, all);

    let one_to_one = Reader::over(scan, Distribution::UnspecifiedDistribution, FILES);
    assert_eq!(rows_of_all_tasks(&one_to_one, &task).await, all);
}
