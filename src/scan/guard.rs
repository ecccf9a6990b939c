//! An operator that checks every row again and fails on the first that is not visible.
//! It never drops a row: a hidden row that reaches it is a bug in the scan below.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, RecordBatch},
    compute::max,
};
use datafusion::{
    common::{Result as DfResult, config::ConfigOptions, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
        filter_pushdown::{ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::StreamExt;

use super::Visibility;
use crate::{
    catalog::FactTable,
    error::{Error, Result},
    time::stored_integers,
};

/// Shows the cutoff and what was pruned, and fails with [`Error::Leak`] on a row that is not visible.
#[derive(Debug)]
pub(super) struct GuardExec {
    input: Arc<dyn ExecutionPlan>,
    pub(super) rule: Arc<GuardRule>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What the guard checks and shows.
#[derive(Debug)]
pub(super) struct GuardRule {
    pub(super) table: String,
    /// The version of the table; `None` for a provider.
    pub(super) version: Option<u64>,
    /// What the visibility was found from, for other processes.
    #[cfg_attr(not(feature = "cluster"), allow(dead_code))]
    pub(super) declared: FactTable,
    pub(super) visibility: Arc<Visibility>,
    /// Positions of the time columns in the input.
    pub(super) positions: Vec<usize>,
    pub(super) pruned: Pruned,
}

/// How many partitions and files were not opened, each with the total.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pruned {
    pub(super) partitions: (usize, usize),
    pub(super) files: (usize, usize),
}

impl GuardExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, rule: Arc<GuardRule>) -> Self {
        let properties = input.properties().clone();
        Self { input, rule, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl GuardRule {
    fn check(&self, batch: &RecordBatch) -> Result<()> {
        for (limit, &position) in self.visibility.limits.iter().zip(&self.positions) {
            let times = batch.column(position);
            let as_of = self.visibility.horizon.as_of;
            let leak = |detail: String| Error::Leak { table: self.table.clone(), as_of: as_of.to_string(), detail };
            if times.null_count() > 0 {
                return Err(leak(format!("`{}` is NULL", limit.column)));
            }
            if let Some(newest) = max(&stored_integers(times)?)
                && !limit.admits(newest)
            {
                let instant = crate::time::AsOf::from_micros(limit.scale.instant_us(newest));
                return Err(leak(format!("`{}` is {instant} (stored as {newest})", limit.column)));
            }
        }
        Ok(())
    }
}

impl DisplayAs for GuardExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GuardRule { table, version, visibility, pruned, .. } = self.rule.as_ref();
        write!(
            f,
            "AsOfScan: table={table}{}, {}, visible=[{}], partitions_pruned={}/{}, files_pruned={}/{}",
            version.map_or(String::new(), |version| format!("@{version}")),
            visibility.horizon,
            visibility.shown(),
            pruned.partitions.0,
            pruned.partitions.1,
            pruned.files.0,
            pruned.files.1,
        )
    }
}

impl ExecutionPlan for GuardExec {
    fn name(&self) -> &str {
        "AsOfScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
        Ok(Arc::new(Self::new(children.swap_remove(0), self.rule.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let (rule, metrics) = (self.rule.clone(), BaselineMetrics::new(&self.metrics, partition));
        let checked = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            let timer = metrics.elapsed_compute().timer();
            rule.check(&batch)?;
            timer.done();
            metrics.record_output(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), checked)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    /// Filters from above may pass to files, whose reader evaluates them after the time rule. A provider need not keep that order,
    /// and a filter may fail on a hidden row, so no filter passes to a provider.
    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> DfResult<FilterDescription> {
        match self.rule.version {
            Some(_) => FilterDescription::from_children(parent_filters, &self.children()),
            None => Ok(FilterDescription::all_unsupported(&parent_filters, &self.children())),
        }
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(child_pushdown_result))
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::TimestampMicrosecondArray,
        datatypes::{DataType, Field, Schema, TimeUnit as ArrowUnit},
    };

    use super::*;
    use crate::{
        catalog::KnownAt,
        scan::visibility::TimeLimit,
        time::{AsOf, Horizon, TimeScale},
    };

    fn check(times: Vec<Option<i64>>) -> Result<()> {
        let data_type = DataType::Timestamp(ArrowUnit::Microsecond, Some("UTC".into()));
        let schema = Arc::new(Schema::new(vec![Field::new("at", data_type.clone(), true)]));
        let array = TimestampMicrosecondArray::from(times).with_timezone("UTC");
        let batch = RecordBatch::try_new(schema, vec![Arc::new(array)]).unwrap();
        let limit = TimeLimit { column: "at".into(), data_type, scale: TimeScale::UTC_MICROS, first_hidden: Some(100) };
        let horizon = Horizon::before(AsOf::from_micros(100));
        let visibility = Arc::new(Visibility { horizon, limits: vec![limit], delay_us: Some(0) });
        let pruned = Pruned { partitions: (0, 1), files: (0, 1) };
        let declared = FactTable::new("at", KnownAt::DelayMicros(0));
        GuardRule { table: "t".into(), version: Some(1), declared, visibility, positions: vec![0], pruned }.check(&batch)
    }

    #[test]
    fn a_row_at_the_cutoff_or_without_a_time_stops_the_query() {
        assert!(check(vec![Some(99), Some(i64::MIN)]).is_ok());
        assert!(check(vec![]).is_ok());
        assert!(matches!(check(vec![Some(1), Some(100)]), Err(Error::Leak { .. })));
        assert!(matches!(check(vec![Some(1), None]), Err(Error::Leak { .. })));
    }
}
