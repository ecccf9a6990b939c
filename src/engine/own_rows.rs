//! The rows that only this process can read, for plans that run elsewhere.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::{
    common::{
        Result as DfResult,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    datasource::{memory::MemorySourceConfig, source::DataSourceExec},
    execution::TaskContext,
    physical_expr::Distribution,
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties, Partitioning, coalesce_partitions::CoalescePartitionsExec, collect_partitioned,
        empty::EmptyExec, placeholder_row::PlaceholderRowExec, repartition::RepartitionExec, replace_children_if_necessary,
        sorts::sort_preserving_merge::SortPreservingMergeExec,
    },
};
use futures::future::BoxFuture;

use super::travels;

/// Reads the rows that only this process can read.
pub(super) struct OwnRows {
    context: Arc<TaskContext>,
    /// Is a node the other side's to do, although this process has the rows below it?
    is_left: fn(&dyn ExecutionPlan) -> bool,
    /// Parts of the plan that have been read, and their rows. A part may occur several times and is read once: it could give other rows
    /// the next time.
    read: Vec<(Arc<dyn ExecutionPlan>, Arc<dyn ExecutionPlan>)>,
    /// Which of them were used again.
    used: Vec<Arc<dyn ExecutionPlan>>,
}

impl OwnRows {
    pub(super) fn new(context: Arc<TaskContext>, is_left: fn(&dyn ExecutionPlan) -> bool) -> Self {
        Self { context, is_left, read: Vec::new(), used: Vec::new() }
    }

    /// The rows of a whole plan, batch by batch.
    pub(super) async fn read_all(&mut self, plan: &Arc<dyn ExecutionPlan>) -> DfResult<Vec<RecordBatch>> {
        let rows = self.read(plan.clone()).await?;
        let rows = rows.downcast_ref::<DataSourceExec>().and_then(|rows| rows.data_source().downcast_ref::<MemorySourceConfig>());
        Ok(rows.map(|rows| rows.partitions().concat()).unwrap_or_default())
    }

    /// Is this plan a part of those into which rows were put?
    pub(super) fn has_used(&self, plan: &Arc<dyn ExecutionPlan>) -> bool {
        self.used.iter().any(|used| Arc::ptr_eq(used, plan))
    }

    /// A plan that this process runs, as its rows.
    async fn read(&mut self, plan: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let Self { read, used, .. } = self;
        let with_known = plan.clone().transform_down(|node| {
            Ok(match read.iter().find(|(read, _)| Arc::ptr_eq(read, &node)) {
                Some((part, rows)) => {
                    used.push(part.clone());
                    Transformed::new(rows.clone(), true, TreeNodeRecursion::Jump)
                }
                None => Transformed::no(node),
            })
        })?;
        let (schema, partitions) = (plan.schema(), collect_partitioned(with_known.data, self.context.clone()).await?);
        let rows: Arc<dyn ExecutionPlan> = MemorySourceConfig::try_new_exec(&partitions, schema, None)?;
        self.read.push((plan, rows.clone()));
        Ok(rows)
    }

    /// The plan in which these rows are there already.
    pub(super) fn put_into(&mut self, plan: Arc<dyn ExecutionPlan>) -> BoxFuture<'_, DfResult<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            if plan.is::<EmptyExec>() || plan.is::<PlaceholderRowExec>() {
                return Ok(plan);
            }
            // What divides rows among processes, or brings them together, is the other side's to do.
            let exchanges =
                plan.is::<RepartitionExec>() || plan.is::<CoalescePartitionsExec>() || plan.is::<SortPreservingMergeExec>();
            if exchanges || travels(&plan) || (self.is_left)(plan.as_ref()) {
                let mut children = Vec::with_capacity(plan.children().len());
                let needed = plan.input_distribution_requirements();
                for (child, needed) in plan.children().into_iter().zip(needed.per_child_distributions()) {
                    let child = match needed {
                        Distribution::SinglePartition | Distribution::UnspecifiedDistribution => {
                            self.put_into(child.clone()).await?
                        }
                        // Which rows meet is decided by how all sides are divided, so this one is divided there, too.
                        _ => self.put_below_division(child.clone()).await?,
                    };
                    children.push(if matches!(needed, Distribution::SinglePartition) { in_one_partition(child)? } else { child });
                }
                return replace_children_if_necessary(plan, children);
            }
            self.read(plan).await
        })
    }

    /// As [`OwnRows::put_into`], for a plan whose partitions are those of a hash: what stands above the node that divides it is the other
    /// side's to do. Rows in several partitions that were not divided here would meet others than in one process.
    fn put_below_division(&mut self, plan: Arc<dyn ExecutionPlan>) -> BoxFuture<'_, DfResult<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let is_divided = matches!(plan.output_partitioning(), Partitioning::Hash(_, count) if *count > 1);
            if !is_divided || plan.is::<RepartitionExec>() || travels(&plan) || plan.children().is_empty() {
                return self.put_into(plan).await;
            }
            let mut children = Vec::with_capacity(plan.children().len());
            for child in plan.children() {
                children.push(self.put_below_division(child.clone()).await?);
            }
            replace_children_if_necessary(plan, children)
        })
    }
}

/// Rows in memory as one partition, in the order of their partitions: who brings partitions together otherwise keeps no order.
fn in_one_partition(plan: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    let source = plan.downcast_ref::<DataSourceExec>();
    match source.and_then(|source| source.data_source().downcast_ref::<MemorySourceConfig>()) {
        Some(rows) if rows.partitions().len() > 1 => {
            Ok(MemorySourceConfig::try_new_exec(&[rows.partitions().concat()], plan.schema(), None)? as _)
        }
        _ => Ok(plan),
    }
}
